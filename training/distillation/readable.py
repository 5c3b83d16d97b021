"""Texts as a pretrained transformer can read them: emoji and emoticons become words.

Its word pieces hold hardly any emoji. The names of emoji come from VADER (MIT licence), which knows
the valence of emoticons too.

Source:
    Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social
    Media Text" (2014).
"""

import re
from functools import cache
from importlib.resources import files
from typing import Final

_MARKUP: Final = re.compile(r"<br\s*/?>", re.IGNORECASE)
_HAPPY, _SAD = "happy face", "sad face"
_EMOTICON: Final = re.compile(r"[^a-zA-Z0-9\s]{2,}|[:;=][-o^']?[)(DPp/\\|\[\]<>3oO*$]+")


@cache
def emoji_names() -> dict[str, str]:
    """Return the name of each emoji in VADER's lexicon."""
    lexicon = _lexicon("emoji_utf8_lexicon.txt")
    rows = (line.split("\t") for line in lexicon if "\t" in line)
    return {row[0]: row[1] for row in rows}


@cache
def emoticon_valences() -> dict[str, float]:
    """Return the valence of each emoticon in VADER's lexicon, from -4 to 4."""
    rows = (line.split("\t") for line in _lexicon("vader_lexicon.txt") if "\t" in line)
    return {row[0]: float(row[1]) for row in rows if _EMOTICON.fullmatch(row[0])}


def readable(text: str) -> str:
    """Replace line-break tags by spaces, and emoji and emoticons by words about what they show."""
    text = _MARKUP.sub(" ", text)
    if not text.isascii():
        text = _emoji_pattern().sub(lambda match: f" {emoji_names()[match[0]]} ", text)
    return " ".join(_emoticon_words(word) for word in text.split())


def _emoticon_words(word: str) -> str:
    if word.isalnum():
        return word
    valence = emoticon_valences().get(word)
    if valence is None:
        return word
    return _HAPPY if valence > 0 else _SAD


@cache
def _emoji_pattern() -> re.Pattern[str]:
    names = sorted(emoji_names(), key=len, reverse=True)  # the longest of several that match
    return re.compile("|".join(map(re.escape, names)))


def _lexicon(name: str) -> list[str]:
    return files("vaderSentiment").joinpath(name).read_text(encoding="utf-8").split("\n")
