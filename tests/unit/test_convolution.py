"""The convolutional teacher: its embeddings, and what a fit depends on."""

import numpy as np
import pytest

from app.text.padding import Int32Array
from app.text.vocabulary import BEGIN, PAD
from tests.deferred import deferred
from tests.signals import swallow
from training.features.ngram_hashing import hash_ids, list_buckets
from training.support.interruption import signals_interrupt

with deferred():
    from training.distillation.convolution import (
        ConvolutionTeacher,
        RegionEmbedding,
    )
    from training.features.ngram_vectors import NgramVectors
    from training.features.region_vectors import RegionVectors
    from training.features.store import ConvolutionVectors
    from training.models.layers.ngram_embeddings import NgramVectorSum

VOCABULARY, BUCKETS, WIDTH = 30, 2**12, 4
A, B, C = 10, 11, 12


def row(*ids: int) -> Int32Array:
    """The ids of a text."""
    return np.array(ids, np.int32)


def place_of(*ids: int) -> int:
    """The bucket of the n-gram of all these words."""
    numbers = hash_ids(VOCABULARY, orders=3, buckets=BUCKETS)
    return int(list_buckets(row(*ids), numbers, buckets=BUCKETS)[-1])


def vectors_of(*ngrams: tuple[int, ...]) -> NgramVectors:
    """The i-th of these n-grams has the vector (i + 1, 0, 0, 0); others have none."""
    place = np.full(BUCKETS, -1, np.int32)
    for index, ngram in enumerate(ngrams):
        place[place_of(*ngram)] = index
    vectors = np.zeros((len(ngrams), WIDTH), np.float32)
    vectors[:, 0] = np.arange(len(ngrams)) + 1
    return NgramVectors(place, vectors)


def test_ngrams_are_at_their_last_word() -> None:
    """A word has the sum of the vectors of the unigram, bigram and trigram that end with it.

    Padding, and words whose n-grams have no vector, have zeros.
    """
    layer = NgramVectorSum.of(vectors_of((A,), (A, B), (A, B, C)), VOCABULARY)
    found = np.asarray(layer(np.stack([row(A, B, C, A), row(B, C, PAD, PAD)])))
    assert found.shape == (2, 4, WIDTH)
    assert found[0, :, 0].tolist() == [1, 2, 3, 1]
    assert not found[1].any()


def test_short_texts() -> None:
    """A text of one word has no bigram and no trigram."""
    layer = NgramVectorSum.of(vectors_of((A,), (A, B)), VOCABULARY)
    assert np.asarray(layer(row(A)[np.newaxis]))[0, :, 0].tolist() == [1]
    assert np.asarray(layer(row(A, B)[np.newaxis]))[0, :, 0].tolist() == [1, 2]


def test_a_region_is_at_its_middle_word() -> None:
    """A word has the ReLU of the sum over itself, two words before and two after it, normalized.

    Padding, and positions beyond the ends of a text, add nothing.
    """
    words = np.zeros((VOCABULARY, 2), np.float32)
    words[[A, B]] = [3, 0], [0, -5]
    layer = RegionEmbedding(RegionVectors(words, np.array([0, 1], np.float32)))
    ids = np.stack([row(A, A, C, C, B, C, C), row(A, *[PAD] * 6)])
    found = np.asarray(layer(ids))
    sums = [[6, 1], [6, 1], [6, 0], [3, 0], [0, 0], [0, 0], [0, 0]]
    expected = [np.array(total) / np.sqrt(1 + np.square(total).sum()) for total in sums]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    np.testing.assert_allclose(found[1, 0], np.array([3, 1]) / np.sqrt(11), rtol=1e-6)


def learn(network: ConvolutionTeacher, *, swapped: bool = False) -> None:
    """Fit a network to texts in which A B is the second class and B A the first."""
    texts = [row(BEGIN, 20 + i % 5, *((A, B) if i % 2 else (B, A)), 20 + i % 3) for i in range(512)]
    network.fit(texts, np.arange(512) % 2 ^ swapped, "")


def small_network(monkeypatch: pytest.MonkeyPatch) -> ConvolutionTeacher:
    """A network with two n-grams and few filters."""
    for name, value in (("_BATCH", 32), ("_FILTERS", 32), ("_RATE", 1e-2), ("_WARMUP_STEPS", 8)):
        monkeypatch.setattr(f"training.distillation.convolution.{name}", value)
    vectors = vectors_of((A, B), (B, A))
    words = np.random.default_rng(2).standard_normal((VOCABULARY, 6)).astype(np.float32)
    regions = RegionVectors(np.zeros((VOCABULARY, 4), np.float32), np.zeros(4, np.float32))
    return ConvolutionTeacher(ConvolutionVectors(vectors, regions, words), 2, seed=3)


def test_a_fit_starts_from_the_initial_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit depends only on its texts, not on earlier fits; a prediction only on its text."""
    network = small_network(monkeypatch)
    asked = [row(BEGIN, 21, A, B), row(BEGIN, B, A), row(BEGIN, 22, 21, 23, 20, A, B)]
    learn(network)
    first = network.predict(asked)
    assert (first[:, 1] > first[:, 0]).tolist() == [True, False, True]
    learn(network, swapped=True)
    assert (network.predict(asked)[:, 1] > 0).tolist() != [True, False, True]
    learn(network)
    np.testing.assert_array_equal(network.predict(asked), first)
    np.testing.assert_allclose(network.predict(asked[:1]), first[:1], atol=1e-5)
    assert network.predict([]).shape == (0, 2)


def test_a_fit_ends_at_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends after this step, though native code swallows the exception."""
    steps = []

    def step(*batch: object) -> None:
        steps.append(batch)
        swallow()

    network = small_network(monkeypatch)
    monkeypatch.setattr("training.distillation.convolution.build_step", lambda *_: step)
    with pytest.raises(KeyboardInterrupt), signals_interrupt():
        learn(network)
    assert len(steps) == 1
