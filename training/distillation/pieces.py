"""Pieces of reviews: what a teacher is asked about, because people send texts as short as these.

A review is cut into paragraphs, sentences, and fragments of 1 to 20 words. Words about films can be
replaced by words that fit anything, so that opinions do not depend on them. No piece has a label of
its own: a piece of a favourable review may be a complaint, or say nothing at all.
"""

import re
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Final

MAX_FRAGMENT: Final = 20
"""The most words in a fragment."""
_BREAK: Final = re.compile(r"(?:\s*<br\s*/?>\s*)+|\s*\n\s*\n\s*", re.IGNORECASE)
_SENTENCE_END: Final = re.compile(r"[.!?]+[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])")
_ABBREVIATION: Final = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|st|jr|sr|vs|prof|gen|lt|etc|vol|no|e\.g|i\.e)|(?:\b|\.)[A-Z])\.\s+$",
    re.IGNORECASE,
)
_FILM_WORD: Final = re.compile(
    r"\b(?:films?|movies?|flicks?|pictures?|cinema|actors?|actress(?:es)?|acting|directors?"
    r"|directed|scripts?|screenplays?|plots?|scenes?|characters?|episodes?|sequels?|remakes?"
    r"|casts?|hollywood|dvds?|soundtracks?|cinematography)\b",
    re.IGNORECASE,
)
_PLAIN: Final = (
    ("thing", "product", "place", "service", "item", "one"),
    ("things", "products", "places", "services", "items", "ones"),
)
"""What replaces a film word: one of the first row for a singular, of the second for a plural."""
_SINGULAR: Final = frozenset({"actress", "cinematography", "acting"})


def paragraphs(text: str) -> list[str]:
    """Divide a text at line-break tags and blank lines; runs of white space become one space."""
    parts = (" ".join(part.split()) for part in _BREAK.split(text))
    return [part for part in parts if part]


def sentences(paragraph: str) -> list[str]:
    """Divide a paragraph after each full stop, exclamation or question mark that ends a sentence.

    The next sentence must begin with a capital letter or a digit, and the full stop must not belong
    to an initial or a common abbreviation.
    """
    found, start = [], 0
    for end in _SENTENCE_END.finditer(paragraph):
        if _ABBREVIATION.search(paragraph, start, end.end()):
            continue
        found.append(paragraph[start : end.end()].rstrip())
        start = end.end()
    rest = paragraph[start:].strip()
    return [*found, rest] if rest else found


def fragment(sentence: str, random: Random) -> str:
    """Return 1 to 20 neighbouring words of a sentence; every length is as likely."""
    words = sentence.split()
    size = random.randint(1, min(MAX_FRAGMENT, max(1, len(words))))
    first = random.randint(0, len(words) - size) if words else 0
    return " ".join(words[first : first + size])


def replace_film_words(text: str, random: Random) -> str:
    """Replace each word about films by one that fits anything; equal words by equal ones."""

    @cache
    def plain(word: str) -> str:
        plural = word.endswith("s") and word not in _SINGULAR
        return random.choice(_PLAIN[plural])

    return _FILM_WORD.sub(lambda match: plain(match[0].lower()), text)


def sample_piece(text: str, random: Random) -> str:
    """Return a random piece: one sentence, two or three neighbouring ones, or a fragment of one.

    The last sentences of a review, which sum it up, are drawn three times as often as others.
    """
    found = [each for paragraph in paragraphs(text) for each in sentences(paragraph)]
    if not found:
        return ""
    kind = random.random()
    last = len(found) - 1
    weights = [3 if index >= last - 1 else 1 for index in range(len(found))]
    index = random.choices(range(len(found)), weights)[0]
    if kind < 0.25:
        return fragment(found[index], random)
    size = 1 if kind < 0.7 else random.randint(2, 3)
    first = max(0, min(index, len(found) - size))
    return " ".join(found[first : first + size])


def all_sentences(text: str, *, shortest: int = 2, longest: int = 60) -> Iterator[str]:
    """Yield the sentences of a text that have from `shortest` to `longest` words."""
    for paragraph in paragraphs(text):
        for each in sentences(paragraph):
            if shortest <= len(each.split()) <= longest:
                yield each
