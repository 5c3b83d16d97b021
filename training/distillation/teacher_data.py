"""What goes into a teacher and what comes out of it, and the folds in between."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from app.errors import DataError
from app.text.padding import Int32Array
from training.data.split import split_by_group
from training.distillation.soft_labels import SoftLabels
from training.support.arrays import Float32Array, Int64Array

Fold = tuple[Int64Array, Int64Array]
"""The rows to learn from, and the rows to predict."""


@dataclass(frozen=True, slots=True)
class TeacherInput:
    """What a teacher learns from, and the texts it labels.

    Attributes:
        rows: The ids of each labelled text, as the student reads them.
        targets: The class of each labelled text, (rows,).
        groups: The group of each labelled text, see `training.data.split.group_digests`.
        unlabelled: The ids of each unlabelled text, as the student reads them.
        classes: The number of classes.
        vocabulary: The number of ids.
        seed: Of the order of the texts and of every model.
        validation: The ids of each validation text, if they are to be labelled too.
    """

    rows: Sequence[Int32Array]
    targets: Int64Array
    groups: Sequence[Hashable]
    unlabelled: Sequence[Int32Array]
    classes: int
    vocabulary: int
    seed: int
    validation: Sequence[Int32Array] = ()


@dataclass(frozen=True, slots=True)
class TeacherOutput:
    """What a student gets from its teacher.

    Attributes:
        ngram_logits: What each n-gram adds to the logits of the linear models, before the sum is
            divided by the square root of the number of n-grams: float32 (buckets, classes).
        bias: The bias of the linear models, float32 (classes,).
        labelled: Soft labels of the labelled texts, out of fold: float32 (texts, classes).
        unlabelled: Soft labels of the unlabelled texts, float32 (texts, classes).
        validation: Soft labels of the validation texts, float32 (texts, classes).
    """

    ngram_logits: Float32Array
    bias: Float32Array
    labelled: Float32Array
    unlabelled: Float32Array
    validation: Float32Array

    @property
    def soft_labels(self) -> SoftLabels:
        """Its soft labels of all texts."""
        return SoftLabels(self.labelled, self.unlabelled, self.validation)


def make_folds(data: TeacherInput, number: int) -> list[Fold]:
    """Divide the labelled texts into folds by group; the rest of each has texts of every class.

    Groups are dealt to the folds in the order of their texts. If the classes alternate in that
    order, one fold may get all texts of a class; then the texts are shuffled first.

    Raises:
        DataError: There are too few groups, or a class is in one fold only.
    """
    rows = np.arange(len(data.targets))
    try:
        for order in (rows, np.random.default_rng(data.seed).permutation(rows)):
            divided = split_by_group([data.groups[row] for row in order.tolist()], number)
            folds = [(np.sort(order[rest]), np.sort(order[fold])) for rest, fold in divided]
            classes_left = [len(np.unique(data.targets[rest])) for rest, _ in folds]
            if min(classes_left) == data.classes:
                return folds
    except ValueError as error:
        raise DataError(
            f"a teacher needs training texts of at least {number} groups, for its out-of-fold "
            "predictions. Received: fewer"
        ) from error
    raise DataError(
        f"a teacher divides the training texts into {number} folds by group, and each class must "
        "be in at least two of them. Received: a class in a single fold"
    )
