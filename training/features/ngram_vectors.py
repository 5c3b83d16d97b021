"""Vectors of n-grams, learned without labels: those that stand in the same reviews come together.

Every text has a vector as well, and learns which n-grams it holds: the cosine between the two is
to be high, and low with n-grams drawn at random. What is kept are the n-grams' vectors. A text is
then the sum of its n-grams' vectors, so that a linear model on it is again one number for each
n-gram, and knows something of n-grams that no labelled text holds. On reviews of films the sum was
seen to tell more than the vectors of the texts themselves.

Source:
    Thongtan and Phienthrakul, "Sentiment Classification using Document Embeddings trained with
    Cosine Similarity" (2019): the loss, its factor of 6 and five negatives. Thinning
    as in word2vec (Mikolov et al. 2013).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

from app.text.padding import Int32Array
from training.config import NGRAM_VECTOR_DIM
from training.features.ngram_hashing import draw_numbers, list_ngrams
from training.features.sampling import next_number, table_of_negatives
from training.support.arrays import Float32Array
from training.support.cache import DiskCache
from training.support.progress import track

KNOWN_ORDERS: Final = 3


KNOWN_BUCKETS: Final = 2**24
"""Vectors are learned of more n-grams than a model has, and of hardly any two as one."""


RAREST: Final = 5
"""N-grams that stand in all texts together less often have no vector."""


_THINNING: Final = 1e-5


_OFTEN: Final = 100
"""N-grams that are a larger part of all than the one, and stand more often than the other, are
dropped at random, the more the larger."""


_NEGATIVES: Final = 5


_SHARPNESS: Final = 6.0


_RATE: Final = 0.03


_LEAST_RATE: Final = 1e-5


_TABLE: Final = 2**24


_EPOCHS: Final = 12


@dataclass(frozen=True, slots=True)
class NgramVectors:
    """What is known of n-grams before any label.

    Attributes:
        place: int32 (buckets,): where the vector of a bucket stands; -1 if it has none.
        vectors: float32 (n, width), each of length 1 times how much its n-gram counts: common
            ones count less.
    """

    place: Int32Array
    vectors: Float32Array

    def sum(self, cells: Iterable[Int32Array]) -> Float32Array:
        """For each text the sum over its n-grams, over the root of their number.

        Args:
            cells: The bucket of each n-gram of each text.

        Returns:
            float32 (texts, width).
        """
        sums = []
        for text in cells:
            places = self.place[text]
            total = self.vectors[places[places >= 0]].sum(axis=0)
            sums.append(total / np.sqrt(max(len(text), 1)))
        return np.array(sums, np.float32)

    def spread(
        self, weights: NDArray[np.float64], counts: NDArray[np.int64], *, buckets: int
    ) -> Float32Array:
        """What a bucket of a smaller table adds to a linear model of `sum`.

        Buckets that fall into one get the mean of what they would add, by how often they stand.

        Args:
            weights: Of the model, (width, classes).
            counts: How often the n-grams of each bucket stand in texts, int64 (buckets,).
            buckets: Rows of the smaller table, a power of two.

        Returns:
            float32 (buckets of the smaller table, classes).
        """
        known = np.flatnonzero(self.place >= 0)
        added = (self.vectors[self.place[known]] @ weights) * counts[known, np.newaxis]
        into = known & (buckets - 1)
        there = np.flatnonzero(counts)  # of many buckets few are in use
        total = np.bincount(there & (buckets - 1), counts[there], minlength=buckets)
        sums = [np.bincount(into, column, minlength=buckets) for column in added.T]
        return np.asarray(np.stack(sums, axis=1) / np.maximum(total, 1)[:, np.newaxis], np.float32)


def known_numbers(vocabulary: int) -> Int32Array:
    """The numbers of n-grams that `know_ngrams` learns vectors of, see `draw_numbers`.

    A number for a smaller table is the end of that for a larger one, and so is a bucket.
    """
    return draw_numbers(vocabulary, orders=KNOWN_ORDERS, buckets=KNOWN_BUCKETS)


def know_ngrams(
    whole: Callable[[], Iterable[Int32Array]], *, vocabulary: int, seed: int, cache: DiskCache
) -> NgramVectors:
    """Vectors of the n-grams of up to three words, as every recipe has them, learned once.

    Args:
        whole: The ids of all texts, not cut.
        vocabulary: Ids there are.
        seed: See `learn_ngram_vectors`.
        cache: Where they are kept.
    """

    def learn() -> dict[str, NDArray[Any]]:
        numbers = known_numbers(vocabulary)
        learned = learn_ngram_vectors(
            [list_ngrams(row, numbers, buckets=KNOWN_BUCKETS) for row in whole()],
            buckets=KNOWN_BUCKETS,
            width=NGRAM_VECTOR_DIM,
            epochs=_EPOCHS,
            seed=seed,
        )
        return {"place": learned.place, "vectors": learned.vectors}

    return NgramVectors(**cache.arrays("ngram_vectors.npz", learn))


def keep_frequent(
    vectors: NgramVectors,
    texts: Iterable[Int32Array],
    *,
    vocabulary: int,
    most: int,
    buckets: int,
) -> NgramVectors:
    """The vectors of the most frequent n-grams alone, in a table with fewer buckets.

    Args:
        vectors: Of n-grams, in as many buckets at least.
        texts: The ids of each text to count n-grams in.
        vocabulary: Ids there are.
        most: How many n-grams to keep at most.
        buckets: Of the table, a power of two. Of n-grams in one, the most frequent is kept.
    """
    numbers, found = known_numbers(vocabulary), len(vectors.place)
    counts = np.zeros(found, np.int64)
    for text in texts:
        np.add.at(counts, list_ngrams(text, numbers, buckets=found), 1)
    counts[vectors.place < 0] = 0
    often = np.argsort(-counts, kind="stable")
    often = often[counts[often] > 0]
    _, first = np.unique(often & (buckets - 1), return_index=True)  # the first is the most frequent
    often = often[np.sort(first)[:most]]
    place = np.full(buckets, -1, np.int32)
    place[often & (buckets - 1)] = np.arange(len(often))
    return NgramVectors(place, vectors.vectors[vectors.place[often]])


def learn_ngram_vectors(
    cells: Iterable[Int32Array], *, buckets: int, width: int, epochs: int, seed: int
) -> NgramVectors:
    """Learn a vector for every n-gram that is not too rare.

    Args:
        cells: The bucket of each n-gram of each text, labelled or not.
        buckets: There are.
        width: Of a vector.
        epochs: How often every text is read.
        seed: Of the first vectors, of what is thinned out and of the negatives. One thread does
            all, so that it decides the vectors.
    """
    texts = list(cells)
    counts = np.bincount(np.concatenate(texts), minlength=buckets)
    place = np.where(counts >= RAREST, np.cumsum(counts >= RAREST) - 1, -1).astype(np.int32)
    counts = counts[counts >= RAREST]
    if not len(counts):
        return NgramVectors(place, np.zeros((0, width), np.float32))
    random = np.random.default_rng(seed)
    places = [random.permutation(place[text]) for text in texts]  # words and triples by turns
    places = [text[text >= 0] for text in places]
    often = max(_THINNING * counts.sum(), _OFTEN)
    share = np.minimum(1, np.sqrt(often / counts))
    negatives = table_of_negatives(counts, most=_TABLE)

    def begin(rows: int) -> Float32Array:
        first = random.standard_normal((rows, width))
        first /= np.sqrt(width)  # in place: this is the most memory of all
        return first.astype(np.float32)

    vectors, of_texts = begin(len(counts)), begin(len(texts))
    ends = np.cumsum([0, *map(len, places)])
    together = np.concatenate(places)
    state = np.array([seed * 2 + 1], np.uint64)
    for epoch in track(range(epochs), "Learning n-gram vectors"):
        _read_all(
            *(together, ends, of_texts, vectors, share.astype(np.float32), negatives, state),
            *(np.float32(epoch / epochs), np.float32((epoch + 1) / epochs)),
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return NgramVectors(place, (vectors / lengths * share[:, np.newaxis]).astype(np.float32))


@numba.njit(fastmath=True)
def _read_all(
    together: Any,
    ends: Any,
    of_texts: Any,
    vectors: Any,
    share: Any,
    negatives: Any,
    state: Any,
    begin: Any,
    end: Any,
) -> None:
    """One epoch of stochastic gradient descent; the rate falls from `begin` to `end` of the way."""
    width = vectors.shape[1]
    step = np.empty(width, np.float32)
    s = state[0]
    texts = len(ends) - 1
    for t in range(texts):
        done = begin + (end - begin) * np.float32(t) / np.float32(texts)
        rate = np.float32(_RATE) * (np.float32(1) - done) + np.float32(_LEAST_RATE)
        text = of_texts[t]
        for k in range(ends[t], ends[t + 1]):
            positive = together[k]
            s = next_number(s)
            if np.float32(s >> np.uint64(40)) * np.float32(2**-24) >= share[positive]:
                continue
            square = np.float32(1e-12)
            for j in range(width):
                square += text[j] * text[j]
            text_over = np.float32(1) / np.sqrt(square)
            along = np.float32(0)
            for j in range(width):
                step[j] = 0
            for draw in range(_NEGATIVES + 1):
                chosen, wanted = positive, np.float32(1)
                if draw:
                    s = next_number(s)
                    chosen = negatives[(s >> np.uint64(32)) % np.uint64(len(negatives))]
                    wanted = np.float32(0)
                    if chosen == positive:
                        continue
                vector = vectors[chosen]
                square, product = np.float32(1e-12), np.float32(0)
                for j in range(width):
                    square += vector[j] * vector[j]
                    product += vector[j] * text[j]
                over = np.float32(1) / np.sqrt(square)
                cosine = product * text_over * over
                found = np.float32(1) / (np.float32(1) + np.exp(-np.float32(_SHARPNESS) * cosine))
                gain = (wanted - found) * np.float32(_SHARPNESS) * rate
                both = gain * text_over * over
                along += gain * cosine * text_over * text_over
                shrink = gain * cosine * over * over
                for j in range(width):
                    step[j] += both * vector[j]
                    vector[j] += both * text[j] - shrink * vector[j]
            for j in range(width):
                text[j] += step[j] - along * text[j]
    state[0] = s
