"""A neutral class that is taken away again: each of the two others gets half of its probability.

A model of two labels learns texts without an opinion as even odds. It can then hardly tell a text
that says nothing from one that says something in a way it does not know, and whatever is new to it
moves towards even odds. Trained with a third class, it learns on its own whether there is an
opinion, and which one there is; afterwards the third class is divided.

Input shape:
    float32 logits (batch, 3): negative, neutral, positive.

Output shape:
    float32 logits (batch, 2), whose softmax has half of the neutral probability in each class.
"""

from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from training.models.layers.sequence import Shape
from training.models.onnx_writer import GraphWriter, integers
from training.support.arrays import Float32Array

_NEUTRAL: Final = 1
_KEPT: Final = (0, 2)
_LOG_HALF: Final = np.float32(np.log(0.5))


# --- Keras ---


@keras.saving.register_keras_serializable("valence")
class HalvedNeutral(keras.layers.Layer):  # type: ignore[misc]
    """Divides the neutral class of three between the two others."""

    def call(self, logits: Any) -> Any:
        """(batch, 3) → (batch, 2)."""
        half = logits[:, _NEUTRAL] + _LOG_HALF
        return ops.stack([ops.logaddexp(logits[:, each], half) for each in _KEPT], axis=-1)

    def compute_output_shape(self, shape: Shape) -> Shape:
        """(batch, 2)."""
        return (shape[0], len(_KEPT))


# --- TensorFlow graph ---


class HalvedNeutralGraph(tf.Module):  # type: ignore[misc]
    """`HalvedNeutral` as TensorFlow operations."""

    def __call__(self, logits: Any) -> Any:
        """(batch, 3) → (batch, 2)."""
        half = logits[:, _NEUTRAL] + _LOG_HALF
        pairs = [tf.stack([logits[:, each], half], axis=-1) for each in _KEPT]
        return tf.reduce_logsumexp(tf.stack(pairs, axis=1), axis=-1)


# --- ONNX ---


def paired_with_neutral(
    kernel: Float32Array, bias: Float32Array
) -> tuple[Float32Array, Float32Array]:
    """The weights of the logits of three classes, as `add_halved_neutral` needs them.

    Args:
        kernel: float32 (features, 3).
        bias: float32 (3,).

    Returns:
        (features, 4) and (4,): of each class that is kept, and of half of the neutral one.
    """
    columns = [each for kept in _KEPT for each in (kept, _NEUTRAL)]
    halves = np.array([0, _LOG_HALF] * len(_KEPT), np.float32)
    return kernel[:, columns], bias[columns] + halves


def add_halved_neutral(graph: GraphWriter, logits: str) -> str:
    """The logits that `paired_with_neutral` gives, (batch, 4) → (batch, 2)."""
    pairs = graph.add("Reshape", logits, integers(0, len(_KEPT), 2))
    return graph.add("ReduceLogSumExp", pairs, integers(2), keepdims=0)
