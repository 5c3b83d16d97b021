"""Teacher: models too large to serve, whose answers a network learns, on unlabelled texts too.

Two are linear models of n-grams. The first weighs n-grams by how much more often they stand in
texts of a class, which is certain of n-grams that labelled texts hold. The second knows an n-gram
by its vector, learned from all texts, and so also those that no labelled text holds. Their mixture
is, for each n-gram, one number a class, which a model can carry beside its network at the cost of
a gather and a sum. The third, if it is asked for, is a convolution on the same vectors and more,
and sees what stands side by side. All of them together answer the unlabelled texts, of which there
are more than labelled ones.

What is said of a labelled text is said by models that saw neither that text nor any of its group:
what they have learned by heart would be no lesson.

Source:
    Naive Bayes weights: Wang and Manning, "Baselines and Bigrams" (2012). Soft labels: Hinton,
    Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression

from app.errors import DataError
from app.text.padding import Int32Array
from training.data.split import split_by_group
from training.distillation.convolution import Convolution
from training.features.ngram_hashing import list_ngrams, log_ratio
from training.features.ngram_vectors import NgramVectors, known_numbers
from training.features.store import Known
from training.support.arrays import Float32Array, Float64Array
from training.support.cache import Once, keep
from training.support.progress import console

Folds = Sequence[tuple[NDArray[Any], NDArray[Any]]]


FOLDS: Final = 5


_STRENGTH_OF_COUNTS: Final = 30.0


_STRENGTH_OF_VECTORS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Taught:
    """What a teacher leaves behind.

    Attributes:
        table: float32 (buckets, classes): what an n-gram adds to the logits of the linear models,
            before the sum is divided by the root of the number of n-grams.
        bias: float32 (classes,), of the same.
        labelled: float32 (texts, classes): what it says of each labelled text, out of fold.
        unlabelled: float32 (texts, classes).
    """

    table: Float32Array
    bias: Float32Array
    labelled: Float32Array
    unlabelled: Float32Array


@dataclass(frozen=True, slots=True)
class Material:
    """What a teacher learns from and is asked about.

    Attributes:
        rows: The ids of each labelled text, as a model reads them.
        target: The class of each, (rows,).
        groups: What must stay together; a text of None is a group of its own.
        unlabelled: The ids of each unlabelled text, as a model reads them.
        classes: Labels there are.
        vocabulary: Ids there are.
        seed: Of all that is drawn.
    """

    rows: Sequence[Int32Array]
    target: NDArray[np.int64]
    groups: Sequence[Hashable | None]
    unlabelled: Sequence[Int32Array]
    classes: int
    vocabulary: int
    seed: int


def teach(
    material: Material,
    know_ngrams: Callable[[], NgramVectors],
    know_places: Callable[[], Known] | None,
    *,
    orders: int,
    buckets: int,
    once: Once,
) -> Taught:
    """Fit the teacher and ask it about every text.

    Args:
        material: What it learns from and is asked about.
        know_ngrams: Learns the vectors of the n-grams of all texts.
        know_places: Learns what a convolution starts from; without it there is none.
        orders: Words of an n-gram of the table, at most.
        buckets: Rows of the table, a power of two.
        once: Of a `WorkingFolder`: where each part of the work is kept, so that it is done once.

    Raises:
        DataError: There are too few texts of a label, or too few groups, to part them into folds.
    """
    folds = _part(material, FOLDS)
    # A number for a smaller table is the end of that for a larger one, and so is a bucket.
    numbers = known_numbers(material.vocabulary)[:orders]
    # The vectors are not held on to: they are hundreds of megabytes, and the convolution's too.
    linear = keep(
        once, "linear.npz", lambda: _fit_linear(material, folds, know_ngrams(), numbers, buckets)
    )
    logits = [(linear["labelled"], linear["unlabelled"])]
    if know_places is not None:
        logits.append(_fit_convolutions(material, folds, know_places, once))
    labelled, unlabelled = (np.stack(each) for each in zip(*logits, strict=True))
    weights = mix(labelled, material.target) if len(labelled) > 1 else np.ones(1)
    mixed = np.tensordot(weights, labelled, axes=1)
    _tell("teacher", mixed, labelled, material.target)
    return Taught(
        table=linear["table"],
        bias=linear["bias"],
        labelled=softmax(mixed, axis=1).astype(np.float32),
        unlabelled=softmax(np.tensordot(weights, unlabelled, axes=1), axis=1).astype(np.float32),
    )


def _part(material: Material, number: int) -> Folds:
    """For each fold the rows of all others, which have texts of every label, and its own.

    Groups go into folds by turns, as their texts stand. Where labels stand by turns as well, a fold
    might have all texts of one; then the texts are shuffled first.
    """
    rows = np.arange(len(material.target))
    try:
        for order in (rows, np.random.default_rng(material.seed).permutation(rows)):
            parted = split_by_group([material.groups[row] for row in order.tolist()], number)
            folds = [(np.sort(order[others]), np.sort(order[fold])) for others, fold in parted]
            left = [len(np.unique(material.target[others])) for others, _ in folds]
            if min(left) == material.classes:
                return folds
    except ValueError as error:
        raise DataError(
            f"for a teacher the training texts must be of {number} groups or more: of each it is "
            "asked what it has learned from others. Received: fewer"
        ) from error
    raise DataError(
        f"for a teacher the training texts are parted into {number} folds by group, and every "
        "label must stand in two of them. Received: one in a single fold"
    )


def _fit_linear(
    material: Material,
    folds: Folds,
    vectors: NgramVectors,
    numbers: Int32Array,
    buckets: int,
) -> dict[str, NDArray[Any]]:
    """The table and bias of both linear models together, and their logits of all texts."""
    target, classes = material.target, material.classes
    labelled, unlabelled = (
        [list_ngrams(row, numbers, buckets=len(vectors.place)) for row in texts]
        for texts in (material.rows, material.unlabelled)
    )
    counts = np.bincount(np.concatenate([*labelled, *unlabelled]), minlength=len(vectors.place))
    with console.status("Fitting the linear teachers"):
        models: list[_Model] = [
            _Counts([text & (buckets - 1) for text in labelled], buckets, material.seed),
            _Vectors(labelled, vectors, counts, buckets),
        ]
        out_of_fold = np.empty((len(models), len(labelled), classes))
        for others, fold in folds:
            for model, answers in zip(models, out_of_fold, strict=True):
                table, bias = model.fit(others, target[others], classes)
                answers[fold] = model.score(fold, table) + bias
        weights = mix(out_of_fold, target)
        fitted = [model.fit(np.arange(len(labelled)), target, classes) for model in models]
    mixed = np.tensordot(weights, out_of_fold, axes=1)
    _tell("linear teachers", mixed, out_of_fold, target)
    table = np.asarray(sum(w * t for w, (t, _) in zip(weights, fitted, strict=True)), np.float32)
    bias = np.asarray(sum(w * b for w, (_, b) in zip(weights, fitted, strict=True)), np.float32)
    sums = np.array([_sum(text, table) for text in unlabelled]).reshape(-1, classes)
    return {"table": table, "bias": bias, "labelled": mixed, "unlabelled": sums + bias}


def _fit_convolutions(
    material: Material,
    folds: Folds,
    know_places: Callable[[], Known],
    once: Once,
) -> tuple[Float64Array, Float64Array]:
    """Logits of all texts: of labelled ones out of fold, of the others the mean of all folds'."""
    built: list[Convolution] = []

    def fit(number: int, others: NDArray[Any], fold: NDArray[Any]) -> dict[str, NDArray[Any]]:
        if not built:
            built.append(Convolution(know_places(), material.classes, seed=material.seed))
        network = built[0]
        network.fit(
            [material.rows[i] for i in others],
            material.target[others],
            f"Convolution {number} of {len(folds)}",
        )
        return {
            "labelled": network.score([material.rows[i] for i in fold]),
            "unlabelled": network.score(material.unlabelled),
        }

    labelled = np.empty((len(material.rows), material.classes))
    of_unlabelled = []
    for number, (others, fold) in enumerate(folds, 1):
        make = partial(fit, number, others, fold)
        answers = keep(once, f"convolution_{number}.npz", make)
        labelled[fold] = answers["labelled"]
        of_unlabelled.append(answers["unlabelled"])
    return labelled, np.mean(of_unlabelled, axis=0)


