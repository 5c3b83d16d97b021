"""Run a model over rows of ids of any length."""

from app.text.padding import Int32Array
from collections.abc import Callable
from collections.abc import Sequence
from training.data.batches import pad_with_lengths
from training.data.batches import batches_by_length
from training.support.arrays import Probabilities
from training.support.progress import track
from typing import Any
from typing import Final
import keras
import numpy as np


def score_rows(
    run: Callable[[Int32Array, Int32Array], Any], rows: Sequence[Int32Array], batch_size: int
) -> Probabilities:
    """Run a model over all rows, in batches of like length.

    Args:
        run: Gets `ids` int32 (batch, width) and `lengths` int32 (batch,); answers (batch, classes),
            or with more axes between or behind.
        rows: The ids of each text.
        batch_size: Texts a run.

    Returns:
        float64 of shape (rows, ...), as the answers. Row i belongs to rows[i].
    """
    parts = batches_by_length(rows, batch_size)
    scored = [run(*pad_with_lengths(rows, chosen)) for chosen in track(parts, "Scoring")]
    together = np.concatenate(scored).astype(np.float64)
    probabilities = np.empty_like(together)
    probabilities[np.concatenate(parts)] = together
    return probabilities


SCORED_AT_ONCE: Final = 256
"""Texts scored at once."""


def predict(model: keras.Model, rows: Sequence[Int32Array]) -> Probabilities:
    """Probabilities of the Keras model itself, float64 (rows, classes)."""
    return score_rows(lambda ids, _lengths: model.predict_on_batch(ids), rows, SCORED_AT_ONCE)
