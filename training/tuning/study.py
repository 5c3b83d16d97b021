"""Study: the trials of one search, stored by Optuna, so that a killed search can be resumed.

Only one process at a time has a study open and writes to it; worker processes report to that one.
So no setting is handed out twice, and the database needs no locking of its own.
"""

from __future__ import annotations

import fcntl
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal

import numpy as np
import optuna
from optuna.exceptions import StorageInternalError
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from app.errors import DataError, InvalidInput
from training.config import Config, current_names
from training.support.files import atomic_folder, explained_writes
from training.tuning.gaussian_process import GaussianProcessSampler
from training.tuning.space import Setting, Space

STUDY: Final = "study.db"
MAX_TRIALS: Final = 10_000
Sampler = Literal["grid", "random", "tpe", "gp"]
Pruner = Literal["median", "hyperband", "none"]
_NAME: Final = "tune"
"""The same for every study, since Hyperband assigns trials to brackets by a hash of this name."""
_MADE_WITH: Final = "made_with"
_LOCK: Final = "lock"
_DONE: Final = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True, slots=True)
class Search:
    """How a study chooses settings and stops trials.

    Attributes:
        space: The search space.
        sampler: How the next setting is chosen.
        pruner: Which trials are stopped early, compared with others at the same epoch.
        trials: Total number of trials, those of earlier calls included.
        seed: Seed of the sampler.
        epochs: Maximum epochs of any trial: the resource that Hyperband allocates.
    """

    space: Space
    sampler: Sampler
    pruner: Pruner
    trials: int
    seed: int
    epochs: int


def plan_search(
    space: Space, config: Config, *, sampler: Sampler, pruner: Pruner, trials: int | None, seed: int
) -> Search:
    """Plan a search of `space` around the recipe `config`.

    Args:
        space: The search space.
        config: The recipe.
        sampler: See `Search`.
        pruner: See `Search`.
        trials: At most `MAX_TRIALS`. For a grid, only the first so many cells; None for all cells.
        seed: From 0 to 2**32 - 1.

    Raises:
        InvalidInput: A number is out of its bounds, or a grid has infinitely many cells.
    """
    if sampler == "grid":
        cells = space.count()
        trials = cells if trials is None else min(trials, cells)
    if trials is None or not 1 <= trials <= MAX_TRIALS:
        raise InvalidInput(
            f"trials must be from 1 to {MAX_TRIALS:,}, and may be left out for a grid only. "
            f"Received: {trials}"
        )
    if not 0 <= seed < 2**32:
        raise InvalidInput(f"seed must be from 0 to 2**32 - 1. Received: {seed}")
    epochs = max(space.bounds().get("epochs", [config.loop.epochs]))
    return Search(space, sampler, pruner, trials, seed, epochs)


@dataclass(slots=True)
class Study:
    """An open study. Its methods may be called from several threads.

    Attributes:
        search: How further settings are chosen.
        stored: The study of Optuna.
    """

    search: Search
    stored: optuna.Study
    _lock: Lock = field(default_factory=Lock)

    def next_trial(self) -> tuple[Trial, Setting] | None:
        """Start the next trial; None if all of them have been handed out.

        A setting that comes up again is not trained again: the trial copies the scores of the
        first one.
        """
        with self._lock:
            while len(active := self._trials(*_DONE, TrialState.RUNNING)) < self.search.trials:
                if not self._queue_cell():
                    return None
                # Seeded by the trial's position alone, so that a resumed search draws the same
                # settings as one that was never killed.
                self.stored.sampler = _sampler(self.search, position=len(active))
                trial = self.stored.ask(dict(self.search.space.fields))
                setting = self.search.space.setting(trial.params)
                if (earlier := self._find(setting)) is None:
                    return trial, setting
                self._repeat(trial, earlier)
            return None

    def report(self, trial: Trial, epoch: int, accuracy: float) -> bool:
        """Store the accuracy after an epoch, counted from 1; returns whether to stop the trial."""
        with self._lock:
            trial.report(accuracy, epoch)
            return trial.should_prune()

    def finish(self, trial: Trial, accuracy: float | None) -> FrozenTrial:
        """Store the result of a trial; None if it was stopped early."""
        with self._lock:
            if accuracy is None:
                return self.stored.tell(trial, state=TrialState.PRUNED)
            return self.stored.tell(trial, accuracy)

    def done(self) -> list[FrozenTrial]:
        """The trials that are complete or were stopped early, by number."""
        with self._lock:
            return self._trials(*_DONE)

    def recover(self) -> None:
        """Mark trials that were running when the process was killed as failed, and requeue them."""
        for trial in self._trials(TrialState.RUNNING):
            self.stored.tell(trial.number, state=TrialState.FAIL)
            if set(trial.params) == set(self.search.space.fields):
                self.stored.enqueue_trial(trial.params)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.stored.get_trials(deepcopy=False, states=states)

    def _find(self, setting: Setting) -> FrozenTrial | None:
        """The first finished trial with this setting."""
        read = self.search.space.setting
        return next((t for t in self._trials(*_DONE) if read(t.params) == setting), None)

    def _repeat(self, trial: Trial, earlier: FrozenTrial) -> None:
        for epoch, accuracy in earlier.intermediate_values.items():
            trial.report(accuracy, epoch)
        trial.set_user_attr("repeats", earlier.number)
        pruned = earlier.state == TrialState.PRUNED
        self.stored.tell(trial, None if pruned else earlier.value, state=earlier.state)

    def _queue_cell(self) -> bool:
        """For a grid, queue the next cell unless one is waiting; returns whether there is one."""
        if self.search.sampler != "grid" or self._trials(TrialState.WAITING):
            return True
        read = self.search.space.setting
        taken = [read(trial.params) for trial in self._trials(*_DONE, TrialState.RUNNING)]
        free = (cell for cell in self.search.space.cells() if read(cell) not in taken)
        if (cell := next(free, None)) is not None:
            self.stored.enqueue_trial(cell)
        return cell is not None


