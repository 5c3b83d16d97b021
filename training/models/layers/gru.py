"""GRU: Keras' layer with its defaults, as TensorFlow operations and for ONNX.

The gates are z (update), r (reset) and h (candidate), in this order in Keras and in ONNX. r is
applied after the multiplication with the recurrent kernel (`reset_after`).

Input shape:
    float32 steps: Keras (batch, length, features), TensorFlow graph (width, batch, features).

Output shape:
    float32 states, with `units` in place of `features`.
"""

from typing import Any

import keras
import tensorflow as tf

from training.models.layers.frozen import freeze_weights
from training.models.layers.scan import scan_steps
from training.support.arrays import Float32Array

# --- TensorFlow graph ---


class GRUGraph(tf.Module):  # type: ignore[misc]
    """A GRU as a loop of TensorFlow operations, with time first."""

    def __init__(self, layer: keras.layers.GRU) -> None:
        super().__init__()
        self._kernel, self._recurrent, self._bias = freeze_weights(layer)

    def __call__(self, steps: Any) -> Any:
        """Run a loop over the steps."""
        bias, recurrent_bias = tf.unstack(self._bias)

        def step(state: Any, inputs: Any) -> Any:
            z, r, h = tf.split(inputs, 3, axis=1)
            state_z, state_r, state_h = tf.split(
                state @ self._recurrent + recurrent_bias, 3, axis=1
            )
            update = tf.sigmoid(z + state_z)
            candidate = tf.tanh(h + tf.sigmoid(r + state_r) * state_h)
            return update * state + (1 - update) * candidate

        inputs = tf.einsum("tbf,fu->tbu", steps, self._kernel) + bias
        return scan_steps(step, inputs, units=self._recurrent.shape[0])


# --- ONNX ---


def gru_weights(layer: keras.layers.GRU) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Kernel, recurrent kernel and both biases, one after the other."""
    kernel, recurrent, biases = layer.get_weights()
    return kernel, recurrent, biases.ravel()
