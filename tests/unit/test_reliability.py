"""The rule by which a version says that it cannot judge a text."""

import numpy as np
import pytest

from app.artifact import Reliability
from app.errors import InvalidInput
from tests.fakes import make_encoder
from training.reports.reliability import choose_reliability, give_even_odds

WORDS = 20
TEXTS = 200


def choose(accuracies: dict[float, float], *, level: float, texts: int = TEXTS) -> object:
    """The rule for texts of 20 words; for each share of unknown words, how many are right."""
    shares = np.repeat([*accuracies], texts)
    right = [i < round(texts * accuracy) for accuracy in accuracies.values() for i in range(texts)]
    read = np.full(len(shares), WORDS, np.int32)
    known = (read - np.round(shares * WORDS)).astype(np.int32)
    return choose_reliability(known, read, np.array(right), level=level)


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ({0.0: 0.9, 0.35: 0.85, 0.6: 0.7, 0.85: 0.55}, 0.5),
        ({0.0: 0.9, 0.4: 0.85, 0.45: 0.7}, 0.4),
        ({0.0: 0.9, 0.35: 0.7, 0.6: 0.85, 0.95: 0.6}, 0.9),  # a dip is no end
        ({0.0: 0.9, 0.5: 0.85}, 1.0),  # nothing measured is below
        ({0.1: 0.8, 0.95: 0.79}, 0.9),
    ],
)
def test_largest_share(accuracies: dict[float, float], expected: float) -> None:
    """The rule refuses the shares of unknown words from which on the level is not reached."""
    rule = choose(accuracies, level=0.8)
    assert rule.max_unknown_share == expected  # type: ignore[attr-defined]


def test_figures() -> None:
    """The rule has the figures of what it covers and refuses; texts of unknown words count not."""
    rule = choose({0.0: 0.9, 0.35: 0.85, 0.6: 0.7, 0.85: 0.5, 1.0: 0.0}, level=0.8)
    assert rule.measured == {  # type: ignore[attr-defined]
        "level": 0.8,
        "texts": 400,
        "accuracy": 0.875,
        "refused_texts": 400,
        "refused_accuracy": 0.6,
    }


def test_few_texts_decide_nothing() -> None:
    """A share with few texts decides nothing; if no share reaches the level, there is no rule."""
    with pytest.raises(InvalidInput, match=r"must reach the level, 0\.8"):
        choose({0.0: 0.9, 0.5: 0.2}, level=0.8, texts=49)
    with pytest.raises(InvalidInput, match=r"must reach the level, 0\.95"):
        choose({0.0: 0.9}, level=0.95)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("labels", "label"),
    [
        (("negative", "positive"), 0),
        (("negative", "neutral", "positive"), 1),
        (("bad", "good", "neutral"), 2),
    ],
)
def test_even_odds(dtype: type[np.floating], labels: tuple[str, ...], label: int) -> None:
    """Of a text that cannot be judged the odds are even, and its label is that of the service."""
    encoded = [make_encoder().encode(text) for text in ("", "good")]
    answers = np.tile(np.eye(len(labels), dtype=dtype)[-1], (2, 1))
    give_even_odds(answers, encoded, Reliability(), labels)
    assert answers[0] == pytest.approx(1 / len(labels))
    assert answers.argmax(axis=1).tolist() == [label, len(labels) - 1]
