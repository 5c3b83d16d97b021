"""`build_onnx`: a trained model as an ONNX graph, for ONNX Runtime.

It is built from the layers' ONNX forms (`training.models.layers`), because converters turn the
masked loops of a Keras graph into loops again. Inputs and output are those of the signature
`serve_ids`.

Input shape:
    `ids`: int32 (batch, width); ids behind a row's length are ignored.
    `lengths`: int32 (batch,), each from 1 to width.

Output shape:
    `probabilities`: float32 (batch, classes).

Other programs run the graph too, so inputs that break these rules have an answer or an error: a
length below 1 counts as a text without tokens, and an id below 0, or `PAD` within a text, as the
unknown id. A recurrent graph refuses an empty batch, on which ONNX Runtime would end the process,
and lengths above the width; a lookup refuses ids above the vocabulary. A node costs more than a
microsecond, so there are few for this.
"""

from collections.abc import Sequence
from typing import Literal

import keras
import numpy as np
import onnx
from numpy.typing import NDArray

from app.text.vocabulary import BEGIN, PAD, UNKNOWN
from training.models.build import (
    NGRAM_EMBEDDINGS,
    NGRAM_LOGITS,
    OUTPUT,
    PAD_AND_FLATTEN,
    POOL,
    WORD_EMBEDDINGS,
    has_layer,
    hidden_layers,
    recurrent_layers,
)
from training.models.layers.dense import add_activation, add_dense
from training.models.layers.int8_lstm import add_int8_states, add_sentinels, ignore_sentinels
from training.models.layers.lstm import FusedLSTM
from training.models.layers.ngram_embeddings import add_ngram_embeddings
from training.models.layers.ngram_logits import add_ngram_logits
from training.models.layers.recurrent import Directions, add_states
from training.models.layers.sequence import add_flatten, add_padded_ids, add_pool
from training.models.layers.word_embeddings import Float16Array, add_word_embeddings, stored_vectors
from training.models.layers.word_presence import add_word_presence
from training.models.onnx_writer import GraphWriter, add_positions, integers
from training.support.arrays import Float32Array

Precision = Literal["fp32", "int8"]


def precisions(model: keras.Model) -> tuple[Precision, ...]:
    """The precisions a model can be written in: of recurrent operators, only the LSTM has int8."""
    layers = recurrent_layers(model)
    has_lstm = bool(layers) and isinstance(layers[0][0], FusedLSTM)
    return ("fp32", "int8") if has_lstm else ("fp32",)


def build_onnx(
    model: keras.Model, *, temperature: float, precision: Precision = "fp32"
) -> onnx.ModelProto:
    """Write a trained model of `build_model` as an ONNX graph.

    Args:
        model: A trained model, rounded by `round_to_float16`.
        temperature: Divides the logits.
        precision: Of the recurrent weights, one of `precisions(model)`.
    """
    hidden = hidden_layers(model)
    weights = [layer.get_weights() for layer in hidden]
    weights.append([each / temperature for each in model.get_layer(OUTPUT).get_weights()])
    graph = GraphWriter()
    ids = _valid_ids(graph, begins=model.name != "bow")
    kernel, bias = weights[0]
    if model.name == "bow":
        product = add_word_presence(graph, ids, kernel)
    elif model.name == "embedding":
        flat = _flat_embeddings(graph, ids, model, features=len(kernel))
        product = graph.add("MatMul", flat, kernel)
    else:
        product = _pooled_states(graph, ids, model, kernel, precision)
    features = graph.add("Add", product, bias)
    for layer, (kernel, bias) in zip(hidden, weights[1:], strict=True):
        features = add_dense(graph, add_activation(graph, features, layer), kernel, bias)
    if has_layer(model, NGRAM_LOGITS):
        layer = model.get_layer(NGRAM_LOGITS)
        ngrams = add_ngram_logits(graph, ids, layer, temperature=temperature)
        features = graph.add("Add", features, ngrams)
    return graph.finish(graph.add("Softmax", features, axis=-1), classes=len(weights[-1][1]))


