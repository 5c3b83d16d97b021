"""Studies: which settings are tried, and how a killed search is resumed.

Nothing is trained here: the score of a setting is a formula.
"""

import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.errors import CannotWrite, DataError, InvalidInput
from tests.corpus import write
from tests.deferred import deferred
from training.configs import load_config

with deferred():
    from optuna.trial import TrialState

    from training.tuning import study as studies
    from training.tuning.space import Setting, load_space
    from training.tuning.study import Pruner, Sampler, Search, Study, open_study, plan_search

CONFIG = load_config("smoke")
OPEN = """
    learning_rate = { low = 1e-4, high = 1e-1, log = true }
    dropout = { low = 0.0, high = 0.6 }
    units = { low = 16, high = 64, step = 16 }
    optimizer = ["adam", "sgd"]
"""
GRID = "batch_size = [10, 20]\nepochs = [1, 2, 3]"


def search(
    folder: Path, text: str, sampler: Sampler, trials: int | None = None, pruner: Pruner = "none"
) -> Search:
    """A search of the space in `text`."""
    space = load_space(str(write(folder / "space.toml", text)), CONFIG)
    return plan_search(space, CONFIG, sampler=sampler, pruner=pruner, trials=trials, seed=7)


def score(setting: Setting) -> float:
    """The score of a setting: 0 for the best one, negative for others."""
    best: Setting = {"learning_rate": 5e-3, "dropout": 0.4, "units": 48, "optimizer": "adam"}
    known = best | setting
    return -float(
        (math.log10(known["learning_rate"]) - math.log10(5e-3)) ** 2
        + 10 * (known["dropout"] - 0.4) ** 2
        + abs(known["units"] - 48) / 32
        + (known["optimizer"] == "sgd")
    )


def try_next(study: Study) -> Setting | None:
    """Finish one trial; None if there are no more."""
    if (following := study.next_trial()) is None:
        return None
    trial, setting = following
    study.finish(trial, score(setting))
    return setting


def try_all(folder: Path, how: Search, made_with: Mapping[str, Any] | None = None) -> list[Setting]:
    """Finish all remaining trials; returns the settings that were trained."""
    with open_study(folder, how, made_with or {}) as study:
        return list(iter(lambda: try_next(study), None))


def states(folder: Path, how: Search) -> list[str]:
    """The state of each trial."""
    with open_study(folder, how, {}) as study:
        return [trial.state.name for trial in study.stored.trials]


def test_a_grid_visits_each_cell_once(tmp_path: Path) -> None:
    """Every cell of a grid is tried exactly once, over several calls."""
    how = search(tmp_path, GRID, "grid")
    assert try_all(tmp_path / "study", how) == list(how.space.cells())
    assert try_all(tmp_path / "study", how) == []


def test_parallel_trials_of_a_grid(tmp_path: Path) -> None:
    """Cells of running trials are not handed out again."""
    how = search(tmp_path, GRID, "grid")
    with open_study(tmp_path / "study", how, {}) as study:
        given = list(iter(study.next_trial, None))
    assert [setting for _, setting in given] == list(how.space.cells())


def test_a_part_of_a_grid(tmp_path: Path) -> None:
    """With fewer trials than cells the first ones are tried; more trials later continue."""
    how = search(tmp_path, GRID, "grid", trials=2)
    cells = list(how.space.cells())
    assert try_all(tmp_path / "study", how) == cells[:2]
    assert try_all(tmp_path / "study", replace(how, trials=6)) == cells[2:]


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_resuming_a_killed_search(tmp_path: Path, sampler: Sampler) -> None:
    """A killed trial counts as failed and is run again; later settings are drawn as without it."""
    how = search(tmp_path, OPEN, sampler, trials=11)
    uninterrupted = try_all(tmp_path / "uninterrupted", how)
    folder = tmp_path / "killed"
    with open_study(folder, how, {}) as study:
        before = [try_next(study) for _ in range(9)]
        assert study.next_trial()
    after = try_all(folder, how)
    assert [*before, *after] == uninterrupted
    assert states(folder, how) == ["COMPLETE"] * 9 + ["FAIL"] + ["COMPLETE"] * 2


