"""The lookup of n-grams in a table, for Keras and TensorFlow, and for ONNX.

Every n-gram is hashed to a bucket (`training.features.ngram_hashing`). `NgramLogits` reads a row
of logits per bucket, `NgramEmbeddings` a vector; both find their buckets here.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from app.text.padding import Int32Array
from app.text.vocabulary import FIRST_WORD, PAD
from training.features.ngram_hashing import PAD_HASH, hash_ids
from training.models.onnx_writer import FLOAT, GraphWriter, integers

# --- Keras and TensorFlow graph ---


def find_buckets(ids: Any, hashes: Int32Array, *, buckets: int, time_axis: int = 1) -> Any:
    """The bucket of each n-gram, at the position of its last word.

    Special ids are not words, so they have no unigram; they do count inside longer n-grams. Padding
    is in no n-gram.

    Args:
        ids: int32 of two axes, right-padded with `PAD`: an array, or a tensor of Keras' backend.
        hashes: Of `hash_ids`, (orders, vocabulary).
        buckets: Number of hash buckets, a power of two.
        time_axis: The axis along which a text runs.

    Returns:
        int32 (orders, *ids.shape) from 0 to `buckets - 1`: of the unigram, the bigram and so on
        that ends at each position; -1 where there is none.
    """
    earlier, total = ids, ops.take(hashes[0], ids, axis=0)
    sums = [ops.where(ids >= FIRST_WORD, total, PAD_HASH)]
    for distance in range(1, hashes.shape[0]):
        earlier = _shift(earlier, time_axis)
        total = total + ops.take(hashes[distance], earlier, axis=0)
        sums.append(total)
    stacked = ops.stack(sums)
    return ops.where(stacked >= 0, ops.bitwise_and(stacked, buckets - 1), -1)


def sum_ngram_vectors(
    ids: Any, hashes: Int32Array, row_of_bucket: Any, vectors: Any, *, time_axis: int = 1
) -> Any:
    """The sum of the vectors of the n-grams that end at each position.

    Args:
        ids: See `find_buckets`, as are `hashes` and `time_axis`.
        hashes: (orders, vocabulary).
        row_of_bucket: int32 (buckets,): the row of `vectors` for each bucket; 0 for none.
        vectors: (rows, dim) in any precision; row 0 is all zeros.
        time_axis: The axis along which a text runs.

    Returns:
        float32 (*ids.shape, dim).
    """
    cells = find_buckets(ids, hashes, buckets=row_of_bucket.shape[0], time_axis=time_axis)
    rows = ops.where(cells >= 0, ops.take(row_of_bucket, ops.maximum(cells, 0)), 0)
    return ops.sum(ops.cast(ops.take(vectors, rows, axis=0), "float32"), axis=0)


def _shift(ids: Any, time_axis: int) -> Any:
    """The id before each position; `PAD` before the first."""
    padding = [(int(axis == time_axis), 0) for axis in range(2)]
    shifted = ops.pad(ids, padding, constant_values=PAD)
    return shifted[:-1] if time_axis == 0 else shifted[:, :-1]


# --- ONNX ---


def add_ngram_rows(
    graph: GraphWriter,
    ids: str,
    hashes: Int32Array,
    table: NDArray[Any],
    *,
    buckets: int,
    row_of_bucket: Int32Array | None = None,
    time_axis: int,
) -> list[tuple[str, str]]:
    """The row of `table` of the n-gram of each order that ends at each position.

    Unigrams need no hashing: their rows are laid out as a table by id.

    Args:
        graph: Receives the nodes.
        ids: int32 of two axes, right-padded with `PAD`.
        hashes: Of `hash_ids`, for the table's number of buckets.
        table: float (rows, columns); stored in half precision.
        buckets: Number of hash buckets, a power of two.
        row_of_bucket: The row of each bucket; without it, row i belongs to bucket i.
        time_axis: The axis along which a text runs.

    Returns:
        For each order float32 (*ids.shape, columns), 0 where no n-gram ends, and bool (*ids.shape),
        whether one does.
    """
    of_unigrams = hashes[0] & (buckets - 1)
    if row_of_bucket is not None:
        of_unigrams = row_of_bucket[of_unigrams]
        row_of_bucket = np.append(row_of_bucket, np.int32(len(table)))
    unigrams = table[of_unigrams].astype(np.float16)
    unigrams[:FIRST_WORD] = 0
    with_zeros = np.pad(table, [(0, 1), (0, 0)]).astype(np.float16)  # the last row is for no n-gram
    is_word = graph.add("GreaterOrEqual", ids, np.array(FIRST_WORD, np.int32))
    found = [(graph.add("Gather", unigrams, ids), is_word)]
    for total in _add_sums(graph, ids, hashes.shape, time_axis=time_axis):
        exists = graph.add("GreaterOrEqual", total, np.array(0, np.int32))
        cells = graph.add("BitwiseAnd", total, np.array(buckets - 1, np.int32))
        cells = graph.add("Where", exists, cells, np.array(buckets, np.int32))
        if row_of_bucket is not None:
            cells = graph.add("Gather", row_of_bucket, cells)
        found.append((graph.add("Gather", with_zeros, cells), exists))
    return [(graph.add("Cast", row, to=FLOAT), exists) for row, exists in found]


def _add_sums(
    graph: GraphWriter, ids: str, shape: tuple[int, ...], *, time_axis: int
) -> Iterator[str]:
    """The sum of the hashes of each bigram, each trigram and so on, not yet cut to buckets.

    The hashes are those of the largest table, so that tables of every size share these nodes: a
    hash for fewer buckets is the low bits of one for more. Nodes are added as the caller asks for
    each sum.
    """
    orders, vocabulary = shape
    # All hashes of an id lie in one row, as the lookup is what takes the time.
    hashes = graph.add("Gather", hash_ids(vocabulary).T, ids)
    hashes = graph.add("Transpose", hashes, perm=[2, 0, 1])
    total = graph.add("Squeeze", graph.add("Gather", hashes, integers(0), axis=0), integers(0))
    for distance in range(1, orders):
        earlier = graph.add("Gather", hashes, integers(distance), axis=0)
        earlier = graph.add("Squeeze", earlier, integers(0))
        in_front = integers(*(distance * int(axis == time_axis) for axis in range(2)), 0, 0)
        earlier = graph.add("Pad", earlier, in_front, np.array(PAD_HASH, np.int32))
        earlier = graph.add("Slice", earlier, integers(0), integers(-distance), integers(time_axis))
        total = graph.add("Add", total, earlier)
        yield total
