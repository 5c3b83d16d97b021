"""Which rows explain a text, and what they tell."""

import numpy as np
import pytest

from app.serving.explain import (
    EXACT_TOKENS,
    MAX_VARIANTS,
    Variants,
    background_policy,
    contributions,
    log_odds,
    make_variants,
)
from app.serving.request_queue import BatchPolicy
from app.text.padding import Int32Array

_BEGIN = 2


def make_ids(*words: int) -> Int32Array:
    return np.array([_BEGIN, *words], dtype=np.int32)


def explain(ids: Int32Array, *, bag_of_words: bool = False) -> list[float]:
    """The contributions for a model whose log-odds are the sum of its ids."""
    variants = make_variants(ids, bag_of_words=bag_of_words)
    found = contributions(variants, [float(row[1:].sum()) for row in variants.rows])
    return [found[index] for index in range(len(ids) - 1)]


@pytest.mark.parametrize("bag_of_words", [False, True])
@pytest.mark.parametrize("length", [1, 2, 5, EXACT_TOKENS - 1, EXACT_TOKENS, 100, 399])
def test_of_an_additive_model(length: int, bag_of_words: bool) -> None:
    """What each word adds is found exactly, whatever the length of the text."""
    words = [3 + index % 7 for index in range(length)]
    assert explain(make_ids(*words), bag_of_words=bag_of_words) == pytest.approx(words)


@pytest.mark.parametrize("bag_of_words", [False, True])
@pytest.mark.parametrize("length", [1, 31, 399, 409, 410, 1000, 8191])
def test_cost_is_bounded(length: int, bag_of_words: bool) -> None:
    """There are about MAX_VARIANTS rows at most, and each word is in one part."""
    variants = make_variants(make_ids(*range(3, 3 + length)), bag_of_words=bag_of_words)
    words = sorted(word for part in variants.parts for word in part.words)
    assert words == list(range(length))
    policy = background_policy(BatchPolicy(8, 1000, 1.0, 1))
    assert len(variants.rows) <= policy.max_queue_items <= MAX_VARIANTS * 1.1
    assert policy.max_queue_delay_s == 0


def test_long_texts_are_cheap() -> None:
    """A word of a long text is left out of the words around it, not of the whole text."""
    ids = make_ids(*range(3, 403))
    assert make_variants(ids, bag_of_words=False).tokens < 12 * len(ids)


def test_bag_of_words_leaves_out_every_occurrence() -> None:
    """The occurrences of a word share the effect of all of them."""
    variants = make_variants(make_ids(5, 6, 5), bag_of_words=True)
    assert [row.tolist() for row in variants.rows] == [[2, 5, 6, 5], [2, 6], [2, 5, 5]]
    assert contributions(variants, [3.0, 1.0, 2.0]) == {0: 1.0, 2: 1.0, 1: 1.0}


def test_empty_text() -> None:
    """A text without words needs no rows."""
    assert make_variants(make_ids(), bag_of_words=False) == Variants([], [])


@pytest.mark.parametrize(
    ("probabilities", "label", "expected"),
    [
        ([0.5, 0.5], 0, 0.0),
        ([0.2, 0.8], 1, np.log(4)),
        ([0.2, 0.3, 0.5], 1, np.log(3 / 7)),
        ([0.0, 1.0], 1, np.log(1e9)),
        ([0.0, 1.0], 0, -np.log(1e9)),
    ],
)
def test_log_odds(probabilities: list[float], label: int, expected: float) -> None:
    """They are the logarithm of the odds against all other labels, and always finite."""
    assert log_odds(probabilities, label) == pytest.approx(expected)
