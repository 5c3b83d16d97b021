"""Where tokens begin and end."""

import re
import unicodedata
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.text.characters import IDEOGRAPH_RANGES, WORD_RANGES, character_class
from app.text.tokenizer import STANDARD_PATTERN, Tokenizer
from tests.corpus import make_corpus

tokenize = Tokenizer()
find = re.compile(STANDARD_PATTERN).findall
"""The reference: `tokenize` must find the same, with or without its fast path."""

TRICKY = "ab'!?<>&;. \n0éß\xa0\x85"


def test_words_and_marks() -> None:
    """Words, exclamation marks and question marks are tokens; all else separates."""
    assert tokenize("so-so... but why?! 7/10 (ok)") == [
        *("so", "so", "but", "why", "?", "!", "7", "10", "ok"),
    ]


def test_apostrophe_inside() -> None:
    """An apostrophe is part of a word only between letters."""
    assert tokenize("'don't' rock 'n' roll") == ["don't", "rock", "n", "roll"]


@pytest.mark.parametrize(
    "word",
    ["naïve", "škoda", "фильм", "ταινια", "أفلام", "סרט", "फ़िल्म", "영화", "ภาพยนตร์", "şehir", "𐐨𐐩"],
)
def test_scripts(word: str) -> None:
    """A word of any script, with its combining marks, is one token."""
    assert tokenize(f"({word})") == [word]


def test_ideographs() -> None:
    """Each character of a script without spaces is a token."""
    assert tokenize("好看。とても") == ["好", "看", "と", "て", "も"]


def test_every_letter_of_unicode_3_2() -> None:
    """Every letter and digit of Unicode 3.2, which all libraries support, is in a token."""
    old = unicodedata.ucd_3_2_0
    letters = [
        character
        for code in range(0x110000)
        if old.category(character := chr(code))[0] in "LN" and code != 0x2BC  # an apostrophe
    ]
    lost = [f"U+{ord(c):04X}" for c in letters if tokenize(c) != [c]]
    assert not lost


@given(st.text())
def test_tokens_are_parts_of_the_text(text: str) -> None:
    """Tokens are parts of the text, in order and without overlap."""
    position = 0
    for token in tokenize(text):
        position = text.index(token, position) + len(token)


@given(st.text(st.characters(max_codepoint=0x7F)))
def test_ascii(text: str) -> None:
    """The tokens of ASCII text are those of the pattern."""
    assert tokenize(text) == find(text)


@given(st.text(TRICKY))
def test_tricky_text(text: str) -> None:
    """The same for text with many apostrophes, marks and separators."""
    assert tokenize(text) == find(text)


@given(st.text(st.one_of(st.sampled_from(TRICKY), st.characters(exclude_categories=["Cs"]))))
def test_any_text(text: str) -> None:
    """The same for any text."""
    assert tokenize(text) == find(text)


def test_every_short_tricky_text() -> None:
    """The same for every text of three tricky characters, and of up to six with apostrophes."""
    texts = ["".join(characters) for characters in product(TRICKY, repeat=3)]
    for length in range(7):
        texts += ["".join(characters) for characters in product("a' !", repeat=length)]
    assert [text for text in texts if tokenize(text) != find(text)] == []


def test_every_latin_character() -> None:
    """The same for texts with each of the first characters of Unicode."""
    texts = [f"{c} {c}{c} a{c}b a'{c}'b" for c in map(chr, range(0x180))]
    assert [text for text in texts if tokenize(text) != find(text)] == []


def test_reviews() -> None:
    """The same for reviews."""
    texts = [sample.text for sample in make_corpus(200, seed=7)]
    assert [tokenize(text) for text in texts] == [find(text) for text in texts]


def test_another_pattern() -> None:
    """A pattern other than the standard one has no fast path."""
    assert Tokenizer("[a-z]+'?")("don't! Stop") == ["don'", "t", "top"]


def test_classes_do_not_overlap() -> None:
    """No character is both part of words and an ideograph."""
    words, ideographs = (
        {code for first, last in _pairs(ranges) for code in range(first, last + 1)}
        for ranges in (WORD_RANGES, IDEOGRAPH_RANGES)
    )
    assert not words & ideographs


def test_character_class() -> None:
    """Hexadecimal ranges become the inside of a character class."""
    assert character_class("41-43 5F") == "A-C_"


def _pairs(ranges: str) -> list[tuple[int, int]]:
    ends = [entry.partition("-") for entry in ranges.split()]
    return [(int(first, 16), int(last or first, 16)) for first, _, last in ends]
