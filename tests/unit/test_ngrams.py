"""N-grams: one number for each, found alike by every library, summed under the mask."""

from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from onnx import TensorProto, helper

from app.text.padding import Int32Array
from app.text.vocabulary import BEGIN, FIRST_WORD, PAD, UNKNOWN
from tests.architectures import batch, make_model
from training.data.batches import pad_batch
from training.export.onnx_graph import build_onnx
from training.features.ngram_hashing import draw_numbers, find_ngrams
from training.models.layers import NgramSum

ORDERS, BUCKETS, WORDS = 3, 2**20, 30_000


def expected_ngrams(row: list[int], numbers: Int32Array) -> Counter[int]:
    """The rows of a text's n-grams, by the rule as it is written."""
    real = [i for i in row if i != PAD]
    found: Counter[int] = Counter()
    for order in range(1, len(numbers) + 1):
        for end in range(order, len(real) + 1):
            words = real[end - order : end][::-1]  # places count from the last word
            if order > 1 or words[0] >= FIRST_WORD:
                total = sum(int(numbers[place, word]) for place, word in enumerate(words))
                found[total % BUCKETS] += 1
    return found


@pytest.mark.parametrize("orders", [1, 2, 3])
def test_every_ngram_once(orders: int) -> None:
    """N-grams of each order up to the highest; special ids are no words, padding is nothing."""
    numbers = draw_numbers(WORDS, orders=orders, buckets=BUCKETS)
    rows = [[BEGIN], [BEGIN, 9], [BEGIN, UNKNOWN, 5, 5, 29_999], [BEGIN, *range(100, 140)]]
    ids = pad_batch([np.array(row, np.int32) for row in rows], range(len(rows)))
    cells = np.asarray(find_ngrams(ids, numbers, buckets=BUCKETS))
    assert cells.shape == (orders, *ids.shape)
    found = [Counter(row[row >= 0].tolist()) for row in cells.swapaxes(0, 1)]
    assert found == [expected_ngrams(row, numbers) for row in rows]
    turned = np.asarray(find_ngrams(ids.T, numbers, buckets=BUCKETS, time=0))
    np.testing.assert_array_equal(turned.swapaxes(1, 2), cells)


def test_the_same_rows_everywhere() -> None:
    """NumPy arrays, a Keras layer, a TensorFlow graph and ONNX find the same rows."""
    model = make_model("bow-ngrams")
    layer: NgramSum = model.get_layer("ngrams")
    ids, lengths = batch()
    expected = np.asarray(find_ngrams(ids, layer.numbers, buckets=layer.buckets))

    symbolic = keras.Input((None,), dtype="int32")
    in_keras = keras.Model(symbolic, Cells(layer)(symbolic))
    in_graph = tf.function(lambda x: find_ngrams(x, layer.numbers, buckets=layer.buckets))
    np.testing.assert_array_equal(in_keras(ids).numpy(), expected)
    np.testing.assert_array_equal(in_graph(tf.constant(ids)).numpy(), expected)
    np.testing.assert_array_equal(cells_of_onnx(model, ids, lengths), expected[1:])


class Cells(keras.layers.Layer):  # type: ignore[misc]
    """The rows that another layer would sum."""

    def __init__(self, layer: NgramSum) -> None:
        super().__init__()
        self.numbers, self.buckets = layer.numbers, layer.buckets

    def call(self, ids: Any) -> Any:
        return find_ngrams(ids, self.numbers, buckets=self.buckets)


def cells_of_onnx(model: keras.Model, ids: Int32Array, lengths: Int32Array) -> Int32Array:
    """What the ONNX graph of a model looks up in its table, from pairs on; -1 for the row of zeros.

    Words are looked up by their ids, in a table of their own.
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
    """A tensor of whole numbers as a graph's output."""
    return helper.make_tensor_value_info(name, TensorProto.INT32, shape)


def test_numbers_do_not_change() -> None:
    """The numbers of an id are those that trained tables were made with, for any vocabulary."""
    numbers = draw_numbers(WORDS, orders=ORDERS, buckets=BUCKETS)
    assert numbers[:, FIRST_WORD].tolist() == [819692, 290789, 487115]
    np.testing.assert_array_equal(numbers[:2, :9], draw_numbers(9, orders=2, buckets=BUCKETS))


def test_rows_are_even() -> None:
    """Pairs of frequent words fall about as chance would have them: 40,000 into 65,536 rows."""
    buckets = 2**16
    numbers = draw_numbers(250, orders=2, buckets=buckets)
    words = np.arange(FIRST_WORD, FIRST_WORD + 200)
    pairs = (numbers[0, words][:, np.newaxis] + numbers[1, words]) % buckets
    by_chance = buckets * (1 - np.exp(-pairs.size / buckets))
    assert len(np.unique(pairs)) == pytest.approx(by_chance, rel=0.02)


def test_sum_over_the_root() -> None:
    """The layer adds the rows of a text's n-grams and divides by the root of their number."""
    layer = NgramSum(9, 2, orders=2, buckets=16)
    layer.table = np.arange(32, dtype=np.float32).reshape(16, 2)
    cells = np.asarray(find_ngrams(np.array([[BEGIN, 5, 6]]), layer.numbers, buckets=16))
    there = cells[cells >= 0]
    assert len(there) == 2 + 2
    answer = np.asarray(layer(np.array([[BEGIN, 5, 6], [BEGIN, PAD, PAD]])))
    np.testing.assert_allclose(answer, [layer.table[there].sum(axis=0) / 2, [0, 0]])


def test_ratio() -> None:
    """A row is how much likelier its n-grams are in a class than in all others, by texts."""
    layer = NgramSum(9, 3, orders=1, buckets=2**16, weighted=True)
    rows = [np.array(row, np.int32) for row in ([2, 5, 5, 5], [2, 5], [2, 6], [2, 6, 7])]
    layer.learn_ratio(rows, [0, 0, 1, 2])
    layer._learned.assign(np.ones(layer.table.shape))
    five, unseen = layer.table[layer.numbers[0, [5, 8]]]
    # Two texts of the first class and one of each other; one more of each kind has every word.
    np.testing.assert_allclose(five, np.log([(3 / 3) / (1 / 3), *[(1 / 2) / (3 / 4)] * 2]))
    np.testing.assert_allclose(unseen, np.log([(1 / 3) / (1 / 3), *[(1 / 2) / (1 / 4)] * 2]))


def test_what_is_learned_starts_at_nothing() -> None:
    """An untrained table adds nothing, weighted or not."""
    for weighted in (False, True):
        layer = NgramSum(9, 2, orders=2, buckets=16, weighted=weighted)
        assert not np.asarray(layer(np.array([[BEGIN, 5, 6]]))).any()


@pytest.mark.parametrize("rate", [0.1, 10.0])
def test_the_penalty_sees_the_table(rate: float) -> None:
    """The loss has the squares of the table itself, whatever the rate it learns at."""
    layer = NgramSum(9, 2, orders=1, buckets=16, rate=rate, l2=0.5)
    layer.table = np.full((16, 2), 3.0, np.float32)
    assert float(sum(layer.losses)) == pytest.approx(0.5 * 9 * 32)


def test_a_model_with_ngrams_is_saved(tmp_path: Path) -> None:
    """A model loaded from its file answers as it did."""
    model = make_model("bow-ngrams")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    ids, _ = batch()
    np.testing.assert_array_equal(loaded(ids).numpy(), model(ids).numpy())