def test_resuming_a_killed_grid(tmp_path: Path) -> None:
    """Cells whose trials were killed are tried again, finished ones are not."""
    how = search(tmp_path, GRID, "grid")
    with open_study(tmp_path / "study", how, {}) as study:
        first = try_next(study)
        assert study.next_trial()
        assert study.next_trial()
    assert [first, *try_all(tmp_path / "study", how)] == list(how.space.cells())


def test_repeated_settings(tmp_path: Path) -> None:
    """A setting that comes up again is not trained again, but counts with its first score."""
    how = search(tmp_path, "units = [16, 32]", "random", trials=8)
    trained = try_all(tmp_path / "study", how)
    assert sorted(setting["units"] for setting in trained) == [16, 32]
    with open_study(tmp_path / "study", how, {}) as study:
        scores = {(trial.params["units"], trial.value) for trial in study.done()}
        assert len(study.done()) == 8
    assert len(scores) == 2


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_samplers_learn(tmp_path: Path, sampler: Sampler) -> None:
    """With the same number of trials, TPE and the Gaussian process beat random search."""
    found = {}
    for name in (sampler, "random"):
        how = search(tmp_path, OPEN, name, trials=18)
        found[name] = max(score(setting) for setting in try_all(tmp_path / name, how))
    assert found[sampler] > found["random"]


def test_parallel_trials_differ(tmp_path: Path) -> None:
    """The Gaussian process draws different settings for parallel trials."""
    how = search(tmp_path, OPEN, "gp", trials=12)
    with open_study(tmp_path / "study", how, {}) as study:
        for _ in range(9):
            try_next(study)
        given = [setting for _, setting in iter(study.next_trial, None)]
    assert len(given) == 3
    assert all(a != b for k, a in enumerate(given) for b in given[:k])


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruners_stop_bad_trials(tmp_path: Path, pruner: Pruner) -> None:
    """A trial that is worse than earlier ones is stopped, a better one is not."""
    how = search(tmp_path, OPEN, "random", trials=40, pruner=pruner)
    with open_study(tmp_path / "study", how, {}) as study:
        for _ in range(10):
            trial, _ = study.next_trial() or pytest.fail("there are more")
            for epoch in (1, 2, 3):
                study.report(trial, epoch, 0.8 + epoch / 100)
            study.finish(trial, 0.9)
        for good, stopped in ((False, True), (True, False)):
            trial, _ = study.next_trial() or pytest.fail("there are more")
            scores = [(0.95 if good else 0.5) + epoch / 100 for epoch in range(1, 5)]
            verdicts = [study.report(trial, k, value) for k, value in enumerate(scores, start=1)]
            assert any(verdicts) is stopped
            done = study.finish(trial, None if stopped else 0.99)
            assert (done.state == TrialState.PRUNED) is stopped


def test_a_study_with_former_field_names(tmp_path: Path) -> None:
    """A study that was made with former field names can be resumed."""
    how, made = search(tmp_path, GRID, "grid", trials=1), {"recipe": {"ema_momentum": 0.9}}
    with open_study(tmp_path / "study", how, made) as study:
        study.stored.set_user_attr("made_with", {"recipe": {"average": 0.9, "pairs": 0}})
    assert len(try_all(tmp_path / "study", how, made)) == 1


@pytest.mark.parametrize("name", ["recipe", "data", "space", "sampler", "seed"])
def test_a_study_of_something_else(tmp_path: Path, name: str) -> None:
    """A study made with another recipe, data, space, sampler or seed is refused, unchanged."""
    how = search(tmp_path, GRID, "grid", trials=1)
    made = {key: {"units": 8} for key in ("recipe", "data", "space", "sampler", "seed")}
    try_all(tmp_path / "study", how, made)
    with pytest.raises(InvalidInput, match=f"resumed with the {name} it was made with"):
        try_all(tmp_path / "study", how, made | {name: {"units": 9}})
    assert try_all(tmp_path / "study", replace(how, trials=2), made) == [
        {"batch_size": 10, "epochs": 2}
    ]


