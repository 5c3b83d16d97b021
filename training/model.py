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

from app.errors import InvalidInput
from app.text.vocabulary import FIRST_WORD, PAD
from training.config import Config

EMBEDDING, LSTM, OUTPUT = "embedding", "lstm", "output"
HIDDEN = "hidden_{}"
"""Names of layers by which the exporter finds their weights; `HIDDEN` counts from 0."""


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
        super().__init__(vocabulary, width, mask_zero=PAD == 0, **kwargs)
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
class MaskedPool(keras.layers.Layer):  # type: ignore[misc]
    """Maximum and mean over the real steps: (batch, length, units) → (batch, 2 * units).

    Without a mask the padding would take part, and an answer would depend on its neighbours.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, states: Any, mask: Any = None) -> Any:
        """Pool under `mask`, bool (batch, length)."""
        if mask is None:
            raise InvalidInput("MaskedPool needs the mask of an Embedding with mask_zero=True")
        real = ops.cast(ops.expand_dims(mask, -1), states.dtype)
        lowest = ops.cast(-1e9, states.dtype)
        highest = ops.max(states * real + (1 - real) * lowest, axis=1)
        mean = ops.sum(states * real, axis=1) / ops.sum(real, axis=1)
        return ops.concatenate([highest, mean], axis=-1)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """Steps are gone, so is their mask."""

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, 2 * units)."""
        units = cast(int, input_shape[-1])
        return (input_shape[0], 2 * units)


def build_model(config: Config, *, vocabulary: int, classes: int) -> keras.Model:
    """Build the architecture that `config` names.

    Args:
        config: Widths and dropout rates.
        vocabulary: Ids there are, special ids included.
        classes: Labels there are.

    Raises:
        InvalidInput: There is no such architecture.
    """
    builders = {"bow": _bag_of_words, "lstm": _lstm}
    if config.architecture not in builders:
        raise InvalidInput(
            f"architecture must be one of {', '.join(builders)}. Received: {config.architecture}"
        )
    keras.utils.set_random_seed(config.seed)
    ids = keras.Input(shape=(None,), dtype="int32", name="ids")
    features = builders[config.architecture](config, ids, vocabulary)  # (batch, features)
    for index, units in enumerate(config.hidden):
        features = keras.layers.Dense(
            units,
            activation="relu",
            kernel_regularizer=keras.regularizers.L2(config.l2) if config.l2 else None,
            name=HIDDEN.format(index),
        )(features)  # (batch, units)
        features = keras.layers.Dropout(config.dropout)(features)
    probabilities = keras.layers.Dense(classes, activation="softmax", name=OUTPUT)(features)
    return keras.Model(ids, probabilities, name=config.architecture)


def hidden_layers(model: keras.Model) -> list[str]:
    """Names of the dense layers between the features and the output, in order."""
    names = [layer.name for layer in model.layers]
    return [name for index in range(len(names)) if (name := HIDDEN.format(index)) in names]


def _bag_of_words(config: Config, ids: Any, vocabulary: int) -> Any:
    presence = WordPresence(vocabulary, name="presence")(ids)  # (batch, vocabulary)
    return keras.layers.Dropout(config.input_dropout)(presence)


def _lstm(config: Config, ids: Any, vocabulary: int) -> Any:
    embedding = WordVectors(
        vocabulary, config.embedding, rate=config.embedding_rate, name=EMBEDDING
    )
    words = embedding(ids)  # (batch, length, embedding)
    words = keras.layers.SpatialDropout1D(config.input_dropout)(words)
    # cuDNN's kernel has no recurrent dropout and refuses a mask it does not know; the plain loop
    # runs everywhere, and the exported graph has its own kernels anyway.
    states = keras.layers.LSTM(config.units, return_sequences=True, use_cudnn=False, name=LSTM)(
        words
    )  # (batch, length, units)
    pooled = MaskedPool(name="pool")(states)  # (batch, 2 * units)
    return keras.layers.Dropout(config.dropout)(pooled)
