"""Word vectors from a text file, as GloVe, word2vec and fastText write them: a word a line.

A line holds the word and its numbers, with spaces between; some files begin with a line of two
numbers, how many words follow and how wide their vectors are. A name that ends in `.gz` is read
through gzip.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, cast

import numpy as np
from numpy.typing import NDArray

from app.errors import DataError
from app.text.padding import Int32Array
from app.text.vocabulary import FIRST_WORD, Vocabulary
from training.support.arrays import Float32Array


@dataclass(frozen=True, slots=True)
class VectorsFound:
    """The vectors that a file has for the words of a vocabulary.

    Attributes:
        vectors: float32 of shape (ids, width), 0 where there is none.
        found: bool of shape (ids,).
    """

    vectors: Float32Array
    found: NDArray[np.bool_]

    def over(self, others: Float32Array) -> Float32Array:
        """These vectors where there are any, else `others`, of the same shape."""
        return np.where(self.found[:, np.newaxis], self.vectors, others)

    def coverage(self, rows: Sequence[Int32Array]) -> dict[str, float]:
        """Which share of the `vocabulary`, and of all `tokens` of some texts, has a vector.

        Args:
            rows: The ids of each text, `BEGIN` first.
        """
        tokens = np.concatenate([row[1:] for row in rows])
        return {
            "vocabulary": float(self.found[FIRST_WORD:].mean()),
            "tokens": float(self.found[tokens].mean()),
        }


def read_vectors(path: Path, vocabulary: Vocabulary, *, width: int) -> VectorsFound:
    """Read the vectors of the words of a vocabulary; other lines are passed over.

    A word that the file has only with capitals gets the first of those.

    Args:
        path: The file, UTF-8.
        vocabulary: Whose words to look for.
        width: Of a vector.

    Raises:
        DataError: The file cannot be read, a line is no word with `width` numbers, or no word of
            the vocabulary is in it. The message names the file and the line.
    """
    vectors = np.zeros((len(vocabulary), width), np.float32)
    found, exactly = (np.zeros(len(vocabulary), np.bool_) for _ in range(2))
    for line, word, numbers in _entries(path, width):
        exact, lower = vocabulary.ids([word, word.lower()])
        index = exact if exact >= FIRST_WORD else lower
        if index < FIRST_WORD or exactly[index] or (found[index] and index != exact):
            continue
        vectors[index] = _parse(path, line, numbers)
        found[index] = True
        exactly[index] = index == exact
    if not found.any():
        raise DataError(f"{path}: word vectors must be of the texts' words. Received: none of them")
    return VectorsFound(vectors, found)


def _entries(path: Path, width: int) -> Iterator[tuple[int, str, list[str]]]:
    """The number of each line, from 1, its word and its numbers, unread."""
    try:
        with _open(path) as file:
            for line, text in enumerate(file, start=1):
                text = text.rstrip(" \r\n")
                # From the end: a few words of GloVe's largest file have spaces in them.
                word, *numbers = text.rsplit(" ", width)
                if line == 1:
                    if re.fullmatch("[0-9]+ [0-9]+", text):
                        continue
                    numbers = text.split(" ")[1:]  # the whole file may be of another width
                if len(numbers) != width:
                    raise DataError(
                        f"{path}, line {line}: a line must be a word and {width} numbers, the "
                        f"recipe's embedding. Received: {len(numbers)}"
                    )
                yield line, word, numbers
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: word vectors cannot be read: {error}") from error


def _open(path: Path) -> TextIO:
    # Words hold control characters that other programs take for the end of a line.
    opened = gzip.open if path.suffix == ".gz" else open
    return cast(TextIO, opened(path, "rt", encoding="utf-8", errors="replace", newline="\n"))


def _parse(path: Path, line: int, numbers: Sequence[str]) -> Float32Array:
    try:
        vector = np.array(numbers, np.float32)
    except ValueError as error:
        raise DataError(f"{path}, line {line}: not all are numbers: {error}") from error
    if not np.isfinite(vector).all():
        raise DataError(f"{path}, line {line}: numbers must be finite")
    return vector
