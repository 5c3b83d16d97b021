"""`build_onnx`: a trained model as an ONNX graph, for ONNX Runtime.

It is built from the layers' ONNX forms (`training.models.layers`), because converters turn the
masked loops of a Keras graph into loops again. Inputs and output are those of the signature
`serve_ids`.

Input shape:
    `ids`: int32 (batch, width), padded with `PAD`; ids behind a row's length are ignored.
    `lengths`: int32 (batch,), each from 1 to width.

Output shape:
    `probabilities`: float32 (batch, classes).

Other programs run the graph too, so inputs that break these rules have an answer or an error. An id
below 0, or `PAD` within a text, counts as the unknown id; a lookup refuses ids above the
vocabulary. A recurrent graph refuses an empty batch, on which ONNX Runtime would end the process,
lengths below 1 or above the width, and numbers behind a row's length that are no ids; to others a
length below 1 is a text without tokens. A node costs more than a microsecond, so there are few for
this.
"""

from collections.abc import Sequence
from typing import Literal

import keras
import numpy as np
import onnx
from numpy.typing import NDArray

from app.text.vocabulary import BEGIN, PAD, UNKNOWN
from training.models.build import (
    ATTENTION,
    HALVED_NEUTRAL,
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
from training.models.layers.attention_pool import add_attention_pool, attention_kernel
from training.models.layers.bigram_table import BigramTable, add_bigram_codes
from training.models.layers.dense import add_activation, add_dense
from training.models.layers.halved_neutral import add_halved_neutral, paired_with_neutral
from training.models.layers.int8_lstm import add_int8_states, add_sentinels, ignore_sentinels
from training.models.layers.int8_table import LARGEST_CODE, Codes, quantize_columns
from training.models.layers.lstm import FusedLSTM
from training.models.layers.ngram_embeddings import add_ngram_embeddings
from training.models.layers.ngram_logits import add_ngram_logits
from training.models.layers.recurrent import Directions, add_states
from training.models.layers.sequence import add_flatten, add_padded_ids, add_pool
from training.models.layers.short_temperature import add_short_factors
from training.models.layers.word_embeddings import add_word_codes
from training.models.layers.word_presence import add_word_presence
from training.models.onnx_writer import (
    FLOAT,
    GraphWriter,
    add_positions,
    add_real_steps,
)
from training.support.arrays import Float32Array

Precision = Literal["fp32", "int8"]


def precisions(model: keras.Model) -> tuple[Precision, ...]:
    """The precisions a model can be written in: of recurrent operators, only the LSTM has int8."""
    layers = recurrent_layers(model)
    has_lstm = bool(layers) and isinstance(layers[0][0], FusedLSTM)
    return ("fp32", "int8") if has_lstm else ("fp32",)


def build_onnx(
    model: keras.Model,
    *,
    temperature: float,
    short_temperature: float = 1.0,
    precision: Precision = "fp32",
) -> onnx.ModelProto:
    """Write a trained model of `build_model` as an ONNX graph.

    Args:
        model: A trained model, rounded by `round_tables`.
        temperature: Divides the logits.
        short_temperature: Divides those of short texts in addition, as in
            `training.models.layers.short_temperature`.
        precision: Of the recurrent weights, one of `precisions(model)`.
    """
    hidden = hidden_layers(model)
    weights = [layer.get_weights() for layer in hidden]
    output = model.get_layer(OUTPUT).get_weights()
    halved = has_layer(model, HALVED_NEUTRAL)
    weights.append(
        paired_with_neutral(*output) if halved else [each / temperature for each in output]
    )
    graph = GraphWriter()
    ids = _valid_ids(graph, model)
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
    scale = 1.0
    if halved:  # a temperature comes after it
        features, scale = add_halved_neutral(graph, features), 1 / temperature
    if short_temperature != 1:
        factors = add_short_factors(graph, short_temperature, scale=scale)
        features = graph.add("Mul", features, factors)
    elif scale != 1:
        features = graph.add("Mul", features, np.array(scale, np.float32))
    return graph.finish(
        graph.add("Softmax", features, axis=-1), classes=int(model.output_shape[-1])
    )


def _valid_ids(graph: GraphWriter, model: keras.Model) -> str:
    """The ids from `UNKNOWN` on, and `PAD` behind each row's length: int32 (batch, width).

    Recurrent operators do not run the steps behind a length, so recurrent models need no `PAD`
    there, unless the sum of n-gram logits reads it too. A row without a length gets `BEGIN`, as a
    text without tokens has it; for a bag of words it is no word.
    """
    known = graph.add("Max", "ids", np.array(UNKNOWN, np.int32))
    if model.name == "rnn" and not has_layer(model, NGRAM_LOGITS):
        return known
    behind: str | NDArray[np.int32] = np.array(PAD, np.int32)
    if model.name == "embedding":
        is_first = graph.add("Equal", add_positions(graph), np.array(0, np.int32))
        behind = graph.add("Where", is_first, np.array(BEGIN, np.int32), behind)
    return graph.add("Where", add_real_steps(graph, "lengths"), known, behind)


def _flat_embeddings(graph: GraphWriter, ids: str, model: keras.Model, *, features: int) -> str:
    codes, scale = quantize_columns(model.get_layer(WORD_EMBEDDINGS).vectors)
    codes[PAD] = 0
    padded = add_padded_ids(graph, ids, model.get_layer(PAD_AND_FLATTEN))
    embedded, scale = _embed(graph, padded, codes, scale, model, time_axis=1)
    return add_flatten(graph, graph.add("Mul", embedded, scale), features=features)


def _pooled_states(
    graph: GraphWriter, ids: str, model: keras.Model, kernel: Float32Array, precision: Precision
) -> str:
    """The pooled states of the last recurrent layer, times `kernel`: (batch, units)."""
    lengths = _valid_lengths(graph)
    layers, pool = recurrent_layers(model), model.get_layer(POOL)
    codes, scale = quantize_columns(model.get_layer(WORD_EMBEDDINGS).vectors)
    poolings = 2 if pool.pooling == "max_mean" else 1
    scores = None
    if has_layer(model, ATTENTION):
        scores = attention_kernel(model.get_layer(ATTENTION))
        poolings += scores.shape[1]
    if precision == "int8":
        codes = add_sentinels(codes)
        kernel = ignore_sentinels(kernel, parts=poolings * len(layers[-1]))
        if scores is not None:
            scores = ignore_sentinels(scores, parts=len(layers[-1]))
    transposed = graph.add("Transpose", ids, perm=[1, 0])
    steps, scale = _embed(graph, transposed, codes, scale, model, time_axis=0)
    states = _run_layers(
        graph, layers, steps, scale, lengths, precision, last=pool.pooling == "last"
    )  # (width, batch, units)
    if pool.pooling == "last":
        return graph.add("MatMul", states, kernel)
    if scores is None:
        return graph.add("MatMul", add_pool(graph, states, lengths, pool.pooling), kernel)
    if "mean" in pool.pooling:
        # A head whose scores are all 0 has the mean, for less time than a sum takes.
        scores = np.pad(scores, [(0, 0), (1, 0)])
    pooled = add_attention_pool(graph, states, lengths, scores)
    if "max" in pool.pooling:
        largest = add_pool(graph, states, lengths, "max")
        pooled = graph.add("Concat", largest, pooled, axis=1)
    return graph.add("MatMul", pooled, kernel)


def _valid_lengths(graph: GraphWriter) -> str:
    """The lengths, int32 (batch,), or what a recurrent operator refuses if one is below 1.

    It refuses lengths above the width itself. The lookup of the smallest fails if there is none.
    """
    smallest = graph.add("Gather", "lengths", graph.add("ArgMin", "lengths", axis=0, keepdims=1))
    valid = graph.add("Greater", smallest, np.array(0, np.int32))
    return graph.add("Where", valid, "lengths", np.array(-1, np.int32))


def _run_layers(
    graph: GraphWriter,
    layers: Sequence[Directions],
    steps: str,
    scale: Float32Array,
    lengths: str,
    precision: Precision,
    *,
    last: bool,
) -> str:
    """The states of the last recurrent layer; with `last` only its last state per direction.

    The lowest layer multiplies its weights by `scale` instead of its inputs.
    """
    for index, directions in enumerate(layers):
        only_last = last and index == len(layers) - 1
        if precision == "int8":
            steps = add_int8_states(
                graph, directions, steps, lengths,
                scale=None if index else scale, below=len(layers[index - 1]) if index else 0,
                last=only_last,
            )  # fmt: skip
        else:
            of_inputs = None if index else scale
            steps = add_states(graph, directions, steps, lengths, scale=of_inputs, last=only_last)
    return steps


def _embed(
    graph: GraphWriter,
    ids: str,
    codes: Codes,
    scale: Float32Array,
    model: keras.Model,
    *,
    time_axis: int,
) -> tuple[str, Float32Array]:
    """N-gram embeddings, if there are any, and word embeddings, before they are scaled.

    Args:
        graph: Receives the nodes.
        ids: int32 of two axes.
        codes: Of words, with sentinels where the graph needs them.
        scale: Of the codes of words, without sentinels.
        model: For its n-gram embeddings.
        time_axis: The axis of `ids` along which a text runs.

    Returns:
        float32 (*ids.shape, columns), from -128 to 127, and the scale of each column that is no
        sentinel.
    """
    words = add_word_codes(graph, ids, codes)
    if not has_layer(model, NGRAM_EMBEDDINGS):
        return graph.add("Cast", words, to=FLOAT), scale
    layer = model.get_layer(NGRAM_EMBEDDINGS)
    if isinstance(layer, BigramTable):
        ngrams = add_bigram_codes(graph, ids, layer, time_axis=time_axis)
        both = graph.add("Concat", ngrams, words, axis=-1)
        of_ngrams = quantize_columns(layer.table)[1]
        return graph.add("Cast", both, to=FLOAT), np.concatenate([of_ngrams, scale])
    ngrams = add_ngram_embeddings(graph, ids, layer, time_axis=time_axis)
    words = graph.add("Cast", words, to=FLOAT)
    of_ngrams = np.full(layer.ngram_embedding_dim, 1 / LARGEST_CODE, np.float32)
    return graph.add("Concat", ngrams, words, axis=-1), np.concatenate([of_ngrams, scale])
