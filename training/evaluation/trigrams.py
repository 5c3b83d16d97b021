"""Linear: the trigram model, which every other has to beat.

A logistic regression for each class, whose features are which words, pairs and triples of words a
text holds, each weighted, if that helps, by how much more often it stands in texts of that class.
It learns in seconds, and a plain recurrent network does not reach it.

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
from training.features.ngram_hashing import draw_numbers, list_ngrams, log_ratio
from training.support.arrays import Probabilities

ORDERS: Final = 3


BUCKETS: Final = 2**22
"""So many that few n-grams of a million share one."""


@dataclass(frozen=True, slots=True)
class Trigrams:
    """A fitted trigram model.

    Attributes:
        cells: int64 (n-grams,): the numbers of the n-grams that it knows, ascending.
        table: float64 (n-grams, classes): what each of them adds to the logit of a class.
        bias: float64 (classes,).
    """

    cells: NDArray[np.int64]
    table: NDArray[np.float64]
    bias: NDArray[np.float64]

    def score(self, rows: Sequence[Int32Array]) -> Probabilities:
        """Probabilities of encoded texts, float64 (rows, classes); each row sums to 1."""
        logits = find_presence(rows)[:, self.cells] @ self.table + self.bias
        against_others = expit(logits)
        together: Any = against_others / against_others.sum(axis=1, keepdims=True)
        return np.asarray(together, np.float64)


def fit_trigrams(
    rows: Sequence[Int32Array],
    targets: Sequence[int],
    classes: int,
    *,
    strength: float = 1.0,
    nb_weighting: bool = True,
    seed: int = 0,
) -> Trigrams:
    """Fit one class against all others, for each class.

    Args:
        rows: The ids of each text.
        targets: The class of each; every class is among them.
        classes: How many there are, at least two.
        strength: How much the texts count beside the squares of what is learned (C).
        nb_weighting: Whether an n-gram counts by its `log_ratio`; else all count the same.
        seed: Of the order in which texts are looked at.
    """
    presence, target = find_presence(rows), np.asarray(targets)
    cells = np.unique(presence.indices).astype(np.int64)
    presence = presence[:, cells]  # the solver's time goes by the number of columns
    having = presence.T @ np.eye(classes)[target]  # (n-grams, classes)
    ratio = log_ratio(having, np.bincount(target, minlength=classes))
    weights = ratio if nb_weighting else np.ones_like(ratio)
    table, bias = np.empty((len(cells), classes)), np.empty(classes)
    for k in range(classes):
        # The dual has a variable for each text, and there are far fewer texts than n-grams.
        model = LogisticRegression(
            C=strength, solver="liblinear", dual=True, random_state=seed, max_iter=1000
        )
        model.fit(presence.multiply(weights[:, k]).tocsr(), target == k)
        table[:, k], bias[k] = model.coef_[0] * weights[:, k], model.intercept_[0]
    return Trigrams(cells, table, bias)


def find_presence(rows: Sequence[Int32Array]) -> csr_matrix:
    """Which n-grams each text holds, however often: 1 or nothing, (rows, BUCKETS)."""
    vocabulary = 1 + max(int(row.max()) for row in rows)
    numbers = draw_numbers(vocabulary, orders=ORDERS, buckets=BUCKETS)
    held = [np.unique(list_ngrams(row, numbers, buckets=BUCKETS)) for row in rows]
    ends, columns = np.cumsum([0, *map(len, held)]), np.concatenate(held)
    return csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(rows), BUCKETS))
