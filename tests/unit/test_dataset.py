"""The splits of a training have no text in common, and say what was left out."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.errors import DataError, InvalidInput
from tests.corpus import make_corpus, write, write_csv, write_tsv_folder
from tests.deferred import deferred
from training.data.corpus import text_key

with deferred():
    from training.data.dataset import Source, load_dataset
    from training.data.split import fingerprint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set whose test and unlabelled texts repeat texts of the other splits."""
    folder = write_tsv_folder(tmp_path / "data", train=100, test=20)
    train, test = ((folder / f"{n}.tsv").read_text().split("\n") for n in ("train", "test"))
    write(folder / "train.tsv", "\n".join([*train[:-1], test[1], test[2], ""]))
    wordy = [line.split("\t") for line in (train[1], test[3], train[2])]
    rows = ["id\treview", *(f"{i}_0\t{cells[2]}" for i, cells in enumerate(wordy)), "9_0\tnew one"]
    write(folder / "unlabeled.tsv", "\n".join([*rows, ""]))
    return folder


def test_no_text_on_two_sides(folder: Path) -> None:
    """Test texts are taken out of training, and known texts out of the unlabelled ones."""
    data = load_dataset(Source(str(folder)), validation_share=0.2, seed=1, unlabelled=True)
    assert data.test is not None
    sides = [data.train, data.validation, data.test, data.unlabelled]
    keys = [text_key(text) for side in sides for text in side.texts()]
    assert len(keys) == len(set(keys))
    assert data.card.counts["dropped_because_in_test"] == 2
    assert data.card.counts["dropped_unlabelled"] == 3
    assert data.unlabelled.texts() == ["new one"]


def test_unlabelled_texts_only_when_asked_for(folder: Path) -> None:
    """Texts that a recipe does not use are not read."""
    data = load_dataset(Source(str(folder)), validation_share=0.2, seed=1)
    assert not len(data.unlabelled)
    assert "unlabelled" not in data.card.counts


def test_one_file_has_no_test(tmp_path: Path) -> None:
    """A single file gives two splits; test texts may come from a file of their own."""
    path = write_csv(tmp_path / "mine.csv", make_corpus(60, seed=1))
    source = Source(str(path))
    assert load_dataset(source, validation_share=0.2, seed=1).test is None
    other = write_csv(tmp_path / "test.csv", make_corpus(10, seed=2))
    data = load_dataset(replace(source, test_path=str(other)), validation_share=0.2, seed=1)
    assert data.test is not None
    assert len(data.test) == 10


def test_a_share_of_one_file(tmp_path: Path) -> None:
    """A share of one file is held out for test, the same for every seed; no group is parted."""
    rows = "".join(
        f"{label},RT @u{copy}: this is tweet {n} of the {label} ones,{n}\n"
        for n in range(40)
        for label in ("Negative", "Positive")
        for copy in range(2)
    )
    path = write(tmp_path / "Sentiment.csv", f"sentiment,text,tweet_id\n{rows}")
    source = Source(str(path), test_share=0.25)
    one, other = (load_dataset(source, validation_share=0.2, seed=seed) for seed in (1, 2))
    assert one.test is not None
    assert one.card.splits["test"] == other.card.splits["test"]
    assert one.card.splits["validation"] != other.card.splits["validation"]
    sides = [
        {item.group for item in side.examples} for side in (one.train, one.validation, one.test)
    ]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 80
    assert fingerprint(source.read("test")) == one.card.splits["test"]


@pytest.mark.parametrize("test", [{"test_share": 1.0}, {"test_share": 0.1, "test_path": "other"}])
def test_a_share_that_is_none(test: dict[str, Any]) -> None:
    """A share is below 1, and stands beside no other test."""
    with pytest.raises(InvalidInput, match=r"test share must.*Received: "):
        Source("mine.csv", **test)


def test_one_label_is_none(tmp_path: Path) -> None:
    """There is nothing to learn from texts of one label."""
    path = write(tmp_path / "x.csv", "text,label\ngood,positive\nfine,positive\n")
    with pytest.raises(DataError, match=r"at least two labels\. Received: only 'positive'"):
        load_dataset(Source(str(path)), validation_share=0.5, seed=1)


def test_the_folder_an_archive_was_unpacked_into(tmp_path: Path) -> None:
    """The folder that `fetch` was told is as good as the tree inside it."""
    for split, label in itertools.product(("train", "test"), ("pos", "neg")):
        for n in range(3):
            write(tmp_path / "aclImdb" / split / label / f"{n}_1.txt", f"{split} {label} {n}")
    data = load_dataset(Source(str(tmp_path)), validation_share=0.3, seed=1)
    assert data.test is not None
    assert data.card.name == "aclImdb train"


def test_labels_of_the_test_texts(tmp_path: Path) -> None:
    """Test texts with a label that training has not are an error that names it."""
    path = write_csv(tmp_path / "mine.csv", make_corpus(60, seed=1))
    three = make_corpus(9, seed=2, labels=("negative", "neutral", "positive"))
    other = write_csv(tmp_path / "test.csv", three)
    with pytest.raises(DataError, match="Received: neutral"):
        load_dataset(Source(str(path), test_path=str(other)), validation_share=0.2, seed=1)
