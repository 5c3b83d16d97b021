"""Scoring on this machine: one process per core, each with a model of its own.

One Python process encodes texts on one core only, so processes share the work and threads do not,
where the engine is ONNX Runtime. TensorFlow uses all cores, or a GPU, from one process.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from concurrent.futures import ThreadPoolExecutor as Threads
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Final

import numpy as np

from app.errors import MissingLibrary, UnusableVersion, ValenceError
from app.scoring.verdicts import Pending, Scores
from app.serving.engines import LoadEngine, infer
from app.serving.repository import LoadedVersion, load_version
from app.text.padding import Int32Array

_CHUNK_TEXTS: Final = 1024
"""Sorted by length, so many leave 1.3 % of padding in batches of 16; 256 would leave 5 %."""
_PIECES: Final = 4
"""Of a chunk, each for one process. Smaller ones share the end of a table, but sort worse."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a process gets its model. It travels to other processes.

    Attributes:
        folders: Version folders; the first that passes its checks is used.
        load: Loads the engine of a version folder.
        max_items: The most texts of one model run.
        max_tokens: The most tokens of one model run, padding included.
    """

    folders: tuple[Path, ...]
    load: LoadEngine
    max_items: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """The version that a process has chosen.

    Attributes:
        folder: The version folder.
        digest: Of its manifest.
        labels: Of the model.
    """

    folder: Path
    digest: str
    labels: tuple[str, ...]

    @property
    def version(self) -> str:
        """Its name, such as `lstm/2`."""
        return f"{self.folder.parent.name}/{self.folder.name}"


class Model:
    """A version in this process."""

    def __init__(self, folder: Path, loaded: LoadedVersion, recipe: Recipe) -> None:
        self.chosen = Chosen(folder, loaded.digest, tuple(loaded.manifest.labels))
        self._encode = loaded.encoder.encode
        self._covers = loaded.manifest.reliability.covers
        self._engine = loaded.engine
        self._recipe = recipe

    def score(self, texts: Sequence[str]) -> Scores:
        """Score texts, those of like length together; a text that fails does so alone.

        A text that the version cannot judge gets even odds, as in the service.
        """
        encoded = [self._encode(text) for text in texts]
        rows = [each.ids for each in encoded]
        labels = len(self.chosen.labels)
        scores = Scores(np.full((len(rows), labels), 1 / labels))
        judged = [at for at, e in enumerate(encoded) if self._covers(e.known, e.read)]
        scores.probabilities[judged] = np.nan
        for batch in self._batches(rows, judged):
            try:
                self._run(rows, batch, scores)
            except Exception:  # noqa: BLE001 one text may be to blame
                for index in batch:
                    try:
                        self._run(rows, [index], scores)
                    except Exception:  # noqa: BLE001 the others are scored nevertheless
                        scores.errors[index] = "the model failed on this text"
        return scores

    def _run(self, rows: Sequence[Int32Array], batch: Sequence[int], scores: Scores) -> None:
        labels = len(self.chosen.labels)
        batch_rows = [rows[index] for index in batch]
        scores.probabilities[batch] = infer(self._engine, batch_rows, labels=labels)

    def _batches(self, rows: Sequence[Int32Array], positions: Sequence[int]) -> Iterator[list[int]]:
        """Yield positions of rows, in batches within the limits, the longest rows first."""
        lengths = [len(row) for row in rows]
        batch: list[int] = []
        for index in sorted(positions, key=lengths.__getitem__, reverse=True):
            full = len(batch) == self._recipe.max_items
            if batch and (full or (len(batch) + 1) * lengths[batch[0]] > self._recipe.max_tokens):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch


class LocalScorer:
    """Scores in this process, or in several; see `Scorer`.

    A chunk is divided into pieces of texts of like length, and each is scored by one process.

    Args:
        recipe: How each process gets its model.
        processes: With one, models run in threads of this process.
        threads: Model runs at once in each process.

    Raises:
        UnusableVersion: No version passes its checks.
    """

    def __init__(self, recipe: Recipe, *, processes: int, threads: int) -> None:
        self.chunk_texts = _CHUNK_TEXTS
        workers = processes if processes > 1 else threads
        self.depth = max(2, -(-2 * workers // _PIECES))
        self._executor: Executor
        if processes == 1:
            model = load_first(recipe)
            self._executor = Threads(threads, "score")
            self._score = model.score
            chosen = model.chosen
        else:
            self._executor = ProcessPoolExecutor(processes, _context(), _begin, (recipe,))
            try:
                with _without_interrupts():  # until `_begin`, a fork would answer them as this does
                    # One for each process, so that all of them load at once.
                    choices = [self._executor.submit(_choose) for _ in range(processes)]
                chosen = choices[0].result()
            except BrokenExecutor as error:
                self.close()
                raise ValenceError(_ENDED) from error
            except BaseException:
                self.close()
                raise
            self._score = partial(_score, chosen)
        self.labels = chosen.labels
        self.version = chosen.version
        self.identity = f"{self.version} {chosen.digest}"

    def submit(self, texts: Sequence[str]) -> Pending:
        """Start to score texts; see `Scorer`."""
        order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
        size = max(1, -(-len(texts) // _PIECES))
        pieces = [order[at : at + size] for at in range(0, len(texts), size)]
        try:
            scores = [self._executor.submit(self._score, [texts[at] for at in p]) for p in pieces]
        except BrokenExecutor as error:
            raise ValenceError(_ENDED) from error
        return _Scored((len(texts), len(self.labels)), [*zip(pieces, scores, strict=True)])

    def close(self) -> None:
        """Stop; see `Scorer`."""
        self._executor.shutdown(wait=True, cancel_futures=True)


class _Scored:
    """The scores of a chunk; see `Pending`.

    Args:
        shape: The number of texts, and of labels.
        pieces: The positions of the texts of each piece, and their scores.
    """

    def __init__(
        self, shape: tuple[int, int], pieces: Sequence[tuple[list[int], Future[Scores]]]
    ) -> None:
        self._shape, self._pieces = shape, pieces

    def done(self) -> bool:
        """Whether all are."""
        return all(future.done() for _, future in self._pieces)

    def result(self) -> Scores:
        """The scores, in the order of the texts."""
        joined = Scores(np.full(self._shape, np.nan))
        for piece, future in self._pieces:
            try:
                scores = future.result()
            except BrokenExecutor as error:
                raise ValenceError(_ENDED) from error
            joined.probabilities[piece] = scores.probabilities
            joined.errors |= {piece[at]: error for at, error in scores.errors.items()}
        return joined

    def cancel(self) -> None:
        """Drop the pieces that no process has."""
        for _, future in self._pieces:
            future.cancel()


_ENDED: Final = (
    "a process that scores has ended unexpectedly; perhaps the memory is short: --workers 1 needs "
    "the least"
)


def _context() -> BaseContext:
    """How processes start: by a fork, which needs no second import of all that is here.

    Not where there are threads, whose locks a fork would take over without them. Threads of NumPy
    are none of Python's, and survive a fork; those of PyArrow do not.
    """
    forks = sys.platform == "linux" and threading.active_count() == 1
    return multiprocessing.get_context(
        "fork" if forks and "pyarrow" not in sys.modules else "spawn"
    )


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let Ctrl+C wait. Processes that start meanwhile ignore it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def load_first(recipe: Recipe) -> Model:
    """Load the first version that passes its checks.

    Raises:
        UnusableVersion: None does.
    """
    reasons = []
    for folder in recipe.folders:
        try:
            return Model(folder, load_version(folder, recipe.load), recipe)
        except (UnusableVersion, MissingLibrary) as error:
            reasons.append(f"{folder.parent.name}/{folder.name}: {error}")
    raise UnusableVersion("; ".join(reasons))


def require_same(own: Chosen, chosen: Chosen) -> None:
    """Check that a process has chosen what the first one has.

    Raises:
        UnusableVersion: It has not.
    """
    if own != chosen:
        raise UnusableVersion(
            "all processes must load the same version. Received: files that changed meanwhile"
        )


# --- in the other processes

_recipe: Recipe | None = None
_model: Model | None = None


def _begin(recipe: Recipe) -> None:
    """Prepare a process: Ctrl+C is the parent's, and without a parent there is no work."""
    global _recipe
    _recipe = recipe
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _choose() -> Chosen:
    return _own_model().chosen


def _score(chosen: Chosen, texts: Sequence[str]) -> Scores:
    model = _own_model()
    require_same(model.chosen, chosen)
    return model.score(texts)


def _own_model() -> Model:
    global _model
    if _model is None:
        if _recipe is None:
            raise RuntimeError("the process was not prepared")
        _model = load_first(_recipe)
    return _model
