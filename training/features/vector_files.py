"""Read word vectors from a text file in the format of GloVe, word2vec and fastText.

Each line holds a word and its numbers, separated by spaces. Some files begin with a header of two
numbers: how many words follow, and the size of their vectors. A file whose name ends in `.gz` is
decompressed.
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
class FileVectors:
    """The vectors that a file has for the words of a vocabulary.

    Attributes:
        vectors: float32 (vocabulary, dim), 0 for words that the file does not have.
        found: bool (vocabulary,), whether the file has the word.
    """

    vectors: Float32Array
    found: NDArray[np.bool_]

    def over(self, others: Float32Array) -> Float32Array:
        """The vectors that were found, and `others`, of the same shape, for all other words."""
        return np.where(self.found[:, np.newaxis], self.vectors, others)

    def coverage(self, rows: Sequence[Int32Array]) -> dict[str, float]:
        """The share of the `vocabulary` and of the `tokens` of some texts that has a vector.

        Args:
            rows: The ids of each text, `BEGIN` first.
        """
        tokens = np.concatenate([row[1:] for row in rows])
        return {
            "vocabulary": float(self.found[FIRST_WORD:].mean()),
            "tokens": float(self.found[tokens].mean()),
        }


def read_vectors(path: Path, vocabulary: Vocabulary, *, dim: int) -> FileVectors:
    """Read the vectors of the words of a vocabulary; other words are skipped.

    A word that the file has only with capital letters gets the vector of the first such spelling.

    Args:
        path: The file, in UTF-8.
        vocabulary: The words to look for.
        dim: Size of a vector.

    Raises:
        DataError: The file cannot be read, a line is not a word and `dim` numbers, or the file has
            no word of the vocabulary. The message names the file and the line.
    """
    vectors = np.zeros((len(vocabulary), dim), np.float32)
    found, exact_found = (np.zeros(len(vocabulary), np.bool_) for _ in range(2))
    for line, word, numbers in _entries(path, dim):
        exact, lower = vocabulary.ids([word, word.lower()])
        index = exact if exact >= FIRST_WORD else lower
        if index < FIRST_WORD or exact_found[index] or (found[index] and index != exact):
            continue
        vectors[index] = _parse(path, line, numbers)
        found[index] = True
        exact_found[index] = index == exact
    if not found.any():
        raise DataError(
            f"{path}: the file must have vectors for words of the training texts. Received: none"
        )
    return FileVectors(vectors, found)


def _entries(path: Path, dim: int) -> Iterator[tuple[int, str, list[str]]]:
    """The number of each line, counted from 1, its word and its numbers as text."""
    try:
        with _open(path) as file:
            for line, text in enumerate(file, start=1):
                text = text.rstrip(" \r\n")
                # Split from the end: a few words of GloVe's largest file contain spaces.
                word, *numbers = text.rsplit(" ", dim)
                if line == 1:
                    if re.fullmatch("[0-9]+ [0-9]+", text):
                        continue
                    numbers = text.split(" ")[1:]  # vectors may have another size
                if len(numbers) != dim:
                    raise DataError(
                        f"{path}, line {line}: a line must be a word and {dim} numbers, the "
                        f"recipe's embedding. Received: {len(numbers)}"
                    )
                yield line, word, numbers
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot read word vectors: {reason}") from error


def _open(path: Path) -> TextIO:
    # Only "\n" ends a line: some words contain characters that Python takes for a line break.
    opened = gzip.open if path.suffix == ".gz" else open
    return cast(TextIO, opened(path, "rt", encoding="utf-8", errors="replace", newline="\n"))


def _parse(path: Path, line: int, numbers: Sequence[str]) -> Float32Array:
    try:
        vector = np.array(numbers, np.float32)
    except ValueError as error:
        raise DataError(
            f"{path}, line {line}: all values must be numbers. Received: another value"
        ) from error
    if not np.isfinite(vector).all():
        raise DataError(f"{path}, line {line}: all values must be finite")
    return vector
