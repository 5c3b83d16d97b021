"""Architectures: what their answers depend on, and what they must not depend on."""

import itertools

import numpy as np
import pytest

from app.text.vocabulary import BEGIN, FIRST_WORD, PAD, UNKNOWN
from tests.architectures import BOW, CONFIGS, LSTM, VOCABULARY, batch, make_model
from tests.deferred import deferred
from training.config import NGRAM_EMBEDDING_BUCKETS, Config
from training.features.ngram_hashing import list_buckets

with deferred():
    import keras

    from training.features.ngram_vectors import NgramVectors
    from training.models.build import OUTPUT, build_model, hidden_layers, recurrent_layers
    from training.models.layers.lstm import FusedLSTM
    from training.models.layers.ngram_embeddings import NgramEmbeddings
    from training.models.layers.word_presence import WordPresence

IDS = np.array([[BEGIN, 5, 6, 5], [BEGIN, 7, PAD, PAD]], np.int32)


@pytest.mark.parametrize("name", CONFIGS)
def test_probabilities(name: str) -> None:
    """Every architecture returns a probability for each class; they sum to 1."""
    answer = make_model(name)(IDS).numpy()
    assert answer.shape == (len(IDS), 2 if CONFIGS[name].teacher.halve_neutral else 3)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_changes_nothing(name: str) -> None:
    """A text gets the same answer however much padding its batch has."""
    model = make_model(name)
    rows = [[BEGIN, 5, UNKNOWN, 5], [BEGIN, 7], [BEGIN]]
    ids = np.array([row + [PAD] * (9 - len(row)) for row in rows], np.int32)
    alone = [model(np.array([row], np.int32)).numpy() for row in rows]
    np.testing.assert_allclose(model(ids).numpy(), np.concatenate(alone), atol=1e-6)


@pytest.mark.parametrize("classes", [2, 5])
def test_classes(classes: int) -> None:
    """A model can have any number of classes."""
    config = BOW.replace(ngram_logits=2, ngram_logits_buckets=16)
    assert build_model(config, vocabulary=9, classes=classes)(IDS).shape == (2, classes)


@pytest.mark.parametrize(("name", "matters"), [("lstm", True), ("bow", False)])
def test_order_matters(name: str, matters: bool) -> None:
    """The order of words matters to a recurrent layer, and not to a bag of words."""
    answer, reversed_ = make_model(name)(np.array([[BEGIN, 5, 6], [BEGIN, 6, 5]])).numpy()
    assert np.allclose(answer, reversed_, atol=1e-6) is not matters


@pytest.mark.parametrize(
    ("change", "first", "last"),
    [
        ({"pooling": "last"}, False, True),
        ({"pooling": "mean"}, True, True),
        ({"pooling": "last", "bidirectional": True}, True, True),
    ],
)
def test_pooling_without_memory(change: dict[str, object], first: bool, last: bool) -> None:
    """`last` pools the state of the last word forward, and of the first word backward."""
    config = LSTM.replace(cell="simple", **change)  # type: ignore[arg-type]
    model = build_model(config, vocabulary=9, classes=2)
    for layer in itertools.chain(*recurrent_layers(model)):
        kernel, recurrent, bias = layer.get_weights()
        layer.set_weights([kernel, recurrent * 0, bias])  # no memory
    texts = np.array([[5, 4, 6, PAD], [7, 4, 6, PAD], [5, 4, 7, PAD]])
    answer, other_first, other_last = model(texts).numpy()
    assert np.allclose(answer, other_first, atol=1e-6) is not first
    assert np.allclose(answer, other_last, atol=1e-6) is not last


@pytest.mark.parametrize("cell", ["simple", "lstm", "gru"])
def test_layers(cell: str) -> None:
    """Stacked layers read both directions of the layer below; each has the cell of the config."""
    config = LSTM.replace(cell=cell, layers=3, bidirectional=True, units=5)
    layers = recurrent_layers(build_model(config, vocabulary=9, classes=2))
    kind = {"simple": keras.layers.SimpleRNN, "lstm": FusedLSTM, "gru": keras.layers.GRU}
    assert [len(directions) for directions in layers] == [2, 2, 2]
    assert all(type(layer) is kind[cell] for directions in layers for layer in directions)
    inputs = [[layer.get_weights()[0].shape[0] for layer in directions] for directions in layers]
    assert inputs == [[12, 12], [10, 10], [10, 10]]


