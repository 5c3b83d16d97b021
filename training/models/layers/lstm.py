"""LSTM: Keras' layer, trained and exported through fused kernels.

Keras runs an LSTM on a CPU as a loop of small operations, forward and backward. TensorFlow has the
whole loop as one kernel, `BlockLSTMV2`, which trains a third more tokens per second and is the only
form that a CPU and a GPU can both load.

All three forms compute the gates i (input), f (forget), c (candidate) and o (output). Keras and
both TensorFlow kernels store them as i, f, c, o; ONNX stores i, o, f, c.

Input shape:
    float32 steps: Keras (batch, length, features), TensorFlow graph (width, batch, features).

Output shape:
    float32 states, with `units` in place of `features`.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training.models.layers.frozen import freeze
from training.support.arrays import Float32Array

# --- Keras ---


@keras.saving.register_keras_serializable("valence")
class FusedLSTM(keras.layers.LSTM):  # type: ignore[misc]
    """An LSTM with the weights and the results of `keras.layers.LSTM`.

    Input shape:
        float32 (batch, length, features).

    Output shape:
        float32 (batch, length, units) with `return_sequences`, else (batch, units).
    """

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[Any, Any, list[Any]]:
        """Run the fused kernel on a CPU without mask and recurrent dropout, else Keras' loop."""
        if mask is not None or self.recurrent_dropout or not _is_on_cpu():
            return super().inner_loop(sequences, initial_state, mask, training=training)  # type: ignore[no-any-return]
        cell = self.cell
        states, carries = _run_fused(
            tf.transpose(sequences, [1, 0, 2]),
            tf.convert_to_tensor(cell.kernel),
            tf.convert_to_tensor(cell.recurrent_kernel),
            tf.convert_to_tensor(cell.bias),
            *initial_state,
        )
        return states[-1], tf.transpose(states, [1, 0, 2]), [states[-1], carries[-1]]


def _is_on_cpu() -> bool:
    backend: str = keras.backend.backend()
    return backend == "tensorflow" and not tf.config.list_logical_devices("GPU")


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _run_fused(
    steps: Any, kernel: Any, recurrent: Any, bias: Any, state: Any, carry: Any
) -> tuple[tuple[Any, Any], Any]:
    """Steps (length, batch, features) to states and carries, (length, batch, units) each.

    The gradient that TensorFlow registers for `BlockLSTMV2` is that of `BlockLSTM`, whose gates are
    in another order. The gradient kernel itself is right, so it is called here directly.
    """
    shared = _block_lstm_inputs(steps, tf.concat([kernel, recurrent], axis=0), bias, state, carry)
    ran = tf.raw_ops.BlockLSTMV2(cell_clip=0.0, **shared)

    def gradient(states_grad: Any, carries_grad: Any) -> tuple[Any, ...]:
        outputs = {name: getattr(ran, name) for name in ("i", "cs", "f", "o", "ci", "co", "h")}
        grads = tf.raw_ops.BlockLSTMGradV2(
            h_grad=states_grad, cs_grad=carries_grad, **shared, **outputs
        )
        kernel_grad, recurrent_grad = tf.split(grads.w_grad, [-1, recurrent.shape[0]])
        return (
            *(grads.x_grad, kernel_grad, recurrent_grad, grads.b_grad),
            *(grads.h_prev_grad, grads.cs_prev_grad),
        )

    return (ran.h, ran.cs), gradient


def _block_lstm_inputs(
    steps: Any, weights: Any, bias: Any, state: Any, carry: Any
) -> dict[str, Any]:
    """The inputs that `BlockLSTMV2` and its gradient share; there are no peepholes."""
    no_peephole = tf.zeros_like(bias[: bias.shape[0] // 4])
    return {
        "seq_len_max": tf.cast(tf.shape(steps)[0], tf.int64),
        "x": steps,
        "cs_prev": carry,
        "h_prev": state,
        "w": weights,
        "b": bias,
        "use_peephole": False,
    } | dict.fromkeys(("wci", "wcf", "wco"), no_peephole)


# --- TensorFlow graph ---


class LSTMGraph(tf.Module):  # type: ignore[misc]
    """An LSTM as TensorFlow operations, with time first: for inference only."""

    def __init__(self, layer: FusedLSTM) -> None:
        super().__init__()
        kernel, recurrent, bias = layer.get_weights()
        self._units = len(recurrent)
        self._kernel = freeze(np.concatenate([kernel, recurrent]), "lstm_kernel")
        self._bias = freeze(bias, "lstm_bias")

    def __call__(self, steps: Any) -> Any:
        """Run TensorFlow's own kernel, on any device."""
        state = tf.zeros(tf.stack([tf.shape(steps)[1], self._units]))
        shared = _block_lstm_inputs(steps, self._kernel, self._bias, state, state)
        return tf.raw_ops.BlockLSTMV2(cell_clip=0.0, **shared).h

    def on_cudnn(self, steps: Any) -> Any:
        """Run cuDNN, which fails without an NVIDIA GPU but can be traced anywhere."""
        width, batch = tf.unstack(tf.shape(steps)[:2])
        state = tf.zeros(tf.stack([1, batch, self._units]))  # (layers, batch, units)
        return tf.raw_ops.CudnnRNNV3(
            input=steps,
            input_h=state,
            input_c=state,
            params=self._pack_for_cudnn(),
            # Every row counts as full. TensorFlow caches one descriptor per shape, made for full or
            # for padded rows as the first batch was, and would use it for the other kind too.
            sequence_lengths=tf.fill([batch], width),
            rnn_mode="lstm",
            is_training=False,
            time_major=True,
        ).output

    def _pack_for_cudnn(self) -> Any:
        """The weights in cuDNN's one buffer, (4 * units * (features + units + 2),).

        First a matrix (units, features) for each gate, then a recurrent matrix (units, units) for
        each gate, then two biases per gate: all input biases before all recurrent ones. cuDNN has
        the gates in Keras' order, i f c o, and its matrices transposed. Keras has one bias per
        gate, which may be either of cuDNN's two; the other is 0.

        Source:
            cuDNN, `cudnnGetRNNWeightParams`; Keras, `_standardize_cudnn_weights`.
        """
        kernel, recurrent = tf.split(self._kernel, [-1, self._units])
        parts = tf.transpose(kernel), tf.transpose(recurrent), tf.zeros_like(self._bias), self._bias
        return tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)


# --- ONNX ---


def lstm_weights(layer: FusedLSTM) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Kernel, recurrent kernel and both biases, one after the other, with ONNX's order of gates."""
    kernel, recurrent, bias = (reorder_gates(weights) for weights in layer.get_weights())
    return kernel, recurrent, np.concatenate([bias, np.zeros_like(bias)])


def reorder_gates(weights: Float32Array) -> Float32Array:
    """Keras' order of gates to ONNX's along the last axis: i, f, c, o → i, o, f, c."""
    i, f, c, o = np.split(weights, 4, axis=-1)
    return np.concatenate([i, o, f, c], axis=-1)
