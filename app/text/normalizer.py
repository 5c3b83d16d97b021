"""Normalization: markup, apostrophes, invisible characters and case."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from app.text.characters import EMOJI_RANGES, character_class

NON_ASCII: Final = "non-ascii"
"""`Rewrite.only_if` of a rewrite whose matches contain a character beyond ASCII."""


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Replace every match of a pattern, before the text is lower-cased.

    Attributes:
        pattern: In the common subset of Python's `re` and RE2.
        replacement: Literal text, without references to groups.
        only_if: What every match begins with, or `NON_ASCII`. Searching for it first is faster than
            running the pattern, and never changes the result.
    """

    pattern: str
    replacement: str
    only_if: str


STANDARD_REWRITES: Final = (
    # HTML tags and comments, but not "a < b" or "<3".
    Rewrite(r"<(?:[/!]?[A-Za-z]|!--)[^<>]*>", " ", "<"),
    Rewrite(r"&(?:#39|#[xX]27|apos|rsquo);", "'", "&"),
    Rewrite(r"&(?:[A-Za-z][A-Za-z0-9]{1,30}|#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6});", " ", "&"),
    # Typographic apostrophes.
    Rewrite("[\u2019\u02bc\uff07]", "'", NON_ASCII),
    # Emoji that are joined to one before them. Then what changes an emoji (skin tones, the frame of
    # keycaps, tags of flags, variation selectors), and other invisible characters.
    Rewrite(f"\u200d[{character_class(EMOJI_RANGES)}]", "", NON_ASCII),
    Rewrite(
        "[\u00ad\u200c\u200d\u2060\u20e3\ufe00-\ufe0f\ufeff\U0001f3fb-\U0001f3ff"
        "\U000e0020-\U000e007f\U000e0100-\U000e01ef]",
        "",
        NON_ASCII,
    ),
    # Question and exclamation marks.
    Rewrite("[\u061f\uff1f]", "?", NON_ASCII),
    Rewrite("\uff01", "!", NON_ASCII),
    # The lower case of a capital sigma depends on its context, and libraries differ in it.
    Rewrite("[\u03a3\u03c2]", "\u03c3", NON_ASCII),
)


class Located(NamedTuple):
    """A normalized text, and where each of its characters comes from.

    Attributes:
        text: The normalized text.
        starts: Of each character, the position of the first character of the original text that it
            stands for.
        ends: Of each character, the position after the last one.
    """

    text: str
    starts: Sequence[int]
    ends: Sequence[int]


class Normalizer:
    """Applies rewrites in order, then converts to lower case.

    Lower case is Unicode's full mapping without a locale: `str.lower` here, ICU in the exported
    graph. A letter that the Unicode version of either lacks is part of no word
    (`app.text.characters`).
    """

    def __init__(self, rewrites: Sequence[Rewrite] = STANDARD_REWRITES) -> None:
        self.rewrites = tuple(rewrites)
        compiled = [(r, re.compile(r.pattern)) for r in rewrites]
        self._steps = [(r.only_if, pattern.sub, r.replacement) for r, pattern in compiled]
        self._patterns = [(pattern.finditer, r.replacement) for r, pattern in compiled]
        # ASCII text stays ASCII, so that the other rewrites need no look.
        ascii_only = [step for step in self._steps if step[0] != NON_ASCII]
        stays_ascii = all(replacement.isascii() for _, _, replacement in ascii_only)
        self._ascii_steps = ascii_only if stays_ascii else None

    def __call__(self, text: str) -> str:
        """Normalize a text, in time linear in its length."""
        if self._ascii_steps is not None and text.isascii():
            for only_if, substitute, replacement in self._ascii_steps:
                if only_if in text:
                    text = substitute(replacement, text)
            return text.lower()
        for only_if, substitute, replacement in self._steps:
            if (not text.isascii()) if only_if == NON_ASCII else (only_if in text):
                text = substitute(replacement, text)
        return text.lower()

    def locate(self, text: str) -> Located:
        """Normalize a text, and keep where each character comes from. Slower than a call."""
        located = Located(text, range(len(text)), range(1, len(text) + 1))
        for find, replacement in self._patterns:
            located = _replace(
                located, ((m.start(), m.end(), replacement) for m in find(located.text))
            )
        lower = located.text.lower()
        if len(lower) == len(located.text):
            return located._replace(text=lower)
        # Some letters become two. What they become may depend on their neighbours, how many not.
        expanded = (
            (index, index + 1, character.lower())
            for index, character in enumerate(located.text)
            if len(character.lower()) != 1
        )
        return _replace(located, expanded)._replace(text=lower)


def _replace(located: Located, matches: Iterable[tuple[int, int, str]]) -> Located:
    """Replace parts of a located text.

    Args:
        located: The text.
        matches: Start, end and replacement of each part, in order.
    """
    text, starts, ends = located
    parts: list[str] = []
    new_starts: list[int] = []
    new_ends: list[int] = []
    done = 0
    for start, end, replacement in matches:
        parts += (text[done:start], replacement)
        new_starts += starts[done:start]
        new_ends += ends[done:start]
        new_starts += [starts[start]] * len(replacement)
        new_ends += [ends[end - 1]] * len(replacement)
        done = end
    if not done:
        return located
    parts.append(text[done:])
    new_starts += starts[done:]
    new_ends += ends[done:]
    return Located("".join(parts), new_starts, new_ends)
