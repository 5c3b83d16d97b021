"""N-gram embeddings: at each word, what is known of the n-grams that end there.

N-gram vectors are learned from all texts without labels (`training.features.ngram_vectors`) and
stay fixed. The vectors of the unigram, bigram and trigram that end at a word are added up,
multiplied by a trained matrix, and bounded by tanh. Only the matrix is trained: there are too few
labels for so many vectors.

Input shape:
    int32 (batch, length), right-padded with `PAD`.

Output shape:
    float32 (batch, length, dim).
"""

from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from app.text.padding import Int32Array
from training.config import NGRAM_EMBEDDING_BUCKETS, NGRAM_VECTOR_DIM
from training.features.ngram_hashing import hash_ids
from training.features.ngram_vectors import NgramVectors
from training.models.layers.frozen import freeze
from training.models.layers.int8_table import LARGEST_CODE
from training.models.layers.ngram_lookup import add_ngram_rows, sum_ngram_vectors
from training.models.layers.saved_names import RenamedArguments, saved_as
from training.models.layers.word_embeddings import Float16Array
from training.models.onnx_writer import GraphWriter

# --- Keras ---


class NgramVectorSum(keras.layers.Layer):  # type: ignore[misc]
    """The sum of the vectors of the n-grams that end at each word: (batch, length, vector dim).

    0 at padding, and where no n-gram has a vector. The vectors stay in half precision in memory,
    which halves hundreds of megabytes; only what is looked up is widened to single precision.

    Attributes:
        hashes: int32 (orders, vocabulary), see `hash_ids`.
    """

    def __init__(
        self, vocabulary: int, ngrams: int, vector_dim: int, *, buckets: int, **kwargs: Any
    ) -> None:
        """Create empty tables.

        Args:
            vocabulary: Number of ids, special ids included.
            ngrams: How many n-grams can have a vector.
            vector_dim: Dimensions of a vector.
            buckets: Number of hash buckets, a power of two.
            kwargs: Arguments of every layer.
        """
        super().__init__(**kwargs)
        self.hashes = hash_ids(vocabulary, buckets=buckets)

        def fixed(name: str, shape: tuple[int, ...], dtype: str) -> keras.Variable:
            return self.add_weight(
                name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False,
                autocast=False,
            )  # fmt: skip

        # Row 0 of the vectors is all zeros, for n-grams without a vector.
        self._row_of_bucket = fixed("row_of_bucket", (buckets,), "int32")
        self._vectors = fixed("vectors", (1 + ngrams, vector_dim), "float16")

    @classmethod
    def of(cls, vectors: NgramVectors, vocabulary: int) -> Self:
        """A layer of exactly these vectors."""
        layer = cls(
            vocabulary, *vectors.vectors.shape, buckets=len(vectors.row_of_bucket), trainable=False
        )
        layer.assign(vectors)
        return layer

    def assign(self, vectors: NgramVectors) -> None:
        """Set the vectors, which must be in as many buckets as the layer has."""
        unused = self._vectors.shape[0] - 1 - len(vectors.vectors)
        self._row_of_bucket.assign(vectors.row_of_bucket + 1)
        self._vectors.assign(np.pad(vectors.vectors, [(1, unused), (0, 0)]))

    def call(self, ids: Any) -> Any:
        """Look up and add."""
        return sum_ngram_vectors(ids, self.hashes, self._row_of_bucket, self._vectors)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, length, vector_dim)."""
        return (*input_shape, self._vectors.shape[1])


@saved_as("KnownNgrams")
class NgramEmbeddings(RenamedArguments, NgramVectorSum):
    """The summed vectors, times a trained matrix, bounded by tanh."""

    renamed: ClassVar = {
        "width": "ngram_embedding_dim",
        "most": "ngram_embeddings",
        "depth": "ngram_vector_dim",
    }

    def __init__(
        self,
        vocabulary: int,
        ngram_embedding_dim: int,
        *,
        ngram_embeddings: int,
        ngram_vector_dim: int = NGRAM_VECTOR_DIM,
        **kwargs: Any,
    ) -> None:
        """Create empty tables and a random matrix.

        Args:
            vocabulary: Number of ids, special ids included.
            ngram_embedding_dim: Dimensions that the matrix projects a vector to.
            ngram_embeddings: How many n-grams can have a vector.
            ngram_vector_dim: Dimensions of a vector.
            kwargs: Arguments of every layer.
        """
        super().__init__(
            vocabulary, ngram_embeddings, ngram_vector_dim, buckets=NGRAM_EMBEDDING_BUCKETS, **kwargs
        )
        self.vocabulary, self.ngram_embedding_dim = vocabulary, ngram_embedding_dim
        self.ngram_embeddings, self.ngram_vector_dim = ngram_embeddings, ngram_vector_dim
        self._matrix = self.add_weight(name="matrix", shape=(ngram_vector_dim, ngram_embedding_dim))

    @property
    def table(self) -> tuple[Int32Array, Float16Array]:
        """The row of each bucket, and the rows: float16 (1 + n-grams, ngram_embedding_dim).

        The rows are the vectors times the matrix, so that what is exported needs no matrix.
        """
        vectors = ops.convert_to_numpy(self._vectors).astype(np.float32)
        rows = (vectors @ ops.convert_to_numpy(self._matrix)).astype(np.float16)
        return ops.convert_to_numpy(self._row_of_bucket), rows

    def fold(self) -> None:
        """Replace the vectors by the rows of `table`, and the matrix by the identity."""
        rows = self.table[1]
        unused = self.ngram_vector_dim - self.ngram_embedding_dim
        self._vectors.assign(np.pad(rows, [(0, 0), (0, unused)]))
        self._matrix.assign(np.eye(self.ngram_vector_dim, self.ngram_embedding_dim))

    def call(self, ids: Any) -> Any:
        """Look up, add, multiply and bound."""
        return ops.tanh(ops.matmul(super().call(ids), self._matrix))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, length, ngram_embedding_dim)."""
        return (*input_shape, self.ngram_embedding_dim)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("vocabulary", "ngram_embedding_dim", "ngram_embeddings", "ngram_vector_dim")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


