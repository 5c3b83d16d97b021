"""An LSTM with int8 weights, as ONNX Runtime runs it.

**An answer that does not depend on the batch.** `DynamicQuantizeLSTM` has int8 weights and also
quantizes its inputs and states, over the range that it finds in the whole batch. A text would be
rounded differently, and scored differently, in another batch. So the graph fixes both ranges with
sentinels:

* The inputs get two more columns that hold the ends of their range. Inputs are the codes of
  embeddings, from -127 to 127 (`int8_table`), and the ends are -128 and 127, so that quantizing
  them again changes none. For the states of another layer they are 1 and -1.
* The layer gets two more units whose gates are held open. Their cells are t and -t after step t. No
  step adds more than 1 to a cell, so no other cell is larger, and the range of the states is
  [-tanh(t), tanh(t)] whatever the text.

All weights from sentinels to real units are 0, so they change no result. They cost about a tenth of
the speed.

**Seven bits.** Processors without VNNI add pairs of products in 16 bits, and 8-bit weights can
overflow those silently. 7-bit weights cannot, so every processor computes the same sums.

Source:
    ONNX Runtime, "Quantize ONNX models", on U8S8 and `reduce_range`.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.models.layers.int8_table import Codes
from training.models.layers.lstm import FusedLSTM, reorder_gates
from training.models.layers.recurrent import Directions, concatenate_directions, onnx_direction
from training.models.onnx_writer import GraphWriter, integers
from training.support.arrays import Float32Array

SENTINELS: Final = 2
"""Columns or units that are added to fix a range: its upper and its lower end."""

_CODE_ENDS: Final = (127, -128)
_LARGEST: Final = 63  # 7 bits with sign
_HELD_OPEN: Final = 30.0  # its sigmoid and its tanh are 1 in single precision


def add_int8_states(
    graph: GraphWriter,
    directions: Directions,
    steps: str,
    lengths: str,
    *,
    scale: Float32Array | None = None,
    below: int = 0,
    last: bool = False,
) -> str:
    """Run an LSTM with int8 weights; see `add_states`.

    Args:
        graph: Receives the nodes.
        directions: The Keras layers.
        steps: The result of this function for the layer below; or, for the lowest layer, float32
            (width, batch, features + SENTINELS), see `add_sentinels`.
        lengths: int32 (batch,), each from 1 to width.
        scale: What each feature of the lowest layer is to be multiplied by, float32 (features,).
        below: Directions of the layer below; 0 for the lowest layer.
        last: Whether to return only the last state of each direction.

    Returns:
        See `add_states`, with `SENTINELS` more units behind those of each direction.
    """
    if below:
        for end in (1, -1):
            one_column = integers(0, 0, 0, 0, 0, 1)
            steps = graph.add("Pad", steps, one_column, np.array(end, np.float32))
    weights = [_int8_weights(layer, scale, below=below) for layer in directions]
    kernels, kernel_scales, recurrents, recurrent_scales, biases = (
        np.stack(parts) for parts in zip(*weights, strict=True)
    )
    zeros = np.zeros(kernel_scales.shape, np.int8)
    states = graph.add(
        "DynamicQuantizeLSTM",
        *(steps, kernels, recurrents, biases),
        *(lengths, "", "", ""),  # initial states of 0, no peepholes
        *(kernel_scales, zeros, recurrent_scales, zeros),
        microsoft=True,
        output=int(last),
        hidden_size=recurrents.shape[1],
        direction=onnx_direction(directions),
    )
    return concatenate_directions(graph, states, directions, recurrents.shape[1], last=last)


def add_sentinels(codes: Codes) -> Codes:
    """Append the ends of the range of codes to every row: (ids, dim) → (ids, dim + 2)."""
    ends = np.broadcast_to(np.array(_CODE_ENDS, np.int8), (len(codes), SENTINELS))
    return np.concatenate([codes, ends], axis=1)


def ignore_sentinels(kernel: Float32Array, *, parts: int) -> Float32Array:
    """Add rows of 0 to a kernel, for the sentinels behind each of the `parts` of its input."""
    split = kernel.reshape(parts, -1, kernel.shape[1])
    return np.pad(split, [(0, 0), (0, SENTINELS), (0, 0)]).reshape(-1, kernel.shape[1])


def _int8_weights(
    layer: FusedLSTM, scale: Float32Array | None, *, below: int
) -> tuple[NDArray[Any], ...]:
    """Quantized kernel and its scale, the same of the recurrent kernel, and both biases."""
    kernel, recurrent, bias = layer.get_weights()
    kernel = kernel if scale is None else kernel * scale[:, np.newaxis]
    kernel = ignore_sentinels(kernel, parts=below or 1)
    kernel = np.pad(kernel, [(0, SENTINELS if below else 0), (0, 0)])
    recurrent = ignore_sentinels(recurrent, parts=1)
    held_open = np.full((4, SENTINELS), _HELD_OPEN, np.float32)
    held_open[2, 1] = -_HELD_OPEN  # the second unit's candidate is -1
    bias = reorder_gates(np.concatenate([bias.reshape(4, -1), held_open], axis=1).ravel())
    return (
        *_quantize(reorder_gates(_widen(kernel))),
        *_quantize(reorder_gates(_widen(recurrent))),
        np.concatenate([bias, np.zeros_like(bias)]),
    )


def _widen(weights: Float32Array) -> Float32Array:
    """Add columns of 0 for the sentinel units: (rows, 4 * units) → (rows, 4 * (units + 2))."""
    rows = len(weights)
    gates = np.pad(weights.reshape(rows, 4, -1), [(0, 0), (0, 0), (0, SENTINELS)])
    return gates.reshape(rows, -1)


def _quantize(weights: Float32Array) -> tuple[NDArray[np.int8], Float32Array]:
    """Quantize weights with one scale per column, symmetrically: 0 stays 0.

    Args:
        weights: (rows, columns).

    Returns:
        int8 (rows, columns) and float32 (columns,), whose product approximates `weights`.
    """
    scale = np.abs(weights).max(axis=0) / np.float32(_LARGEST)
    scale[scale == 0] = 1  # columns of sentinel units
    return np.rint(weights / scale).astype(np.int8), scale
