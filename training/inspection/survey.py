"""Read a data set as training would, and describe what it would learn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.text.encoder import TextEncoder
from app.text.vocabulary import Vocabulary
from training.config import Config
from training.data.accounting import Rows, name_label
from training.data.corpus import Corpus, LazySequence, short_digests
from training.data.dataset import Dataset, Source, split_dataset
from training.data.preprocessing import text_config, tokenizing_config
from training.inspection.surprises import SAMPLE, find_doubts
from training.inspection.texts import Texts, read_texts
from training.reports.report import describe_lengths
from training.support.arrays import BoolArray, Int64Array
from training.support.progress import console, track

LISTED: Final = 10
"""At most so many rows are listed of each kind."""
FOREIGN: Final = "texts that look foreign"
_CONFIDENT: Final = 0.5
"""How much more probable another label must be for a row to be listed."""
_RARE: Final = 10
"""A label with fewer texts is rare."""
_LONG: Final = 20
"""A text with so many times the median of tokens is extremely long."""
_OF_A_KIND: Final = 2
"""Surprising rows that are listed for their length, and for a rare label."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Rows that have something in common.

    Attributes:
        count: How many there are.
        rows: The first of them, such as `row 7` or `row 7 of test`.
    """

    count: int
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What a training would learn from; no text is repeated.

    Attributes:
        name: Of the training texts.
        recipe: The recipe whose rules were applied.
        rows: Where every row went.
        labels: For each label the number of texts in each split, and those `dropped` from the
            training part.
        lengths: Of the training texts, from `training.reports.report.describe_lengths`.
        findings: Rows by what is odd about them.
        surprises: Rows to look at, each with the reason.
        agreement: The share of labels with which a linear model agrees, out of fold; None where
            there are too few texts for one.
    """

    name: str
    recipe: str
    rows: Rows
    labels: Mapping[str, Mapping[str, int]]
    lengths: Mapping[str, Any]
    findings: Mapping[str, Finding]
    surprises: tuple[str, ...]
    agreement: float | None


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the data as it was read.

    Attributes:
        corpus: Its rows.
        texts: What a pass over them found.
        suffix: Follows the number of a row, where the number alone does not say which file.
    """

    corpus: Corpus
    texts: Texts
    suffix: str

    def name(self, position: int) -> str:
        """Name a row: by its number, or by its position where rows come from many files."""
        rows = self.texts.rows
        ascending = rows[0] > 0 and bool((np.diff(rows) > 0).all())
        place = f"row {rows[position]:,}" if ascending else f"text {position + 1:,}"
        return f"{place}{self.suffix}"

    def find(self, mask: BoolArray) -> Finding:
        """The rows where `mask` is true."""
        found = np.flatnonzero(mask)
        return Finding(len(found), tuple(map(self.name, found[:LISTED].tolist())))


def survey(source: Source, config: Config) -> Survey:
    """Read a data set as a training with this recipe would, and describe it.

    Raises:
        DataError: The data is invalid, or no text is left to learn from.
    """
    with console.status("Reading"):
        whole, test = source.read_parts(test=True)
        unlabelled = source.read_unlabelled() if config.reads_unlabelled else None
    whole = _with_bar(whole)
    test = None if test is None else _with_bar(test)
    dataset = split_dataset(
        whole,
        test,
        unlabelled or Corpus("none", (), ()),
        validation_share=config.loop.validation_share,
        seed=config.seed,
    )
    encoder = TextEncoder(tokenizing_config(config), Vocabulary(()))
    kept = _kept_rows(whole, dataset)
    sampled = _sample(whole, kept)
    # A share of one file has its row numbers.
    parts = [_Part(whole, read_texts(whole, encoder, sampled), "")]
    if test is not None:
        suffix = "" if source.test_share else " of test"
        parts.append(_Part(test, read_texts(test, encoder), suffix))
    tokens = parts[0].texts.tokens
    rules = text_config(config, tokens[_in(whole, dataset.train)])
    surprises, agreement = _find_surprises(parts[0], kept, sampled, config.seed)
    return Survey(
        name=whole.name,
        recipe=config.name,
        rows=dataset.rows,
        labels=_count_labels(whole, test, dataset),
        lengths=describe_lengths(tokens[kept], rules.max_length - 1),
        findings=_find_oddities(parts, dataset, kept),
        surprises=surprises,
        agreement=agreement,
    )


def _with_bar(corpus: Corpus) -> Corpus:
    """The same corpus; each pass over it shows a progress bar."""
    rows = corpus.examples
    return corpus.described(
        examples=LazySequence(lambda: track(rows, f"Reading {corpus.name}"), len(corpus))
    )


def _in(corpus: Corpus, other: Corpus) -> BoolArray:
    """Whether each text of `corpus` is in `other`, bool (rows,)."""
    return np.isin(short_digests(corpus), short_digests(other))


def _kept_rows(whole: Corpus, dataset: Dataset) -> Int64Array:
    """The first row of each text that training or validation has, int64 (texts,), ascending."""
    there = np.flatnonzero(_in(whole, dataset.train) | _in(whole, dataset.validation))
    _, first = np.unique(short_digests(whole)[there], return_index=True)
    return np.sort(there[first])


def _sample(whole: Corpus, kept: Int64Array) -> list[int]:
    """The rows of at most `SAMPLE` texts, drawn by their digests, ascending."""
    order = np.argsort(short_digests(whole)[kept], kind="stable")[:SAMPLE]
    rows: list[int] = np.sort(kept[order]).tolist()
    return rows


def _count_labels(
    whole: Corpus, test: Corpus | None, dataset: Dataset
) -> dict[str, dict[str, int]]:
    """For each label, its rows by split and those that were dropped."""
    train, validation = dataset.train.counts(), dataset.validation.counts()
    tests = test.counts() if test is not None else {}
    return {
        # Labels of several words may be texts, and of equal length.
        label if name_label(label) == label else f"{name_label(label)} (class {number})": {
            "train": train[label],
            "validation": validation[label],
            **({} if test is None else {"test": tests.get(label, 0)}),
            "dropped": count - train[label] - validation[label],
        }
        for number, (label, count) in enumerate(whole.counts().items(), start=1)
    }


def _find_oddities(
    parts: Sequence[_Part], dataset: Dataset, kept: Int64Array
) -> dict[str, Finding]:
    """Rows by what is odd about them."""
    whole = parts[0]
    findings = {
        "texts that carry several labels": _find_conflicts(whole),
        "texts without a token, such as dashes alone": _together(
            [part.find(part.texts.tokens == 0) for part in parts]
        ),
        FOREIGN: _together([part.find(part.texts.foreign) for part in parts]),
    }
    words = whole.texts.words
    first = np.zeros(len(words), np.bool_)
    first[kept] = True
    in_validation = first & _in(whole.corpus, dataset.validation)
    in_train = first & ~in_validation
    findings["validation texts that are training texts but for case, punctuation or markup"] = (
        whole.find(in_validation & _among(words, words[in_train]))
    )
    for test in parts[1:]:
        known = _in(test.corpus, whole.corpus)
        near = _among(test.texts.words, words[first])
        findings["test texts that are training rows too (left out of training)"] = test.find(known)
        findings["test texts that are training texts but for case, punctuation or markup"] = (
            test.find(near & ~known)
        )
    return findings


def _among(words: NDArray[np.uint64], known: NDArray[np.uint64]) -> BoolArray:
    """Whether each digest of words is among the known ones; 0 is none."""
    found: BoolArray = np.isin(words, known) & (words != 0)
    return found


def _together(findings: Sequence[Finding]) -> Finding:
    """The rows of several parts."""
    rows = [row for finding in findings for row in finding.rows]
    return Finding(sum(finding.count for finding in findings), tuple(rows[:LISTED]))


def _find_conflicts(part: _Part) -> Finding:
    """The first row of each text whose rows have different labels."""
    digests, labels = short_digests(part.corpus), part.corpus.index.labels
    order = np.argsort(digests, kind="stable")
    ends = np.flatnonzero(np.diff(digests[order]))
    starts = np.concatenate([[0], ends + 1])
    lowest = np.minimum.reduceat(labels[order], starts)
    highest = np.maximum.reduceat(labels[order], starts)
    mask = np.zeros(len(labels), np.bool_)
    mask[order[starts[lowest != highest]]] = True
    return part.find(mask)


def _find_surprises(
    part: _Part, kept: Int64Array, sampled: Sequence[int], seed: int
) -> tuple[tuple[str, ...], float | None]:
    """At most `LISTED` rows to look at, and the share of labels that a linear model agrees with."""
    corpus, texts = part.corpus, part.texts
    targets, names = corpus.index.labels, [name_label(label) for label in corpus.labels]
    found: dict[int, str] = {}
    lengths = texts.tokens[kept]
    typical = max(float(np.median(lengths)), 1)
    for row in kept[np.argsort(-lengths, kind="stable")[:_OF_A_KIND]].tolist():
        if texts.tokens[row] >= _LONG * typical:
            found[row] = f"{texts.tokens[row]:,} tokens, where half have at most {typical:,.0f}"
    counts = np.bincount(targets[kept], minlength=len(names))
    rare = kept[counts[targets[kept]] < _RARE]
    for row in rare[np.argsort(counts[targets[rare]], kind="stable")][:_OF_A_KIND].tolist():
        found[row] = f"one of {counts[targets[row]]:,} texts labelled {names[targets[row]]}"
    chosen = np.array(sampled, np.int64)
    with console.status("Asking a linear model"):
        doubts = find_doubts(
            texts.sample, targets[chosen], texts.groups, classes=len(names), seed=seed
        )
    if doubts is not None:
        order = np.argsort(-doubts.surprise, kind="stable")
        confident = order[doubts.surprise[order] >= _CONFIDENT]
        for place in confident[:LISTED].tolist():
            row = sampled[place]
            if len(found) < LISTED and row not in found:
                found[row] = (
                    f"labelled {names[targets[row]]}, but a linear model that did not see it says "
                    f"{names[doubts.predicted[place]]} ({doubts.surprise[place]:.2f} more probable)"
                )
    told = tuple(f"{part.name(row)}: {why}" for row, why in found.items())
    return told, None if doubts is None else doubts.agreement
