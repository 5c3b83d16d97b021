"""Scores: how good probabilities are, beyond accuracy.

Everywhere `y_true` is int (n,), indices of labels, and `probabilities` is float (n, c).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]

BINS: Final = 15
"""Bins of equal width for calibration, as in Guo et al. (2017)."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A ROC curve.

    Attributes:
        false_positive_rate: float (k,), ascending from 0 to 1.
        true_positive_rate: float (k,), ascending from 0 to 1.
    """

    false_positive_rate: FloatArray
    true_positive_rate: FloatArray

    def area(self) -> float:
        """The area under the curve, by trapezia."""
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate))


@dataclass(frozen=True, slots=True)
class Reliability:
    """How sure the model was and how often it was right, over bins of confidence.

    Attributes:
        confidence: float (BINS,), mean probability of the predicted label; NaN in an empty bin.
        accuracy: float (BINS,), the part that was right; NaN in an empty bin.
        counts: int (BINS,), texts in each bin.
        error: Mean of |confidence - accuracy| weighted by counts: the expected calibration error.
    """

    confidence: FloatArray
    accuracy: FloatArray
    counts: IntArray
    error: float


def confusion_matrix(y_true: IntArray, probabilities: FloatArray) -> IntArray:
    """Counts, int (c, c): the row is the true label, the column the predicted one."""
    size = probabilities.shape[1]
    cells = y_true * size + probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def score_labels(matrix: IntArray, labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 and the number of texts of each label, from a confusion matrix.

    A precision without predictions, and a recall without texts, is 0.
    """
    rows: dict[str, dict[str, float]] = {}
    for k, label in enumerate(labels):
        hits, predicted, there = int(matrix[k, k]), int(matrix[:, k].sum()), int(matrix[k].sum())
        rows[label] = {
            "precision": hits / predicted if predicted else 0.0,
            "recall": hits / there if there else 0.0,
            "f1": 2 * hits / (predicted + there) if predicted + there else 0.0,
            "texts": there,
        }
    return rows


def roc_curves(
    y_true: IntArray, probabilities: FloatArray, labels: Sequence[str]
) -> dict[str, Curve]:
    """The ROC of each label against all others; with two labels, of the second one alone.

    A label that no text or every text carries has no curve.
    """
    curves = {}
    for k, label in enumerate(labels):
        if len(labels) == 2 and k == 0:
            continue  # the mirror image of the other
        curve = roc_curve(y_true == k, probabilities[:, k])
        if curve is not None:
            curves[label] = curve
    return curves


def roc_curve(positive: NDArray[np.bool_], score: FloatArray) -> Curve | None:
    """The rates as the threshold falls from above the highest score to the lowest.

    Texts of equal score pass together, so ties draw a slope, and the area is the chance that a
    positive text scores above another one, a tie counting half.

    Args:
        positive: bool (n,).
        score: float (n,), higher for texts more likely positive.

    Returns:
        The curve, or None unless there are both kinds of text.
    """
    order = np.argsort(-score, kind="stable")
    ends_of_ties = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = np.append(0, np.cumsum(positive[order])[ends_of_ties])
    alarms = np.append(0, np.cumsum(~positive[order])[ends_of_ties])
    if not hits[-1] or not alarms[-1]:
        return None
    return Curve(alarms / alarms[-1], hits / hits[-1])


def measure_reliability(y_true: IntArray, probabilities: FloatArray) -> Reliability:
    """Compare the confidence in the predicted label with accuracy, bin by bin.

    Source:
        Guo et al. (2017), On Calibration of Modern Neural Networks, section 2.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == y_true
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    with np.errstate(invalid="ignore"):  # an empty bin is 0 / 0
        mean_confidence = np.bincount(place, confidence, BINS) / counts
        accuracy = np.bincount(place, correct, BINS) / counts
    gaps = np.nan_to_num(np.abs(mean_confidence - accuracy))
    error = float(counts @ gaps / counts.sum())
    return Reliability(mean_confidence, accuracy, counts, error)
