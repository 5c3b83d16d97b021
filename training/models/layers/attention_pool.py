"""Attention pooling: weighted means of the states of a text, whose weights the states decide.

Each of several heads gives every step a score, a projection of its state, and sums the states with
the softmax of these scores as weights. A head can thus attend to the few steps where a verdict is,
which count little in a mean over all steps. Per step this costs a few multiplications per unit.

Source:
    Lin et al., "A Structured Self-Attentive Sentence Embedding" (2017), with a linear score.
"""

from typing import Any, Final, cast

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from app.text.vocabulary import PAD
from training.models.layers.sequence import Shape
from training.models.onnx_writer import GraphWriter, add_real_steps, integers
from training.support.arrays import Float32Array

_SHARPNESS: Final = 4.0
"""A factor of all scores. At first the weights are almost equal, and Adam changes this kernel by no
more a step than others; so the weights differ after a quarter of the steps."""
_BEHIND: Final = np.float32(-1e9)
"""The score of padding: below any other, so that its weight is 0."""


# --- Keras ---


@keras.saving.register_keras_serializable("valence")
class AttentionPool(keras.layers.Layer):  # type: ignore[misc]
    """Pools the states of a text's real steps: (batch, length, units) → (batch, heads * units).

    Attributes:
        heads: The number of weighted means.
    """

    def __init__(self, heads: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads = heads

    def build(self, states_shape: Shape, ids_shape: Shape) -> None:
        """Create the kernel, (units, heads)."""
        self.kernel = self.add_weight(
            name="kernel", shape=(states_shape[-1], self.heads), initializer="glorot_uniform"
        )

    def call(self, states: Any, ids: Any) -> Any:
        """Pool where `ids` are not `PAD`."""
        scores = ops.matmul(states, self.kernel) * _SHARPNESS  # (batch, length, heads)
        real = ops.expand_dims(ops.not_equal(ids, PAD), -1)
        scores = ops.where(real, scores, ops.cast(_BEHIND, scores.dtype))
        # Keras' softmax warns of a text with a single step.
        weights = ops.exp(scores - ops.max(scores, axis=1, keepdims=True))
        weights = weights / ops.sum(weights, axis=1, keepdims=True)
        pooled = ops.matmul(ops.transpose(weights, (0, 2, 1)), states)  # (batch, heads, units)
        return ops.reshape(pooled, (-1, self.heads * states.shape[-1]))

    def compute_output_shape(self, states_shape: Shape, ids_shape: Shape) -> Shape:
        """(batch, heads * units)."""
        return (states_shape[0], self.heads * cast(int, states_shape[-1]))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "heads": self.heads}


def attention_kernel(layer: AttentionPool) -> Float32Array:
    """The projection of a state to its scores, float32 (units, heads), for both graphs."""
    (kernel,) = layer.get_weights()
    scaled: Float32Array = (kernel * _SHARPNESS).astype(np.float32)
    return scaled


# --- TensorFlow graph ---


class AttentionPoolGraph(tf.Module):  # type: ignore[misc]
    """`AttentionPool` as TensorFlow operations, with time first."""

    def __init__(self, layer: AttentionPool) -> None:
        super().__init__()
        self._kernel = tf.constant(attention_kernel(layer))

    def __call__(self, states: Any, ids: Any) -> Any:
        """Pool the states of all directions: (width, batch, units) → (batch, heads * units)."""
        states = tf.transpose(states, [1, 0, 2])
        scores = tf.where(tf.expand_dims(ids != PAD, -1), states @ self._kernel, _BEHIND)
        pooled = tf.matmul(tf.nn.softmax(scores, axis=1), states, transpose_a=True)
        return tf.reshape(pooled, [-1, np.prod(pooled.shape[1:])])


# --- ONNX ---


def add_attention_pool(graph: GraphWriter, states: str, lengths: str, kernel: Float32Array) -> str:
    """`AttentionPool` of (width, batch, units): (batch, heads * units).

    Args:
        graph: Receives the nodes.
        states: Of all directions.
        lengths: int32 (batch,), each 1 or more.
        kernel: From `attention_kernel`, with a row for each column of `states`.
    """
    real = add_real_steps(graph, lengths)
    behind = graph.add("Where", real, np.zeros((), np.float32), np.array(_BEHIND))
    # Softmax and sums are fastest along the last axis, and so is a mask whose last axis is whole.
    scores = graph.add("Transpose", graph.add("MatMul", states, kernel), perm=[1, 2, 0])
    scores = graph.add("Add", scores, graph.add("Unsqueeze", behind, integers(1)))
    weights = graph.add("Softmax", scores, axis=-1)  # (batch, heads, width)
    pooled = graph.add("MatMul", weights, graph.add("Transpose", states, perm=[1, 0, 2]))
    return graph.add("Reshape", pooled, integers(0, kernel.size))  # -1 fails for an empty batch
