"""Which two words are known together: the rows of a small table, found without a search.

A pair of ids has a number, its key; the low bits of the key name a row of the table. The row holds
the key of the one pair that is known there, so that another pair is not taken for it. Keys are sums
and products of 32 bits, which wrap around in the same way in NumPy, TensorFlow and ONNX.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.text.padding import Int32Array
from training.features.ngram_hashing import hash_ids
from training.features.ngram_vectors import NgramVectors
from training.support.arrays import Float32Array, Int64Array

KEY_FACTOR: Final = np.int32(-1640531535)
"""2^32 divided by the golden ratio, to the nearest odd number: it spreads consecutive ids."""


@dataclass(frozen=True, slots=True)
class BigramVectors:
    """The vectors of pairs of words, each in the row that its key names.

    Attributes:
        keys: int32 (rows,): the key of the pair in each row; in an empty one, that of no pair.
        vectors: float32 (rows, ngram_vector_dim), 0 in empty rows.
    """

    keys: Int32Array
    vectors: Float32Array


def bigram_keys(earlier: Any, ids: Any) -> Any:
    """The keys of pairs: int32, of the shape of both.

    Args:
        earlier: int32, the id before each position: an array or a tensor of Keras' backend.
        ids: int32, the id at each position.
    """
    return earlier * KEY_FACTOR + ids


def empty_keys(rows: int) -> Int32Array:
    """Keys for a table of empty rows, a power of two: each would be in another row."""
    return np.arange(rows, dtype=np.int32) ^ np.int32(1)


def keep_telling(
    vectors: NgramVectors,
    texts: Iterable[Int32Array],
    logits: Float32Array | None,
    *,
    vocabulary: int,
    rows: int,
) -> BigramVectors:
    """Fill a table with the pairs that say most, at most one in each row.

    Those say most whose logits differ most between classes, times the root of how frequent they
    are; without logits, the most frequent ones. Half of the most frequent pairs are as "of the".

    Args:
        vectors: Of all n-grams.
        texts: The ids of each text, to count pairs in.
        logits: What a linear model adds to each class for the n-grams of each hash bucket,
            float32 (buckets, classes).
        vocabulary: Number of ids, special ids included.
        rows: Of the table, a power of two, at least 2.
    """
    pairs, counts = np.unique(
        np.concatenate([_number_pairs(ids, vocabulary) for ids in texts]), return_counts=True
    )
    earlier, ids = np.divmod(pairs, vocabulary)
    hashes = hash_ids(vocabulary)
    hashed = hashes[0, ids] + hashes[1, earlier]
    of_pair = vectors.row_of_bucket[hashed & (len(vectors.row_of_bucket) - 1)]
    weights = np.sqrt(counts) * (1.0 if logits is None else _spread(logits, hashed))
    order = np.argsort(-weights, kind="stable")
    order = order[of_pair[order] >= 0]
    keys = bigram_keys(earlier[order].astype(np.int32), ids[order].astype(np.int32))
    cells, first = np.unique(keys & (rows - 1), return_index=True)  # the most telling of each row
    table = BigramVectors(empty_keys(rows), np.zeros((rows, vectors.vectors.shape[1]), np.float32))
    table.keys[cells] = keys[first]
    table.vectors[cells] = vectors.vectors[of_pair[order[first]]]
    return table


def _number_pairs(ids: Int32Array, vocabulary: int) -> Int64Array:
    """A number for each pair of neighbouring ids."""
    wide = ids.astype(np.int64)
    return wide[:-1] * vocabulary + wide[1:]


def _spread(logits: Float32Array, hashed: NDArray[np.integer]) -> Float32Array:
    of_bucket = np.ptp(logits, axis=1)
    spread: Float32Array = of_bucket[hashed & (len(of_bucket) - 1)]
    return spread
