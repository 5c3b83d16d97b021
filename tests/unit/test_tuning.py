"""Tuning: real trainings of a tiny bag-of-words model, through the command line."""

import csv
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.text.encoder import TextEncoder
from tests.answered import write_answers
from tests.corpus import make_corpus, write, write_csv, write_tsv_folder
from tests.deferred import deferred
from tests.trained import call
from training.configs import load_config
from training.distillation.answers import CALIBRATION, IDENTITY

with deferred():
    import keras

    from training.data.dataset import Source, load_dataset
    from training.fit.run import Run
    from training.models.predict import predict
    from training.tuning.search import tune
    from training.tuning.space import load_space
    from training.tuning.study import plan_search
    from training.tuning.trial import TrialCallback, train_once
    from training.tuning.worker import Worker

CHANGES = (
    *("min_count=1", "batch_size=16", "ema_momentum=0", "validation_share=0.3"),
    *("input_dropout=0", "dropout=0", "sort_window=1", "teacher=none"),
)
TINY = ("--config=bow", *(f"--set={change}" for change in CHANGES))
CONFIG = load_config("bow").with_assignments(CHANGES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few texts, and a malformed test split."""
    folder = write_tsv_folder(tmp_path_factory.mktemp("data"), train=200, test=10)
    write(folder / "test.tsv", "this is no table\n")
    return folder


def trials_of(study: Path) -> list[dict[str, Any]]:
    """The trials in the report."""
    content = json.loads((study / "report" / "trials.json").read_text())
    trials: list[dict[str, Any]] = content["trials"]
    return trials


@pytest.fixture(scope="module")
def tuned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of six learning rates; the last one learns nothing."""
    folder = tmp_path_factory.mktemp("tuned")
    text = "learning_rate = [0.03, 0.025, 0.02, 0.015, 0.01, 1e-9]\n"
    space = write(folder / "rates.toml", text)
    done = call(
        *("tune", *TINY, "--set=epochs=3", "--data", data, "--space", space),
        *("--sampler", "grid", "--study", folder / "study"),
    )
    assert done == 0
    return folder / "study"


@pytest.mark.slow
def test_pruning_saves_epochs(tuned: Path) -> None:
    """A trial that is worse than earlier ones is stopped before its last epoch."""
    *good, bad = trials_of(tuned)
    assert {trial["state"] for trial in good} == {"complete"}
    assert [len(trial["figures"]) for trial in good] == [3] * 5
    assert bad["state"] == "ended early"
    assert len(bad["figures"]) < 3


@pytest.mark.slow
def test_files_of_a_report(tuned: Path) -> None:
    """A report has pictures, a self-contained page, and every trial as JSON and CSV."""
    report = tuned / "report"
    names = {"history.png", "importance.png", "slices.png", "report.html"}
    assert {path.name for path in report.iterdir()} == names | {"trials.json", "trials.csv"}
    assert (report / "report.html").read_text().count("data:image/png;base64,") == 3
    with (report / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["learning_rate"]) for row in rows] == [0.03, 0.025, 0.02, 0.015, 0.01, 1e-9]
    assert not (tuned / "checkpoints").exists()


@pytest.mark.slow
def test_test_texts_are_not_read(data: Path, tuned: Path, tmp_path: Path) -> None:
    """A malformed test split fails `train`, but not `tune`."""
    assert len(trials_of(tuned)) == 6
    assert call("train", *TINY, "--data", data, "--run", tmp_path / "run") == 1


