"""Run a model over rows of ids of any length."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import keras
import numpy as np

from app.text.padding import Int32Array
from training.data.batches import batches_by_length, pad_with_lengths
from training.support.arrays import Probabilities
from training.support.progress import track

SCORING_BATCH: Final = 256
"""Texts per batch when no gradient is needed."""


def score_rows(
    run: Callable[[Int32Array, Int32Array], Any], rows: Sequence[Int32Array], batch_size: int
) -> Probabilities:
    """Run a model over all rows, in batches of similar length.

    Args:
        run: `ids` int32 (batch, width) and `lengths` int32 (batch,) to a result for each row,
            (batch, ...).
        rows: The ids of each text.
        batch_size: Texts per batch.

    Returns:
        float64 (rows, ...). Row i belongs to rows[i].
    """
    parts = batches_by_length(rows, batch_size)
    scored = [run(*pad_with_lengths(rows, chosen)) for chosen in track(parts, "Scoring")]
    by_length = np.concatenate(scored).astype(np.float64)
    in_order = np.empty_like(by_length)
    in_order[np.concatenate(parts)] = by_length
    return in_order


def predict(model: keras.Model, rows: Sequence[Int32Array]) -> Probabilities:
    """Probabilities of the Keras model, float64 (rows, classes)."""
    return score_rows(lambda ids, _lengths: model.predict_on_batch(ids), rows, SCORING_BATCH)
