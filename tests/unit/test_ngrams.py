"""N-grams are hashed to the same buckets by every library, and padding is in none of them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.text.padding import Int32Array
from app.text.vocabulary import BEGIN, FIRST_WORD, PAD, UNKNOWN
from tests.architectures import batch, make_model
from tests.deferred import deferred
from training.features.ngram_hashing import hash_ids

with deferred():
    import keras
    import onnxruntime
    import tensorflow as tf
    from onnx import TensorProto, helper

    from training.data.batches import pad_batch
    from training.export.onnx_graph import build_onnx
    from training.models.layers.ngram_logits import NgramLogits
    from training.models.layers.ngram_lookup import find_buckets

ORDERS, BUCKETS, WORDS = 3, 2**20, 30_000


def expected_buckets(row: list[int], hashes: Int32Array) -> Counter[int]:
    """The buckets of a text's n-grams, straight from the definition."""
    real = [i for i in row if i != PAD]
    found: Counter[int] = Counter()
    for order in range(1, len(hashes) + 1):
        for end in range(order, len(real) + 1):
            words = real[end - order : end][::-1]  # positions count from the last word
            if order > 1 or words[0] >= FIRST_WORD:
                total = sum(int(hashes[position, word]) for position, word in enumerate(words))
                found[total % BUCKETS] += 1
    return found


@pytest.mark.parametrize("orders", [1, 2, 3])
def test_every_ngram_once(orders: int) -> None:
    """Every n-gram of each order is found once; special ids have no unigram, padding no n-gram."""
    hashes = hash_ids(WORDS, orders=orders, buckets=BUCKETS)
    rows = [[BEGIN], [BEGIN, 9], [BEGIN, UNKNOWN, 5, 5, 29_999], [BEGIN, *range(100, 140)]]
    ids = pad_batch([np.array(row, np.int32) for row in rows], range(len(rows)))
    cells = np.asarray(find_buckets(ids, hashes, buckets=BUCKETS))
    assert cells.shape == (orders, *ids.shape)
    found = [Counter(row[row >= 0].tolist()) for row in cells.swapaxes(0, 1)]
    assert found == [expected_buckets(row, hashes) for row in rows]
    transposed = np.asarray(find_buckets(ids.T, hashes, buckets=BUCKETS, time_axis=0))
    np.testing.assert_array_equal(transposed.swapaxes(1, 2), cells)


def test_the_same_buckets_everywhere() -> None:
    """NumPy arrays, a Keras layer, a TensorFlow graph and ONNX find the same buckets."""
    model = make_model("bow-ngrams")
    layer: NgramLogits = model.get_layer("ngrams")
    ids, lengths = batch()
    expected = np.asarray(find_buckets(ids, layer.hashes, buckets=layer.buckets))

    in_keras = cells_of_keras(layer)
    in_graph = tf.function(lambda x: find_buckets(x, layer.hashes, buckets=layer.buckets))
    np.testing.assert_array_equal(in_keras(ids).numpy(), expected)
    np.testing.assert_array_equal(in_graph(tf.constant(ids)).numpy(), expected)
    np.testing.assert_array_equal(cells_of_onnx(model, ids, lengths), expected[1:])


def cells_of_keras(layer: NgramLogits) -> keras.Model:
    """A Keras model of the buckets that `layer` looks up."""

    class Cells(keras.layers.Layer):  # type: ignore[misc]
        def call(self, ids: Any) -> Any:
            return find_buckets(ids, layer.hashes, buckets=layer.buckets)

    symbolic = keras.Input((None,), dtype="int32")
    return keras.Model(symbolic, Cells()(symbolic))


def cells_of_onnx(model: keras.Model, ids: Int32Array, lengths: Int32Array) -> Int32Array:
    """The buckets that a model's ONNX graph looks up, from bigrams on; -1 for the row of zeros.

    Unigrams are looked up by id, in a table of their own.
    """
    graph = build_onnx(model, temperature=1.0)
    buckets = model.get_layer("ngrams").buckets
    (table,) = (c.name for c in graph.graph.initializer if c.dims and c.dims[0] == buckets + 1)
    lookups = [node.input[1] for node in graph.graph.node if table in node.input]
    for lookup in lookups:
        graph.graph.output.append(onnx_output(lookup, ["width", "batch"]))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    found = session.run(lookups, {"ids": ids, "lengths": lengths})
    cells: Int32Array = np.stack(found).swapaxes(1, 2)
    return np.where(cells == buckets, -1, cells)


