"""Rows that a person should look at: found by a linear model, by length, and by rare labels.

The model is a logistic regression on words and pairs of words, fitted to a bounded sample and asked
about the texts it was not fitted to. A label with which it disagrees confidently is often wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from training.data.split import split_by_group
from training.support.arrays import FloatArray, IntArray

SAMPLE: Final = 8_000
"""At most so many texts are judged by the linear model."""
_FEWEST: Final = 50
"""With fewer texts, a model says nothing about them."""
_FOLDS: Final = 5
_BUCKETS: Final = 2**17


@dataclass(frozen=True, slots=True)
class Doubts:
    """What an out-of-fold linear model says about labelled texts.

    Attributes:
        predicted: The class of each text by the model, int (texts,).
        surprise: The probability of that class less that of the label, float (texts,); 0 where
            they agree, and for a text without a token.
        agreement: The share of the texts with a token whose label is the one predicted.
    """

    predicted: IntArray
    surprise: FloatArray
    agreement: float


def find_doubts(
    texts: Sequence[str], targets: IntArray, groups: Sequence[str | int], *, classes: int, seed: int
) -> Doubts | None:
    """Predict each text with a model that was fitted to the other groups.

    Args:
        texts: Tokens, joined with spaces.
        targets: The class of each text, int (texts,).
        groups: The group of each text; no group is in two folds.
        classes: Number of classes.
        seed: Of the order of the texts in fitting.

    Returns:
        None if there are too few texts, groups or labels.
    """
    # They take seconds to import, and 100 MB.
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier

    folds = min(_FOLDS, len(set(groups)))
    if sum(map(bool, texts)) < _FEWEST or folds < 2 or len(set(targets.tolist())) < 2:
        return None
    vectorize = HashingVectorizer(
        n_features=_BUCKETS,
        ngram_range=(1, 2),
        tokenizer=str.split,
        token_pattern=None,
        lowercase=False,
        binary=True,
        alternate_sign=False,
        dtype=np.float32,
    )
    features = vectorize.transform(texts)
    probabilities = np.zeros((len(texts), classes))
    for rest, fold in split_by_group(groups, folds):
        if len(set(targets[rest].tolist())) < 2:
            return None
        model = SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=10, tol=None, random_state=seed)
        model.fit(features[rest], targets[rest])
        probabilities[np.ix_(fold, model.classes_)] = model.predict_proba(features[fold])
    predicted = probabilities.argmax(axis=1)
    rows = np.arange(len(texts))
    surprise = probabilities[rows, predicted] - probabilities[rows, targets]
    told = np.array([bool(text) for text in texts])
    return Doubts(predicted, np.where(told, surprise, 0), float((surprise[told] == 0).mean()))
