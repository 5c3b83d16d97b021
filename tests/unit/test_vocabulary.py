"""Words and their ids."""

import pytest

from app.errors import InvalidInput
from app.text.vocabulary import BEGIN, FIRST_WORD, PAD, UNKNOWN, Vocabulary


def test_most_frequent_first() -> None:
    """Ids go by frequency, and among equals by code point, whatever the order of texts."""
    rows = [["b", "a"], ["b", "c"], ["a", "d"]]
    assert Vocabulary.build(rows, size=3).words == ("a", "b", "c")
    assert Vocabulary.build(rows[::-1], size=3).words == ("a", "b", "c")


def test_rare_words_are_left_out() -> None:
    """A word below the minimum count is unknown, even when there is room."""
    assert Vocabulary.build([["a", "a", "b"]], size=9, min_count=2).words == ("a",)


def test_ids() -> None:
    """Known words have their id, others the unknown id; special ids belong to no word."""
    vocabulary = Vocabulary(["good", "bad"])
    assert vocabulary.ids(["bad", "ugly", "good"]) == [FIRST_WORD + 1, UNKNOWN, FIRST_WORD]
    assert len({PAD, UNKNOWN, BEGIN, FIRST_WORD}) == 4
    assert len(vocabulary) == FIRST_WORD + 2


def test_back_to_tokens() -> None:
    """Ids read back as words, special ids in brackets."""
    tokens = Vocabulary(["good"]).tokens([BEGIN, FIRST_WORD, UNKNOWN, PAD])
    assert tokens == ["[BEGIN]", "good", "[UNK]", "[PAD]"]


def test_words_must_differ() -> None:
    """A word that stands twice would have two ids."""
    with pytest.raises(InvalidInput, match="must be unique"):
        Vocabulary(["a", "a"])
