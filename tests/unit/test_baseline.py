"""What an export counts of the validation texts, and what the service counts of its texts."""

import numpy as np
import pytest

from app.artifact import CONFIDENCE_BOUNDS, Baseline
from app.telemetry.metrics import CONFIDENCES
from tests.fakes import make_encoder
from training.export.baseline import count_baseline


def test_a_baseline_counts_each_text() -> None:
    """Labels, confidence, tokens, unknown tokens and cut texts are counted over all texts."""
    encoder = make_encoder(max_length=9)
    encoded = [encoder.encode(text) for text in ("a good film", "bad", "good " * 9)]
    probabilities = np.array([[0.35, 0.65], [0.99, 0.01], [0.0, 1.0]])
    baseline = count_baseline(encoded, probabilities)
    assert baseline.labels == (1, 2)
    assert baseline.confidence == (0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0)
    assert (baseline.tokens, baseline.unknown, baseline.truncated) == (12, 1, 1)


def test_bins_are_those_of_the_metric() -> None:
    """The confidence of a baseline is compared with the buckets of `prediction_confidence`."""
    assert CONFIDENCE_BOUNDS == CONFIDENCES


def test_other_bins_are_not_compared() -> None:
    """A baseline with other bins than those of the service has no feature `confidence`."""
    made = {"labels": (1, 2), "truncated": 1, "tokens": 9, "unknown": 2}
    baseline = Baseline(**made, confidence=(1, 2), confidence_bounds=(0.5,))
    expected = {"label": (1, 2), "truncated": (2, 1), "unknown": (7, 2)}
    assert baseline.features() == expected


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"confidence": (1, 1)}, "count each text once"),
        ({"truncated": 4}, "count each text once"),
        ({"confidence": (1, 1, 1)}, "one more count of confidence"),
        ({"unknown": 10}, "no more unknown tokens"),
    ],
)
def test_a_baseline_that_does_not_add_up(wrong: dict[str, object], rule: str) -> None:
    """Counts that contradict each other are refused when the manifest is read."""
    right = {
        "labels": (1, 2),
        "confidence": (1, 2),
        "confidence_bounds": (0.5,),
        "truncated": 1,
        "tokens": 9,
        "unknown": 2,
    }
    with pytest.raises(ValueError, match=rule):
        Baseline.model_validate(right | wrong)
