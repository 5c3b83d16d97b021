"""Data: labelled texts, without duplicates, split so that validation tells the truth.

A model that has seen other reviews of the same film, or the same text twice, looks better on them
than it is: on IMDB a random-row validation was 1.3 points too optimistic. So texts are
de-duplicated first, and a film never has reviews on both sides of a split.

A split depends on the texts, their groups and the seed alone, by way of sha256: the machine, the
versions of libraries and the order of different texts change nothing.

A corpus may be larger than memory: its texts are read anew by each pass over them (`Stream`), and
what a split compares are digests, 68 bytes a row (`Index`).
"""

import hashlib
import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from app.errors import DataError
from training.data.corpus import Corpus, Example, digest, join_digests, text_key

CANONICAL_ORDER: Final = ("negative", "neutral", "positive")


_TEST_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many rows de-duplication left out, and why.

    Attributes:
        duplicates: Further copies of a text that was kept, with its label.
        conflicts: Copies with another label than most copies of their text carry, and every copy
            of a text for which no label has the most.
    """

    duplicates: int
    conflicts: int


@dataclass(frozen=True, slots=True)
class Split:
    """The two sides of a corpus, with what was left out."""

    train: Corpus
    validation: Corpus
    dropped: Dropped

    def counts(self) -> dict[str, int]:
        """The numbers for the manifest's card."""
        return {
            "train": len(self.train),
            "validation": len(self.validation),
            "dropped_duplicates": self.dropped.duplicates,
            "dropped_conflicting_labels": self.dropped.conflicts,
        }


