"""Hash n-grams of ids to buckets of a table.

An n-gram is one, two or more ids in a row. There are far more n-grams than a table can have rows,
so each is hashed to a bucket. Every id has a random number for each position in an n-gram; the sum
of these numbers, cut to the number of buckets, is the bucket. Sums need no multiplication and fit
into 32 bits, so NumPy, Keras on any backend, TensorFlow and ONNX find the same bucket.

A hash for fewer buckets is the low bits of a hash for more, so a table can be made smaller without
hashing again.

Here is the hashing of one text in NumPy; `training.models.layers.ngram_lookup` has the same for
batches, in Keras, TensorFlow and ONNX.

Source:
    Patrascu and Thorup, "The Power of Simple Tabulation Hashing" (2011), with sums instead of
    exclusive or.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.text.padding import Int32Array
from app.text.vocabulary import FIRST_WORD, PAD
from training.support.arrays import Float32Array

MAX_ORDER: Final = 3
"""Words of the longest n-gram that is hashed."""

MAX_BUCKETS: Final = 2**24
"""So many that hardly any two n-grams of a corpus share one."""

PAD_HASH: Final = -(2**28)
"""The hash of padding: any sum with it is negative, which marks "no n-gram"."""


def hash_ids(vocabulary: int, *, orders: int = MAX_ORDER, buckets: int = MAX_BUCKETS) -> Int32Array:
    """A random number for each id at each position of an n-gram, counted from its last word.

    An id has the same numbers in every vocabulary. They come from splitmix64 rather than from
    NumPy, so that a trained table keeps its meaning whatever NumPy's generators do.

    Args:
        vocabulary: Number of ids, special ids included.
        orders: Words of the longest n-gram.
        buckets: Number of hash buckets, a power of two.

    Returns:
        int32 (orders, vocabulary), from 0 to `buckets - 1`; `PAD_HASH` for `PAD`.

    Source:
        Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014), figure 17.
    """
    positions, ids = np.arange(orders, dtype=np.uint64), np.arange(vocabulary, dtype=np.uint64)
    z = (positions[:, np.newaxis] << np.uint64(32)) + ids + np.uint64(1)
    z *= np.uint64(0x9E3779B97F4A7C15)  # modulo 2**64, as unsigned products are in NumPy
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    hashes = ((z ^ (z >> np.uint64(31))) & np.uint64(buckets - 1)).astype(np.int32)
    hashes[:, PAD] = PAD_HASH
    return hashes


def list_buckets(ids: Int32Array, hashes: Int32Array, *, buckets: int) -> Int32Array:
    """The bucket of each n-gram of one text: int32 (n-grams,).

    Special ids are not words, so they have no unigram; they do count inside longer n-grams.

    Args:
        ids: int32 (length,), without padding.
        hashes: Of `hash_ids`.
        buckets: Number of hash buckets, a power of two.
    """
    sums = [hashes[0, ids[ids >= FIRST_WORD]]]
    for order in range(2, min(hashes.shape[0], len(ids)) + 1):
        positions = range(order)
        sums.append(sum(hashes[i, ids[order - 1 - i : len(ids) - i]] for i in positions))
    found: Int32Array = np.concatenate(sums) & np.int32(buckets - 1)
    return found


def log_count_ratio(texts_with: NDArray[Any], texts: NDArray[Any]) -> Float32Array:
    """How much likelier an n-gram is in a text of each class than in the others, as a logarithm.

    Counts are smoothed by one more text of each class that contains the n-gram.

    Args:
        texts_with: (n-grams, classes): how many texts of each class contain each n-gram.
        texts: (classes,): how many texts each class has.

    Returns:
        float32 (n-grams, classes).

    Source:
        Wang and Manning, "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification"
        (2012).
    """
    others_with = texts_with.sum(axis=1, keepdims=True) - texts_with
    inside, outside = (1 + texts_with) / (1 + texts), (1 + others_with) / (1 + texts.sum() - texts)
    ratio: Float32Array = (np.log(inside) - np.log(outside)).astype(np.float32)
    return ratio
