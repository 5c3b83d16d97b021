"""Tuning: real trainings of a tiny bag of words, by the words a user would type."""

import csv
import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.corpus import make_corpus, write, write_csv, write_tsv_folder
from tests.trained import call
from training.configs import load_config
from training.data.dataset import Source, load_dataset
from training.fit.run import Run
from training.tuning.trial import Watch, train_once
from training.tuning.worker import Worker

CHANGES = (
    *("min_count=1", "batch_size=16", "ema_momentum=0", "validation_share=0.3"),
    *("input_dropout=0", "dropout=0", "sort_window=1"),
)
TINY = ("--config=bow", *(f"--set={change}" for change in CHANGES))
CONFIG = load_config("bow").with_assignments(CHANGES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few texts, and a test split that cannot be read."""
    folder = write_tsv_folder(tmp_path_factory.mktemp("data"), train=200, test=10)
    write(folder / "test.tsv", "this is no table\n")
    return folder


def trials_of(study: Path) -> list[dict[str, Any]]:
    """What the report says of each trial."""
    content = json.loads((study / "report" / "trials.json").read_text())
    trials: list[dict[str, Any]] = content["trials"]
    return trials


@pytest.fixture(scope="module")
def tuned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study: six rates, of which the last learns nothing."""
    folder = tmp_path_factory.mktemp("tuned")
    text = "learning_rate = [0.03, 0.025, 0.02, 0.015, 0.01, 1e-9]\n"
    space = write(folder / "rates.toml", text)
    done = call(
        *("tune", *TINY, "--set=epochs=3", "--data", data, "--space", space),
        *("--sampler", "grid", "--study", folder / "study"),
    )
    assert done == 0
    return folder / "study"


def test_pruning_saves_epochs(tuned: Path) -> None:
    """A trial that does worse than those before is ended before its last epoch."""
    *good, bad = trials_of(tuned)
    assert {trial["state"] for trial in good} == {"complete"}
    assert [len(trial["figures"]) for trial in good] == [3] * 5
    assert bad["state"] == "ended early"
    assert len(bad["figures"]) < 3


def test_what_a_report_holds(tuned: Path) -> None:
    """Pictures, a page that needs no other file, and every trial as JSON and CSV."""
    report = tuned / "report"
    names = {"history.png", "importance.png", "slices.png", "report.html"}
    assert {path.name for path in report.iterdir()} == names | {"trials.json", "trials.csv"}
    assert (report / "report.html").read_text().count("data:image/png;base64,") == 3
    with (report / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["learning_rate"]) for row in rows] == [0.03, 0.025, 0.02, 0.015, 0.01, 1e-9]
    assert not (tuned / "checkpoints").exists()


def test_test_texts_are_not_read(data: Path, tuned: Path, tmp_path: Path) -> None:
    """A test split that cannot be read stops `train` and `evaluate`, but was no matter here."""
    assert len(trials_of(tuned)) == 6
    assert call("train", *TINY, "--data", data, "--run", tmp_path / "run") == 1


