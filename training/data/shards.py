"""Shards: the encoded rows of one split on disk, written once and memory-mapped.

Four files of little-endian numbers, each written from front to end:

| file          | holds                                                        |
|---------------|--------------------------------------------------------------|
| `ids.i32`     | the ids of all rows, one row after another                   |
| `ends.i64`    | for each row, where it ends in `ids.i32`                     |
| `targets.f32` | for each row, the probability of every class, summing to 1   |
| `weights.f32` | for each row, how much its loss counts                       |

A hard label is the probability 1 of one class, so labels and a teacher's answers are learned from
in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidInput
from app.text.encoder import TextEncoder
from app.text.padding import Int32Array
from training.data.corpus import Corpus, Stream
from training.support.arrays import Float32Array

_IDS: Final = ("ids.i32", "<i4")


_ENDS: Final = ("ends.i64", "<i8")


_TARGETS: Final = ("targets.f32", "<f4")


_WEIGHTS: Final = ("weights.f32", "<f4")


@dataclass(frozen=True, slots=True)
class Lesson:
    """One text and what a model is to say of it.

    Attributes:
        text: As it stands in its source.
        target: The probability of every class, float32 (classes,), summing to 1.
        weight: How much its loss counts; 0 for not at all.
    """

    text: str
    target: Float32Array
    weight: float = 1.0


def lessons_of(corpus: Corpus, weights: Mapping[int, float] | None = None) -> Stream[Lesson]:
    """The examples of a labelled corpus, each with its label for certain.

    Args:
        corpus: Labelled texts.
        weights: Of each class, by its place in `corpus.labels`; by default 1.
    """
    certain = np.eye(len(corpus.labels), dtype=np.float32)
    known = {
        label: (certain[index], weights[index] if weights else 1.0)
        for index, label in enumerate(corpus.labels)
    }
    return Stream(
        lambda: (Lesson(item.text, *known[item.label]) for item in corpus.examples), len(corpus)
    )


def write_shard(
    folder: Path, encoder: TextEncoder, lessons: Iterable[Lesson], *, classes: int
) -> None:
    """Encode every lesson, once, into a new folder; one of them is in memory at a time.

    Raises:
        InvalidInput: A target is no distribution over `classes`, or a weight is below 0.
    """
    folder.mkdir()
    with ExitStack() as stack:
        ids, ends, targets, weights = (
            stack.enter_context((folder / name).open("wb"))
            for name, _ in (_IDS, _ENDS, _TARGETS, _WEIGHTS)
        )
        end = 0
        for number, lesson in enumerate(lessons):
            _check(lesson, number, classes)
            row = encoder.encode(lesson.text).ids
            end += len(row)
            ids.write(row.astype(_IDS[1]).tobytes())
            ends.write(np.array(end, _ENDS[1]).tobytes())
            targets.write(lesson.target.astype(_TARGETS[1]).tobytes())
            weights.write(np.array(lesson.weight, _WEIGHTS[1]).tobytes())
        if not end:
            raise InvalidInput("there must be texts to learn from. Received: none")


def _check(lesson: Lesson, number: int, classes: int) -> None:
    target = lesson.target
    if target.shape != (classes,) or not (target >= 0).all() or abs(target.sum() - 1) > 1e-3:
        raise InvalidInput(
            f"lesson {number}: the target must be {classes} probabilities that sum to 1. "
            f"Received: {target.tolist()}"
        )
    if not 0 <= lesson.weight < float("inf"):
        raise InvalidInput(
            f"lesson {number}: the weight must be a finite number from 0. Received: {lesson.weight}"
        )


class Shard(Sequence[Int32Array]):
    """The rows of a folder that `write_shard` made; `shard[i]` is the ids of row i.

    Of the rows, 4 bytes each are in memory; the rest is read from its pages as it is used.

    Attributes:
        lengths: Ids of each row, int32 (rows,).
        targets: float32 (rows, classes), memory-mapped.
        weights: float32 (rows,), memory-mapped.
    """

    def __init__(self, folder: Path) -> None:
        def opened(file: tuple[str, str]) -> NDArray[Any]:
            return np.memmap(folder / file[0], file[1], mode="r")

        self._ids, self._ends = opened(_IDS), opened(_ENDS)
        self.lengths: Int32Array = np.diff(self._ends, prepend=0).astype(np.int32)
        self.targets: Float32Array = opened(_TARGETS).reshape(len(self), -1)
        self.weights: Float32Array = opened(_WEIGHTS)

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[Int32Array]:
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, row: int) -> Int32Array: ...
    @overload
    def __getitem__(self, row: slice) -> list[Int32Array]: ...
    def __getitem__(self, row: int | slice) -> Int32Array | list[Int32Array]:
        if isinstance(row, slice):
            return [self[i] for i in range(len(self))[row]]
        row = range(len(self))[row]
        end = int(self._ends[row])
        ids: Int32Array = self._ids[end - int(self.lengths[row]) : end]
        return ids


class Rows(Sequence[Int32Array]):
    """Rows in memory, with what a shard has: no folder, no weights.

    Attributes:
        lengths: Ids of each row, int32 (rows,).
        targets: float32 (rows, classes).
        weights: float32 (rows,), all 1.
    """

    def __init__(self, rows: Sequence[Int32Array], targets: NDArray[Any]) -> None:
        self._rows = rows
        self.lengths: Int32Array = np.array([len(row) for row in rows], np.int32)
        self.targets: Float32Array = np.asarray(targets, np.float32)
        self.weights: Float32Array = np.ones(len(rows), np.float32)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, row: int) -> Int32Array: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Int32Array]: ...
    def __getitem__(self, row: int | slice) -> Int32Array | Sequence[Int32Array]:
        return self._rows[row]
