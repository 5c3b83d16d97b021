"""An LSTM layer as ONNX, in single precision or with weights of one byte.

**One byte, one answer.** `DynamicQuantizeLSTM` keeps the weights as bytes and rounds its inputs to
bytes as well, over the range that it finds in the whole batch: a text would be rounded otherwise,
and answered otherwise, beside other neighbours. So the graph fixes both ranges by itself:

* Every word's vector gets two more columns, the largest magnitude of the table and its negative.
  Whichever words meet in a batch, the range of the inputs is that of the table.
* The layer gets two more units whose gates are held open. Their cells are t and -t after step t.
  No cell can be larger, because no step adds more than 1, and so no state is outside of theirs:
  the range of the states is [-tanh(t), tanh(t)], whatever was read.

The weights from the columns and units that were added are 0, so nothing else comes of them. They
cost about a tenth of the speed.

**Seven bits.** Processors without VNNI add pairs of products in 16 bits, which an 8-bit weight can
overflow, silently. With 7 bits none can, and every processor finds the same sums.

Source:
    Gates: Keras has i, f, c, o; ONNX has i, o, f, c (operator LSTM). Overflow: ONNX Runtime,
    "Quantize ONNX models", on U8S8 and `reduce_range`.
"""

from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from training.onnx_writer import GraphWriter, integers

Weights = NDArray[np.float32]

SENTINELS: Final = 2
"""Columns and units that are added to fix a range: its upper and its lower end."""

_LARGEST: Final = 63  # of seven bits with a sign
_HELD_OPEN: Final = 30.0  # sigmoid and tanh of it are 1 in single precision


def add_lstm(graph: GraphWriter, layer: keras.layers.LSTM, words: str, lengths: str) -> str:
    """Run an LSTM over rows of unequal length.

    Args:
        graph: Gets the node.
        layer: Whose weights to take.
        words: float32 of shape (width, batch, embedding).
        lengths: int32 of shape (batch,); steps behind them are not run.

    Returns:
        The states, float32 of shape (width, batch, units).
    """
    kernel, recurrent, bias = map(_reorder, layer.get_weights())
    states = graph.add(
        "LSTM",
        words,
        kernel.T[np.newaxis],  # (directions, 4 * units, embedding)
        recurrent.T[np.newaxis],
        np.concatenate([bias, np.zeros_like(bias)])[np.newaxis],  # ONNX has two; Keras adds one
        lengths,
        hidden_size=len(recurrent),
    )
    return graph.add("Squeeze", states, integers(1))


def add_int8_lstm(graph: GraphWriter, layer: keras.layers.LSTM, words: str, lengths: str) -> str:
    """Run an LSTM whose weights are bytes; see `add_lstm`.

    Args:
        graph: Gets the node.
        layer: Whose weights to take.
        words: float32 of shape (width, batch, embedding + SENTINELS), see `add_sentinels`.
        lengths: int32 of shape (batch,).

    Returns:
        The states, float32 of shape (width, batch, units + SENTINELS).
    """
    kernel, recurrent, bias = layer.get_weights()
    units = len(recurrent)
    ends = np.zeros((4, SENTINELS), np.float32) + np.float32(_HELD_OPEN)
    ends[2, 1] = -_HELD_OPEN  # what the second unit adds to its cell is -1
    bias = _reorder(np.concatenate([bias.reshape(4, units), ends], axis=1).ravel())
    kernel, kernel_scale = _quantize(_reorder(_widen(kernel)))
    recurrent, recurrent_scale = _quantize(_reorder(_widen(recurrent)))
    zeros = np.zeros(kernel_scale.shape, np.int8)
    states = graph.add(
        "DynamicQuantizeLSTM",
        *(words, kernel, recurrent, np.concatenate([bias, np.zeros_like(bias)])[np.newaxis]),
        *(lengths, "", "", ""),  # states that start at 0, and no peepholes
        *(kernel_scale, zeros, recurrent_scale, zeros),
        microsoft=True,
        hidden_size=units + SENTINELS,
    )
    return graph.add("Squeeze", states, integers(1))


def add_sentinels(vectors: NDArray[Any]) -> NDArray[Any]:
    """Word vectors whose range is the same in every row: (ids, width) → (ids, width + 2)."""
    largest = np.abs(vectors).max()
    ends = np.broadcast_to(np.array([largest, -largest], vectors.dtype), (len(vectors), SENTINELS))
    return np.concatenate([vectors, ends], axis=1)


def _reorder(weights: Weights) -> Weights:
    """Gates as ONNX has them, along the last axis: i, f, c, o → i, o, f, c."""
    i, f, c, o = np.split(weights, 4, axis=-1)
    return np.concatenate([i, o, f, c], axis=-1)


def _widen(weights: Weights) -> Weights:
    """Zeros for the sentinels: (rows, 4 * units) → (rows + 2, 4 * (units + 2))."""
    rows = len(weights)
    gates = np.pad(weights.reshape(rows, 4, -1), [(0, SENTINELS), (0, 0), (0, SENTINELS)])
    return gates.reshape(rows + SENTINELS, -1)


def _quantize(weights: Weights) -> tuple[NDArray[np.int8], Weights]:
    """Weights as bytes with a scale for each column.

    Args:
        weights: (rows, columns).

    Returns:
        int8 of shape (1, rows, columns) and float32 of shape (1, columns), whose product is close
        to `weights`; 0 stays 0.
    """
    scale = np.abs(weights).max(axis=0) / np.float32(_LARGEST)
    scale[scale == 0] = 1  # the sentinels' own
    quantized = np.rint(weights / scale).astype(np.int8)
    return quantized[np.newaxis], scale[np.newaxis]