def test_the_best_and_the_command_that_trains_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last lines name the best setting, and a command that trains it to that very figure."""
    (tmp_path / "my data").mkdir()
    codes = {"negative": "-1", "positive": "1"}
    samples = [each._replace(label=codes[each.label]) for each in make_corpus(250, seed=1)]
    data = write_csv(tmp_path / "my data" / "mine.csv", samples)
    space = write(tmp_path / "space.toml", "batch_size = [10, 20]\nlearning_rate = [0.01, 1e-9]")
    study, run = tmp_path / "study", tmp_path / "run"
    names = ["--label=-1=negative", "--label=1=positive"]
    options = [*TINY, "--data", data, "--test-share=0.2", *names, "--set=epochs=2"]
    assert call("tune", *options, "--space", space, "--sampler=grid", "--study", study) == 0
    best, page, command = capsys.readouterr().out.splitlines()
    figure, setting = best.removeprefix("Best: ").split(" using ")
    assert setting in [f"{{'batch_size': {size}, 'learning_rate': 0.01}}" for size in (10, 20)]
    assert page == f"{study}/report/report.html"
    program, *arguments = shlex.split(command.removeprefix("try: "))
    assert program == "valence-train"
    assert call(*arguments, "--run", run) == 0
    history = Run.read(run).history
    kept = min(range(2), key=history["val_loss"].__getitem__)
    assert f"{history['val_accuracy'][kept]:.4f}" == figure


def test_a_trial_does_not_depend_on_those_before(data: Path, tmp_path: Path) -> None:
    """The same setting gives the same figures, whatever was trained in the process before."""
    dataset = load_dataset(Source(str(data)), validation_share=0.3, seed=7, read_test=False)
    seen: list[list[float]] = []
    for units in (8, 16, 8):
        config = CONFIG.replace(epochs=2, learning_rate=0.01, hidden=(units,))
        figures: list[float] = []

        def report(epoch: int, figure: float, figures: list[float] = figures) -> bool:
            figures.append(figure)
            return False

        assert train_once(dataset, tmp_path / "model.keras", config, report) == figures[-1]
        seen.append(figures)
    assert seen[0] == seen[2]


@pytest.mark.parametrize(
    ("keep", "figures"), [("best", [0.6, 0.8, 0.8]), ("last", [0.6, 0.8, 0.7])]
)
def test_a_figure_is_of_the_epoch_that_is_kept(keep: str, figures: list[float]) -> None:
    """That is the one with the lowest validation loss, or the last one, as the recipe says."""
    seen: list[float] = []

    def report(epoch: int, figure: float) -> bool:
        seen.append(figure)
        return False

    watch = Watch(report, keep=keep)
    watch.set_model(SimpleNamespace(stop_training=False))
    watch.set_params({"epochs": 3})
    for epoch, (loss, accuracy) in enumerate([(0.6, 0.6), (0.4, 0.8), (0.5, 0.7)]):
        watch.on_epoch_end(epoch, {"val_loss": loss, "val_accuracy": accuracy})
    assert (seen, watch.figure) == (figures, figures[-1])


def test_a_figure_counts_with_the_teacher(data: Path, tmp_path: Path) -> None:
    """A model that carries the n-grams of its teacher is judged with them, as it is served."""
    dataset = load_dataset(Source(str(data)), validation_share=0.3, seed=7, read_test=False)
    changes = [
        "teacher=linear",
        "ngram_logits=1",
        "ngram_logits_buckets=4096",
        "learning_rate=1e-9",
    ]
    config = load_config("smoke").with_assignments([*changes, "epochs=1", "keep=last"])
    alone: list[float] = []

    def report(epoch: int, figure: float) -> bool:
        alone.append(figure)
        return False

    figure = train_once(dataset, tmp_path / "model.keras", config, report)
    assert figure is not None
    assert figure > alone[-1] + 0.2


@pytest.mark.parametrize("learner", ["--set=teacher=linear", "teacher", "pretraining"])
def test_unlabelled_texts_are_read_where_they_are_learned_from(
    tmp_path: Path, learner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe, or a space, with a teacher or with word vectors learned from them reads them."""
    data = write_tsv_folder(tmp_path / "data", train=60, test=10)
    write(data / "unlabeled.tsv", "this is no table\n")
    choices = {"teacher": 'teacher = ["linear"]', "pretraining": "pretrain_embeddings = [true]"}
    space = write(tmp_path / "space.toml", choices.get(learner, "units = [4]"))
    options = [learner] if learner.startswith("--") else []
    search = ["--data", data, "--space", space, "--sampler=grid", "--study", tmp_path / "study"]
    assert call("tune", "--config=smoke", *options, *search) == 1
    assert "unlabeled.tsv row 1" in capsys.readouterr().err


def test_a_trial_can_be_ended(data: Path, tmp_path: Path) -> None:
    """A training ends after the epoch at which it is told to, and has no figure of its own."""
    dataset = load_dataset(Source(str(data)), validation_share=0.3, seed=7, read_test=False)
    epochs: list[int] = []

    def report(epoch: int, figure: float) -> bool:
        epochs.append(epoch)
        return epoch == 2

    config = CONFIG.replace(epochs=9, stop_patience=9)
    assert train_once(dataset, tmp_path / "model.keras", config, report) is None
    assert epochs == [1, 2]
    assert train_once(dataset, tmp_path / "model.keras", config.replace(epochs=2), report)


def test_a_setting_that_diverges(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loss that is no number ends its trial, not the search; where all do, that is a failure."""
    space = write(tmp_path / "space.toml", "learning_rate = [1e38, 0.01]")
    options = [*TINY, "--set=epochs=2", "--data", data, "--space", space, "--sampler", "grid"]
    study = tmp_path / "study"
    assert call("tune", *options, "--study", study, "--trials", 1) == 1
    assert "at least one trial must come to its end. Received: 1" in capsys.readouterr().err
    assert call("tune", *options, "--study", study) == 0
    assert "Best: 0." in capsys.readouterr().out
    assert [trial["state"] for trial in trials_of(study)] == ["ended early", "complete"]


def test_a_finished_study(data: Path, tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command again trains nothing and says the same; another recipe is refused."""
    space = tuned.parent / "rates.toml"
    options = ["--data", data, "--space", space, "--sampler=grid", "--study", tuned]
    assert call("tune", *TINY, "--set=epochs=3", *options) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith("Best: ")
    assert call("tune", *TINY, "--set=epochs=4", *options) == 2
    assert "goes on with the recipe it was made with" in capsys.readouterr().err
    assert len(trials_of(tuned)) == 6


def test_a_process_that_dies(data: Path, tmp_path: Path) -> None:
    """What trains in a process that was killed, as for want of memory, gets a sentence."""
    dataset = load_dataset(Source(str(data)), validation_share=0.3, seed=7, read_test=False)
    worker = Worker(dataset, tmp_path / "model.keras", jobs=2)
    worker.kill()
    with pytest.raises(ChildProcessError, match="ended with -9, perhaps for want of memory"):
        worker(CONFIG, lambda _epoch, _figure: False)


@pytest.mark.parametrize("jobs", [0, 65])
def test_bounds_of_jobs(
    data: Path, tmp_path: Path, jobs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The number of processes has bounds, and nothing is made outside them."""
    options = ["--data", data, "--space=tutorial-grid", "--sampler=grid", "--jobs", jobs]
    assert call("tune", *TINY, *options, "--study", tmp_path / "study") == 2
    assert f"jobs must be from 1 to 64. Received: {jobs}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
