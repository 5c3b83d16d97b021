"""N-gram logits: a table with a row of logits for each hash bucket, summed over a text's n-grams.

The sum is divided by the square root of the number of n-grams and added to the logits of the
network beside it, whatever its architecture.

Input shape:
    int32 (batch, length), right-padded with `PAD`.

Output shape:
    float32 (batch, classes), 0 for a text without n-grams.

Source:
    Log-count ratios: Wang and Manning, "Baselines and Bigrams: Simple, Good Sentiment and Topic
    Classification" (2012).
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from app.text.padding import Int32Array
from training.features.ngram_hashing import hash_ids, list_buckets, log_count_ratio
from training.models.layers.frozen import freeze
from training.models.layers.ngram_lookup import add_ngram_rows, find_buckets
from training.models.layers.saved_names import RenamedArguments, saved_as
from training.models.onnx_writer import FLOAT, GraphWriter, integers
from training.support.arrays import Float32Array

# --- Keras and TensorFlow graph ---


def _sum_rows(
    ids: Any, hashes: Int32Array, look_up: Callable[[Any], Any], *, buckets: int
) -> Any:
    """Sum the rows of a text's n-grams and divide by the square root of their number.

    Args:
        ids: int32 (batch, length).
        hashes: Of `hash_ids`.
        look_up: Buckets to rows, float32 (*buckets.shape, classes).
        buckets: Number of hash buckets.
    """
    cells = find_buckets(ids, hashes, buckets=buckets)  # (orders, batch, length)
    rows = look_up(ops.maximum(cells, 0))
    exists = ops.expand_dims(ops.cast(cells >= 0, rows.dtype), -1)
    count = ops.maximum(ops.sum(exists, axis=(0, 2)), 1)
    return ops.sum(rows * exists, axis=(0, 2)) / ops.sqrt(count)


# --- Keras ---


@saved_as("NgramSum")
class NgramLogits(RenamedArguments, keras.layers.Layer):  # type: ignore[misc]
    """Adds up a row of logits for each n-gram of a text.

    With `nb_weighting`, what is trained is a factor for each row: the row itself is the log-count
    ratio of its n-grams, counted before training (`fit_ratio`).

    Attributes:
        hashes: int32 (orders, vocabulary), see `hash_ids`.
    """

    renamed: ClassVar = {"rate": "lr_factor", "weighted": "nb_weighting"}

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        *,
        orders: int,
        buckets: int,
        lr_factor: float = 1.0,
        l2: float = 0.0,
        nb_weighting: bool = False,
        **kwargs: Any,
    ) -> None:
        """Create a table of zeros.

        Args:
            vocabulary: Number of ids, special ids included.
            classes: Number of classes.
            orders: Words of the longest n-gram.
            buckets: Number of hash buckets, a power of two.
            lr_factor: Learning rate, as a multiple of that of the model; see `WordEmbeddings`.
            l2: Weight of the table's L2 penalty in the loss.
            nb_weighting: Whether to train factors of log-count ratios.
            kwargs: Arguments of every layer.
        """
        super().__init__(**kwargs)
        self.vocabulary, self.classes, self.orders = vocabulary, classes, orders
        self.buckets, self.lr_factor, self.l2 = buckets, lr_factor, l2
        self.nb_weighting = nb_weighting
        self.hashes = hash_ids(vocabulary, orders=orders, buckets=buckets)
        shape = (buckets, classes)
        # The penalty is on the table itself; the weights are the table divided by `lr_factor`.
        regularizer = keras.regularizers.L2(l2 * lr_factor**2) if l2 else None
        self._learned = self.add_weight(
            name="learned", shape=shape, initializer="zeros", regularizer=regularizer
        )
        self._ratio = (
            self.add_weight(name="ratio", shape=shape, initializer="ones", trainable=False)
            if nb_weighting
            else None
        )

    @property
    def table(self) -> Float32Array:
        """float32 (buckets, classes): the row of logits of each bucket."""
        table: Float32Array = np.float32(self.lr_factor) * ops.convert_to_numpy(self._learned)
        return table if self._ratio is None else table * ops.convert_to_numpy(self._ratio)

    @table.setter
    def table(self, values: Float32Array) -> None:
        self._learned.assign(values / np.float32(self.lr_factor))
        if self._ratio is not None:
            self._ratio.assign(np.ones_like(values))

    def fit_ratio(self, rows: Sequence[Int32Array], targets: Sequence[int]) -> None:
        """Set each row to the log-count ratio of its n-grams in the training texts.

        An n-gram counts once per text that contains it.

        Args:
            rows: The ids of each text.
            targets: The class of each text.

        Raises:
            ValueError: The layer has no `nb_weighting`.
        """
        if self._ratio is None:
            raise ValueError("fit_ratio needs a layer with nb_weighting. Received: a layer without")
        texts_with = np.zeros((self.buckets, self.classes), np.float32)
        for row, target in zip(rows, targets, strict=True):
            cells = list_buckets(row, self.hashes, buckets=self.buckets)
            texts_with[np.unique(cells), target] += 1
        ratio = log_count_ratio(texts_with, np.bincount(targets, minlength=self.classes))
        self._ratio.assign(ratio)

    def call(self, ids: Any) -> Any:
        """Look up, sum and scale."""
        return _sum_rows(ids, self.hashes, self._look_up, buckets=self.buckets)

    def _look_up(self, cells: Any) -> Any:
        rows = ops.take(self._learned, cells, axis=0) * self.lr_factor
        return rows if self._ratio is None else rows * ops.take(self._ratio, cells, axis=0)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, classes)."""
        return (input_shape[0], self.classes)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("vocabulary", "classes", "orders", "buckets", "lr_factor", "l2", "nb_weighting")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


# --- TensorFlow graph ---


class NgramLogitsGraph(tf.Module):  # type: ignore[misc]
    """`NgramLogits` as TensorFlow operations, with the table in half precision."""

    def __init__(self, layer: NgramLogits) -> None:
        super().__init__()
        self._table = freeze(layer.table, "ngram_logits", dtype=np.float16)
        self._hashes = freeze(layer.hashes, "ngram_hashes", dtype=np.int32)

    def __call__(self, ids: Any) -> Any:
        """Look up, sum and scale."""

        def look_up(cells: Any) -> Any:
            return tf.cast(tf.gather(self._table, cells), tf.float32)

        return _sum_rows(ids, self._hashes, look_up, buckets=self._table.shape[0])


# --- ONNX ---


def add_ngram_logits(
    graph: GraphWriter, ids: str, layer: NgramLogits, *, temperature: float
) -> str:
    """`NgramLogits` divided by the temperature: (batch, classes)."""
    transposed = graph.add("Transpose", ids, perm=[1, 0])
    found = add_ngram_rows(
        graph, transposed, layer.hashes, layer.table, buckets=layer.buckets, time_axis=0
    )
    total = graph.add("Concat", *(row for row, _ in found), axis=0)  # (orders * width, batch, ...)
    total = graph.add("ReduceSum", total, integers(0), keepdims=0)
    exists = graph.add("Concat", *(exists for _, exists in found), axis=0)
    count = graph.add("ReduceSum", graph.add("Cast", exists, to=FLOAT), integers(0), keepdims=0)
    count = graph.add("Unsqueeze", graph.add("Max", count, np.array(1, np.float32)), integers(1))
    total = graph.add("Mul", total, np.array(1 / temperature, np.float32))
    return graph.add("Div", total, graph.add("Sqrt", count))