@contextmanager
def open_study(folder: Path, search: Search, made_with: Mapping[str, Any]) -> Iterator[Study]:
    """Open the study in `folder`, creating it if it does not exist.

    Args:
        folder: Contains `study.db`, or does not exist yet.
        search: How settings are chosen. The number of trials may differ from earlier calls.
        made_with: Everything that the scores of its trials depend on, as JSON values. It is stored
            with a new study and compared with that of an existing one, in this order.

    Raises:
        InvalidInput: Another process has the study open, it was made with something else, or
            `folder` exists without a study.
        DataError: The study's database is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = json.loads(json.dumps(made_with))
    if not (folder / STUDY).is_file():
        with atomic_folder(folder) as staged, _storage(staged / STUDY) as storage:
            new = optuna.create_study(storage=storage, study_name=_NAME, direction="maximize")
            new.set_user_attr(_MADE_WITH, made)
    with (folder / _LOCK).open("w") as lock, _storage(folder / STUDY) as storage:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when a process is killed
        except BlockingIOError as error:
            raise InvalidInput(
                f"only one process at a time may use a study. Received: {folder}, in use by another"
            ) from error
        try:
            stored = optuna.load_study(study_name=_NAME, storage=storage, pruner=_pruner(search))
            earlier = stored.user_attrs[_MADE_WITH]
        except KeyError as error:
            raise DataError(f"{folder / STUDY}: not a study made by valence-train tune") from error
        _check_made_with(folder, earlier, made)
        study = Study(search, stored)
        study.recover()
        yield study


def _check_made_with(folder: Path, earlier: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Check that the study in `folder` was made with the same as this search."""
    earlier = {**earlier, "recipe": current_names(earlier.get("recipe", {}))}
    for name, value in made.items():
        if earlier.get(name) != value:
            raise InvalidInput(
                f"a study must be resumed with the {name} it was made with. Received: another "
                f"{name} for {folder}; choose another folder with --study"
            )


@contextmanager
def _storage(path: Path) -> Iterator[RDBStorage]:
    try:
        with explained_writes(path):
            # Without a URL, in which ?, % and { of the path would have a meaning.
            connect = partial(sqlite3.connect, path, check_same_thread=False)
            storage = RDBStorage("sqlite://", {"creator": connect, "poolclass": QueuePool})
            event.listen(storage.engine, "connect", _write_ahead)
            storage.remove_session()
            storage.engine.dispose()  # closes the connection opened before the listener was added
    except SQLAlchemyError as error:
        raise DataError(f"{path}: not a study made by valence-train tune") from error
    try:
        with explained_writes(path):
            yield storage
    except (SQLAlchemyError, StorageInternalError) as error:
        raise DataError(
            f"{path} is damaged. Choose another folder with --study, or remove this one"
        ) from error
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _write_ahead(connection: Any, _: object) -> None:
    """Commit without waiting for the disk, which loses nothing when a process is killed."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _sampler(search: Search, *, position: int) -> BaseSampler:
    """A sampler for one draw, seeded by the search's seed and the trial's position."""
    seed = int(np.random.SeedSequence((search.seed, position)).generate_state(1)[0])
    if search.sampler == "tpe":
        return TPESampler(seed=seed)
    if search.sampler == "gp":
        return GaussianProcessSampler(search.space.fields, seed=seed)
    return RandomSampler(seed=seed)  # for a grid it is never asked: cells are queued


def _pruner(search: Search) -> BasePruner:
    if search.pruner == "median":
        return MedianPruner()
    if search.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=search.epochs)
    return NopPruner()
