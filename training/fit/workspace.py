"""The workspace of a training: what it has computed so far, kept until its run is complete.

It is a hidden folder beside the run, `.NAME.training`, with the identity of the training, the
tokenizer, the shards, cached features, the best model so far and the last checkpoint. It is removed
when the run is complete, and kept when the training is stopped before.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from app.errors import CannotResume, InvalidInput
from training.fit.checkpoints import CHECKPOINT_INTERVAL_S, FRESH, CheckpointManager, Position
from training.support.cache import DiskCache
from training.support.files import atomic_path, lock_folder, remove, remove_empty
from training.support.interruption import errors_as_interruption

WORKSPACE_FORMAT: Final = 5
"""Raised when checkpoints and cached results written before can no longer be read."""
_IDENTITY: Final = "training.json"


class Workspace:
    """The intermediate results of one training.

    Attributes:
        folder: Where they are.
        cache: Results that a resumed training does not compute again.
        checkpoints: The last checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        *,
        checkpoint_every_s: float = CHECKPOINT_INTERVAL_S,
        parts: Path | None = None,
    ) -> None:
        """Read nothing yet.

        Args:
            folder: Where the results are; it must exist.
            checkpoint_every_s: Seconds between checkpoints.
            parts: Where results are kept that other trainings can use, too.
        """
        self.folder, self._parts = folder, parts
        self.cache = DiskCache(folder)
        self._locks: dict[Path, int] = {}
        self._checkpoint_every_s = checkpoint_every_s
        self.checkpoints = CheckpointManager(folder, interval_s=checkpoint_every_s)
        self._loops = [self.checkpoints]

    def checkpoints_of(self, part: str) -> CheckpointManager:
        """Return the checkpoints of a part of the training that has a loop of its own.

        Args:
            part: Names the part; the checkpoints of another name are not found.
        """
        folder = self.folder / part
        folder.mkdir(exist_ok=True)
        self._loops.append(CheckpointManager(folder, interval_s=self._checkpoint_every_s))
        return self._loops[-1]

    def last_position(self) -> Position | None:
        """Return where the training resumes if it stops now; None at its beginning."""
        return next((loop.last for loop in self._loops if loop.last), None)

    def shared_cache(self, identity: Callable[[], Sequence[object]]) -> DiskCache:
        """Return the cache of results that depend on nothing but `identity()`.

        It outlives the training if there is a folder for parts, else it is `cache`.

        Args:
            identity: Returns what the results depend on, ready for JSON.

        Raises:
            InvalidInput: Another training is using it.
        """
        if self._parts is None:
            return self.cache
        folder = self._parts / sha256(json.dumps(identity()).encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        if folder not in self._locks:
            lock = lock_folder(folder)
            if lock is None:
                raise InvalidInput(
                    f"one training at a time may use its parts. Received: {folder}, in use by "
                    "another"
                )
            self._locks[folder] = lock
        return DiskCache(folder)

    def release(self) -> None:
        """Let other trainings use the parts."""
        while self._locks:
            os.close(self._locks.popitem()[1])

    def claim(self, identity: Mapping[str, Mapping[str, Any]]) -> None:
        """Store what this is a training of, or check that it is resumed with the same.

        Args:
            identity: By part (the recipe, the data, ...) and name, ready for JSON.

        Raises:
            InvalidInput: The unfinished training here has another identity; the message lists the
                differences.
            CannotResume: Its identity is damaged.
        """
        wanted = json.loads(json.dumps(identity))
        path = self.folder / _IDENTITY
        if not path.exists():
            self.discard()  # left by a training that was killed while it removed its workspace
            with atomic_path(path) as partial:
                partial.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
        stored = _read_identity(path)
        if stored != wanted:
            raise InvalidInput(
                f"the unfinished training in {self.folder} must be resumed with the arguments it "
                f"was started with. Received: {_differences(stored, wanted)}; --fresh discards it "
                "and starts again, --run FOLDER trains elsewhere"
            )

    def discard(self) -> None:
        """Remove everything in it; the identity first, because nothing is resumed without it."""
        remove(self.folder / _IDENTITY)
        for item in self.folder.iterdir():
            remove(item)


@contextmanager
def open_workspace(
    run: Path,
    *,
    checkpoint_every_s: float = CHECKPOINT_INTERVAL_S,
    fresh: bool = False,
    parts: Path | None = None,
) -> Iterator[Workspace]:
    """Open the workspace of the run at `run`, for one process at a time.

    It is removed if the block succeeds, and if nothing claimed it. Otherwise it is kept for the
    next training.

    Args:
        run: Where the result of the training goes.
        checkpoint_every_s: Seconds between checkpoints.
        fresh: Whether to discard what an unfinished training left.
        parts: Where results are kept that other trainings can use, too.

    Raises:
        InvalidInput: Another process has opened it.
        KeyboardInterrupt: The block was interrupted; the message says how to resume.
    """
    run = run.resolve()
    folder = run.parent / f".{run.name}.training"
    workspace = Workspace(folder, checkpoint_every_s=checkpoint_every_s, parts=parts)
    missing = [parent for parent in folder.parents if not parent.exists()]
    lock = _lock(folder)
    try:
        if fresh:
            workspace.discard()
        with errors_as_interruption():
            yield workspace
        workspace.discard()
    except KeyboardInterrupt:
        last = workspace.last_position()
        at = f" to resume at {last}" if last else ""
        raise KeyboardInterrupt(f"run the same command again{at}") from None
    finally:
        workspace.release()
        if not (folder / _IDENTITY).exists():
            remove(folder)
            remove_empty(missing)
        os.close(lock)


@contextmanager
def temporary_workspace(parent: Path) -> Iterator[Workspace]:
    """Open a workspace in `parent` without checkpoints, for a training that is never resumed."""
    with tempfile.TemporaryDirectory(prefix=".training-", dir=parent) as folder:
        yield Workspace(Path(folder), checkpoint_every_s=math.inf)


def _lock(folder: Path) -> int:
    """Create the folder and lock it; the lock ends with the process, even if it is killed.

    Raises:
        InvalidInput: Another process has locked it.
    """
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(folder)
        if lock is not None:
            return lock
        if folder.exists():  # else another training has just removed it
            raise InvalidInput(
                f"one training at a time may write a run. Received: {folder}, in use by another"
            )


def _read_identity(path: Path) -> dict[str, Any]:
    """Read what `claim` wrote."""
    try:
        stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(part, dict) for part in stored.values()):
            return stored
    except (ValueError, AttributeError, OSError):
        pass
    raise CannotResume(f"{path} is damaged. {FRESH}")


def _differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return the names that differ, with their values where these are short."""
    differing = []
    for part in sorted({*stored, *wanted}):
        old, new = stored.get(part, {}), wanted.get(part, {})
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                values = f" {new.get(name)} instead of {old.get(name)}"
                differing.append(f"{part} {name}" + (values if len(values) < 60 else ""))
    return "another " + ", ".join(differing)
