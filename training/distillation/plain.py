"""Plain texts: facts, questions and requests without any opinion.

Film reviews hardly contain them, and a model of reviews reads an opinion into most. The phrases are
in `plain.toml`; none is taken from a set that measures a model.
"""

from collections.abc import Iterator
from random import Random
from typing import Final

from training.distillation.phrases import read_phrases, write_as_people

_MARKS: Final = (".", ".", ".", "")


def plain_texts(count: int, *, seed: int) -> Iterator[str]:
    """Yield texts without an opinion, of each subject equally often; some may be equal.

    Args:
        count: How many.
        seed: Of all choices.
    """
    random = Random(f"{seed} plain")
    phrases = read_phrases("plain.toml")
    subjects = phrases.keys("plain")
    for number in range(count):
        text = phrases.draw("plain", subjects[number % len(subjects)], random)
        yield write_as_people(text[0].upper() + text[1:], random, marks=_MARKS)
