"""Studies: which settings are tried, which are not tried again, and what a killed search leaves.

Nothing is trained here: the figure of a setting is a formula.
"""

import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from app.errors import DataError, InvalidInput
from tests.corpus import write
from training.configs import load_config
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
    """A search of the space that `text` describes."""
    space = load_space(str(write(folder / "space.toml", text)), CONFIG)
    return plan_search(space, CONFIG, sampler=sampler, pruner=pruner, trials=trials, seed=7)


def figure(setting: Setting) -> float:
    """Best, with 0, at one place of the space; batch size and epochs do not matter."""
    best: Setting = {"learning_rate": 5e-3, "dropout": 0.4, "units": 48, "optimizer": "adam"}
    known = best | setting
    return -float(
        (math.log10(known["learning_rate"]) - math.log10(5e-3)) ** 2
        + 10 * (known["dropout"] - 0.4) ** 2
        + abs(known["units"] - 48) / 32
        + (known["optimizer"] == "sgd")
    )


def try_next(study: Study) -> Setting | None:
    """One trial to its end; None when there are no more."""
    if (following := study.next_trial()) is None:
        return None
    trial, setting = following
    study.finish(trial, figure(setting))
    return setting


def try_all(folder: Path, how: Search, made_with: Mapping[str, Any] | None = None) -> list[Setting]:
    """All trials that are left; answers the settings that were trained."""
    with open_study(folder, how, made_with or {}) as study:
        return list(iter(lambda: try_next(study), None))


def states(folder: Path, how: Search) -> list[str]:
    """What became of each trial."""
    with open_study(folder, how, {}) as study:
        return [trial.state.name for trial in study.kept.trials]


def test_a_grid_visits_each_cell_once(tmp_path: Path) -> None:
    """Every cell is tried, none twice, and a second call has nothing left to do."""
    how = search(tmp_path, GRID, "grid")
    assert try_all(tmp_path / "study", how) == list(how.space.cells())
    assert try_all(tmp_path / "study", how) == []


def test_a_grid_with_several_at_once(tmp_path: Path) -> None:
    """Cells that are being tried are not given out again."""
    how = search(tmp_path, GRID, "grid")
    with open_study(tmp_path / "study", how, {}) as study:
        given = list(iter(study.next_trial, None))
    assert [setting for _, setting in given] == list(how.space.cells())


def test_a_part_of_a_grid(tmp_path: Path) -> None:
    """With fewer trials than cells the first ones are tried; the rest when more are asked for."""
    how = search(tmp_path, GRID, "grid", trials=2)
    cells = list(how.space.cells())
    assert try_all(tmp_path / "study", how) == cells[:2]
    assert try_all(tmp_path / "study", replace(how, trials=6)) == cells[2:]


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_a_killed_search_goes_on_as_if_it_had_not_been(tmp_path: Path, sampler: Sampler) -> None:
    """The trial that ran is counted as failed and run again; what follows is drawn as ever."""
    how = search(tmp_path, OPEN, sampler, trials=11)
    unharmed = try_all(tmp_path / "unharmed", how)
    folder = tmp_path / "killed"
    with open_study(folder, how, {}) as study:
        before = [try_next(study) for _ in range(9)]
        assert study.next_trial()
    after = try_all(folder, how)
    assert [*before, *after] == unharmed
    assert states(folder, how) == ["COMPLETE"] * 9 + ["FAIL"] + ["COMPLETE"] * 2


def test_a_killed_grid_visits_each_cell_once(tmp_path: Path) -> None:
    """The cells that ran when a search was killed are tried again, the finished ones are not."""
    how = search(tmp_path, GRID, "grid")
    with open_study(tmp_path / "study", how, {}) as study:
        first = try_next(study)
        assert study.next_trial()
        assert study.next_trial()
    assert [first, *try_all(tmp_path / "study", how)] == list(how.space.cells())


def test_a_setting_that_comes_up_again_is_not_trained_again(tmp_path: Path) -> None:
    """It counts as a trial with the figure of the first time."""
    how = search(tmp_path, "units = [16, 32]", "random", trials=8)
    trained = try_all(tmp_path / "study", how)
    assert sorted(setting["units"] for setting in trained) == [16, 32]
    with open_study(tmp_path / "study", how, {}) as study:
        figures = {(trial.params["units"], trial.value) for trial in study.done()}
        assert len(study.done()) == 8
    assert len(figures) == 2


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_samplers_learn(tmp_path: Path, sampler: Sampler) -> None:
    """After as many trials, what learns from earlier ones has found more than chance."""
    found = {}
    for name in (sampler, "random"):
        how = search(tmp_path, OPEN, name, trials=18)
        found[name] = max(figure(setting) for setting in try_all(tmp_path / name, how))
    assert found[sampler] > found["random"]


