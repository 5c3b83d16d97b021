"""Metrics of predicted probabilities, with confidence intervals, by label and by slice.

Throughout, `y_true` is int (n,), indices of labels, and `probabilities` is float (n, c).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from app.text.encoder import Encoded
from training.data.corpus import Corpus
from training.support.arrays import FloatArray, IntArray

BINS: Final = 15
"""Bins of equal width for calibration, as in Guo et al. (2017)."""
RESAMPLES: Final = 10_000
"""Bootstrap resamples: the ends of an interval then vary by about 1 % of its width."""
_CELLS_AT_ONCE: Final = 2**20
"""Matrix cells that a bootstrap holds at a time (8 MB); 100 labels would need 800 MB at once."""
_Z_95: Final = 1.959964
"""95 % of a normal distribution lie within this many standard deviations of the mean."""
Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scored:
    """Predictions for labelled texts.

    Attributes:
        labels: In the order of the model's outputs, at least two.
        y_true: int (n,), at least one text.
        probabilities: float (n, c), rows summing to 1.
        tokens: int (n,), tokens of each text before truncation.
        unknown: float (n,), share of the encoded tokens that are out of vocabulary.
    """

    labels: tuple[str, ...]
    y_true: IntArray
    probabilities: FloatArray
    tokens: IntArray
    unknown: FloatArray

    def __post_init__(self) -> None:
        """Check that the shapes match."""
        expected = (len(self.y_true), len(self.labels))
        if self.probabilities.shape != expected or not len(self.y_true):
            raise ValueError(
                f"probabilities must have a row per text and a column per label, {expected}, and "
                f"at least one row. Received: {self.probabilities.shape}"
            )
        if self.tokens.shape != self.y_true.shape or self.unknown.shape != self.y_true.shape:
            raise ValueError(
                f"tokens and unknown must have an entry per text, {len(self.y_true)}. "
                f"Received: {self.tokens.shape}, {self.unknown.shape}"
            )

    def right(self) -> NDArray[np.bool_]:
        """Whether each prediction is correct, bool (n,)."""
        found: NDArray[np.bool_] = self.probabilities.argmax(axis=1) == self.y_true
        return found


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models on the same texts: counts of correct predictions.

    Attributes:
        both: Texts that both models classify correctly.
        only_first: Texts that only the first one classifies correctly.
        only_second: Texts that only the second one classifies correctly.
        neither: Texts that neither classifies correctly.
        p_value: Probability that two equally good models differ at least this much.
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float


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
        """The area under the curve, by the trapezoidal rule."""
        return float(np.trapezoid(self.true_positive_rate, self.false_positive_rate))


@dataclass(frozen=True, slots=True)
class Reliability:
    """Confidence and accuracy, by bin of confidence.

    Attributes:
        confidence: float (BINS,), mean probability of the predicted label; NaN in an empty bin.
        accuracy: float (BINS,), share of correct predictions; NaN in an empty bin.
        counts: int (BINS,), texts in each bin.
        error: Expected calibration error: mean |confidence - accuracy|, weighted by counts.
    """

    confidence: FloatArray
    accuracy: FloatArray
    counts: IntArray
    error: float


def measure(
    probabilities: FloatArray, targets: IntArray, labels: Sequence[str]
) -> dict[str, float]:
    """Every score of a split.

    Args:
        probabilities: float (n, c).
        targets: The true class of each text, int (n,).
        labels: Of the classes.

    Returns:
        `accuracy`, `macro_f1` (the mean over labels that a text has), `log_loss`, `roc_auc` (the
        mean over labels against the rest when there are more than two; left out where no label has
        both kinds of text) and `expected_calibration_error`.
    """
    matrix = confusion_matrix(targets, probabilities)
    f1 = [f1 for row in score_labels(matrix, labels).values() if (f1 := row["f1"]) is not None]
    areas = [curve.area() for curve in roc_curves(targets, probabilities, labels).values()]
    scores = {
        "accuracy": np.trace(matrix) / matrix.sum(),
        "macro_f1": np.mean(f1),
        "log_loss": log_loss(probabilities, targets),
        "expected_calibration_error": measure_reliability(targets, probabilities).error,
    }
    if areas:
        scores["roc_auc"] = np.mean(areas)
    return {name: round(float(value), 6) for name, value in scores.items()}


def log_loss(probabilities: FloatArray, targets: IntArray) -> float:
    """Mean negative logarithm of what the true class was given."""
    given = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.maximum(given, 1e-15)).mean())


def confusion_matrix(y_true: IntArray, probabilities: FloatArray) -> IntArray:
    """Counts, int (c, c): the row is the true label, the column the predicted one."""
    size = probabilities.shape[1]
    cells = y_true * size + probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=size * size).reshape(size, size)


def score_labels(matrix: IntArray, labels: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Precision, recall, F1 and the number of texts of each label, from a confusion matrix.

    A precision without predictions is 0. A label that no text has, has no recall and no F1: None.
    """
    rows: dict[str, dict[str, float | None]] = {}
    for k, label in enumerate(labels):
        hits, predicted, there = int(matrix[k, k]), int(matrix[:, k].sum()), int(matrix[k].sum())
        rows[label] = {
            "precision": hits / predicted if predicted else 0.0,
            "recall": hits / there if there else None,
            "f1": 2 * hits / (predicted + there) if there else None,
            "texts": there,
        }
    return rows