def onnx_output(name: str, shape: list[str]) -> Any:
    """An int32 tensor as a graph's output."""
    return helper.make_tensor_value_info(name, TensorProto.INT32, shape)


def test_hashes_do_not_change() -> None:
    """The hashes of an id are those of tables trained before, for any vocabulary."""
    hashes = hash_ids(WORDS, orders=ORDERS, buckets=BUCKETS)
    assert hashes[:, FIRST_WORD].tolist() == [819692, 290789, 487115]
    np.testing.assert_array_equal(hashes[:2, :9], hash_ids(9, orders=2, buckets=BUCKETS))


def test_buckets_are_even() -> None:
    """Bigrams of frequent words collide about as often as by chance: 40,000 in 65,536 buckets."""
    buckets = 2**16
    hashes = hash_ids(250, orders=2, buckets=buckets)
    words = np.arange(FIRST_WORD, FIRST_WORD + 200)
    pairs = (hashes[0, words][:, np.newaxis] + hashes[1, words]) % buckets
    by_chance = buckets * (1 - np.exp(-pairs.size / buckets))
    assert len(np.unique(pairs)) == pytest.approx(by_chance, rel=0.02)


def test_sum_over_the_root() -> None:
    """The rows of a text's n-grams are added and divided by the square root of their number."""
    layer = NgramLogits(9, 2, orders=2, buckets=16)
    layer.table = np.arange(32, dtype=np.float32).reshape(16, 2)
    cells = np.asarray(find_buckets(np.array([[BEGIN, 5, 6]]), layer.hashes, buckets=16))
    found = cells[cells >= 0]
    assert len(found) == 2 + 2
    answer = np.asarray(layer(np.array([[BEGIN, 5, 6], [BEGIN, PAD, PAD]])))
    np.testing.assert_allclose(answer, [layer.table[found].sum(axis=0) / 2, [0, 0]])


def test_ratio() -> None:
    """A row is the log-count ratio of its n-grams, which count once per text."""
    layer = NgramLogits(9, 3, orders=1, buckets=2**16, nb_weighting=True)
    rows = [np.array(row, np.int32) for row in ([2, 5, 5, 5], [2, 5], [2, 6], [2, 6, 7])]
    layer.fit_ratio(rows, [0, 0, 1, 2])
    layer._learned.assign(np.ones(layer.table.shape))
    five, unseen = layer.table[layer.hashes[0, [5, 8]]]
    # Two texts of the first class and one of each other, and one smoothing text per class.
    np.testing.assert_allclose(five, np.log([(3 / 3) / (1 / 3), *[(1 / 2) / (3 / 4)] * 2]))
    np.testing.assert_allclose(unseen, np.log([(1 / 3) / (1 / 3), *[(1 / 2) / (1 / 4)] * 2]))


def test_an_untrained_table_adds_nothing() -> None:
    """The logits of an untrained table are 0, weighted or not."""
    for weighted in (False, True):
        layer = NgramLogits(9, 2, orders=2, buckets=16, nb_weighting=weighted)
        assert not np.asarray(layer(np.array([[BEGIN, 5, 6]]))).any()


@pytest.mark.parametrize("rate", [0.1, 10.0])
def test_the_penalty_is_on_the_table(rate: float) -> None:
    """The L2 penalty is that of the table itself, whatever its learning rate."""
    layer = NgramLogits(9, 2, orders=1, buckets=16, lr_factor=rate, l2=0.5)
    layer.table = np.full((16, 2), 3.0, np.float32)
    assert float(sum(layer.losses)) == pytest.approx(0.5 * 9 * 32)


def test_a_model_with_ngrams_is_saved(tmp_path: Path) -> None:
    """A model loaded from its file gives the same answers."""
    model = make_model("bow-ngrams")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    ids, _ = batch()
    np.testing.assert_array_equal(loaded(ids).numpy(), model(ids).numpy())
