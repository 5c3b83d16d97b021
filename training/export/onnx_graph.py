"""The serving graph as ONNX: what `ServingGraph` computes, for ONNX Runtime.

Written from the weights, because no converter reads a masked Keras graph well: masks become loops
there. Inputs and output are those of the signature `serve_ids`.

Input shape:
    `ids`: int32 (batch, width); what stands behind a row's length is not read.
    `lengths`: int32 (batch,), each from 1 to width.

Output shape:
    `probabilities`: float32 (batch, classes).
"""

from typing import Final, Literal

import keras
import numpy as np
import onnx
from numpy.typing import NDArray

from app.text.padding import Int32Array
from app.text.vocabulary import FIRST_WORD, PAD
from training.export.onnx_rnn import (
    Weights,
    add_int8_states,
    add_sentinels,
    add_states,
    ignore_sentinels,
)
from training.export.onnx_writer import GraphWriter, integers
from training.features.ngram_hashing import NEVER
from training.features.ngram_vectors import known_numbers
from training.models.build import (
    EMBEDDING,
    KNOWN,
    NGRAMS,
    OUTPUT,
    POOL,
    ROW,
    has_layer,
    hidden_layers,
    recurrent_layers,
)
from training.models.layers import NgramSum

Precision = Literal["fp32", "int8"]


Table = NDArray[np.float16]


_PAD: Final = np.array(PAD, np.int32)


def precisions(model: keras.Model) -> tuple[Precision, ...]:
    """In which precisions a model can be written: ONNX Runtime has an LSTM of bytes, no other."""
    layers = recurrent_layers(model)
    has_lstm = bool(layers) and isinstance(layers[0][0], keras.layers.LSTM)
    return ("fp32", "int8") if has_lstm else ("fp32",)


def build_onnx(
    model: keras.Model, *, temperature: float, precision: Precision = "fp32"
) -> onnx.ModelProto:
    """Write a trained model of `training.models.build` as an ONNX graph.

    Args:
        model: Trained, its word vectors rounded to half precision.
        temperature: By which the logits are divided.
        precision: Of the recurrent weights, one of `precisions(model)`.
    """
    hidden = hidden_layers(model)
    layers = [layer.get_weights() for layer in hidden]
    layers.append([weights / temperature for weights in model.get_layer(OUTPUT).get_weights()])
    graph = GraphWriter()
    ids = _real_ids(graph)
    kernel, bias = layers[0]
    if model.name == "bow":
        product = _sum_of_words(graph, ids, kernel)
    elif model.name == "embedding":
        product = graph.add("MatMul", _fixed_row(graph, ids, model), kernel)
    else:
        product = _pooled_states(graph, ids, model, kernel, precision)
    features = graph.add("Add", product, bias)
    for layer, (kernel, bias) in zip(hidden, layers[1:], strict=True):
        operator = layer.activation.__name__.capitalize()  # ONNX calls them as Keras does
        features = graph.add("Gemm", graph.add(operator, features), kernel, bias)  # (batch, units)
    if has_layer(model, NGRAMS):
        ngrams = _sum_of_ngrams(graph, ids, model.get_layer(NGRAMS), temperature)
        features = graph.add("Add", features, ngrams)
    return graph.finish(graph.add("Softmax", features, axis=-1), classes=len(layers[-1][1]))


def _real_ids(graph: GraphWriter) -> str:
    """The ids, with `PAD` behind each row's length whatever stood there: int32 (batch, width)."""
    real = graph.add("Less", _positions(graph), graph.add("Unsqueeze", "lengths", integers(1)))
    return graph.add("Where", real, "ids", _PAD)


def _sum_of_words(graph: GraphWriter, ids: str, kernel: Weights) -> str:
    """Word presence times `kernel`, as the sum of the rows of the words that are there.

    A word counts once however often it stands. So each position writes its number into the cell of
    its word, where the highest stays, and only a position that finds its own number there counts.
    """
    rows = kernel.copy()
    rows[:FIRST_WORD] = 0  # padding, the beginning and unknown words are no words
    positions = _positions(graph)  # (width,)
    batch = graph.add("Shape", "ids", start=0, end=1)
    cells = graph.add("Concat", batch, integers(len(rows)), axis=0)
    empty = graph.add("Expand", np.array(-1, np.int32), cells)  # (batch, vocabulary)
    numbers = graph.add("Expand", positions, graph.add("Shape", "ids"))  # (batch, width)
    last = graph.add("ScatterElements", empty, ids, numbers, axis=1, reduction="max")
    counts = graph.add("Equal", graph.add("GatherElements", last, ids, axis=1), positions)
    words = graph.add("Where", counts, ids, _PAD)
    return graph.add(
        "ReduceSum", graph.add("Gather", rows, words), integers(1), keepdims=0
    )  # (batch, units)


