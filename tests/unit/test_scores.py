"""The scores of answers, and how sure they are."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

from tests.deferred import deferred

with deferred():
    from scipy.stats import binom, binomtest

    from training.reports.scores import (
        Scored,
        bootstrap,
        compare_paired,
        confusion_matrix,
        log_loss,
        measure,
        measure_reliability,
        roc_curve,
        roc_curves,
        score_labels,
        slice_accuracy,
        wilson,
        worst_mistakes,
    )

LABELS = ("negative", "neutral", "positive")


def scored(texts: int = 300, *, labels: tuple[str, ...] = LABELS) -> Scored:
    """Made-up answers of a fair model."""
    generator = np.random.default_rng(1)
    y_true = np.arange(texts) % len(labels)
    logits = generator.normal(size=(texts, len(labels)))
    logits[np.arange(texts), y_true] += 1.5
    exponents = np.exp(logits)
    return Scored(
        labels=labels,
        y_true=y_true,
        probabilities=exponents / exponents.sum(axis=1, keepdims=True),
        tokens=generator.integers(1, 300, texts),
        unknown=generator.random(texts) / 4,
    )


@pytest.fixture(scope="module")
def sklearn() -> Any:
    """Another one's definitions of the same figures."""
    return pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")


def test_confusion_matrix_has_true_labels_in_rows() -> None:
    """Row i, column j counts texts of label i that were taken for j."""
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
    assert confusion_matrix(np.array([0, 0, 1]), probabilities).tolist() == [[1, 1], [0, 1]]


def test_scores_of_labels() -> None:
    """Precision is of what was predicted, recall of what was there, if something was."""
    scores = score_labels(np.array([[3, 1, 0], [2, 4, 0], [0, 0, 0]]), ("a", "b", "c"))
    assert scores["a"] == {"precision": 0.6, "recall": 0.75, "f1": pytest.approx(2 / 3), "texts": 4}
    assert scores["c"] == {"precision": 0.0, "recall": None, "f1": None, "texts": 0}


@pytest.mark.parametrize(
    ("matrix", "macro_f1"),
    [
        ([[5, 0, 0], [0, 0, 0], [0, 0, 5]], 1.0),
        ([[4, 1, 0], [0, 0, 0], [0, 1, 4]], 8 / 9),  # what was taken for neutral counts as missed
        ([[4, 1, 0], [0, 2, 0], [0, 1, 4]], (8 / 9 + 2 / 3 + 8 / 9) / 3),
        ([[3, 0, 2], [0, 0, 0], [0, 0, 0]], 0.75),
    ],
)
def test_macro_f1_is_of_labels_that_occur(matrix: list[list[int]], macro_f1: float) -> None:
    """Macro-F1 and its interval are of the labels that a text has."""
    true, predicted = np.repeat(np.indices((3, 3)).reshape(2, 9), np.ravel(matrix), axis=1)
    assert measure(np.eye(3)[predicted], true, LABELS)["macro_f1"] == pytest.approx(
        macro_f1, abs=1e-6
    )
    low, high = bootstrap(np.array(matrix))["macro_f1"]
    assert low <= macro_f1 <= high


@pytest.mark.parametrize("decimals", [1, 6], ids=["many ties", "no ties"])
def test_roc_area_is_a_chance(decimals: int) -> None:
    """The area is the chance that a positive scores above a negative, a tie counting half."""
    generator = np.random.default_rng(3)
    positive = generator.random(300) < 0.3
    score = np.round(generator.normal(size=300) + positive, decimals)
    gaps = score[positive][:, None] - score[~positive][None, :]
    curve = roc_curve(positive, score)
    assert curve is not None
    assert curve.area() == pytest.approx((gaps > 0).mean() + (gaps == 0).mean() / 2)


def test_roc_runs_from_corner_to_corner() -> None:
    """A perfect order has the area 1, its reverse 0, and equal scores draw the diagonal."""
    positive = np.array([True, True, False, False])
    curves = [
        roc_curve(positive, np.array(score))
        for score in ([0.9, 0.8, 0.2, 0.1], [0.1, 0.2, 0.8, 0.9], [0.5, 0.5, 0.5, 0.5])
    ]
    assert [curve.area() for curve in curves if curve] == [1.0, 0.0, 0.5]


