"""Word vectors are read from GloVe, word2vec and fastText files."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from app.errors import DataError
from app.text.vocabulary import BEGIN, FIRST_WORD, UNKNOWN, Vocabulary
from tests.corpus import write
from training.features.vector_files import read_vectors

WORDS = Vocabulary(["good", "bad", "film", "Ohio"])
GOOD, BAD, FILM, OHIO = range(FIRST_WORD, FIRST_WORD + 4)


@pytest.mark.parametrize(
    "text",
    [
        "good 1 2\nbad -3 4e-1\n",
        "2 2\ngood 1 2 \nbad -3 0.4 \n",
        "good 1 2\nbad -3 .4\n. . . 5 6\nna\u0085me 7 8",
    ],
    ids=["GloVe", "word2vec and fastText", "words with spaces and other line breaks"],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_formats(tmp_path: Path, text: str, compressed: bool) -> None:
    """A header, trailing spaces and compression make no difference."""
    path = write(tmp_path / "vectors.txt", text)
    if compressed:
        path = tmp_path / "vectors.vec.gz"
        path.write_bytes(gzip.compress(text.encode()))
    found = read_vectors(path, WORDS, dim=2)
    np.testing.assert_allclose(found.vectors[[GOOD, BAD]], [[1, 2], [-3, 0.4]], rtol=1e-6)
    assert found.found.nonzero()[0].tolist() == [GOOD, BAD]


def test_capitals(tmp_path: Path) -> None:
    """A word with capitals stands in for the lower-case word, unless the file has that too."""
    text = "Good 1 1\nGOOD 2 2\ngood 3 3\ngood 4 4\nOhio 5 5\nohio 6 6\nBad 7 7\nBAD 8 8\n"
    found = read_vectors(write(tmp_path / "v", text), WORDS, dim=2)
    assert found.vectors[[GOOD, OHIO, BAD], 0].tolist() == [3, 5, 7]


def test_over(tmp_path: Path) -> None:
    """A word that the file does not have keeps its initial vector."""
    found = read_vectors(write(tmp_path / "v", "good 1 2\n"), WORDS, dim=2)
    others = np.full((len(WORDS), 2), 9, np.float32)
    mixed = found.over(others)
    assert mixed[[GOOD, BAD]].tolist() == [[1, 2], [9, 9]]
    assert mixed.dtype == np.float32


def test_coverage(tmp_path: Path) -> None:
    """Coverage is the share of words and of tokens; unknown tokens count as not found."""
    found = read_vectors(write(tmp_path / "v", "good 1 2\n"), WORDS, dim=2)
    rows = [np.array([BEGIN, GOOD, GOOD, UNKNOWN]), np.array([BEGIN, BAD, GOOD])]
    assert found.coverage([row.astype(np.int32) for row in rows]) == {
        "vocabulary": 1 / 4,
        "tokens": 3 / 5,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("good 1 2 3\n", "line 1: a line must be a word and 2 numbers.* Received: 3"),
        ("1 3\ngood 1 2\nbad 3\n", "line 3: .* Received: 1"),
        ("good 1 2\nbad 3 x\n", "line 2: all values must be numbers"),
        ("good 1 2\nbad 3 nan\n", "line 2: all values must be finite"),
        ("other 1 2\n", "must have vectors for words of the training texts"),
        ("", "must have vectors for words of the training texts"),
    ],
)
def test_faults(tmp_path: Path, text: str, message: str) -> None:
    """An error names the file, the line and the rule."""
    path = write(tmp_path / "v.txt", text)
    with pytest.raises(DataError, match=rf"v\.txt.*{message}"):
        read_vectors(path, WORDS, dim=2)


def test_unreadable_files(tmp_path: Path) -> None:
    """A missing file, and a `.gz` file that is not compressed, are named in the error."""
    with pytest.raises(DataError, match=r"none\.txt: cannot read word vectors"):
        read_vectors(tmp_path / "none.txt", WORDS, dim=2)
    with pytest.raises(DataError, match=r"v\.gz: cannot read word vectors"):
        read_vectors(write(tmp_path / "v.gz", "good 1 2\n"), WORDS, dim=2)
