"""Vectors of regions: like surroundings give like vectors, whatever the labels."""

import numpy as np

from app.text.padding import Int32Array
from app.text.vocabulary import BEGIN, FIRST_WORD, UNKNOWN
from training.features.region_vectors import RegionVectors, learn_region_vectors

SYNONYMS, OTHERS = (10, 11), (12, 13)
SWEET, SOUR = range(20, 30), range(30, 40)
VOCABULARY = 40


def write_texts(seed: int = 0) -> list[Int32Array]:
    """Among sweet words stands one synonym or the other, among sour words one of the others."""
    random = np.random.default_rng(seed)
    texts = []
    for number in range(600):
        around, middle = ((SWEET, SYNONYMS), (SOUR, OTHERS))[number % 2]
        row = random.choice(list(around), 15)
        row[7] = random.choice(middle)
        texts.append(np.array([BEGIN, *row], np.int32))
    return texts


def learn(texts: list[Int32Array], *, seed: int = 3, function_words: int = 0) -> RegionVectors:
    """Vectors 8 wide."""
    return learn_region_vectors(
        texts, vocabulary=VOCABULARY, width=8, epochs=20, seed=seed, function_words=function_words
    )


def cosine(vectors: RegionVectors, one: int, other: int) -> float:
    """Of two words."""
    first, second = vectors.words[one], vectors.words[other]
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def test_like_surroundings() -> None:
    """Words that never meet, but stand among the same words, are more alike than others."""
    learned = learn(write_texts())
    for pair in (SYNONYMS, OTHERS):
        assert cosine(learned, *pair) > 0.5
    for one in SYNONYMS:
        for other in OTHERS:
            assert cosine(learned, one, other) < min(
                cosine(learned, *SYNONYMS), cosine(learned, *OTHERS)
            )


def test_special_ids_have_none() -> None:
    """The beginning and unknown words add nothing to a region, as padding adds nothing."""
    texts = [np.where(text == SWEET[0], UNKNOWN, text).astype(np.int32) for text in write_texts()]
    assert not learn(texts).words[:FIRST_WORD].any()


def test_the_seed_decides() -> None:
    """The same texts and seed give the same vectors; another seed gives others."""
    texts = write_texts()
    np.testing.assert_array_equal(learn(texts).words, learn(texts).words)
    assert (learn(texts, seed=4).words != learn(texts).words).any()


def test_function_words_alone() -> None:
    """Where all words are too frequent to be told, nothing is learned, and nothing is lost."""
    learned = learn(write_texts(), function_words=VOCABULARY)
    assert np.isfinite(learned.words).all()
    assert not learned.bias.any()