def test_several_at_once_look_in_different_places(tmp_path: Path) -> None:
    """The Gaussian process counts with the trials that are running."""
    how = search(tmp_path, OPEN, "gp", trials=12)
    with open_study(tmp_path / "study", how, {}) as study:
        for _ in range(9):
            try_next(study)
        given = [setting for _, setting in iter(study.next_trial, None)]
    assert len(given) == 3
    assert all(a != b for k, a in enumerate(given) for b in given[:k])


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruners_end_what_does_badly(tmp_path: Path, pruner: Pruner) -> None:
    """Beside trials that did well, one that does badly is to be ended, a better one is not."""
    how = search(tmp_path, OPEN, "random", trials=40, pruner=pruner)
    with open_study(tmp_path / "study", how, {}) as study:
        for _ in range(10):
            trial, _ = study.next_trial() or pytest.fail("there are more")
            for epoch in (1, 2, 3):
                study.report(trial, epoch, 0.8 + epoch / 100)
            study.finish(trial, 0.9)
        for good, ended in ((False, True), (True, False)):
            trial, _ = study.next_trial() or pytest.fail("there are more")
            figures = [(0.95 if good else 0.5) + epoch / 100 for epoch in range(1, 5)]
            verdicts = [study.report(trial, k, value) for k, value in enumerate(figures, start=1)]
            assert any(verdicts) is ended
            done = study.finish(trial, None if ended else 0.99)
            assert (done.state == TrialState.PRUNED) is ended


def test_a_study_with_former_field_names(tmp_path: Path) -> None:
    """A study made when a field had another name goes on."""
    how, made = search(tmp_path, GRID, "grid", trials=1), {"recipe": {"ema_momentum": 0.9}}
    with open_study(tmp_path / "study", how, made) as study:
        study.kept.set_user_attr("made_with", {"recipe": {"average": 0.9, "pairs": 0}})
    assert len(try_all(tmp_path / "study", how, made)) == 1


@pytest.mark.parametrize("name", ["recipe", "data", "space", "sampler", "seed"])
def test_a_study_of_something_else(tmp_path: Path, name: str) -> None:
    """A study made with another recipe, data, space, sampler or seed is refused, and stays."""
    how = search(tmp_path, GRID, "grid", trials=1)
    made = {key: {"units": 8} for key in ("recipe", "data", "space", "sampler", "seed")}
    try_all(tmp_path / "study", how, made)
    with pytest.raises(InvalidInput, match=f"goes on with the {name} it was made with"):
        try_all(tmp_path / "study", how, made | {name: {"units": 9}})
    assert try_all(tmp_path / "study", replace(how, trials=2), made) == [
        {"batch_size": 10, "epochs": 2}
    ]


@pytest.mark.parametrize("name", ["what?mode=memory", "{x}", "50%41 #1"])
def test_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    """Characters that mean something in an address are part of a folder's name."""
    how = search(tmp_path, GRID, "grid", trials=1)
    assert len(try_all(tmp_path / name, how)) == 1
    assert try_all(tmp_path / name, how) == []
    assert {path.name for path in tmp_path.iterdir()} == {name, "space.toml"}


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A study that is open is not opened again."""
    how = search(tmp_path, GRID, "grid")
    with (
        open_study(tmp_path / "study", how, {}),
        pytest.raises(InvalidInput, match="another is at work"),
        open_study(tmp_path / "study", how, {}),
    ):
        pytest.fail("it was opened twice")


def test_a_folder_that_is_no_study(tmp_path: Path) -> None:
    """A folder with other things is refused and stays as it is."""
    write(tmp_path / "thesis" / "chapter.txt", "years of work")
    with pytest.raises(InvalidInput, match="which exists"):
        try_all(tmp_path / "thesis", search(tmp_path, GRID, "grid"))
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]


def test_a_damaged_study(tmp_path: Path) -> None:
    """A file that is no study is named in a sentence."""
    how = search(tmp_path, GRID, "grid", trials=1)
    try_all(tmp_path / "study", how)
    write(tmp_path / "study" / "study.db", "not a database, but long enough for a header" * 4)
    with pytest.raises(DataError, match=r"study\.db: not a study that tune made"):
        try_all(tmp_path / "study", how)


@pytest.mark.parametrize(
    ("sampler", "trials", "seed", "sentence"),
    [
        ("random", None, 7, "only a grid goes without. Received: None"),
        ("tpe", 0, 7, "trials must be from 1 to 10,000"),
        ("grid", 0, 7, "trials must be from 1 to 10,000"),
        ("gp", 10_001, 7, "trials must be from 1 to 10,000"),
        ("random", 3, -1, "seed must be from 0"),
        ("random", 3, 2**32, "seed must be from 0"),
    ],
)
def test_bounds(sampler: Sampler, trials: int | None, seed: int, sentence: str) -> None:
    """Numbers out of their bounds are refused before anything is read."""
    space = load_space("tutorial-grid", CONFIG)
    with pytest.raises(InvalidInput, match=sentence):
        plan_search(space, CONFIG, sampler=sampler, pruner="none", trials=trials, seed=seed)


def test_studies_can_be_moved(tmp_path: Path) -> None:
    """A study goes on in another folder."""
    how = search(tmp_path, GRID, "grid", trials=1)
    try_all(tmp_path / "here", how)
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert try_all(tmp_path / "there", how) == []
