"""Normalization: markup, apostrophes, invisible characters and case."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

NON_ASCII: Final = "non-ascii"
"""`Rewrite.only_if` of a rewrite whose matches contain a character beyond ASCII."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Replace every match of a pattern, before the text is lower-cased.

    Attributes:
        pattern: In the common subset of Python's `re` and RE2.
        replacement: Literal text, without references to groups.
        only_if: A character that every match begins with, or `NON_ASCII`. Searching for it first
            is faster than running the pattern, and never changes the result.
    """

    pattern: str
    replacement: str
    only_if: str


STANDARD_REWRITES: Final = (
    # HTML tags and comments, but not "a < b" or "<3".
    Rewrite(r"<(?:[/!]?[A-Za-z]|!--)[^<>]*>", " ", "<"),
    Rewrite(r"&(?:#39|#[xX]27|apos|rsquo);", "'", "&"),
    Rewrite(r"&(?:[A-Za-z][A-Za-z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});", " ", "&"),
    # Typographic apostrophes; invisible characters in words; question and exclamation marks.
    Rewrite("[\u2019\u02bc\uff07]", "'", NON_ASCII),
    Rewrite("[\u00ad\u200c\u200d\u2060\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]", "", NON_ASCII),
    Rewrite("[\u061f\uff1f]", "?", NON_ASCII),
    Rewrite("\uff01", "!", NON_ASCII),
    # The lower case of a capital sigma depends on its context, and libraries differ in it.
    Rewrite("[\u03a3\u03c2]", "\u03c3", NON_ASCII),
)


class Normalizer:
    """Applies rewrites in order, then converts to lower case.

    Lower case is Unicode's full mapping without a locale: `str.lower` here, ICU in the exported
    graph. A letter that the Unicode version of either lacks is part of no word
    (`app.text.characters`).
    """

    def __init__(self, rewrites: Sequence[Rewrite] = STANDARD_REWRITES) -> None:
        self.rewrites = tuple(rewrites)
        self._steps = [(r.only_if, re.compile(r.pattern).sub, r.replacement) for r in rewrites]

    def __call__(self, text: str) -> str:
        """Normalize a text, in time linear in its length."""
        for only_if, substitute, replacement in self._steps:
            if (not text.isascii()) if only_if == NON_ASCII else (only_if in text):
                text = substitute(replacement, text)
        return text.lower()
