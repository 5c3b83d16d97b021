"""The linear teachers: two n-gram models whose weighted sum is one table of logits."""

from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from app.text.padding import Int32Array
from training.distillation.mixture import fit_mixture, print_accuracy
from training.distillation.teacher_data import Fold, TeacherInput
from training.features.ngram_hashing import hash_ids, list_buckets, log_count_ratio
from training.features.ngram_vectors import NgramVectors
from training.support.arrays import Float32Array, Float64Array, Int64Array
from training.support.cache import Arrays
from training.support.progress import console

_COUNTS_C: Final = 30.0
"""`C` of scikit-learn's `LogisticRegression`: the inverse of the regularization."""
_VECTORS_C: Final = 3.0


class _LinearModel(Protocol):
    """A linear model over the n-grams of the texts it was constructed with."""

    def fit(
        self, rows: Int64Array, targets: NDArray[Any], classes: int
    ) -> tuple[Float32Array, Float64Array]:
        """Fit to some texts; return n-gram logits (buckets, classes) and the bias (classes,)."""

    def predict(self, rows: Int64Array, ngram_logits: Float32Array) -> Float64Array:
        """Return the logits of some texts without the bias, (rows, classes)."""


def fit_linear_teacher(
    data: TeacherInput, folds: list[Fold], vectors: NgramVectors, *, orders: int, buckets: int
) -> Arrays:
    """Fit both linear models and their mixture.

    Args:
        data: What they learn from.
        folds: Of the labelled texts.
        vectors: The vectors of the n-grams.
        orders: The largest number of words in an n-gram.
        buckets: The number of hash buckets of the table, a power of two.

    Returns:
        `ngram_logits` float32 (buckets, classes) and `bias` float32 (classes,) of the mixture;
        `labelled`, `unlabelled` and `validation`: its logits, those of labelled texts out of fold.
    """
    # A hash into fewer buckets is the low bits of a hash into more, so one hash serves both tables.
    numbers = hash_ids(data.vocabulary)[:orders]
    labelled, unlabelled, validation = (
        [list_buckets(row, numbers, buckets=len(vectors.row_of_bucket)) for row in rows]
        for rows in (data.rows, data.unlabelled, data.validation)
    )
    counts = np.bincount(
        np.concatenate([*labelled, *unlabelled]), minlength=len(vectors.row_of_bucket)
    )
    with console.status("Fitting the linear teachers"):
        models: list[_LinearModel] = [
            _CountModel([text & (buckets - 1) for text in labelled], buckets, data.seed),
            _VectorModel(labelled, vectors, counts, buckets),
        ]
        out_of_fold = _predict_out_of_fold(models, data, folds)
        weights = fit_mixture(out_of_fold, data.targets)
        everything = np.arange(len(labelled))
        fitted = [model.fit(everything, data.targets, data.classes) for model in models]
    mixed = np.tensordot(weights, out_of_fold, axes=1)
    print_accuracy("linear teachers", mixed, out_of_fold, data.targets)
    table = np.asarray(sum(w * t for w, (t, _) in zip(weights, fitted, strict=True)), np.float32)
    bias = np.asarray(sum(w * b for w, (_, b) in zip(weights, fitted, strict=True)), np.float32)

    def score(texts: list[Int32Array]) -> Float64Array:
        sums = np.array([_sum_logits(text, table) for text in texts])
        return sums.reshape(-1, data.classes) + bias

    return {
        "ngram_logits": table,
        "bias": bias,
        "labelled": mixed,
        "unlabelled": score(unlabelled),
        "validation": score(validation),
    }


def _predict_out_of_fold(
    models: list[_LinearModel], data: TeacherInput, folds: list[Fold]
) -> Float64Array:
    """Return the logits of each labelled text from models fitted to other folds.

    Returns:
        (models, texts, classes).
    """
    logits = np.empty((len(models), len(data.targets), data.classes))
    for rest, fold in folds:
        for model, of_model in zip(models, logits, strict=True):
            table, bias = model.fit(rest, data.targets[rest], data.classes)
            of_model[fold] = model.predict(fold, table) + bias
    return logits


