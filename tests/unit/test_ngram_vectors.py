"""N-gram vectors: n-grams of the same texts get similar vectors, without labels."""

import numpy as np
import pytest

from app.text.padding import Int32Array
from tests.deferred import deferred
from training.features.ngram_hashing import MAX_BUCKETS, hash_ids, list_buckets

with deferred():
    from training.features.ngram_vectors import (
        MIN_COUNT,
        NgramVectors,
        keep_frequent,
        learn_ngram_vectors,
    )

BUCKETS = 64
TOPICS = (range(5, 20), range(30, 45))
RARE = 60


def write_texts(seed: int = 1) -> list[Int32Array]:
    """Texts of two topics that share no n-gram; one n-gram is rare."""
    random = np.random.default_rng(seed)
    texts = [random.choice(TOPICS[i % 2], 12).astype(np.int32) for i in range(200)]
    texts[0] = np.append(texts[0], np.full(MIN_COUNT - 1, RARE)).astype(np.int32)
    return texts


@pytest.fixture(scope="module")
def learned() -> NgramVectors:
    """Vectors learned from the texts of two topics."""
    return learn_ngram_vectors(write_texts(), buckets=BUCKETS, dim=8, epochs=30, seed=3)


def test_similar_vectors(learned: NgramVectors) -> None:
    """Any two n-grams of one topic are more similar than two of different topics."""
    vectors = learned.vectors / np.linalg.norm(learned.vectors, axis=1, keepdims=True)
    first, second = (vectors[learned.row_of_bucket[list(topic)]] for topic in TOPICS)
    within = np.concatenate([(first @ first.T).ravel(), (second @ second.T).ravel()])
    assert within.min() > (first @ second.T).max()


def test_the_seed_decides(learned: NgramVectors) -> None:
    """The same texts and seed give the same vectors; another seed gives different ones."""
    again, other = (
        learn_ngram_vectors(write_texts(), buckets=BUCKETS, dim=8, epochs=30, seed=seed)
        for seed in (3, 4)
    )
    np.testing.assert_array_equal(again.vectors, learned.vectors)
    assert not np.allclose(other.vectors, learned.vectors)


def test_rare_ngrams_have_no_vector(learned: NgramVectors) -> None:
    """N-grams below `MIN_COUNT` have no vector; they still count in the square root."""
    assert learned.row_of_bucket[RARE] == -1
    known, with_rare = learned.sum([np.array([5]), np.array([5, RARE])])
    np.testing.assert_allclose(with_rare, known / np.sqrt(2), rtol=1e-6)


def test_all_are_rare() -> None:
    """If every n-gram is rare there are no vectors, and every sum is 0."""
    few = [np.arange(i, i + 3, dtype=np.int32) for i in range(0, BUCKETS - 3, 3)]
    learned = learn_ngram_vectors(few, buckets=BUCKETS, dim=8, epochs=1, seed=3)
    assert learned.vectors.shape == (0, 8)
    assert not learned.sum(few).any()
    counts = np.ones(BUCKETS, np.int64)
    assert not learned.to_logits(np.ones((8, 2)), counts, buckets=BUCKETS // 2).any()


def test_a_text_without_ngrams(learned: NgramVectors) -> None:
    """The sum of a text without n-grams is 0."""
    assert not learned.sum([np.array([], np.int32)]).any()


def test_a_linear_model_is_a_table(learned: NgramVectors) -> None:
    """A linear model of sums equals a table of logits, if no two n-grams share a bucket."""
    weights = np.random.default_rng(5).standard_normal((8, 3))
    counts = np.bincount(np.concatenate(write_texts()), minlength=BUCKETS)
    table = learned.to_logits(weights, counts, buckets=BUCKETS)
    text = np.array([5, 6, 6, 31], np.int32)
    expected = learned.sum([text])[0] @ weights
    np.testing.assert_allclose(table[text].sum(axis=0) / 2, expected, atol=1e-5)


def test_a_smaller_table_holds_means(learned: NgramVectors) -> None:
    """Buckets merged into one are averaged, weighted by their frequency."""
    weights = np.eye(8)[:, :1]
    counts = np.zeros(BUCKETS, np.int64)
    counts[[5, 5 + 32]] = 1, 3
    large = learned.to_logits(weights, np.ones(BUCKETS, np.int64), buckets=BUCKETS)
    small = learned.to_logits(weights, counts, buckets=32)
    assert small.shape == (32, 1)
    np.testing.assert_allclose(small[5], (large[5] + 3 * large[5 + 32]) / 4, rtol=1e-5)


def test_frequent_ngrams_are_kept() -> None:
    """Only the most frequent n-grams keep their vector."""
    a, b, c, vocabulary = 10, 11, 12, 20
    texts = [np.array([a, b, a, b, c], np.int32), np.array([b, c, c], np.int32)]
    hashes = hash_ids(vocabulary)

    def bucket(*ids: int) -> int:
        return int(list_buckets(np.array(ids, np.int32), hashes, buckets=MAX_BUCKETS)[-1])

    row_of_bucket = np.full(MAX_BUCKETS, -1, np.int32)
    ngrams = [(a, b, a), (a, b), (b, a), (b, c)]  # once, twice, once, twice; c has no vector
    row_of_bucket[[bucket(*ngram) for ngram in ngrams]] = range(4)
    vectors = NgramVectors(row_of_bucket, np.arange(1, 9, dtype=np.float32).reshape(4, 2))
    kept = keep_frequent(vectors, texts, vocabulary=vocabulary, ngram_embeddings=2, buckets=2**10)
    assert len(kept.vectors) == 2
    found = {ngram: kept.row_of_bucket[bucket(*ngram) % 2**10] for ngram in [*ngrams, (c,)]}
    assert kept.vectors[found[a, b]].tolist() == [3, 4]
    assert kept.vectors[found[b, c]].tolist() == [7, 8]
    assert [found[ngram] for ngram in [(a, b, a), (b, a), (c,)]] == [-1] * 3
    few = keep_frequent(vectors, texts, vocabulary=vocabulary, ngram_embeddings=100, buckets=2**10)
    assert len(few.vectors) == 4


def test_of_two_ngrams_in_a_bucket_one_is_kept() -> None:
    """Of two n-grams in one bucket, the more frequent keeps its vector."""
    texts = [np.array([10, 11, 10, 11], np.int32), np.array([12, 13], np.int32)]
    hashes = hash_ids(20)
    cells = [list_buckets(text[:2], hashes, buckets=MAX_BUCKETS)[-1] for text in texts]
    row_of_bucket = np.full(MAX_BUCKETS, -1, np.int32)
    row_of_bucket[cells] = range(2)
    vectors = NgramVectors(row_of_bucket, np.array([[1.0], [2.0]], np.float32))
    kept = keep_frequent(vectors, texts, vocabulary=20, ngram_embeddings=2, buckets=1)
    assert kept.vectors[kept.row_of_bucket[0]].tolist() == [1]
