from typing import Any

import pytest

from load_tests.answers import (
    moved,
    server_timing,
    wrong_prediction,
    wrong_predictions,
    wrong_tensors,
)

LABELS = ("negative", "positive")


def prediction(positive: float = 0.75, tokens: int = 10) -> dict[str, Any]:
    return {
        "label": "positive" if positive >= 0.5 else "negative",
        "probabilities": {"negative": 1 - positive, "positive": positive},
        "tokens": tokens,
        "truncated": False,
    }


def test_a_right_answer_passes() -> None:
    """An answer that follows the contract breaks no rule."""
    assert wrong_prediction(prediction(), LABELS) is None
    assert wrong_predictions({"predictions": [prediction()]}, LABELS, [10]) is None


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"error": {"status": 504}}, "not an error"),
        ({"probabilities": {"positive": 1.0}}, "one probability for each label"),
        ({"probabilities": {"negative": "0.25", "positive": 0.75}}, "a number from 0 to 1"),
        ({"probabilities": {"negative": float("nan"), "positive": 0.75}}, "a number from 0 to 1"),
        ({"probabilities": {"negative": -0.25, "positive": 1.25}}, "a number from 0 to 1"),
        ({"probabilities": {"negative": 0.24999, "positive": 0.75}}, "sum to 1"),
        ({"label": "negative"}, "the highest probability"),
        ({"label": "glad"}, "the highest probability"),
    ],
)
def test_a_wrong_answer_is_named(change: dict[str, Any], rule: str) -> None:
    """Each rule of the contract on one prediction is reported by its own sentence."""
    assert rule in (wrong_prediction(prediction() | change, LABELS) or "")


@pytest.mark.parametrize("body", [None, [], {}, {"predictions": []}, {"predictions": 1}])
def test_a_missing_prediction_is_named(body: Any) -> None:
    """There must be exactly one prediction per text."""
    assert wrong_predictions(body, LABELS, [10]) == "there is one prediction per text"


def test_one_wrong_among_several_is_named() -> None:
    """Correct neighbours do not hide a wrong prediction."""
    body = {"predictions": [prediction(), prediction() | {"label": "negative"}]}
    assert "highest probability" in (wrong_predictions(body, LABELS, [10, 10]) or "")


def test_swapped_answers_are_named() -> None:
    """A short text with the token count of a long one reveals swapped predictions."""
    body = {"predictions": [prediction(tokens=200), prediction(tokens=10)]}
    assert wrong_predictions(body, LABELS, [200, 10]) is None
    assert "in the order" in (wrong_predictions(body, LABELS, [10, 200]) or "")


def test_an_answer_may_move_by_the_tolerance_only() -> None:
    """Rounding is tolerated; a different answer to the same text is not."""
    assert moved(prediction(0.75), prediction(0.750009)) is None
    assert "same text" in (moved(prediction(0.75), prediction(0.75002)) or "")


def test_server_timing_gives_milliseconds_by_name() -> None:
    """Durations are read among other parameters; no header means no durations."""
    header = 'tokenize;dur=0.1, queue;desc="in line";dur=2, infer; dur=3.5, hit'
    assert server_timing(header) == {"tokenize": 0.1, "queue": 2.0, "infer": 3.5}
    assert server_timing("") == {}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({}, None),
        ({"label": ["positive"]}, "one prediction per text"),
        ({"label": ["negative", "negative"]}, "the highest probability"),
        ({"probabilities": [0.25, 0.75]}, "one probability for each label"),
        ({"probabilities": [0.25, 0.75, 0.9, 0.2]}, "sum to 1"),
        ({"probabilities": None}, "one probability for each label"),
    ],
)
def test_tensors(change: dict[str, Any], rule: str | None) -> None:
    """The outputs of two texts are read row by row, each by the rules for one prediction."""
    data = {"label": ["positive", "negative"], "probabilities": [0.25, 0.75, 0.9, 0.1]} | change
    outputs = [{"name": name, "data": values} for name, values in data.items()]
    found = wrong_tensors({"outputs": outputs}, LABELS, 2)
    assert found == rule or (rule and rule in (found or ""))
    assert wrong_tensors({"error": "full"}, LABELS, 2) == "an answer has a list of outputs"
