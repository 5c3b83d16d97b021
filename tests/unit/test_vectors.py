"""Word vectors: words that keep the same company come to stand together."""

import random

import numpy as np

from app.text.vocabulary import BEGIN, FIRST_WORD
from training.features.word_vectors import learn_vectors

COLOURS, ANIMALS = range(FIRST_WORD, FIRST_WORD + 5), range(FIRST_WORD + 5, FIRST_WORD + 10)
LONELY = FIRST_WORD + 10
VOCABULARY = FIRST_WORD + 11


def texts() -> list[np.ndarray]:
    """Texts of colours and texts of animals, which never meet."""
    generator = random.Random(1)
    kinds = [COLOURS, ANIMALS] * 200
    return [np.array([BEGIN, *generator.choices(kind, k=12)], np.int32) for kind in kinds]


def test_company() -> None:
    """Words seen in the same surroundings are nearer to each other than to all others."""
    vectors = learn_vectors(texts(), vocabulary=VOCABULARY, width=4, seed=1)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    nearness = unit @ unit.T
    within = nearness[np.ix_(COLOURS, COLOURS)].min()
    across = nearness[np.ix_(COLOURS, ANIMALS)].max()
    assert within > across + 0.5


def test_words_without_company() -> None:
    """Special ids, and words that no text has, get the zero vector; nothing is NaN."""
    vectors = learn_vectors(texts(), vocabulary=VOCABULARY, width=4, seed=1)
    assert not vectors[[*range(FIRST_WORD), LONELY]].any()
    assert np.isfinite(vectors).all()


def test_texts_do_not_touch() -> None:
    """The end of one text is no company of the beginning of the next."""
    one_word_each = [np.array([BEGIN, FIRST_WORD], np.int32)] * 50
    assert not learn_vectors(one_word_each, vocabulary=VOCABULARY, width=4, seed=1).any()


def test_the_seed_decides() -> None:
    """One seed gives the same vectors, float for float."""
    first, second = (
        learn_vectors(texts(), vocabulary=VOCABULARY, width=6, seed=2) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    assert first.shape == (VOCABULARY, 6)


def test_fewer_words_than_columns() -> None:
    """A tiny vocabulary fills the columns it can; the others are 0."""
    vectors = learn_vectors(texts(), vocabulary=VOCABULARY, width=64, seed=1)
    assert vectors.shape == (VOCABULARY, 64)
    assert np.isfinite(vectors).all()
