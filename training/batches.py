"""Rows of ids into batches of like length, in a seeded order."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from app.text.padding import Int32Array, pad_rows
from app.text.vocabulary import FIRST_WORD, UNKNOWN
from training.progress import track

Probabilities = NDArray[np.float64]


class TrainingBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled anew each epoch; the order depends on the seed alone.

    Sorting `sorted_together` batches by length keeps padding low, and still gives a text other
    neighbours in every epoch.

    Yields:
        `ids` int32 (batch, width) as wide as the batch's longest row, `targets` int32 (batch,).
    """

    def __init__(
        self,
        rows: Sequence[Int32Array],
        targets: NDArray[np.int32],
        *,
        batch_size: int,
        sorted_together: int = 50,
        word_dropout: float = 0.0,
        seed: int,
    ) -> None:
        super().__init__()
        self._rows, self._targets, self._batch_size = rows, targets, batch_size
        self._window = batch_size * sorted_together
        self._word_dropout = word_dropout
        self._seed, self._epoch = seed, 0
        self._random = random.Random(seed)
        self._order: list[list[int]] = []
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> tuple[Int32Array, NDArray[np.int32]]:
        chosen = self._order[index]
        ids = rectangle(self._rows, chosen)
        if self._word_dropout:
            # Keyed by batch, not drawn from one stream: Keras looks at a batch more than once.
            random_state = np.random.default_rng((self._seed, self._epoch, index))
            dropped = random_state.random(ids.shape) < self._word_dropout
            ids[dropped & (ids >= FIRST_WORD)] = UNKNOWN
        return ids, self._targets[chosen]

    def on_epoch_end(self) -> None:
        """Draw the order of the next epoch."""
        self._epoch += 1
        order = list(range(len(self._rows)))
        self._random.shuffle(order)
        batches = []
        for start in range(0, len(order), self._window):
            alike = sorted(order[start : start + self._window], key=lambda i: len(self._rows[i]))
            batches += _slices(alike, self._batch_size)
        self._random.shuffle(batches)
        self._order = batches


class ScoringBatches(keras.utils.PyDataset):  # type: ignore[misc]
    """Each row once, sorted by length; `order` tells which row stands where."""

    def __init__(
        self, rows: Sequence[Int32Array], targets: NDArray[np.int32], *, batch_size: int = 256
    ) -> None:
        super().__init__()
        self._rows, self._targets = rows, targets
        self.order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        self._batches = _slices(self.order, batch_size)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> tuple[Int32Array, NDArray[np.int32]]:
        chosen = self._batches[index]
        return rectangle(self._rows, chosen), self._targets[chosen]


def score_rows(
    run: Callable[[Int32Array, Int32Array], Any], rows: Sequence[Int32Array], batch_size: int
) -> Probabilities:
    """Run a model over all rows, in batches of like length.

    Args:
        run: Gets `ids` int32 (batch, width) and `lengths` int32 (batch,); answers (batch, classes).
        rows: The ids of each text.
        batch_size: Texts a run.

    Returns:
        float64 of shape (rows, classes). Row i belongs to rows[i].
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    scored = []
    for chosen in track(_slices(order, batch_size), "Scoring"):
        lengths = np.array([len(rows[i]) for i in chosen], np.int32)
        scored.append(run(rectangle(rows, chosen), lengths))
    together = np.concatenate(scored).astype(np.float64)
    probabilities = np.empty_like(together)
    probabilities[order] = together
    return probabilities


def rectangle(rows: Sequence[Int32Array], chosen: Sequence[int]) -> Int32Array:
    """The chosen rows, padded to the longest of them: int32 (chosen, width)."""
    picked = [rows[i] for i in chosen]
    return pad_rows(picked, width=max(map(len, picked)))


def _slices(order: Sequence[int], size: int) -> list[Any]:
    return [order[start : start + size] for start in range(0, len(order), size)]
