"""Models: from rows of ids to class probabilities, as Keras layers.

Every model takes the same input, so that data, export and service know one shape:

Input shape:
    `ids`: int32 (batch, length), right-padded with `PAD`; length varies between batches.

Output shape:
    `probabilities`: float32 (batch, classes), rows sum to 1.
"""

from training.config import Config, ModelConfig
from training.models.fused_lstm import FusedLSTM
from training.models.layers import FixedRow
from training.models.layers import KnownNgrams
from training.models.layers import NgramSum
from training.models.layers import Pool
from training.models.layers import Reverse
from training.models.layers import WordPresence
from training.models.layers import WordVectors
from typing import Any
import keras


PRESENCE, EMBEDDING, KNOWN, ROW, POOL = "presence", "embedding", "known", "row", "pool"


NGRAMS, OUTPUT = "ngrams", "output"


HIDDEN, FORWARD, BACKWARD = "hidden_{}", "forward_{}", "backward_{}"
"""Names of layers by which the exporter finds their weights; those with `{}` count from 0."""


def build_model(
    config: Config, *, vocabulary: int, classes: int, length: int | None = None
) -> keras.Model:
    """Build the architecture that `config` names.

    Args:
        config: Widths and dropout rates.
        vocabulary: Ids there are, special ids included.
        classes: Labels there are.
        length: Ids of a row at most, where that is not `config.text.max_length`.
    """
    keras.utils.set_random_seed(config.seed)
    ids = keras.Input(shape=(None,), dtype="int32", name="ids")
    if config.model.architecture == "bow":
        features = _bag_of_words(config.model, ids, vocabulary)
    elif config.model.architecture == "embedding":
        features = _word_vectors_in_a_row(config.model, ids, vocabulary, length or config.text.max_length)
    else:
        features = _pooled_states(config.model, ids, vocabulary)
    for index, units in enumerate(config.model.hidden):  # (batch, features)
        features = keras.layers.Dense(
            units,
            activation=config.model.activation,
            kernel_initializer=config.model.weight_init,
            kernel_regularizer=_regularizer(config.model),
            name=HIDDEN.format(index),
        )(features)  # (batch, units)
        features = keras.layers.Dropout(config.model.dropout)(features)
    is_only_layer = config.model.architecture != "rnn" and not config.model.hidden
    logits = keras.layers.Dense(
        classes,
        kernel_initializer=config.model.weight_init,
        kernel_regularizer=_regularizer(config.model) if is_only_layer else None,
        name=OUTPUT,
    )(features)
    if config.model.ngram_logits:
        logits = logits + _ngrams(
            config.model,
            ids,
            vocabulary,
            classes,
            trainable=config.teacher.kind == "none",  # a teacher's table is put in at the end
        )
    probabilities = keras.layers.Softmax(name="probabilities")(logits)
    return keras.Model(ids, probabilities, name=config.model.architecture)


def has_layer(model: keras.Model, name: str) -> bool:
    """Whether a model has a layer of this name."""
    return any(layer.name == name for layer in model.layers)


def hidden_layers(model: keras.Model) -> list[keras.layers.Dense]:
    """The dense layers between the features and the output, in order."""
    return _numbered(model, HIDDEN)


def recurrent_layers(model: keras.Model) -> list[list[keras.layers.RNN]]:
    """The recurrent layers, in order: of each the layer that reads forward, then the other."""
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


def _regularizer(config: ModelConfig) -> keras.regularizers.Regularizer | None:
    if config.l1 or config.l2:
        return keras.regularizers.L1L2(config.l1, config.l2)
    return None


def _bag_of_words(config: ModelConfig, ids: Any, vocabulary: int) -> Any:
    presence = WordPresence(vocabulary, name=PRESENCE)(ids)  # (batch, vocabulary)
    return keras.layers.Dropout(config.input_dropout)(presence)


def _embed(config: ModelConfig, ids: Any, vocabulary: int) -> Any:
    words = WordVectors(vocabulary, config.embedding_dim, rate=config.embedding_lr_factor, name=EMBEDDING)
    vectors = words(ids)
    if config.ngram_embeddings:
        known = KnownNgrams(vocabulary, config.ngram_embedding_dim, most=config.ngram_embeddings, name=KNOWN)
        vectors = keras.layers.Concatenate()([known(ids), vectors])
    return keras.layers.SpatialDropout1D(config.input_dropout)(vectors)


def _word_vectors_in_a_row(config: ModelConfig, ids: Any, vocabulary: int, length: int) -> Any:
    words = _embed(config, ids, vocabulary)  # (batch, length, features)
    return FixedRow(length, name=ROW)(words, ids)  # (batch, most * features)


def _pooled_states(config: ModelConfig, ids: Any, vocabulary: int) -> Any:
    states = _embed(config, ids, vocabulary)  # (batch, length, features)
    for index in range(config.layers):
        if index:
            states = keras.layers.SpatialDropout1D(config.dropout)(states)
        directions = [_recurrent(config, FORWARD.format(index))(states)]
        if config.bidirectional:
            turned = _recurrent(config, BACKWARD.format(index))(Reverse()(states, ids))
            directions.append(Reverse()(turned, ids))
        # (batch, length, units) for each direction
        states = keras.layers.Concatenate()(directions) if config.bidirectional else directions[0]
    pooled = Pool(config.pooling, bidirectional=config.bidirectional, name=POOL)(states, ids)
    return keras.layers.Dropout(config.dropout)(pooled)


def _recurrent(config: ModelConfig, name: str) -> keras.layers.RNN:
    """A layer without a mask: padding stands behind the real steps, and changes none of them."""
    layers = {
        "simple": keras.layers.SimpleRNN,
        "lstm": FusedLSTM,
        "gru": keras.layers.GRU,
    }
    return layers[config.cell](
        config.units,
        return_sequences=True,
        kernel_initializer=config.weight_init,
        kernel_regularizer=_regularizer(config),
        recurrent_dropout=config.recurrent_dropout,
        name=name,
    )


def _ngrams(
    config: ModelConfig, ids: Any, vocabulary: int, classes: int, *, trainable: bool
) -> Any:
    return NgramSum(
        vocabulary,
        classes,
        orders=config.ngram_logits,
        buckets=config.ngram_logits_buckets,
        rate=config.ngram_logits_lr_factor,
        l2=config.ngram_logits_l2,
        weighted=config.nb_weighting,
        trainable=trainable,
        name=NGRAMS,
    )(ids)  # (batch, classes)
