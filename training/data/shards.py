"""Shards: encoded training examples on disk, written once and memory-mapped.

A shard is a folder of four little-endian files:

| file          | contents                                                     |
|---------------|--------------------------------------------------------------|
| `ids.i32`     | the token ids of all rows, concatenated                      |
| `ends.i64`    | the position in `ids.i32` where each row ends                |
| `targets.f32` | the class probabilities of each row, which sum to 1          |
| `weights.f32` | the sample weight of each row                                |

A hard label is a probability of 1 for one class, so models learn from hard labels and from soft
labels in the same way.
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
from training.data.corpus import Corpus, LazySequence
from training.support.arrays import Float32Array

_IDS: Final = ("ids.i32", "<i4")
_ENDS: Final = ("ends.i64", "<i8")
_TARGETS: Final = ("targets.f32", "<f4")
_WEIGHTS: Final = ("weights.f32", "<f4")


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A text with its target.

    Attributes:
        text: As in its source.
        target: Class probabilities, float32 (classes,): a hard or a soft label.
        weight: The sample weight, by which the loss is multiplied; 0 or more.
    """

    text: str
    target: Float32Array
    weight: float = 1.0


def training_examples(
    corpus: Corpus, class_weights: Mapping[int, float] | None = None
) -> LazySequence[TrainingExample]:
    """Return the labelled texts of a corpus as training examples with hard labels.

    Args:
        corpus: Labelled texts.
        class_weights: The sample weight of each class, by its index in `corpus.labels`; 1 by
            default.
    """
    one_hot = np.eye(len(corpus.labels), dtype=np.float32)
    by_label = {
        label: (one_hot[index], class_weights[index] if class_weights else 1.0)
        for index, label in enumerate(corpus.labels)
    }
    return LazySequence(
        lambda: (TrainingExample(item.text, *by_label[item.label]) for item in corpus.examples),
        len(corpus),
    )


def write_shard(
    folder: Path, encoder: TextEncoder, examples: Iterable[TrainingExample], *, classes: int
) -> None:
    """Encode training examples into a new folder; one example at a time is in memory.

    Raises:
        InvalidInput: There are no examples, or one has an invalid target or weight.
    """
    folder.mkdir()
    with ExitStack() as stack:
        ids, ends, targets, weights = (
            stack.enter_context((folder / name).open("wb"))
            for name, _ in (_IDS, _ENDS, _TARGETS, _WEIGHTS)
        )
        end = 0
        for number, example in enumerate(examples):
            _check(example, number, classes)
            row = encoder.encode(example.text).ids
            end += len(row)
            ids.write(row.astype(_IDS[1]).tobytes())
            ends.write(np.array(end, _ENDS[1]).tobytes())
            targets.write(example.target.astype(_TARGETS[1]).tobytes())
            weights.write(np.array(example.weight, _WEIGHTS[1]).tobytes())
        if not end:
            raise InvalidInput("there must be at least one training example. Received: none")


def _check(example: TrainingExample, number: int, classes: int) -> None:
    target = example.target
    if target.shape != (classes,) or not (target >= 0).all() or abs(target.sum() - 1) > 1e-3:
        raise InvalidInput(
            f"training example {number}: the target must be {classes} probabilities that sum to "
            f"1. Received: {target.tolist()}"
        )
    if not 0 <= example.weight < float("inf"):
        raise InvalidInput(
            f"training example {number}: the weight must be finite and 0 or more. "
            f"Received: {example.weight}"
        )


class Shard(Sequence[Int32Array]):
    """The training examples that `write_shard` wrote; `shard[i]` is the token ids of row i.

    Only `lengths` is in memory; everything else is memory-mapped.

    Attributes:
        lengths: The number of ids in each row, int32 (rows,).
        targets: Class probabilities, float32 (rows, classes).
        weights: Sample weights, float32 (rows,).
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


class InMemoryShard(Sequence[Int32Array]):
    """A `Shard` in memory.

    Attributes:
        lengths: The number of ids in each row, int32 (rows,).
        targets: Class probabilities, float32 (rows, classes).
        weights: Sample weights, float32 (rows,), all 1.
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
