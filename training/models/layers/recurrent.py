"""Recurrent layers of any cell: the table of cells, and how ONNX runs them.

A layer is one Keras layer that reads forward or two, of which the second reads backward.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from training.models.layers.gru import GRUGraph, gru_weights
from training.models.layers.lstm import FusedLSTM, LSTMGraph, lstm_weights
from training.models.layers.simple_rnn import SimpleRNNGraph, simple_rnn_weights
from training.models.onnx_writer import GraphWriter, integers
from training.support.arrays import Float32Array

Directions = Sequence[keras.layers.RNN]
"""The layer that reads forward and, if there is one, the layer that reads backward."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The three forms of a recurrent layer.

    Attributes:
        keras: The Keras layer.
        graph: Builds the TensorFlow operations from the Keras layer.
        operator: The ONNX operator.
        onnx_weights: Kernel (features, gates * units), recurrent kernel (units, gates * units) and
            biases (2 * gates * units,) of a Keras layer, in ONNX's order of gates.
        onnx_attributes: Attributes of the operator.
    """

    keras: type[keras.layers.RNN]
    graph: Callable[[Any], tf.Module]
    operator: str
    onnx_weights: Callable[[Any], tuple[Float32Array, Float32Array, Float32Array]]
    onnx_attributes: dict[str, Any] = field(default_factory=dict)


CELLS: Final = {
    "simple": Cell(keras.layers.SimpleRNN, SimpleRNNGraph, "RNN", simple_rnn_weights),
    "lstm": Cell(FusedLSTM, LSTMGraph, "LSTM", lstm_weights),
    "gru": Cell(keras.layers.GRU, GRUGraph, "GRU", gru_weights, {"linear_before_reset": 1}),
}
"""Every cell that `Config` may name."""


def cell_of(layer: keras.layers.RNN) -> Cell:
    """The cell of a Keras layer."""
    return next(cell for cell in CELLS.values() if type(layer) is cell.keras)


# --- ONNX ---


def add_states(
    graph: GraphWriter,
    directions: Directions,
    steps: str,
    lengths: str,
    *,
    scale: Float32Array | None = None,
    last: bool = False,
) -> str:
    """Run a recurrent layer over rows of unequal length; steps behind a row's end are not run.

    Args:
        graph: Receives the nodes.
        directions: The Keras layers.
        steps: float32 (width, batch, features).
        lengths: int32 (batch,), each from 1 to width.
        scale: What each feature is to be multiplied by, float32 (features,).
        last: Whether to return only the last state of each direction.

    Returns:
        The states, float32 (width, batch, units), backward units behind forward units; with `last`
        (batch, units).
    """
    cell = cell_of(directions[0])
    weights = [cell.onnx_weights(layer) for layer in directions]
    kernels, recurrents, biases = (np.stack(parts) for parts in zip(*weights, strict=True))
    if scale is not None:
        kernels = kernels * scale[:, np.newaxis]
    states = graph.add(
        cell.operator,
        steps,
        kernels.transpose(0, 2, 1),  # (directions, gates * units, features)
        recurrents.transpose(0, 2, 1),
        biases,
        lengths,
        output=int(last),
        hidden_size=recurrents.shape[1],
        direction=onnx_direction(directions),
        **cell.onnx_attributes,
    )
    return concatenate_directions(graph, states, directions, recurrents.shape[1], last=last)


def onnx_direction(directions: Directions) -> str:
    """The attribute `direction` of a recurrent operator."""
    return "bidirectional" if len(directions) == 2 else "forward"


def concatenate_directions(
    graph: GraphWriter, states: str, directions: Directions, units: int, *, last: bool
) -> str:
    """(width, directions, batch, units) → (width, batch, all units); without width if `last`."""
    if len(directions) == 1:
        return graph.add("Squeeze", states, integers(0 if last else 1))
    order, shape = ([1, 0, 2], [-1]) if last else ([0, 2, 1, 3], [0, 0])
    transposed = graph.add("Transpose", states, perm=order)
    return graph.add("Reshape", transposed, integers(*shape, len(directions) * units))