def _valid_ids(graph: GraphWriter, *, begins: bool) -> str:
    """The ids from `UNKNOWN` on, and `PAD` behind each row's length: int32 (batch, width).

    Args:
        graph: Receives the nodes.
        begins: Whether a row without a length gets `BEGIN`, as a text without tokens has it; for a
            bag of words it is no word.
    """
    positions = add_positions(graph)
    behind: str | NDArray[np.int32] = np.array(PAD, np.int32)
    if begins:
        is_first = graph.add("Equal", positions, np.array(0, np.int32))
        behind = graph.add("Where", is_first, np.array(BEGIN, np.int32), behind)
    real = graph.add("Less", positions, graph.add("Unsqueeze", "lengths", integers(1)))
    return graph.add("Where", real, graph.add("Max", "ids", np.array(UNKNOWN, np.int32)), behind)


def _flat_embeddings(graph: GraphWriter, ids: str, model: keras.Model, *, features: int) -> str:
    vectors = stored_vectors(model.get_layer(WORD_EMBEDDINGS))
    vectors[PAD] = 0
    padded = add_padded_ids(graph, ids, model.get_layer(PAD_AND_FLATTEN))
    embedded = _embed(graph, padded, vectors, model, time_axis=1)
    return add_flatten(graph, embedded, features=features)


def _pooled_states(
    graph: GraphWriter, ids: str, model: keras.Model, kernel: Float32Array, precision: Precision
) -> str:
    """The pooled states of the last recurrent layer, times `kernel`: (batch, units)."""
    lengths = _valid_lengths(graph)
    layers, pool = recurrent_layers(model), model.get_layer(POOL)
    vectors = stored_vectors(model.get_layer(WORD_EMBEDDINGS))
    if precision == "int8":
        # N-gram embeddings are bounded by tanh, so their magnitude is at most 1.
        at_least = 1.0 if has_layer(model, NGRAM_EMBEDDINGS) else 0.0
        vectors = add_sentinels(vectors, at_least=at_least)
        poolings = 2 if pool.pooling == "max_mean" else 1
        kernel = ignore_sentinels(kernel, parts=poolings * len(layers[-1]))
    transposed = graph.add("Transpose", ids, perm=[1, 0])
    states = _embed(graph, transposed, vectors, model, time_axis=0)  # (width, batch, features)
    states = _run_layers(graph, layers, states, lengths, precision, last=pool.pooling == "last")
    pooled = states if pool.pooling == "last" else add_pool(graph, states, lengths, pool)
    return graph.add("MatMul", pooled, kernel)


def _valid_lengths(graph: GraphWriter) -> str:
    """The lengths, at least 1: int32 (batch,). The lookup of the first one fails if there is none.

    A recurrent operator itself refuses lengths above the width.
    """
    one = np.array(1, np.int32)
    first = graph.add("Gather", "lengths", integers(0))
    return graph.add("Max", "lengths", graph.add("Clip", first, one, one))


def _run_layers(
    graph: GraphWriter,
    layers: Sequence[Directions],
    steps: str,
    lengths: str,
    precision: Precision,
    *,
    last: bool,
) -> str:
    """The states of the last recurrent layer; with `last` only its last state per direction."""
    for index, directions in enumerate(layers):
        only_last = last and index == len(layers) - 1
        if precision == "int8":
            below = len(layers[index - 1]) if index else 0
            steps = add_int8_states(graph, directions, steps, lengths, below=below, last=only_last)
        else:
            steps = add_states(graph, directions, steps, lengths, last=only_last)
    return steps


def _embed(
    graph: GraphWriter, ids: str, vectors: Float16Array, model: keras.Model, *, time_axis: int
) -> str:
    """N-gram embeddings, if there are any, and word embeddings: (*ids.shape, features)."""
    words = add_word_embeddings(graph, ids, vectors)
    if not has_layer(model, NGRAM_EMBEDDINGS):
        return words
    layer = model.get_layer(NGRAM_EMBEDDINGS)
    ngrams = add_ngram_embeddings(graph, ids, layer, time_axis=time_axis)
    return graph.add("Concat", ngrams, words, axis=-1)
