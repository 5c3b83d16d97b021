"""Rows of ids into batches of like length, in a seeded order."""

import ctypes
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.text.padding import Int32Array, pad_rows
from app.text.vocabulary import FIRST_WORD, UNKNOWN
from training.data.shards import Rows, Shard
from training.support.arrays import Float32Array

Batch = tuple[Int32Array, Float32Array, Float32Array]


_PREFETCHED: Final = 4


_TRIM_THRESHOLD: Final = -1


_MMAP_THRESHOLD: Final = -3
"""Options of glibc's `mallopt`, as `malloc.h` numbers them."""


_KEPT_BYTES: Final = 2**30


_LARGEST_FROM_HEAP: Final = 2**25  # glibc takes no more


class TrainingBatches:
    """A shard in another order each epoch; an epoch depends on the seed and its number alone.

    Sorting `sorted_together` batches by length keeps padding low, and still gives a text other
    neighbours in every epoch.

    So a training that was stopped goes on in the middle of an epoch without reading what it has
    seen. Of the rows, an order of 8 bytes each is in memory.

    Attributes:
        signature: Of a batch, for TensorFlow.
    """

    def __init__(
        self,
        shard: Shard | Rows,
        *,
        batch_size: int,
        sorted_together: int = 50,
        word_dropout: float = 0.0,
        seed: int,
    ) -> None:
        self._shard, self._batch_size = shard, batch_size
        self._window = batch_size * sorted_together
        self._word_dropout, self._seed = word_dropout, seed
        self.signature = (
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, shard.targets.shape[1]], tf.float32),
            tf.TensorSpec([None], tf.float32),
        )

    def __len__(self) -> int:
        return -(-len(self._shard) // self._batch_size)

    def epoch(self, number: int, *, start: int = 0) -> tf.data.Dataset:
        """The batches of an epoch from the one at `start`, made ahead while others are used.

        Yields:
            `ids` int32 (batch, width) as wide as the batch's longest row, `targets` float32
            (batch, classes), `weights` float32 (batch,).
        """
        return tf.data.Dataset.from_generator(
            lambda: self._batches(number, start), output_signature=self.signature
        ).prefetch(_PREFETCHED)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        _keep_freed_memory()
        order = self._order(epoch)
        for index in range(start, len(order)):
            chosen = order[index]
            ids = rectangle(self._shard, chosen)
            if self._word_dropout:
                generator = np.random.default_rng((self._seed, epoch, 1 + index))
                dropped = generator.random(ids.shape) < self._word_dropout
                ids[dropped & (ids >= FIRST_WORD)] = UNKNOWN
            yield ids, self._shard.targets[chosen], self._shard.weights[chosen]

    def _order(self, epoch: int) -> list[NDArray[np.int64]]:
        """The rows of each batch."""
        generator = np.random.default_rng((self._seed, epoch, 0))
        order = generator.permutation(len(self._shard))
        batches = []
        for window in _slices(order, self._window):
            alike = window[np.argsort(self._shard.lengths[window], kind="stable")]
            batches += _slices(alike, self._batch_size)
        return [batches[i] for i in generator.permutation(len(batches))]


def _keep_freed_memory() -> None:
    """Undo what TensorFlow does to the C library when it first reads from a generator.

    It has freed memory given back to the system at once, against a leak. Every step then gets each
    of its tensors from the system anew, page by page, which takes a third of the time of all.
    """
    if sys.platform == "linux":
        with suppress(AttributeError, OSError):  # not every C library has the function
            set_option = ctypes.CDLL(None).mallopt
            set_option(_TRIM_THRESHOLD, _KEPT_BYTES)
            set_option(_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)


class ScoringBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Each row once, sorted by length; `order` tells which row stands where.

    Yields:
        See `TrainingBatches.epoch`.
    """

    def __init__(self, shard: Shard, *, batch_size: int = 256) -> None:
        super().__init__()
        self._shard = shard
        self.order = np.argsort(shard.lengths, kind="stable")
        self._batches = _slices(self.order, batch_size)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:
        chosen = self._batches[index]
        return (
            rectangle(self._shard, chosen),
            self._shard.targets[chosen],
            self._shard.weights[chosen],
        )


def part_by_length(rows: Sequence[Int32Array], size: int) -> list[list[int]]:
    """Which rows stand in each batch of `size` or fewer, the shortest first."""
    return _slices(sorted(range(len(rows)), key=lambda i: len(rows[i])), size)


def lay_out(rows: Sequence[Int32Array], chosen: Sequence[int]) -> tuple[Int32Array, Int32Array]:
    """`rectangle` of the chosen rows, and their lengths, int32 (chosen,)."""
    return rectangle(rows, chosen), np.array([len(rows[i]) for i in chosen], np.int32)


def rectangle(rows: Sequence[Int32Array], chosen: Iterable[int]) -> Int32Array:
    """The chosen rows, padded to the longest of them: int32 (chosen, width)."""
    picked = [rows[i] for i in chosen]
    return pad_rows(picked, width=max(map(len, picked)))


def _slices(order: Any, size: int) -> list[Any]:
    return [order[start : start + size] for start in range(0, len(order), size)]