def test_roc_is_of_the_second_of_two_labels_or_of_all() -> None:
    """Two labels have mirrored curves, so one is drawn; a label without texts has none."""
    two, three = scored(labels=LABELS[::2]), scored()
    assert list(roc_curves(two.y_true, two.probabilities, two.labels)) == ["positive"]
    absent = np.where(three.y_true == 1, 0, three.y_true)
    assert list(roc_curves(absent, three.probabilities, three.labels)) == ["negative", "positive"]


def test_calibration_error_weighs_the_gaps() -> None:
    """The error is the mean gap of the bins between confidence and accuracy, weighted by texts."""
    sure = np.array([0.6, 0.6, 0.9, 0.9, 0.9, 0.9])
    right = np.array([True, False, True, True, True, True])
    probabilities = np.stack([sure, 1 - sure], axis=1)
    found = measure_reliability(np.where(right, 0, 1), probabilities)
    assert found.error == pytest.approx((2 * 0.1 + 4 * 0.1) / 6)
    assert found.counts[[9, 13]].tolist() == [2, 4]
    assert found.accuracy[[9, 13]].tolist() == [0.5, 1.0]


def test_figures_are_those_of_scikit_learn(sklearn: Any) -> None:
    """Another library finds the same accuracy, macro-F1, log-loss, ROC area and label scores."""
    answers = scored()
    true, given = answers.y_true, answers.probabilities
    found, predicted = measure(given, true, LABELS), given.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(true, predicted), abs=1e-6)
    f1 = sklearn.f1_score(true, predicted, average="macro")
    assert found["macro_f1"] == pytest.approx(f1, abs=1e-6)
    assert found["log_loss"] == pytest.approx(sklearn.log_loss(true, given), abs=1e-6)
    area = sklearn.roc_auc_score(true, given, multi_class="ovr", average="macro")
    assert found["roc_auc"] == pytest.approx(area, abs=1e-6)
    report = sklearn.classification_report(true, predicted, target_names=LABELS, output_dict=True)
    for label, row in score_labels(confusion_matrix(true, given), LABELS).items():
        names = {"precision": "precision", "recall": "recall", "f1": "f1-score", "texts": "support"}
        assert row == pytest.approx({name: report[label][names[name]] for name in row})


