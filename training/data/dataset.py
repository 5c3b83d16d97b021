"""The data of one training: read, cleaned, split, with what was left out counted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from app.artifact import DataCard
from app.errors import DataError, InvalidInput
from training.data.corpus import Corpus
from training.data.formats import SplitName
from training.data.readers import Format, list_splits, read
from training.data.split import exclude, fingerprint, hold_out, split


@dataclass(frozen=True, slots=True)
class Source:
    """Where labelled texts come from; kept with a run, so that exporting can read them again.

    Attributes:
        path: A folder or file that `training.data.readers.read` knows.
        test_path: Test texts, where they are no part of `path`.
        test_share: Part of the texts of a file that is held out for test, where there is no other
            test; 0 for none. Which texts these are depends on them alone.
        format: The format of both.
        text_column: For CSV, as the three below.
        label_column: See `training.data.readers.read`.
        group_column: See `training.data.readers.read`.
        delimiter: See `training.data.readers.read`.
        labels: See `training.data.readers.read`.
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

    def __post_init__(self) -> None:
        """Refuse two tests.

        Raises:
            InvalidInput: `test_share` is none, or stands beside test texts.
        """
        if not 0 <= self.test_share < 1:
            raise InvalidInput(
                f"the test share must be from 0 up to, not with, 1. Received: {self.test_share}"
            )
        if self.test_share and (self.test_path is not None or Path(self.path).is_dir()):
            raise InvalidInput(
                "a test share must be of one file, without a test of its own. "
                f"Received: {self.test_share} of {self.path}"
            )

    def read(self, split: SplitName) -> Corpus:
        """One split; `test` from its own path where there is one, or held out of the file.

        Raises:
            DataError: See `training.data.readers.read`.
        """
        if self.test_share and split != "unlabelled":
            whole = replace(self, test_share=0.0).read("train")
            rest, test = hold_out(whole, share=self.test_share)
            name = f"{whole.name.removesuffix('train')}test"
            return rest if split == "train" else replace(test, name=name)
        apart = split == "test" and self.test_path is not None
        path = Path(self.test_path if apart and self.test_path else self.path)
        if apart and path.is_file():
            split = "train"  # a file has one split only
        return read(
            path,
            split=split,
            format=self.format,
            text_column=self.text_column,
            label_column=self.label_column,
            group_column=self.group_column,
            delimiter=self.delimiter,
            labels=self.labels,
        )

    def read_unlabelled(self) -> Corpus | None:
        """Texts without labels, where there are any."""
        there = "unlabelled" in list_splits(Path(self.path)) and Path(self.path).is_dir()
        return self.read("unlabelled") if there else None

    def has_test(self) -> bool:
        """Whether there are test texts."""
        if self.test_path is not None or self.test_share:
            return True
        return "test" in list_splits(Path(self.path))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Splits without a text in common.

    Attributes:
        train: To learn from.
        unlabelled: To learn words from; empty unless asked for.
        validation: For every choice.
        test: For the last figure, as they stand in the source, duplicates too, so that the figure
            compares with published ones; of a share held out each text once. None when there are
            none.
        card: For the manifest.
    """

    train: Corpus
    unlabelled: Corpus
    validation: Corpus
    test: Corpus | None
    card: DataCard


def load_dataset(
    source: Source,
    *,
    validation_share: float,
    seed: int,
    unlabelled: bool = False,
    read_test: bool = True,
) -> Dataset:
    """Read and split; the same arguments give the same splits.

    Texts of the test split are taken out of all that is learned from; without `read_test` they are
    not even read, and the few that also stand among the training texts stay there.

    Raises:
        DataError: A file is wrong, or train and test carry different labels.
    """
    corpus = source.read("train")
    print_of_all = fingerprint(corpus)
    if len(corpus.labels) < 2:
        raise DataError(
            f"{corpus.name}: there must be at least two labels. Received: only {corpus.labels[0]!r}"
        )
    test = source.read("test") if read_test and source.has_test() else None
    counts = {"rows": len(corpus)}
    if test is not None:
        if unknown := set(test.labels) - set(corpus.labels):
            raise DataError(
                f"test texts must carry labels of the training texts, {', '.join(corpus.labels)}. "
                f"Received: {', '.join(sorted(unknown))}"
            )
        corpus, counts["dropped_because_in_test"] = exclude(corpus, test)
        counts["test"] = len(test)
    sides = split(corpus, validation_share=validation_share, seed=seed)
    counts |= sides.counts()
    splits = {"train": sides.train, "validation": sides.validation}
    if test is not None:
        splits["test"] = test
    wordy = (source.read_unlabelled() if unlabelled else None) or Corpus("none", (), ())
    if len(wordy):
        counts["dropped_unlabelled"] = 0
        for other in (test, sides.validation, sides.train):
            if other is not None:
                wordy, dropped = exclude(wordy, other)
                counts["dropped_unlabelled"] += dropped
        counts["unlabelled"] = len(wordy)
    return Dataset(
        train=sides.train,
        unlabelled=wordy,
        validation=sides.validation,
        test=test,
        card=DataCard(
            name=corpus.name,
            fingerprint=print_of_all,
            counts=counts,
            splits={name: fingerprint(side) for name, side in splits.items()},
        ),
    )