def order_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Each label once: negative, neutral, positive first, any others after them by name."""
    found = set(labels)
    known = [label for label in CANONICAL_ORDER if label in found]
    return (*known, *sorted(found - set(CANONICAL_ORDER)))


def fingerprint(corpus: Corpus) -> str:
    """Sha256 over texts and labels, as hexadecimal digits.

    Every (label, text) pair is written as JSON and hashed, and the sorted digests are hashed again.
    So the order of rows, groups and the name do not matter, and a row that stands twice does.
    """
    return hashlib.sha256(np.sort(corpus.index.pairs).tobytes()).hexdigest()


def deduplicate(corpus: Corpus) -> tuple[Corpus, Dropped]:
    """Keep one copy of each text: the first with the label that most of its copies carry.

    A text without such a label, because two have as many copies, is left out.

    Returns:
        The corpus without the others, in the same order, and what was left out.
    """
    labels = corpus.index.labels
    texts, text_of = np.unique(corpus.index.keys, return_inverse=True)
    votes = np.zeros((len(texts), len(corpus.labels)), np.int32)
    np.add.at(votes, (text_of, labels), 1)
    decided = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) == 1
    agrees = decided[text_of] & (labels == votes.argmax(axis=1)[text_of])

    rows = np.flatnonzero(agrees)
    _, first = np.unique(text_of[rows], return_index=True)
    kept = np.zeros(len(corpus), np.bool_)
    kept[rows[first]] = True
    duplicates, conflicts = int(agrees.sum() - kept.sum()), int((~agrees).sum())
    return corpus.where(kept), Dropped(duplicates, conflicts)


def hold_out(corpus: Corpus, *, share: float) -> tuple[Corpus, Corpus]:
    """Set whole groups aside by their hash alone, for a test that no recipe and no seed changes.

    Returns:
        The rows that remain, as they stand, and of the others one copy of each text, so that a text
        that was repeated a hundred times counts once.

    Raises:
        DataError: The share is none, or leaves one of the two without rows.
    """
    if not 0 < share < 1:
        raise DataError(f"the test share must be above 0 and below 1. Received: {share}")
    end = int(share * 2**64).to_bytes(8)
    aside = np.array([_group_digest(item, _TEST_SEED) < end for item in corpus.examples])
    if aside.all() or not aside.any():
        raise DataError(
            f"{corpus.name}: the test share must leave texts on both sides. Received: {share} of "
            f"{len(corpus)} rows"
        )
    test, _ = deduplicate(corpus.where(aside))
    return corpus.where(~aside), test


def exclude(corpus: Corpus, other: Corpus) -> tuple[Corpus, int]:
    """Take out of `corpus` every text that also stands in `other`, whatever its label.

    Keeps test texts out of training, and out of unlabelled texts.

    Returns:
        The corpus without them, in the same order, and how many rows went.
    """
    kept = ~np.isin(corpus.index.keys, other.index.keys)
    return corpus.where(kept), int((~kept).sum())


def split(corpus: Corpus, *, validation_share: float, seed: int) -> Split:
    """De-duplicate, then set whole groups aside until each label has its share in validation.

    Groups are visited in the order of a hash of seed and group: first those are taken that keep
    every label within its share, then any that bring the counts nearer to the shares still. A text
    without a group is a group of its own.

    Args:
        corpus: Labelled texts.
        validation_share: The part of every label that validation gets, above 0 and below 1.
        seed: Another seed, another split.

    Returns:
        Both sides in the order of `corpus`. Every label is on both sides.

    Raises:
        DataError: A label has fewer than two texts, or its groups are too large to be shared out.
    """
    if not 0 < validation_share < 1:
        raise DataError(
            f"the validation share must be above 0 and below 1. Received: {validation_share}"
        )
    unique, dropped = deduplicate(corpus)
    missing = np.array([max(1, round(validation_share * n)) for n in unique.counts().values()])
    validation = np.zeros(len(unique), np.bool_)
    groups = _Groups(unique, seed)
    for accept in (_stays_within, _comes_nearer):
        for rows in groups:
            if not missing.any():
                break
            after = missing - np.bincount(unique.index.labels[rows], minlength=len(missing))
            if not validation[rows[0]] and accept(missing, after):
                validation[rows] = True
                missing = after

    sides = Split(unique.where(~validation), unique.where(validation), dropped)
    for side in (sides.train, sides.validation):
        _check_every_label(side.counts(), unique.counts(), validation_share)
    return sides


class _Groups:
    """The rows of each group, int64 (members,), in the order of a hash of seed and group."""

    def __init__(self, corpus: Corpus, seed: int) -> None:
        together = bytearray()
        for example in corpus.examples:
            together += _group_digest(example, seed)
        digests = join_digests(together)
        self._rows = np.argsort(digests, kind="stable")
        ordered = digests[self._rows]
        self._ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(ordered))

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        start = 0
        for end in self._ends:
            yield self._rows[start:end]
            start = end


def _stays_within(before: NDArray[Any], after: NDArray[Any]) -> bool:
    return bool((after >= 0).all())


def _comes_nearer(before: NDArray[Any], after: NDArray[Any]) -> bool:
    return bool((after * after).sum() < (before * before).sum())


def _check_every_label(
    side: Mapping[str, int], whole: Mapping[str, int], validation_share: float
) -> None:
    for label, count in side.items():
        if not count:
            raise DataError(
                f"train and validation must both have texts labelled {label!r}. "
                f"Received: {whole[label]} different texts, in groups that cannot be shared out "
                f"with a validation share of {validation_share}"
            )


def _group_digest(example: Example, seed: int) -> bytes:
    if example.group is None:
        return digest("text", text_key(example.text), seed)
    return digest("group", example.group, seed)


def split_by_group(
    groups: Sequence[Hashable | None], folds: int
) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """For each fold the rows of all others and its own; no group stands in two folds.

    Args:
        groups: Of each row; None is a group of its own.
        folds: Parts of like size.
    """
    number: dict[Hashable, int] = {}
    keys = [(row,) if group is None else group for row, group in enumerate(groups)]
    group_of = [number.setdefault(key, len(number)) for key in keys]
    yield from GroupKFold(folds).split(group_of, groups=group_of)


# The tweets' own way


def split_rows(corpus: Corpus, *, held_out: float, seed: int) -> tuple[Corpus, Corpus]:
    """Hold out a share of the rows, whatever they say: copies and retweets stand on both sides.

    So scores of the second part tell how much of the first one a model remembers. This is here to
    repeat what was published, and for nothing else; `training.data.split` keeps them together.

    Returns:
        What is learned from and what is held out, each in the order of `corpus`.
    """
    order = sorted(
        range(len(corpus)),
        key=lambda row: hashlib.sha256(json.dumps([seed, row]).encode()).digest(),
    )
    aside = set(order[: round(held_out * len(corpus))])
    sides: tuple[list[int], list[int]] = ([], [])
    for row in range(len(corpus)):
        sides[row in aside].append(row)
    examples = tuple(corpus.examples)
    learned, held = (
        replace(corpus, examples=tuple(examples[row] for row in side)) for side in sides
    )
    return learned, held
