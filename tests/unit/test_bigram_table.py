"""The table of known pairs of words: which pairs it has, and where it finds them."""

import numpy as np

from app.text.padding import Int32Array
from app.text.vocabulary import BEGIN, PAD
from tests.deferred import deferred
from training.features.ngram_hashing import MAX_BUCKETS, hash_ids

with deferred():
    from training.features.bigrams import BigramVectors, bigram_keys, empty_keys, keep_telling
    from training.features.ngram_vectors import NgramVectors
    from training.models.layers.bigram_table import BigramTable, find_rows
    from training.models.layers.int8_table import quantize_columns

VOCABULARY, ROWS = 12, 16
HASHES = hash_ids(VOCABULARY)
LARGEST = 30_000


def key(earlier: int, word: int) -> int:
    """The key of a pair."""
    return int(bigram_keys(np.array([earlier], np.int32), np.array([word], np.int32))[0])


def keys_of(*pairs: tuple[int, int]) -> Int32Array:
    """A table with exactly these pairs."""
    keys = empty_keys(ROWS)
    for pair in pairs:
        keys[key(*pair) % ROWS] = key(*pair)
    return keys


def test_a_pair_is_found_where_it_ends() -> None:
    """At each word it is the pair with the word before it, if that is known, along either axis."""
    ids = np.array([[BEGIN, 5, 6, 7, 5, 6], [6, 7, 5, 6, PAD, PAD]], np.int32)
    found = np.asarray(find_rows(ids, keys_of((BEGIN, 5), (5, 6))))
    first, pair, none = key(BEGIN, 5) % ROWS, key(5, 6) % ROWS, ROWS
    assert found.tolist() == [
        [none, first, pair, none, none, pair],
        [none, none, none, pair, none, none],
    ]
    in_columns = np.asarray(find_rows(ids.T, keys_of((BEGIN, 5), (5, 6)), time_axis=0))
    np.testing.assert_array_equal(in_columns.T, found)


def test_nothing_is_found_in_an_empty_table() -> None:
    """No pair of ids is in an empty row, whatever its key."""
    random = np.random.default_rng(1)
    ids = random.integers(0, LARGEST, (40, 100)).astype(np.int32)
    for rows in (2, 2**10):
        assert (np.asarray(find_rows(ids, empty_keys(rows))) == rows).all()


def test_keys_are_different() -> None:
    """Pairs of the most frequent words have different keys, spread evenly over the rows."""
    words = np.arange(400, dtype=np.int32)
    keys = bigram_keys(words[:, np.newaxis], words).ravel()
    assert len(np.unique(keys)) == len(keys)
    rows = 2**17
    by_chance = rows * (1 - np.exp(-len(keys) / rows))
    assert len(np.unique(keys & (rows - 1))) > 0.9 * by_chance


def bucket(earlier: int, word: int) -> int:
    """The hash bucket of a pair."""
    return int(HASHES[0, word] + HASHES[1, earlier]) % MAX_BUCKETS


def vectors_of(*pairs: tuple[int, int]) -> NgramVectors:
    """A vector for each pair and no other n-gram."""
    row_of_bucket = np.full(MAX_BUCKETS, -1, np.int32)
    row_of_bucket[[bucket(*pair) for pair in pairs]] = np.arange(len(pairs))
    vectors = np.arange(2 * len(pairs), dtype=np.float32).reshape(-1, 2) + 1
    return NgramVectors(row_of_bucket, vectors)


def test_telling_pairs_are_kept() -> None:
    """Of pairs that share a row, the one stays whose logits differ most between the classes."""
    pairs = [(5, 6), (5, 8), (5, 10)]  # of equal parity, so in the same of two rows
    text = np.array([BEGIN, 5, 6, 5, 8, 5, 10], np.int32)
    vectors = vectors_of(*pairs)
    for number, told in enumerate(pairs):
        logits = np.zeros((2**20, 2), np.float32)
        logits[bucket(*told) % 2**20] = [1, -1]
        kept = keep_telling(vectors, [text], logits, vocabulary=VOCABULARY, rows=2)
        row = key(*told) % 2
        assert kept.keys[row] == key(*told)
        np.testing.assert_array_equal(kept.vectors[row], vectors.vectors[number])


def test_frequent_pairs_are_kept_without_logits() -> None:
    """Without a teacher's logits the most frequent pair stays; pairs without a vector never do."""
    texts = [np.array([BEGIN, 5, 6, 5, 10, 5, 10, 5, 10], np.int32)] * 2
    texts += [np.array([BEGIN, 5, 8], np.int32)] * 3
    kept = keep_telling(vectors_of((5, 6), (5, 8)), texts, None, vocabulary=VOCABULARY, rows=2)
    row = key(5, 8) % 2
    assert kept.keys[row] == key(5, 8)
    assert kept.keys[1 - row] == empty_keys(2)[1 - row]
    assert not kept.vectors[1 - row].any()


def test_folding_rounds_to_codes() -> None:
    """`fold` leaves int8 codes times a scale: the same table up to half a step."""
    layer = BigramTable(2, rows=ROWS, ngram_vector_dim=3)
    vectors = np.random.default_rng(2).normal(0, 1, (ROWS, 3)).astype(np.float32)
    layer.assign(BigramVectors(keys_of((5, 6)), vectors))
    ids = np.array([[BEGIN, 5, 6, PAD]], np.int32)
    before, table = np.asarray(layer(ids)), layer.table
    layer.fold()
    codes, scale = quantize_columns(table)
    np.testing.assert_allclose(layer.table, codes * scale, rtol=1e-6)
    np.testing.assert_allclose(layer(ids), before, atol=0.51 * scale.max())
    assert before[0, 2].any()
    assert not before[0, [0, 1, 3]].any()
