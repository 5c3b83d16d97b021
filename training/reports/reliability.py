"""The rule by which a version says that it cannot judge a text, chosen on validation texts."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.artifact import Reliability, even_label
from app.errors import InvalidInput
from app.text.encoder import Encoded
from app.text.padding import Int32Array
from app.text.vocabulary import UNKNOWN
from training.reports.scores import wilson
from training.support.arrays import IntArray, Probabilities

WINDOW: Final = 40
"""Tokens of a passage, about three sentences. A whole review is right with few known words left."""
_STEPS: Final = 10
_MIN_TEXTS: Final = 50
"""A group of fewer texts decides nothing: the standard error of its accuracy is above 0.05."""


def give_even_odds(
    probabilities: NDArray[np.floating[Any]],
    encoded: Sequence[Encoded],
    reliability: Reliability,
    labels: Sequence[str],
) -> None:
    """Replace the probabilities of texts that a version cannot judge, as the service does.

    Args:
        probabilities: Of shape (texts, classes); changed in place.
        encoded: The texts.
        reliability: Which texts the version can judge.
        labels: In the order of the classes. That of even odds is the first of the most probable
            ones: any label before it gets less by the least difference of a float.
    """
    covers = reliability.covers
    unreliable = np.array([not covers(text.known, text.read) for text in encoded], np.bool_)
    even = probabilities.dtype.type(1 / len(labels))
    probabilities[unreliable] = even
    probabilities[unreliable, : even_label(labels)] = np.nextafter(even, np.zeros_like(even))


def measure_rule(
    rows: Sequence[Int32Array],
    targets: IntArray,
    score: Callable[[Sequence[Int32Array]], Probabilities],
    *,
    seed: int,
) -> Reliability:
    """Find how many unknown tokens a version bears, in passages of validation texts.

    In a passage of each text a share of the tokens, from none to all, becomes the unknown one. The
    level is half-way between always giving the most frequent label and the accuracy with all tokens
    shown.
    Labels that no text has, such as `neutral`, are not asked for.

    Args:
        rows: The ids of each validation text, `BEGIN` first.
        targets: The class of each, int (texts,).
        score: Returns the probabilities of rows, (rows, classes).
        seed: Of passages and hidden tokens.

    Returns:
        The rule of `choose_reliability`, or the default one if there are too few texts for any.
    """
    random = np.random.default_rng(seed)
    shown, hidden = [], []
    for row in rows:  # one passage of each, so that all are independent
        start = random.integers(max(1, len(row) - WINDOW))
        passage = np.concatenate([row[:1], row[1:][start : start + WINDOW]])
        shown.append(passage)
        hide = random.random(len(passage)) < random.random()
        hide[0] = False
        hidden.append(np.where(hide, UNKNOWN, passage).astype(np.int32))
    classes = np.unique(targets)

    def judge(passages: Sequence[Int32Array]) -> NDArray[np.bool_]:
        right: NDArray[np.bool_] = classes[score(passages)[:, classes].argmax(axis=1)] == targets
        return right

    right = judge(shown)
    level = round(float(np.bincount(targets).max() / len(targets) + right.mean()) / 2, 4)
    if wilson(int(right.sum()), len(right))[0] <= level:
        return Reliability()
    known = np.array([(row[1:] != UNKNOWN).sum() for row in hidden], np.int32)
    read = np.array([len(row) - 1 for row in hidden], np.int32)
    try:
        return choose_reliability(known, read, judge(hidden), level=level)
    except InvalidInput:
        return Reliability()


def choose_reliability(
    known: Int32Array, read: Int32Array, right: NDArray[np.bool_], *, level: float
) -> Reliability:
    """Choose the largest share of unknown tokens with which a version still reaches a level.

    Texts are grouped by their share of unknown tokens, in steps of 0.1. The rule leaves out the
    groups from which on none reaches the level any more. Reviews have few unknown tokens, so
    `known` should come from validation texts of which a varying share of tokens was hidden.

    Args:
        known: The number of tokens of each text that are read and known, (texts,).
        read: The number of tokens of each text that are read, (texts,).
        right: Whether each text gets its label, (texts,).
        level: The least accuracy, from 0 to 1.

    Returns:
        The rule, with the figures it is based on: of the texts with a known token that it covers,
        and of those that it refuses.

    Raises:
        InvalidInput: Even the texts with the fewest unknown tokens are below the level.
    """
    some = known > 0
    share = (read[some] - known[some]) / read[some]
    right = right[some]
    group = np.clip(np.ceil(share * _STEPS - 1e-9).astype(int) - 1, 0, _STEPS - 1)
    texts = np.bincount(group, minlength=_STEPS)
    correct = np.bincount(group, right, minlength=_STEPS)
    measured = [each for each in range(_STEPS) if texts[each] >= _MIN_TEXTS]
    reaching = [each for each in measured if correct[each] >= level * texts[each]]
    if not reaching:
        raise InvalidInput(
            f"the version must reach the level, {level}, on {_MIN_TEXTS} texts with equally many "
            "unknown tokens. Received: it nowhere does"
        )
    failing = [each for each in measured if each > reaching[-1]]
    largest = failing[0] / _STEPS if failing else 1.0
    covered = share <= largest
    figures = {"level": level, "texts": float(covered.sum()), "accuracy": _mean(right[covered])}
    if not covered.all():
        figures |= {
            "refused_texts": float((~covered).sum()),
            "refused_accuracy": _mean(right[~covered]),
        }
    return Reliability(max_unknown_share=largest, measured=figures)


def _mean(right: NDArray[np.bool_]) -> float:
    return round(float(right.mean()), 4)
