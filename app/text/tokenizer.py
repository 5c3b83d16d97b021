r"""Tokenization of normalized text.

Tokens are words of every script, `!` and `?`, emoji, emoticons, ratings of 5, 10 or 100 such as
`7.5/10`, and grades such as `a+`. An emoticon is the emoji that it draws: `:-)` is the token `🙂`.

Patterns are in the common subset of Python's `re` and RE2, in which `\b` and `\B` know ASCII alone.
The token is the group of a pattern, if it has one; a match outside the group is skipped.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

from app.errors import InvalidInput
from app.text.characters import (
    EMOJI_RANGES,
    IDEOGRAPH_RANGES,
    REGIONAL_INDICATOR_RANGES,
    WORD_RANGES,
    character_class,
)

Aliases = tuple[tuple[str, str], ...]
"""Spellings, each with the token that it stands for."""

_WORD: Final = character_class(WORD_RANGES)
_IDEOGRAPH: Final = character_class(IDEOGRAPH_RANGES)

# A word may contain apostrophes ("didn't" is one word), but not at its start or end.
PLAIN_PATTERN: Final = f"[{_WORD}]+(?:'[{_WORD}]+)*|[!?]|[{_IDEOGRAPH}]"
"""Words and marks alone: all tokens of rules version 1."""

_EMOTICONS: Final = {
    "🙂": ":) :-) =)",
    "😄": ":d :-d =d",
    "😉": ";) ;-)",
    "😛": ":p :-p =p ;p ;-p",
    "😂": ":') :'-)",
    "😊": "^^ ^_^",
    "😘": ":* :-*",
    "😮": ":o :-o",
    "😐": ":| :-| =|",
    "😑": "-_-",
    "😕": ":/ :-/ =/ :\\ :-\\ =\\",
    "🙁": ":( :-( =(",
    "😢": ":'( :'-( ;( ;-(",
    "😠": ">:( >:-(",
    "❤": "<3",
    "💔": "</3",
}
STANDARD_ALIASES: Final[Aliases] = (
    *((spelling, emoji) for emoji, all_ in _EMOTICONS.items() for spelling in all_.split()),
    *(("♥", "❤"), ("♡", "❤"), ("❗", "!"), ("❕", "!"), ("‼", "!"), ("❓", "?"), ("❔", "?")),
    ("a++", "a+"),
    *((f"{letter}--", letter) for letter in "abcdf"),
)


def _match_emoticons() -> str:
    r"""The pattern of the emoticons.

    One that ends in a parenthesis may stand right after a word ("thanks:)"). Any other may not, so
    that "10:30", "C:\Docs" and "x=d" have none. Only ")" may stand right before a word.
    """
    apart: dict[str, list[str]] = {}
    attached: dict[str, list[str]] = {}
    for spelling in " ".join(_EMOTICONS.values()).split():
        last = spelling[-1]
        after = "" if last == ")" else r"\b" if last.isalnum() else r"\B"
        rest = re.escape(spelling[1:]) + after
        (attached if last in "()" else apart).setdefault(spelling[0], []).append(rest)
    # By their first characters, which Python compares before it tries an alternative.
    apart_pattern, attached_pattern = (
        "|".join(f"{re.escape(first)}(?:{'|'.join(rests)})" for first, rests in group.items())
        for group in (apart, attached)
    )
    return rf"\B(?:{apart_pattern})|{attached_pattern}"


STANDARD_PATTERN: Final = (
    # Skipped: the rest of a URL, and "::" of code.
    r":(?://[!-~]*|:+)|("
    # A date is one token, so that no part of it is a rating. Then ratings and grades; "a--" is a
    # word before a dash.
    r"[0-9]+(?:/[0-9]+){2,}\b|(?:100|[0-9]{1,2})(?:[.,][0-9]{1,2})?/(?:100|10|5)\b"
    r"|c\+\+|[a-df]--|[a-df](?:\+\+?|-)\B"
    f"|{PLAIN_PATTERN}|[{character_class(EMOJI_RANGES)}]"
    f"|[{character_class(REGIONAL_INDICATOR_RANGES)}]{{2}}|{_match_emoticons()})"
)


class Tokenizer:
    """Finds the tokens of a text. All other characters are separators and are dropped.

    Args:
        pattern: The regular expression of one token; see the module.
        aliases: Of tokens that stand for another one.

    Raises:
        InvalidInput: The pattern has several groups.
    """

    def __init__(
        self, pattern: str = STANDARD_PATTERN, aliases: Aliases = STANDARD_ALIASES
    ) -> None:
        compiled = re.compile(pattern, re.ASCII)
        if compiled.groups > 1:
            raise InvalidInput(
                f"a pattern must have one group at most. Received: {compiled.groups}"
            )
        self._find = compiled.findall
        self._find_each = compiled.finditer
        self._group = compiled.groups
        self._canonical = dict(aliases)
        self._is_plain = (pattern, aliases) == (PLAIN_PATTERN, ())
        self._is_standard = (pattern, aliases) == (STANDARD_PATTERN, STANDARD_ALIASES)

    def __call__(self, text: str) -> list[str]:
        """The tokens of a text in order, in time linear in its length."""
        if not (self._is_plain or self._is_standard):
            return self._match(text)
        foreign: list[int] = []
        latin = text
        if not text.isascii():
            text = _blank_punctuation(text)
            latin = text.encode("latin-1", "replace").decode("latin-1")
            count = latin.count("?") - text.count("?")
            if count > len(text) // _LATIN_PER_FOREIGN:
                return self._match(text)
            if count:
                spots = (match.start() for match in _find_question_marks(latin))
                foreign = [spot for spot in spots if text[spot] != "?"]
        signs = _FIND_SIGNS if self._is_standard and _may_have_signs(latin) else ()
        if not signs and not foreign:
            return _split_latin(latin)
        found = (match.start() for find in signs for match in find(latin))
        return self._split_around(sorted((*foreign, *found)), latin, text)

    def _match(self, text: str) -> list[str]:
        """The tokens of any text, by the regular expression."""
        tokens: list[str] = self._find(text)
        if self._group or self._canonical:
            canonical = self._canonical.get
            return [canonical(token, token) for token in tokens if token]
        return tokens

    def _split_around(self, spots: Sequence[int], latin: str, text: str) -> list[str]:
        """The tokens of text in which only what is around some spots needs `_match`.

        No token has a space or depends on what is beyond one.

        Args:
            spots: Where signs begin and where characters beyond U+00FF are, ascending.
            latin: The text with `?` in place of the latter.
            text: The text.
        """
        tokens: list[str] = []
        done = 0
        for spot in spots:
            if spot >= done:
                start = latin.rfind(" ", done, spot) + 1 or done
                end = latin.find(" ", spot)
                end = len(latin) if end < 0 else end
                tokens += _split_latin(latin[done:start])
                tokens += self._match(text[start:end])
                done = end
        return tokens + _split_latin(latin[done:])

    def locate(self, text: str) -> list[tuple[str, int, int]]:
        """Each token of a text with its start and end, in order. Slower than a call."""
        group, canonical = self._group, self._canonical.get
        matches = self._find_each(text)
        return [(canonical(m[group], m[group]), *m.span(group)) for m in matches if m[group]]


# Where Latin-1 text may have tokens that `PLAIN_PATTERN` does not find. Each begins with one
# character, for which Python searches quickly.
_COLON, _SEMICOLON, _EQUALS, _LESS, _CARET, _UNDERSCORE, _SLASH, _PLUS, _MINUS = _SIGNS = tuple(
    re.compile(pattern, re.ASCII)
    for pattern in (
        r":(?:'?-?[()/\\|*]|-?[dpo]\b)",
        r";-?(?:[()]|p\b)",
        r"=(?:[()/\\|]|[dp]\b)",
        r"</?3\b",
        r"\^_?\^",
        r"_(?<=-_)-",
        r"/(?<=[0-9]/)(?:[0-9]+/|10|5)",
        r"\+(?<=[a-df]\+)",
        r"-(?<=[a-df]-)(?![\w-])",
    )
)
_FIND_SIGNS: Final = tuple(sign.finditer for sign in _SIGNS)
_find_question_marks: Final = re.compile("[?]").finditer
_LATIN_PER_FOREIGN: Final = 16
"""With fewer Latin-1 characters for each other one, `_match` is faster for the whole text."""
_PUNCTUATION: Final = "\u2018\u2019\u201c\u201d\u201e\u2013\u2014\u2026\u2022"
"""Quotes, dashes, ellipses and bullets, which are separators like the space."""


def _blank_punctuation(text: str) -> str:
    """Replace typographic punctuation by spaces, after which most English text is Latin-1."""
    for mark in _PUNCTUATION:
        if mark in text:
            text = text.replace(mark, " ")
    return text


def _may_have_signs(text: str) -> bool:
    """Whether Latin-1 text may have tokens that `PLAIN_PATTERN` does not find."""
    return bool(
        ("-" in text and _MINUS.search(text))
        or (":" in text and _COLON.search(text))
        or ("/" in text and _SLASH.search(text))
        or (";" in text and _SEMICOLON.search(text))
        or ("=" in text and _EQUALS.search(text))
        or ("+" in text and _PLUS.search(text))
        or ("<" in text and _LESS.search(text))
        or ("_" in text and _UNDERSCORE.search(text))
        or ("^" in text and _CARET.search(text))
    )


def _split_latin(text: str) -> list[str]:
    """Find the tokens of `PLAIN_PATTERN` in Latin-1 text, in a third of the time.

    Raises:
        UnicodeEncodeError: The text has characters beyond U+00FF.
    """
    table, marks = _read_latin()
    text = text.encode("latin-1").translate(table).decode("latin-1")
    for mark in marks:
        if mark in text:
            text = text.replace(mark, f" {mark} ")
    if "'" in text:
        # Apostrophes in runs or at the edge of a word are separators; the others stay in a word.
        text = text.replace("''", " ").strip("'").replace(" '", " ").replace("' ", " ")
    return text.split()


@cache
def _read_latin() -> tuple[bytes, str]:
    """Derive from `PLAIN_PATTERN` how it treats the characters U+0000 to U+00FF.

    Returns:
        A table for `bytes.translate` that maps each separator to a space and all else to itself,
        and the characters that are a token each.
    """
    find: Callable[[str], list[str]] = re.compile(PLAIN_PATTERN).findall
    table, marks = bytearray(b" " * 256), ""
    for code in range(256):
        character = chr(code)
        if any(character in token for token in find(f"a{character}a")):
            table[code] = code
        if find(character * 2) == [character] * 2:
            marks += character
    return bytes(table), marks