def _fixed_row(graph: GraphWriter, ids: str, model: keras.Model) -> str:
    """The vectors of a text one behind the other, zeros behind them: (batch, most * features)."""
    most = int(model.get_layer(ROW).most)
    vectors = _vectors(model)
    vectors[PAD] = 0
    full = graph.add("Pad", ids, integers(0, 0, 0, most), _PAD)
    full = graph.add("Slice", full, integers(0), integers(most), integers(1))
    words = _look_up(graph, full, vectors, model, time=1)
    return graph.add("Reshape", words, integers(0, -1))


def _pooled_states(
    graph: GraphWriter, ids: str, model: keras.Model, kernel: Weights, precision: Precision
) -> str:
    """What the states of the last recurrent layer come to, times `kernel`."""
    layers = recurrent_layers(model)
    pooling = str(model.get_layer(POOL).pooling)
    vectors = _vectors(model)
    if precision == "int8":
        # What is known of n-grams is a hyperbolic tangent: 1 at most.
        vectors = add_sentinels(vectors, least=float(has_layer(model, KNOWN)))
        poolings = 2 if pooling == "max_mean" else 1
        kernel = ignore_sentinels(kernel, parts=poolings * len(layers[-1]))
    turned = graph.add("Transpose", ids, perm=[1, 0])
    states = _look_up(graph, turned, vectors, model, time=0)  # (width, batch, features)
    for index, directions in enumerate(layers):
        last = pooling == "last" and index == len(layers) - 1
        if precision == "int8":
            above = len(layers[index - 1]) if index else 0
            states = add_int8_states(graph, directions, states, "lengths", above=above, last=last)
        else:
            states = add_states(graph, directions, states, "lengths", last=last)
    pooled = states if pooling == "last" else _pool(graph, states, pooling)
    return graph.add("MatMul", pooled, kernel)


def _pool(graph: GraphWriter, states: str, pooling: str) -> str:
    """Maximum, mean or both over the real steps: (width, batch, units) → (batch, features).

    Recurrent layers of ONNX leave zeros behind the lengths of rows, which change neither a sum nor
    a maximum that is 0 at least.
    """
    pooled = []
    if "max" in pooling:
        pooled.append(graph.add("Relu", graph.add("ReduceMax", states, integers(0), keepdims=0)))
    if "mean" in pooling:
        total = graph.add("ReduceSum", states, integers(0), keepdims=0)
        steps = graph.add("Cast", "lengths", to=onnx.TensorProto.FLOAT)
        pooled.append(graph.add("Div", total, graph.add("Unsqueeze", steps, integers(1))))
    return graph.add("Concat", *pooled, axis=1) if len(pooled) > 1 else pooled[0]


def _sum_of_ngrams(graph: GraphWriter, ids: str, layer: NgramSum, temperature: float) -> str:
    """What a text's n-grams add to the logits, as `NgramSum` has it: (batch, classes)."""
    turned = graph.add("Transpose", ids, perm=[1, 0])
    rows = _rows_of_ngrams(graph, turned, layer.numbers, layer.buckets, layer.table, time=0)
    total = graph.add("Concat", *(row for row, _ in rows), axis=0)  # (orders * width, batch, ...)
    total = graph.add("ReduceSum", total, integers(0), keepdims=0)
    there = graph.add("Concat", *(there for _, there in rows), axis=0)
    ones = graph.add("Cast", there, to=onnx.TensorProto.FLOAT)
    count = graph.add("ReduceSum", ones, integers(0), keepdims=0)
    count = graph.add("Unsqueeze", graph.add("Max", count, np.array(1, np.float32)), integers(1))
    total = graph.add("Mul", total, np.array(1 / temperature, np.float32))
    return graph.add("Div", total, graph.add("Sqrt", count))


