"""Word vectors learned from co-occurrence: words in similar surroundings get similar vectors.

No label is used. Labels are few and words are many: without these vectors a rare word would learn
its embedding from a handful of reviews, with them from all texts, labelled or not.

Source:
    Levy, Goldberg and Dagan, "Improving Distributional Similarity with Lessons Learned from Word
    Embeddings" (2015): positive pointwise mutual information with smoothed contexts (section 3.2),
    frequent words subsampled, singular values to the power of one half (section 3.3). Truncated
    SVD: Halko, Martinsson and Tropp, "Finding Structure with Randomness" (2011), algorithm 4.4.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from app.text.padding import Int32Array
from app.text.vocabulary import FIRST_WORD, UNKNOWN
from training.support.arrays import Float32Array

WINDOW: Final = 6
"""Words on either side that count as co-occurring; nearer ones count more."""

_SUBSAMPLING: Final = 3.0
"""Words that are this many times as frequent as the average word are dropped at random, the more
frequent the more often: "the" says little about its neighbours."""

_CONTEXT_SMOOTHING: Final = 0.75
"""Exponent of context counts, against the bias of mutual information towards rare contexts."""

_NORM: Final = 0.7
"""Length of every vector: about that of a row of Keras' random embedding of 128 columns."""

_POWER_ITERATIONS: Final = 4
_OVERSAMPLING: Final = 16
"""Settings of the randomized SVD; more of either makes it more exact."""


def learn_word_vectors(
    texts: Sequence[Int32Array], *, vocabulary: int, dim: int, seed: int
) -> Float32Array:
    """Learn a vector for every word.

    Args:
        texts: The ids of each text, not truncated.
        vocabulary: Number of ids, special ids included.
        dim: Size of a vector.
        seed: Of the subsampling and of the factorisation.

    Returns:
        float32 (vocabulary, dim). Special ids, and words that co-occur with none, are 0.
    """
    generator = np.random.default_rng(seed)
    pairs = _count_pairs(_subsample(_join(texts), vocabulary, generator), vocabulary)
    return _factorise(_positive_pmi(pairs), dim, generator)


def _join(texts: Sequence[Int32Array]) -> NDArray[np.int64]:
    """All texts in one array, with gaps that no window crosses."""
    gap = np.zeros(WINDOW, np.int32)
    return np.concatenate([part for text in texts for part in (text, gap)]).astype(np.int64)


def _subsample(
    ids: NDArray[np.int64], vocabulary: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Replace frequent words by `UNKNOWN`, at random."""
    counts = np.bincount(ids, minlength=vocabulary).astype(np.float64)
    threshold = max(_SUBSAMPLING * counts[FIRST_WORD:].mean(), 1.0)
    kept = np.sqrt(threshold / np.maximum(counts, threshold))
    dropped = (ids >= FIRST_WORD) & (generator.random(len(ids)) > kept[ids])
    return np.where(dropped, UNKNOWN, ids)


def _count_pairs(ids: NDArray[np.int64], vocabulary: int) -> Any:
    """How often two words co-occur, by distance: sparse, symmetric (vocabulary, vocabulary)."""
    counts = sparse.csr_matrix((vocabulary, vocabulary), dtype=np.float32)
    for distance in range(1, WINDOW + 1):
        left, right = ids[:-distance], ids[distance:]
        words = (left >= FIRST_WORD) & (right >= FIRST_WORD)
        weights = np.full(int(words.sum()), distance**-0.5, np.float32)
        pairs = (left[words], right[words])
        counts = counts + sparse.csr_matrix((weights, pairs), shape=counts.shape)
    return counts + counts.T


def _positive_pmi(counts: Any) -> Any:
    """Positive pointwise mutual information: how much more often than by chance, as a logarithm."""
    entries = counts.tocoo()
    totals = np.asarray(counts.sum(axis=1)).ravel().astype(np.float64)
    contexts = totals**_CONTEXT_SMOOTHING
    contexts /= max(contexts.sum(), 1e-12)
    chance = totals[entries.row] * contexts[entries.col]
    pmi = np.log(entries.data / np.maximum(chance, 1e-12)).astype(np.float32)
    positive = pmi > 0
    kept = (entries.row[positive], entries.col[positive])
    return sparse.csr_matrix((pmi[positive], kept), shape=counts.shape)


def _factorise(matrix: Any, dim: int, generator: np.random.Generator) -> Float32Array:
    """The left factor of a truncated SVD, each row scaled to length `_NORM`."""
    size = matrix.shape[0]
    columns = min(dim + _OVERSAMPLING, size)
    basis = generator.standard_normal((size, columns)).astype(np.float32)
    for _ in range(_POWER_ITERATIONS + 1):
        basis, _ = np.linalg.qr(matrix @ (matrix.T @ basis))
    left, values, _ = np.linalg.svd((matrix.T @ basis).T, full_matrices=False)
    vectors = np.zeros((size, dim), np.float32)
    found = min(dim, len(values))
    vectors[:, :found] = (basis @ left)[:, :found] * np.sqrt(values[:found])
    vectors[np.asarray(matrix.sum(axis=1)).ravel() == 0] = 0  # the factor is only close to 0 there
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Float32Array = vectors * (_NORM / np.maximum(lengths, 1e-12))
    return scaled
