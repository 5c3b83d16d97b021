"""The trigram baseline: logistic regression on word n-grams.

One binary logistic regression per class. Its features are the presence of words, bigrams and
trigrams, optionally weighted by their naive Bayes log-count ratio (NB-SVM). It trains in seconds,
and a plain recurrent network does not reach its accuracy.

Source:
    Wang and Manning, "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification"
    (2012), with logistic loss and hashed n-grams.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from app.text.padding import Int32Array
from training.features.ngram_hashing import hash_ids, list_buckets, log_count_ratio
from training.support.arrays import Probabilities

ORDERS: Final = 3
BUCKETS: Final = 2**22
"""Number of hash buckets: large enough that few of a million n-grams collide."""


@dataclass(frozen=True, slots=True)
class Trigrams:
    """A fitted trigram model.

    Attributes:
        buckets: int64 (n-grams,), the hash buckets of the n-grams seen in training, ascending.
        weights: float64 (n-grams, classes), what each n-gram adds to the logit of a class.
        bias: float64 (classes,).
    """

    buckets: NDArray[np.int64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def score(self, rows: Sequence[Int32Array]) -> Probabilities:
        """Return the probabilities of encoded texts, float64 (rows, classes)."""
        logits = find_presence(rows)[:, self.buckets] @ self.weights + self.bias
        one_vs_rest = expit(logits)
        normalized: Any = one_vs_rest / one_vs_rest.sum(axis=1, keepdims=True)
        return np.asarray(normalized, np.float64)


def fit_trigrams(
    rows: Sequence[Int32Array],
    targets: Sequence[int],
    classes: int,
    *,
    strength: float = 1.0,
    nb_weighting: bool = True,
    seed: int = 0,
) -> Trigrams:
    """Fit a one-vs-rest model.

    Args:
        rows: The ids of each text.
        targets: The class of each text; every class occurs.
        classes: Number of classes, at least two.
        strength: Inverse regularization strength (`C`).
        nb_weighting: Whether to weight n-grams by their naive Bayes log-count ratio.
        seed: Seed of the solver's shuffling.
    """
    presence, target = find_presence(rows), np.asarray(targets)
    buckets = np.unique(presence.indices).astype(np.int64)
    presence = presence[:, buckets]  # the solver's time grows with the number of columns
    counts = presence.T @ np.eye(classes)[target]  # (n-grams, classes)
    ratio = log_count_ratio(counts, np.bincount(target, minlength=classes))
    scale = ratio if nb_weighting else np.ones_like(ratio)
    weights, bias = np.empty((len(buckets), classes)), np.empty(classes)
    for k in range(classes):
        # The dual problem has one variable per text: far fewer than n-grams.
        model = LogisticRegression(
            C=strength, solver="liblinear", dual=True, random_state=seed, max_iter=1000
        )
        model.fit(presence.multiply(scale[:, k]).tocsr(), target == k)
        weights[:, k], bias[k] = model.coef_[0] * scale[:, k], model.intercept_[0]
    return Trigrams(buckets, weights, bias)


def find_presence(rows: Sequence[Int32Array]) -> csr_matrix:
    """Return the binary n-gram features of each text, sparse (rows, BUCKETS)."""
    vocabulary = 1 + max(int(row.max()) for row in rows)
    numbers = hash_ids(vocabulary, orders=ORDERS, buckets=BUCKETS)
    held = [np.unique(list_buckets(row, numbers, buckets=BUCKETS)) for row in rows]
    ends, columns = np.cumsum([0, *map(len, held)]), np.concatenate(held)
    return csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(rows), BUCKETS))