class _CountModel:
    """Logistic regression on n-gram counts, weighted by the log-count ratios of naive Bayes."""

    def __init__(self, ngrams: list[Int32Array], buckets: int, seed: int) -> None:
        found = [np.unique(text, return_counts=True) for text in ngrams]
        columns = np.concatenate([columns for columns, _ in found])
        ends = np.cumsum([0, *(len(columns) for columns, _ in found)])
        values = np.concatenate(
            [
                counts / np.sqrt(max(len(text), 1))
                for (_, counts), text in zip(found, ngrams, strict=True)
            ]
        )
        shape = (len(ngrams), buckets)
        self._features = csr_matrix((values.astype(np.float32), columns, ends), shape=shape)
        self._seed = seed

    def fit(
        self, rows: Int64Array, targets: NDArray[Any], classes: int
    ) -> tuple[Float32Array, Float64Array]:
        features = self._features[rows]
        present = features.astype(bool).astype(np.float32)
        by_class = [present.T @ (targets == k).astype(np.float32) for k in range(classes)]
        ratio = log_count_ratio(np.stack(by_class, 1), np.bincount(targets, minlength=classes))

        def fit_class(k: int) -> tuple[NDArray[Any], float]:
            # The dual problem has one variable per text, and n-grams outnumber the texts by far.
            model = LogisticRegression(
                C=_COUNTS_C, solver="liblinear", dual=True, random_state=self._seed
            )
            model.fit(features.multiply(ratio[:, k]).tocsr(), targets == k)
            return model.coef_[0] * ratio[:, k], model.intercept_[0]

        return _one_vs_rest(fit_class, classes)

    def predict(self, rows: Int64Array, ngram_logits: Float32Array) -> Float64Array:
        logits: Float64Array = self._features[rows] @ ngram_logits.astype(np.float64)
        return logits


class _VectorModel:
    """Logistic regression on the sum of the n-gram vectors of a text."""

    def __init__(
        self, ngrams: list[Int32Array], vectors: NgramVectors, counts: Int64Array, buckets: int
    ) -> None:
        self._ngrams, self._vectors = ngrams, vectors
        self._counts, self._buckets = counts, buckets
        self._features = vectors.sum(ngrams)

    def fit(
        self, rows: Int64Array, targets: NDArray[Any], classes: int
    ) -> tuple[Float32Array, Float64Array]:
        def fit_class(k: int) -> tuple[NDArray[Any], float]:
            model = LogisticRegression(C=_VECTORS_C, max_iter=500)
            model.fit(self._features[rows], targets == k)
            return model.coef_[0], model.intercept_[0]

        weights, bias = _one_vs_rest(fit_class, classes)
        table = self._vectors.to_logits(
            weights.astype(np.float64), self._counts, buckets=self._buckets
        )
        return table, bias

    def predict(self, rows: Int64Array, ngram_logits: Float32Array) -> Float64Array:
        return np.array([_sum_logits(self._ngrams[row], ngram_logits) for row in rows], np.float64)


def _one_vs_rest(
    fit_class: Callable[[int], tuple[NDArray[Any], float]], classes: int
) -> tuple[Float32Array, Float64Array]:
    """Fit each class against the rest; with two classes, one is the negative of the other."""
    if classes == 2:
        weights, bias = fit_class(1)
        half = weights.astype(np.float32) / 2
        return np.stack([-half, half], axis=1), np.array([-bias, bias]) / 2
    fitted = [fit_class(k) for k in range(classes)]
    stacked = np.stack([weights for weights, _ in fitted], axis=1).astype(np.float32)
    return stacked, np.array([bias for _, bias in fitted])


def _sum_logits(ngrams: Int32Array, table: Float32Array) -> Float32Array:
    logits = table[ngrams & (len(table) - 1)]
    total: Float32Array = logits.sum(axis=0) / np.sqrt(np.float32(max(len(ngrams), 1)))
    return total
