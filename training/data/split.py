"""Splits without leaks: de-duplicated texts, and no group on both sides.

A model that has seen other reviews of a film, or the same text, scores better on them than on new
ones: on IMDB a split by rows was 1.3 points too optimistic. So texts are de-duplicated first, and a
group (all reviews of one film, say) is never divided. A text without a group is its own group.

A split depends only on the texts, their groups and the seed, through sha256: not on the machine,
library versions, or the order of the rows.
"""

import hashlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from training.data.accounting import CONFLICTS, DUPLICATES, add_up, name_label, nothing_left
from training.data.corpus import Corpus, Digests, digest, join_digests, text_key
from training.support.arrays import BoolArray, Int64Array

_TEST_SEED: Final = 0
"""`hold_out` has no seed of its own: a test set is the same for every recipe."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The rows that de-duplication removed.

    Attributes:
        duplicates: Further copies of a text that was kept, with the same label.
        conflicts: Copies whose label is not the majority label of their text, and every copy of a
            text without a majority label.
    """

    duplicates: int
    conflicts: int

    def counts(self) -> dict[str, int]:
        """Return the numbers by reason."""
        return {DUPLICATES: self.duplicates, CONFLICTS: self.conflicts}


@dataclass(frozen=True, slots=True)
class Split:
    """The two sides of a corpus, and the rows that were removed."""

    train: Corpus
    validation: Corpus
    dropped: Dropped

    def counts(self) -> dict[str, int]:
        """Return the numbers of rows for the data card in the manifest."""
        return {
            "train": len(self.train),
            "validation": len(self.validation),
            **{f"dropped_{reason}": count for reason, count in self.dropped.counts().items()},
        }


def fingerprint(corpus: Corpus) -> str:
    """Return the sha256 of texts and labels, as hexadecimal digits.

    Every (label, text) pair is hashed as JSON, and the sorted digests are hashed again. So a
    repeated row matters, while the order of rows, the groups and the name do not.
    """
    return hashlib.sha256(np.sort(corpus.index.pairs).data).hexdigest()


def deduplicate(corpus: Corpus) -> tuple[Corpus, Dropped]:
    """Keep one copy of each text: the first one with the majority label of its copies.

    A text whose most frequent labels are tied is removed.

    Returns:
        The remaining rows, in the same order, and the number of removed ones.
    """
    labels = corpus.index.labels
    texts, text_of = np.unique(corpus.index.keys, return_inverse=True)
    # Votes per text and label that occur: a million texts with a hundred labels take no more.
    classes = max(len(corpus.labels), 1)
    cells, votes = np.unique(text_of * classes + labels, return_counts=True)
    text, label = np.divmod(cells, classes)
    most = np.zeros(len(texts), votes.dtype)
    np.maximum.at(most, text, votes)
    leads = votes == most[text]
    decided = np.bincount(text[leads], minlength=len(texts)) == 1
    majority = np.zeros(len(texts), np.int64)
    majority[text[leads]] = label[leads]
    agrees = decided[text_of] & (labels == majority[text_of])

    rows = np.flatnonzero(agrees)
    _, first = np.unique(text_of[rows], return_index=True)
    kept = np.zeros(len(corpus), np.bool_)
    kept[rows[first]] = True
    duplicates, conflicts = int(agrees.sum() - kept.sum()), int((~agrees).sum())
    return corpus.where(kept), Dropped(duplicates, conflicts)


def hold_out(corpus: Corpus, *, share: float) -> tuple[Corpus, Corpus]:
    """Hold out whole groups as a test set that depends on no recipe and no seed.

    A group is held out if its digest, read as a fraction, is below `share`.

    Args:
        corpus: Labelled texts.
        share: The approximate share of the groups to hold out, above 0 and below 1.

    Returns:
        The remaining rows, unchanged, and the test set, de-duplicated: a text that was repeated a
        hundred times counts once. Its `left_out` has the copies that were dropped.

    Raises:
        DataError: The share is out of its bounds, or one of the two sides is empty.
    """
    if not 0 < share < 1:
        raise DataError(f"the test share must be above 0 and below 1. Received: {share}")
    held_out = group_digests(corpus, _TEST_SEED) < int(share * 2**64).to_bytes(8)
    if held_out.all() or not held_out.any():
        raise DataError(
            f"{corpus.name}: the test share must leave texts on both sides. Received: {share} of "
            f"{len(corpus)} rows"
        )
    test, dropped = deduplicate(corpus.where(held_out))
    if not len(test):
        raise nothing_left(
            f"{corpus.name}, held out", int(held_out.sum()), dropped.counts(), "to test on"
        )
    return corpus.where(~held_out), test.described(left_out=dropped.counts())


def share_that_leaves(corpus: Corpus, rows: int) -> float | None:
    """Return a share with which `hold_out` leaves this many rows; None if there is none."""
    if not 0 < rows < len(corpus):
        return None
    digests = np.sort(group_digests(corpus, _TEST_SEED))
    last, following = (int.from_bytes(digest[:8]) for digest in digests[-rows - 1 :][:2].tolist())
    return (last + following) / 2**65 if last < following else None


