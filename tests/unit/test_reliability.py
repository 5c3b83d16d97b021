"""The rule by which a version says that it cannot judge a text."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from app.artifact import Reliability
from app.errors import InvalidInput
from app.text.padding import Int32Array
from app.text.vocabulary import BEGIN, UNKNOWN
from tests.fakes import make_encoder
from training.reports.reliability import choose_reliability, give_even_odds, measure_rule

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


class Counting:
    """A model of words 3 (bad) and 4 (good) that needs a share of each passage to be right."""

    def __init__(self, needs: float, neutral: bool) -> None:
        self._needs, self._neutral = needs, neutral

    def __call__(self, rows: Sequence[Int32Array]) -> NDArray[np.float64]:
        good = np.array([(row == 4).sum() > (row == 3).sum() for row in rows])
        enough = np.array([(row[1:] != UNKNOWN).mean() >= self._needs for row in rows])
        even = np.arange(len(rows)) % 2 == 0
        positive = 0.2 + 0.6 * np.where(enough, good, even)
        columns = [1 - positive, positive]
        return np.stack(columns[:1] + [np.ones(len(rows))] * self._neutral + columns[1:], axis=1)


@pytest.mark.parametrize("neutral", [False, True])
@pytest.mark.parametrize(
    ("texts", "needs", "largest"),
    [(1600, 0.0, 1.0), (1600, 0.5, 0.5), (1600, 0.2, 0.8), (160, 0.5, 1.0)],
)
def test_rule_of_passages(texts: int, needs: float, largest: float, neutral: bool) -> None:
    """Hidden tokens of validation texts tell which share a version bears; few texts tell nothing.

    A class that no validation text has changes nothing.
    """
    targets = np.arange(texts) // 2 % 2
    rows = [np.array([BEGIN, *[3 + good] * 60], np.int32) for good in targets]
    rule = measure_rule(rows, targets * (1 + neutral), Counting(needs, neutral), seed=1)
    assert rule.max_unknown_share == largest
    assert bool(rule.measured) is (texts == 1600)


def test_a_model_that_knows_nothing_has_no_rule() -> None:
    """A model that is no better than the most frequent label has the default rule."""
    rows = [np.array([BEGIN, 3, 4], np.int32)] * 400
    rule = measure_rule(rows, np.arange(400) // 2 % 2, Counting(2.0, neutral=False), seed=1)
    assert rule == Reliability()