@pytest.mark.parametrize("name", ["what?mode=memory", "{x}", "50%41 #1"])
def test_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    """Characters with a meaning in a URL are part of the folder's name."""
    how = search(tmp_path, GRID, "grid", trials=1)
    assert len(try_all(tmp_path / name, how)) == 1
    assert try_all(tmp_path / name, how) == []
    assert {path.name for path in tmp_path.iterdir()} == {name, "space.toml"}


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A study that another process has open is refused."""
    how = search(tmp_path, GRID, "grid")
    with (
        open_study(tmp_path / "study", how, {}),
        pytest.raises(InvalidInput, match="in use by another"),
        open_study(tmp_path / "study", how, {}),
    ):
        pytest.fail("it was opened twice")


def test_a_folder_that_is_no_study(tmp_path: Path) -> None:
    """A folder with other files is refused, unchanged."""
    write(tmp_path / "thesis" / "chapter.txt", "years of work")
    with pytest.raises(InvalidInput, match="which exists"):
        try_all(tmp_path / "thesis", search(tmp_path, GRID, "grid"))
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


def test_a_damaged_study(tmp_path: Path) -> None:
    """A damaged database is an error that names the file."""
    how = search(tmp_path, GRID, "grid", trials=1)
    try_all(tmp_path / "study", how)
    write(tmp_path / "study" / "study.db", "not a database, but long enough for a header" * 4)
    with pytest.raises(DataError, match=r"study\.db: not a study made by valence-train tune"):
        try_all(tmp_path / "study", how)


def test_a_study_with_damaged_pages(tmp_path: Path) -> None:
    """A database that is damaged behind its header is an error that names it and what to do."""
    how = search(tmp_path, GRID, "grid", trials=3)
    try_all(tmp_path / "study", how)
    path = tmp_path / "study" / "study.db"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(DataError, match=r"study\.db(: not a study| is damaged\. Choose another)"):
        try_all(tmp_path / "study", replace(how, trials=6))


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that cannot be written says so, with its path; later it is resumed."""
    how = search(tmp_path, GRID, "grid")
    try_all(tmp_path / "study", replace(how, trials=1))

    def fill(connection: Any, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # SQLite takes the disk for full

    with monkeypatch.context() as patch:
        patch.setattr(studies, "_write_ahead", fill)
        rule = r"study\.db cannot be written: database or disk is full"
        with (
            pytest.raises(CannotWrite, match=rule),
            open_study(tmp_path / "study", how, {}) as study,
        ):
            study.stored.set_user_attr("large", "x" * 10**6)
    assert len(try_all(tmp_path / "study", how)) == 5


@pytest.mark.parametrize(
    ("sampler", "trials", "seed", "sentence"),
    [
        ("random", None, 7, "may be left out for a grid only. Received: None"),
        ("tpe", 0, 7, "trials must be from 1 to 10,000"),
        ("grid", 0, 7, "trials must be from 1 to 10,000"),
        ("gp", 10_001, 7, "trials must be from 1 to 10,000"),
        ("random", 3, -1, "seed must be from 0"),
        ("random", 3, 2**32, "seed must be from 0"),
    ],
)
def test_bounds(sampler: Sampler, trials: int | None, seed: int, sentence: str) -> None:
    """Numbers out of their bounds are rejected before data is read."""
    space = load_space("tutorial-grid", CONFIG)
    with pytest.raises(InvalidInput, match=sentence):
        plan_search(space, CONFIG, sampler=sampler, pruner="none", trials=trials, seed=seed)


def test_studies_can_be_moved(tmp_path: Path) -> None:
    """A study can be resumed in another folder."""
    how = search(tmp_path, GRID, "grid", trials=1)
    try_all(tmp_path / "here", how)
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert try_all(tmp_path / "there", how) == []
