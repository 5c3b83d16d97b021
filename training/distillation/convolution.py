"""Convolution: a network on the vectors of n-grams, too large to serve, that teaches one to serve.

At each word stand the word's own vector, those of the n-grams that end there, and that of the
region around it, which were learned from all texts without labels. A convolution over neighbouring
places weighs what stands side by side, where a sum of the same vectors weighs each n-gram alone.

It has a vector for each of a million n-grams: seven times the numbers that a served model has.

Source:
    Johnson and Zhang, "Semi-supervised Convolutional Neural Networks for Text Categorization via
    Region Embedding" (2015).
"""

from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from app.text.padding import Int32Array
from app.text.vocabulary import PAD
from training.data.batches import TrainingBatches
from training.data.shards import Rows
from training.features.ngram_hashing import add_vectors
from training.features.ngram_vectors import NgramVectors, known_numbers
from training.features.region_vectors import REGION, RegionVectors
from training.features.store import Known
from training.fit.step import build_step
from training.models.build import EMBEDDING
from training.models.layers import Pool, WordVectors
from training.models.predict import score_rows
from training.support.arrays import Float64Array
from training.support.progress import progress_bar

_FILTERS: Final = 512


_REACH: Final = 3
"""Places that a filter sees."""


_EPOCHS: Final = 4


_BATCH: Final = 64


_RATE: Final = 1e-3


_WORD_RATE: Final = 0.3


_WARMUP: Final = 100


_REGION_SIZE: Final = 3.0
"""By which vectors of regions are multiplied: they are of length 1 at most."""


_WORD_DROPOUT: Final = 0.15


_VECTOR_DROPOUT: Final = 0.15


_DROPOUT: Final = 0.5


_AVERAGE: Final = 0.99


_CLIP_NORM: Final = 1.0


_SCORED: Final = 128
"""Texts scored at once."""


class NgramsEndingHere(keras.layers.Layer):  # type: ignore[misc]
    """At each word the sum of the vectors of the n-grams that end there, of up to three words.

    Input shape:
        int32 (batch, length), right-padded with `PAD`.

    Output shape:
        float32 (batch, length, width); 0 at padding and where no n-gram has a vector.
    """

    def __init__(self, vectors: NgramVectors, vocabulary: int, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        buckets, (rows, self._width) = len(vectors.place), vectors.vectors.shape
        self._numbers = known_numbers(vocabulary)
        # The row of zeros in front is for n-grams without a vector. Half the bytes do: these are
        # hundreds of megabytes, and a vector is read more often than it is calculated with.
        self._place = self.add_weight(shape=(buckets,), dtype="int32", initializer="zeros")
        self._vectors = self.add_weight(
            shape=(1 + rows, self._width), dtype="float16", initializer="zeros", autocast=False
        )
        self._place.assign(vectors.place + 1)
        self._vectors.assign(np.pad(vectors.vectors, [(1, 0), (0, 0)]).astype(np.float16))

    def call(self, ids: Any) -> Any:
        """Look up the n-grams of each order, and add them up."""
        return add_vectors(ids, self._numbers, self._place, self._vectors)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, length, width)."""
        return (*input_shape, self._width)


class Regions(keras.layers.Layer):  # type: ignore[misc]
    """At each word the vector of the region around it.

    Input shape:
        int32 (batch, length), right-padded with `PAD`.

    Output shape:
        float32 (batch, length, width).
    """

    def __init__(self, vectors: RegionVectors, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self._words = self.add_weight(shape=vectors.words.shape, initializer="zeros")
        self._bias = self.add_weight(shape=vectors.bias.shape, initializer="zeros")
        self._words.assign(vectors.words)
        self._bias.assign(vectors.bias)

    def call(self, ids: Any) -> Any:
        """Look up, add what stands side by side, rectify and normalise."""
        length, half = ops.shape(ids)[1], REGION // 2
        words = ops.pad(ops.take(self._words, ids, axis=0), [(0, 0), (half, half), (0, 0)])
        total = self._bias
        for first in range(REGION):
            total = total + words[:, first : first + length]
        region = ops.relu(total)
        return region / ops.sqrt(1 + ops.sum(ops.square(region), axis=-1, keepdims=True))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, length, width)."""
        return (*input_shape, self._bias.shape[0])


