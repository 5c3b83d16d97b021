"""Normalization of texts before tokenization."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.text.normalizer import NON_ASCII, STANDARD_REWRITES, Normalizer, Rewrite

normalize = Normalizer()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Good<br />film", "good film"),
        ("<I>Good</I>", " good "),
        ("one<!-- two -->three", "one three"),
        ("a < b, 1 <3 and <- so", "a < b, 1 <3 and <- so"),
        ("<unclosed tag", "<unclosed tag"),
    ],
)
def test_markup(text: str, expected: str) -> None:
    """Tags and comments become a space; other angle brackets are kept."""
    assert normalize(text) == expected


@pytest.mark.parametrize("apostrophe", ["'", "\u2019", "\u02bc", "&#39;", "&#x27;", "&apos;"])
def test_apostrophes(apostrophe: str) -> None:
    """All forms of an apostrophe give the same word."""
    assert normalize(f"Didn{apostrophe}t") == "didn't"


def test_entities() -> None:
    """Character references become a space."""
    assert normalize("salt&amp;pepper&#8230;") == "salt pepper "


@pytest.mark.parametrize(
    "invisible",
    ["\u00ad", "\u200c", "\u200d", "\u2060", "\ufeff", "\ufe0f", "\u20e3", "\U0001f3fd"],
)
def test_invisible_characters(invisible: str) -> None:
    """Invisible characters do not split a word."""
    assert normalize(f"hy{invisible}phen") == "hyphen"


def test_sigma() -> None:
    """Greek capital and small sigmas give the same word in any position."""
    assert normalize("ΟΔΟΣ ΟΔΟΣ.") == "οδοσ οδοσ."
    assert normalize("οδος") == "οδοσ"


@given(st.text())
def test_shortcuts_change_nothing(text: str) -> None:
    """`only_if` never changes the result."""
    expected = text
    for rewrite in STANDARD_REWRITES:
        expected = re.sub(rewrite.pattern, rewrite.replacement, expected)
    assert normalize(text) == expected.lower()


def test_replacement_beyond_ascii() -> None:
    """A rewrite sees what an earlier one has made of ASCII text."""
    rewrites = (Rewrite("a", "\u00e4", "a"), Rewrite("\u00e4", "b", NON_ASCII))
    assert Normalizer(rewrites)("ca") == "cb"
