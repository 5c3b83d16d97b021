"""Word embeddings: a trained vector for each word.

Input shape:
    int32 ids of any two axes.

Output shape:
    float32 (*ids.shape, embedding_dim).
"""

from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.models.layers.frozen import freeze
from training.models.layers.int8_table import Codes, quantize_columns
from training.models.layers.saved_names import RenamedArguments, saved_as
from training.models.onnx_writer import GraphWriter
from training.support.arrays import Float32Array

Float16Array = NDArray[np.float16]

# --- Keras ---


@saved_as("WordVectors")
class WordEmbeddings(RenamedArguments, keras.layers.Embedding):  # type: ignore[misc]
    """An embedding with a learning rate of its own.

    Adam moves every weight by about the learning rate, whatever the size of its gradient. Weights
    stored as `vectors / lr_factor` and multiplied by `lr_factor` in the forward pass therefore move
    `lr_factor` times as fast as the rest of the model. A small factor protects vectors that were
    pretrained on much unlabelled text.
    """

    renamed: ClassVar = {"width": "embedding_dim", "rate": "lr_factor"}

    def __init__(
        self, vocabulary: int, embedding_dim: int, *, lr_factor: float = 1.0, **kwargs: Any
    ) -> None:
        """Create random vectors.

        Args:
            vocabulary: Number of ids, special ids included.
            embedding_dim: Dimensions of a vector.
            lr_factor: Learning rate, as a multiple of that of the model.
            kwargs: Arguments of every layer.
        """
        super().__init__(vocabulary, embedding_dim, **kwargs)
        self.lr_factor = lr_factor

    @property
    def vectors(self) -> Float32Array:
        """float32 (vocabulary, embedding_dim), as the other layers see them."""
        vectors: Float32Array = self.get_weights()[0] * np.float32(self.lr_factor)
        return vectors

    @vectors.setter
    def vectors(self, values: Float32Array) -> None:
        self.set_weights([values / np.float32(self.lr_factor)])

    def call(self, inputs: Any) -> Any:
        """Look up and scale."""
        return super().call(inputs) * self.lr_factor

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        base = super().get_config()
        inherited = {key: base[key] for key in ("name", "trainable", "dtype")}
        own = {
            "vocabulary": self.input_dim,
            "embedding_dim": self.output_dim,
            "lr_factor": self.lr_factor,
        }
        return {**inherited, **own}


# --- TensorFlow graph ---


class WordEmbeddingsGraph(tf.Module):  # type: ignore[misc]
    """`WordEmbeddings` as TensorFlow operations, with a table of codes (`int8_table`).

    Export rounds the model's own weights first, so nothing is lost here.
    """

    def __init__(self, layer: WordEmbeddings) -> None:
        super().__init__()
        codes, scale = quantize_columns(layer.vectors)
        self._codes = freeze(codes, "embedding", dtype=np.float16)
        self._scale = freeze(scale, "embedding_scale")

    def __call__(self, ids: Any) -> Any:
        """Look up, then widen to single precision and scale."""
        return tf.cast(tf.gather(self._codes, ids), tf.float32) * self._scale


# --- ONNX ---


def add_word_codes(graph: GraphWriter, ids: str, codes: Codes) -> str:
    """The codes of `WordEmbeddings`, int8 (*ids.shape, columns)."""
    return graph.add("Gather", codes, ids)