class Convolution:
    """One network for every fit: the vectors of its n-grams are laid out once."""

    def __init__(self, known: Known, classes: int, *, seed: int) -> None:
        """Build the network.

        Args:
            known: What it starts from.
            classes: Labels there are.
            seed: Of the first weights, the order and the dropout.
        """
        self._classes, self._seed = classes, seed
        self._model = _build(known, classes, seed)
        self._model.get_layer(EMBEDDING).vectors = known.words
        # Dropout has a state too. What stays as it is, is left out: it is most of all bytes.
        fixed = {id(weight) for layer in self._model.layers for weight in _fixed(layer)}
        self._first = [
            (variable, ops.convert_to_numpy(variable))
            for variable in self._model.variables
            if id(variable) not in fixed
        ]

    def fit(self, rows: Sequence[Int32Array], target: NDArray[Any], title: str) -> None:
        """Learn from nothing but these texts and their labels, under a bar with a title."""
        for variable, first in self._first:
            variable.assign(first)
        batches = TrainingBatches(
            Rows(rows, np.eye(self._classes)[target]),
            batch_size=_BATCH,
            word_dropout=_WORD_DROPOUT,
            seed=self._seed,
        )
        steps = _EPOCHS * len(batches)
        warmup = min(_WARMUP, steps // 2)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, steps - warmup, warmup_target=_RATE, warmup_steps=warmup
        )
        self._model.compile(
            optimizer=keras.optimizers.Adam(
                rate, global_clipnorm=_CLIP_NORM, use_ema=True, ema_momentum=_AVERAGE
            ),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
        self._model.optimizer.build(self._model.trainable_variables)
        step = build_step(self._model, batches)
        with progress_bar() as bar:
            task = bar.add_task(title, total=steps)
            for epoch in range(_EPOCHS):
                for batch in batches.epoch(epoch).as_numpy_iterator():
                    step(*batch)
                    bar.advance(task)
        self._model.optimizer.finalize_variable_values(self._model.trainable_variables)

    def score(self, rows: Sequence[Int32Array]) -> Float64Array:
        """Logits, (rows, classes)."""
        if not rows:
            return np.zeros((0, self._classes))
        return score_rows(lambda ids, _lengths: self._model.predict_on_batch(ids), rows, _SCORED)


def _fixed(layer: keras.layers.Layer) -> list[keras.Variable]:
    return [] if layer.trainable else list(layer.weights)


def _build(known: Known, classes: int, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    vocabulary, width = known.words.shape
    ids = keras.Input(shape=(None,), dtype="int32")
    ngrams = NgramsEndingHere(known.ngrams, vocabulary)(ids)  # (batch, length, width of n-grams)
    word = WordVectors(vocabulary, width, rate=_WORD_RATE, name=EMBEDDING)(ids)
    region = _REGION_SIZE * Regions(known.regions)(ids)
    dropped = [keras.layers.SpatialDropout1D(_VECTOR_DROPOUT)(each) for each in (word, region)]
    real = ops.cast(ops.expand_dims(ops.not_equal(ids, PAD), -1), "float32")
    places = keras.layers.Concatenate()([ngrams, *dropped]) * real
    found = keras.layers.Conv1D(_FILTERS, _REACH, padding="same", activation="relu")(places)
    pooled = keras.layers.Dropout(_DROPOUT)(Pool("max_mean")(found, ids))  # (batch, 2 * filters)
    return keras.Model(ids, keras.layers.Dense(classes)(pooled))