def roc_curves(
    y_true: IntArray, probabilities: FloatArray, labels: Sequence[str]
) -> dict[str, Curve]:
    """Return the one-vs-rest ROC curve of each label; with two labels, of the second one only.

    A label that no text or every text has gets no curve.
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
    """Return the ROC curve of one label.

    Tied scores pass the threshold together, so the area is the probability that a positive text
    scores above a negative one, with ties counting one half.

    Args:
        positive: bool (n,).
        score: float (n,), higher for texts more likely positive.

    Returns:
        The curve, or None unless both positive and negative texts exist.
    """
    order = np.argsort(-score, kind="stable")
    ends_of_ties = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    hits = np.append(0, np.cumsum(positive[order])[ends_of_ties])
    alarms = np.append(0, np.cumsum(~positive[order])[ends_of_ties])
    if not hits[-1] or not alarms[-1]:
        return None
    return Curve(alarms / alarms[-1], hits / hits[-1])


def measure_reliability(y_true: IntArray, probabilities: FloatArray) -> Reliability:
    """Compare the confidence of predictions with their accuracy, by bin.

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


def bootstrap(matrix: IntArray, *, seed: int = 0) -> dict[str, Interval]:
    """Return 95 % bootstrap intervals of accuracy and macro-F1, the mean over labels with texts.

    Resampling n texts with replacement is equivalent to drawing the confusion matrix from a
    multinomial distribution, so matrices are drawn instead of texts.

    Args:
        matrix: Counts, int (c, c), from `confusion_matrix`.
        seed: Seed of the random generator.

    Source:
        Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 13: percentiles.
    """
    texts = matrix.sum()
    occurring = matrix.any(axis=1)
    generator = np.random.default_rng(seed)
    accuracy, macro_f1 = np.empty(RESAMPLES), np.empty(RESAMPLES)
    at_once = max(1, _CELLS_AT_ONCE // matrix.size)
    for start in range(0, RESAMPLES, at_once):
        part = slice(start, min(start + at_once, RESAMPLES))
        size = part.stop - part.start
        drawn = generator.multinomial(texts, matrix.ravel() / texts, size=size)
        drawn = drawn.reshape(size, *matrix.shape)
        hits = np.diagonal(drawn, axis1=1, axis2=2)
        f1 = 2 * hits / np.maximum(drawn.sum(axis=1) + drawn.sum(axis=2), 1)
        accuracy[part], macro_f1[part] = hits.sum(axis=1) / texts, f1[:, occurring].mean(axis=1)
    figures = {"accuracy": accuracy, "macro_f1": macro_f1}
    ends = {name: np.percentile(values, [2.5, 97.5]) for name, values in figures.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def wilson(hits: int, texts: int) -> Interval:
    """Return the 95 % Wilson interval of a proportion; valid for small samples too.

    Source:
        Wilson (1927), Probable inference, the law of succession, and statistical inference.
    """
    share, spread = hits / texts, _Z_95**2 / texts
    middle = (share + spread / 2) / (1 + spread)
    reach = np.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(0.0, float(middle - reach)), min(1.0, float(middle + reach))


def compare_paired(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Paired:
    """Run McNemar's mid-p test.

    Only texts on which exactly one model is correct count; two equally good models would split
    them evenly.

    Args:
        first: Whether the first model is correct on each text, bool (n,).
        second: The same for the second model.

    Source:
        Fagerland, Lydersen and Laake (2013), The McNemar test for binary matched-pairs data.
    """
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    fewer, discordant = min(only_first, only_second), only_first + only_second
    tail = 2 * binom.cdf(fewer, discordant, 0.5) - binom.pmf(fewer, discordant, 0.5)
    return Paired(
        both=int((first & second).sum()),
        only_first=only_first,
        only_second=only_second,
        neither=int((~first & ~second).sum()),
        # With equal counts the two tails overlap.
        p_value=1.0 if only_first == only_second else float(tail),
    )


def slice_accuracy(
    right: NDArray[np.bool_], values: FloatArray | IntArray, edges: Sequence[float]
) -> list[dict[str, float | None]]:
    """Return the accuracy of slices of the texts, split at the edges of a value.

    Args:
        right: Whether each prediction is correct, bool (n,).
        values: The value to slice by, (n,).
        edges: Ascending upper edges (inclusive). The first slice has no lower edge, the last no
            upper one.

    Returns:
        One mapping per non-empty slice: the edges `above` and `up_to` (None at the ends), `texts`,
        `accuracy`, and the 95 % interval from `low` to `high`.
    """
    place = np.searchsorted(np.asarray(edges), values, side="left")
    texts = np.bincount(place, minlength=len(edges) + 1).tolist()
    hits = np.bincount(place, right, len(edges) + 1).astype(int).tolist()
    rows: list[dict[str, float | None]] = []
    for above, up_to, there, correct in zip(
        (None, *edges), (*edges, None), texts, hits, strict=True
    ):
        if there:
            low, high = wilson(correct, there)
            rows.append(
                {"above": above, "up_to": up_to, "texts": there, "accuracy": correct / there}
                | {"low": low, "high": high}
            )
    return rows


def worst_mistakes(scored: Scored, count: int = 20) -> list[int]:
    """Return the positions of wrong predictions, most confident first."""
    wrong = np.flatnonzero(~scored.right())
    confidence = scored.probabilities[wrong].max(axis=1)
    found: list[int] = wrong[np.argsort(-confidence, kind="stable")[:count]].tolist()
    return found


def collect(
    corpus: Corpus,
    labels: tuple[str, ...],
    encoded: list[Encoded],
    probabilities: NDArray[np.float64],
) -> Scored:
    """Combine probabilities with true labels, token counts and shares of unknown tokens."""
    index = {label: position for position, label in enumerate(labels)}
    lengths = [text.read for text in encoded]
    return Scored(
        labels=labels,
        y_true=np.array([index[example.label] for example in corpus.examples], np.int32),
        probabilities=probabilities,
        tokens=np.array([text.tokens for text in encoded], np.int32),
        unknown=np.array(
            [
                (read - text.known) / max(read, 1)
                for text, read in zip(encoded, lengths, strict=True)
            ]
        ),
    )
