"""Word vectors learned from which words stand near each other, before any label is looked at.

Labels are few and words are many: a rare word gets its vector from a handful of reviews, or, when
its neighbours are counted over all texts there are, labelled or not, from its company.

Source:
    Levy, Goldberg and Dagan, "Improving Distributional Similarity with Lessons Learned from Word
    Embeddings" (2015): positive pointwise mutual information with smoothed contexts (section 3.2),
    frequent words thinned out, half of the singular values kept (section 3.3). The factors by
    Halko, Martinsson and Tropp, "Finding Structure with Randomness" (2011), algorithm 4.4.
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
"""Words to either side that count as company; nearer ones count more."""


_THINNING: Final = 3.0
"""Words this many times more frequent than the average word are dropped at random, the more so
the more frequent they are: "the" says little about its neighbours."""


_CONTEXT_SMOOTHING: Final = 0.75


_NORM: Final = 0.7
"""Length of every vector: about that of a row of small random weights 128 wide."""


_POWER_ITERATIONS: Final = 4


_OVERSAMPLING: Final = 16


def learn_vectors(
    rows: Sequence[Int32Array], *, vocabulary: int, width: int, seed: int
) -> Float32Array:
    """Learn a vector for every word.

    Args:
        rows: The ids of each text, whole.
        vocabulary: Ids there are, special ids included.
        width: Of a vector.
        seed: Of the thinning and of the factorisation.

    Returns:
        float32 of shape (vocabulary, width). Special ids, and words without company, are 0.
    """
    generator = np.random.default_rng(seed)
    together = _count_pairs(_thin(_join(rows), vocabulary, generator), vocabulary)
    information = _positive_information(together)
    return _factorise(information, width, generator)


def _join(rows: Sequence[Int32Array]) -> NDArray[np.int64]:
    """All texts in one array, with gaps that no window crosses."""
    gap = np.zeros(WINDOW, np.int32)
    return np.concatenate([part for row in rows for part in (row, gap)]).astype(np.int64)


def _thin(
    ids: NDArray[np.int64], vocabulary: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    counts = np.bincount(ids, minlength=vocabulary).astype(np.float64)
    often = max(_THINNING * counts[FIRST_WORD:].mean(), 1.0)
    kept = np.sqrt(often / np.maximum(counts, often))
    dropped = (ids >= FIRST_WORD) & (generator.random(len(ids)) > kept[ids])
    return np.where(dropped, UNKNOWN, ids)


def _count_pairs(ids: NDArray[np.int64], vocabulary: int) -> Any:
    """How often two words stand near each other: sparse, symmetric (vocabulary, vocabulary)."""
    together = sparse.csr_matrix((vocabulary, vocabulary), dtype=np.float32)
    for distance in range(1, WINDOW + 1):
        left, right = ids[:-distance], ids[distance:]
        words = (left >= FIRST_WORD) & (right >= FIRST_WORD)
        weights = np.full(int(words.sum()), distance**-0.5, np.float32)
        pairs = (left[words], right[words])
        together = together + sparse.csr_matrix((weights, pairs), shape=together.shape)
    return together + together.T


def _positive_information(together: Any) -> Any:
    """How much more often than by chance, as a logarithm; what is rarer than chance is 0."""
    entries = together.tocoo()
    totals = np.asarray(together.sum(axis=1)).ravel().astype(np.float64)
    contexts = totals**_CONTEXT_SMOOTHING
    contexts /= max(contexts.sum(), 1e-12)
    chance = totals[entries.row] * contexts[entries.col]
    information = np.log(entries.data / np.maximum(chance, 1e-12)).astype(np.float32)
    above = information > 0
    kept = (entries.row[above], entries.col[above])
    return sparse.csr_matrix((information[above], kept), shape=together.shape)


def _factorise(matrix: Any, width: int, generator: np.random.Generator) -> Float32Array:
    """The left factor of a truncated singular value decomposition, rows of one length."""
    size = matrix.shape[0]
    columns = min(width + _OVERSAMPLING, size)
    basis = generator.standard_normal((size, columns)).astype(np.float32)
    for _ in range(_POWER_ITERATIONS + 1):
        basis, _ = np.linalg.qr(matrix @ (matrix.T @ basis))
    left, values, _ = np.linalg.svd((matrix.T @ basis).T, full_matrices=False)
    vectors = np.zeros((size, width), np.float32)
    found = min(width, len(values))
    vectors[:, :found] = (basis @ left)[:, :found] * np.sqrt(values[:found])
    vectors[np.asarray(matrix.sum(axis=1)).ravel() == 0] = 0  # not merely nearly so
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    of_one_length: Float32Array = vectors * (_NORM / np.maximum(lengths, 1e-12))
    return of_one_length
