"""Dense layers: the hidden layers and the output. Keras has the layer for training.

Input shape:
    float32 (batch, features).

Output shape:
    float32 (batch, units).
"""

from typing import Any

import keras
import tensorflow as tf

from training.models.layers.frozen import freeze_weights
from training.models.onnx_writer import GraphWriter, Value
from training.support.arrays import Float32Array

# --- TensorFlow graph ---


class DenseGraph(tf.Module):  # type: ignore[misc]
    """A Keras dense layer as TensorFlow operations."""

    def __init__(self, layer: keras.layers.Dense) -> None:
        super().__init__()
        self._kernel, self._bias = freeze_weights(layer)
        # `Config` allows activations that have the same name in Keras and in `tf.nn`.
        self._activation = getattr(tf.nn, layer.activation.__name__, tf.identity)

    def __call__(self, features: Any) -> Any:
        """Multiply, add the bias, activate."""
        return self._activation(features @ self._kernel + self._bias)


# --- ONNX ---


def add_dense(graph: GraphWriter, features: Value, kernel: Float32Array, bias: Float32Array) -> str:
    """Multiply and add the bias, without the activation."""
    return graph.add("Gemm", features, kernel, bias)


def add_activation(graph: GraphWriter, features: str, layer: keras.layers.Dense) -> str:
    """The activation of a hidden layer; ONNX names it as Keras does, with a capital letter."""
    return graph.add(layer.activation.__name__.capitalize(), features)