def _tell(name: str, mixed: Float64Array, each: Float64Array, target: NDArray[Any]) -> None:
    alone = ", ".join(f"{_share_right(one, target):.2%}" for one in each)
    console.print(
        f"{name}: {_share_right(mixed, target):.2%} of labelled texts right out of fold "
        f"({alone} by itself)",
        highlight=False,
        soft_wrap=True,
    )


class _Model(Protocol):
    """A linear model of n-grams over texts that it holds."""

    def fit(
        self, chosen: Any, target: NDArray[Any], classes: int
    ) -> tuple[Float32Array, Float64Array]:
        """Learn from the `chosen` texts: (buckets, classes) and (classes,)."""

    def score(self, chosen: Any, table: Float32Array) -> Float64Array:
        """Logits of the `chosen` texts without the bias, (chosen, classes)."""


class _Counts:
    """How often each n-gram stands in a text, weighted by naive Bayes."""

    def __init__(self, cells: list[Int32Array], buckets: int, seed: int) -> None:
        found = [np.unique(text, return_counts=True) for text in cells]
        columns = np.concatenate([columns for columns, _ in found])
        ends = np.cumsum([0, *(len(columns) for columns, _ in found)])
        values = np.concatenate(
            [
                counts / np.sqrt(max(len(text), 1))
                for (_, counts), text in zip(found, cells, strict=True)
            ]
        )
        shape = (len(cells), buckets)
        self._features = csr_matrix((values.astype(np.float32), columns, ends), shape=shape)
        self._seed = seed

    def fit(
        self, chosen: Any, target: NDArray[Any], classes: int
    ) -> tuple[Float32Array, Float64Array]:
        features = self._features[chosen]
        present = features.astype(bool).astype(np.float32)
        having = np.stack([present.T @ (target == k).astype(np.float32) for k in range(classes)], 1)
        ratio = log_ratio(having, np.bincount(target, minlength=classes))

        def one(k: int) -> tuple[NDArray[Any], float]:
            # The dual has a variable for each text, and there are far fewer texts than n-grams.
            model = LogisticRegression(
                C=_STRENGTH_OF_COUNTS, solver="liblinear", dual=True, random_state=self._seed
            )
            model.fit(features.multiply(ratio[:, k]).tocsr(), target == k)
            return model.coef_[0] * ratio[:, k], model.intercept_[0]

        return _each_class(one, classes)

    def score(self, chosen: Any, table: Float32Array) -> Float64Array:
        scores: Float64Array = self._features[chosen] @ table.astype(np.float64)
        return scores


