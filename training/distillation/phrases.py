"""Phrases of a small grammar, from a TOML file beside this module."""

import re
import tomllib
from functools import cache
from importlib.resources import files
from random import Random
from typing import Final

_SLOT: Final = re.compile(r"\{(\w+)\}")
_ARTICLE: Final = re.compile(r"\b([Aa]) (?=[ai]|e(?!u)|o(?!ne\b)|u(?!s|ni)|honest|hour)")
"""An `a` before what is spoken with a vowel."""


class Phrases:
    """The phrases of each section and key of a file; `{slot}` in one is filled from `[fill]`.

    Args:
        sections: Phrases by section and key.
    """

    def __init__(self, sections: dict[str, dict[str, list[str]]]) -> None:
        self._sections = sections

    def keys(self, section: str) -> list[str]:
        """The keys of a section, in the order of the file."""
        return list(self._sections[section])

    def draw(self, section: str, key: str, random: Random) -> str:
        """Return one phrase, with a choice for each of its slots; what fills one fills no other.

        Args:
            section: The section of the file.
            key: The key in it.
            random: Makes the choices.
        """
        used: set[str] = set()

        def fill(slot: re.Match[str]) -> str:
            choices = self._sections["fill"][slot[1]]
            chosen = random.choice([each for each in choices if each not in used])
            used.add(chosen)
            return chosen

        text = random.choice(self._sections[section][key])
        while "{" in text:  # what fills a slot may have slots
            text = _SLOT.sub(fill, text)
        return _ARTICLE.sub(r"\1n ", text)


@cache
def read_phrases(name: str) -> Phrases:
    """Read a file of this folder, in which `|` divides the phrases of a key."""
    sections = tomllib.loads(files(__package__).joinpath(name).read_text("utf-8"))
    return Phrases(
        {
            section: {
                key: [" ".join(each.split()) for each in text.split("|")]
                for key, text in keys.items()
            }
            for section, keys in sections.items()
        }
    )


def vary_case_and_end(text: str, random: Random, *, ends: tuple[str, ...]) -> str:
    """Return a sentence as people type it: in lower case with probability 1/4, and with an end.

    Args:
        text: The sentence.
        random: Makes the choices.
        ends: What may follow a sentence that has no end of its own.
    """
    if random.random() < 0.25:
        text = text.lower()
    return text if text.endswith(("?", "!", ".")) else text + random.choice(ends)
