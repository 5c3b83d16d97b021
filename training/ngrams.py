"""N-grams beside any architecture: rows of one table, gathered and summed, from ids alone.

A word's id stands for the word; two or three ids in a row stand for an n-gram. Each n-gram has a
row of a table that is far smaller than all n-grams there could be: every id has a random number for
each place it can take in an n-gram, and their sum, cut to the table's size, is the row. Sums of
such numbers fall as evenly as chance, need no multiplication, and fit into 32 bits, so that NumPy,
Keras on any backend, TensorFlow and ONNX find the same row.

**Naive Bayes.** With `weighted`, what is learned is not a row but a factor for it: the row itself
is how much more often the n-gram stands in texts of a class than in all others, counted before
training.

Source:
    Hashing: Patrascu and Thorup, "The Power of Simple Tabulation Hashing" (2011), with sums for
    exclusive or. Weighting: Wang and Manning, "Baselines and Bigrams: Simple, Good Sentiment and
    Topic Classification" (2012).
"""

from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from app.text.padding import Int32Array
from app.text.vocabulary import FIRST_WORD, PAD

Float32Array = NDArray[np.float32]

NEVER: Final = -(2**28)
"""The number of padding: whatever is added to it, the sum stays below 0, and is no n-gram."""


def draw_numbers(vocabulary: int, *, orders: int, buckets: int) -> Int32Array:
    """A number for each id in each place of an n-gram, counted from its last word.

    The numbers of an id are the same for any vocabulary. They are splitmix64's, so that no later
    version of a random number generator changes what a trained table means.

    Returns:
        int32 of shape (orders, vocabulary), from 0 to `buckets - 1`; that of `PAD` is `NEVER`.

    Source:
        Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014), figure 17.
    """
    places, ids = np.arange(orders, dtype=np.uint64), np.arange(vocabulary, dtype=np.uint64)
    z = (places[:, np.newaxis] << np.uint64(32)) + ids + np.uint64(1)
    z *= np.uint64(0x9E3779B97F4A7C15)  # unsigned products are cut to 64 bits, by definition
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    numbers = ((z ^ (z >> np.uint64(31))) & np.uint64(buckets - 1)).astype(np.int32)
    numbers[:, PAD] = NEVER
    return numbers


def find_ngrams(ids: Any, numbers: Int32Array, *, buckets: int, time: int = 1) -> Any:
    """The row of each n-gram, where it ends, on arrays or on tensors of Keras' backend.

    Special ids are no words: they count in n-grams of two and more alone, and padding in none.

    Args:
        ids: int32 of two axes, right-padded with `PAD`.
        numbers: Of `draw_numbers`, for n-grams of up to `orders` words.
        buckets: Rows of the table, a power of two.
        time: Along which axis the ids of a text stand.

    Returns:
        int32 of shape (orders, *ids.shape) from 0 to `buckets - 1`: of the n-grams of one word, of
        two and so on; -1 where none ends.
    """
    before, total = ids, ops.take(numbers[0], ids, axis=0)
    sums = [ops.where(ids >= FIRST_WORD, total, NEVER)]
    for place in range(1, numbers.shape[0]):
        before = _shift(before, time)
        total = total + ops.take(numbers[place], before, axis=0)
        sums.append(total)
    together = ops.stack(sums)
    return ops.where(together >= 0, ops.bitwise_and(together, buckets - 1), -1)


def add_vectors(ids: Any, numbers: Int32Array, place: Any, vectors: Any, *, time: int = 1) -> Any:
    """The sum of the vectors of the n-grams that end at each id.

    Args:
        ids: As `numbers` and `time`, see `find_ngrams`.
        numbers: For n-grams of up to `orders` words.
        place: int32 (buckets,): which row of `vectors` a bucket has; 0 for none.
        vectors: Of any precision, (rows, width); the first row is 0.
        time: An axis.

    Returns:
        float32 (*ids.shape, width).
    """
    cells = find_ngrams(ids, numbers, buckets=place.shape[0], time=time)  # (orders, *ids.shape)
    rows = ops.where(cells >= 0, ops.take(place, ops.maximum(cells, 0)), 0)
    return ops.sum(ops.cast(ops.take(vectors, rows, axis=0), "float32"), axis=0)


def _shift(ids: Any, time: int) -> Any:
    """The id before each; `PAD` before the first."""
    padding = [(int(axis == time), 0) for axis in range(2)]
    shifted = ops.pad(ids, padding, constant_values=PAD)
    return shifted[:-1] if time == 0 else shifted[:, :-1]


def list_ngrams(ids: Int32Array, numbers: Int32Array, *, buckets: int) -> Int32Array:
    """The row of each n-gram of one text, int32 (n-grams,), as `find_ngrams` finds them."""
    sums = [numbers[0, ids[ids >= FIRST_WORD]]]
    for order in range(2, min(numbers.shape[0], len(ids)) + 1):
        behind = range(order)
        sums.append(sum(numbers[i, ids[order - 1 - i : len(ids) - i]] for i in behind))
    found: Int32Array = np.concatenate(sums) & np.int32(buckets - 1)
    return found


def log_ratio(having: NDArray[Any], texts: NDArray[Any]) -> Float32Array:
    """How many times likelier an n-gram is in a text of each class than in any other, as logarithm.

    Args:
        having: How many texts of each class have each n-gram, (n-grams, classes).
        texts: How many texts of each class there are, (classes,).

    Returns:
        float32 (n-grams, classes), with one more text of each kind that has the n-gram.
    """
    others = having.sum(axis=1, keepdims=True) - having
    inside, outside = (1 + having) / (1 + texts), (1 + others) / (1 + texts.sum() - texts)
    ratio: Float32Array = (np.log(inside) - np.log(outside)).astype(np.float32)
    return ratio


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
