"""The temperature of short texts: their logits are divided by it, beside the common temperature.

A model that learned fragments of reviews is calibrated for fragments, most of which say little.
People ask about sentences that say something, and there it is right more often than it claims.
The divisor is `short` for a text without tokens and approaches 1 in proportion to the length, up
to `SHORT_LENGTH` ids. It moves the confidence, never the label.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import tensorflow as tf

from app.text.padding import Int32Array
from training.models.onnx_writer import FLOAT, GraphWriter, integers
from training.support.arrays import Probabilities

SHORT_LENGTH: Final = 128
"""A text of at least so many ids, the one at the beginning included, is not short."""


def short_factors(rows: Sequence[Int32Array], short: float) -> Probabilities:
    """Return what the logits of each text are multiplied by, float64 (texts, 1).

    Args:
        rows: The ids of each text, without padding.
        short: The temperature of a text without tokens.
    """
    missing = 1 - np.array([min(len(each), SHORT_LENGTH) for each in rows]) / SHORT_LENGTH
    factors: Any = 1 + (1 / short - 1) * missing[:, np.newaxis]
    return np.asarray(factors, np.float64)


def short_factors_graph(lengths: Any, short: float) -> Any:
    """`short_factors` in TensorFlow, of lengths from 1 on: float32 (batch, 1)."""
    missing = 1 - tf.cast(tf.minimum(lengths, SHORT_LENGTH), tf.float32) / SHORT_LENGTH
    return 1 + (1 / short - 1) * missing[:, tf.newaxis]


def add_short_factors(graph: GraphWriter, short: float) -> str:
    """`short_factors` in ONNX, of any lengths, limited to the width: float32 (batch, 1)."""
    lengths = graph.add("Cast", "lengths", to=FLOAT)
    width = graph.add("Cast", graph.add("Shape", "ids", start=1, end=2), to=FLOAT)
    lengths = graph.add("Max", graph.add("Min", lengths, width), np.array(1, np.float32))
    lengths = graph.add("Min", lengths, np.array(SHORT_LENGTH, np.float32))
    slope = (1 / short - 1) / SHORT_LENGTH
    lengths = graph.add("Mul", lengths, np.array(-slope, np.float32))
    factors = graph.add("Add", lengths, np.array(1 / short, np.float32))
    return graph.add("Unsqueeze", factors, integers(1))
