"""`ServingGraph`: a trained model as plain TensorFlow operations.

Keras decides at trace time which LSTM kernel a graph holds for ever, and on a CPU that is a slow
loop. So the graph is written here once more, from the weights: `BlockLSTMV2` runs the whole time
loop in one kernel, on CPU and GPU. Its registered gradient belongs to another version of the
operation and is wrong: this graph is for inference only. cuDNN, which only an NVIDIA GPU has, is a
second way through the same weights; it can be traced anywhere.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from app.text.vocabulary import FIRST_WORD
from training.model import EMBEDDING, LSTM, OUTPUT, hidden_layers


class ServingGraph(tf.Module):  # type: ignore[misc]
    """Ids and lengths to calibrated probabilities.

    Args:
        model: A trained model of `training.model`.
        temperature: By which the logits are divided.
    """

    def __init__(self, model: keras.Model, *, temperature: float) -> None:
        super().__init__()
        features: dict[str, type[WordPresenceFeatures | LSTMFeatures]] = {
            "bow": WordPresenceFeatures,
            "lstm": LSTMFeatures,
        }
        self._features = features[model.name](model)
        self._hidden = [_dense(model, name) for name in hidden_layers(model)]
        kernel, bias = (weights / temperature for weights in model.get_layer(OUTPUT).get_weights())
        self._output = _constant(kernel, "output_kernel"), _constant(bias, "output_bias")

    def __call__(self, ids: Any, lengths: Any) -> Any:
        """Score a batch.

        Args:
            ids: int32 of shape (batch, width); what stands behind a row's length is not read.
            lengths: int32 of shape (batch,), each from 1 to width.

        Returns:
            float32 of shape (batch, classes).
        """
        return self._classify(self._features(ids, lengths))

    @property
    def has_lstm(self) -> bool:
        """Whether there is an LSTM that cuDNN could run."""
        return isinstance(self._features, LSTMFeatures)

    def on_cudnn(self, ids: Any, lengths: Any) -> Any:
        """Score a batch as `__call__` does, with the LSTM on cuDNN.

        Fails where there is no NVIDIA GPU; a model without an LSTM has no such way.
        """
        return self._classify(self._features.on_cudnn(ids, lengths))

    def _classify(self, features: Any) -> Any:
        for kernel, bias in self._hidden:
            features = tf.nn.relu(features @ kernel + bias)
        kernel, bias = self._output
        return tf.nn.softmax(features @ kernel + bias)


class WordPresenceFeatures(tf.Module):  # type: ignore[misc]
    """Which words a text holds: (batch, width) ids → (batch, vocabulary) of 0 and 1."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self._vocabulary = int(model.get_layer("presence").vocabulary)

    def __call__(self, ids: Any, lengths: Any) -> Any:
        """Write ones where words are; the special ids stay 0."""
        words = tf.sequence_mask(lengths, tf.shape(ids)[1]) & (ids >= FIRST_WORD)
        cells = tf.where(words)  # (words, 2): row and position
        columns = tf.cast(tf.boolean_mask(ids, words), tf.int64)
        cells = tf.stack([cells[:, 0], columns], axis=1)
        shape = tf.stack([tf.shape(ids)[0], self._vocabulary])
        zeros = tf.zeros(shape, tf.float32)
        return tf.tensor_scatter_nd_max(zeros, cells, tf.ones(tf.shape(columns), tf.float32))


class LSTMFeatures(tf.Module):  # type: ignore[misc]
    """Maximum and mean of the LSTM's states over the real steps: → (batch, 2 * units)."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        vectors = model.get_layer(EMBEDDING).vectors
        kernel, recurrent, bias = model.get_layer(LSTM).get_weights()
        self._units = recurrent.shape[0]
        # Half precision halves the file; the exporter rounded the model's own weights before.
        self._embedding = _constant(vectors, "embedding", dtype=np.float16)
        self._kernel = _constant(np.concatenate([kernel, recurrent]), "lstm_kernel")
        self._bias = _constant(bias, "lstm_bias")

    def __call__(self, ids: Any, lengths: Any) -> Any:
        """Run the LSTM in TensorFlow's own kernel, on any device."""
        return self._pool(self._run_block, ids, lengths)

    def on_cudnn(self, ids: Any, lengths: Any) -> Any:
        """Run the LSTM in cuDNN."""
        return self._pool(self._run_cudnn, ids, lengths)

    def _pool(self, run: Callable[[Any], Any], ids: Any, lengths: Any) -> Any:
        """Run all steps, padding too, and pool under the mask: a later step changes no earlier."""
        mask = tf.sequence_mask(lengths, tf.shape(ids)[1])  # (batch, width)
        ids = tf.where(mask, ids, 0)
        words = tf.cast(tf.gather(self._embedding, tf.transpose(ids)), tf.float32)
        states = run(words)  # (width, batch, embedding) → (width, batch, units)
        real = tf.expand_dims(tf.transpose(mask), -1)
        highest = tf.reduce_max(tf.where(real, states, states.dtype.min), axis=0)
        total = tf.reduce_sum(tf.where(real, states, 0.0), axis=0)
        mean = total / tf.expand_dims(tf.cast(lengths, tf.float32), 1)
        return tf.concat([highest, mean], axis=1)

    def _run_block(self, words: Any) -> Any:
        width, batch = tf.unstack(tf.shape(words)[:2])
        state = tf.zeros(tf.stack([batch, self._units]))
        no_peephole = tf.zeros([self._units])
        return tf.raw_ops.BlockLSTMV2(
            seq_len_max=tf.cast(width, tf.int64),
            x=words,
            cs_prev=state,
            h_prev=state,
            w=self._kernel,
            wci=no_peephole,
            wcf=no_peephole,
            wco=no_peephole,
            b=self._bias,
            cell_clip=0.0,
            use_peephole=False,
        ).h

    def _run_cudnn(self, words: Any) -> Any:
        width, batch = tf.unstack(tf.shape(words)[:2])
        state = tf.zeros(tf.stack([1, batch, self._units]))  # of one layer
        return tf.raw_ops.CudnnRNNV3(
            input=words,
            input_h=state,
            input_c=state,
            params=self._pack_for_cudnn(),
            # The width for every row. TensorFlow keeps a descriptor for each shape, for full rows
            # or for padded ones as the first batch was, and would use it for the other kind too.
            sequence_lengths=tf.fill([batch], width),
            rnn_mode="lstm",
            is_training=False,
            time_major=True,
        ).output

    def _pack_for_cudnn(self) -> Any:
        """The weights in the one buffer that cuDNN reads: (4 * units * (embedding + units + 2),).

        A matrix for each gate, (units, embedding), then for each gate (units, units) for the state
        before, then eight biases in the same order. Keras has the gates in the same order, i f c o,
        its matrices the other way round, and one bias a gate, which may be either of the two.

        Source:
            cuDNN, `cudnnGetRNNWeightParams`; Keras, `_standardize_cudnn_weights`.
        """
        kernel, recurrent = tf.split(self._kernel, [-1, self._units])
        parts = tf.transpose(kernel), tf.transpose(recurrent), tf.zeros_like(self._bias), self._bias
        return tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)


def _dense(model: keras.Model, name: str) -> tuple[Any, Any]:
    kernel, bias = model.get_layer(name).get_weights()
    return _constant(kernel, f"{name}_kernel"), _constant(bias, f"{name}_bias")


def _constant(value: Any, name: str, *, dtype: Any = np.float32) -> Any:
    return tf.Variable(value.astype(dtype), trainable=False, name=name)
