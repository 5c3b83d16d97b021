"""Checkpoints: a training that was stopped, by whatever, ends as if it had not been."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.errors import InvalidInput
from tests.corpus import make_corpus, write_csv, write_tsv_folder
from tests.trained import call
from training.configs import load_config
from training.data.dataset import Source
from training.fit.checkpoints import Place, WorkingFolder, working_folder
from training.fit.run import Run
from training.train import train_run

ROOT = Path(__file__).parents[2]

# With a state each: dropout, dropped words, averaged weights, what waits for a better epoch.
RECIPE = {
    "epochs": "4",
    "word_dropout": "0.2",
    "ema_momentum": "0.9",
    "stop_patience": "4",
    "reduce_patience": "1",
    "learning_rate": "0.05",
}

KILLED_AT_STEP = """
import os, signal, sys
from training.cli import main
from training.support.tensorflow_import import import_tensorflow
import_tensorflow()
from training.fit.progress import EpochProgress

left = int(sys.argv[1])

def count_down(*_, **__):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

EpochProgress.on_train_batch_end = count_down
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four batches an epoch."""
    return write_tsv_folder(tmp_path_factory.mktemp("data"), train=120, test=20)


def arguments(data: Path, run: Path, *more: str) -> list[str]:
    """`train` as a user would type it."""
    settings = [f"--set={field}={value}" for field, value in RECIPE.items()]
    return ["train", "--config=smoke", *settings, f"--data={data}", f"--run={run}", *more]


def outcome(run: Path) -> tuple[dict[str, list[float]], list[np.ndarray]]:
    """Figures, but for what a clock has measured, and weights."""
    history = Run.read(run).history
    history.pop("tokens_per_second")
    model = keras.models.load_model(run / "model.keras", compile=False)
    return history, [np.asarray(w) for w in model.get_weights()]


def test_a_killed_training_ends_as_if_it_had_not_been(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """After SIGKILL in the middle of an epoch, the same command gives the same weights."""
    typed = arguments(data, tmp_path / "killed", "--checkpoint-every=0")
    step = 4 * 2 + 3  # the third of the third epoch
    command = [sys.executable, "-c", KILLED_AT_STEP, str(step), *typed]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".killed.training"]

    assert call(*typed) == 0
    assert "goes on from epoch 3, step 3\n" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["killed"]

    assert call(*arguments(data, tmp_path / "whole")) == 0
    history, weights = outcome(tmp_path / "killed")
    expected_history, expected_weights = outcome(tmp_path / "whole")
    assert history == expected_history
    assert len(history["val_loss"]) == 4
    assert all(map(np.array_equal, weights, expected_weights))


def compiled(seed: int) -> keras.Model:
    """A model with an optimizer that remembers, and dropout that draws."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.1, use_ema=True), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def with_callbacks(model: keras.Model) -> keras.callbacks.CallbackList:
    """Those that decide something, at the beginning of a training."""
    callbacks = keras.callbacks.CallbackList(
        [
            keras.callbacks.EarlyStopping("val_loss", patience=3),
            keras.callbacks.ReduceLROnPlateau("val_loss", patience=3),
            keras.callbacks.History(),
        ],
        model=model,
    )
    callbacks.on_train_begin()
    return callbacks


def test_a_checkpoint_holds_all_that_the_next_step_depends_on(tmp_path: Path) -> None:
    """Weights, the optimizer's memory, random states, what callbacks remember, and the place."""
    model, work = compiled(1), WorkingFolder(tmp_path)
    callbacks = with_callbacks(model)
    model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    for epoch, loss in enumerate((0.5, 0.25, 0.75)):
        callbacks.on_epoch_end(epoch, {"val_loss": loss})
    at = Place(epoch=3)
    at.add({"loss": 2.0}, rows=4, tokens=12, seconds=2.0)
    work.save(model, callbacks, at)

    other = compiled(2)
    others = with_callbacks(other)
    there = WorkingFolder(tmp_path).restore(other, others)
    assert there == at
    assert there.figures() == {"loss": 2.0, "tokens_per_second": 6.0}
    kept, restored = ([*m.variables, *m.optimizer.variables] for m in (model, other))
    assert all(map(np.array_equal, kept, restored))
    stopping, plateau, history = others.callbacks
    assert (stopping.best, stopping.wait, plateau.best, plateau.wait) == (0.25, 1, 0.25, 1)
    assert history.history["val_loss"] == [0.5, 0.25, 0.75]


def test_callbacks_may_come_and_go(tmp_path: Path) -> None:
    """A training may go on with logs for TensorBoard that it began without, or elsewhere."""
    model, work = compiled(1), WorkingFolder(tmp_path)
    callbacks = with_callbacks(model)
    callbacks.on_epoch_end(0, {"val_loss": 0.5})
    callbacks.callbacks.append(keras.callbacks.TensorBoard(str(tmp_path / "there")))
    work.save(model, callbacks, Place(epoch=1))
    later = keras.callbacks.CallbackList(
        [
            keras.callbacks.TensorBoard(str(tmp_path / "here")),
            keras.callbacks.TerminateOnNaN(),
            keras.callbacks.History(),
        ],
        model=model,
    )
    later.on_train_begin()
    WorkingFolder(tmp_path).restore(model, later)
    board, _, history = later.callbacks
    assert board.log_dir == str(tmp_path / "here")
    assert history.history["val_loss"] == [0.5]