@pytest.mark.slow
def test_the_command_for_the_best_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last lines are the best setting, and a command that trains it to the same accuracy."""
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


@pytest.mark.slow
def test_trials_are_independent(data: Path, tmp_path: Path) -> None:
    """A setting gets the same accuracies, whatever was trained in the process before."""
    dataset = load_dataset(Source(str(data)), validation_share=0.3, seed=7, read_test=False)
    seen: list[list[float]] = []
    for units in (8, 16, 8):
        config = CONFIG.replace(epochs=2, learning_rate=0.01, hidden=(units,))
        reported: list[float] = []

        def report(epoch: int, accuracy: float, reported: list[float] = reported) -> bool:
            reported.append(accuracy)
            return False

        assert train_once(dataset, tmp_path / "model.keras", config, report) == reported[-1]
        seen.append(reported)
    assert seen[0] == seen[2]


@pytest.mark.parametrize(
    ("keep", "expected"), [("best", [0.6, 0.8, 0.8]), ("last", [0.6, 0.8, 0.7])]
)
def test_the_score_is_that_of_the_kept_epoch(keep: str, expected: list[float]) -> None:
    """The epoch with the lowest validation loss is reported, or the last, as the recipe says."""
    reported: list[float] = []

    def report(epoch: int, accuracy: float) -> bool:
        reported.append(accuracy)
        return False

    watch = TrialCallback(report, keep=keep)
    watch.set_model(SimpleNamespace(stop_training=False))
    watch.set_params({"epochs": 3})
    for epoch, (loss, accuracy) in enumerate([(0.6, 0.6), (0.4, 0.8), (0.5, 0.7)]):
        watch.on_epoch_end(epoch, {"val_loss": loss, "val_accuracy": accuracy})
    assert (reported, watch.accuracy) == (expected, expected[-1])


@pytest.mark.slow
def test_the_score_includes_the_n_grams_of_the_teacher(data: Path, tmp_path: Path) -> None:
    """A model that takes over its teacher's n-gram table is scored with it, as it is served."""
    dataset = load_dataset(Source(str(data)), validation_share=0.3, seed=7, read_test=False)
    changes = [
        "teacher=linear",
        "ngram_logits=1",
        "ngram_logits_buckets=4096",
        "learning_rate=1e-9",
    ]
    config = load_config("smoke").with_assignments([*changes, "epochs=1", "keep=last"])
    without: list[float] = []

    def report(epoch: int, accuracy: float) -> bool:
        without.append(accuracy)
        return False

    accuracy = train_once(dataset, tmp_path / "model.keras", config, report)
    assert accuracy is not None
    assert accuracy > without[-1] + 0.2


STUDENT = ("architecture=bow", "piece_count=1", "epochs=2", "validation_share=0.3")
LABELS = ("negative", "positive")
NEUTRAL = {
    "two labels": [],
    "three": ["neutral=true"],
    "halved": ["neutral=true", "halve_neutral=true"],
}


