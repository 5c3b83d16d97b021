"""Study: the trials of one search, kept in a file by Optuna, so that a killed search goes on.

One process at a time has a study open and alone writes to it; what trains in other processes
reports to that one. So no setting is given out twice, and the file needs no lock of its own.
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
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from app.errors import DataError, InvalidInput
from training.config import Config, current_names
from training.support.files import atomic_folder
from training.tuning.gaussian_process import GaussianProcessSampler
from training.tuning.space import Setting, Space

STUDY: Final = "study.db"


MAX_TRIALS: Final = 10_000


Sampler = Literal["grid", "random", "tpe", "gp"]


Pruner = Literal["median", "hyperband", "none"]


_NAME: Final = "tune"  # Hyperband shares trials out by this name: the same in every study


_MADE_WITH: Final = "made_with"


_LOCK: Final = "lock"


_DONE: Final = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True, slots=True)
class Search:
    """How a study chooses and judges settings.

    Attributes:
        space: Where it may go.
        sampler: What draws the next setting.
        pruner: What ends a trial that does worse than others did by the same epoch.
        trials: Settings to try in all; those of earlier calls count.
        seed: Of the sampler.
        epochs: The most that a trial can take, which Hyperband divides.
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
    """A search of `space` around the recipe `config`.

    Args:
        space: Where it may go.
        config: The recipe.
        sampler: See `Search`.
        pruner: See `Search`.
        trials: At most `MAX_TRIALS`. Of a grid the first so many cells; without it, all of them.
        seed: From 0 to 2**32 - 1.

    Raises:
        InvalidInput: A number is out of its bounds, or a grid has no end.
    """
    if sampler == "grid":
        cells = space.count()
        trials = cells if trials is None else min(trials, cells)
    if trials is None or not 1 <= trials <= MAX_TRIALS:
        raise InvalidInput(
            f"trials must be from 1 to {MAX_TRIALS:,}, and only a grid goes without. "
            f"Received: {trials}"
        )
    if not 0 <= seed < 2**32:
        raise InvalidInput(f"seed must be from 0 to 2**32 - 1. Received: {seed}")
    epochs = max((config.loop.epochs,) if "epochs" not in space.fields else space.ends()["epochs"])
    return Search(space, sampler, pruner, trials, seed, epochs)


@dataclass(slots=True)
class Study:
    """An open study. Its methods may be called from several threads.

    Attributes:
        search: How it goes on.
        kept: Optuna's own object.
    """

    search: Search
    kept: optuna.Study
    _lock: Lock = field(default_factory=Lock)

    def next_trial(self) -> tuple[Trial, Setting] | None:
        """Start the next trial, or None when all there are to be have been given out.

        A setting that comes up again is not trained again: it takes the figures of the first time.
        """
        with self._lock:
            while len(active := self._trials(*_DONE, TrialState.RUNNING)) < self.search.trials:
                if not self._queue_cell():
                    return None
                # From the place of a trial alone, so that a search that was killed draws what it
                # would have drawn.
                self.kept.sampler = _sampler(self.search, place=len(active))
                trial = self.kept.ask(dict(self.search.space.fields))
                setting = self.search.space.setting(trial.params)
                if (earlier := self._find(setting)) is None:
                    return trial, setting
                self._repeat(trial, earlier)
            return None

    def report(self, trial: Trial, epoch: int, figure: float) -> bool:
        """Note the figure after an epoch, counted from 1; answers whether to end the trial."""
        with self._lock:
            trial.report(figure, epoch)
            return trial.should_prune()

    def finish(self, trial: Trial, figure: float | None) -> FrozenTrial:
        """Note what a trial came to; None when it was ended early."""
        with self._lock:
            if figure is None:
                return self.kept.tell(trial, state=TrialState.PRUNED)
            return self.kept.tell(trial, figure)

    def done(self) -> list[FrozenTrial]:
        """The trials that came to an end, by number."""
        with self._lock:
            return self._trials(*_DONE)

    def recover(self) -> None:
        """Count trials that ran when the process was killed as failed, and queue their settings."""
        for trial in self._trials(TrialState.RUNNING):
            self.kept.tell(trial.number, state=TrialState.FAIL)
            if set(trial.params) == set(self.search.space.fields):
                self.kept.enqueue_trial(trial.params)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.kept.get_trials(deepcopy=False, states=states)

    def _find(self, setting: Setting) -> FrozenTrial | None:
        """The first finished trial of a setting."""
        as_drawn = self.search.space.setting
        return next((t for t in self._trials(*_DONE) if as_drawn(t.params) == setting), None)

    def _repeat(self, trial: Trial, earlier: FrozenTrial) -> None:
        for epoch, figure in earlier.intermediate_values.items():
            trial.report(figure, epoch)
        trial.set_user_attr("repeats", earlier.number)
        pruned = earlier.state == TrialState.PRUNED
        self.kept.tell(trial, None if pruned else earlier.value, state=earlier.state)

    def _queue_cell(self) -> bool:
        """Of a grid, queue the next cell unless one waits; answers whether there is one."""
        if self.search.sampler != "grid" or self._trials(TrialState.WAITING):
            return True
        as_drawn = self.search.space.setting
        taken = [as_drawn(trial.params) for trial in self._trials(*_DONE, TrialState.RUNNING)]
        free = (cell for cell in self.search.space.cells() if as_drawn(cell) not in taken)
        if (cell := next(free, None)) is not None:
            self.kept.enqueue_trial(cell)
        return cell is not None


