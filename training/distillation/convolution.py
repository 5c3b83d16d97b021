"""The convolutional teacher: a network on frozen n-gram and region embeddings.

The embedding of a word is concatenated with those of the n-grams that end at it and of the region
around it, which were learned from all texts without labels. A convolution over neighbouring words
sees word order, which a sum of the same vectors does not.

It has a vector for each of a million n-grams, seven times the parameters of a served model.

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
from training.data.shards import InMemoryShard
from training.features.region_vectors import REGION, RegionVectors
from training.features.store import ConvolutionVectors
from training.fit.step import build_step
from training.models.build import WORD_EMBEDDINGS
from training.models.layers.ngram_embeddings import NgramVectorSum
from training.models.layers.sequence import Pool
from training.models.layers.word_embeddings import WordEmbeddings
from training.models.predict import score_rows
from training.support.arrays import Float64Array
from training.support.interruption import check_interruption
from training.support.processor import multiplies_bfloat16
from training.support.progress import progress_bar

_FILTERS: Final = 512
_KERNEL_SIZE: Final = 3
_EPOCHS: Final = 4
_BATCH: Final = 64
_RATE: Final = 1e-3
_WORD_RATE: Final = 0.3
"""The learning rate of word embeddings, relative to that of the other weights."""
_WARMUP_STEPS: Final = 100
_REGION_SCALE: Final = 3.0
"""Region embeddings have a norm of 1 at most, less than the others; this compensates."""
_WORD_DROPOUT: Final = 0.15
_EMBEDDING_DROPOUT: Final = 0.15
_DROPOUT: Final = 0.5
_EMA_MOMENTUM: Final = 0.99
_CLIP_NORM: Final = 1.0
_PREDICT_BATCH: Final = 128


class RegionEmbedding(keras.layers.Layer):  # type: ignore[misc]
    """The vector of the region around each word: two words before it and two after it.

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
        """Sum the vectors of neighbouring words, apply ReLU, and normalize."""
        length, half = ops.shape(ids)[1], REGION // 2
        words = ops.pad(ops.take(self._words, ids, axis=0), [(0, 0), (half, half), (0, 0)])
        total = self._bias
        for first in range(REGION):
            total = total + words[:, first : first + length]
        region = ops.relu(total)
        return region / ops.sqrt(1 + ops.sum(ops.square(region), axis=-1, keepdims=True))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return (batch, length, width)."""
        return (*input_shape, self._bias.shape[0])


class ConvolutionTeacher:
    """A convolutional network that is fitted several times, each time from the same weights."""

    def __init__(self, known: ConvolutionVectors, classes: int, *, seed: int) -> None:
        """Build the network.

        Args:
            known: Its embeddings.
            classes: The number of classes.
            seed: Of the initial weights, the order of the texts and the dropout.
        """
        self._classes, self._seed = classes, seed
        self._model = _build(known, classes, seed)
        self._model.get_layer(WORD_EMBEDDINGS).vectors = known.words
        # Frozen weights, nearly all of the memory, need no copy. The states of dropout do.
        frozen = {id(weight) for layer in self._model.layers for weight in _frozen(layer)}
        self._initial = [
            (variable, ops.convert_to_numpy(variable))
            for variable in self._model.variables
            if id(variable) not in frozen
        ]

    def fit(self, rows: Sequence[Int32Array], targets: NDArray[Any], title: str) -> None:
        """Reset the network and fit it; `title` is shown at the progress bar."""
        for variable, initial in self._initial:
            variable.assign(initial)
        batches = TrainingBatches(
            InMemoryShard(rows, np.eye(self._classes)[targets]),
            batch_size=_BATCH,
            word_dropout=_WORD_DROPOUT,
            seed=self._seed,
        )
        steps = _EPOCHS * len(batches)
        self._compile(steps)
        step = build_step(self._model, batches)
        with progress_bar() as bar:
            task = bar.add_task(title, total=steps)
            for epoch in range(_EPOCHS):
                for batch in batches.epoch(epoch).as_numpy_iterator():
                    step(*batch)
                    bar.advance(task)
                    check_interruption()
        self._model.optimizer.finalize_variable_values(self._model.trainable_variables)

    def predict(self, rows: Sequence[Int32Array]) -> Float64Array:
        """Return the logits of each text, (rows, classes)."""
        if not rows:
            return np.zeros((0, self._classes))
        return score_rows(
            lambda ids, _lengths: self._model.predict_on_batch(ids), rows, _PREDICT_BATCH
        )

    def _compile(self, steps: int) -> None:
        """Set a new optimizer: linear warm-up, then cosine decay over `steps`."""
        warmup = min(_WARMUP_STEPS, steps // 2)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, steps - warmup, warmup_target=_RATE, warmup_steps=warmup
        )
        self._model.compile(
            optimizer=keras.optimizers.Adam(
                rate, global_clipnorm=_CLIP_NORM, use_ema=True, ema_momentum=_EMA_MOMENTUM
            ),
            loss=keras.losses.CategoricalCrossentropy(from_logits=True),
            jit_compile=False,
        )
        self._model.optimizer.build(self._model.trainable_variables)


def _frozen(layer: keras.layers.Layer) -> list[keras.Variable]:
    return [] if layer.trainable else list(layer.weights)


def _build(known: ConvolutionVectors, classes: int, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    vocabulary, width = known.words.shape
    ids = keras.Input(shape=(None,), dtype="int32")
    ngrams = NgramVectorSum.of(known.ngrams, vocabulary)(ids)  # (batch, length, ngram_vector_dim)
    words = WordEmbeddings(vocabulary, width, lr_factor=_WORD_RATE, name=WORD_EMBEDDINGS)(ids)
    regions = _REGION_SCALE * RegionEmbedding(known.regions)(ids)
    dropped = [keras.layers.SpatialDropout1D(_EMBEDDING_DROPOUT)(each) for each in (words, regions)]
    mask = ops.cast(ops.expand_dims(ops.not_equal(ids, PAD), -1), "float32")
    embedded = keras.layers.Concatenate()([ngrams, *dropped]) * mask
    convolved = keras.layers.Conv1D(
        _FILTERS,
        _KERNEL_SIZE,
        padding="same",
        activation="relu",
        dtype="mixed_bfloat16" if multiplies_bfloat16() else None,
    )(embedded)
    pooled = Pool("max_mean")(convolved, ids)  # (batch, 2 * filters)
    # Each layer draws a seed when it is made, so the order of these two decides the weights.
    pooled = keras.layers.Dropout(_DROPOUT)(pooled)
    return keras.Model(ids, keras.layers.Dense(classes)(pooled))
