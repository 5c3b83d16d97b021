"""Known pairs of words: at each word, a vector of the pair that ends there.

Vectors of n-grams are learned from all texts without labels (`training.features.ngram_vectors`) and
stay fixed; a trained matrix projects those of the pairs that say most. A pair is found, or found to
be unknown, by its key (`training.features.bigrams`). Single words have vectors of their own already
(`WordEmbeddings`).

A word costs one lookup of a key and one of a vector, in tables that stay in a processor's cache.
`NgramEmbeddings` knows four times as many n-grams, trigrams among them, and takes three lookups of
keys and of vectors, in tables that do not.

Input shape:
    int32 (batch, length), right-padded with `PAD`.

Output shape:
    float32 (batch, length, dim), 0 where no known pair ends.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from app.text.padding import Int32Array
from app.text.vocabulary import PAD
from training.config import NGRAM_VECTOR_DIM
from training.features.bigrams import KEY_FACTOR, BigramVectors, bigram_keys, empty_keys
from training.models.layers.frozen import freeze
from training.models.layers.int8_table import quantize_columns
from training.models.onnx_writer import GraphWriter, integers
from training.support.arrays import Float32Array

# --- Keras and TensorFlow graph ---


def find_rows(ids: Any, keys: Any, *, time_axis: int = 1) -> Any:
    """The row of the known pair that ends at each position.

    Args:
        ids: int32 of two axes, right-padded with `PAD`: an array, or a tensor of Keras' backend.
        keys: int32 (rows,), see `BigramVectors`.
        time_axis: The axis along which a text runs.

    Returns:
        int32 (*ids.shape); the number of rows where no known pair ends.
    """
    rows = keys.shape[0]
    padding = [(int(axis == time_axis), 0) for axis in range(2)]
    shifted = ops.pad(ids, padding, constant_values=PAD)
    wanted = bigram_keys(shifted[:-1] if time_axis == 0 else shifted[:, :-1], ids)
    cells = ops.bitwise_and(wanted, rows - 1)
    return ops.where(ops.equal(ops.take(keys, cells, axis=0), wanted), cells, rows)


# --- Keras ---


@keras.saving.register_keras_serializable("valence")
class BigramTable(keras.layers.Layer):  # type: ignore[misc]
    """The vector of the known pair of words, times a trained matrix."""

    def __init__(
        self,
        ngram_embedding_dim: int,
        *,
        rows: int,
        ngram_vector_dim: int = NGRAM_VECTOR_DIM,
        **kwargs: Any,
    ) -> None:
        """Create an empty table and a random matrix.

        Args:
            ngram_embedding_dim: Dimensions that the matrix projects a vector to.
            rows: Room for so many pairs, a power of two, at least 2.
            ngram_vector_dim: Dimensions of a vector.
            kwargs: Arguments of every layer.
        """
        super().__init__(**kwargs)
        self.ngram_embedding_dim, self.rows = ngram_embedding_dim, rows
        self.ngram_vector_dim = ngram_vector_dim

        def fixed(name: str, shape: tuple[int, ...], dtype: str, initial: Any) -> keras.Variable:
            return self.add_weight(
                name=name, shape=shape, dtype=dtype, initializer=initial, trainable=False,
                autocast=False,
            )  # fmt: skip

        self._keys = fixed("keys", (rows,), "int32", "zeros")
        self._keys.assign(empty_keys(rows))
        # The last row is all zeros, for words where no known pair ends.
        self._vectors = fixed("vectors", (rows + 1, ngram_vector_dim), "float16", "zeros")
        self._matrix = self.add_weight(name="matrix", shape=(ngram_vector_dim, ngram_embedding_dim))

    @property
    def keys(self) -> Int32Array:
        """int32 (rows,), see `BigramVectors`."""
        keys: Int32Array = ops.convert_to_numpy(self._keys)
        return keys

    @property
    def table(self) -> Float32Array:
        """float32 (rows + 1, ngram_embedding_dim): the vectors times the matrix."""
        vectors = ops.convert_to_numpy(self._vectors).astype(np.float32)
        table: Float32Array = vectors @ ops.convert_to_numpy(self._matrix)
        return table

    def assign(self, vectors: BigramVectors) -> None:
        """Set the pairs and their vectors."""
        self._keys.assign(vectors.keys)
        self._vectors.assign(np.pad(vectors.vectors, [(0, 1), (0, 0)]))

    def fold(self) -> None:
        """Replace the vectors by the int8 codes of `table`, and the matrix by their scale."""
        codes, scale = quantize_columns(self.table)
        unused = self.ngram_vector_dim - self.ngram_embedding_dim
        self._vectors.assign(np.pad(codes, [(0, 0), (0, unused)]))  # exact in half precision
        self._matrix.assign(np.pad(np.diag(scale), [(0, unused), (0, 0)]))

    def call(self, ids: Any) -> Any:
        """Look up and multiply."""
        found = ops.take(self._vectors, find_rows(ids, self._keys), axis=0)
        return ops.matmul(ops.cast(found, "float32"), self._matrix)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, length, ngram_embedding_dim)."""
        return (*input_shape, self.ngram_embedding_dim)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("ngram_embedding_dim", "rows", "ngram_vector_dim")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


# --- TensorFlow graph ---


class BigramTableGraph(tf.Module):  # type: ignore[misc]
    """`BigramTable` as TensorFlow operations, for ids of either axis order."""

    def __init__(self, layer: BigramTable, *, time_axis: int) -> None:
        super().__init__()
        codes, scale = quantize_columns(layer.table)
        self._keys = freeze(layer.keys, "bigram_keys", dtype=np.int32)
        self._codes = freeze(codes, "bigram_embeddings", dtype=np.float16)
        self._scale = freeze(scale, "bigram_scale")
        self._time_axis = time_axis

    def __call__(self, ids: Any) -> Any:
        """Look up and scale: float32 (*ids.shape, dim)."""
        rows = find_rows(ids, self._keys, time_axis=self._time_axis)
        return tf.cast(tf.gather(self._codes, rows), tf.float32) * self._scale


# --- ONNX ---


def add_bigram_codes(graph: GraphWriter, ids: str, layer: BigramTable, *, time_axis: int) -> str:
    """The codes of `BigramTable`, int8 (*ids.shape, dim), for ids of either axis order."""
    codes, _ = quantize_columns(layer.table)
    in_front = integers(*(int(axis == time_axis) for axis in range(2)), 0, 0)
    earlier = graph.add("Pad", ids, in_front, np.array(PAD, np.int32))
    earlier = graph.add("Slice", earlier, integers(0), integers(-1), integers(time_axis))
    wanted = graph.add("Add", graph.add("Mul", earlier, np.array(KEY_FACTOR)), ids)
    cells = graph.add("BitwiseAnd", wanted, np.array(layer.rows - 1, np.int32))
    known = graph.add("Equal", graph.add("Gather", layer.keys, cells), wanted)
    rows = graph.add("Where", known, cells, np.array(layer.rows, np.int32))
    return graph.add("Gather", codes, rows)
