"""Simple RNN: Keras' layer, as TensorFlow operations and for ONNX.

Input shape:
    float32 steps: Keras (batch, length, features), TensorFlow graph (width, batch, features).

Output shape:
    float32 states, with `units` in place of `features`.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training.models.layers.frozen import freeze_weights
from training.models.layers.scan import scan_steps
from training.support.arrays import Float32Array

# --- TensorFlow graph ---


class SimpleRNNGraph(tf.Module):  # type: ignore[misc]
    """A simple RNN as a loop of TensorFlow operations, with time first."""

    def __init__(self, layer: keras.layers.SimpleRNN) -> None:
        super().__init__()
        self._kernel, self._recurrent, self._bias = freeze_weights(layer)

    def __call__(self, steps: Any) -> Any:
        """Run a loop over the steps."""

        def step(state: Any, inputs: Any) -> Any:
            return tf.tanh(inputs + state @ self._recurrent)

        inputs = tf.einsum("tbf,fu->tbu", steps, self._kernel) + self._bias
        return scan_steps(step, inputs, units=self._recurrent.shape[0])


# --- ONNX ---


def simple_rnn_weights(
    layer: keras.layers.SimpleRNN,
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Kernel, recurrent kernel and both biases, one after the other; Keras has only the first."""
    kernel, recurrent, bias = layer.get_weights()
    return kernel, recurrent, np.concatenate([bias, np.zeros_like(bias)])
