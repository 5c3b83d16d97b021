"""`FusedLSTM`: Keras' LSTM, trained through TensorFlow's fused kernels where that is on a CPU.

Keras runs an LSTM on a CPU as a loop of small operations, forward and backward. TensorFlow has the
whole loop as one kernel for each direction, which leaves a third more tokens a second. Its gradient
is not taken from TensorFlow's own table, where the entry for this kernel belongs to an earlier one
with its gates in another order; the kernel for the gradient itself is right, and a test holds it to
that of Keras.
"""

from typing import Any
import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("valence")
class FusedLSTM(keras.layers.LSTM):  # type: ignore[misc]
    """An LSTM with the weights and the answers of `keras.layers.LSTM`.

    Input shape:
        float32 (batch, length, features).

    Output shape:
        float32 (batch, length, units) with `return_sequences`, else (batch, units).
    """

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[Any, Any, list[Any]]:
        """The fused loop where there is one: on a CPU, without mask and recurrent dropout."""
        if mask is not None or self.recurrent_dropout or not _is_on_cpu():
            return super().inner_loop(sequences, initial_state, mask, training=training)  # type: ignore[no-any-return]
        cell = self.cell
        states, carries = _run(
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
def _run(
    steps: Any, kernel: Any, recurrent: Any, bias: Any, state: Any, carry: Any
) -> tuple[tuple[Any, Any], Any]:
    """(length, batch, features) → states and carries, (length, batch, units), and their gradient.

    Both kernels have Keras' order of gates: i f c o.
    """
    shared = {
        "seq_len_max": tf.cast(tf.shape(steps)[0], tf.int64),
        "x": steps,
        "cs_prev": carry,
        "h_prev": state,
        "w": tf.concat([kernel, recurrent], axis=0),
        "b": bias,
        "use_peephole": False,
    } | dict.fromkeys(("wci", "wcf", "wco"), tf.zeros_like(bias[: recurrent.shape[0]]))
    ran = tf.raw_ops.BlockLSTMV2(cell_clip=0.0, **shared)

    def gradient(of_states: Any, of_carries: Any) -> tuple[Any, ...]:
        known = {name: getattr(ran, name) for name in ("i", "cs", "f", "o", "ci", "co", "h")}
        back = tf.raw_ops.BlockLSTMGradV2(h_grad=of_states, cs_grad=of_carries, **shared, **known)
        of_kernel, of_recurrent = tf.split(back.w_grad, [-1, recurrent.shape[0]])
        return (
            *(back.x_grad, of_kernel, of_recurrent, back.b_grad),
            *(back.h_prev_grad, back.cs_prev_grad),
        )

    return (ran.h, ran.cs), gradient
