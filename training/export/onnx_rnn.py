"""Recurrent layers as ONNX, in single precision or, an LSTM, with weights of one byte.

**One byte, one answer.** `DynamicQuantizeLSTM` keeps the weights as bytes and rounds its inputs to
bytes as well, over the range that it finds in the whole batch: a text would be rounded otherwise,
and answered otherwise, beside other neighbours. So the graph fixes both ranges by itself:

* What a layer reads gets two more columns, the ends of its range. For word vectors these are the
  largest magnitude of the table and its negative, whichever words meet in a batch, and 1 at least
  where known n-grams stand beside them; for the states of another layer they are 1 and -1.
* The layer gets two more units whose gates are held open. Their cells are t and -t after step t.
  No cell can be larger, because no step adds more than 1, and so no state is outside of theirs:
  the range of the states is [-tanh(t), tanh(t)], whatever was read.

The weights from the columns and units that were added are 0, so nothing else comes of them. They
cost about a tenth of the speed.

**Seven bits.** Processors without VNNI add pairs of products in 16 bits, which an 8-bit weight can
overflow, silently. With 7 bits none can, and every processor finds the same sums.

Source:
    Gates: Keras has i, f, c, o; ONNX has i, o, f, c (operator LSTM). Those of a GRU stand alike; r
    is applied after the multiplication (`linear_before_reset`). Overflow: ONNX Runtime, "Quantize
    ONNX models", on U8S8 and `reduce_range`.
"""

from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
from numpy.typing import NDArray

from training.export.onnx_writer import GraphWriter, integers
from training.models.fused_lstm import FusedLSTM

Weights = NDArray[np.float32]


Directions = Sequence[keras.layers.RNN]
"""A layer that reads forward, and perhaps one that reads backward."""


SENTINELS: Final = 2
"""Columns and units that are added to fix a range: its upper and its lower end."""


_LARGEST: Final = 63  # of seven bits with a sign


_HELD_OPEN: Final = 30.0  # sigmoid and tanh of it are 1 in single precision


def add_states(
    graph: GraphWriter, directions: Directions, steps: str, lengths: str, *, last: bool = False
) -> str:
    """Run a recurrent layer over rows of unequal length.

    Args:
        graph: Gets the nodes.
        directions: Whose weights to take.
        steps: float32 of shape (width, batch, inputs).
        lengths: int32 of shape (batch,); steps behind them are not run.
        last: Whether the last state of each direction is wanted alone.

    Returns:
        The states, float32 of shape (width, batch, units), those of the second direction behind
        those of the first; or their last ones, of shape (batch, units).
    """
    operator, attributes = _OPERATORS[type(directions[0])]
    matrices = [_matrices(layer) for layer in directions]
    kernels, recurrents, biases = (np.stack(parts) for parts in zip(*matrices, strict=True))
    states = graph.add(
        operator,
        steps,
        kernels.transpose(0, 2, 1),  # (directions, gates * units, inputs)
        recurrents.transpose(0, 2, 1),
        biases,
        lengths,
        output=int(last),
        hidden_size=recurrents.shape[1],
        direction=_direction(directions),
        **attributes,
    )
    return _side_by_side(graph, states, recurrents.shape[1], directions=len(directions), last=last)


def add_int8_states(
    graph: GraphWriter,
    directions: Directions,
    steps: str,
    lengths: str,
    *,
    above: int = 0,
    last: bool = False,
) -> str:
    """Run an LSTM whose weights are bytes; see `add_states`.

    Args:
        graph: Gets the nodes.
        directions: Whose weights to take.
        steps: What this function gave for the layer before; or word vectors, float32 of shape
            (width, batch, features + SENTINELS), see `add_sentinels`.
        lengths: int32 of shape (batch,).
        above: Directions of the layer before; 0 where word vectors are read.
        last: Whether the last state of each direction is wanted alone.

    Returns:
        As `add_states`, with `SENTINELS` more units behind those of each direction.
    """
    if above:
        for end in (1, -1):
            one_column = integers(0, 0, 0, 0, 0, 1)
            steps = graph.add("Pad", steps, one_column, np.array(end, np.float32))
    matrices = []
    for layer in directions:
        kernel, recurrent, bias = layer.get_weights()
        kernel = ignore_sentinels(kernel, parts=above or 1)
        kernel = np.pad(kernel, [(0, SENTINELS if above else 0), (0, 0)])
        recurrent = ignore_sentinels(recurrent, parts=1)
        ends = np.zeros((4, SENTINELS), np.float32) + np.float32(_HELD_OPEN)
        ends[2, 1] = -_HELD_OPEN  # what the second unit adds to its cell is -1
        bias = _reorder(np.concatenate([bias.reshape(4, -1), ends], axis=1).ravel())
        matrices.append(
            (
                *_quantize(_reorder(_widen(kernel))),
                *_quantize(_reorder(_widen(recurrent))),
                np.concatenate([bias, np.zeros_like(bias)]),
            )
        )
    kernels, kernel_scales, recurrents, recurrent_scales, biases = (
        np.stack(parts) for parts in zip(*matrices, strict=True)
    )
    zeros = np.zeros(kernel_scales.shape, np.int8)
    states = graph.add(
        "DynamicQuantizeLSTM",
        *(steps, kernels, recurrents, biases),
        *(lengths, "", "", ""),  # states that start at 0, and no peepholes
        *(kernel_scales, zeros, recurrent_scales, zeros),
        microsoft=True,
        output=int(last),
        hidden_size=recurrents.shape[1],
        direction=_direction(directions),
    )
    return _side_by_side(graph, states, recurrents.shape[1], directions=len(directions), last=last)


