"""Checkpoints: a training that was stopped or killed resumes exactly where it was.

A checkpoint is written between two steps and holds everything the next step depends on: the
weights, the variables of the optimizer (moving averages included), the states of random generators,
the state of the callbacks, and the metrics of the epoch so far. The order of the batches depends
only on the seed and the epoch, so it is not stored.
"""

from __future__ import annotations

import json
import math
import time
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import keras
import numpy as np

from app.errors import CannotResume, InvalidInput
from training.fit.callback_state import restore_state, save_state
from training.support.files import atomic_path
from training.support.progress import TOKENS_PER_SECOND

CHECKPOINT_INTERVAL_S: Final = 60.0
"""Seconds between checkpoints: how much work a kill may lose."""
FRESH: Final = "--fresh discards the unfinished training and starts again"
"""What to do if a training cannot be resumed."""
_FILE: Final = "checkpoint.npz"
_DAMAGE: Final = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What reading a damaged file raises."""


@dataclass(slots=True)
class Position:
    """How far a training is, and the metrics of the current epoch.

    Attributes:
        epoch: From 0.
        step: Completed steps of this epoch.
        rows: Texts in these steps.
        tokens: Ids in these steps, without padding.
        seconds: Duration of these steps.
        sums: The sum of each metric over `rows`.
        elapsed_s: Seconds of the whole training up to the last checkpoint.
    """

    epoch: int = 0
    step: int = 0
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    elapsed_s: float = 0.0

    def add_step(
        self, metrics: Mapping[str, float], *, rows: int, tokens: int, seconds: float
    ) -> dict[str, float]:
        """Count one more step and return `metrics` of the epoch so far."""
        self.step += 1
        self.rows += rows
        self.tokens += tokens
        self.seconds += seconds
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value) * rows
        return self.metrics()

    def metrics(self) -> dict[str, float]:
        """Return the mean of each metric over the texts, and the tokens per second."""
        means = {name: total / self.rows for name, total in self.sums.items()}
        return means | {TOKENS_PER_SECOND: self.tokens / max(self.seconds, 1e-9)}

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, step {self.step + 1}"


class CheckpointManager:
    """Writes and restores the last checkpoint of a training.

    Args:
        folder: Where the checkpoint is stored.
        interval_s: Seconds between two checkpoints of an epoch, at least; with infinity no
            checkpoints are written.

    Attributes:
        last: The position of the last checkpoint, if one was written or restored.

    Raises:
        InvalidInput: `interval_s` is below 0.
    """

    def __init__(self, folder: Path, *, interval_s: float = CHECKPOINT_INTERVAL_S) -> None:
        if not interval_s >= 0:
            raise InvalidInput(
                f"the seconds between checkpoints must be 0 or more. Received: {interval_s}"
            )
        self.last: Position | None = None
        self._path, self._interval_s = folder / _FILE, interval_s
        self._started = self._written = time.monotonic()

    def exists(self) -> bool:
        """Whether there is a checkpoint."""
        return self._path.exists()

    def elapsed_s(self) -> float:
        """Return the seconds of the whole training, including those before it was resumed."""
        before = self.last.elapsed_s if self.last else 0.0
        return before + time.monotonic() - self._started

    def save_when_due(
        self, model: keras.Model, callbacks: keras.callbacks.CallbackList, position: Position
    ) -> None:
        """Write a checkpoint if the interval has passed since the last one."""
        if time.monotonic() - self._written >= self._interval_s:
            self.save(model, callbacks, position)

    def save(
        self, model: keras.Model, callbacks: keras.callbacks.CallbackList, position: Position
    ) -> None:
        """Replace the last checkpoint, unless checkpoints are off.

        Raises:
            TypeError: A callback declares no state, see `training.fit.callback_state`.
        """
        if self._interval_s == math.inf:
            return
        position.elapsed_s = self.elapsed_s()
        self._started = time.monotonic()
        self.last = Position(**asdict(position))
        state = {"position": asdict(position), "callbacks": save_state(callbacks.callbacks)}
        arrays = {
            f"variable_{number}": keras.ops.convert_to_numpy(variable)
            for number, variable in enumerate(_variables(model))
        }
        with atomic_path(self._path) as partial:
            np.savez(partial, state=np.array(json.dumps(state)), **arrays)
        self._written = time.monotonic()

    def restore(
        self, model: keras.Model, callbacks: keras.callbacks.CallbackList
    ) -> Position | None:
        """Restore model, optimizer and callbacks, and return the position.

        Returns None, and changes nothing, if there is no checkpoint.

        Call it after `on_train_begin`, in which callbacks reset themselves.

        Raises:
            CannotResume: The checkpoint is damaged, or is of another model.
        """
        self._started = self._written = time.monotonic()
        if not self.exists():
            return None
        variables = _variables(model)
        try:
            # Opened here, because NumPy leaves the file open if it is no archive.
            with self._path.open("rb") as file, np.load(file) as arrays:
                state = json.loads(str(arrays["state"]))
                values = [arrays[f"variable_{number}"] for number in range(len(arrays.files) - 1)]
            self.last = Position(**state["position"])
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            restore_state(callbacks.callbacks, state["callbacks"])
        except _DAMAGE as error:
            raise CannotResume(f"{self._path} is damaged. {FRESH}") from error
        return Position(**state["position"])


def _variables(model: keras.Model) -> list[keras.Variable]:
    return [*model.variables, *model.optimizer.variables]
