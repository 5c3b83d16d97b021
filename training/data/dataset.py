"""The data set of one training: read, de-duplicated and split, with counts of dropped rows."""

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
    """The location of labelled texts; stored with a run, so that `export` can read them again.

    Attributes:
        path: A folder or file that `training.data.readers.read` can read.
        test_path: The test texts, if they are not part of `path`.
        test_share: Share of a file's texts to hold out as the test split; 0 for none. The choice
            depends on the texts alone.
        format: The format of both paths.
        text_column: See `training.data.readers.read`.
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
        """Validate `test_share`.

        Raises:
            InvalidInput: `test_share` is out of range, or another test split exists.
        """
        if not 0 <= self.test_share < 1:
            raise InvalidInput(
                f"the test share must be at least 0 and below 1. Received: {self.test_share}"
            )
        if self.test_share and (self.test_path is not None or Path(self.path).is_dir()):
            raise InvalidInput(
                "the test share must belong to a single file without another test split. "
                f"Received: {self.test_share} of {self.path}"
            )

    def read(self, split: SplitName) -> Corpus:
        """Read one split; `test` comes from `test_path`, or is held out from the file.

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
    """Read and split a data set; equal arguments give equal splits.

    Texts of the test split are removed from all other splits. Without `read_test` the test split is
    not read, and the few of its texts that also occur in training stay there.

    Raises:
        DataError: A file is invalid, or the test split has labels that training lacks.
    """
    corpus = source.read("train")
    fingerprint_of_all = fingerprint(corpus)
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
    unlabelled_corpus = (source.read_unlabelled() if unlabelled else None) or Corpus("none", (), ())
    if len(unlabelled_corpus):
        counts["dropped_unlabelled"] = 0
        for other in (test, sides.validation, sides.train):
            if other is not None:
                unlabelled_corpus, dropped = exclude(unlabelled_corpus, other)
                counts["dropped_unlabelled"] += dropped
        counts["unlabelled"] = len(unlabelled_corpus)
    return Dataset(
        train=sides.train,
        unlabelled=unlabelled_corpus,
        validation=sides.validation,
        test=test,
        card=DataCard(
            name=corpus.name,
            fingerprint=fingerprint_of_all,
            counts=counts,
            splits={name: fingerprint(side) for name, side in splits.items()},
        ),
    )
