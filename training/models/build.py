"""Build a model: from rows of ids to class probabilities, as Keras layers.

Every model has the same input and output, so that data, export and service know one shape.

Input shape:
    `ids`: int32 (batch, length), right-padded with `PAD`; length varies between batches.

Output shape:
    `probabilities`: float32 (batch, classes); each row sums to 1.
"""

from typing import Any, Final

import keras

from training.config import Config, ModelConfig
from training.models.layers.attention_pool import AttentionPool
from training.models.layers.bigram_table import BigramTable
from training.models.layers.halved_neutral import HalvedNeutral
from training.models.layers.ngram_embeddings import NgramEmbeddings
from training.models.layers.ngram_logits import NgramLogits
from training.models.layers.recurrent import CELLS
from training.models.layers.sequence import PadAndFlatten, Pool, Reverse
from training.models.layers.word_presence import WordPresence
from training.models.layers.word_embeddings import WordEmbeddings

WORD_PRESENCE: Final = "presence"
WORD_EMBEDDINGS: Final = "embedding"
NGRAM_EMBEDDINGS: Final = "known"
PAD_AND_FLATTEN: Final = "row"
POOL: Final = "pool"
ATTENTION: Final = "attention"
HIDDEN, FORWARD, BACKWARD = "hidden_{}", "forward_{}", "backward_{}"
NGRAM_LOGITS: Final = "ngrams"
OUTPUT: Final = "output"
HALVED_NEUTRAL: Final = "halved_neutral"
"""Names of layers, by which export finds them; `{}` counts from 0.

They are saved in `model.keras`. A changed name would make runs trained before impossible to export.
"""


def build_model(
    config: Config, *, vocabulary: int, classes: int, length: int | None = None
) -> keras.Model:
    """Build the architecture of a config, with random weights.

    Args:
        config: A recipe.
        vocabulary: Number of ids, special ids included.
        classes: Number of classes.
        length: Ids of the longest row; `max_length` by default.
    """
    keras.utils.set_random_seed(config.seed)
    ids = keras.Input(shape=(None,), dtype="int32", name="ids")
    if config.model.architecture == "bow":
        features = _bag_of_words(config.model, ids, vocabulary)
    elif config.model.architecture == "embedding":
        features = _flat_embeddings(
            config.model, ids, vocabulary, length or config.text.max_length
        )
    else:
        features = _pooled_states(config.model, ids, vocabulary)
    logits = _dense_layers(config.model, features, classes)
    if config.model.ngram_logits:
        logits = logits + _ngram_logits(config, ids, vocabulary, classes)
    probabilities = keras.layers.Softmax(name="probabilities")(logits)
    return keras.Model(ids, probabilities, name=config.model.architecture)


def halve_neutral(model: keras.Model) -> keras.Model:
    """Return a trained model of three classes without the neutral one, with the same weights."""
    logits = HalvedNeutral(name=HALVED_NEUTRAL)(model.get_layer(OUTPUT).output)
    probabilities = keras.layers.Softmax(name="probabilities")(logits)
    return keras.Model(model.input, probabilities, name=model.name)


def has_layer(model: keras.Model, name: str) -> bool:
    """Whether a model has a layer of this name."""
    return any(layer.name == name for layer in model.layers)


def count_ids(model: keras.Model) -> int:
    """The number of ids a model knows, special ids included."""
    if has_layer(model, WORD_PRESENCE):
        return int(model.get_layer(WORD_PRESENCE).vocabulary)
    return int(model.get_layer(WORD_EMBEDDINGS).input_dim)


def hidden_layers(model: keras.Model) -> list[keras.layers.Dense]:
    """The dense layers between the features and the output, in order."""
    return _numbered(model, HIDDEN)


def recurrent_layers(model: keras.Model) -> list[list[keras.layers.RNN]]:
    """The recurrent layers, in order: of each the forward and, if there is one, the backward one."""
    forward, backward = _numbered(model, FORWARD), _numbered(model, BACKWARD)
    if not backward:
        return [[layer] for layer in forward]
    return [list(both) for both in zip(forward, backward, strict=True)]


def _numbered(model: keras.Model, name: str) -> list[Any]:
    return [
        layer
        for i, _ in enumerate(model.layers)
        for layer in model.layers
        if layer.name == name.format(i)
    ]


