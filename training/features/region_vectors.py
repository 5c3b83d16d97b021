"""Vectors of regions of a text, learned without labels: what stands around them follows from them.

A region is a few words in a row. Its vector comes from the sum of a vector for each of its words,
and is learned so that the words before and behind the region can be told from it, with function
words left out: those stand everywhere. Where vectors of n-grams know the texts that something
stands in, these know its surroundings.

Source:
    Johnson and Zhang, "Semi-supervised Convolutional Neural Networks for Text Categorization via
    Region Embedding" (2015): two views, rectified and normalised regions. Learned with negatives
    as in word2vec (Mikolov et al. 2013), where the paper has squares.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

from app.text.padding import Int32Array
from app.text.vocabulary import FIRST_WORD
from training.features.sampling import next_number, table_of_negatives
from training.support.arrays import Float32Array
from training.support.cache import DiskCache
from training.support.progress import track

REGION: Final = 5
"""Words of a region, and of what is told to either side of it."""


_FUNCTION_WORDS: Final = 100
"""Of the most frequent words so many are not told."""


_WIDTH: Final = 128


_EPOCHS: Final = 4


_NEGATIVES: Final = 8


_RATE: Final = 0.05


_LEAST_RATE: Final = 1e-4


_BIAS_RATE: Final = 0.1
"""Of the other rate: the bias learns at every region, a word's vector where it stands."""


_FIRST: Final = 0.1
"""Size of the first numbers."""


_TABLE: Final = 2**22


@dataclass(frozen=True, slots=True)
class RegionVectors:
    """What is known of regions before any label.

    The vector of a region is `relu(bias + sum of words)`, over the root of 1 and its squares.

    Attributes:
        words: float32 (vocabulary, width); 0 for special ids.
        bias: float32 (width,).
    """

    words: Float32Array
    bias: Float32Array


def know_regions(
    whole: Callable[[], Sequence[Int32Array]], *, vocabulary: int, seed: int, cache: DiskCache
) -> RegionVectors:
    """Vectors of regions, as every recipe has them, learned once.

    Args:
        whole: The ids of all texts, not cut.
        vocabulary: Ids there are.
        seed: See `learn_region_vectors`.
        cache: Where they are kept.
    """

    def learn() -> dict[str, NDArray[Any]]:
        learned = learn_region_vectors(
            whole(), vocabulary=vocabulary, width=_WIDTH, epochs=_EPOCHS, seed=seed
        )
        return {"words": learned.words, "bias": learned.bias}

    return RegionVectors(**cache.arrays("region_vectors.npz", learn))


def learn_region_vectors(
    texts: Sequence[Int32Array],
    *,
    vocabulary: int,
    width: int,
    epochs: int,
    seed: int,
    function_words: int = _FUNCTION_WORDS,
) -> RegionVectors:
    """Learn what the vector of a region is made of.

    Args:
        texts: The ids of each text, labelled or not.
        vocabulary: Ids there are.
        width: Of a vector.
        epochs: How often every text is read.
        seed: Of the first vectors, the order and the negatives. One thread does all, so that it
            decides the vectors.
        function_words: Of the most frequent words so many are not told.
    """
    counts = np.bincount(np.concatenate(texts), minlength=vocabulary)
    counts[:FIRST_WORD] = 0
    counts[np.argsort(-counts, kind="stable")[:function_words]] = 0
    random = np.random.default_rng(seed)
    words = (_FIRST * random.standard_normal((vocabulary, width))).astype(np.float32)
    words[:FIRST_WORD] = 0
    bias = np.zeros(width, np.float32)
    if not counts.any():
        return RegionVectors(words, bias)
    around = np.zeros((vocabulary, width), np.float32)
    negatives = table_of_negatives(counts, most=_TABLE)
    ends = np.cumsum([0, *map(len, texts)])
    together = np.concatenate(texts)
    state = np.array([seed * 2 + 1], np.uint64)
    for epoch in track(range(epochs), "Learning region vectors"):
        order = random.permutation(len(texts))
        _read_all(
            *(together, ends, order, words, bias, around, counts > 0, negatives, state),
            *(np.float32(epoch / epochs), np.float32((epoch + 1) / epochs)),
        )
    return RegionVectors(words, bias)


@numba.njit(fastmath=True)
def _read_all(
    together: Any,
    ends: Any,
    order: Any,
    words: Any,
    bias: Any,
    around: Any,
    told: Any,
    negatives: Any,
    state: Any,
    begin: Any,
    end: Any,
) -> None:
    """One epoch of stochastic gradient descent; the rate falls from `begin` to `end` of the way."""
    width = words.shape[1]
    region, step = np.empty(width, np.float32), np.empty(width, np.float32)
    for number in range(len(order)):
        done = begin + (end - begin) * np.float32(number) / np.float32(len(order))
        rate = np.float32(_RATE) * (np.float32(1) - done) + np.float32(_LEAST_RATE)
        start, stop = ends[order[number]], ends[order[number] + 1]
        for first in range(start, stop):
            behind = min(first + REGION, stop)
            over = _sum_region(together, first, behind, words, bias, region)
            step[:] = 0
            found = 0
            for k in range(max(start, first - REGION), min(stop, behind + REGION)):
                if (k < first or k >= behind) and told[together[k]]:
                    _tell(around[together[k]], region, step, np.float32(1), rate)
                    found += 1
            if not found:
                continue
            for _ in range(_NEGATIVES):
                state[0] = next_number(state[0])
                chosen = negatives[(state[0] >> np.uint64(32)) % np.uint64(len(negatives))]
                _tell(around[chosen], region, step, np.float32(0), rate)
            along = np.float32(0)
            for j in range(width):
                along += step[j] * region[j]
            for j in range(width):
                # Back through the norm and the rectifier.
                step[j] = (step[j] - along * region[j]) * over if region[j] > 0 else np.float32(0)
                bias[j] += np.float32(_BIAS_RATE) * step[j]
            for k in range(first, behind):
                if together[k] >= FIRST_WORD:
                    vector = words[together[k]]
                    for j in range(width):
                        vector[j] += step[j]


@numba.njit(fastmath=True)
def _sum_region(together: Any, first: Any, behind: Any, words: Any, bias: Any, region: Any) -> Any:
    """Fill in the vector of a region; what it was divided by, as a factor."""
    region[:] = bias
    for k in range(first, behind):
        vector = words[together[k]]
        for j in range(len(region)):
            region[j] += vector[j]
    square = np.float32(1)
    for j in range(len(region)):
        region[j] = max(region[j], np.float32(0))
        square += region[j] * region[j]
    over = np.float32(1) / np.sqrt(square)
    for j in range(len(region)):
        region[j] *= over
    return over


@numba.njit(fastmath=True)
def _tell(vector: Any, region: Any, step: Any, wanted: Any, rate: Any) -> None:
    """Learn whether a word stands around a region; what the region learns is added to `step`."""
    product = np.float32(0)
    for j in range(len(region)):
        product += vector[j] * region[j]
    gain = (wanted - np.float32(1) / (np.float32(1) + np.exp(-product))) * rate
    for j in range(len(region)):
        step[j] += gain * vector[j]
        vector[j] += gain * region[j]
