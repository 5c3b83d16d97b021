"""Neutral texts: facts, plans, requests and questions without an opinion.

Film reviews hardly contain them, and a model of reviews reads an opinion into most. The phrases are
in `neutral.toml`. They share no run of four words with the ordinary texts and the capabilities that
measure models (`tests/contract/test_capability_phrases.py`).
"""

from collections.abc import Iterator
from random import Random
from typing import Final

from training.distillation.phrases import read_phrases, vary_case_and_end

_ENDS: Final = (".", ".", ".", "")


def neutral_texts(count: int, *, seed: int) -> Iterator[str]:
    """Yield different texts without an opinion, from each subject about equally many.

    Args:
        count: How many are drawn; repetitions are left out.
        seed: Of all choices.
    """
    random = Random(f"{seed} neutral")
    phrases = read_phrases("neutral.toml")
    subjects = phrases.keys("neutral")
    seen: set[str] = set()
    for number in range(count):
        text = phrases.draw("neutral", subjects[number % len(subjects)], random)
        text = vary_case_and_end(text[0].upper() + text[1:], random, ends=_ENDS)
        if text not in seen:
            seen.add(text)
            yield text
