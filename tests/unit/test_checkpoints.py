"""Checkpoints: a training that was stopped, however, ends as if it had not been."""

import json
import math
import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from app.errors import CannotResume, InvalidInput
from tests.corpus import write_tsv_folder
from tests.deferred import deferred
from tests.trained import call
from training.config import Config, OptimizerKind
from training.configs import load_config
from training.data.shards import InMemoryShard

with deferred():
    import keras

    from tests.callbacks import Stop
    from training.data.batches import ScoringBatches, TrainingBatches
    from training.fit.checkpoints import FRESH, CheckpointManager, Position
    from training.fit.loop import fit_model, recipe_callbacks
    from training.fit.model_saver import ModelSaver
    from training.fit.optimizers import build_optimizer
    from training.fit.run import Run

ROOT = Path(__file__).parents[2]

# Each of these has state: dropout, dropped words, averaged weights, waiting for a better epoch.
RECIPE = {
    "architecture": "embedding",  # traced in half the time of an LSTM
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
    """A data set of four batches per epoch."""
    return write_tsv_folder(tmp_path_factory.mktemp("data"), train=120, test=20)


def arguments(data: Path, run: Path, *more: str) -> list[str]:
    """`train` as a user would type it."""
    settings = [f"--set={field}={value}" for field, value in RECIPE.items()]
    return ["train", "--config=smoke", *settings, f"--data={data}", f"--run={run}", *more]


def outcome(run: Path) -> tuple[dict[str, list[float]], list[np.ndarray]]:
    """The history without the throughput, and the weights."""
    history = Run.read(run).history
    history.pop("tokens_per_second")
    model = keras.models.load_model(run / "model.keras", compile=False)
    return history, [np.asarray(w) for w in model.get_weights()]


@pytest.mark.slow
def test_killed_training(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """After SIGKILL in the middle of an epoch, the same command gives identical weights."""
    typed = arguments(data, tmp_path / "killed", "--checkpoint-every=0")
    step = 4 * 2 + 3  # the third of the third epoch
    command = [sys.executable, "-c", KILLED_AT_STEP, str(step), *typed]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == [".killed.training"]

    assert call(*typed) == 0
    assert "resumes at epoch 3, step 3\n" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["killed"]

    assert call(*arguments(data, tmp_path / "whole")) == 0
    history, weights = outcome(tmp_path / "killed")
    expected_history, expected_weights = outcome(tmp_path / "whole")
    assert history == expected_history
    assert len(history["val_loss"]) == 4
    assert all(map(np.array_equal, weights, expected_weights))


def fit(
    config: Config, folder: Path, *more: keras.callbacks.Callback, interval_s: float = math.inf
) -> dict[str, Any]:
    """Fit a model of ten weights; returns history without throughput, weights and optimizer."""
    keras.utils.set_random_seed(config.seed)
    generator = np.random.default_rng(1)
    rows = [generator.integers(2, 6, 4).astype(np.int32) for _ in range(12)]
    shard = InMemoryShard(rows, np.eye(2)[generator.integers(0, 2, 12)])
    model = keras.Sequential(
        [
            keras.layers.Embedding(6, 2),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.build((None, None))
    model.compile(build_optimizer(config), "categorical_crossentropy")
    history = fit_model(
        model,
        TrainingBatches(
            shard, batch_size=6, word_dropout=config.loop.word_dropout, seed=config.seed
        ),
        ScoringBatches(shard),
        [*recipe_callbacks(config, folder / "model.keras", None), *more],
        epochs=config.loop.epochs,
        checkpoints=CheckpointManager(folder, interval_s=interval_s),
    )
    history.pop("tokens_per_second")
    kept = keras.models.load_model(folder / "model.keras", compile=False)
    variables = {"weights": model, "kept": kept, "optimizer": model.optimizer}
    return {"history": history} | {
        name: [np.asarray(variable).tolist() for variable in of.variables]
        for name, of in variables.items()
    }


def check_kills(config: Config, folder: Path, *, kills: int, seed: int) -> None:
    """Kill a training several times in a row, anywhere, and compare its end with the whole one."""
    draw = random.Random(seed)
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    whole = fit(config, folder / "whole")
    points = [(epoch, step) for epoch in range(len(whole["history"]["loss"])) for step in range(3)]
    for epoch, step in sorted(draw.sample(points, kills)):
        with pytest.raises(KeyboardInterrupt):
            # A checkpoint at each step, or only at the beginning of each epoch.
            fit(config, folder / "killed", Stop(epoch, step), interval_s=draw.choice([0, 1e9]))
    assert fit(config, folder / "killed", interval_s=1e9) == whole


@pytest.mark.parametrize(
    "change",
    [
        # Losses that fall by less than the `min_delta` of `ReduceLROnPlateau`.
        {"schedule": "plateau", "learning_rate": 1e-5, "keep": "last"},
        pytest.param(
            {
                "schedule": "exponential",
                "optimizer": "nadam",
                "ema_momentum": 0.9,
                "warmup_epochs": 0.5,
            },
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda change: change["schedule"],
)
def test_killed_anywhere(change: dict[str, Any], tmp_path: Path) -> None:
    """Metrics, learning rates, weights and the kept model are identical, wherever it is killed."""
    config = load_config("smoke").replace(
        **{"epochs": 4, "learning_rate": 0.05, "word_dropout": 0.3, **change}
    )
    check_kills(config, tmp_path, kills=2, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_any_recipe_is_resumed_exactly(seed: int, tmp_path: Path) -> None:
    """Every schedule, optimizer and rule of stopping, drawn at random, and killed five times."""
    draw = random.Random(seed)
    schedules = ("plateau", "constant", "cosine", "exponential")
    optimizer = get_args(OptimizerKind)[seed % len(get_args(OptimizerKind))]
    config = load_config("smoke").replace(
        epochs=draw.randint(2, 6),
        schedule=schedules[seed // len(get_args(OptimizerKind)) % len(schedules)],
        optimizer=optimizer,
        momentum=draw.choice([0.0, 0.9]) * (optimizer == "sgd"),
        learning_rate=draw.choice([1e-5, 0.05, 1.0]),
        warmup_epochs=draw.choice([0.0, 0.5, 1.0, 2.0]),
        ema_momentum=draw.choice([0.0, 0.9]),
        clip_norm=draw.choice([0.0, 0.1]),
        word_dropout=draw.choice([0.0, 0.3]),
        keep=draw.choice(["best", "last"]),
        stop_patience=draw.choice([1, 2]),
        reduce_patience=draw.choice([1, 2]),
    )
    check_kills(config, tmp_path, kills=5 if config.loop.epochs > 2 else 3, seed=seed)


@dataclass
class Steps:
    """A model that is trained step by step, without a loop."""

    model: keras.Model

    def run(self, number: int) -> list[np.ndarray]:
        """Train; returns the weights and the variables of the optimizer."""
        for _ in range(number):
            self.model.train_on_batch(np.ones((4, 3)), np.arange(8.0).reshape(4, 2))
        variables = [*self.model.variables, *self.model.optimizer.variables]
        return [np.asarray(variable) for variable in variables]


@pytest.mark.parametrize("optimizer", get_args(OptimizerKind))
def test_every_optimizer_continues_exactly(optimizer: str, tmp_path: Path) -> None:
    """A model restored into another process takes the same steps, bit by bit."""
    config = load_config("smoke").replace(optimizer=optimizer, ema_momentum=0.9, clip_norm=0.5)
    first, other = (Steps(compiled(seed, build_optimizer(config))) for seed in (1, 2))
    first.run(1)
    CheckpointManager(tmp_path).save(first.model, with_callbacks(first.model), Position())
    CheckpointManager(tmp_path).restore(other.model, with_callbacks(other.model))
    assert all(map(np.array_equal, first.run(1), other.run(1)))


def compiled(seed: int, optimizer: keras.optimizers.Optimizer | None = None) -> keras.Model:
    """A model whose optimizer and dropout have state."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)])
    optimizer = optimizer or keras.optimizers.Adam(0.1, use_ema=True)
    model.compile(optimizer, "mse", run_eagerly=True)  # tracing would take seconds
    model.optimizer.build(model.trainable_variables)
    return model


def with_callbacks(model: keras.Model) -> keras.callbacks.CallbackList:
    """Callbacks with state, at the beginning of a training."""
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
    """Weights, optimizer, random states, callbacks and position are restored."""
    model, checkpoints = compiled(1), CheckpointManager(tmp_path)
    callbacks = with_callbacks(model)
    model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    for epoch, loss in enumerate((0.5, 0.25, 0.75)):
        callbacks.on_epoch_end(epoch, {"val_loss": loss})
    position = Position(epoch=3)
    position.add_step({"loss": 2.0}, rows=4, tokens=12, seconds=2.0)
    checkpoints.save(model, callbacks, position)

    other = compiled(2)
    others = with_callbacks(other)
    restored = CheckpointManager(tmp_path).restore(other, others)
    assert restored == position
    assert restored.metrics() == {"loss": 2.0, "tokens_per_second": 6.0}
    variables = ([*m.variables, *m.optimizer.variables] for m in (model, other))
    assert all(map(np.array_equal, *variables))
    stopping, plateau, history = others.callbacks
    assert (stopping.best, stopping.wait, plateau.best, plateau.wait) == (0.25, 1, 0.25, 1)
    assert history.history["val_loss"] == [0.5, 0.25, 0.75]


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    """Wherever it is damaged, it is refused in one sentence, or nothing that counts is altered."""
    model = compiled(1)
    CheckpointManager(tmp_path).save(model, with_callbacks(model), Position())
    path = tmp_path / "checkpoint.npz"
    content, values = path.read_bytes(), [np.asarray(v) for v in model.variables]
    draw = random.Random(3)
    places = [draw.randrange(len(content)) for _ in range(24)]
    damaged = [content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :] for at in places]
    damaged += [content[:at] for at in (0, 1, 99, *places[:3])]
    messages, other = [], compiled(2)
    for each in damaged:
        path.write_bytes(each)
        try:
            CheckpointManager(tmp_path).restore(other, with_callbacks(other))
        except CannotResume as error:
            messages.append(str(error))
        else:
            assert all(map(np.array_equal, [np.asarray(v) for v in other.variables], values))
    assert len(messages) > 15
    assert set(messages) == {f"{path} is damaged. {FRESH}"}


def test_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    """A checkpoint with fewer variables is refused."""
    model = compiled(1)
    CheckpointManager(tmp_path).save(model, with_callbacks(model), Position())
    other = compiled(1, keras.optimizers.Adam(0.1))
    with pytest.raises(CannotResume, match=r"checkpoint\.npz is damaged"):
        CheckpointManager(tmp_path).restore(other, with_callbacks(other))


@pytest.mark.parametrize("content", [None, b"", b"PK no model"])
def test_the_model_of_an_earlier_epoch_must_be_there(tmp_path: Path, content: bytes | None) -> None:
    """A training whose best model is missing or damaged ends before it trains further epochs."""
    saver = ModelSaver(tmp_path / "model.keras", keep="best")
    saver.on_epoch_begin(0)  # no model has been saved
    resumed = ModelSaver(tmp_path / "model.keras", keep="best")
    resumed.best = 0.5
    if content is not None:
        (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(CannotResume, match=r"model\.keras is missing or damaged\. --fresh"):
        resumed.on_epoch_begin(1)


def test_the_duration_includes_earlier_parts(tmp_path: Path) -> None:
    """A resumed training counts the seconds before it was stopped."""
    model = compiled(1)
    CheckpointManager(tmp_path).save(model, with_callbacks(model), Position())
    with np.load(tmp_path / "checkpoint.npz") as arrays:
        first = json.loads(str(arrays["state"]))["position"]["elapsed_s"]
    checkpoints = CheckpointManager(tmp_path)
    checkpoints.restore(model, with_callbacks(model))
    assert checkpoints.elapsed_s() >= first > 0


@pytest.mark.parametrize(("interval_s", "saved"), [(0.0, True), (1e9, False), (math.inf, False)])
def test_checkpoint_interval(tmp_path: Path, interval_s: float, saved: bool) -> None:
    """A checkpoint is written only if the interval has passed since the last one."""
    checkpoints, model = CheckpointManager(tmp_path, interval_s=interval_s), compiled(1)
    checkpoints.save_when_due(model, with_callbacks(model), Position())
    assert checkpoints.exists() == saved


@pytest.mark.parametrize("interval_s", [-1.0, float("nan")])
def test_invalid_intervals(tmp_path: Path, interval_s: float) -> None:
    """The interval is not negative."""
    with pytest.raises(InvalidInput, match=r"must be 0 or more\. Received:"):
        CheckpointManager(tmp_path, interval_s=interval_s)
