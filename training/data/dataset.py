"""The data set of one training: read, de-duplicated and split, with counts of dropped rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from app.artifact import NEUTRAL, DataCard
from app.errors import DataError, InvalidInput
from app.tables.containers import STANDARD_INPUT
from training.data.accounting import (
    IN_TEST,
    KNOWN_UNLABELLED,
    NOT_ASKED_FOR,
    Rows,
    add_up,
    count_rows,
    name_label,
    name_labels,
    nothing_left,
)
from training.data.corpus import Corpus
from training.data.formats import SplitName
from training.data.readers import Format, ReadOptions, list_splits, read
from training.data.split import exclude, fingerprint, hold_out, split


@dataclass(frozen=True, slots=True)
class Source:
    """The location of labelled texts; stored with a run, so that `export` can read them again.

    Attributes:
        path: A folder or file that `training.data.readers.read` can read.
        test_path: The test texts, if they are not part of `path`.
        test_share: Share of a file's texts to hold out as the test split; 0 for none. The choice
            depends on the texts alone.
        format: The format of both paths. For this and the rest see
            `training.data.readers.ReadOptions`.
        text_column: See there.
        label_column: See there.
        group_column: See there.
        delimiter: See there.
        labels: See there.
        encoding: See there.
        quoting: See there.
        header: See there.
        drop_labels: See there.
        skip_bad_rows: See there.
        bad_rows_file: Where bad rows are written; not stored with a run.
    """

    path: str
    test_path: str | None = None
    format: Format = "auto"
    text_column: str | None = None
    label_column: str | None = None
    group_column: str | None = None
    delimiter: str | None = None
    labels: dict[str, str] | None = None
    test_share: float = 0.0
    encoding: str | None = None
    quoting: bool | None = None
    header: bool = True
    drop_labels: tuple[str, ...] = ()
    skip_bad_rows: bool = False
    bad_rows_file: str | None = None

    def __post_init__(self) -> None:
        """Validate `test_share`.

        Raises:
            InvalidInput: `test_share` is out of range, or another test split exists.
        """
        object.__setattr__(self, "drop_labels", tuple(self.drop_labels))  # JSON has lists
        if not 0 <= self.test_share < 1:
            raise InvalidInput(
                f"the test share must be at least 0 and below 1. Received: {self.test_share}"
            )
        if self.test_share and (self.test_path is not None or Path(self.path).is_dir()):
            raise InvalidInput(
                "the test share must belong to a single file without another test split. "
                f"Received: {self.test_share} of {self.path}"
            )

    def absolute(self) -> Source:
        """The same source for a process with another working directory."""
        test_path = self.test_path and _absolute(self.test_path)
        return replace(self, path=_absolute(self.path), test_path=test_path)

    def read(self, split: SplitName) -> Corpus:
        """Read one split; `test` comes from `test_path`, or is held out from the file.

        Every row that was read is in the corpus or in its `left_out`.

        Raises:
            DataError: See `training.data.readers.read`.
        """
        if self.test_share and split != "unlabelled":
            parts = self._divide()
            part, other = parts if split == "train" else reversed(parts)
            return part.described(left_out={**part.left_out, NOT_ASKED_FOR: count_rows(other)})
        apart = split == "test" and self.test_path is not None
        path = Path(self.test_path if apart and self.test_path else self.path)
        if apart and not path.is_dir():
            split = "train"  # a file has one split only
        return read(path, split=split, options=self._options(of_test=apart))

    def read_parts(self, *, test: bool) -> tuple[Corpus, Corpus | None]:
        """Read the training part, and the test part if there is one.

        Args:
            test: Whether to read test files. A part that is held out is always returned.

        Returns:
            Both parts. Every row that was read is in one of them or in its `left_out`.

        Raises:
            DataError: See `training.data.readers.read`.
        """
        if self.test_share:
            return self._divide()
        return self.read("train"), self.read("test") if test and self.has_test() else None

    def _divide(self) -> tuple[Corpus, Corpus]:
        """Read the file, and hold out its test part."""
        whole = replace(self, test_share=0.0).read("train")
        rest, test = hold_out(whole, share=self.test_share)
        name = f"{whole.name.removesuffix('train')}test"
        return (
            rest.described(left_out=whole.left_out),
            test.described(name=name, left_out=test.left_out),
        )

    def _options(self, *, of_test: bool) -> ReadOptions:
        """Return how the files are read; only bad rows of `path` are written to a file."""
        shared = {field.name for field in fields(ReadOptions)} - {"bad_rows_file"}
        aside = None if of_test or self.bad_rows_file is None else Path(self.bad_rows_file)
        return ReadOptions(**{name: getattr(self, name) for name in shared}, bad_rows_file=aside)

    def read_unlabelled(self) -> Corpus | None:
        """Read the unlabelled split, if there is one."""
        there = "unlabelled" in list_splits(Path(self.path)) and Path(self.path).is_dir()
        return self.read("unlabelled") if there else None

    def has_test(self) -> bool:
        """Whether there is a test split."""
        if self.test_path is not None or self.test_share:
            return True
        return "test" in list_splits(Path(self.path))


@dataclass(frozen=True, slots=True)
class Dataset:
    """The splits of a data set; no two share a text.

    Attributes:
        train: Texts to learn from.
        unlabelled: Texts for learning without labels; empty unless requested.
        validation: Texts for choosing hyperparameters and when to stop.
        test: Texts for the final metrics, duplicates included, so that results compare with
            published ones; a held-out share has each text once. None if there is no test split.
        card: The data card for the manifest.
        rows: Where every row that was read went.
    """

    train: Corpus
    unlabelled: Corpus
    validation: Corpus
    test: Corpus | None
    card: DataCard
    rows: Rows

    def learned_sides(self) -> tuple[Corpus, Corpus, Corpus]:
        """Return the training, validation and unlabelled texts: all that a training may read."""
        return self.train, self.validation, self.unlabelled

    def with_neutral(self) -> Dataset:
        """Return the same texts for a model with the label `neutral` between the two of the data.

        Raises:
            InvalidInput: There are not exactly two labels, or one of them is `neutral`.
        """
        labels = self.train.labels
        if len(labels) != 2 or NEUTRAL in labels:
            raise InvalidInput(
                f"a model gets the label {NEUTRAL} in addition to two others. Received: data "
                f"labelled {name_labels(labels)}"
            )
        with_it = (labels[0], NEUTRAL, labels[1])
        return replace(
            self,
            train=self.train.with_labels(with_it),
            validation=self.validation.with_labels(with_it),
            test=self.test and self.test.with_labels(with_it),
        )


def load_dataset(
    source: Source,
    *,
    validation_share: float,
    seed: int,
    unlabelled: bool = False,
    read_test: bool = True,
) -> Dataset:
    """Read and split a data set; equal arguments give equal splits.

    Texts of the test split are removed from all other splits. Without `read_test` the test split is
    not read, and the few of its texts that also occur in training stay there.

    Raises:
        DataError: A file is invalid, no text is left, or the test split has labels that training
            lacks.
    """
    whole, test = source.read_parts(test=read_test)
    return split_dataset(
        whole,
        test,
        (source.read_unlabelled() if unlabelled else None) or Corpus("none", (), ()),
        validation_share=validation_share,
        seed=seed,
        read_test=read_test,
    )


def split_dataset(
    whole: Corpus,
    test: Corpus | None,
    unlabelled: Corpus,
    *,
    validation_share: float,
    seed: int,
    read_test: bool = True,
) -> Dataset:
    """Split what was read; see `load_dataset`.

    Args:
        whole: The training part, as read.
        test: The test part, if there is one.
        unlabelled: Texts without labels; may be empty.
        validation_share: Share of the training part.
        seed: Of the split.
        read_test: Without it, the test part is only counted.
    """
    if len(whole.labels) < 2:
        raise DataError(
            f"{whole.name}: there must be at least two labels. Received: only "
            f"{name_label(whole.labels[0])!r}"
        )
    corpus, dropped = whole, add_up(whole.left_out)
    if test is not None and read_test:
        corpus, dropped[IN_TEST] = _leave_out_test(whole, test)
    sides = split(corpus, validation_share=validation_share, seed=seed, earlier=dropped)
    splits = {"train": sides.train, "validation": sides.validation}
    counts = {"rows": len(whole), **_as_dropped(dropped), **sides.counts()}
    dropped = add_up(dropped, sides.dropped.counts())
    if test is not None:
        dropped = add_up(dropped, test.left_out)
    if test is not None and read_test:
        counts |= {"test": len(test), **_as_dropped(test.left_out, of="test_")}
        splits["test"] = test
    used = {name: len(side) for name, side in splits.items()}
    if test is not None:
        used["test"] = len(test)
    read = count_rows(whole) + count_rows(test)
    if len(unlabelled):
        read += count_rows(unlabelled)
        dropped = add_up(dropped, unlabelled.left_out, {KNOWN_UNLABELLED: 0})
        for other in reversed(splits.values()):
            unlabelled, known = exclude(unlabelled, other)
            dropped[KNOWN_UNLABELLED] += known
        counts["dropped_unlabelled"] = dropped[KNOWN_UNLABELLED]
        counts["unlabelled"] = used["unlabelled"] = len(unlabelled)
    return Dataset(
        train=sides.train,
        unlabelled=unlabelled,
        validation=sides.validation,
        test=test if read_test else None,
        card=DataCard(
            name=whole.name,
            fingerprint=fingerprint(whole),
            counts=counts,
            splits={name: fingerprint(side) for name, side in splits.items()},
        ),
        rows=Rows(read, used, dropped),
    )


def _leave_out_test(corpus: Corpus, test: Corpus) -> tuple[Corpus, int]:
    """Remove the test texts from the training texts; return the rest, and how many they were.

    Raises:
        DataError: A test text has a label that training lacks, or no training text is left.
    """
    if unknown := sorted(set(test.labels) - set(corpus.labels)):
        raise DataError(
            f"test texts must carry labels of the training texts, {name_labels(corpus.labels)}. "
            f"Received: {name_labels(unknown)}"
        )
    rest, in_test = exclude(corpus, test)
    if not len(rest):
        raise nothing_left(corpus.name, len(corpus), {IN_TEST: in_test}, "to learn from")
    return rest, in_test


def _as_dropped(left_out: Mapping[str, int], of: str = "") -> dict[str, int]:
    """Counts of rows that were left out, under their names in a data card."""
    return {f"dropped_{of}{reason}": count for reason, count in left_out.items()}


def _absolute(path: str) -> str:
    return path if Path(path) == STANDARD_INPUT else str(Path(path).absolute())
