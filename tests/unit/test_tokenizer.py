"""Where tokens begin and end."""

import re
import unicodedata
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInput
from app.text.characters import EMOJI_RANGES, IDEOGRAPH_RANGES, WORD_RANGES, character_class
from app.text.encoder import TextConfig, TextEncoder
from app.text.tokenizer import PLAIN_PATTERN, STANDARD_ALIASES, STANDARD_PATTERN, Tokenizer
from app.text.vocabulary import Vocabulary
from tests.corpus import make_corpus

tokenize = Tokenizer()
tokenize_plain = Tokenizer(PLAIN_PATTERN, ())
read = TextEncoder(TextConfig(max_length=2, head=0), Vocabulary(())).tokenize

TRICKY = "ab'!?<>&;. \n0éß\xa0\x85"
SIGNS = (
    *(":", ";", "=", "-", "_", "^", "'", ")", "(", "/", "\\", "|", "*", "+", "<", ">", "<3", "</3"),
    *(
        "d",
        "p",
        "o",
        "a",
        "f",
        "ab",
        "A",
        "é",
        "ªa",
        "1",
        "10",
        "5",
        "100",
        ".5",
        ",",
        ".",
        " ",
        "\n",
    ),
    *("://", "::", "!", "--", "-_-", "^_^", "😀", "♥", "🇩", "🇪", "好", "½"),
)
"""Parts of emoticons, ratings, grades and URLs, and what may stand beside them."""

TYPED = (
    *(
        "‘so’",
        "“fine?”",
        "so—so",
        "3–5",
        "no…",
        "it’s",
        "•",
        ":’(",
        "“:)”",
        "http://a”:)",
        "a—",
        "a-—",
    ),
    *("a+”", "10/10…", "great😀", "‼", "œuvre", "ř", "好好", "℗", "€5"),
)
"""Words as keyboards and editors write them."""


CANONICAL = dict(STANDARD_ALIASES)
find_all = re.compile(STANDARD_PATTERN, re.ASCII).findall
find_plain = re.compile(PLAIN_PATTERN).findall
"""The reference of `tokenize_plain`."""


def find(text: str) -> list[str]:
    """The reference: `tokenize` must find the same, with or without its fast path."""
    return [CANONICAL.get(token, token) for token in find_all(text) if token]


def differing(texts: list[str]) -> list[str]:
    """The texts of which a tokenizer and its reference find different tokens."""
    return [
        text
        for text in texts
        if tokenize(text) != find(text) or tokenize_plain(text) != find_plain(text)
    ]


def test_words_and_marks() -> None:
    """Words, exclamation marks and question marks are tokens; all else separates."""
    assert tokenize("so-so... but why?! 7/11 (ok)") == [
        *("so", "so", "but", "why", "?", "!", "7", "11", "ok"),
    ]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("👍🏽👍", "👍 👍"),
        ("❤️ ❤ ♥ <3", "❤ ❤ ❤ ❤"),
        ("👩🏽‍🚒 👨‍👩‍👧 🤷🏽‍♀️ ❤️‍🔥 🏳️‍🌈", "👩 👨 🤷 ❤ 🏳"),
        ("🇩🇪🇫🇷 🏴\U000e0067\U000e0062\U000e007f 🇩", "🇩🇪 🇫🇷 🏴"),
        ("1️⃣ ⭐⭐ ★★☆ ✅", "1 ⭐ ⭐ ★ ★ ☆ ✅"),
        ("great👏film😂😂", "great 👏 film 😂 😂"),
        ("what❗❓‼", "what ! ? !"),
        ("© ™ → ■ 🏽", ""),
    ],
)
def test_emoji(text: str, tokens: str) -> None:
    """An emoji is one token, without what changes it or is joined to it; a flag is one, too."""
    assert read(text) == tokens.split()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (":) :-) =) Thanks:) :))) (:", "🙂 🙂 🙂 thanks 🙂 🙂"),
        (":( :-( =( oh:( :((", "🙁 🙁 🙁 oh 🙁 🙁"),
        (":D :-D =D ;) ;-) :P :p ;p", "😄 😄 😄 😉 😉 😛 😛 😛"),
        (":'( :’( ;( >:( :')", "😢 😢 😢 😠 😂"),
        (":/ :-/ :\\ :| :o :* </3", "😕 😕 😕 😐 😮 😘 💔"),
        ("^^ ^_^ -_- good:D", "😊 😊 😑 good d"),
        ("fine.:) (:() [;)]", "fine 🙂 🙁 😉"),
        # What looks like one.
        ("http://a.b/:) https://t.co/5/10:D", "http https"),
        ("C:\\Docs D:/x a:/b 10:30 3:0", "c docs d x a b 10 30 3 0"),
        ("std::p x[::-1] fe80::d a:(b) f=(x) x=d", "std p x 1 fe80 d a b f x x d"),
        ("note:D ratio:P i<3 <30 <3rd", "note d ratio p i 3 30 3rd"),
        ("so: (well) this; (that)", "so well this that"),
    ],
)
def test_emoticons(text: str, tokens: str) -> None:
    """An emoticon is the emoji that it draws. URLs, times, paths and code have none."""
    assert read(text) == tokens.split()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("10/10! 5/5, (4/10) 7.5/10 8,5/10 99/100", "10/10 ! 5/5 4/10 7.5/10 8,5/10 99/100"),
        ("9/11/2001 10/10/10 1/5/10!", "9/11/2001 10/10/10 1/5/10 !"),
        ("24/7 1/2 3/4 9/11 and/or 2005/10", "24 7 1 2 3 4 9 11 and or 2005 10"),
        ("1/10th 5/50 10/1000 5/5star", "1 10th 5 50 10 1000 5 5star"),
        ("A+ B- (F-) a++ A+, x a-", "a+ b- f- a+ a+ x a-"),
        ("C++ C++11 a+b F-16 a-list B-movie G- E+", "c++ c++ 11 a b f 16 a list b movie g e"),
        ("what a--well; pa+ 1a+ it'a-", "what a well pa 1a it'a"),
    ],
)
def test_ratings_and_grades(text: str, tokens: str) -> None:
    """A rating of 5, 10 or 100 is a token, and so is a grade. Dates, fractions and code are not."""
    assert read(text) == tokens.split()


