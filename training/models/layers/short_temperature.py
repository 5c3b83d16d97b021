"""The temperature of short texts: their logits are divided by it, in addition to `temperature`.

A version's temperature is fitted on reviews. In single sentences that people rated, a model that
also learned fragments without much to say is right more often than it claims. The logits of a text
are multiplied by a factor that falls linearly from 1 / `short` at 0 ids to 1 at `LONG_FROM` ids. It
moves the confidence, never the label.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import tensorflow as tf

from app.text.padding import Int32Array
from training.models.onnx_writer import FLOAT, GraphWriter, integers
from training.support.arrays import Probabilities

LONG_FROM: Final = 128
"""Ids of a text, the one at its beginning included, from which on its factor is 1. Passages of 64
tokens, at which reports draw their line (`training.quality.short_texts`), are halfway."""


def short_factors(rows: Sequence[Int32Array], short: float) -> Probabilities:
    """Return what the logits of each text are multiplied by, float64 (texts, 1).

    Args:
        rows: The ids of each text, without padding.
        short: The temperature of a text of 0 ids.
    """
    missing = 1 - np.array([min(len(each), LONG_FROM) for each in rows]) / LONG_FROM
    factors: Any = 1 + (1 / short - 1) * missing[:, np.newaxis]
    return np.asarray(factors, np.float64)


def short_factors_graph(lengths: Any, short: float) -> Any:
    """`short_factors` in TensorFlow, of lengths from 1 on: float32 (batch, 1)."""
    missing = 1 - tf.cast(tf.minimum(lengths, LONG_FROM), tf.float32) / LONG_FROM
    return 1 + (1 / short - 1) * missing[:, tf.newaxis]


def add_short_factors(graph: GraphWriter, short: float, *, scale: float = 1.0) -> str:
    """`short_factors` in ONNX times `scale`, of any lengths, limited to the width: (batch, 1)."""
    lengths = graph.add("Cast", "lengths", to=FLOAT)
    width = graph.add("Cast", graph.add("Shape", "ids", start=1, end=2), to=FLOAT)
    lengths = graph.add("Max", graph.add("Min", lengths, width), np.array(1, np.float32))
    lengths = graph.add("Min", lengths, np.array(LONG_FROM, np.float32))
    slope = (1 / short - 1) / LONG_FROM
    lengths = graph.add("Mul", lengths, np.array(-slope * scale, np.float32))
    factors = graph.add("Add", lengths, np.array(scale / short, np.float32))
    return graph.add("Unsqueeze", factors, integers(1))
