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

from app.text.vocabulary import FIRST_WORD, PAD
from training.model import (
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
from training.ngram_vectors import KNOWN_BUCKETS
from training.ngrams import NEVER, NgramSum, draw_numbers
from training.onnx_rnn import (
    Weights,
    add_int8_states,
    add_sentinels,
    add_states,
    ignore_sentinels,
)
from training.onnx_writer import GraphWriter, integers

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
    """Write a trained model of `training.model` as an ONNX graph.

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
    """The vectors of a text one behind the other, zeros behind them: (batch, most * embedding)."""
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
    """What a text's n-grams add to the logits, as `training.ngrams` has it: (batch, classes)."""
    turned = graph.add("Transpose", ids, perm=[1, 0])
    together = _ngrams_ending(graph, turned, layer.numbers.shape, time=0)  # (orders, width, batch)
    cells, there = _cells(graph, together, layer.buckets)
    table = np.pad(layer.table, [(0, 1), (0, 0)]).astype(np.float16)
    rows = graph.add("Gather", table, cells)  # (orders, width, batch, classes)
    rows = graph.add("Cast", rows, to=onnx.TensorProto.FLOAT)
    total = graph.add("ReduceSum", rows, integers(0, 1), keepdims=0)
    ones = graph.add("Cast", there, to=onnx.TensorProto.FLOAT)
    count = graph.add("ReduceSum", ones, integers(0, 1), keepdims=0)
    count = graph.add("Unsqueeze", graph.add("Max", count, np.array(1, np.float32)), integers(1))
    total = graph.add("Mul", total, np.array(1 / temperature, np.float32))
    return graph.add("Div", total, graph.add("Sqrt", count))


def _ngrams_ending(graph: GraphWriter, ids: str, numbers: tuple[int, int], *, time: int) -> str:
    """Sums of numbers of the n-grams that end at each id, below 0 where none does.

    As `find_ngrams` has them, but not cut to the buckets of a table: one that is smaller finds its
    rows from the same sums, so that they are added up once.

    Args:
        graph: Gets the nodes.
        ids: Of two axes.
        numbers: Orders and ids there are.
        time: Along which axis the ids of a text stand.

    Returns:
        int32 of shape (orders, *ids.shape).
    """
    orders, vocabulary = numbers
    drawn = draw_numbers(vocabulary, orders=orders, buckets=KNOWN_BUCKETS)
    before, total = ids, graph.add("Gather", drawn[0], ids)
    word = graph.add("GreaterOrEqual", ids, np.array(FIRST_WORD, np.int32))
    sums = [graph.add("Where", word, total, np.array(NEVER, np.int32))]
    in_front = integers(*(int(axis == time) for axis in range(2)), 0, 0)
    for place in range(1, orders):
        before = graph.add("Pad", before, in_front, _PAD)
        before = graph.add("Slice", before, integers(0), integers(-1), integers(time))
        total = graph.add("Add", total, graph.add("Gather", drawn[place], before))
        sums.append(total)
    return graph.add("Concat", *(graph.add("Unsqueeze", s, integers(0)) for s in sums), axis=0)


def _cells(graph: GraphWriter, sums: str, buckets: int) -> tuple[str, str]:
    """Rows of a table with one more behind it, for where there is no n-gram; and where one is."""
    there = graph.add("GreaterOrEqual", sums, np.array(0, np.int32))
    cells = graph.add("BitwiseAnd", sums, np.array(buckets - 1, np.int32))
    return graph.add("Where", there, cells, np.array(buckets, np.int32)), there


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
    together = _ngrams_ending(graph, ids, layer.numbers.shape, time=time)
    cells, _ = _cells(graph, together, len(place))
    rows = graph.add("Gather", known, graph.add("Gather", np.pad(place, (0, 1)), cells))
    rows = graph.add("Cast", rows, to=onnx.TensorProto.FLOAT)  # (orders, ..., width of known)
    total = graph.add("Tanh", graph.add("ReduceSum", rows, integers(0), keepdims=0))
    return graph.add("Concat", total, words, axis=-1)


def _positions(graph: GraphWriter) -> str:
    """0, 1, 2, ... as int32 of shape (width,)."""
    width = graph.add("Squeeze", graph.add("Shape", "ids", start=1, end=2), integers(0))
    width = graph.add("Cast", width, to=onnx.TensorProto.INT32)
    return graph.add("Range", np.array(0, np.int32), width, np.array(1, np.int32))
