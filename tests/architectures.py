"""A tiny model of each architecture, with random weights in every layer, and a batch for it."""

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.text.vocabulary import BEGIN, PAD
from tests.deferred import deferred
from training.config import (
    NGRAM_EMBEDDING_BUCKETS,
    NGRAM_VECTOR_DIM,
    Config,
    ModelConfig,
    PreprocessingConfig,
)

with deferred():
    import keras

    from training.export.saved_model import round_tables
    from training.features.bigrams import BigramVectors, bigram_keys, empty_keys
    from training.features.ngram_vectors import NgramVectors
    from training.models.build import NGRAM_EMBEDDINGS, build_model, halve_neutral, has_layer

VOCABULARY, WIDTH = 50, 40
LSTM = Config(
    name="m",
    text=PreprocessingConfig(max_length=WIDTH, head_tokens=10),
    model=ModelConfig(architecture="rnn", embedding_dim=12, units=9),
)
BOW = LSTM.replace(architecture="bow")
CONFIGS: Final = {
    "lstm": LSTM,
    "lstm-hidden": LSTM.replace(hidden=(6, 5)),
    "lstm-ngrams": LSTM.replace(
        ngram_logits=2, ngram_logits_buckets=128, ngram_logits_lr_factor=0.5
    ),
    "lstm-known": LSTM.replace(ngram_embeddings=20, ngram_embedding_dim=5),
    "lstm-known-ngrams": LSTM.replace(
        ngram_embeddings=20, ngram_embedding_dim=5, ngram_logits=3, ngram_logits_buckets=128
    ),
    "lstm-bigrams": LSTM.replace(
        ngram_embeddings=256, ngram_embedding_dim=5, ngram_lookup="bigram"
    ),
    "lstm-attention": LSTM.replace(attention_heads=3),
    "lstm-bigrams-attention": LSTM.replace(
        ngram_embeddings=256, ngram_embedding_dim=5, ngram_lookup="bigram", attention_heads=4
    ),
    "lstm-halved": LSTM.replace(neutral=True, halve_neutral=True),
    "lstm-last": LSTM.replace(pooling="last"),
    "lstm-stacked": LSTM.replace(layers=3, pooling="max"),
    "lstm-both-ways": LSTM.replace(bidirectional=True, layers=2),
    "lstm-both-ways-attention": LSTM.replace(bidirectional=True, attention_heads=2, pooling="max"),
    "lstm-both-ways-last": LSTM.replace(bidirectional=True, layers=2, pooling="last"),
    "gru": LSTM.replace(cell="gru", pooling="mean"),
    "gru-stacked-attention": LSTM.replace(cell="gru", layers=2, pooling="mean", attention_heads=2),
    "gru-both-ways-last": LSTM.replace(cell="gru", bidirectional=True, layers=2, pooling="last"),
    "simple": LSTM.replace(cell="simple", pooling="last"),
    "simple-both-ways": LSTM.replace(cell="simple", bidirectional=True, layers=2, pooling="max"),
    "embedding": LSTM.replace(architecture="embedding", hidden=(7,), activation="selu"),
    "embedding-known": LSTM.replace(
        architecture="embedding", ngram_embeddings=30, ngram_embedding_dim=3
    ),
    "embedding-bigrams": LSTM.replace(
        architecture="embedding",
        ngram_embeddings=256,
        ngram_embedding_dim=3,
        ngram_lookup="bigram",
    ),
    "embedding-linear": LSTM.replace(architecture="embedding"),
    "bow": BOW,
    "bow-hidden": BOW.replace(hidden=(6, 5), activation="tanh"),
    "bow-hidden-halved": BOW.replace(hidden=(6,), neutral=True, halve_neutral=True),
    "bow-ngrams": BOW.replace(ngram_logits=3, ngram_logits_buckets=64, nb_weighting=True),
    "bow-unigrams": BOW.replace(ngram_logits=1, ngram_logits_buckets=64),
}
INT8: Final = (
    "lstm",
    "lstm-known",
    "lstm-known-ngrams",
    "lstm-bigrams",
    "lstm-attention",
    "lstm-halved",
    "lstm-last",
    "lstm-stacked",
    "lstm-both-ways",
    "lstm-both-ways-attention",
    "lstm-both-ways-last",
)


@cache
def make_model(name: str, *, scale: float = 0.5) -> keras.Model:
    """A model whose weights all differ, biases included; built once. Do not change it."""
    model = build_model(CONFIGS[name], vocabulary=VOCABULARY, classes=3)
    random = np.random.default_rng(5)
    model.set_weights(
        [random.normal(0, scale, w.shape).astype(w.dtype) for w in model.get_weights()]
    )
    if CONFIGS[name].model.ngram_lookup == "bigram":
        model.get_layer(NGRAM_EMBEDDINGS).assign(_some_bigrams(256))
    elif has_layer(model, NGRAM_EMBEDDINGS):
        ngrams = CONFIGS[name].model.ngram_embeddings
        rows = random.integers(-1, ngrams, NGRAM_EMBEDDING_BUCKETS)  # -1, for none, is rare
        vectors = random.normal(0, 0.05, (ngrams, NGRAM_VECTOR_DIM)).astype(np.float32)
        model.get_layer(NGRAM_EMBEDDINGS).assign(NgramVectors(rows.astype(np.int32), vectors))
    round_tables(model)
    return halve_neutral(model) if CONFIGS[name].teacher.halve_neutral else model


def _some_bigrams(rows: int) -> BigramVectors:
    """A part of the pairs of `batch`, each with a random vector."""
    keys, (ids, _) = empty_keys(rows), batch()
    found = bigram_keys(ids[:, :-1], ids[:, 1:])[(ids[:, :-1] != PAD) & (ids[:, 1:] != PAD)]
    keys[found & (rows - 1)] = found
    vectors = np.random.default_rng(7).normal(0, 0.3, (rows, NGRAM_VECTOR_DIM))
    return BigramVectors(keys, vectors.astype(np.float32))


def batch(*, seed: int = 3, rows: int = 16) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Rows of random ids, with special ids and repeats, and their lengths, from 1 to `WIDTH`."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, WIDTH + 1, rows).astype(np.int32)
    lengths[:2] = 1, WIDTH
    ids = random.integers(1, VOCABULARY, (rows, WIDTH)).astype(np.int32)
    ids[:, 0] = BEGIN
    ids[np.arange(WIDTH) >= lengths[:, np.newaxis]] = PAD
    return ids, lengths
