"""The layers that Keras does not have."""

from app.text.padding import Int32Array
from app.text.vocabulary import FIRST_WORD
from app.text.vocabulary import PAD
from collections.abc import Sequence
from keras import ops
from training.config import NGRAM_EMBEDDING_BUCKETS
from training.config import NGRAM_VECTOR_DIM
from training.features.ngram_hashing import add_vectors
from training.features.ngram_hashing import draw_numbers
from training.features.ngram_hashing import find_ngrams
from training.features.ngram_hashing import list_ngrams
from training.features.ngram_hashing import log_ratio
from training.features.ngram_vectors import KNOWN_ORDERS
from training.features.ngram_vectors import NgramVectors
from training.support.arrays import Float32Array
from typing import Any
from typing import cast
import keras
import numpy as np


@keras.saving.register_keras_serializable("valence")
class NgramSum(keras.layers.Layer):  # type: ignore[misc]
    """The sum of the rows of a text's n-grams over the root of their number.

    Input shape:
        int32 (batch, length), right-padded with `PAD`.

    Output shape:
        float32 (batch, classes), 0 for a text without n-grams.

    Attributes:
        numbers: int32 of shape (orders, vocabulary), see `draw_numbers`.
    """

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        *,
        orders: int,
        buckets: int,
        rate: float = 1.0,
        l2: float = 0.0,
        weighted: bool = False,
        **kwargs: Any,
    ) -> None:
        """Make an empty table.

        Args:
            vocabulary: Ids there are.
            classes: Columns of the table.
            orders: Words of an n-gram at most.
            buckets: Rows of the table, a power of two.
            rate: How fast the table learns, as a part of the learning rate; see `WordVectors`.
            l2: Weight of the squares of what is learned in the loss.
            weighted: Whether each row is learned as factors of `ratio`.
            kwargs: Of every layer.
        """
        super().__init__(**kwargs)
        self.vocabulary, self.classes, self.orders = vocabulary, classes, orders
        self.buckets, self.rate, self.l2, self.weighted = buckets, rate, l2, weighted
        self.numbers = draw_numbers(vocabulary, orders=orders, buckets=buckets)
        shape = (buckets, classes)
        # The loss sees the table as others do, whatever its rate.
        regularizer = keras.regularizers.L2(l2 * rate**2) if l2 else None
        self._learned = self.add_weight(
            name="learned", shape=shape, initializer="zeros", regularizer=regularizer
        )
        self._ratio = (
            self.add_weight(name="ratio", shape=shape, initializer="ones", trainable=False)
            if weighted
            else None
        )

    @property
    def table(self) -> Float32Array:
        """float32 of shape (buckets, classes): what is summed."""
        table: Float32Array = np.float32(self.rate) * ops.convert_to_numpy(self._learned)
        return table if self._ratio is None else table * ops.convert_to_numpy(self._ratio)

    @table.setter
    def table(self, values: Float32Array) -> None:
        self._learned.assign(values / np.float32(self.rate))
        if self._ratio is not None:
            self._ratio.assign(np.ones_like(values))

    def learn_ratio(self, rows: Sequence[Int32Array], targets: Sequence[int]) -> None:
        """Count n-grams in the training texts, once for each text that has them; needs `weighted`.

        A row becomes the logarithm of how many times likelier its n-grams are in a text of each
        class than in a text of any other, with one more text of each kind that has them.

        Args:
            rows: The ids of each text.
            targets: The class of each.
        """
        if self._ratio is None:
            raise ValueError("a ratio must be for a weighted layer. Received: one without weights")
        having = np.zeros((self.buckets, self.classes), np.float32)
        for row, target in zip(rows, targets, strict=True):
            cells = list_ngrams(row, self.numbers, buckets=self.buckets)
            having[np.unique(cells), target] += 1
        ratio = log_ratio(having, np.bincount(targets, minlength=self.classes))
        self._ratio.assign(ratio)

    def call(self, ids: Any) -> Any:
        """Look up, sum and scale."""
        cells = find_ngrams(ids, self.numbers, buckets=self.buckets)  # (orders, batch, length)
        there = ops.expand_dims(ops.cast(cells >= 0, self.compute_dtype), -1)
        cells = ops.maximum(cells, 0)
        rows = ops.take(self._learned, cells, axis=0) * self.rate  # (..., classes)
        if self._ratio is not None:
            rows = rows * ops.take(self._ratio, cells, axis=0)
        count = ops.maximum(ops.sum(there, axis=(0, 2)), 1)
        return ops.sum(rows * there, axis=(0, 2)) / ops.sqrt(count)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, classes)."""
        return (input_shape[0], self.classes)

    def get_config(self) -> dict[str, Any]:
        """What the constructor was given."""
        names = ("vocabulary", "classes", "orders", "buckets", "rate", "l2", "weighted")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


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
        self, vocabulary: int, width: int, *, most: int, depth: int = NGRAM_VECTOR_DIM, **kwargs: Any
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
        self.numbers = draw_numbers(vocabulary, orders=KNOWN_ORDERS, buckets=NGRAM_EMBEDDING_BUCKETS)

        def fixed(name: str, shape: tuple[int, ...], dtype: str) -> keras.Variable:
            # The tables stay as they are stored, in half precision: only what is looked up widens.
            return self.add_weight(
                name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False,
                autocast=False,
            )  # fmt: skip

        # The first row of vectors is 0, for the n-grams that have none.
        self._place = fixed("place", (NGRAM_EMBEDDING_BUCKETS,), "int32")
        self._vectors = fixed("vectors", (1 + most, depth), "float16")
        self._turn = self.add_weight(name="turn", shape=(depth, width))

    def assign(self, known: NgramVectors) -> None:
        """Take the vectors of the n-grams, in `NGRAM_EMBEDDING_BUCKETS`."""
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
