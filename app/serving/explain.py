"""Which words decided: the probability of a label with each word, and without it.

A word's contribution is how much the log-odds of the label fall when the word is left out. The
model computes both, as items of its queue. Decision 14 has the measurements.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, NamedTuple

import numpy as np

from app.serving.request_queue import BatchPolicy
from app.text.padding import Int32Array

MAX_VARIANTS: Final = 512
"""About so many variants of a text are computed at most. Of longer texts spans are left out."""
EXACT_TOKENS: Final = 32
"""Up to so many, the words of a text are left out of the whole text."""
_CHUNK: Final = 4
_MARGIN: Final = 2
"""Of longer texts a word is left out of its chunk, so many spans, and so many words on each side.
With texts of 200 words that takes a twentieth of the work; the ranks of the words agree with those
of the whole text with a correlation of 0.95."""
_MAX_ROWS: Final = MAX_VARIANTS + 8
"""With those that the others are compared with."""
_LEAST: Final = 1e-9
"""Probabilities below it are not told apart: a float32 near 1 has steps of 6e-8."""


def background_policy(policy: BatchPolicy) -> BatchPolicy:
    """The policy of the batcher that explains: any text finds room in an empty queue."""
    max_queue_items = max(policy.max_queue_items, _MAX_ROWS)
    return replace(policy, max_queue_delay_s=0.0, max_queue_items=max_queue_items)


class Word(NamedTuple):
    """The contribution of one word of a text.

    Attributes:
        start: Of the word in the text as it was sent, in characters.
        end: After the word.
        contribution: How much the log-odds of the predicted label fall without the word. Negative
            for a word that speaks against the label.
        known: Whether the word is in the vocabulary. The model reads all others as one.
    """

    start: int
    end: int
    contribution: float
    known: bool


class _Part(NamedTuple):
    """Some words that are left out together.

    Attributes:
        whole: The index of the row with them.
        without: The index of the row without them.
        words: Their positions among the words that the model reads.
    """

    whole: int
    without: int
    words: Sequence[int]


@dataclass(frozen=True, slots=True)
class Variants:
    """The rows that explain a text.

    Attributes:
        rows: Rows of ids, each int32 of shape (length_i,), for the model.
        parts: What they tell.
    """

    rows: list[Int32Array]
    parts: list[_Part]

    @property
    def tokens(self) -> int:
        """The length of all rows."""
        return sum(map(len, self.rows))


def make_variants(ids: Int32Array, *, bag_of_words: bool) -> Variants:
    """The rows that explain a text.

    A bag of words reads which words there are, not where. So every occurrence of a word is left out
    at once, from the whole text, and the occurrences share the effect. For a model that reads words
    in order each is left out on its own, from the words around it.

    Args:
        ids: The text as the model reads it, int32 of shape (length,), with the
            begin-of-sequence id.
        bag_of_words: Whether the model reads it as a bag of words.
    """
    if len(ids) < 2:  # the begin-of-sequence id alone
        return Variants([], [])
    if bag_of_words:
        return _vary_whole(ids, _group_equal(ids))
    size = math.ceil((len(ids) - 1) * (1 + 1 / _CHUNK) / MAX_VARIANTS)
    spans = [range(first, min(first + size, len(ids))) for first in range(1, len(ids), size)]
    return _vary_whole(ids, spans) if len(ids) <= EXACT_TOKENS else _vary_chunks(ids, spans)


def contributions(variants: Variants, log_odds: Sequence[float]) -> dict[int, float]:
    """The contribution of each word, by its position.

    Args:
        variants: The rows.
        log_odds: Of the label, for each row.
    """
    return {
        word: (log_odds[part.whole] - log_odds[part.without]) / len(part.words)
        for part in variants.parts
        for word in part.words
    }


def log_odds(probabilities: Sequence[float], label: int) -> float:
    """The natural logarithm of the odds of a label, from the probabilities of all labels."""
    others = sum(probabilities[:label]) + sum(probabilities[label + 1 :])
    return math.log(max(probabilities[label], _LEAST)) - math.log(max(others, _LEAST))


def _group_equal(ids: Int32Array) -> list[list[int]]:
    """The places of each different id; of several ids together, if there are too many."""
    places: dict[int, list[int]] = {}
    for place, number in enumerate(ids.tolist()[1:], start=1):
        places.setdefault(number, []).append(place)
    groups = list(places.values())
    size = math.ceil(len(groups) / MAX_VARIANTS)
    return [[*chain(*groups[i : i + size])] for i in range(0, len(groups), size)]


def _vary_whole(ids: Int32Array, groups: Sequence[Sequence[int]]) -> Variants:
    """Leave each group of places out of the whole row."""
    rows = [ids]
    parts = []
    for group in groups:
        parts.append(_Part(0, len(rows), [place - 1 for place in group]))
        rows.append(np.delete(ids, group))
    return Variants(rows, parts)


def _vary_chunks(ids: Int32Array, spans: Sequence[range]) -> Variants:
    """Leave each span out of the words around it."""
    rows: list[Int32Array] = []
    parts = []
    for index in range(0, len(spans), _CHUNK):
        chunk = spans[index : index + _CHUNK]
        first = max(1, chunk[0].start - _MARGIN)
        last = min(len(ids), chunk[-1].stop + _MARGIN)
        whole = len(rows)
        rows.append(np.concatenate([ids[:1], ids[first:last]]))
        for span in chunk:
            parts.append(_Part(whole, len(rows), [place - 1 for place in span]))
            rows.append(np.concatenate([ids[:1], ids[first : span.start], ids[span.stop : last]]))
    return Variants(rows, parts)
