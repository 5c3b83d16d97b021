"""Word presence: which words a text contains, each counted once.

`PAD`, `BEGIN` and `UNKNOWN` are not words: their columns stay 0.

Input shape:
    int32 (batch, length), right-padded with `PAD`.

Output shape:
    float32 (batch, vocabulary) of 0 and 1.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from app.text.vocabulary import FIRST_WORD, PAD
from training.models.onnx_writer import GraphWriter, add_positions, integers
from training.support.arrays import Float32Array

# --- Keras ---


@keras.saving.register_keras_serializable("valence")
class WordPresence(keras.layers.Layer):  # type: ignore[misc]
    """Which words a text contains: ids to a row of 0 and 1.

    Attributes:
        vocabulary: Number of ids, special ids included.
    """

    def __init__(self, vocabulary: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocabulary = vocabulary

    def call(self, ids: Any) -> Any:
        """Scatter a 1 per token, then turn counts into 0 and 1."""
        batch, length = ops.shape(ids)
        rows = ops.repeat(ops.arange(batch, dtype="int32"), length)
        cells = ops.stack([rows, ops.reshape(ops.cast(ids, "int32"), (-1,))], axis=1)
        counts = ops.scatter(cells, ops.ones((batch * length,)), (batch, self.vocabulary))
        words = ops.arange(self.vocabulary) >= FIRST_WORD
        return ops.cast(ops.logical_and(counts > 0, words), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, vocabulary)."""
        return (input_shape[0], self.vocabulary)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "vocabulary": self.vocabulary}


# --- TensorFlow graph ---


class WordPresenceGraph(tf.Module):  # type: ignore[misc]
    """`WordPresence` as TensorFlow operations."""

    def __init__(self, layer: WordPresence) -> None:
        super().__init__()
        self._vocabulary = int(layer.vocabulary)

    def __call__(self, ids: Any) -> Any:
        """Scatter ones with the maximum, so that repeats change nothing."""
        words = ids >= FIRST_WORD
        cells = tf.where(words)  # (words, 2): row and position
        columns = tf.cast(tf.boolean_mask(ids, words), tf.int64)
        cells = tf.stack([cells[:, 0], columns], axis=1)
        shape = tf.stack([tf.shape(ids)[0], self._vocabulary])
        zeros = tf.zeros(shape, tf.float32)
        return tf.tensor_scatter_nd_max(zeros, cells, tf.ones(tf.shape(columns), tf.float32))


# --- ONNX ---


def add_word_presence(graph: GraphWriter, ids: str, kernel: Float32Array) -> str:
    """`WordPresence` times the kernel of the dense layer behind it: (batch, units).

    The product is the sum of the kernel's rows of the words in the text. To count a word once,
    each position writes its number into the cell of its word, where the highest stays; only a
    position that reads back its own number counts.

    Args:
        graph: Receives the nodes.
        ids: int32 (batch, width).
        kernel: float32 (vocabulary, units).
    """
    rows = kernel.copy()
    rows[:FIRST_WORD] = 0  # special ids are not words
    positions = add_positions(graph)  # (width,)
    batch = graph.add("Shape", "ids", start=0, end=1)
    cells = graph.add("Concat", batch, integers(len(rows)), axis=0)
    empty = graph.add("Expand", np.array(-1, np.int32), cells)  # (batch, vocabulary)
    numbers = graph.add("Expand", positions, graph.add("Shape", "ids"))  # (batch, width)
    last = graph.add("ScatterElements", empty, ids, numbers, axis=1, reduction="max")
    counts = graph.add("Equal", graph.add("GatherElements", last, ids, axis=1), positions)
    words = graph.add("Where", counts, ids, np.array(PAD, np.int32))
    return graph.add("ReduceSum", graph.add("Gather", rows, words), integers(1), keepdims=0)