def add_sentinels(vectors: NDArray[Any], *, least: float = 0.0) -> NDArray[Any]:
    """Word vectors whose range is the same in every row: (ids, width) → (ids, width + 2).

    Args:
        vectors: Of words.
        least: How large what stands beside them may be.
    """
    largest = max(np.abs(vectors).max(), least)
    ends = np.broadcast_to(np.array([largest, -largest], vectors.dtype), (len(vectors), SENTINELS))
    return np.concatenate([vectors, ends], axis=1)


def ignore_sentinels(kernel: Weights, *, parts: int) -> Weights:
    """Rows of 0 for the columns that were added behind each of the parts of what is read."""
    split = kernel.reshape(parts, -1, kernel.shape[1])
    return np.pad(split, [(0, 0), (0, SENTINELS), (0, 0)]).reshape(-1, kernel.shape[1])


def _matrices(layer: keras.layers.RNN) -> tuple[Weights, Weights, Weights]:
    """Kernel and recurrent kernel of one direction, and its two biases one behind the other."""
    kernel, recurrent, bias = layer.get_weights()
    if isinstance(layer, keras.layers.LSTM):
        kernel, recurrent, bias = map(_reorder, (kernel, recurrent, bias))
    # ONNX has two biases; only Keras' GRU has them too.
    both = bias.ravel() if bias.ndim == 2 else np.concatenate([bias, np.zeros_like(bias)])
    return kernel, recurrent, both


def _direction(directions: Directions) -> str:
    return "bidirectional" if len(directions) == 2 else "forward"


def _side_by_side(
    graph: GraphWriter, states: str, units: int, *, directions: int, last: bool
) -> str:
    """(width, directions, batch, units) → (width, batch, all units); without width if `last`."""
    if directions == 1:
        return graph.add("Squeeze", states, integers(0 if last else 1))
    order, shape = ([1, 0, 2], [-1]) if last else ([0, 2, 1, 3], [0, 0])
    turned = graph.add("Transpose", states, perm=order)
    return graph.add("Reshape", turned, integers(*shape, directions * units))


def _reorder(weights: Weights) -> Weights:
    """Gates as ONNX has them, along the last axis: i, f, c, o → i, o, f, c."""
    i, f, c, o = np.split(weights, 4, axis=-1)
    return np.concatenate([i, o, f, c], axis=-1)


def _widen(weights: Weights) -> Weights:
    """Columns of 0 for the units that were added: (rows, 4 * units) → (rows, 4 * (units + 2))."""
    rows = len(weights)
    gates = np.pad(weights.reshape(rows, 4, -1), [(0, 0), (0, 0), (0, SENTINELS)])
    return gates.reshape(rows, -1)


def _quantize(weights: Weights) -> tuple[NDArray[np.int8], Weights]:
    """Weights as bytes with a scale for each column.

    Args:
        weights: (rows, columns).

    Returns:
        int8 of shape (rows, columns) and float32 of shape (columns,), whose product is close to
        `weights`; 0 stays 0.
    """
    scale = np.abs(weights).max(axis=0) / np.float32(_LARGEST)
    scale[scale == 0] = 1  # the sentinels' own
    return np.rint(weights / scale).astype(np.int8), scale


_OPERATORS: Final[dict[type, tuple[str, dict[str, Any]]]] = {
    keras.layers.SimpleRNN: ("RNN", {}),
    FusedLSTM: ("LSTM", {}),
    keras.layers.GRU: ("GRU", {"linear_before_reset": 1}),
}
"""Of a layer: how ONNX calls it, and what is to be said beside its weights."""
