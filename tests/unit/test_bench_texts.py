import gzip
import json
from pathlib import Path

import pytest

from load_tests.bench.checks import check_many, check_one
from load_tests.bench.errors import WrongCall
from load_tests.bench.texts import (
    MIN_TEXTS,
    groups,
    make_texts,
    many_bodies,
    read_texts,
    single_bodies,
)

TEXTS = [f"review number {number}" for number in range(MIN_TEXTS + 10)]


def test_made_texts() -> None:
    """Generated texts are distinct, and the same for the same seed."""
    texts = make_texts(300, seed=3)
    assert len(set(texts)) == 300
    assert texts == make_texts(300, seed=3)
    assert texts != make_texts(300, seed=4)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("tsv", [True, False])
def test_read(tmp_path: Path, compress: type[bytes], tsv: bool) -> None:
    """Plain and TSV files are read, compressed or not; blank texts and duplicates are dropped."""
    lines = [f"{number}\t1\t{text}" if tsv else text for number, text in enumerate(TEXTS)]
    head = ["id\tsentiment\treview"] if tsv else []
    double = [lines[0]]
    path = tmp_path / "texts"
    path.write_bytes(compress("\n".join([*head, *lines, *double, "", ""]).encode()))
    assert read_texts(path, count=10_000, seed=1) == TEXTS


def test_read_chooses(tmp_path: Path) -> None:
    """A sample of a long file is chosen, the same one for the same seed."""
    path = tmp_path / "texts"
    path.write_text("\n".join(TEXTS))
    chosen = read_texts(path, count=20, seed=1)
    assert len(set(chosen) & set(TEXTS)) == 20
    assert chosen == read_texts(path, count=20, seed=1)


@pytest.mark.parametrize("content", [b"", b"too few\nof them", b"\xff\xfe", b"\x1f\x8b broken"])
def test_read_rejects(tmp_path: Path, content: bytes) -> None:
    """An unreadable or too short file is a wrong call; the message contains no text of it."""
    path = tmp_path / "texts"
    path.write_bytes(content)
    with pytest.raises(WrongCall, match="texts") as caught:
        read_texts(path, count=20, seed=1)
    assert "too few" not in str(caught.value)


def test_read_missing_file(tmp_path: Path) -> None:
    """A missing file is a wrong call."""
    with pytest.raises(WrongCall, match="FileNotFoundError"):
        read_texts(tmp_path / "texts", count=20, seed=1)


def test_bodies() -> None:
    """Each body is one line of JSON; groups of texts are complete and in order."""
    singles = single_bodies(["a\nb", "c"], "bow")
    assert [json.loads(body) for body in singles] == [
        {"text": "a\nb", "model": "bow"},
        {"text": "c", "model": "bow"},
    ]
    assert b"\n" not in singles[0]
    assert [json.loads(body)["texts"] for body in many_bodies("abcde", 2, "bow")] == [
        ["a", "b"],
        ["c", "d"],
    ]
    assert groups([1, 2, 3], 2) == [[1, 2]]


# --- answers ---

EXPECTED = {"negative": 0.25, "positive": 0.75}


def prediction(positive: float = 0.75, **changes: object) -> dict[str, object]:
    probabilities = {"negative": 1 - positive, "positive": positive}
    label = "positive" if positive >= 0.5 else "negative"
    return {"label": label, "probabilities": probabilities, "tokens": 3} | changes


def test_a_correct_answer() -> None:
    """The in-process probabilities are correct, within rounding."""
    assert check_one(json.dumps(prediction(0.750001)).encode(), EXPECTED) is None


@pytest.mark.parametrize(
    "answer",
    [
        b"no JSON",
        b"[]",
        json.dumps(prediction(0.76)).encode(),
        json.dumps(prediction(label="negative")).encode(),
        json.dumps({"error": {"status": 500}}).encode(),
    ],
)
def test_wrong_answers(answer: bytes) -> None:
    """A different probability, a different label and an error are wrong answers."""
    assert check_one(answer, EXPECTED)


def test_many_answers() -> None:
    """Each of several texts must have its own prediction, in order."""
    other = {"negative": 0.5, "positive": 0.5}
    body = json.dumps({"predictions": [prediction(), prediction(0.5)]}).encode()
    assert check_many(body, [EXPECTED, other]) is None
    assert check_many(body, [other, EXPECTED])
    assert check_many(body, [EXPECTED])
    assert check_many(b"{}", [EXPECTED])
