"""A tiny model of each architecture, with weights that no initializer would draw, and its input."""

from dataclasses import replace
from functools import cache
from typing import Final

import keras
import numpy as np
from numpy.typing import NDArray

from app.text.vocabulary import BEGIN, PAD
from training.config import KNOWN_PLACES, KNOWN_WIDTH, Config
from training.export.export import round_embedding
from training.features.ngram_vectors import NgramVectors
from training.models.build import KNOWN, build_model, has_layer

VOCABULARY, WIDTH = 50, 40
LSTM = Config(name="m", architecture="rnn", embedding=12, units=9, max_length=WIDTH, head=10)
BOW = replace(LSTM, architecture="bow")
CONFIGS: Final = {
    "lstm": LSTM,
    "lstm-hidden": replace(LSTM, hidden=(6, 5)),
    "lstm-ngrams": replace(LSTM, ngrams=2, ngram_buckets=128, ngram_rate=0.5),
    "lstm-known": replace(LSTM, known_ngrams=20, known_width=5),
    "lstm-known-ngrams": replace(LSTM, known_ngrams=20, known_width=5, ngrams=3, ngram_buckets=128),
    "lstm-last": replace(LSTM, pooling="last"),
    "lstm-stacked": replace(LSTM, layers=3, pooling="max"),
    "lstm-both-ways": replace(LSTM, bidirectional=True, layers=2),
    "lstm-both-ways-last": replace(LSTM, bidirectional=True, layers=2, pooling="last"),
    "gru": replace(LSTM, cell="gru", pooling="mean"),
    "gru-both-ways-last": replace(LSTM, cell="gru", bidirectional=True, layers=2, pooling="last"),
    "simple": replace(LSTM, cell="simple", pooling="last"),
    "simple-both-ways": replace(LSTM, cell="simple", bidirectional=True, layers=2, pooling="max"),
    "embedding": replace(LSTM, architecture="embedding", hidden=(7,), activation="selu"),
    "embedding-known": replace(LSTM, architecture="embedding", known_ngrams=30, known_width=3),
    "embedding-linear": replace(LSTM, architecture="embedding"),
    "bow": BOW,
    "bow-hidden": replace(BOW, hidden=(6, 5), activation="tanh"),
    "bow-ngrams": replace(BOW, ngrams=3, ngram_buckets=64, nb_weighting=True),
    "bow-unigrams": replace(BOW, ngrams=1, ngram_buckets=64),
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
        most = CONFIGS[name].known_ngrams
        place = random.integers(-1, most, KNOWN_PLACES).astype(np.int32)  # nearly all have one
        vectors = random.normal(0, 0.05, (most, KNOWN_WIDTH)).astype(np.float32)
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