def exclude(corpus: Corpus, other: Corpus) -> tuple[Corpus, int]:
    """Remove every text of `corpus` that `other` contains too, whatever its label.

    Keeps test texts out of the training and the unlabelled texts.

    Returns:
        The remaining rows, in the same order, and the number of removed ones.
    """
    kept = ~np.isin(corpus.index.keys, other.index.keys)
    return corpus.where(kept), int((~kept).sum())


def split(
    corpus: Corpus,
    *,
    validation_share: float,
    seed: int,
    earlier: Mapping[str, int] = MappingProxyType({}),
) -> Split:
    """De-duplicate, then move whole groups to validation until each label has its share there.

    Groups are visited twice in the order of their digests: at first a group moves if no label
    exceeds its share, then if the counts come closer to the shares.

    Args:
        corpus: Labelled texts.
        validation_share: The share of each label in validation, above 0 and below 1.
        seed: Decides the order of the groups.
        earlier: Rows that were dropped before, by reason, for the message when nothing is left.

    Returns:
        Both sides in the order of `corpus`. Every label is on both sides.

    Raises:
        DataError: No text is left, a label has fewer than two texts, or its groups are too large to
            be divided between the sides.
    """
    if not 0 < validation_share < 1:
        raise DataError(
            f"the validation share must be above 0 and below 1. Received: {validation_share}"
        )
    unique, dropped = deduplicate(corpus)
    if not len(unique):
        left_out = add_up(earlier, dropped.counts())
        raise nothing_left(corpus.name, sum(left_out.values()), left_out, "to learn from")
    validation = _choose_validation(unique, validation_share=validation_share, seed=seed)
    sides = Split(unique.where(~validation), unique.where(validation), dropped)
    for side in (sides.train, sides.validation):
        _check_every_label(side.counts(), unique.counts(), validation_share)
    return sides


def _choose_validation(corpus: Corpus, *, validation_share: float, seed: int) -> BoolArray:
    """Whether each row moves to validation, bool (rows,); see `split`."""
    labels = corpus.index.labels
    missing = np.array([max(1, round(validation_share * n)) for n in corpus.counts().values()])
    validation = np.zeros(len(corpus), np.bool_)
    digests = group_digests(corpus, seed)
    for accept in (_within_shares, _closer_to_shares):
        for rows in _rows_by_group(digests):
            if not missing.any():
                break
            after = missing - np.bincount(labels[rows], minlength=len(missing))
            if not validation[rows[0]] and accept(missing, after):
                validation[rows] = True
                missing = after
    return validation


def group_digests(corpus: Corpus, seed: int = _TEST_SEED) -> Digests:
    """Return the digest of each row's group; rows must not be separated if theirs are equal.

    A row without a group is grouped by its text, so copies of a text stay together.
    """
    concatenated = bytearray()
    for example in corpus.examples:
        if example.group is None:
            concatenated += digest("text", text_key(example.text), seed)
        else:
            concatenated += digest("group", example.group, seed)
    return join_digests(concatenated)


def _rows_by_group(digests: Digests) -> Iterator[Int64Array]:
    """Yield the rows of each group, int64 (members,), in the order of the digests."""
    rows = np.argsort(digests, kind="stable")
    in_order = digests[rows]
    ends = np.append(np.flatnonzero(in_order[1:] != in_order[:-1]) + 1, len(rows))
    for start, end in pairwise(np.insert(ends, 0, 0)):
        yield rows[start:end]


def _within_shares(before: NDArray[Any], after: NDArray[Any]) -> bool:
    return bool((after >= 0).all())


def _closer_to_shares(before: NDArray[Any], after: NDArray[Any]) -> bool:
    return bool((after * after).sum() < (before * before).sum())


def _check_every_label(
    side: Mapping[str, int], whole: Mapping[str, int], validation_share: float
) -> None:
    for label, count in side.items():
        if not count:
            raise DataError(
                f"train and validation must both have texts labelled {name_label(label)!r}. "
                f"Received: {whole[label]} different texts, in groups that cannot be shared out "
                f"with a validation share of {validation_share}"
            )


def split_by_group(
    groups: Sequence[Hashable], folds: int
) -> Iterator[tuple[Int64Array, Int64Array]]:
    """Divide rows into folds of similar size; no group is in two folds.

    Args:
        groups: The group of each row, as from `group_digests`.
        folds: The number of folds.

    Yields:
        For each fold the rows of all others, and its own rows.

    Raises:
        ValueError: There are fewer groups than folds.
    """
    from sklearn.model_selection import GroupKFold  # takes seconds; most commands do without

    numbers: dict[Hashable, int] = {}
    group_of = [numbers.setdefault(group, len(numbers)) for group in groups]
    yield from GroupKFold(folds).split(group_of, groups=group_of)


def split_rows(corpus: Corpus, *, held_out: float, seed: int) -> tuple[Corpus, Corpus]:
    """Hold out a share of the rows at random. This split leaks, on purpose.

    Copies and retweets are on both sides, so scores on the second side show how much of the first
    one a model remembers. Only for repeating what was published that way.

    Returns:
        The rows to learn from and the rows held out, each in the order of `corpus`.
    """
    order = sorted(range(len(corpus)), key=lambda row: digest(seed, row))
    aside = np.zeros(len(corpus), np.bool_)
    aside[order[: round(held_out * len(corpus))]] = True
    return corpus.where(~aside), corpus.where(aside)
