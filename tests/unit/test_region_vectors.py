"""Region vectors: similar surroundings give similar vectors, without labels."""

import numpy as np

from app.text.padding import Int32Array
from app.text.vocabulary import BEGIN, FIRST_WORD, UNKNOWN
from tests.deferred import deferred

with deferred():
    from training.features.region_vectors import RegionVectors, learn_region_vectors

SYNONYMS, OTHERS = (10, 11), (12, 13)
SWEET, SOUR = range(20, 30), range(30, 40)
VOCABULARY = 40


def write_texts(seed: int = 0) -> list[Int32Array]:
    """Sweet words surround one of the synonyms, sour words one of the others."""
    random = np.random.default_rng(seed)
    texts = []
    for number in range(600):
        around, middle = ((SWEET, SYNONYMS), (SOUR, OTHERS))[number % 2]
        row = random.choice(list(around), 15)
        row[7] = random.choice(middle)
        texts.append(np.array([BEGIN, *row], np.int32))
    return texts


def learn(texts: list[Int32Array], *, seed: int = 3, frequent_words: int = 0) -> RegionVectors:
    """Vectors of 8 numbers."""
    return learn_region_vectors(
        texts, vocabulary=VOCABULARY, dim=8, epochs=20, seed=seed, frequent_words=frequent_words
    )


def cosine(vectors: RegionVectors, one: int, other: int) -> float:
    """Cosine similarity of two words."""
    first, second = vectors.words[one], vectors.words[other]
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def test_similar_surroundings() -> None:
    """Words that never co-occur but have the same neighbours are more similar than others."""
    learned = learn(write_texts())
    for pair in (SYNONYMS, OTHERS):
        assert cosine(learned, *pair) > 0.5
    for one in SYNONYMS:
        for other in OTHERS:
            assert cosine(learned, one, other) < min(
                cosine(learned, *SYNONYMS), cosine(learned, *OTHERS)
            )


def test_special_ids_have_no_vector() -> None:
    """`BEGIN` and `UNKNOWN` add nothing to a region, like padding."""
    texts = [np.where(text == SWEET[0], UNKNOWN, text).astype(np.int32) for text in write_texts()]
    assert not learn(texts).words[:FIRST_WORD].any()


def test_the_seed_decides() -> None:
    """The same texts and seed give the same vectors; another seed gives different ones."""
    texts = write_texts()
    np.testing.assert_array_equal(learn(texts).words, learn(texts).words)
    assert (learn(texts, seed=4).words != learn(texts).words).any()


def test_only_frequent_words() -> None:
    """If no word is rare enough to be predicted, the vectors stay as they were initialised."""
    learned = learn(write_texts(), frequent_words=VOCABULARY)
    assert np.isfinite(learned.words).all()
    assert not learned.bias.any()
