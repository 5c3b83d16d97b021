"""N-gram vectors, learned without labels: n-grams of the same texts get similar vectors.

Every text has a vector too, and is trained to predict its n-grams: the cosine between a text and an
n-gram is to be high, and low for n-grams drawn at random. Only the vectors of n-grams are kept. A
text is then represented by the sum over its n-grams, so a linear model of that sum is again one
number per n-gram and class, but it also covers n-grams that no labelled text contains. On film
reviews the sum worked better than the vectors of the texts themselves.

Source:
    Thongtan and Phienthrakul, "Sentiment Classification using Document Embeddings trained with
    Cosine Similarity" (2019): the loss, its scale of 6 and five negatives. Subsampling of frequent
    n-grams as in word2vec (Mikolov et al. 2013).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

from app.text.padding import Int32Array
from training.config import NGRAM_VECTOR_DIM
from training.features.ngram_hashing import MAX_BUCKETS, hash_ids, list_buckets
from training.features.sampling import build_negatives, next_number
from training.support.arrays import Float32Array
from training.support.cache import DiskCache
from training.support.progress import track

MIN_COUNT: Final = 5
"""Rarer n-grams, counted over all texts, have no vector."""

_SUBSAMPLING: Final = 1e-5
_SUBSAMPLING_MIN_COUNT: Final = 100
"""N-grams that are a larger share of all n-grams than the first, and more frequent than the second,
are skipped at random, the more frequent the more often."""

_NEGATIVES: Final = 5
_NEGATIVES_TABLE: Final = 2**24
_COSINE_SCALE: Final = 6.0
_LEARNING_RATE: Final = 0.03
_MIN_LEARNING_RATE: Final = 1e-5
_EPOCHS: Final = 12


@dataclass(frozen=True, slots=True)
class NgramVectors:
    """The vector of each n-gram that is frequent enough.

    Attributes:
        row_of_bucket: int32 (buckets,): the row of `vectors` of each hash bucket; -1 for none.
        vectors: float32 (n-grams, ngram_vector_dim). A vector has length 1, and less if its n-gram
            was subsampled: frequent n-grams count less.
    """

    row_of_bucket: Int32Array
    vectors: Float32Array

    def sum(self, texts: Iterable[Int32Array]) -> Float32Array:
        """The sum of a text's vectors over the square root of the number of its n-grams.

        Args:
            texts: The bucket of each n-gram of each text.

        Returns:
            float32 (texts, ngram_vector_dim).
        """
        sums = []
        for buckets in texts:
            rows = self.row_of_bucket[buckets]
            total = self.vectors[rows[rows >= 0]].sum(axis=0)
            sums.append(total / np.sqrt(max(len(buckets), 1)))
        return np.array(sums, np.float32)

    def to_logits(
        self, weights: NDArray[np.float64], counts: NDArray[np.int64], *, buckets: int
    ) -> Float32Array:
        """The table of n-gram logits that stands for a linear model of `sum`.

        Buckets that share one in the smaller table are averaged, weighted by how frequent they are.

        Args:
            weights: Of the linear model, (ngram_vector_dim, classes).
            counts: How frequent the n-grams of each bucket are, int64 (own buckets,).
            buckets: Number of buckets of the table, a power of two.

        Returns:
            float32 (buckets, classes).
        """
        filled = np.flatnonzero(self.row_of_bucket >= 0)
        logits = (self.vectors[self.row_of_bucket[filled]] @ weights) * counts[filled, np.newaxis]
        merged = filled & (buckets - 1)
        counted = np.flatnonzero(counts)  # few of many buckets are in use
        total = np.bincount(counted & (buckets - 1), counts[counted], minlength=buckets)
        sums = [np.bincount(merged, column, minlength=buckets) for column in logits.T]
        return np.asarray(np.stack(sums, axis=1) / np.maximum(total, 1)[:, np.newaxis], np.float32)


def build_ngram_vectors(
    read_texts: Callable[[], Iterable[Int32Array]], *, vocabulary: int, seed: int, cache: DiskCache
) -> NgramVectors:
    """Learn the vectors that every recipe uses, of n-grams of up to `MAX_ORDER` words.

    They are learned once: a training that is resumed reads them from its cache.

    Args:
        read_texts: Returns the ids of all texts, not truncated.
        vocabulary: Number of ids, special ids included.
        seed: See `learn_ngram_vectors`.
        cache: Where they are kept.
    """

    def learn() -> dict[str, NDArray[Any]]:
        hashes = hash_ids(vocabulary)
        learned = learn_ngram_vectors(
            [list_buckets(ids, hashes, buckets=MAX_BUCKETS) for ids in read_texts()],
            buckets=MAX_BUCKETS,
            dim=NGRAM_VECTOR_DIM,
            epochs=_EPOCHS,
            seed=seed,
        )
        return {"row_of_bucket": learned.row_of_bucket, "vectors": learned.vectors}

    return NgramVectors(**cache.arrays("ngram_vectors.npz", learn))


def keep_frequent(
    vectors: NgramVectors,
    texts: Iterable[Int32Array],
    *,
    vocabulary: int,
    ngram_embeddings: int,
    buckets: int,
) -> NgramVectors:
    """Keep only the vectors of the most frequent n-grams, in a table with fewer buckets.

    Args:
        vectors: In at least as many buckets.
        texts: The ids of each text, to count n-grams in.
        vocabulary: Number of ids, special ids included.
        ngram_embeddings: How many n-grams to keep.
        buckets: Number of buckets of the result, a power of two. Of n-grams that share a bucket,
            the most frequent is kept.
    """
    hashes, own_buckets = hash_ids(vocabulary), len(vectors.row_of_bucket)
    counts = np.zeros(own_buckets, np.int64)
    for ids in texts:
        np.add.at(counts, list_buckets(ids, hashes, buckets=own_buckets), 1)
    counts[vectors.row_of_bucket < 0] = 0
    frequent = np.argsort(-counts, kind="stable")
    frequent = frequent[counts[frequent] > 0]
    _, first = np.unique(frequent & (buckets - 1), return_index=True)  # the most frequent of each
    frequent = frequent[np.sort(first)[:ngram_embeddings]]
    row_of_bucket = np.full(buckets, -1, np.int32)
    row_of_bucket[frequent & (buckets - 1)] = np.arange(len(frequent))
    return NgramVectors(row_of_bucket, vectors.vectors[vectors.row_of_bucket[frequent]])


def learn_ngram_vectors(
    texts: Iterable[Int32Array], *, buckets: int, dim: int, epochs: int, seed: int
) -> NgramVectors:
    """Learn a vector for every n-gram with at least `MIN_COUNT` occurrences.

    One thread does all the work, so that the seed decides the vectors.

    Args:
        texts: The bucket of each n-gram of each text, labelled or not.
        buckets: Number of hash buckets.
        dim: Size of a vector.
        epochs: Passes over all texts.
        seed: Of the initial vectors, the subsampling and the negatives.
    """
    found = list(texts)
    counts = np.bincount(np.concatenate(found), minlength=buckets)
    has_vector = counts >= MIN_COUNT
    row_of_bucket = np.where(has_vector, np.cumsum(has_vector) - 1, -1).astype(np.int32)
    counts = counts[has_vector]
    if not len(counts):
        return NgramVectors(row_of_bucket, np.zeros((0, dim), np.float32))
    random = np.random.default_rng(seed)
    # Shuffled, as otherwise all unigrams of a text would come before its bigrams.
    texts_rows = [random.permutation(row_of_bucket[text]) for text in found]
    texts_rows = [rows[rows >= 0] for rows in texts_rows]
    threshold = max(_SUBSAMPLING * counts.sum(), _SUBSAMPLING_MIN_COUNT)
    share_kept = np.minimum(1, np.sqrt(threshold / counts))
    negatives = build_negatives(counts, max_size=_NEGATIVES_TABLE)
    vectors, text_vectors = (_draw(random, n, dim) for n in (len(counts), len(found)))
    ends = np.cumsum([0, *map(len, texts_rows)])
    ngrams = np.concatenate(texts_rows)
    state = np.array([seed * 2 + 1], np.uint64)
    for epoch in track(range(epochs), "Learning n-gram vectors"):
        _run_epoch(
            *(ngrams, ends, text_vectors, vectors, share_kept.astype(np.float32), negatives, state),
            *(np.float32(epoch / epochs), np.float32((epoch + 1) / epochs)),
        )
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled = (vectors / lengths * share_kept[:, np.newaxis]).astype(np.float32)
    return NgramVectors(row_of_bucket, scaled)


def _draw(random: np.random.Generator, n: int, dim: int) -> Float32Array:
    """N random vectors of about length 1."""
    vectors = random.standard_normal((n, dim))
    vectors /= np.sqrt(dim)  # in place: this is the peak of memory
    return vectors.astype(np.float32)


@numba.njit(fastmath=True)
def _run_epoch(
    ngrams: Any,
    ends: Any,
    text_vectors: Any,
    vectors: Any,
    share_kept: Any,
    negatives: Any,
    state: Any,
    progress: Any,
    next_progress: Any,
) -> None:
    """One epoch of stochastic gradient descent, from `progress` to `next_progress` of the whole."""
    dim = vectors.shape[1]
    step = np.empty(dim, np.float32)
    s = state[0]
    texts = len(ends) - 1
    for t in range(texts):
        done = progress + (next_progress - progress) * np.float32(t) / np.float32(texts)
        rate = np.float32(_LEARNING_RATE) * (np.float32(1) - done) + np.float32(_MIN_LEARNING_RATE)
        text = text_vectors[t]
        for k in range(ends[t], ends[t + 1]):
            positive = ngrams[k]
            s = next_number(s)
            if np.float32(s >> np.uint64(40)) * np.float32(2**-24) >= share_kept[positive]:
                continue
            square = np.float32(1e-12)
            for j in range(dim):
                square += text[j] * text[j]
            text_over = np.float32(1) / np.sqrt(square)
            along = np.float32(0)
            for j in range(dim):
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
                for j in range(dim):
                    square += vector[j] * vector[j]
                    product += vector[j] * text[j]
                over = np.float32(1) / np.sqrt(square)
                cosine = product * text_over * over
                logit = np.float32(_COSINE_SCALE) * cosine
                found = np.float32(1) / (np.float32(1) + np.exp(-logit))
                gain = (wanted - found) * np.float32(_COSINE_SCALE) * rate
                both = gain * text_over * over
                along += gain * cosine * text_over * text_over
                shrink = gain * cosine * over * over
                for j in range(dim):
                    step[j] += both * vector[j]
                    vector[j] += both * text[j] - shrink * vector[j]
            for j in range(dim):
                text[j] += step[j] - along * text[j]
    state[0] = s
