"""The convolution: where the vectors of n-grams stand, and what a fit depends on."""

import numpy as np
import pytest

from app.text.padding import Int32Array
from app.text.vocabulary import BEGIN, PAD
from training.distillation.convolution import Convolution, NgramsEndingHere, Regions
from training.features.ngram_hashing import draw_numbers, list_ngrams
from training.features.ngram_vectors import NgramVectors
from training.features.region_vectors import RegionVectors
from training.features.store import Known

VOCABULARY, BUCKETS, WIDTH = 30, 2**12, 4
A, B, C = 10, 11, 12


def row(*ids: int) -> Int32Array:
    """Ids of a text."""
    return np.array(ids, np.int32)


def place_of(*ids: int) -> int:
    """The bucket of the one n-gram that has all these words."""
    numbers = draw_numbers(VOCABULARY, orders=3, buckets=BUCKETS)
    return int(list_ngrams(row(*ids), numbers, buckets=BUCKETS)[-1])


def vectors_of(*ngrams: tuple[int, ...]) -> NgramVectors:
    """The i-th of these n-grams has the vector (i + 1, 0, 0, 0); others have none."""
    place = np.full(BUCKETS, -1, np.int32)
    for index, ngram in enumerate(ngrams):
        place[place_of(*ngram)] = index
    vectors = np.zeros((len(ngrams), WIDTH), np.float32)
    vectors[:, 0] = np.arange(len(ngrams)) + 1
    return NgramVectors(place, vectors)


def test_ngrams_stand_where_they_end() -> None:
    """At a word stand the word, the pair and the triple that end with it, added up.

    Nothing stands at padding, nor at a word whose n-grams have no vector.
    """
    layer = NgramsEndingHere(vectors_of((A,), (A, B), (A, B, C)), VOCABULARY)
    found = np.asarray(layer(np.stack([row(A, B, C, A), row(B, C, PAD, PAD)])))
    assert found.shape == (2, 4, WIDTH)
    assert found[0, :, 0].tolist() == [1, 2, 3, 1]
    assert not found[1].any()


def test_short_texts() -> None:
    """A text of one word has no pair and no triple."""
    layer = NgramsEndingHere(vectors_of((A,), (A, B)), VOCABULARY)
    assert np.asarray(layer(row(A)[np.newaxis]))[0, :, 0].tolist() == [1]
    assert np.asarray(layer(row(A, B)[np.newaxis]))[0, :, 0].tolist() == [1, 2]


def test_a_region_stands_at_its_middle() -> None:
    """At a word stand it, the two words before it and the two behind it, rectified and normalised.

    Beyond the ends of a text there is nothing, and padding adds nothing.
    """
    words = np.zeros((VOCABULARY, 2), np.float32)
    words[[A, B]] = [3, 0], [0, -5]
    layer = Regions(RegionVectors(words, np.array([0, 1], np.float32)))
    ids = np.stack([row(A, A, C, C, B, C, C), row(A, *[PAD] * 6)])
    found = np.asarray(layer(ids))
    sums = [[6, 1], [6, 1], [6, 0], [3, 0], [0, 0], [0, 0], [0, 0]]
    expected = [np.array(total) / np.sqrt(1 + np.square(total).sum()) for total in sums]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    np.testing.assert_allclose(found[1, 0], np.array([3, 1]) / np.sqrt(11), rtol=1e-6)


def learn(network: Convolution, *, swapped: bool = False) -> None:
    """Teach a network that B after A is the second class, and A after B the first."""
    texts = [row(BEGIN, 20 + i % 5, *((A, B) if i % 2 else (B, A)), 20 + i % 3) for i in range(512)]
    network.fit(texts, np.arange(512) % 2 ^ swapped, "")


def test_a_fit_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit depends on its texts alone, not on what was fitted before.

    Texts are answered in their order, each by itself, whatever stands beside it.
    """
    for name, value in (("_BATCH", 32), ("_FILTERS", 32), ("_RATE", 1e-2), ("_WARMUP", 8)):
        monkeypatch.setattr(f"training.distillation.convolution.{name}", value)
    vectors = vectors_of((A, B), (B, A))
    words = np.random.default_rng(2).standard_normal((VOCABULARY, 6)).astype(np.float32)
    regions = RegionVectors(np.zeros((VOCABULARY, 4), np.float32), np.zeros(4, np.float32))
    network = Convolution(Known(vectors, regions, words), 2, seed=3)
    asked = [row(BEGIN, 21, A, B), row(BEGIN, B, A), row(BEGIN, 22, 21, 23, 20, A, B)]
    learn(network)
    first = network.score(asked)
    assert (first[:, 1] > first[:, 0]).tolist() == [True, False, True]
    learn(network, swapped=True)
    assert (network.score(asked)[:, 1] > 0).tolist() != [True, False, True]
    learn(network)
    np.testing.assert_array_equal(network.score(asked), first)
    np.testing.assert_allclose(network.score(asked[:1]), first[:1], atol=1e-5)
    assert network.score([]).shape == (0, 2)