@pytest.mark.parametrize("classes", NEUTRAL)
def test_answers_of_a_pretrained_teacher(
    classes: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A search learns from them as `train` does, and scores the model that is left at the end."""
    data = write_tsv_folder(tmp_path / "data", train=120, test=20)
    with (data / "train.tsv").open("a") as train:  # learned by neither: test has it, too
        train.write((data / "test.tsv").read_text().splitlines()[-1] + "\n")
    dataset = load_dataset(Source(str(data)), validation_share=0.3, seed=7)
    answers = write_answers(tmp_path / "answers", dataset)
    space = write(tmp_path / "space.toml", "learning_rate = [0.05]")
    options = ["--config=smoke", "--data", data, "--answers", answers, "--set=piece_weight=1"]
    options += [f"--set={change}" for change in (*STUDENT, *NEUTRAL[classes])]
    study, run = tmp_path / "study", tmp_path / "run"
    search = ["tune", *options, "--space", space, "--sampler=grid", "--study", study]
    assert call(*search) == 0
    best, _, command = capsys.readouterr().out.splitlines()
    assert call(*shlex.split(command)[2:], "--run", run) == 0
    model = keras.models.load_model(run / "model.keras")
    encoder = TextEncoder.load(run / "tokenizer.json")
    rows = [encoder.encode(text).ids for text in dataset.validation.texts()]
    labels = Run.read(run).labels
    assert labels == (("negative", "neutral", "positive") if classes == "three" else LABELS)
    found = [labels[best] for best in predict(model, rows).argmax(axis=1)]
    right = np.array(found) == [LABELS[target] for target in dataset.validation.targets()]
    assert f"{right.mean():.4f}" == best.removeprefix("Best: ").split(" using ")[0]
    (answers / "calibration.json").write_text(json.dumps({"temperature": 2.0}))
    capsys.readouterr()
    assert call(*search) == 2
    assert "resumed with the answers it was made with" in capsys.readouterr().err


def prepare_search(
    folder: Path, space: str, *teachers: str, changes: Sequence[str] = ()
) -> list[str]:
    """Write data, the answers of teachers to it, and a space; return the command of the search.

    The test split has the last training text, too, which is learned by no trial.
    """
    data = write_tsv_folder(folder / "data", train=120, test=20)
    with (data / "train.tsv").open("a") as train:
        train.write((data / "test.tsv").read_text().splitlines()[-1] + "\n")
    dataset = load_dataset(Source(str(data)), validation_share=0.3, seed=7)
    for name in teachers:
        write_answers(folder / name, dataset)
    write(folder / "space.toml", space)
    options = [f"--set={change}" for change in ("piece_weight=1", *STUDENT, *changes)]
    search = ["--space=space.toml", "--sampler=grid", "--study=study", "--data=data"]
    return ["tune", "--config=smoke", *options, *search]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("halve_neutral = [true, false]\nlearning_rate = [0.05]", "only a pretrained teacher"),
        ('answers = ["ours", "gone"]\nneutral = [true]', "Received: gone, which is no folder"),
        ('answers = ["ours", "others"]', "Received: others, about others"),
        ("neutral = [false, true]", "only a pretrained teacher"),
    ],
)
def test_answers_are_checked_before_the_first_trial(
    space: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No trial is computed if a later one would lack the answers that it needs."""
    monkeypatch.chdir(tmp_path)
    changes = ["neutral=true"] if "halve" in space else []
    search = prepare_search(tmp_path, space, "ours", "others", changes=changes)
    (tmp_path / "others" / IDENTITY).write_text(json.dumps({"data": ["other", "texts", ""]}))
    assert call(*search) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "study").exists()