def test_seconds_are_those_of_all_parts(tmp_path: Path) -> None:
    """A training that goes on counts the time it had taken before."""
    model = compiled(1)
    WorkingFolder(tmp_path).save(model, with_callbacks(model), Place(earlier=0.0))
    first = json.loads(str(np.load(tmp_path / "checkpoint.npz")["state"]))["place"]["earlier"]
    work = WorkingFolder(tmp_path)
    work.restore(model, with_callbacks(model))
    assert work.seconds() >= first > 0


@pytest.mark.parametrize(("every", "saved"), [(0.0, True), (1e9, False), (math.inf, False)])
def test_checkpoints_keep_their_distance(tmp_path: Path, every: float, saved: bool) -> None:
    """A checkpoint is written only when the last one is old enough."""
    work, model = WorkingFolder(tmp_path, every=every), compiled(1)
    work.save_when_due(model, with_callbacks(model), Place())
    assert work.has_checkpoint() == saved


@pytest.mark.parametrize("every", [-1.0, float("nan")])
def test_a_distance_that_is_none(tmp_path: Path, every: float) -> None:
    """Seconds are not negative."""
    with pytest.raises(InvalidInput, match=r"must be 0 or more\. Received:"):
        WorkingFolder(tmp_path, every=every)


def test_one_training_at_a_time(tmp_path: Path) -> None:
    """A second training of the same run is refused, and disturbs nothing."""
    with working_folder(tmp_path / "run") as work:
        work.claim({"config": {"units": 1}})
        with (
            pytest.raises(InvalidInput, match="one training at a time"),
            working_folder(tmp_path / "run", fresh=True),
        ):
            pytest.fail("two trainings are in one folder")
        assert (work.folder / "training.json").exists()


def begin(run: Path, purpose: dict[str, Any]) -> None:
    """Begin a training, and be interrupted."""
    with working_folder(run) as work:
        work.claim(purpose)
        model = compiled(1)
        work.save(model, with_callbacks(model), Place(epoch=2, step=7))
        raise KeyboardInterrupt


def test_an_interruption_says_how_to_go_on(tmp_path: Path) -> None:
    """Interrupted, a training tells from where the same command goes on."""
    with pytest.raises(KeyboardInterrupt, match="same command again to go on from epoch 3, step 8"):
        begin(tmp_path / "run", {"config": {"units": 1}})


def test_what_has_not_begun_leaves_nothing(tmp_path: Path) -> None:
    """A training that is stopped while it reads its data leaves no folder behind."""
    run = tmp_path / "runs" / "run"
    with (
        pytest.raises(KeyboardInterrupt, match=r"^give the same command again$"),
        working_folder(run),
    ):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_another_training_is_not_gone_on_with(tmp_path: Path) -> None:
    """What differs is named, with its values; nothing is lost, unless that is asked for."""
    run = tmp_path / "run"
    before = {"config": {"units": 1, "seed": 7}, "data": {"fingerprint": "a" * 64}}
    after = {"config": {"units": 2, "seed": 7}, "data": {"fingerprint": "b" * 64}}
    with pytest.raises(KeyboardInterrupt):
        begin(run, before)
    with pytest.raises(InvalidInput) as caught:
        begin(run, after)
    assert "another config units 2 instead of 1, data fingerprint;" in str(caught.value)
    assert "--fresh discards it" in str(caught.value)
    with working_folder(run) as work:
        assert work.has_checkpoint()
        work.claim(before)


def test_what_is_discarded_is_gone(tmp_path: Path) -> None:
    """Asked to, a training of another thing begins from nothing."""
    with pytest.raises(KeyboardInterrupt):
        begin(tmp_path / "run", {"config": {"units": 1}})
    with working_folder(tmp_path / "run", fresh=True) as work:
        assert not work.has_checkpoint()
        work.claim({"config": {"units": 2}})


def test_what_was_half_made_is_made_anew(tmp_path: Path) -> None:
    """A thing is there whole or not at all, and is made once."""
    work = WorkingFolder(tmp_path)

    def fail(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work.once("thing", fail)
    assert not (tmp_path / "thing").exists()
    assert work.once("thing", lambda path: path.write_text("whole")).read_text() == "whole"
    assert work.once("thing", fail).read_text() == "whole"


def test_other_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that was stopped does not go on with other texts, unless told to begin anew."""

    def be_interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    config, run = load_config("smoke").replace(epochs=1), tmp_path / "run"
    source, other = (
        Source(str(write_csv(tmp_path / f"{seed}.csv", make_corpus(40, seed=seed))))
        for seed in (1, 2)
    )
    with monkeypatch.context() as patch:
        patch.setattr("training.train.train", be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, source, run)
    with pytest.raises(InvalidInput, match="Received: another data fingerprint, data splits; "):
        train_run(config, other, run)
    train_run(config, other, run, fresh=True)
    assert Run.read(run).source == other
    assert not (tmp_path / ".run.training").exists()
