"""`ServingGraph`: a trained model as plain TensorFlow operations.

Keras decides at trace time which LSTM kernel a graph holds for ever, and on a CPU that is a slow
loop. So the graph is written here once more, from the weights: `BlockLSTMV2` runs the whole time
loop in one kernel, on CPU and GPU. Its registered gradient belongs to another version of the
operation and is wrong: this graph is for inference only. cuDNN, which only an NVIDIA GPU has, is a
second way through the same weights; it can be traced anywhere. Other cells are written as loops.
"""

from collections.abc import Callable
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf

from app.text.vocabulary import FIRST_WORD, PAD
from training.features.ngram_hashing import add_vectors, find_ngrams
from training.models.build import (
    EMBEDDING,
    KNOWN,
    NGRAMS,
    OUTPUT,
    POOL,
    PRESENCE,
    ROW,
    has_layer,
    hidden_layers,
    recurrent_layers,
)
from training.models.fused_lstm import FusedLSTM


class ServingGraph(tf.Module):  # type: ignore[misc]
    """Ids and lengths to calibrated probabilities.

    Args:
        model: A trained model of `training.models.build`.
        temperature: By which the logits are divided.
    """

    def __init__(self, model: keras.Model, *, temperature: float) -> None:
        super().__init__()
        features: dict[str, type[WordPresence | FixedRow | PooledStates]] = {
            "bow": WordPresence,
            "embedding": FixedRow,
            "rnn": PooledStates,
        }
        self._features = features[model.name](model)
        self._hidden = [Dense(layer) for layer in hidden_layers(model)]
        self._output = Dense(model.get_layer(OUTPUT))
        self._ngrams = NgramSum(model) if has_layer(model, NGRAMS) else None
        self._temperature = temperature

    def __call__(self, ids: Any, lengths: Any) -> Any:
        """Score a batch.

        Args:
            ids: int32 of shape (batch, width); what stands behind a row's length is not read.
            lengths: int32 of shape (batch,), each from 1 to width.

        Returns:
            float32 of shape (batch, classes).
        """
        return self._score(self._features, ids, lengths)

    @property
    def has_lstm(self) -> bool:
        """Whether there is an LSTM that cuDNN could run."""
        return isinstance(self._features, PooledStates) and self._features.is_lstm

    def on_cudnn(self, ids: Any, lengths: Any) -> Any:
        """Score a batch as `__call__` does, with the LSTM on cuDNN.

        Fails where there is no NVIDIA GPU; a model without an LSTM has no such way.
        """
        return self._score(self._features.on_cudnn, ids, lengths)

    def _score(self, read: Callable[[Any, Any], Any], ids: Any, lengths: Any) -> Any:
        ids = tf.where(tf.sequence_mask(lengths, tf.shape(ids)[1]), ids, PAD)
        features = read(ids, lengths)
        for layer in self._hidden:
            features = layer(features)
        logits = self._output(features)
        if self._ngrams is not None:
            logits += self._ngrams(ids)
        return tf.nn.softmax(logits / self._temperature)


class Dense(tf.Module):  # type: ignore[misc]
    """A dense layer: (batch, features) → (batch, units)."""

    def __init__(self, layer: keras.layers.Dense) -> None:
        super().__init__()
        self._kernel, self._bias = _variables(layer)
        # Those that a config may name are called the same by Keras and TensorFlow.
        self._activation = getattr(tf.nn, layer.activation.__name__, tf.identity)

    def __call__(self, features: Any) -> Any:
        """Multiply, add, activate."""
        return self._activation(features @ self._kernel + self._bias)


class NgramSum(tf.Module):  # type: ignore[misc]
    """What a text's n-grams add to the logits: (batch, width) ids → (batch, classes)."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        layer = model.get_layer(NGRAMS)
        self._table = _constant(layer.table, "ngrams", dtype=np.float16)
        self._numbers = _constant(layer.numbers, "numbers", dtype=np.int32)

    def __call__(self, ids: Any) -> Any:
        """Gather, sum, and divide by the root of their number."""
        cells = find_ngrams(ids, self._numbers, buckets=self._table.shape[0])
        there = tf.expand_dims(cells >= 0, -1)  # (orders, batch, width, 1)
        rows = tf.cast(tf.gather(self._table, tf.maximum(cells, 0)), tf.float32)
        total = tf.reduce_sum(tf.where(there, rows, 0.0), axis=[0, 2])
        count = tf.reduce_sum(tf.cast(there, tf.float32), axis=[0, 2])
        return total / tf.sqrt(tf.maximum(count, 1.0))


class WordPresence(tf.Module):  # type: ignore[misc]
    """Which words a text holds: (batch, width) ids → (batch, vocabulary) of 0 and 1."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self._vocabulary = int(model.get_layer(PRESENCE).vocabulary)

    def __call__(self, ids: Any, _lengths: Any) -> Any:
        """Write ones where words are; the special ids stay 0."""
        words = ids >= FIRST_WORD
        cells = tf.where(words)  # (words, 2): row and position
        columns = tf.cast(tf.boolean_mask(ids, words), tf.int64)
        cells = tf.stack([cells[:, 0], columns], axis=1)
        shape = tf.stack([tf.shape(ids)[0], self._vocabulary])
        zeros = tf.zeros(shape, tf.float32)
        return tf.tensor_scatter_nd_max(zeros, cells, tf.ones(tf.shape(columns), tf.float32))


