"""Region vectors, learned without labels: a region's vector predicts the words around it.

A region is a few words in a row. Its vector is made from the sum of a vector per word, and is
trained to tell which words stand before and behind the region. The most frequent words are not
predicted, since they stand everywhere. N-gram vectors know the texts that an n-gram appears in;
region vectors know its surroundings.

Source:
    Johnson and Zhang, "Semi-supervised Convolutional Neural Networks for Text Categorization via
    Region Embedding" (2015): two views, rectified and normalised regions. The loss is negative
    sampling as in word2vec (Mikolov et al. 2013) instead of the paper's squared error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

from app.text.padding import Int32Array
from app.text.vocabulary import FIRST_WORD
from training.features.sampling import build_negatives, next_number
from training.support.arrays import Float32Array
from training.support.cache import DiskCache
from training.support.progress import track

REGION: Final = 5
"""Words in a region, and words that are predicted on either side of it."""

_FREQUENT_WORDS: Final = 100
"""So many of the most frequent words are not predicted."""

_DIM: Final = 128
_EPOCHS: Final = 4
_NEGATIVES: Final = 8
_NEGATIVES_TABLE: Final = 2**22
_LEARNING_RATE: Final = 0.05
_MIN_LEARNING_RATE: Final = 1e-4

_BIAS_RATE: Final = 0.1
"""Factor on the learning rate of the bias: every region updates it, a word's vector only some."""

_INITIAL_SCALE: Final = 0.1
"""Standard deviation of the initial word vectors."""


@dataclass(frozen=True, slots=True)
class RegionVectors:
    """What the vector of a region is made of.

    It is `x / sqrt(1 + x @ x)` with `x = relu(bias + the sum of the words' vectors)`.

    Attributes:
        words: float32 (vocabulary, dim); 0 for special ids.
        bias: float32 (dim,).
    """

    words: Float32Array
    bias: Float32Array


def build_region_vectors(
    read_texts: Callable[[], Sequence[Int32Array]], *, vocabulary: int, seed: int, cache: DiskCache
) -> RegionVectors:
    """Learn the region vectors that every recipe uses.

    They are learned once: a training that is resumed reads them from its cache.

    Args:
        read_texts: Returns the ids of all texts, not truncated.
        vocabulary: Number of ids, special ids included.
        seed: See `learn_region_vectors`.
        cache: Where they are kept.
    """

    def learn() -> dict[str, NDArray[Any]]:
        learned = learn_region_vectors(
            read_texts(), vocabulary=vocabulary, dim=_DIM, epochs=_EPOCHS, seed=seed
        )
        return {"words": learned.words, "bias": learned.bias}

    return RegionVectors(**cache.arrays("region_vectors.npz", learn))


def learn_region_vectors(
    texts: Sequence[Int32Array],
    *,
    vocabulary: int,
    dim: int,
    epochs: int,
    seed: int,
    frequent_words: int = _FREQUENT_WORDS,
) -> RegionVectors:
    """Learn word vectors and bias.

    One thread does all the work, so that the seed decides the vectors.

    Args:
        texts: The ids of each text, labelled or not.
        vocabulary: Number of ids, special ids included.
        dim: Size of a vector.
        epochs: Passes over all texts.
        seed: Of the initial vectors, the order of texts and the negatives.
        frequent_words: So many of the most frequent words are not predicted.
    """
    counts = np.bincount(np.concatenate(texts), minlength=vocabulary)
    counts[:FIRST_WORD] = 0
    counts[np.argsort(-counts, kind="stable")[:frequent_words]] = 0
    random = np.random.default_rng(seed)
    words = (_INITIAL_SCALE * random.standard_normal((vocabulary, dim))).astype(np.float32)
    words[:FIRST_WORD] = 0
    bias = np.zeros(dim, np.float32)
    if not counts.any():
        return RegionVectors(words, bias)
    contexts = np.zeros((vocabulary, dim), np.float32)
    negatives = build_negatives(counts, max_size=_NEGATIVES_TABLE)
    ends = np.cumsum([0, *map(len, texts)])
    ids = np.concatenate(texts)
    state = np.array([seed * 2 + 1], np.uint64)
    for epoch in track(range(epochs), "Learning region vectors"):
        order = random.permutation(len(texts))
        _run_epoch(
            *(ids, ends, order, words, bias, contexts, counts > 0, negatives, state),
            *(np.float32(epoch / epochs), np.float32((epoch + 1) / epochs)),
        )
    return RegionVectors(words, bias)


@numba.njit(fastmath=True)
def _run_epoch(
    ids: Any,
    ends: Any,
    order: Any,
    words: Any,
    bias: Any,
    contexts: Any,
    predicted: Any,
    negatives: Any,
    state: Any,
    progress: Any,
    next_progress: Any,
) -> None:
    """One epoch of stochastic gradient descent, from `progress` to `next_progress` of the whole.

    The learning rate falls linearly over the whole training.
    """
    dim = words.shape[1]
    region, step = np.empty(dim, np.float32), np.empty(dim, np.float32)
    for number in range(len(order)):
        here = (next_progress - progress) * np.float32(number) / np.float32(len(order))
        done = progress + here
        rate = np.float32(_LEARNING_RATE) * (np.float32(1) - done) + np.float32(_MIN_LEARNING_RATE)
        start, stop = ends[order[number]], ends[order[number] + 1]
        for first in range(start, stop):
            behind = min(first + REGION, stop)
            over = _sum_region(ids, first, behind, words, bias, region)
            step[:] = 0
            found = 0
            for k in range(max(start, first - REGION), min(stop, behind + REGION)):
                if (k < first or k >= behind) and predicted[ids[k]]:
                    _predict(contexts[ids[k]], region, step, np.float32(1), rate)
                    found += 1
            if not found:
                continue
            for _ in range(_NEGATIVES):
                state[0] = next_number(state[0])
                chosen = negatives[(state[0] >> np.uint64(32)) % np.uint64(len(negatives))]
                _predict(contexts[chosen], region, step, np.float32(0), rate)
            along = np.float32(0)
            for j in range(dim):
                along += step[j] * region[j]
            for j in range(dim):
                # The gradient goes back through the norm and the rectifier.
                step[j] = (step[j] - along * region[j]) * over if region[j] > 0 else np.float32(0)
                bias[j] += np.float32(_BIAS_RATE) * step[j]
            for k in range(first, behind):
                if ids[k] >= FIRST_WORD:
                    vector = words[ids[k]]
                    for j in range(dim):
                        vector[j] += step[j]


@numba.njit(fastmath=True)
def _sum_region(ids: Any, first: Any, behind: Any, words: Any, bias: Any, region: Any) -> Any:
    """Compute the vector of a region into `region`; return the factor that normalised it."""
    region[:] = bias
    for k in range(first, behind):
        vector = words[ids[k]]
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
def _predict(vector: Any, region: Any, step: Any, wanted: Any, rate: Any) -> None:
    """Train whether a word stands around a region; the region's gradient is added to `step`."""
    product = np.float32(0)
    for j in range(len(region)):
        product += vector[j] * region[j]
    gain = (wanted - np.float32(1) / (np.float32(1) + np.exp(-product))) * rate
    for j in range(len(region)):
        step[j] += gain * vector[j]
        vector[j] += gain * region[j]