def _bag_of_words(config: ModelConfig, ids: Any, vocabulary: int) -> Any:
    presence = WordPresence(vocabulary, name=WORD_PRESENCE)(ids)  # (batch, vocabulary)
    return keras.layers.Dropout(config.input_dropout)(presence)


def _flat_embeddings(config: ModelConfig, ids: Any, vocabulary: int, length: int) -> Any:
    steps = _embed(config, ids, vocabulary)  # (batch, width, features)
    return PadAndFlatten(length, name=PAD_AND_FLATTEN)(steps, ids)  # (batch, length * features)


def _pooled_states(config: ModelConfig, ids: Any, vocabulary: int) -> Any:
    states = _embed(config, ids, vocabulary)  # (batch, length, features)
    for index in range(config.layers):
        if index:
            states = keras.layers.SpatialDropout1D(config.dropout)(states)
        directions = [_recurrent(config, FORWARD.format(index))(states)]
        if config.bidirectional:
            backward = _recurrent(config, BACKWARD.format(index))(Reverse()(states, ids))
            directions.append(Reverse()(backward, ids))
        # (batch, length, units) for each direction
        states = keras.layers.Concatenate()(directions) if config.bidirectional else directions[0]
    pooled = Pool(config.pooling, bidirectional=config.bidirectional, name=POOL)(states, ids)
    if config.attention_heads:
        attended = AttentionPool(config.attention_heads, name=ATTENTION)(states, ids)
        pooled = keras.layers.Concatenate()([pooled, attended])
    return keras.layers.Dropout(config.dropout)(pooled)


def _embed(config: ModelConfig, ids: Any, vocabulary: int) -> Any:
    """N-gram embeddings, if there are any, and word embeddings: (batch, length, features)."""
    words = WordEmbeddings(vocabulary, config.embedding_dim, lr_factor=config.embedding_lr_factor, name=WORD_EMBEDDINGS)
    vectors = words(ids)
    if config.ngram_embeddings:
        dim, size = config.ngram_embedding_dim, config.ngram_embeddings
        ngrams = (
            BigramTable(dim, rows=size, name=NGRAM_EMBEDDINGS)
            if config.ngram_lookup == "bigram"
            else NgramEmbeddings(vocabulary, dim, ngram_embeddings=size, name=NGRAM_EMBEDDINGS)
        )
        vectors = keras.layers.Concatenate()([ngrams(ids), vectors])
    return keras.layers.SpatialDropout1D(config.input_dropout)(vectors)


def _recurrent(config: ModelConfig, name: str) -> keras.layers.RNN:
    """A recurrent layer without a mask: padding comes last, so it changes no real step."""
    return CELLS[config.cell].keras(
        config.units,
        return_sequences=True,
        kernel_initializer=config.weight_init,
        kernel_regularizer=_regularizer(config),
        recurrent_dropout=config.recurrent_dropout,
        name=name,
    )


def _dense_layers(config: ModelConfig, features: Any, classes: int) -> Any:
    """Hidden layers and output: (batch, features) → logits (batch, classes)."""
    for index, units in enumerate(config.hidden):
        features = keras.layers.Dense(
            units,
            activation=config.activation,
            kernel_initializer=config.weight_init,
            kernel_regularizer=_regularizer(config),
            name=HIDDEN.format(index),
        )(features)
        features = keras.layers.Dropout(config.dropout)(features)
    is_only_layer = config.architecture != "rnn" and not config.hidden
    return keras.layers.Dense(
        classes,
        kernel_initializer=config.weight_init,
        kernel_regularizer=_regularizer(config) if is_only_layer else None,
        name=OUTPUT,
    )(features)


def _regularizer(config: ModelConfig) -> keras.regularizers.Regularizer | None:
    if config.l1 or config.l2:
        return keras.regularizers.L1L2(config.l1, config.l2)
    return None


def _ngram_logits(config: Config, ids: Any, vocabulary: int, classes: int) -> Any:
    return NgramLogits(
        vocabulary,
        classes,
        orders=config.model.ngram_logits,
        buckets=config.model.ngram_logits_buckets,
        lr_factor=config.model.ngram_logits_lr_factor,
        l2=config.model.ngram_logits_l2,
        nb_weighting=config.model.nb_weighting,
        trainable=config.teacher.kind == "none",  # else the teacher's table is copied in at the end
        name=NGRAM_LOGITS,
    )(ids)  # (batch, classes)
