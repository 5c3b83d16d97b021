"""Checkpoints: a training that was stopped, by whatever, goes on where it was.

All that a training makes on its way stands in a hidden folder beside the run, `.NAME.training`:
what it is a training of, the tokenizer, the shards, the best model so far and the last checkpoint.
The folder goes when the run is complete, and stays when it is not.

A checkpoint is taken between two steps and holds everything that the next step depends on: the
weights, what the optimizer remembers (moving averages included), the states of random generators,
what the callbacks remember, and the figures of the epoch so far. The order of the batches depends
on the seed and the epoch, so nothing of it need be kept.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from app.errors import InvalidInput
from training.config import current_names
from training.support.progress import TOKENS_PER_SECOND

EVERY: Final = 60.0
"""Seconds between checkpoints: what a kill may cost."""


_PURPOSE: Final = "training.json"


_CHECKPOINT: Final = "checkpoint.npz"


@dataclass(slots=True)
class Place:
    """Where a training is: in which epoch, after how many steps, and their figures.

    Attributes:
        epoch: From 0.
        step: Steps of this epoch that are done.
        rows: Texts in them.
        tokens: Ids in them; padding is not counted.
        seconds: Time they took.
        sums: Of each figure, over `rows`.
        earlier: Seconds of the whole training up to the last checkpoint.
    """

    epoch: int = 0
    step: int = 0
    rows: int = 0
    tokens: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    earlier: float = 0.0

    def add(
        self, figures: Mapping[str, float], *, rows: int, tokens: int, seconds: float
    ) -> dict[str, float]:
        """Count one more step; returns the means of the epoch so far, and its tokens a second."""
        self.step += 1
        self.rows += rows
        self.tokens += tokens
        self.seconds += seconds
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value) * rows
        return self.figures()

    def figures(self) -> dict[str, float]:
        """The mean of each figure over the texts, and the tokens a second."""
        means = {name: total / self.rows for name, total in self.sums.items()}
        return means | {TOKENS_PER_SECOND: self.tokens / max(self.seconds, 1e-9)}

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, step {self.step + 1}"


class WorkingFolder:
    """What a training has made so far, each thing whole or not there.

    Attributes:
        folder: Where it stands.
        saved: The last checkpoint, if there is one.
    """

    def __init__(self, folder: Path, *, every: float = EVERY) -> None:
        """Work in `folder`, with `every` seconds at least between two checkpoints of an epoch.

        With an infinite `every` there are no checkpoints at all.

        Raises:
            InvalidInput: `every` is below 0.
        """
        if not every >= 0:
            raise InvalidInput(
                f"the seconds between checkpoints must be 0 or more. Received: {every}"
            )
        self.folder = folder
        self.saved: Place | None = None
        self._every = every
        self._began = self._last = time.monotonic()

    def claim(self, purpose: Mapping[str, Mapping[str, Any]]) -> None:
        """Say what this is a training of; an unfinished one must be of the same.

        Raises:
            InvalidInput: It is of something else; the message names what differs.
        """
        wanted = json.loads(json.dumps(purpose))
        there = json.loads(self.once(_PURPOSE, lambda path: _write(path, wanted)).read_text())
        there["config"] = current_names(there.get("config", {}))
        if there != wanted:
            raise InvalidInput(
                f"an unfinished training in {self.folder} must be continued with what it began "
                f"with. Received: {_difference(there, wanted)}; --fresh discards it and starts "
                "anew, --run FOLDER trains elsewhere"
            )

    def discard(self) -> None:
        """Keep nothing of it: what was made leads nowhere."""
        for item in self.folder.iterdir():
            _remove(item)

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        """The file or folder `name`: as it is there, or whole as `make` writes it."""
        path = self.folder / name
        if not path.exists():
            aside = self.folder / f"{name}.partial"
            _remove(aside)
            make(aside)
            aside.rename(path)
        return path

    def seconds(self) -> float:
        """Of the whole training, those before it was stopped included."""
        before = self.saved.earlier if self.saved else 0.0
        return before + time.monotonic() - self._began

    def save_when_due(
        self, model: keras.Model, callbacks: keras.callbacks.CallbackList, at: Place
    ) -> None:
        """Write a checkpoint if the last one is old enough."""
        if time.monotonic() - self._last >= self._every:
            self.save(model, callbacks, at)

    def save(self, model: keras.Model, callbacks: keras.callbacks.CallbackList, at: Place) -> None:
        """Write a checkpoint in place of the last one."""
        if self._every == math.inf:
            return
        at.earlier = self.seconds()
        self._began = time.monotonic()
        self.saved = Place(**asdict(at))
        state = json.dumps({"place": asdict(at), "callbacks": _memories(callbacks)})
        arrays = {
            f"variable_{number}": keras.ops.convert_to_numpy(variable)
            for number, variable in enumerate(_variables(model))
        }
        aside = self.folder / f"{_CHECKPOINT}.partial"
        with aside.open("wb") as file:
            np.savez(file, state=np.array(state), **arrays)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.folder / _CHECKPOINT)
        self._last = time.monotonic()

    def restore(self, model: keras.Model, callbacks: keras.callbacks.CallbackList) -> Place | None:
        """Make everything as it was at the last checkpoint; None where there is none."""
        self._began = self._last = time.monotonic()
        if not self.has_checkpoint():
            return None
        with np.load(self.folder / _CHECKPOINT) as arrays:
            state = json.loads(str(arrays["state"]))
            for number, variable in enumerate(_variables(model)):
                variable.assign(arrays[f"variable_{number}"])
        memories = state["callbacks"]
        for callback in callbacks.callbacks:
            same = (memory for memory in memories if memory["kind"] == type(callback).__name__)
            if (memory := next(same, None)) is not None:  # none for one that was not there before
                memories.remove(memory)
                vars(callback).update(memory["attributes"])
        self.saved = Place(**state["place"])
        return Place(**state["place"])

    def has_checkpoint(self) -> bool:
        """Whether an earlier training was stopped after its first checkpoint."""
        return (self.folder / _CHECKPOINT).exists()


class KeptModel(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the model of the `best` validation loss, or the `last`, in a file that is whole."""

    def __init__(self, path: Path, *, keep: str) -> None:
        super().__init__()
        self._path, self._keep = path, keep
        self.best = float("inf")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the model if it is to be kept so far."""
        loss = (logs or {})["val_loss"]
        if loss < self.best or self._keep == "last":
            self.best = loss
            save_whole(self.model, self._path)


def save_whole(model: keras.Model, path: Path) -> None:
    """Write a model in place of what is at `path`, which is whole at every moment."""
    aside = path.with_name(f"partial.{path.name}")  # Keras goes by the suffix
    model.save(aside)
    aside.replace(path)


@contextmanager
def working_folder(
    run: Path, *, every: float = EVERY, fresh: bool = False
) -> Iterator[WorkingFolder]:
    """The working folder of the run at `run`, for one training at a time.

    It goes when the block ends well. When the block is interrupted it stays, and the interruption
    says how to go on.

    Args:
        run: Where the result of the training goes.
        every: Seconds between checkpoints.
        fresh: Whether to discard what an earlier training left.

    Raises:
        InvalidInput: Another training is in it.
    """
    run = run.resolve()
    folder = run.parent / f".{run.name}.training"
    work = WorkingFolder(folder, every=every)
    missing = [parent for parent in folder.parents if not parent.exists()]
    lock = _lock(folder)
    try:
        if fresh:
            work.discard()
        yield work
        _remove(folder)
    except KeyboardInterrupt:
        goes_on = f" to go on from {work.saved}" if work.saved else ""
        raise KeyboardInterrupt(f"give the same command again{goes_on}") from None
    finally:
        if not (folder / _PURPOSE).exists():
            _remove(folder)
            for parent in missing:
                with suppress(OSError):  # not empty: the result is in it
                    parent.rmdir()
        os.close(lock)


def _lock(folder: Path) -> int:
    """Make the folder and lock it; the lock ends with the process, however that ends."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise InvalidInput(
                f"one training at a time may write a run. Received: {folder}, in use by another"
            ) from error
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), folder.stat()):
                return lock
        os.close(lock)  # of a training that has just ended and taken its folder away


def _variables(model: keras.Model) -> list[keras.Variable]:
    return [*model.variables, *model.optimizer.variables]


def _memories(callbacks: keras.callbacks.CallbackList) -> list[dict[str, Any]]:
    """What each callback counts and keeps in public attributes; paths and names are settings."""
    return [
        {
            "kind": type(callback).__name__,
            "attributes": {
                name: value
                for name, value in vars(callback).items()
                if not name.startswith("_") and name != "params" and _is_memory(value)
            },
        }
        for callback in callbacks.callbacks
    ]


def _is_memory(value: Any) -> bool:
    """Numbers and None, also in lists and mappings by name."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_memory(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_memory, value))
    return value is None or isinstance(value, int | float)


def _difference(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What of the purpose differs, by name, with values where they are short."""
    differing = []
    for part in sorted({*there, *wanted}):
        old, new = there.get(part, {}), wanted.get(part, {})
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                values = f" {new.get(name)} instead of {old.get(name)}"
                differing.append(f"{part} {name}" + (values if len(values) < 60 else ""))
    return "another " + ", ".join(differing)


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
