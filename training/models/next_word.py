"""Next-word prediction: a recurrent model learns to read before it learns labels.

A few ten thousand labels say little about how words follow each other. Every text says it at every
word: the states of a model are to predict the next one. What the embeddings and the recurrent
layers learn from that, a model that classifies texts starts from.

The softmax over all words would cost many times as much as the model, so each step compares the
next words with a sample of others. A word that is drawn often counts less each time, so that their
sum is about that of all words, and the loss about the cross-entropy. Where a long text was
truncated in its middle, one word is predicted from another that it did not follow.

Source:
    Dai and Le, "Semi-supervised Sequence Learning" (2015). The sample: Bengio and Senécal, "Adaptive
    Importance Sampling to Accelerate Training of a Neural Probabilistic Language Model" (2008).
"""

from typing import Any, Final

import keras
import numpy as np
from keras import ops

from app.text.vocabulary import FIRST_WORD
from training.features.sampling import NEGATIVE_POWER
from training.models.build import WORD_EMBEDDINGS, recurrent_layers
from training.models.layers.sequence import Shape
from training.support.arrays import Float32Array, Int64Array

_SAMPLED: Final = 512
"""Words that each step compares the next words with."""
_LEARNING_RATE: Final = 3e-3
_WARMUP_STEPS: Final = 300
"""In which the learning rate rises, or a tenth of all steps if those are fewer."""
_CLIP_NORM: Final = 1.0
"""Of the gradients, before Keras adds up those of a word that occurs several times in a batch.
Without a norm to compute, its Adam would not add them up."""
METHOD: Final = (_SAMPLED, NEGATIVE_POWER, _LEARNING_RATE, _WARMUP_STEPS, _CLIP_NORM)
"""What the result depends on beside texts, model and seed, ready for JSON."""
_BEHIND: Final = -1e9
"""The logit of a drawn word that is the next word itself."""


class NextWordLoss(keras.layers.Layer):  # type: ignore[misc]
    """The loss of predicting each next word from the state before it, by a sample of all words.

    Other words are drawn for each step of a training; outside of one, always the same.

    Input shape:
        float32 states (batch, length, units), and int32 ids (batch, length).

    Output shape:
        float32 (): the mean over the next words of the batch that are in the vocabulary, 0 if there
        are none. It is also the layer's own loss.
    """

    def __init__(self, vectors: Float32Array, counts: Int64Array, *, seed: int) -> None:
        """Start the output vectors from word embeddings, and each bias from a word's frequency.

        Args:
            vectors: float32 (vocabulary, dim), as the words start.
            counts: How frequent each id is, int64 (vocabulary,).
            seed: Of the words that are drawn, and of the projection.
        """
        super().__init__()
        self._initial, self._seed = vectors, seed
        smoothed = counts + 1.0
        self._log_frequency = np.log(smoothed / smoothed.sum()).astype(np.float32)
        drawn = smoothed[FIRST_WORD:] ** NEGATIVE_POWER
        self._log_drawn = np.full(len(counts), -np.inf, np.float32)  # special ids are never drawn
        self._log_drawn[FIRST_WORD:] = np.log(drawn / drawn.sum())
        self._seeds = keras.random.SeedGenerator(seed)

    def build(self, states_shape: Shape, ids_shape: Shape) -> None:
        """Create a projection to the size of the vectors, the vectors, and a bias for each word."""
        vocabulary, dim = self._initial.shape
        self._projection = self.add_weight(
            name="projection",
            shape=(states_shape[-1], dim),
            # Otherwise its seed would depend on how many layers the model has.
            initializer=keras.initializers.GlorotUniform(seed=self._seed),
        )
        self._vectors = self.add_weight(name="vectors", shape=(vocabulary, dim))
        self._bias = self.add_weight(name="bias", shape=(vocabulary,))
        self._vectors.assign(self._initial)
        self._bias.assign(self._log_frequency)

    def call(self, states: Any, ids: Any, training: bool | None = None) -> Any:
        """Compare each next word with the words that are drawn."""
        following = ops.reshape(ids[:, 1:], (-1,))
        states = ops.reshape(states[:, :-1], (-1, states.shape[-1]))
        queries = ops.matmul(states, self._projection)  # (words, dim)
        log_drawn = ops.convert_to_tensor(self._log_drawn)
        drawn = keras.random.categorical(
            log_drawn[None], _SAMPLED, seed=self._seeds if training else self._seed
        )[0]
        right = ops.sum(queries * ops.take(self._vectors, following, axis=0), axis=1)
        right = right + ops.take(self._bias, following)
        wrong = ops.matmul(queries, ops.transpose(ops.take(self._vectors, drawn, axis=0)))
        wrong = wrong + ops.take(self._bias, drawn)
        # A word is drawn so many times on average, and counts as often as all words once.
        wrong = wrong - ops.take(log_drawn, drawn) - np.float32(np.log(_SAMPLED))
        wrong = ops.where(following[:, None] == drawn[None], _BEHIND, wrong)
        logits = ops.concatenate([right[:, None], wrong], axis=1)
        losses = ops.logsumexp(logits, axis=1) - right
        known = ops.cast(following >= FIRST_WORD, losses.dtype)
        loss = ops.sum(losses * known) / ops.maximum(ops.sum(known), 1.0)
        self.add_loss(loss)
        return loss

    def compute_output_shape(self, states_shape: Shape, ids_shape: Shape) -> Shape:
        """A number."""
        return ()


def build_next_word_model(
    model: keras.Model, counts: Int64Array, *, steps: int, seed: int
) -> keras.Model:
    """Build a compiled model that trains the embeddings and the recurrent layers of another.

    Args:
        model: From `build_model`, with recurrent layers in one direction.
        counts: How frequent each id is in the texts, int64 (vocabulary,).
        steps: Of the whole training, in which the learning rate falls to 0.
        seed: Of the words that are drawn.
    """
    vectors = model.get_layer(WORD_EMBEDDINGS).vectors
    loss = NextWordLoss(vectors, counts, seed=seed)(reader(model).output, model.input)
    warmup = min(_WARMUP_STEPS, steps // 10)
    rate = keras.optimizers.schedules.CosineDecay(
        _LEARNING_RATE / max(warmup, 1),
        max(steps - warmup, 1),
        warmup_target=_LEARNING_RATE,
        warmup_steps=warmup,
    )
    next_word = keras.Model(model.input, loss, name="next_word")
    next_word.compile(
        optimizer=keras.optimizers.Adam(rate, global_clipnorm=_CLIP_NORM), jit_compile=False
    )
    return next_word


def reader(model: keras.Model) -> keras.Model:
    """The part of a model that next-word prediction trains: from ids to the last layer's states."""
    (forward,) = recurrent_layers(model)[-1]
    return keras.Model(model.input, forward.output)  # (batch, length, units)
