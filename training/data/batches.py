"""Batches of rows of similar length, in a seeded order."""

import ctypes
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from app.text.padding import Int32Array, pad_rows
from app.text.vocabulary import FIRST_WORD, UNKNOWN
from training.data.shards import InMemoryShard, Shard
from training.support.arrays import Float32Array, Int64Array

Batch = tuple[Int32Array, Float32Array, Float32Array]
"""`ids` int32 (batch, length), padded to the longest row of the batch, `targets` float32 (batch,
classes), `weights` float32 (batch,)."""
_PREFETCHED: Final = 4
_MOST_DOUBLINGS: Final = 3
"""The largest batches have eight times as many rows as the smallest ones."""
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""Options of glibc's `mallopt`, as `malloc.h` numbers them."""
_KEPT_BYTES: Final = 2**30
_LARGEST_FROM_HEAP: Final = 2**25  # glibc takes no more


class TrainingBatches:
    """The batches of each epoch, shuffled and bucketed by length.

    The order of an epoch depends only on the seed and the epoch, so a resumed training continues in
    the middle of an epoch without reading the earlier batches. Of each row, 8 bytes are in memory.

    Args:
        shard: The training examples.
        batch_size: Rows per batch; the last batch may have fewer.
        batch_tokens: Rows of which `batch_size` have at most half as many ids together are in
            batches twice as large, with a quarter four times, and so on up to eight times: a step
            has a fixed cost. 0 for batches of the same size.
        sort_window: The number of batches whose rows are sorted by length together, in windows
            of the shuffled rows. More batches mean less padding; in every epoch a row still gets
            other neighbours.
        word_dropout: The share of words that become the unknown id, drawn again in each epoch.
        seed: Of the order and the word dropout.

    Attributes:
        signature: The TensorFlow signature of a batch.
    """

    def __init__(
        self,
        shard: Shard | InMemoryShard,
        *,
        batch_size: int,
        batch_tokens: int = 0,
        sort_window: int = 50,
        word_dropout: float = 0.0,
        seed: int,
    ) -> None:
        self._shard, self._sort_window = shard, sort_window
        self._groups = _group_by_length(shard.lengths, batch_size, batch_tokens)
        self._word_dropout, self._seed = word_dropout, seed
        self.signature = (
            tf.TensorSpec([None, None], tf.int32),
            tf.TensorSpec([None, shard.targets.shape[1]], tf.float32),
            tf.TensorSpec([None], tf.float32),
        )

    def __len__(self) -> int:
        return sum(-(-len(rows) // size) for size, rows in self._groups)

    def epoch(self, number: int, *, start: int = 0) -> tf.data.Dataset:
        """Return the batches of an epoch as a data set that prefetches, see `Batch`.

        Args:
            number: The epoch, from 0.
            start: The first batch, to resume an epoch.
        """
        return tf.data.Dataset.from_generator(
            lambda: self._batches(number, start), output_signature=self.signature
        ).prefetch(_PREFETCHED)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        _keep_freed_memory()
        order = self._order(epoch)
        for index in range(start, len(order)):
            chosen = order[index]
            ids = pad_batch(self._shard, chosen)
            if self._word_dropout:
                generator = np.random.default_rng((self._seed, epoch, 1 + index))
                dropped = generator.random(ids.shape) < self._word_dropout
                ids[dropped & (ids >= FIRST_WORD)] = UNKNOWN
            yield ids, self._shard.targets[chosen], self._shard.weights[chosen]

    def _order(self, epoch: int) -> list[Int64Array]:
        """Return the rows of each batch."""
        generator = np.random.default_rng((self._seed, epoch, 0))
        batches = []
        for size, rows in self._groups:
            for window in _slices(generator.permutation(rows), size * self._sort_window):
                by_length = window[np.argsort(self._shard.lengths[window], kind="stable")]
                batches += _slices(by_length, size)
        return [batches[i] for i in generator.permutation(len(batches))]


def _group_by_length(
    lengths: Int32Array, batch_size: int, batch_tokens: int
) -> list[tuple[int, Int64Array]]:
    """Return sizes of batches, and the rows that are in batches of each size."""
    sizes = np.full(len(lengths), batch_size)
    if batch_tokens:
        room = batch_tokens / (batch_size * np.maximum(lengths, 1))
        doublings = np.clip(np.floor(np.log2(room)), 0, _MOST_DOUBLINGS)
        sizes <<= doublings.astype(np.int64)
    return [(int(size), np.flatnonzero(sizes == size)) for size in np.unique(sizes)]


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
    """Every row once, sorted by length, in batches; see `Batch`.

    Attributes:
        order: The rows in the order of the batches, int64 (rows,).
    """

    def __init__(self, shard: Shard | InMemoryShard, *, batch_size: int = 256) -> None:
        super().__init__()
        self._shard = shard
        self.order = np.argsort(shard.lengths, kind="stable")
        self._batches = _slices(self.order, batch_size)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:
        chosen = self._batches[index]
        return (
            pad_batch(self._shard, chosen),
            self._shard.targets[chosen],
            self._shard.weights[chosen],
        )


def batches_by_length(rows: Sequence[Int32Array], size: int) -> list[list[int]]:
    """Return the rows of each batch, at most `size` of them; the shortest rows come first."""
    return _slices(sorted(range(len(rows)), key=lambda i: len(rows[i])), size)


def pad_batch(rows: Sequence[Int32Array], chosen: Iterable[int]) -> Int32Array:
    """Return the chosen rows padded to the longest of them, int32 (chosen, length)."""
    picked = [rows[i] for i in chosen]
    return pad_rows(picked, width=max(map(len, picked)))


def pad_with_lengths(
    rows: Sequence[Int32Array], chosen: Sequence[int]
) -> tuple[Int32Array, Int32Array]:
    """Return the chosen rows as `pad_batch` does, and their lengths, int32 (chosen,)."""
    return pad_batch(rows, chosen), np.array([len(rows[i]) for i in chosen], np.int32)


def _slices(order: Any, size: int) -> list[Any]:
    return [order[start : start + size] for start in range(0, len(order), size)]
