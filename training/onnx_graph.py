"""The serving graph as ONNX: what `ServingGraph` computes, for ONNX Runtime.

Written from the weights, because no converter reads a masked Keras graph well: masks become loops
there. Inputs and output are those of the signature `serve_ids`.

Input shape:
    `ids`: int32 (batch, width); what stands behind a row's length is not read.
    `lengths`: int32 (batch,), each from 1 to width.

Output shape:
    `probabilities`: float32 (batch, classes).
"""

from collections.abc import Callable
from typing import Final, Literal

import keras
import numpy as np
import onnx

from app.text.vocabulary import FIRST_WORD, PAD
from training.model import EMBEDDING, LSTM, OUTPUT, hidden_layers
from training.onnx_lstm import SENTINELS, Weights, add_int8_lstm, add_lstm, add_sentinels
from training.onnx_writer import GraphWriter, integers

Precision = Literal["fp32", "int8"]

_PADDED_STATE: Final = np.array(-2, np.float32)
"""Added to a state behind its row's end: states are from -1 to 1, so no maximum is there."""


def precisions(model: keras.Model) -> tuple[Precision, ...]:
    """In which precisions a model can be written. A bag of words has nothing to gain by bytes."""
    return ("fp32", "int8") if model.name == "lstm" else ("fp32",)


def build_onnx(
    model: keras.Model, *, temperature: float, precision: Precision = "fp32"
) -> onnx.ModelProto:
    """Write a trained model of `training.model` as an ONNX graph.

    Args:
        model: Trained, its word vectors rounded to half precision.
        temperature: By which the logits are divided.
        precision: Of the recurrent weights, one of `precisions(model)`.
    """
    layers = [model.get_layer(name).get_weights() for name in hidden_layers(model)]
    layers.append([weights / temperature for weights in model.get_layer(OUTPUT).get_weights()])
    graph = GraphWriter()
    first: dict[str, Callable[[GraphWriter, keras.Model, Weights, Precision], str]] = {
        "bow": _sum_of_words,
        "lstm": _pooled_states,
    }
    kernel, bias = layers[0]
    features = graph.add("Add", first[model.name](graph, model, kernel, precision), bias)
    for kernel, bias in layers[1:]:
        features = graph.add("Gemm", graph.add("Relu", features), kernel, bias)  # (batch, units)
    return graph.finish(graph.add("Softmax", features, axis=-1), classes=len(layers[-1][1]))


def _sum_of_words(
    graph: GraphWriter, model: keras.Model, kernel: Weights, _precision: Precision
) -> str:
    """Word presence times `kernel`, as the sum of the rows of the words that are there.

    A word counts once however often it stands. So each position writes its number into the cell of
    its word, where the highest stays, and only a position that finds its own number there counts.
    """
    rows = kernel.copy()
    rows[:FIRST_WORD] = 0  # padding, the beginning and unknown words are no words
    positions = _positions(graph)  # (width,)
    real = graph.add("Less", positions, graph.add("Unsqueeze", "lengths", integers(1)))
    ids = graph.add("Where", real, "ids", np.array(PAD, np.int32))  # (batch, width)
    batch = graph.add("Shape", "ids", start=0, end=1)
    cells = graph.add("Concat", batch, integers(len(rows)), axis=0)
    empty = graph.add("Expand", np.array(-1, np.int32), cells)  # (batch, vocabulary)
    numbers = graph.add("Expand", positions, graph.add("Shape", "ids"))  # (batch, width)
    last = graph.add("ScatterElements", empty, ids, numbers, axis=1, reduction="max")
    counts = graph.add("Equal", graph.add("GatherElements", last, ids, axis=1), positions)
    words = graph.add("Where", counts, ids, np.array(PAD, np.int32))
    return graph.add(
        "ReduceSum", graph.add("Gather", rows, words), integers(1), keepdims=0
    )  # (batch, units)


def _pooled_states(
    graph: GraphWriter, model: keras.Model, kernel: Weights, precision: Precision
) -> str:
    """Maximum and mean of the LSTM's states over the real steps, times `kernel`."""
    positions = graph.add("Unsqueeze", _positions(graph), integers(1))
    real = graph.add("Less", positions, "lengths")  # (width, batch)
    ids = graph.add("Transpose", "ids", perm=[1, 0])
    ids = graph.add("Where", real, ids, np.array(PAD, np.int32))
    # Half precision halves the file, and the memory: rows are widened after they were looked up.
    vectors = model.get_layer(EMBEDDING).vectors.astype(np.float16)
    if precision == "int8":
        vectors = add_sentinels(vectors)
        kernel = _ignore_sentinels(kernel)
    words = graph.add("Cast", graph.add("Gather", vectors, ids), to=onnx.TensorProto.FLOAT)
    run = add_int8_lstm if precision == "int8" else add_lstm
    states = run(graph, model.get_layer(LSTM), words, "lengths")  # (width, batch, units)

    mask = graph.add("Unsqueeze", graph.add("Cast", real, to=onnx.TensorProto.FLOAT), integers(2))
    below = graph.add("Mul", graph.add("Sub", np.array(1, np.float32), mask), _PADDED_STATE)
    highest = graph.add("ReduceMax", graph.add("Add", states, below), integers(0), keepdims=0)
    total = graph.add("ReduceSum", graph.add("Mul", states, mask), integers(0), keepdims=0)
    steps = graph.add("Cast", "lengths", to=onnx.TensorProto.FLOAT)
    mean = graph.add("Div", total, graph.add("Unsqueeze", steps, integers(1)))
    pooled = graph.add("Concat", highest, mean, axis=1)  # (batch, 2 * units)
    return graph.add("MatMul", pooled, kernel)


def _ignore_sentinels(kernel: Weights) -> Weights:
    """Rows of 0 for the units that were added, in each of the two poolings."""
    poolings = kernel.reshape(2, -1, kernel.shape[1])
    return np.pad(poolings, [(0, 0), (0, SENTINELS), (0, 0)]).reshape(-1, kernel.shape[1])


def _positions(graph: GraphWriter) -> str:
    """0, 1, 2, ... as int32 of shape (width,)."""
    width = graph.add("Squeeze", graph.add("Shape", "ids", start=1, end=2), integers(0))
    width = graph.add("Cast", width, to=onnx.TensorProto.INT32)
    return graph.add("Range", np.array(0, np.int32), width, np.array(1, np.int32))