@contextmanager
def open_study(folder: Path, search: Search, made_with: Mapping[str, Any]) -> Iterator[Study]:
    """Open the study in `folder`, made when missing.

    Args:
        folder: Holds `study.db`, or is not there yet.
        search: How it goes on. The number of trials may differ from the last time.
        made_with: All that its trials depend on, ready for JSON. It is kept with a new study and
            compared with that of an old one, in this order.

    Raises:
        InvalidInput: Another process has it open, it was made with something else, or `folder`
            holds no study.
        DataError: The file of the study is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = json.loads(json.dumps(made_with))
    if not (folder / STUDY).is_file():
        with atomic_folder(folder) as aside, _storage(aside / STUDY) as storage:
            new = optuna.create_study(storage=storage, study_name=_NAME, direction="maximize")
            new.set_user_attr(_MADE_WITH, made)
    with (folder / _LOCK).open("w") as lock, _storage(folder / STUDY) as storage:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # a killed process lets go of it
        except BlockingIOError as error:
            raise InvalidInput(
                f"one process at a time may work on a study; another is at work on {folder}"
            ) from error
        try:
            kept = optuna.load_study(study_name=_NAME, storage=storage, pruner=_pruner(search))
            earlier = dict(kept.user_attrs[_MADE_WITH])
            earlier["recipe"] = current_names(earlier.get("recipe", {}))
        except KeyError as error:
            raise DataError(f"{folder / STUDY}: not a study that tune made") from error
        for name, value in made.items():
            if earlier.get(name) != value:
                raise InvalidInput(
                    f"a study goes on with the {name} it was made with; that of {folder} is "
                    "another: name another folder with --study"
                )
        study = Study(search, kept)
        study.recover()
        yield study


@contextmanager
def _storage(path: Path) -> Iterator[RDBStorage]:
    try:
        # Not by an address with the path in it, where ?, % and { would not be of the name.
        connect = partial(sqlite3.connect, path, check_same_thread=False)
        storage = RDBStorage("sqlite://", {"creator": connect, "poolclass": QueuePool})
        event.listen(storage.engine, "connect", _write_ahead)
        storage.remove_session()
        storage.engine.dispose()  # the connection made before
    except SQLAlchemyError as error:
        raise DataError(f"{path}: not a study that tune made") from error
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _write_ahead(connection: Any, _: object) -> None:
    """Commit without waiting for the disk: a killed process loses nothing by it."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _sampler(search: Search, *, place: int) -> BaseSampler:
    """A sampler for one draw, seeded by the seed of the search and the place of the trial."""
    seed = int(np.random.SeedSequence((search.seed, place)).generate_state(1)[0])
    if search.sampler == "tpe":
        return TPESampler(seed=seed)
    if search.sampler == "gp":
        return GaussianProcessSampler(search.space.fields, seed=seed)
    return RandomSampler(seed=seed)  # the cells of a grid wait in the queue


def _pruner(search: Search) -> BasePruner:
    if search.pruner == "median":
        return MedianPruner()
    if search.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=search.epochs)
    return NopPruner()
