"""Data: labelled texts, without duplicates, split so that validation tells the truth.

A model that has seen other reviews of the same film, or the same text twice, looks better on them
than it is: on IMDB a random-row validation was 1.3 points too optimistic. So texts are
de-duplicated first, and a film never has reviews on both sides of a split.

A split depends on the texts, their groups and the seed alone, by way of sha256: the machine, the
versions of libraries and the order of different texts change nothing.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from app.errors import DataError

CANONICAL_ORDER: Final = ("negative", "neutral", "positive")


@dataclass(frozen=True, slots=True)
class Example:
    """One text and what is known of it.

    Attributes:
        text: As it stands in the file; markup and case are the encoder's business.
        label: A lower-case name; empty where the file has no labels.
        group: What the text is about or comes from (a film, the original of a retweet): texts of
            one group resemble each other, so a split keeps them together. None when unknown.
    """

    text: str
    label: str
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Corpus:
    """Texts of one source.

    Attributes:
        name: For people: the file or folder, and the part of it.
        examples: In the order of the source.
        labels: The classes in the order of a model's outputs; empty for unlabelled texts.
    """

    name: str
    examples: tuple[Example, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.examples)

    def texts(self) -> list[str]:
        """The texts alone, in order."""
        return [example.text for example in self.examples]

    def targets(self) -> list[int]:
        """The index in `labels` of every example, in order."""
        index = {label: position for position, label in enumerate(self.labels)}
        return [index[example.label] for example in self.examples]

    def counts(self) -> dict[str, int]:
        """How many examples each label has, in the order of `labels`."""
        counted = Counter(example.label for example in self.examples)
        return {label: counted[label] for label in self.labels}


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many rows de-duplication left out, and why.

    Attributes:
        duplicates: Later copies of a text that was kept.
        conflicts: Rows of texts that carry different labels in different places; no copy is kept,
            because none can be told to be right.
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


def text_key(text: str) -> str:
    """What makes two texts the same: the text with every run of white space as one space."""
    return " ".join(text.split())


def fingerprint(corpus: Corpus) -> str:
    """Sha256 over texts and labels, as hexadecimal digits.

    Every (label, text) pair is written as JSON and hashed, and the sorted digests are hashed again.
    So the order of rows, groups and the name do not matter, and a row that stands twice does.
    """
    rows = sorted(_digest(example.label, example.text) for example in corpus.examples)
    return hashlib.sha256(b"".join(rows)).hexdigest()


def deduplicate(corpus: Corpus) -> tuple[Corpus, Dropped]:
    """Keep the first copy of each text, and none of a text whose copies disagree on the label.

    Returns:
        The corpus without them, in the same order, and what was left out.
    """
    labels: defaultdict[str, set[str]] = defaultdict(set)
    for example in corpus.examples:
        labels[text_key(example.text)].add(example.label)

    kept: dict[str, Example] = {}
    duplicates = conflicts = 0
    for example in corpus.examples:
        key = text_key(example.text)
        if len(labels[key]) > 1:
            conflicts += 1
        elif key in kept:
            duplicates += 1
        else:
            kept[key] = example
    return replace(corpus, examples=tuple(kept.values())), Dropped(duplicates, conflicts)


def exclude(corpus: Corpus, other: Corpus) -> tuple[Corpus, int]:
    """Take out of `corpus` every text that also stands in `other`, whatever its label.

    Keeps test texts out of training, and out of unlabelled texts.

    Returns:
        The corpus without them, in the same order, and how many rows went.
    """
    unwanted = {text_key(example.text) for example in other.examples}
    kept = tuple(item for item in corpus.examples if text_key(item.text) not in unwanted)
    return replace(corpus, examples=kept), len(corpus) - len(kept)


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
    members: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, example in enumerate(unique.examples):
        members[_group_digest(example, seed)].append(row)

    missing = {label: max(1, round(validation_share * n)) for label, n in unique.counts().items()}
    order = [rows for _, rows in sorted(members.items())]
    validation: set[int] = set()
    for accept in (_stays_within, _comes_nearer):
        for rows in order:
            after = {
                label: n - sum(unique.examples[row].label == label for row in rows)
                for label, n in missing.items()
            }
            if validation.isdisjoint(rows) and accept(missing, after):
                validation.update(rows)
                missing = after

    sides = Split(
        train=_select(unique, [row for row in range(len(unique)) if row not in validation]),
        validation=_select(unique, sorted(validation)),
        dropped=dropped,
    )
    for side in (sides.train, sides.validation):
        _check_every_label(side.counts(), unique.counts(), validation_share)
    return sides


def _stays_within(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    return all(n >= 0 for n in after.values())


def _comes_nearer(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    return sum(n * n for n in after.values()) < sum(n * n for n in before.values())


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


def _select(corpus: Corpus, rows: Iterable[int]) -> Corpus:
    return replace(corpus, examples=tuple(corpus.examples[row] for row in rows))


def _group_digest(example: Example, seed: int) -> bytes:
    if example.group is None:
        return _digest("text", text_key(example.text), seed)
    return _digest("group", example.group, seed)


def _digest(*parts: str | int) -> bytes:
    """Sha256 of the parts as JSON, which keeps ("a", "bc") and ("ab", "c") apart."""
    return hashlib.sha256(json.dumps(parts).encode("ascii")).digest()
