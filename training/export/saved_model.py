"""Write the SavedModel of a version, with its signatures."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from app.artifact import CUDNN_SIGNATURE, SIGNATURE, TEXT_SIGNATURE, TOKENIZER
from app.text.encoder import TextEncoder
from training.export.text_graph import TextGraph
from training.export.tf_graph import ServingGraph
from training.models.build import NGRAM_EMBEDDINGS, NGRAM_LOGITS, WORD_EMBEDDINGS, has_layer
from training.models.layers.int8_table import dequantize, quantize_columns


def round_tables(model: keras.Model) -> None:
    """Round the model's lookup tables to the precision in which they are exported.

    That is int8 for embeddings of words and of known pairs, half precision for others. The
    Keras model itself is rounded, so that export compares like with like.
    """
    if has_layer(model, NGRAM_EMBEDDINGS):
        model.get_layer(NGRAM_EMBEDDINGS).fold()
    if has_layer(model, WORD_EMBEDDINGS):
        layer = model.get_layer(WORD_EMBEDDINGS)
        layer.vectors = dequantize(*quantize_columns(layer.vectors))
    if has_layer(model, NGRAM_LOGITS):
        layer = model.get_layer(NGRAM_LOGITS)
        layer.table = layer.table.astype(np.float16).astype(np.float32)


def save_model(
    folder: Path,
    model: keras.Model,
    encoder: TextEncoder,
    *,
    temperature: float,
    short_temperature: float = 1.0,
) -> None:
    """Write the SavedModel, and the tokenizer beside it.

    Args:
        folder: The version's folder.
        model: A trained model, rounded by `round_tables`.
        encoder: The encoder it was trained with.
        temperature: Divides the logits.
        short_temperature: Divides those of short texts in addition.
    """
    module = tf.Module()
    module.graph = ServingGraph(model, temperature=temperature, short_temperature=short_temperature)
    module.text = TextGraph(encoder)

    def score(ids: Any, lengths: Any) -> dict[str, Any]:
        return {"probabilities": module.graph(ids, lengths)}

    def score_on_cudnn(ids: Any, lengths: Any) -> dict[str, Any]:
        return {"probabilities": module.graph.on_cudnn(ids, lengths)}

    def score_text(text: Any) -> dict[str, Any]:
        return score(*module.text(text))

    padded_ids = (
        tf.TensorSpec([None, None], tf.int32, name="ids"),
        tf.TensorSpec([None], tf.int32, name="lengths"),
    )
    signatures = {
        SIGNATURE: _trace(score, *padded_ids),
        TEXT_SIGNATURE: _trace(score_text, tf.TensorSpec([None], tf.string, name="text")),
    }
    if module.graph.has_lstm:
        signatures[CUDNN_SIGNATURE] = _trace(score_on_cudnn, *padded_ids)
    tf.saved_model.save(module, os.fspath(folder), signatures=signatures)
    encoder.save(folder / TOKENIZER)


def _trace(python: Callable[..., dict[str, Any]], *inputs: tf.TensorSpec) -> Any:
    # Without autograph: there is no Python control flow on tensors to convert.
    return tf.function(python, autograph=False, input_signature=inputs)
