"""The teacher: an ensemble too large to serve, whose soft labels the student learns.

Two of its models are linear in n-grams. The first weights n-gram counts by naive Bayes, and knows
the n-grams of labelled texts well. The second sums n-gram vectors, which are learned from all
texts, so it also knows n-grams that no labelled text contains. A weighted sum of both is one logit
per n-gram and class, a table that a student can contain for the cost of a gather and a sum. The
third model, optional, is a convolution over the same vectors and others, which sees word order.

The teacher labels labelled and unlabelled texts; there are more of the latter. Its soft labels of
labelled texts are out-of-fold predictions: the models that label a text have seen neither that text
nor its group, so they cannot repeat memorised labels.

Source:
    Naive Bayes weights: Wang and Manning, "Baselines and Bigrams" (2012). Soft labels: Hinton,
    Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015).
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
from scipy.special import softmax

from training.distillation.convolution import ConvolutionTeacher
from training.distillation.linear import fit_linear_teacher
from training.distillation.mixture import fit_mixture, print_accuracy
from training.distillation.teacher_data import Fold, TeacherInput, TeacherOutput, make_folds
from training.features.ngram_vectors import NgramVectors
from training.features.store import ConvolutionVectors
from training.support.arrays import Float64Array
from training.support.cache import Arrays, DiskCache

FOLDS: Final = 3
"""More take longer: a convolution takes 20 minutes of two cores, a third of it to label texts."""


def fit_teacher(
    data: TeacherInput,
    ngram_vectors: Callable[[], NgramVectors],
    embeddings: Callable[[], ConvolutionVectors] | None,
    *,
    orders: int,
    buckets: int,
    cache: DiskCache,
) -> TeacherOutput:
    """Fit the teacher and label every text.

    Args:
        data: What it learns from.
        ngram_vectors: Computes the n-gram vectors of all texts.
        embeddings: Computes the embeddings of the convolution; None for linear models only.
        orders: The largest number of words in an n-gram of the table.
        buckets: The number of hash buckets of the table, a power of two.
        cache: Where each finished model's predictions are kept.

    Raises:
        DataError: There are too few groups or too few texts of a class to make folds.
    """
    folds = make_folds(data, FOLDS)
    # No reference is kept to the vectors: they take hundreds of megabytes.
    linear = cache.arrays(
        "linear.npz",
        lambda: fit_linear_teacher(data, folds, ngram_vectors(), orders=orders, buckets=buckets),
    )
    logits = [(linear["labelled"], linear["unlabelled"], linear["validation"])]
    if embeddings is not None:
        logits.append(_fit_convolutions(data, folds, embeddings, cache))
    labelled, unlabelled, validation = (np.stack(each) for each in zip(*logits, strict=True))
    weights = fit_mixture(labelled, data.targets) if len(labelled) > 1 else np.ones(1)
    mixed = np.tensordot(weights, labelled, axes=1)
    print_accuracy("teacher", mixed, labelled, data.targets)
    return TeacherOutput(
        ngram_logits=linear["ngram_logits"],
        bias=linear["bias"],
        labelled=softmax(mixed, axis=1).astype(np.float32),
        unlabelled=softmax(np.tensordot(weights, unlabelled, axes=1), axis=1).astype(np.float32),
        validation=softmax(np.tensordot(weights, validation, axes=1), axis=1).astype(np.float32),
    )


def _fit_convolutions(
    data: TeacherInput,
    folds: list[Fold],
    embeddings: Callable[[], ConvolutionVectors],
    cache: DiskCache,
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Fit one convolution per fold.

    Returns:
        Logits of the labelled texts, out of fold, and of the unlabelled and the validation texts,
        the mean over all folds: (texts, classes).
    """
    built: list[ConvolutionTeacher] = []

    def fit(number: int) -> Arrays:
        if not built:  # once for all folds: its frozen vectors are large
            built.append(ConvolutionTeacher(embeddings(), data.classes, seed=data.seed))
        rest, fold = folds[number - 1]
        title = f"Convolution {number} of {len(folds)}"
        built[0].fit([data.rows[i] for i in rest], data.targets[rest], title)
        parts = {
            "labelled": [data.rows[i] for i in fold],
            "unlabelled": data.unlabelled,
            "validation": data.validation,
        }
        none = np.zeros((0, data.classes))
        return {name: built[0].predict(rows) if rows else none for name, rows in parts.items()}

    labelled = np.empty((len(data.rows), data.classes))
    others: dict[str, list[Float64Array]] = {"unlabelled": [], "validation": []}
    for number, (_, fold) in enumerate(folds, 1):
        logits = cache.arrays(f"convolution_{number}.npz", partial(fit, number))
        labelled[fold] = logits["labelled"]
        for name, of_folds in others.items():
            of_folds.append(logits[name])
    unlabelled, validation = (np.mean(of_folds, axis=0) for of_folds in others.values())
    return labelled, unlabelled, validation