def test_an_interruption_says_how_to_continue(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study keeps the trials that are done, and the same command continues it."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    config = CONFIG.with_assignments(["epochs=1"])
    space = write(tmp_path / "space.toml", "units = [4]")
    search = plan_search(
        load_space(str(space), config), config, sampler="grid", pruner="none", trials=None, seed=7
    )
    study = tmp_path / "study"
    with monkeypatch.context() as patched:
        patched.setattr("training.tuning.search.train_once", stop)
        with pytest.raises(KeyboardInterrupt, match="same command again to continue the study"):
            tune(config, Source(str(data)), search, study)
    assert tune(config, Source(str(data)), search, study).setting == {"units": 4}


def test_a_search_over_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A space may name the answers of several teachers; test texts are left out for each."""
    monkeypatch.chdir(tmp_path)
    search = prepare_search(tmp_path, 'answers = ["first", "second"]', "first", "second")
    assert call(*search) == 0
    with (tmp_path / "study/report/trials.csv").open() as file:
        assert [row["answers"] for row in csv.DictReader(file)] == ["first", "second"]
    (tmp_path / "second" / CALIBRATION).write_text('{"temperature": 2.0}')
    capsys.readouterr()
    assert call(*search) == 2
    assert "resumed with the answers it was made with" in capsys.readouterr().err


def test_answers_of_the_best_trial_are_those_of_the_printed_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train` gets the answers that the best trial had, not those of `--answers`."""
    monkeypatch.chdir(tmp_path)
    search = prepare_search(tmp_path, 'answers = ["tried"]', "tried", "given")
    assert call(*search, "--answers=given") == 0
    command = capsys.readouterr().out.splitlines()[-1]
    assert call(*shlex.split(command)[2:], "--run=run") == 0
    assert Run.read(tmp_path / "run").config["teacher"]["answers"] == "tried"


@pytest.mark.parametrize("learner", ["--set=teacher=linear", "teacher", "pretraining"])
def test_unlabelled_texts_are_read_if_needed(
    tmp_path: Path, learner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unlabelled texts are read if the recipe or the space has a teacher or pretraining."""
    data = write_tsv_folder(tmp_path / "data", train=60, test=10)
    write(data / "unlabeled.tsv", "this is no table\n")
    choices = {"teacher": 'teacher = ["linear"]', "pretraining": "pretrain_embeddings = [true]"}
    space = write(tmp_path / "space.toml", choices.get(learner, "units = [4]"))
    options = [learner] if learner.startswith("--") else []
    search = ["--data", data, "--space", space, "--sampler=grid", "--study", tmp_path / "study"]
    assert call("tune", "--config=smoke", *options, *search) == 1
    assert "unlabeled.tsv row 1" in capsys.readouterr().err


def test_a_trial_can_be_stopped(data: Path, tmp_path: Path) -> None:
    """A trial stops after the epoch at which it is told to, and then has no score."""
    dataset = load_dataset(Source(str(data)), validation_share=0.3, seed=7, read_test=False)
    epochs: list[int] = []

    def report(epoch: int, accuracy: float) -> bool:
        epochs.append(epoch)
        return epoch == 2

    config = CONFIG.replace(epochs=9, stop_patience=9)
    assert train_once(dataset, tmp_path / "model.keras", config, report) is None
    assert epochs == [1, 2]


@pytest.mark.slow
def test_a_setting_that_diverges(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loss that is not finite stops its trial, not the search, unless all trials fail."""
    space = write(tmp_path / "space.toml", "learning_rate = [1e38, 0.01]")
    options = [*TINY, "--set=epochs=2", "--data", data, "--space", space, "--sampler", "grid"]
    study = tmp_path / "study"
    assert call("tune", *options, "--study", study, "--trials", 1) == 1
    assert "at least one trial must be completed. Received: 1" in capsys.readouterr().err
    assert call("tune", *options, "--study", study) == 0
    assert "Best: 0." in capsys.readouterr().out
    assert [trial["state"] for trial in trials_of(study)] == ["ended early", "complete"]


@pytest.mark.slow
def test_a_finished_study(data: Path, tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same command only counts rows and prints the result; another recipe is refused."""
    space = tuned.parent / "rates.toml"
    options = ["--data", data, "--space", space, "--sampler=grid", "--study", tuned]
    assert call("tune", *TINY, "--set=epochs=3", *options) == 0
    said = capsys.readouterr()
    assert [line.split()[0] for line in said.err.splitlines()] == ["rows", "train", "validation"]
    assert said.out.startswith("Best: ")
    assert call("tune", *TINY, "--set=epochs=4", *options) == 2
    assert "resumed with the recipe it was made with" in capsys.readouterr().err
    assert len(trials_of(tuned)) == 6


def test_a_killed_worker(data: Path, tmp_path: Path) -> None:
    """A worker process that was killed, as when out of memory, is an error with advice."""
    dataset = load_dataset(Source(str(data)), validation_share=0.3, seed=7, read_test=False)
    worker = Worker(dataset, tmp_path / "model.keras", jobs=2)
    worker.kill()
    with pytest.raises(ChildProcessError, match="ended with exit code -9, possibly out of memory"):
        worker(CONFIG, lambda _epoch, _accuracy: False)


@pytest.mark.parametrize("jobs", [0, 65])
def test_bounds_of_jobs(
    data: Path, tmp_path: Path, jobs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number of jobs out of its bounds is rejected before anything is written."""
    options = ["--data", data, "--space=tutorial-grid", "--sampler=grid", "--jobs", jobs]
    assert call("tune", *TINY, *options, "--study", tmp_path / "study") == 2
    assert f"jobs must be from 1 to 64. Received: {jobs}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
