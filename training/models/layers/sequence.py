"""Layers over the steps of a text: reverse them, pool them, or lay them out in one row.

A batch is padded to its longest text, and an answer must not depend on the other texts of its
batch. So each layer here looks at the real steps alone. Keras and ONNX know them by the ids or by
the zeros behind them, the TensorFlow graph by the lengths.

Keras has steps as (batch, length, features). The TensorFlow graph and ONNX have them with time
first, (width, batch, features), as their recurrent kernels want them.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, cast

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from app.text.vocabulary import PAD
from training.models.layers.saved_names import RenamedArguments, saved_as
from training.models.onnx_writer import FLOAT, GraphWriter, integers

Shape = tuple[int | None, ...]

# --- Keras ---


def _count_steps(ids: Any) -> Any:
    """int32 (batch, 1): the number of real steps of each text."""
    return ops.sum(ops.cast(ops.not_equal(ids, PAD), "int32"), axis=1, keepdims=True)


def _real_steps(ids: Any, dtype: Any) -> Any:
    """(batch, length, 1): 1 at real steps, 0 at padding."""
    return ops.cast(ops.expand_dims(ops.not_equal(ids, PAD), -1), dtype)


@keras.saving.register_keras_serializable("valence")
class Reverse(keras.layers.Layer):  # type: ignore[misc]
    """Reverses the real steps of each text; padding stays behind them.

    A recurrent layer between two of these reads backward. It needs no mask, with which it could not
    run in the fused kernel.
    """

    def call(self, steps: Any, ids: Any) -> Any:
        """Reverse `steps`, (batch, length, features), by the length of each row of `ids`."""
        position = ops.expand_dims(ops.arange(ops.shape(ids)[1], dtype="int32"), 0)
        mirrored = _count_steps(ids) - 1 - position  # (batch, length)
        order = ops.where(mirrored >= 0, mirrored, position)
        return ops.take_along_axis(steps, ops.expand_dims(order, -1), axis=1)

    def compute_output_shape(self, steps_shape: Shape, ids_shape: Shape) -> Shape:
        """The shape of the steps."""
        return steps_shape


@keras.saving.register_keras_serializable("valence")
class Pool(keras.layers.Layer):  # type: ignore[misc]
    """Pools the states of a text's real steps: (batch, length, units) → (batch, features).

    Attributes:
        pooling: `max` (at least 0), `mean`, `max_mean` (both, concatenated), or `last`: the last
            state of the forward direction, the first of the backward direction.
        bidirectional: Whether the second half of the units read backward.
    """

    def __init__(self, pooling: str, *, bidirectional: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pooling, self.bidirectional = pooling, bidirectional

    def call(self, states: Any, ids: Any) -> Any:
        """Pool where `ids` are not `PAD`."""
        lengths = _count_steps(ids)
        if self.pooling == "last":
            return self._last(states, lengths)
        states = states * _real_steps(ids, states.dtype)
        pooled = []
        if "max" in self.pooling:
            pooled.append(ops.relu(ops.max(states, axis=1)))
        if "mean" in self.pooling:
            pooled.append(ops.sum(states, axis=1) / ops.cast(lengths, states.dtype))
        return ops.concatenate(pooled, axis=-1)

    def _last(self, states: Any, lengths: Any) -> Any:
        last = ops.expand_dims(lengths - 1, -1)  # (batch, 1, 1)
        last = ops.squeeze(ops.take_along_axis(states, last, axis=1), 1)
        if not self.bidirectional:
            return last
        half = states.shape[-1] // 2
        return ops.concatenate([last[:, :half], states[:, 0, half:]], axis=-1)

    def compute_output_shape(self, states_shape: Shape, ids_shape: Shape) -> Shape:
        """(batch, units), or (batch, 2 * units) for `max_mean`."""
        units = cast(int, states_shape[-1])
        return (states_shape[0], 2 * units if self.pooling == "max_mean" else units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {"pooling": self.pooling, "bidirectional": self.bidirectional}
        return {**super().get_config(), **own}


@saved_as("FixedRow")
class PadAndFlatten(RenamedArguments, keras.layers.Layer):  # type: ignore[misc]
    """Lays a text's vectors out in one row: (batch, width, dim) → (batch, length * dim).

    Every text is cut or padded to `length` steps; padding is zeros.
    """

    renamed: ClassVar = {"most": "length"}

    def __init__(self, length: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.length = length

    def call(self, steps: Any, ids: Any) -> Any:
        """Zero the padding, cut or pad, and flatten."""
        steps = steps * _real_steps(ids, steps.dtype)
        batch, _, dim = ops.shape(steps)
        behind = ops.zeros((batch, self.length, dim), steps.dtype)
        full = ops.concatenate([steps, behind], axis=1)[:, : self.length]
        return ops.reshape(full, (-1, self.length * dim))

    def compute_output_shape(self, steps_shape: Shape, ids_shape: Shape) -> Shape:
        """(batch, length * dim)."""
        return (steps_shape[0], self.length * cast(int, steps_shape[-1]))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "length": self.length}


# --- TensorFlow graph ---


def reverse(steps: Any, lengths: Any) -> Any:
    """`Reverse`, with time first."""
    return tf.reverse_sequence(steps, lengths, seq_axis=0, batch_axis=1)


class PoolGraph(tf.Module):  # type: ignore[misc]
    """`Pool` as TensorFlow operations."""

    def __init__(self, layer: Pool) -> None:
        super().__init__()
        self._pooling = str(layer.pooling)

    def __call__(self, directions: Sequence[Any], ids: Any, lengths: Any) -> Any:
        """Pool the states of each direction, (width, batch, units) each.

        Args:
            directions: The states of the forward layer and, if there is one, the backward layer.
            ids: int32 (batch, width), right-padded with `PAD`.
            lengths: int32 (batch,).
        """
        if self._pooling == "last":
            last = tf.gather(tf.transpose(directions[0], [1, 0, 2]), lengths - 1, batch_dims=1)
            return tf.concat([last, *(states[0] for states in directions[1:])], axis=-1)
        real = tf.expand_dims(tf.transpose(ids != PAD), -1)  # (width, batch, 1)
        states = tf.where(real, tf.concat(directions, axis=-1), 0.0)
        pooled = []
        if "max" in self._pooling:
            pooled.append(tf.nn.relu(tf.reduce_max(states, axis=0)))
        if "mean" in self._pooling:
            total = tf.reduce_sum(states, axis=0)
            pooled.append(total / tf.expand_dims(tf.cast(lengths, tf.float32), 1))
        return tf.concat(pooled, axis=1)


class PadAndFlattenGraph(tf.Module):  # type: ignore[misc]
    """`PadAndFlatten` as TensorFlow operations, in two parts: ids before the lookup, then steps."""

    def __init__(self, layer: PadAndFlatten) -> None:
        super().__init__()
        self._length = int(layer.length)

    def pad(self, ids: Any) -> Any:
        """Cut or pad each row of ids: int32 (batch, length)."""
        return tf.pad(ids, [[0, 0], [0, self._length]], constant_values=PAD)[:, : self._length]

    def __call__(self, steps: Any, ids: Any) -> Any:
        """Zero the padding and flatten: (batch, length, dim) → (batch, length * dim)."""
        steps = tf.where(tf.expand_dims(ids == PAD, -1), 0.0, steps)
        return tf.reshape(steps, [-1, self._length * steps.shape[-1]])


# --- ONNX ---

# `Reverse` is the attribute `direction` of a recurrent operator.


def add_pool(graph: GraphWriter, states: str, lengths: str, pooling: str) -> str:
    """`Pool` of (width, batch, units), `last` excepted: that is an output of recurrent operators.

    Recurrent operators leave zeros behind the length of a row. Zeros change neither a sum nor a
    maximum that is at least 0.
    """
    pooled = []
    if "max" in pooling:
        # Half the time of ReduceMax along the first axis, the transposition included.
        steps_last = graph.add("Transpose", states, perm=[1, 2, 0])
        largest = graph.add("Squeeze", graph.add("GlobalMaxPool", steps_last), integers(2))
        pooled.append(graph.add("Relu", largest))
    if "mean" in pooling:
        total = graph.add("ReduceSum", states, integers(0), keepdims=0)
        steps = graph.add("Cast", lengths, to=FLOAT)
        pooled.append(graph.add("Div", total, graph.add("Unsqueeze", steps, integers(1))))
    return graph.add("Concat", *pooled, axis=1) if len(pooled) > 1 else pooled[0]


def add_padded_ids(graph: GraphWriter, ids: str, layer: PadAndFlatten) -> str:
    """Cut or pad each row of ids: int32 (batch, length)."""
    padded = graph.add("Pad", ids, integers(0, 0, 0, layer.length), np.array(PAD, np.int32))
    return graph.add("Slice", padded, integers(0), integers(layer.length), integers(1))


def add_flatten(graph: GraphWriter, steps: str, *, features: int) -> str:
    """(batch, length, dim) → (batch, features); the vector of `PAD` must be 0."""
    return graph.add("Reshape", steps, integers(0, features))  # -1 fails for an empty batch
