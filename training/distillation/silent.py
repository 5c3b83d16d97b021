"""Texts that say nothing: empty ones, numbers, unknown words, function words.

Nobody knows what people think who write "the" or "4821". Reviews contain no such texts, so a model
of reviews answers them by chance, and often with much confidence.
"""

from collections.abc import Iterator
from random import Random
from string import ascii_lowercase
from typing import Final

_FUNCTION_WORDS: Final = (
    "a", "about", "after", "all", "also", "am", "an", "and", "another", "any", "are", "as", "at",
    "be", "because", "been", "before", "between", "both", "by", "can", "could", "did", "do",
    "does", "during", "each", "for", "from", "had", "has", "have", "he", "her", "here", "him",
    "his", "how", "i", "if", "in", "into", "is", "it", "its", "may", "me", "my", "now", "of", "on",
    "or", "other", "our", "out", "over", "she", "should", "since", "so", "some", "than", "that",
    "the", "their", "them", "then", "there", "these", "they", "this", "those", "through", "to",
    "under", "until", "up", "was", "we", "were", "what", "when", "where", "which", "while", "who",
    "will", "with", "would", "you", "your",
)  # fmt: skip
_MARKS: Final = (".", ",", "-", "...", ";", ":", "?", "()", "--", "/", "*", '"')
_LEAST_NUMBER: Final = 11
"""From 0 to 10, a number is often a rating."""


def silent_texts(count: int, *, seed: int) -> Iterator[str]:
    """Yield texts without an opinion; some are equal.

    Args:
        count: How many.
        seed: Of all choices.
    """
    random = Random(f"{seed} silent")
    kinds = (_nothing, _numbers, _unknown_words, _one_word, _words)
    for number in range(count):
        yield kinds[number % len(kinds)](random)


def _nothing(random: Random) -> str:
    return " ".join(random.choice(_MARKS) for _ in range(random.randint(0, 3)))


def _numbers(random: Random) -> str:
    largest = random.choice((99, 999, 2030, 10**6))
    return " ".join(
        str(random.randint(_LEAST_NUMBER, largest)) for _ in range(random.choice((1, 1, 2)))
    )


def _unknown_words(random: Random) -> str:
    return " ".join(
        "".join(random.choices(ascii_lowercase, k=random.randint(6, 12)))
        for _ in range(random.randint(1, 4))
    )


def _one_word(random: Random) -> str:
    word = random.choice(_FUNCTION_WORDS)
    return random.choice((word, word.capitalize(), f"{word}.", word.upper()))


def _words(random: Random) -> str:
    return " ".join(random.choices(_FUNCTION_WORDS, k=random.randint(2, 3)))