# --- TensorFlow graph ---


class NgramEmbeddingsGraph(tf.Module):  # type: ignore[misc]
    """`NgramEmbeddings` as TensorFlow operations, for ids of either axis order."""

    def __init__(self, layer: NgramEmbeddings, *, time_axis: int) -> None:
        super().__init__()
        row_of_bucket, rows = layer.table
        self._hashes = freeze(layer.hashes, "ngram_embedding_hashes", dtype=np.int32)
        self._row_of_bucket = freeze(row_of_bucket, "ngram_embedding_rows", dtype=np.int32)
        self._rows = freeze(rows, "ngram_embeddings", dtype=np.float16)
        self._time_axis = time_axis

    def __call__(self, ids: Any) -> Any:
        """Look up, add and bound: float32 (*ids.shape, dim)."""
        total = sum_ngram_vectors(
            ids, self._hashes, self._row_of_bucket, self._rows, time_axis=self._time_axis
        )
        return tf.tanh(total)


# --- ONNX ---


def add_ngram_embeddings(
    graph: GraphWriter, ids: str, layer: NgramEmbeddings, *, time_axis: int
) -> str:
    """`NgramEmbeddings` times 127, as codes have it (`int8_table`): float32 (*ids.shape, dim)."""
    row_of_bucket, rows = layer.table
    found = add_ngram_rows(
        graph, ids, layer.hashes, rows,
        buckets=len(row_of_bucket), row_of_bucket=row_of_bucket, time_axis=time_axis,
    )  # fmt: skip
    total = found[0][0]
    for row, _ in found[1:]:
        total = graph.add("Add", total, row)
    return graph.add("Mul", graph.add("Tanh", total), np.array(LARGEST_CODE, np.float32))