class _Vectors:
    """The sum of the vectors of a text's n-grams."""

    def __init__(
        self,
        cells: list[Int32Array],
        vectors: NgramVectors,
        counts: NDArray[np.int64],
        buckets: int,
    ) -> None:
        self._cells, self._vectors = cells, vectors
        self._counts, self._buckets = counts, buckets
        self._features = vectors.sum(cells)

    def fit(
        self, chosen: Any, target: NDArray[Any], classes: int
    ) -> tuple[Float32Array, Float64Array]:
        def one(k: int) -> tuple[NDArray[Any], float]:
            model = LogisticRegression(C=_STRENGTH_OF_VECTORS, max_iter=500)
            model.fit(self._features[chosen], target == k)
            return model.coef_[0], model.intercept_[0]

        weights, bias = _each_class(one, classes)
        table = self._vectors.spread(
            weights.astype(np.float64), self._counts, buckets=self._buckets
        )
        return table, bias

    def score(self, chosen: Any, table: Float32Array) -> Float64Array:
        return np.array([_sum(self._cells[text], table) for text in chosen], np.float64)


def _each_class(
    one: Callable[[int], tuple[NDArray[Any], float]], classes: int
) -> tuple[Float32Array, Float64Array]:
    """One class against the others, for each; of two classes the one mirrors the other."""
    if classes == 2:
        table, bias = one(1)
        half = table.astype(np.float32) / 2
        return np.stack([-half, half], axis=1), np.array([-bias, bias]) / 2
    fitted = [one(k) for k in range(classes)]
    tables = np.stack([table for table, _ in fitted], axis=1).astype(np.float32)
    return tables, np.array([bias for _, bias in fitted])


def _sum(cells: Int32Array, table: Float32Array) -> Float32Array:
    rows = table[cells & (len(table) - 1)]
    total: Float32Array = rows.sum(axis=0) / np.sqrt(np.float32(max(len(cells), 1)))
    return total


def mix(scores: Float64Array, target: NDArray[Any]) -> Float64Array:
    """How much each model counts, so that the probabilities of the mixture fit best: (models,)."""
    rows = np.arange(len(target))

    def loss(weights: Float64Array) -> float:
        return -float(
            log_softmax(np.tensordot(weights, scores, axes=1), axis=1)[rows, target].mean()
        )

    found = minimize(
        loss, np.ones(len(scores)), method="L-BFGS-B", bounds=[(0, None)] * len(scores)
    )
    return np.asarray(found.x, np.float64)


def _share_right(scores: Float64Array, target: NDArray[Any]) -> float:
    return float((scores.argmax(axis=1) == target).mean())
