"""Tokens to ids and back."""

import pytest

from app.errors import InvalidInput
from app.text.vocabulary import BEGIN, FIRST_WORD, PAD, UNKNOWN, Vocabulary


def test_most_frequent_first() -> None:
    """Ids are by frequency, then by code point, whatever the order of the texts."""
    rows = [["b", "a"], ["b", "c"], ["a", "d"]]
    assert Vocabulary.build(rows, size=3).words == ("a", "b", "c")
    assert Vocabulary.build(rows[::-1], size=3).words == ("a", "b", "c")


def test_rare_words() -> None:
    """A word below the minimum count is excluded, even if there is room."""
    assert Vocabulary.build([["a", "a", "b"]], size=9, min_count=2).words == ("a",)


def test_ids() -> None:
    """Known words have an id, others the unknown id; special ids belong to no word."""
    vocabulary = Vocabulary(["good", "bad"])
    assert vocabulary.ids(["bad", "ugly", "good"]) == [FIRST_WORD + 1, UNKNOWN, FIRST_WORD]
    assert len({PAD, UNKNOWN, BEGIN, FIRST_WORD}) == 4
    assert len(vocabulary) == FIRST_WORD + 2


def test_back_to_tokens() -> None:
    """Ids are converted back to words, special ids to names in brackets."""
    tokens = Vocabulary(["good"]).tokens([BEGIN, FIRST_WORD, UNKNOWN, PAD])
    assert tokens == ["[BEGIN]", "good", "[UNK]", "[PAD]"]


def test_duplicate_words() -> None:
    """A word that occurs twice is an error: it would have two ids."""
    with pytest.raises(InvalidInput, match="must be unique"):
        Vocabulary(["a", "a"])