def test_every_alias() -> None:
    """Every spelling, alone and between words, is the token that it stands for."""
    aliases = dict(STANDARD_ALIASES)
    found = {spelling: tokenize(f"so {spelling} so") for spelling in aliases}
    assert found == {spelling: ["so", token, "so"] for spelling, token in aliases.items()}
    assert {token: tokenize(token) for token in aliases.values()} == {
        token: [token] for token in aliases.values()
    }


def test_plain_rules() -> None:
    """Rules version 1 has words and marks alone."""
    assert tokenize_plain(":) a+ 10/10 👍 c++ http://b ❤") == ["a", "10", "10", "c", "http", "b"]


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


@given(st.text() | st.lists(st.sampled_from(SIGNS)).map("".join))
def test_place_of_each_token(text: str) -> None:
    """Each token stands in the text, or one of its spellings does, in order, without overlap."""
    position = 0
    for token, start, end in tokenize.locate(text):
        assert position <= start
        assert tokenize(text[start:end]) == [token]
        position = end
    assert [token for token, _, _ in tokenize.locate(text)] == tokenize(text)


@given(st.text(st.characters(max_codepoint=0x7F)))
def test_ascii(text: str) -> None:
    """The tokens of ASCII text are those of the pattern."""
    assert differing([text]) == []


@given(st.text(TRICKY) | st.lists(st.sampled_from(SIGNS), max_size=12).map("".join))
def test_tricky_text(text: str) -> None:
    """The same for text with many apostrophes, marks and separators, and with parts of signs."""
    assert differing([text]) == []


@given(st.text(st.one_of(st.sampled_from(TRICKY), st.characters(exclude_categories=["Cs"]))))
def test_any_text(text: str) -> None:
    """The same for any text."""
    assert differing([text]) == []


@given(st.lists(st.sampled_from(("a film that we liked", ";-)", "it's", "10/10!", *TYPED))))
def test_typographic_text(words: list[str]) -> None:
    """The same for mostly Latin text with typographic punctuation, emoji and other letters."""
    assert differing([" ".join(words), "".join(words)]) == []


def test_every_short_tricky_text() -> None:
    """The same for every text of three tricky characters, and of up to six with apostrophes."""
    texts = ["".join(characters) for characters in product(TRICKY, repeat=3)]
    for length in range(7):
        texts += ["".join(characters) for characters in product("a' !", repeat=length)]
    assert differing(texts) == []


def test_every_short_text_of_signs() -> None:
    """The same for a part of a sign between any two others."""
    middle = (":", ";", "=", "-", "/", "+", "^", "<3", "1", "10", "a", "'")
    assert differing(["".join(parts) for parts in product(SIGNS, middle, SIGNS)]) == []


def test_every_latin_character() -> None:
    """The same for texts with each of the first characters of Unicode."""
    texts = [f"{c} {c}{c} a{c}b a'{c}'b 1{c}1 :{c} a{c}" for c in map(chr, range(0x180))]
    assert differing(texts) == []


def test_reviews() -> None:
    """The same for reviews."""
    assert differing([sample.text for sample in make_corpus(200, seed=7)]) == []


def test_another_pattern() -> None:
    """A pattern other than the standard one has no fast path."""
    assert Tokenizer("[a-z]+'?", ())("don't! Stop") == ["don'", "t", "top"]


def test_pattern_with_groups() -> None:
    """What a pattern matches outside its group is skipped; it has no more than one."""
    assert Tokenizer("#[a-z]+|([a-z]+)", (("b", "a"),))("a #b b") == ["a", "a"]
    with pytest.raises(InvalidInput, match=r"one group at most\. Received: 2"):
        Tokenizer("(a)|(b)", ())


def test_classes_do_not_overlap() -> None:
    """No character is of two of these: part of words, an ideograph, an emoji."""
    words, ideographs, emoji = (
        {code for first, last in _pairs(ranges) for code in range(first, last + 1)}
        for ranges in (WORD_RANGES, IDEOGRAPH_RANGES, EMOJI_RANGES)
    )
    assert len(words | ideographs | emoji) == len(words) + len(ideographs) + len(emoji)


def test_character_class() -> None:
    """Hexadecimal ranges become the inside of a character class."""
    assert character_class("41-43 5F") == "A-C_"


def _pairs(ranges: str) -> list[tuple[int, int]]:
    ends = [entry.partition("-") for entry in ranges.split()]
    return [(int(first, 16), int(last or first, 16)) for first, _, last in ends]