def test_measure() -> None:
    """The figures are those of the definitions, worked out by hand."""
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
    scores = measure(probabilities, np.array([0, 0, 1, 1], np.int32), ("negative", "positive"))
    assert scores["accuracy"] == 0.5
    assert scores["macro_f1"] == 0.5
    assert scores["roc_auc"] == 0.75
    assert scores["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.3]).mean(), abs=1e-6)
    gaps = [0.1, 0.6, 0.2, 0.7]  # |confidence - right or wrong|, each alone in its bin
    assert scores["expected_calibration_error"] == pytest.approx(np.mean(gaps), abs=1e-6)


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    """Being wrong with certainty costs much, not infinity."""
    assert np.isfinite(log_loss(np.array([[1.0, 0.0]]), np.array([1], np.int32)))


def test_bootstrap_of_accuracy_is_binomial() -> None:
    """Of 200 texts, 160 of them right, 95 % of new draws are within the binomial quantiles."""
    found = bootstrap(np.array([[70, 20], [20, 90]]))["accuracy"]
    expected = binom.ppf([0.025, 0.975], 200, 0.8) / 200
    np.testing.assert_allclose(found, expected, atol=0.0055)  # a text, and the resampling


def test_bootstrap_of_macro_f1_is_that_of_drawn_texts() -> None:
    """Drawing matrices gives the interval that drawing texts one by one gives."""
    answers = scored(150)
    generator, macro_f1 = np.random.default_rng(8), []
    for _ in range(2_000):
        drawn = generator.integers(150, size=150)
        matrix = confusion_matrix(answers.y_true[drawn], answers.probabilities[drawn])
        macro_f1.append(np.mean([row["f1"] for row in score_labels(matrix, LABELS).values()]))
    found = bootstrap(confusion_matrix(answers.y_true, answers.probabilities))["macro_f1"]
    assert found == pytest.approx(np.percentile(macro_f1, [2.5, 97.5]), abs=0.01)


def test_bootstrap_of_many_labels_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices are drawn a few at a time; with a hundred labels, all of them would need much."""
    monkeypatch.setattr("training.reports.scores.RESAMPLES", 500)
    tracemalloc.start()
    bootstrap(np.ones((100, 100), int))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6 < 500 * 100 * 100 * 8


def test_bootstrap_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many matrices are in memory at once changes no interval."""
    matrix = np.array([[70, 20], [20, 90]])
    whole = bootstrap(matrix)
    monkeypatch.setattr("training.reports.scores._CELLS_AT_ONCE", 4 * 999)
    assert bootstrap(matrix) == whole


def test_bootstrap_is_seeded() -> None:
    """The same seed gives the same intervals; a model without mistakes has none to vary."""
    matrix = np.array([[70, 20], [20, 90]])
    assert bootstrap(matrix) == bootstrap(matrix) != bootstrap(matrix, seed=1)
    assert bootstrap(np.array([[5, 0], [0, 5]]))["accuracy"] == (1.0, 1.0)


@pytest.mark.parametrize(("hits", "texts"), [(0, 3), (3, 3), (7, 9), (850, 1000)])
def test_wilson(hits: int, texts: int) -> None:
    """The interval is Wilson's, as scipy works it out."""
    expected = binomtest(hits, texts).proportion_ci(0.95, method="wilson")
    assert wilson(hits, texts) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_mcnemar() -> None:
    """Of 6 texts on which two models part, 1 and 5: 2 (1 + 6) / 64, less the half of 2 * 6 / 64."""
    first = np.array([True] * 4 + [True] + [False] * 5 + [False] * 2)
    second = np.array([True] * 4 + [False] + [True] * 5 + [False] * 2)
    found = compare_paired(first, second)
    assert (found.both, found.only_first, found.only_second, found.neither) == (4, 1, 5, 2)
    assert found.p_value == pytest.approx(14 / 64 - 6 / 64)
    assert compare_paired(second, first).p_value == found.p_value


@pytest.mark.parametrize("apart", [0, 1, 400])
def test_mcnemar_of_equals(apart: int) -> None:
    """Models that get equally many texts right are no different, whether they part or not."""
    first = np.array([True] * apart + [False] * apart + [True])
    second = np.array([False] * apart + [True] * apart + [True])
    assert compare_paired(first, second).p_value == 1.0


def test_slices() -> None:
    """A text whose value is an edge is below it; a slice without texts is left out."""
    right = np.array([True, False, True, True, False])
    rows = slice_accuracy(right, np.array([3, 8, 9, 16, 5000]), (8, 16, 32))
    told = [(row["above"], row["up_to"], row["texts"], row["accuracy"]) for row in rows]
    assert told == [(None, 8, 2, 0.5), (8, 16, 2, 1.0), (32, None, 1, 0.0)]
    assert (rows[0]["low"], rows[0]["high"]) == wilson(1, 2)


def test_worst_mistakes() -> None:
    """Of the texts it got wrong, those it was surest of come first; a right one never."""
    answers = Scored(
        labels=("negative", "positive"),
        y_true=np.array([0, 0, 0, 1]),
        probabilities=np.array([[0.4, 0.6], [0.99, 0.01], [0.1, 0.9], [0.8, 0.2]]),
        tokens=np.ones(4, int),
        unknown=np.zeros(4),
    )
    assert worst_mistakes(answers) == [2, 3, 0]
    assert worst_mistakes(answers, 1) == [2]


@pytest.mark.parametrize(("texts", "labels"), [(199, 2), (200, 3), (0, 2)])
def test_shapes_that_disagree(texts: int, labels: int) -> None:
    """Probabilities need a row per text and a column per label."""
    with pytest.raises(ValueError, match="a row per text and a column per label"):
        Scored(
            labels=tuple(f"label {k}" for k in range(labels)),
            y_true=np.zeros(texts, int),
            probabilities=np.full((200, 2), 0.5),
            tokens=np.ones(texts, int),
            unknown=np.zeros(texts),
        )


def test_every_text_has_its_length() -> None:
    """Tokens and unknown words need an entry per text."""
    with pytest.raises(ValueError, match="an entry per text, 2"):
        Scored(("a", "b"), np.zeros(2, int), np.full((2, 2), 0.5), np.ones(3, int), np.zeros(2))
