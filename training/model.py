"""Models: from rows of ids to class probabilities, as Keras layers.

Every model takes the same input, so that data, export and service know one shape:

Input shape:
    `ids`: int32 (batch, length), right-padded with `PAD`; length varies between batches.

Output shape:
    `probabilities`: float32 (batch, classes), rows sum to 1.
"""

from typing import Any, cast

import keras
import numpy as np
from keras import ops

from app.text.padding import Int32Array
from app.text.vocabulary import FIRST_WORD, PAD
from training.config import KNOWN_PLACES, KNOWN_WIDTH, Config
from training.fused_lstm import FusedLSTM
from training.ngram_vectors import KNOWN_ORDERS, NgramVectors
from training.ngrams import NgramSum, add_vectors, draw_numbers

PRESENCE, EMBEDDING, KNOWN, ROW, POOL = "presence", "embedding", "known", "row", "pool"
NGRAMS, OUTPUT = "ngrams", "output"
HIDDEN, FORWARD, BACKWARD = "hidden_{}", "forward_{}", "backward_{}"
"""Names of layers by which the exporter finds their weights; those with `{}` count from 0."""


@keras.saving.register_keras_serializable("valence")
class WordPresence(keras.layers.Layer):  # type: ignore[misc]
    """Which words a text holds, however often: (batch, length) ids → (batch, vocabulary) 0 or 1.

    Padding, the begin-of-sequence id and unknown words are no words: their columns stay 0.
    """

    def __init__(self, vocabulary: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocabulary = vocabulary

    def call(self, ids: Any) -> Any:
        """Scatter ones, then drop the repeats."""
        batch, length = ops.shape(ids)
        rows = ops.repeat(ops.arange(batch, dtype="int32"), length)
        cells = ops.stack([rows, ops.reshape(ops.cast(ids, "int32"), (-1,))], axis=1)
        counts = ops.scatter(cells, ops.ones((batch * length,)), (batch, self.vocabulary))
        words = ops.arange(self.vocabulary) >= FIRST_WORD
        return ops.cast(ops.logical_and(counts > 0, words), self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, vocabulary)."""
        return (input_shape[0], self.vocabulary)

    def get_config(self) -> dict[str, Any]:
        """What the constructor was given."""
        return {**super().get_config(), "vocabulary": self.vocabulary}


@keras.saving.register_keras_serializable("valence")
class WordVectors(keras.layers.Embedding):  # type: ignore[misc]
    """An embedding that learns at a rate of its own: (batch, length) ids → (..., width).

    Adam moves every weight by about the learning rate, whatever its gradient. Vectors that are
    stored larger and scaled down by `rate` on the way out therefore move `rate` times as fast as
    all else, so that vectors learned from much text are not overrun by few labels.
    """

    def __init__(self, vocabulary: int, width: int, *, rate: float = 1.0, **kwargs: Any) -> None:
        super().__init__(vocabulary, width, **kwargs)
        self.rate = rate

    @property
    def vectors(self) -> Any:
        """float32 of shape (vocabulary, width): what the other layers see."""
        return self.get_weights()[0] * np.float32(self.rate)

    @vectors.setter
    def vectors(self, values: Any) -> None:
        self.set_weights([values / np.float32(self.rate)])

    def call(self, inputs: Any) -> Any:
        """Look up, then scale."""
        return super().call(inputs) * self.rate

    def get_config(self) -> dict[str, Any]:
        """What the constructor was given."""
        base = super().get_config()
        inherited = {key: base[key] for key in ("name", "trainable", "dtype")}
        return {
            **inherited,
            "vocabulary": self.input_dim,
            "width": self.output_dim,
            "rate": self.rate,
        }


@keras.saving.register_keras_serializable("valence")
class KnownNgrams(keras.layers.Layer):  # type: ignore[misc]
    """What is known of the n-grams that end at each word before any label, in a few numbers.

    The vectors of the n-grams of one, two and three words that end there are added up and
    multiplied by a matrix; a hyperbolic tangent keeps what comes of it between -1 and 1. The matrix
    alone is learned: there are too few labels for so many vectors.

    Input shape:
        int32 (batch, length), right-padded with `PAD`.

    Output shape:
        float32 (batch, length, width).

    Attributes:
        numbers: int32 of shape (orders, vocabulary), see `draw_numbers`.
    """

    def __init__(
        self, vocabulary: int, width: int, *, most: int, depth: int = KNOWN_WIDTH, **kwargs: Any
    ) -> None:
        """Make empty tables.

        Args:
            vocabulary: Ids there are.
            width: Numbers for each word.
            most: N-grams that have a vector, at most.
            depth: Of such a vector.
            kwargs: Of every layer.
        """
        super().__init__(**kwargs)
        self.vocabulary, self.width, self.most, self.depth = vocabulary, width, most, depth
        self.numbers = draw_numbers(vocabulary, orders=KNOWN_ORDERS, buckets=KNOWN_PLACES)

        def fixed(name: str, shape: tuple[int, ...], dtype: str) -> keras.Variable:
            # The tables stay as they are stored, in half precision: only what is looked up widens.
            return self.add_weight(
                name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False,
                autocast=False,
            )  # fmt: skip

        # The first row of vectors is 0, for the n-grams that have none.
        self._place = fixed("place", (KNOWN_PLACES,), "int32")
        self._vectors = fixed("vectors", (1 + most, depth), "float16")
        self._turn = self.add_weight(name="turn", shape=(depth, width))

    def assign(self, known: NgramVectors) -> None:
        """Take the vectors of the n-grams, in `KNOWN_PLACES`."""
        rows = len(known.vectors)
        self._place.assign(known.place + 1)
        self._vectors.assign(np.pad(known.vectors, [(1, self.most - rows), (0, 0)]))

    @property
    def table(self) -> tuple[Int32Array, Any]:
        """The row of each bucket, and what is added up: float16 (1 + most, width)."""
        vectors = ops.convert_to_numpy(self._vectors).astype(np.float32)
        turned = (vectors @ ops.convert_to_numpy(self._turn)).astype(np.float16)
        return ops.convert_to_numpy(self._place), turned

    def fold(self) -> None:
        """Multiply every vector once and for all, and store what comes of it in half precision."""
        turned = self.table[1]
        self._vectors.assign(np.pad(turned, [(0, 0), (0, self.depth - self.width)]))
        self._turn.assign(np.eye(self.depth, self.width))

    def call(self, ids: Any) -> Any:
        """Look up, add, multiply."""
        known = add_vectors(ids, self.numbers, self._place, self._vectors)
        return ops.tanh(ops.matmul(known, self._turn))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, length, width)."""
        return (*input_shape, self.width)

    def get_config(self) -> dict[str, Any]:
        """What the constructor was given."""
        names = ("vocabulary", "width", "most", "depth")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("valence")
class FixedRow(keras.layers.Layer):  # type: ignore[misc]
    """The vectors of a text one behind the other: (batch, length, width) → (batch, most * width).

    Zeros stand where a text has no word, however wide its batch is.
    """

    def __init__(self, most: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.most = most

    def call(self, words: Any, ids: Any) -> Any:
        """Lay `most` vectors into a row; what stands at `PAD` is not read."""
        words = words * ops.cast(ops.expand_dims(ops.not_equal(ids, PAD), -1), words.dtype)
        batch, _, width = ops.shape(words)
        behind = ops.zeros((batch, self.most, width), words.dtype)
        full = ops.concatenate([words, behind], axis=1)[:, : self.most]
        return ops.reshape(full, (-1, self.most * width))

    def compute_output_shape(
        self, words_shape: tuple[int | None, ...], ids_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """(batch, most * width)."""
        return (words_shape[0], self.most * cast(int, words_shape[-1]))

    def get_config(self) -> dict[str, Any]:
        """What the constructor was given."""
        return {**super().get_config(), "most": self.most}


@keras.saving.register_keras_serializable("valence")
class Reverse(keras.layers.Layer):  # type: ignore[misc]
    """The real steps of each text from its end to its beginning; padding stays behind them.

    So a layer that reads in one direction reads in the other, and needs no mask.
    """

    def call(self, steps: Any, ids: Any) -> Any:
        """Turn `steps`, (batch, length, features), by the length of each row of `ids`."""
        position = ops.expand_dims(ops.arange(ops.shape(ids)[1], dtype="int32"), 0)
        mirrored = _lengths(ids) - 1 - position  # (batch, length)
        order = ops.where(mirrored >= 0, mirrored, position)
        return ops.take_along_axis(steps, ops.expand_dims(order, -1), axis=1)

    def compute_output_shape(
        self, steps_shape: tuple[int | None, ...], ids_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """That of the steps."""
        return steps_shape


@keras.saving.register_keras_serializable("valence")
class Pool(keras.layers.Layer):  # type: ignore[misc]
    """What a text's states come to: (batch, length, units) → (batch, units), or twice that.

    Only real steps take part: with the padding, an answer would depend on its neighbours.

    Attributes:
        pooling: `max` (0 at least, as padding is), `mean`, `max_mean` (one beside the other), or
            `last`: of the first half of the units, which read forward, the last real step, of
            the others the first.
    """

    def __init__(self, pooling: str, *, bidirectional: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pooling, self.bidirectional = pooling, bidirectional

    def call(self, states: Any, ids: Any) -> Any:
        """Pool where `ids` are none of `PAD`."""
        lengths = _lengths(ids)  # (batch, 1)
        if self.pooling == "last":
            last = ops.expand_dims(lengths - 1, -1)  # (batch, 1, 1)
            last = ops.squeeze(ops.take_along_axis(states, last, axis=1), 1)
            if not self.bidirectional:
                return last
            half = states.shape[-1] // 2
            return ops.concatenate([last[:, :half], states[:, 0, half:]], axis=-1)
        real = ops.cast(ops.expand_dims(ops.not_equal(ids, PAD), -1), states.dtype)
        states = states * real
        pooled = []
        if "max" in self.pooling:
            pooled.append(ops.relu(ops.max(states, axis=1)))
        if "mean" in self.pooling:
            pooled.append(ops.sum(states, axis=1) / ops.cast(lengths, states.dtype))
        return ops.concatenate(pooled, axis=-1)

    def compute_output_shape(
        self, states_shape: tuple[int | None, ...], ids_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """(batch, units), or (batch, 2 * units) of `max_mean`."""
        units = cast(int, states_shape[-1])
        return (states_shape[0], 2 * units if self.pooling == "max_mean" else units)

    def get_config(self) -> dict[str, Any]:
        """What the constructor was given."""
        own = {"pooling": self.pooling, "bidirectional": self.bidirectional}
        return {**super().get_config(), **own}


def _lengths(ids: Any) -> Any:
    """int32 (batch, 1): the real steps of each text."""
    return ops.sum(ops.cast(ops.not_equal(ids, PAD), "int32"), axis=1, keepdims=True)


def build_model(
    config: Config, *, vocabulary: int, classes: int, length: int | None = None
) -> keras.Model:
    """Build the architecture that `config` names.

    Args:
        config: Widths and dropout rates.
        vocabulary: Ids there are, special ids included.
        classes: Labels there are.
        length: Ids of a row at most, where that is not `config.max_length`.
    """
    keras.utils.set_random_seed(config.seed)
    ids = keras.Input(shape=(None,), dtype="int32", name="ids")
    if config.architecture == "bow":
        features = _bag_of_words(config, ids, vocabulary)
    elif config.architecture == "embedding":
        features = _word_vectors_in_a_row(config, ids, vocabulary, length or config.max_length)
    else:
        features = _pooled_states(config, ids, vocabulary)
    for index, units in enumerate(config.hidden):  # (batch, features)
        features = keras.layers.Dense(
            units,
            activation=config.activation,
            kernel_initializer=config.weight_init,
            kernel_regularizer=_regularizer(config),
            name=HIDDEN.format(index),
        )(features)  # (batch, units)
        features = keras.layers.Dropout(config.dropout)(features)
    is_only_layer = config.architecture != "rnn" and not config.hidden
    logits = keras.layers.Dense(
        classes,
        kernel_initializer=config.weight_init,
        kernel_regularizer=_regularizer(config) if is_only_layer else None,
        name=OUTPUT,
    )(features)
    if config.ngrams:
        logits = logits + _ngrams(config, ids, vocabulary, classes)
    probabilities = keras.layers.Softmax(name="probabilities")(logits)
    return keras.Model(ids, probabilities, name=config.architecture)


def has_layer(model: keras.Model, name: str) -> bool:
    """Whether a model has a layer of this name."""
    return any(layer.name == name for layer in model.layers)


def hidden_layers(model: keras.Model) -> list[keras.layers.Dense]:
    """The dense layers between the features and the output, in order."""
    return _numbered(model, HIDDEN)


def recurrent_layers(model: keras.Model) -> list[list[keras.layers.RNN]]:
    """The recurrent layers, in order: of each the layer that reads forward, then the other."""
    forward, backward = _numbered(model, FORWARD), _numbered(model, BACKWARD)
    if not backward:
        return [[layer] for layer in forward]
    return [list(both) for both in zip(forward, backward, strict=True)]


def _numbered(model: keras.Model, name: str) -> list[Any]:
    return [
        layer
        for i, _ in enumerate(model.layers)
        for layer in model.layers
        if layer.name == name.format(i)
    ]


def _regularizer(config: Config) -> keras.regularizers.Regularizer | None:
    if config.l1 or config.l2:
        return keras.regularizers.L1L2(config.l1, config.l2)
    return None


def _bag_of_words(config: Config, ids: Any, vocabulary: int) -> Any:
    presence = WordPresence(vocabulary, name=PRESENCE)(ids)  # (batch, vocabulary)
    return keras.layers.Dropout(config.input_dropout)(presence)


def _embed(config: Config, ids: Any, vocabulary: int) -> Any:
    words = WordVectors(vocabulary, config.embedding, rate=config.embedding_rate, name=EMBEDDING)
    vectors = words(ids)
    if config.known_ngrams:
        known = KnownNgrams(vocabulary, config.known_width, most=config.known_ngrams, name=KNOWN)
        vectors = keras.layers.Concatenate()([known(ids), vectors])
    return keras.layers.SpatialDropout1D(config.input_dropout)(vectors)


def _word_vectors_in_a_row(config: Config, ids: Any, vocabulary: int, length: int) -> Any:
    words = _embed(config, ids, vocabulary)  # (batch, length, features)
    return FixedRow(length, name=ROW)(words, ids)  # (batch, most * features)


def _pooled_states(config: Config, ids: Any, vocabulary: int) -> Any:
    states = _embed(config, ids, vocabulary)  # (batch, length, features)
    for index in range(config.layers):
        if index:
            states = keras.layers.SpatialDropout1D(config.dropout)(states)
        directions = [_recurrent(config, FORWARD.format(index))(states)]
        if config.bidirectional:
            turned = _recurrent(config, BACKWARD.format(index))(Reverse()(states, ids))
            directions.append(Reverse()(turned, ids))
        # (batch, length, units) for each direction
        states = keras.layers.Concatenate()(directions) if config.bidirectional else directions[0]
    pooled = Pool(config.pooling, bidirectional=config.bidirectional, name=POOL)(states, ids)
    return keras.layers.Dropout(config.dropout)(pooled)


def _recurrent(config: Config, name: str) -> keras.layers.RNN:
    """A layer without a mask: padding stands behind the real steps, and changes none of them."""
    layers = {
        "simple": keras.layers.SimpleRNN,
        "lstm": FusedLSTM,
        "gru": keras.layers.GRU,
    }
    return layers[config.cell](
        config.units,
        return_sequences=True,
        kernel_initializer=config.weight_init,
        kernel_regularizer=_regularizer(config),
        recurrent_dropout=config.recurrent_dropout,
        name=name,
    )


def _ngrams(config: Config, ids: Any, vocabulary: int, classes: int) -> Any:
    return NgramSum(
        vocabulary,
        classes,
        orders=config.ngrams,
        buckets=config.ngram_buckets,
        rate=config.ngram_rate,
        l2=config.ngram_l2,
        weighted=config.nb_weighting,
        trainable=config.teacher == "none",  # a teacher's table is put in at the end
        name=NGRAMS,
    )(ids)  # (batch, classes)
