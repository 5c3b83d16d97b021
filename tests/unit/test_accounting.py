"""Every row that a command reads is in one split or dropped for one reason."""

from pathlib import Path
from typing import Any

import pytest

from app.artifact import read_manifest
from app.errors import DataError
from tests.corpus import make_corpus, real_data, write, write_csv, write_tsv_folder
from tests.deferred import deferred
from tests.server import ROOT

with deferred():
    from training.configs import load_config
    from training.data.accounting import Rows, name_labels, print_rows
    from training.data.dataset import Dataset, Source, load_dataset


def texts(*rows: tuple[str, str, int]) -> str:
    """A CSV file with each text as often as its number says."""
    lines = [f"{text},{label}" for text, label, times in rows for _ in range(times)]
    return "\n".join(["text,label", *lines, ""])


PLAIN = [(f"text {n}", ("negative", "positive")[n % 2], 1) for n in range(100)]
COPIES = [("text 1", "positive", 5), ("text 2", "positive", 1), ("so so", "positive", 9)]
"""Five copies more of one text, one with the other label, and nine of a new one."""


def read(path: Path, **options: Any) -> Dataset:
    return load_dataset(Source(str(path), **options), validation_share=0.2, seed=1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_every_row_of_a_file_is_counted(tmp_path: Path, share: float) -> None:
    """Copies and conflicts are counted on every side, also where a share is held out for test."""
    path = write(tmp_path / "mine.csv", texts(*PLAIN, *COPIES))
    data = read(path, test_share=share)
    assert data.rows.read == 115
    assert sum(data.rows.used.values()) == 100 - 1 + 1
    assert data.rows.dropped["duplicates"] == 5 + 8
    assert data.rows.dropped["conflicting_labels"] == 2
    counts = data.card.counts
    assert sum(count for name, count in counts.items() if name != "rows") == 115


@pytest.mark.parametrize(("split", "others"), [("train", "test"), ("test", "train")])
def test_a_part_accounts_for_its_file(tmp_path: Path, split: Any, others: Any) -> None:
    """A part of one file says how many rows the other part has."""
    source = Source(str(write(tmp_path / "m.csv", texts(*PLAIN, *COPIES))), test_share=0.3)
    part, other = source.read(split), source.read(others)
    for each in (part, other):
        assert len(each) + sum(each.left_out.values()) == 115
    held = {reason: n for reason, n in other.left_out.items() if reason != "other_part"}
    assert part.left_out["other_part"] == len(other) + sum(held.values())


def test_files_of_a_folder_are_added_up(tmp_path: Path) -> None:
    """Training, test and unlabelled files are counted together."""
    folder = write_tsv_folder(tmp_path / "data", train=100, test=20)
    first = (folder / "test.tsv").read_text().split("\n")[1]
    with (folder / "train.tsv").open("a") as file:
        file.write(f"{first}\n")
    write(folder / "unlabeled.tsv", f"id\treview\n1_0\tnew\n2_0\t{first.split(chr(9))[2]}\n")
    data = load_dataset(Source(str(folder)), validation_share=0.2, seed=1, unlabelled=True)
    assert data.rows.read == 101 + 20 + 2
    assert data.rows.used == {"train": 80, "validation": 20, "test": 20, "unlabelled": 1}
    found = {reason: count for reason, count in data.rows.dropped.items() if count}
    assert found == {"because_in_test": 1, "unlabelled": 1}


def test_a_search_counts_the_part_held_out(tmp_path: Path) -> None:
    """A command that reads no test part of a file still says how many rows are held out for it."""
    source = Source(str(write_csv(tmp_path / "m.csv", make_corpus(80, seed=1))), test_share=0.3)
    data = load_dataset(source, validation_share=0.2, seed=1, read_test=False)
    assert (data.test, data.rows.read) == (None, 80)
    assert data.rows.used["test"] == len(source.read("test"))
    assert set(data.card.counts).isdisjoint({"test", "dropped_because_in_test"})


def test_a_row_in_no_number() -> None:
    """Numbers that do not add up are an error, in which both stand."""
    Rows(3, {"train": 2}, {"duplicates": 1})
    with pytest.raises(DataError, match=r"once: 4 were read\. Received: 3 in train, copies"):
        Rows(4, {"train": 2}, {"duplicates": 1})


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for the rows, each split and each reason that occurs; numbers end in one column."""
    used = {"train": 1200, "validation": 100, "test": 0}
    rows = Rows(1302, used, {"duplicates": 2, "conflicting_labels": 0, "bad_row": 0})
    print_rows(rows, {"train": 3, "validation": 0})
    *table, note = capsys.readouterr().err.splitlines()
    assert table == [
        "rows read                                  1,302",
        "  train                                    1,200",
        "  validation                                 100",
        "  test                                         0",
        "  dropped: copies of a text that was kept      2",
    ]
    assert note.startswith("texts without a token, such as dashes alone: 3 of train; ")


CONFLICTS = texts(("same words", "negative", 2), ("same words", "positive", 2))


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (CONFLICTS, {}, "no text is left to learn from. Received: 4 rows, all dropped: 4 copies "),
        (texts(*PLAIN), {"test_path": "m.csv"}, "Received: 100 rows, all dropped: 100 training "),
        (CONFLICTS, {"test_share": 0.5}, "the test share must leave texts on both sides"),
        (
            texts(*PLAIN, ("same words", "negative", 1), ("same words", "positive", 1)),
            {"test_path": "plain.csv"},
            "102 rows, all dropped: 100 training rows whose text is in test, 2 copies of a ",
        ),
    ],
    ids=["conflicts", "test is the data", "conflicts held out", "both"],
)
def test_no_text_is_left(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str,
    options: dict[str, Any],
    words: str,
) -> None:
    """Where every text is dropped, the error has the number of rows for each reason."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "plain.csv", texts(*PLAIN))
    with pytest.raises(DataError) as raised:
        read(write(Path("m.csv"), content), **options)
    assert words in str(raised.value)
    assert "same words" not in str(raised.value)


def test_no_test_text_is_left(tmp_path: Path) -> None:
    """A held-out part in which every text has two labels is an error as well."""
    rows = [(f"text {n}", label, 1) for n in range(40) for label in ("negative", "positive")]
    path = write(tmp_path / "m.csv", texts(*rows))
    with pytest.raises(DataError, match=r"held out: no text is left to test on\. Received: \d+ "):
        read(path, test_share=0.5)


def test_labels_in_messages() -> None:
    """Labels are named, but what may be a text from a wrong column is told by its length."""
    assert name_labels(["positive", "दुख", "1"]) == "positive, दुख, 1"
    assert name_labels(["I hate this", "x" * 30]) == (
        "a label of 11 characters, a label of 30 characters"
    )
    assert name_labels(map(str, range(14))).endswith("10, 11, and 2 more")


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "recipe", "source"),
    [
        ("tweets-lstm/1", "tweets_lstm", {"path": "gop/Sentiment.csv.gz", "test_share": 0.15}),
        ("bow/3", "bow", {"path": "imdb"}),
    ],
)
def test_bundled_versions(version: str, recipe: str, source: dict[str, Any]) -> None:
    """The recipes of bundled versions split their data as they did, with the same counts."""
    config = load_config(recipe)
    path = str(real_data(source["path"]))
    data = load_dataset(
        Source(**{**source, "path": path}),
        validation_share=config.loop.validation_share,
        seed=config.seed,
        unlabelled=config.reads_unlabelled,
    )
    card = read_manifest(ROOT / "models" / version).data
    assert (data.card.fingerprint, data.card.splits) == (card.fingerprint, card.splits)
    assert {name: data.card.counts[name] for name in card.counts} == card.counts
    data.rows.check()
