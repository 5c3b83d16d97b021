"""Word vectors: words in similar surroundings get similar vectors."""

import random

import numpy as np

from app.text.vocabulary import BEGIN, FIRST_WORD
from tests.deferred import deferred

with deferred():
    from training.features.word_vectors import learn_word_vectors

COLOURS, ANIMALS = range(FIRST_WORD, FIRST_WORD + 5), range(FIRST_WORD + 5, FIRST_WORD + 10)
LONELY = FIRST_WORD + 10
VOCABULARY = FIRST_WORD + 11


def texts() -> list[np.ndarray]:
    """Texts of colours and texts of animals, which share no word."""
    generator = random.Random(1)
    kinds = [COLOURS, ANIMALS] * 200
    return [np.array([BEGIN, *generator.choices(kind, k=12)], np.int32) for kind in kinds]


def test_similar_vectors() -> None:
    """Words that co-occur are more similar to each other than to all others."""
    vectors = learn_word_vectors(texts(), vocabulary=VOCABULARY, dim=4, seed=1)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    similarity = unit @ unit.T
    within = similarity[np.ix_(COLOURS, COLOURS)].min()
    across = similarity[np.ix_(COLOURS, ANIMALS)].max()
    assert within > across + 0.5


def test_words_without_neighbours() -> None:
    """Special ids, and words that no text contains, get the zero vector; nothing is NaN."""
    vectors = learn_word_vectors(texts(), vocabulary=VOCABULARY, dim=4, seed=1)
    assert not vectors[[*range(FIRST_WORD), LONELY]].any()
    assert np.isfinite(vectors).all()


def test_texts_do_not_touch() -> None:
    """The end of one text does not co-occur with the beginning of the next."""
    one_word_each = [np.array([BEGIN, FIRST_WORD], np.int32)] * 50
    assert not learn_word_vectors(one_word_each, vocabulary=VOCABULARY, dim=4, seed=1).any()


def test_the_seed_decides() -> None:
    """The same seed gives the same vectors, bit for bit."""
    first, second = (
        learn_word_vectors(texts(), vocabulary=VOCABULARY, dim=6, seed=2) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    assert first.shape == (VOCABULARY, 6)


def test_fewer_words_than_columns() -> None:
    """With fewer words than columns, the remaining columns are 0."""
    vectors = learn_word_vectors(texts(), vocabulary=VOCABULARY, dim=64, seed=1)
    assert vectors.shape == (VOCABULARY, 64)
    assert np.isfinite(vectors).all()
