"""N-grams beside any architecture: rows of one table, gathered and summed, from ids alone.

A word's id stands for the word; two or three ids in a row stand for an n-gram. Each n-gram has a
row of a table that is far smaller than all n-grams there could be: every id has a random number for
each place it can take in an n-gram, and their sum, cut to the table's size, is the row. Sums of
such numbers fall as evenly as chance, need no multiplication, and fit into 32 bits, so that NumPy,
Keras on any backend, TensorFlow and ONNX find the same row.

**Naive Bayes.** With `weighted`, what is learned is not a row but a factor for it: the row itself
is how much more often the n-gram stands in texts of a class than in all others, counted before
training.

Source:
    Hashing: Patrascu and Thorup, "The Power of Simple Tabulation Hashing" (2011), with sums for
    exclusive or. Weighting: Wang and Manning, "Baselines and Bigrams: Simple, Good Sentiment and
    Topic Classification" (2012).
"""

from typing import Any, Final

import numpy as np
from keras import ops
from numpy.typing import NDArray

from app.text.padding import Int32Array
from app.text.vocabulary import FIRST_WORD, PAD
from training.support.arrays import Float32Array

NEVER: Final = -(2**28)
"""The number of padding: whatever is added to it, the sum stays below 0, and is no n-gram."""


def draw_numbers(vocabulary: int, *, orders: int, buckets: int) -> Int32Array:
    """A number for each id in each place of an n-gram, counted from its last word.

    The numbers of an id are the same for any vocabulary. They are splitmix64's, so that no later
    version of a random number generator changes what a trained table means.

    Returns:
        int32 of shape (orders, vocabulary), from 0 to `buckets - 1`; that of `PAD` is `NEVER`.

    Source:
        Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014), figure 17.
    """
    places, ids = np.arange(orders, dtype=np.uint64), np.arange(vocabulary, dtype=np.uint64)
    z = (places[:, np.newaxis] << np.uint64(32)) + ids + np.uint64(1)
    z *= np.uint64(0x9E3779B97F4A7C15)  # unsigned products are cut to 64 bits, by definition
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    numbers = ((z ^ (z >> np.uint64(31))) & np.uint64(buckets - 1)).astype(np.int32)
    numbers[:, PAD] = NEVER
    return numbers


def find_ngrams(ids: Any, numbers: Int32Array, *, buckets: int, time: int = 1) -> Any:
    """The row of each n-gram, where it ends, on arrays or on tensors of Keras' backend.

    Special ids are no words: they count in n-grams of two and more alone, and padding in none.

    Args:
        ids: int32 of two axes, right-padded with `PAD`.
        numbers: Of `draw_numbers`, for n-grams of up to `orders` words.
        buckets: Rows of the table, a power of two.
        time: Along which axis the ids of a text stand.

    Returns:
        int32 of shape (orders, *ids.shape) from 0 to `buckets - 1`: of the n-grams of one word, of
        two and so on; -1 where none ends.
    """
    before, total = ids, ops.take(numbers[0], ids, axis=0)
    sums = [ops.where(ids >= FIRST_WORD, total, NEVER)]
    for place in range(1, numbers.shape[0]):
        before = _shift(before, time)
        total = total + ops.take(numbers[place], before, axis=0)
        sums.append(total)
    together = ops.stack(sums)
    return ops.where(together >= 0, ops.bitwise_and(together, buckets - 1), -1)


def add_vectors(ids: Any, numbers: Int32Array, place: Any, vectors: Any, *, time: int = 1) -> Any:
    """The sum of the vectors of the n-grams that end at each id.

    Args:
        ids: As `numbers` and `time`, see `find_ngrams`.
        numbers: For n-grams of up to `orders` words.
        place: int32 (buckets,): which row of `vectors` a bucket has; 0 for none.
        vectors: Of any precision, (rows, width); the first row is 0.
        time: An axis.

    Returns:
        float32 (*ids.shape, width).
    """
    cells = find_ngrams(ids, numbers, buckets=place.shape[0], time=time)  # (orders, *ids.shape)
    rows = ops.where(cells >= 0, ops.take(place, ops.maximum(cells, 0)), 0)
    return ops.sum(ops.cast(ops.take(vectors, rows, axis=0), "float32"), axis=0)


def _shift(ids: Any, time: int) -> Any:
    """The id before each; `PAD` before the first."""
    padding = [(int(axis == time), 0) for axis in range(2)]
    shifted = ops.pad(ids, padding, constant_values=PAD)
    return shifted[:-1] if time == 0 else shifted[:, :-1]


def list_ngrams(ids: Int32Array, numbers: Int32Array, *, buckets: int) -> Int32Array:
    """The row of each n-gram of one text, int32 (n-grams,), as `find_ngrams` finds them."""
    sums = [numbers[0, ids[ids >= FIRST_WORD]]]
    for order in range(2, min(numbers.shape[0], len(ids)) + 1):
        behind = range(order)
        sums.append(sum(numbers[i, ids[order - 1 - i : len(ids) - i]] for i in behind))
    found: Int32Array = np.concatenate(sums) & np.int32(buckets - 1)
    return found


def log_ratio(having: NDArray[Any], texts: NDArray[Any]) -> Float32Array:
    """How many times likelier an n-gram is in a text of each class than in any other, as logarithm.

    Args:
        having: How many texts of each class have each n-gram, (n-grams, classes).
        texts: How many texts of each class there are, (classes,).

    Returns:
        float32 (n-grams, classes), with one more text of each kind that has the n-gram.
    """
    others = having.sum(axis=1, keepdims=True) - having
    inside, outside = (1 + having) / (1 + texts), (1 + others) / (1 + texts.sum() - texts)
    ratio: Float32Array = (np.log(inside) - np.log(outside)).astype(np.float32)
    return ratio