def _rows_of_ngrams(
    graph: GraphWriter,
    ids: str,
    numbers: Int32Array,
    buckets: int,
    table: Weights | Table,
    *,
    place: Int32Array | None = None,
    time: int,
) -> list[tuple[str, str]]:
    """The row of a table of the n-gram of each order that ends at each id, and where one does.

    Sums of numbers are not cut before they are looked up: every table finds its rows from the same
    ones, so that they are added up once. Words need none of that, but a table by id.

    Args:
        graph: Gets the nodes.
        ids: Of two axes.
        numbers: Of the table, as `draw_numbers` has them.
        buckets: Of the table.
        table: Rows, stored in half precision.
        place: Which row a bucket has, where that is not its own.
        time: Along which axis the ids of a text stand.

    Returns:
        For each order float32 (*ids.shape, columns), 0 where no n-gram ends; and truth values.
    """
    orders, vocabulary = numbers.shape
    if place is None:
        of_words = table[numbers[0] & (buckets - 1)]
    else:
        of_words = table[place[numbers[0] & (buckets - 1)]]
        place = np.append(place, np.int32(len(table)))
    behind = np.pad(table, [(0, 1), (0, 0)]).astype(np.float16)
    of_words[:FIRST_WORD] = 0
    word = graph.add("GreaterOrEqual", ids, np.array(FIRST_WORD, np.int32))
    found = [(graph.add("Gather", of_words.astype(np.float16), ids), word)]
    # One row for all places of a word, as looking up is what takes the time.
    drawn = graph.add("Gather", known_numbers(vocabulary).T, ids)
    placed = graph.add("Transpose", drawn, perm=[2, 0, 1])
    total = graph.add("Squeeze", graph.add("Gather", placed, integers(0), axis=0), integers(0))
    for before in range(1, orders):
        number = graph.add("Gather", placed, integers(before), axis=0)
        number = graph.add("Squeeze", number, integers(0))
        in_front = integers(*(before * int(axis == time) for axis in range(2)), 0, 0)
        number = graph.add("Pad", number, in_front, np.array(NEVER, np.int32))
        number = graph.add("Slice", number, integers(0), integers(-before), integers(time))
        total = graph.add("Add", total, number)
        there = graph.add("GreaterOrEqual", total, np.array(0, np.int32))
        cells = graph.add("BitwiseAnd", total, np.array(buckets - 1, np.int32))
        cells = graph.add("Where", there, cells, np.array(buckets, np.int32))
        if place is not None:
            cells = graph.add("Gather", place, cells)
        found.append((graph.add("Gather", behind, cells), there))
    return [(graph.add("Cast", row, to=onnx.TensorProto.FLOAT), there) for row, there in found]


def _vectors(model: keras.Model) -> Table:
    """The vectors of words as they are stored: float16."""
    vectors: Table = model.get_layer(EMBEDDING).vectors.astype(np.float16)
    return vectors


def _look_up(graph: GraphWriter, ids: str, vectors: Table, model: keras.Model, *, time: int) -> str:
    """What is read at each word: ids of two axes → (..., features).

    Half precision halves the file, and the memory: rows are widened after they were looked up.
    """
    words = graph.add("Cast", graph.add("Gather", vectors, ids), to=onnx.TensorProto.FLOAT)
    if not has_layer(model, KNOWN):
        return words
    layer = model.get_layer(KNOWN)
    place, known = layer.table
    rows = _rows_of_ngrams(graph, ids, layer.numbers, len(place), known, place=place, time=time)
    total = rows[0][0]
    for row, _ in rows[1:]:
        total = graph.add("Add", total, row)  # (..., width of known)
    return graph.add("Concat", graph.add("Tanh", total), words, axis=-1)


def _positions(graph: GraphWriter) -> str:
    """0, 1, 2, ... as int32 of shape (width,)."""
    width = graph.add("Squeeze", graph.add("Shape", "ids", start=1, end=2), integers(0))
    width = graph.add("Cast", width, to=onnx.TensorProto.INT32)
    return graph.add("Range", np.array(0, np.int32), width, np.array(1, np.int32))