class WordVectors(tf.Module):  # type: ignore[misc]
    """What is read at each word: ids of two axes → (..., features)."""

    def __init__(self, model: keras.Model, *, time: int) -> None:
        super().__init__()
        # Half precision halves the file; the exporter rounded the model's own weights before.
        vectors = model.get_layer(EMBEDDING).vectors
        self._vectors = _constant(vectors, "embedding", dtype=np.float16)
        self._time = time
        self._knows = has_layer(model, KNOWN)
        if self._knows:
            layer = model.get_layer(KNOWN)
            place, known = layer.table
            self._numbers = _constant(layer.numbers, "known_numbers", dtype=np.int32)
            self._place = _constant(place, "known_place", dtype=np.int32)
            self._known = _constant(known, "known", dtype=np.float16)

    def __call__(self, ids: Any) -> Any:
        """Look up words, and the n-grams that they end."""
        words = tf.cast(tf.gather(self._vectors, ids), tf.float32)
        if not self._knows:
            return words
        known = add_vectors(ids, self._numbers, self._place, self._known, time=self._time)
        return tf.concat([tf.tanh(known), words], axis=-1)


class FixedRow(tf.Module):  # type: ignore[misc]
    """The vectors of a text one behind the other: → (batch, most * features)."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self._embedding = WordVectors(model, time=1)
        self._most = int(model.get_layer(ROW).most)

    def __call__(self, ids: Any, _lengths: Any) -> Any:
        """Look up; where no word is, zeros are."""
        ids = tf.pad(ids, [[0, 0], [0, self._most]], constant_values=PAD)[:, : self._most]
        words = self._embedding(ids)
        words = tf.where(tf.expand_dims(ids == PAD, -1), 0.0, words)
        return tf.reshape(words, [-1, self._most * words.shape[-1]])


class PooledStates(tf.Module):  # type: ignore[misc]
    """The states of the last recurrent layer over the real steps: → (batch, features)."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self._embedding = WordVectors(model, time=0)
        layers = recurrent_layers(model)
        self.is_lstm = isinstance(layers[0][0], keras.layers.LSTM)
        self._layers = [[_CELLS[type(one)](one) for one in directions] for directions in layers]
        self._pooling = str(model.get_layer(POOL).pooling)

    def __call__(self, ids: Any, lengths: Any) -> Any:
        """Run the layers in operations that any device has."""
        return self._run(ids, lengths, lambda layer, steps: layer(steps))

    def on_cudnn(self, ids: Any, lengths: Any) -> Any:
        """Run the layers in cuDNN."""
        return self._run(ids, lengths, lambda layer, steps: layer.on_cudnn(steps))

    def _run(self, ids: Any, lengths: Any, run: Callable[[Any, Any], Any]) -> Any:
        """Run all steps, padding too, and pool under the mask: a later step changes no earlier."""

        def turn(steps: Any) -> Any:
            return tf.reverse_sequence(steps, lengths, seq_axis=0, batch_axis=1)

        states = self._embedding(tf.transpose(ids))
        for forward, *backward in self._layers:  # (width, batch, features)
            directions = [run(forward, states), *(turn(run(b, turn(states))) for b in backward)]
            states = tf.concat(directions, axis=-1)
        if self._pooling == "last":
            last = tf.gather(tf.transpose(directions[0], [1, 0, 2]), lengths - 1, batch_dims=1)
            return tf.concat([last, *(states[0] for states in directions[1:])], axis=-1)
        real = tf.expand_dims(tf.transpose(ids != PAD), -1)  # (width, batch, 1)
        pooled = []
        if "max" in self._pooling:
            pooled.append(tf.nn.relu(tf.reduce_max(tf.where(real, states, 0.0), axis=0)))
        if "mean" in self._pooling:
            total = tf.reduce_sum(tf.where(real, states, 0.0), axis=0)
            pooled.append(total / tf.expand_dims(tf.cast(lengths, tf.float32), 1))
        return tf.concat(pooled, axis=1)


