"""`ServingGraph`: a trained model as TensorFlow operations, for the SavedModel.

Keras decides at trace time which LSTM kernel a graph holds for ever; on a CPU that is a slow loop.
So the graph is built here from the layers' TensorFlow forms (`training.models.layers`), whose LSTM
runs in one kernel on CPU and GPU. cuDNN, which needs an NVIDIA GPU, is a second path through the
same weights and can be traced anywhere. The graph is for inference only: the gradient that is
registered for its LSTM kernel belongs to another operation.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

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
    WORD_PRESENCE,
    count_ids,
    has_layer,
    hidden_layers,
    recurrent_layers,
)
from training.models.layers.attention_pool import AttentionPoolGraph
from training.models.layers.bigram_table import BigramTable, BigramTableGraph
from training.models.layers.dense import DenseGraph
from training.models.layers.halved_neutral import HalvedNeutralGraph
from training.models.layers.lstm import LSTMGraph
from training.models.layers.ngram_embeddings import NgramEmbeddingsGraph
from training.models.layers.ngram_logits import NgramLogitsGraph
from training.models.layers.recurrent import cell_of
from training.models.layers.sequence import PadAndFlattenGraph, PoolGraph, reverse
from training.models.layers.short_temperature import short_factors_graph
from training.models.layers.word_embeddings import WordEmbeddingsGraph
from training.models.layers.word_presence import WordPresenceGraph


class ServingGraph(tf.Module):  # type: ignore[misc]
    """Ids and lengths to calibrated probabilities.

    Inputs that break the rules have an answer: an empty batch gets no rows, a length below 1 counts
    as a text without tokens, one above the width as the width, and what is no id of a token as the
    unknown id.

    Args:
        model: A trained model of `build_model`.
        temperature: Divides the logits.
        short_temperature: Divides those of short texts in addition, as in
            `training.models.layers.short_temperature`.
    """

    def __init__(
        self, model: keras.Model, *, temperature: float, short_temperature: float = 1.0
    ) -> None:
        super().__init__()
        features: dict[str, type[_BagOfWords | _FlatEmbeddings | _PooledStates]] = {
            "bow": _BagOfWords,
            "embedding": _FlatEmbeddings,
            "rnn": _PooledStates,
        }
        self._features = features[model.name](model)
        self._hidden = [DenseGraph(layer) for layer in hidden_layers(model)]
        self._output = DenseGraph(model.get_layer(OUTPUT))
        self._ngram_logits = (
            NgramLogitsGraph(model.get_layer(NGRAM_LOGITS))
            if has_layer(model, NGRAM_LOGITS)
            else None
        )
        self._halved_neutral = HalvedNeutralGraph() if has_layer(model, HALVED_NEUTRAL) else None
        self._temperature = temperature
        self._short_temperature = short_temperature
        self._vocabulary = count_ids(model)

    def __call__(self, ids: Any, lengths: Any) -> Any:
        """Score a batch.

        Args:
            ids: int32 (batch, width); ids behind a row's length are ignored.
            lengths: int32 (batch,), each from 1 to width.

        Returns:
            float32 (batch, classes).
        """
        return self._score(self._features, ids, lengths)

    @property
    def has_lstm(self) -> bool:
        """Whether there is an LSTM that cuDNN can run."""
        return isinstance(self._features, _PooledStates) and self._features.has_lstm

    def on_cudnn(self, ids: Any, lengths: Any) -> Any:
        """Score a batch as `__call__` does, with the LSTM on cuDNN; needs `has_lstm` and a GPU."""
        return self._score(self._features.on_cudnn, ids, lengths)

    def _score(self, read: Callable[[Any, Any], Any], ids: Any, lengths: Any) -> Any:
        batch = tf.shape(ids)[0]
        ids, lengths = self._make_valid(ids, lengths)
        features = read(ids, lengths)
        for layer in self._hidden:
            features = layer(features)
        logits = self._output(features)
        if self._ngram_logits is not None:
            logits += self._ngram_logits(ids)
        if self._halved_neutral is not None:
            logits = self._halved_neutral(logits)
        if self._short_temperature != 1:
            logits *= short_factors_graph(lengths, self._short_temperature)
        return tf.nn.softmax(logits / self._temperature)[:batch]

    def _make_valid(self, ids: Any, lengths: Any) -> tuple[Any, Any]:
        """At least one row and column, lengths from 1 to the width, and known ids in each row."""
        rows, columns = tf.unstack(tf.maximum(1 - tf.shape(ids), 0))
        ids, lengths = tf.pad(ids, [[0, rows], [0, columns]]), tf.pad(lengths, [[0, rows]])
        width = tf.shape(ids)[1]
        ids = tf.where((ids > PAD) & (ids < self._vocabulary), ids, UNKNOWN)
        behind = tf.where(tf.range(width) == 0, BEGIN, PAD)
        ids = tf.where(tf.sequence_mask(lengths, width), ids, behind)
        return ids, tf.clip_by_value(lengths, 1, width)


class _BagOfWords(tf.Module):  # type: ignore[misc]
    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self._presence = WordPresenceGraph(model.get_layer(WORD_PRESENCE))

    def __call__(self, ids: Any, _lengths: Any) -> Any:
        return self._presence(ids)  # (batch, vocabulary)


class _FlatEmbeddings(tf.Module):  # type: ignore[misc]
    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self._embedding = _Embedding(model, time_axis=1)
        self._flatten = PadAndFlattenGraph(model.get_layer(PAD_AND_FLATTEN))

    def __call__(self, ids: Any, _lengths: Any) -> Any:
        ids = self._flatten.pad(ids)
        return self._flatten(self._embedding(ids), ids)  # (batch, length * features)


class _PooledStates(tf.Module):  # type: ignore[misc]
    """Recurrent layers and pooling. All steps run, padding too: none changes an earlier one."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self._embedding = _Embedding(model, time_axis=0)
        self._layers = [
            [cell_of(layer).graph(layer) for layer in directions]
            for directions in recurrent_layers(model)
        ]
        self._pool = PoolGraph(model.get_layer(POOL))
        self._attention = (
            AttentionPoolGraph(model.get_layer(ATTENTION)) if has_layer(model, ATTENTION) else None
        )
        self.has_lstm = isinstance(self._layers[0][0], LSTMGraph)

    def __call__(self, ids: Any, lengths: Any) -> Any:
        """Run the layers in operations that every device has: (batch, features)."""
        return self._run(ids, lengths, lambda layer, steps: layer(steps))

    def on_cudnn(self, ids: Any, lengths: Any) -> Any:
        """Run the layers in cuDNN: (batch, features)."""
        return self._run(ids, lengths, lambda layer, steps: layer.on_cudnn(steps))

    def _run(self, ids: Any, lengths: Any, run: Callable[[Any, Any], Any]) -> Any:
        states = self._embedding(tf.transpose(ids))  # (width, batch, features)
        directions = []
        for forward, *backward in self._layers:
            directions = [run(forward, states)]
            directions += [
                reverse(run(layer, reverse(states, lengths)), lengths) for layer in backward
            ]
            states = tf.concat(directions, axis=-1)
        pooled = self._pool(directions, ids, lengths)
        if self._attention is None:
            return pooled
        return tf.concat([pooled, self._attention(states, ids)], axis=-1)


class _Embedding(tf.Module):  # type: ignore[misc]
    """N-gram embeddings, if there are any, and word embeddings: (*ids.shape, features)."""

    def __init__(self, model: keras.Model, *, time_axis: int) -> None:
        super().__init__()
        self._words = WordEmbeddingsGraph(model.get_layer(WORD_EMBEDDINGS))
        self._ngrams = (
            _ngram_graph(model.get_layer(NGRAM_EMBEDDINGS), time_axis=time_axis)
            if has_layer(model, NGRAM_EMBEDDINGS)
            else None
        )

    def __call__(self, ids: Any) -> Any:
        words = self._words(ids)
        return words if self._ngrams is None else tf.concat([self._ngrams(ids), words], axis=-1)


def _ngram_graph(layer: keras.layers.Layer, *, time_axis: int) -> tf.Module:
    kind = BigramTableGraph if isinstance(layer, BigramTable) else NgramEmbeddingsGraph
    return kind(layer, time_axis=time_axis)