def test_flat_vectors() -> None:
    """In `embedding`, a word at another position is another feature; the length is fixed."""
    model = build_model(CONFIGS["embedding"], vocabulary=9, classes=2, length=6)
    assert hidden_layers(model)[0].get_weights()[0].shape == (6 * 12, 7)
    answer, moved = model(np.array([[BEGIN, 5, UNKNOWN], [BEGIN, UNKNOWN, 5]])).numpy()
    assert not np.allclose(answer, moved, atol=1e-6)


def test_ngram_embeddings() -> None:
    """The vectors of the n-grams that end at a word are added, multiplied by a matrix, bounded.

    `fold` multiplies the vectors by the matrix and changes no result.
    """
    layer = NgramEmbeddings(VOCABULARY, 2, ngram_embeddings=4, ngram_vector_dim=3)
    ids = np.array([[7, 8, 9, 8], [8, 7, 8, PAD]], np.int32)
    layer(ids)  # builds the weights
    row_of_bucket = np.full(NGRAM_EMBEDDING_BUCKETS, -1, np.int32)
    for index, ngram in enumerate([(8,), (7, 8), (8, 7, 8)]):
        buckets = list_buckets(
            np.array(ngram, np.int32), layer.hashes, buckets=NGRAM_EMBEDDING_BUCKETS
        )
        row_of_bucket[buckets[-1]] = index
    vectors = np.array([[1, 0, 0], [0, 2, 0], [0, 0, 4]], np.float32) / 8
    layer.assign(NgramVectors(row_of_bucket, vectors))
    matrix = np.array([[1, 1], [1, 0], [1, 0]], np.float32)
    layer.set_weights([matrix, *layer.get_weights()[1:]])
    expected = [[[0, 0], [3, 1], [0, 0], [1, 1]], [[1, 1], [0, 0], [7, 1], [0, 0]]]
    np.testing.assert_allclose(layer(ids), np.tanh(np.array(expected) / 8), atol=1e-6)
    layer.fold()
    np.testing.assert_allclose(layer(ids), np.tanh(np.array(expected) / 8), atol=1e-6)


def test_word_presence() -> None:
    """A word counts once however often it appears; special ids never count."""
    ids = np.array([[BEGIN, 5, 5, UNKNOWN, 8, PAD]], np.int32)
    presence = np.asarray(WordPresence(9)(ids))
    assert presence.tolist() == [[0, 0, 0, 0, 0, 1, 0, 0, 1]]
    assert FIRST_WORD < 5


def test_the_seed_decides_the_weights() -> None:
    """The same seed gives the same initial weights."""
    first, second = (build_model(LSTM, vocabulary=9, classes=2).get_weights() for _ in range(2))
    other = build_model(LSTM.replace(seed=8), vocabulary=9, classes=2).get_weights()
    assert all(map(np.array_equal, first, second))
    assert not all(map(np.array_equal, first, other))


@pytest.mark.parametrize(
    ("config", "regularized"),
    [
        (BOW.replace(hidden=(6,)), ["hidden_0"]),
        (BOW.replace(hidden=()), ["output"]),
        (LSTM.replace(bidirectional=True), ["forward_0", "backward_0"]),
    ],
)
def test_penalties(config: Config, regularized: list[str]) -> None:
    """L1 and L2 penalties are on the kernels below the output, or of the output if it is alone."""
    model = build_model(config.replace(l1=0.1, l2=0.01), vocabulary=9, classes=2)
    kernels = [model.get_layer(name).get_weights()[0] for name in regularized]
    expected = sum(0.1 * np.abs(k).sum() + 0.01 * np.square(k).sum() for k in kernels)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


def test_initializers() -> None:
    """Kernels get the initializer of the config; recurrent kernels stay orthogonal."""
    config = LSTM.replace(weight_init="random_uniform", hidden=(6,))
    model = build_model(config, vocabulary=9, classes=2)
    ((layer,),) = recurrent_layers(model)
    for kernel in (layer, model.get_layer(OUTPUT), *hidden_layers(model)):
        assert 0.03 < np.abs(kernel.get_weights()[0]).max() <= 0.05
    recurrent = layer.get_weights()[1]
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(len(recurrent)), atol=1e-5)


@pytest.mark.parametrize("field", ["input_dropout", "recurrent_dropout", "dropout"])
def test_dropout(field: str) -> None:
    """Each dropout changes the answers in training, and only in training."""
    config = LSTM.replace(**{"dropout": 0.0, field: 0.5})  # type: ignore[arg-type]
    model = build_model(config, vocabulary=VOCABULARY, classes=2)
    ids, _ = batch()
    once, twice = (model(ids, training=True).numpy() for _ in range(2))
    assert not np.allclose(once, twice, atol=1e-6)
    np.testing.assert_array_equal(model(ids).numpy(), model(ids).numpy())
