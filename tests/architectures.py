"""A tiny model of each architecture, with weights that no initializer would draw, and its input."""

from functools import cache
from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

from app.text.vocabulary import BEGIN, PAD
from training.config import (
    NGRAM_EMBEDDING_BUCKETS,
    NGRAM_VECTOR_DIM,
    Config,
    ModelConfig,
    PreprocessingConfig,
)
from training.export.export import round_embedding
from training.features.ngram_vectors import NgramVectors
from training.models.build import KNOWN, build_model, has_layer

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
    "lstm-last": LSTM.replace(pooling="last"),
    "lstm-stacked": LSTM.replace(layers=3, pooling="max"),
    "lstm-both-ways": LSTM.replace(bidirectional=True, layers=2),
    "lstm-both-ways-last": LSTM.replace(bidirectional=True, layers=2, pooling="last"),
    "gru": LSTM.replace(cell="gru", pooling="mean"),
    "gru-both-ways-last": LSTM.replace(cell="gru", bidirectional=True, layers=2, pooling="last"),
    "simple": LSTM.replace(cell="simple", pooling="last"),
    "simple-both-ways": LSTM.replace(cell="simple", bidirectional=True, layers=2, pooling="max"),
    "embedding": LSTM.replace(architecture="embedding", hidden=(7,), activation="selu"),
    "embedding-known": LSTM.replace(
        architecture="embedding", ngram_embeddings=30, ngram_embedding_dim=3
    ),
    "embedding-linear": LSTM.replace(architecture="embedding"),
    "bow": BOW,
    "bow-hidden": BOW.replace(hidden=(6, 5), activation="tanh"),
    "bow-ngrams": BOW.replace(ngram_logits=3, ngram_logits_buckets=64, nb_weighting=True),
    "bow-unigrams": BOW.replace(ngram_logits=1, ngram_logits_buckets=64),
}
INT8: Final = (
    "lstm",
    "lstm-known",
    "lstm-known-ngrams",
    "lstm-last",
    "lstm-stacked",
    "lstm-both-ways",
    "lstm-both-ways-last",
)


@cache
def make_model(name: str, *, scale: float = 0.5) -> keras.Model:
    """A model whose weights are all different, biases too; made once. Do not change."""
    model = build_model(CONFIGS[name], vocabulary=VOCABULARY, classes=3)
    random = np.random.default_rng(5)
    model.set_weights(
        [random.normal(0, scale, w.shape).astype(w.dtype) for w in model.get_weights()]
    )
    if has_layer(model, KNOWN):
        most = CONFIGS[name].model.ngram_embeddings
        place = random.integers(-1, most, NGRAM_EMBEDDING_BUCKETS)  # nearly all have one
        vectors = random.normal(0, 0.05, (most, NGRAM_VECTOR_DIM)).astype(np.float32)
        model.get_layer(KNOWN).assign(NgramVectors(place, vectors))
    round_embedding(model)
    return model


def batch(*, seed: int = 3, rows: int = 16) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Rows of random ids, special ones and repeats among them, and their lengths from 1."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, WIDTH + 1, rows).astype(np.int32)
    lengths[:2] = 1, WIDTH
    ids = random.integers(1, VOCABULARY, (rows, WIDTH)).astype(np.int32)
    ids[:, 0] = BEGIN
    ids[np.arange(WIDTH) >= lengths[:, np.newaxis]] = PAD
    return ids, lengths