class LSTM(tf.Module):  # type: ignore[misc]
    """(width, batch, features) → states (width, batch, units)."""

    def __init__(self, layer: keras.layers.LSTM) -> None:
        super().__init__()
        kernel, recurrent, bias = layer.get_weights()
        self._units = len(recurrent)
        self._kernel = _constant(np.concatenate([kernel, recurrent]), "lstm_kernel")
        self._bias = _constant(bias, "lstm_bias")

    def __call__(self, steps: Any) -> Any:
        """Run in TensorFlow's own kernel, on any device."""
        width, batch = tf.unstack(tf.shape(steps)[:2])
        state = tf.zeros(tf.stack([batch, self._units]))
        no_peephole = tf.zeros([self._units])
        return tf.raw_ops.BlockLSTMV2(
            seq_len_max=tf.cast(width, tf.int64),
            x=steps,
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

    def on_cudnn(self, steps: Any) -> Any:
        """Run in cuDNN."""
        width, batch = tf.unstack(tf.shape(steps)[:2])
        state = tf.zeros(tf.stack([1, batch, self._units]))  # of one layer
        return tf.raw_ops.CudnnRNNV3(
            input=steps,
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
        """The weights in the one buffer that cuDNN reads: (4 * units * (features + units + 2),).

        A matrix for each gate, (units, features), then for each gate (units, units) for the state
        before, then eight biases in the same order. Keras has the gates in the same order, i f c o,
        its matrices the other way round, and one bias a gate, which may be either of the two.

        Source:
            cuDNN, `cudnnGetRNNWeightParams`; Keras, `_standardize_cudnn_weights`.
        """
        kernel, recurrent = tf.split(self._kernel, [-1, self._units])
        parts = tf.transpose(kernel), tf.transpose(recurrent), tf.zeros_like(self._bias), self._bias
        return tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)


class GRU(tf.Module):  # type: ignore[misc]
    """(width, batch, features) → states (width, batch, units), as Keras has it by default.

    The gates are z (keep), r (reset) and h (new); r is applied after the multiplication.
    """

    def __init__(self, layer: keras.layers.GRU) -> None:
        super().__init__()
        self._kernel, self._recurrent, self._bias = _variables(layer)

    def __call__(self, steps: Any) -> Any:
        """Run a loop over the steps."""
        bias, recurrent_bias = tf.unstack(self._bias)

        def step(state: Any, read: Any) -> Any:
            z, r, h = tf.split(read, 3, axis=1)
            state_z, state_r, state_h = tf.split(
                state @ self._recurrent + recurrent_bias, 3, axis=1
            )
            keep = tf.sigmoid(z + state_z)
            new = tf.tanh(h + tf.sigmoid(r + state_r) * state_h)
            return keep * state + (1 - keep) * new

        return _loop(step, tf.einsum("tbf,fu->tbu", steps, self._kernel) + bias, self._recurrent)


class SimpleRNN(tf.Module):  # type: ignore[misc]
    """(width, batch, features) → states (width, batch, units)."""

    def __init__(self, layer: keras.layers.SimpleRNN) -> None:
        super().__init__()
        self._kernel, self._recurrent, self._bias = _variables(layer)

    def __call__(self, steps: Any) -> Any:
        """Run a loop over the steps."""

        def step(state: Any, read: Any) -> Any:
            return tf.tanh(read + state @ self._recurrent)

        read = tf.einsum("tbf,fu->tbu", steps, self._kernel) + self._bias
        return _loop(step, read, self._recurrent)


_CELLS: Final = {
    FusedLSTM: LSTM,
    keras.layers.GRU: GRU,
    keras.layers.SimpleRNN: SimpleRNN,
}


def _loop(step: Callable[[Any, Any], Any], read: Any, recurrent: Any) -> Any:
    """The state after each step, from zeros: (width, batch, ...) → (width, batch, units)."""
    start = tf.zeros(tf.stack([tf.shape(read)[1], recurrent.shape[0]]))
    return tf.scan(step, read, start)


def _variables(layer: keras.layers.Layer) -> list[Any]:
    return [_constant(value, f"{layer.name}_{i}") for i, value in enumerate(layer.get_weights())]


def _constant(value: Any, name: str, *, dtype: Any = np.float32) -> Any:
    return tf.Variable(value.astype(dtype), trainable=False, name=name)
