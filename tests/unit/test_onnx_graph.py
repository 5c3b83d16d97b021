"""The ONNX graph answers like the model, whatever the batch and the padding."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.text.vocabulary import BEGIN, PAD, UNKNOWN
from tests.architectures import CONFIGS, INT8, LSTM, VOCABULARY, WIDTH, batch, make_model
from tests.deferred import deferred

with deferred():
    import keras
    import onnxruntime

    from training.export.onnx_graph import Precision, build_onnx, precisions
    from training.export.tf_graph import ServingGraph
    from training.models.build import FORWARD, WORD_EMBEDDINGS, build_model
    from training.models.layers.int8_lstm import add_sentinels
    from training.models.layers.int8_table import quantize_columns
    from training.models.layers.short_temperature import short_factors
    from training.reports.calibration import rescale

TEMPERATURE = 1.7
EACH = [(name, "fp32") for name in CONFIGS] + [(name, "int8") for name in INT8]
SOME = [("lstm", "fp32"), ("bow-hidden", "fp32"), ("lstm-both-ways", "int8")]


class Graph:
    """A model's ONNX graph in ONNX Runtime."""

    def __init__(
        self,
        model: keras.Model,
        precision: Precision = "fp32",
        *,
        short_temperature: float = 1.0,
    ) -> None:
        graph = build_onnx(
            model,
            temperature=TEMPERATURE,
            short_temperature=short_temperature,
            precision=precision,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # more threads would only wait for each other
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), options)

    def __call__(self, ids: Any, lengths: Any = None) -> NDArray[np.float32]:
        """Probabilities; without `lengths` every row is full."""
        ids = np.array(ids, np.int32)
        lengths = np.full(len(ids), ids.shape[1]) if lengths is None else lengths
        feeds = {"ids": ids, "lengths": np.array(lengths, np.int32)}
        answer: NDArray[np.float32] = self._session.run(None, feeds)[0]
        return answer


@cache
def graph_of(name: str, precision: Precision = "fp32", *, scale: float = 0.5) -> Graph:
    """The graph of a model, built once."""
    return Graph(make_model(name, scale=scale), precision)


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_the_serving_graph(name: str) -> None:
    """In fp32 the answers are those of the SavedModel, temperature included."""
    model = make_model(name)
    ids, lengths = batch()
    expected = ServingGraph(model, temperature=TEMPERATURE)(ids, lengths).numpy()
    np.testing.assert_allclose(graph_of(name)(ids, lengths), expected, atol=1e-6)


@pytest.mark.parametrize(("name", "precision"), EACH)
def test_the_temperature_of_short_texts(name: str, precision: Precision) -> None:
    """Both graphs divide the logits of short texts by it, more so the shorter, in every batch."""
    model, short = make_model(name), 0.6
    ids, lengths = batch()
    plain = graph_of(name, precision)(ids, lengths)
    factors = short_factors([row[:n] for row, n in zip(ids, lengths, strict=True)], short)
    expected = rescale(plain, 1 / factors)
    graph = Graph(model, precision, short_temperature=short)
    np.testing.assert_allclose(graph(ids, lengths), expected, atol=1e-5)
    np.testing.assert_allclose(
        graph(ids[2:3, : lengths[2]], lengths[2:3]), expected[2:3], atol=1e-5
    )
    if precision == "fp32":
        served = ServingGraph(model, temperature=TEMPERATURE, short_temperature=short)
        np.testing.assert_allclose(served(ids, lengths), expected, atol=1e-5)


def test_which_texts_are_short() -> None:
    """The factor is 1 / short without ids, 1 from 128 ids on, and halfway between at 64."""
    rows = [np.ones(length, np.int32) for length in (0, 64, 128, 400)]
    np.testing.assert_allclose(short_factors(rows, 0.5).ravel(), [2, 1.5, 1, 1])
    long = np.full((2, 200), 7, np.int32)
    lengths = np.array([128, 200], np.int32)
    graph = Graph(make_model("bow"), short_temperature=0.5)
    unchanged = graph_of("bow")(long, lengths)
    np.testing.assert_allclose(graph(long, lengths), unchanged, atol=1e-6)
    served = ServingGraph(make_model("bow"), temperature=TEMPERATURE, short_temperature=0.5)
    np.testing.assert_allclose(served(long, lengths), unchanged, atol=1e-6)


@pytest.mark.parametrize("length", [-5, 0, 6, 10**6])
def test_lengths_that_are_none_have_a_factor_in_bounds(length: int) -> None:
    """A length below 1 counts as 1, and one above the width as the width, in both graphs."""
    ids, model = np.full((1, 5), 7, np.int32), make_model("bow")
    valid = np.array([min(max(length, 1), 5)])
    graph = Graph(model, short_temperature=0.5)
    served = ServingGraph(model, temperature=TEMPERATURE, short_temperature=0.5)
    factors = short_factors([ids[0, : valid[0]]], 0.5)
    for answer in (graph, served):
        plain = graph_of("bow") if answer is graph else ServingGraph(model, temperature=TEMPERATURE)
        lengths = np.array([length], np.int32)
        expected = rescale(np.asarray(plain(ids, lengths)), 1 / factors)
        np.testing.assert_allclose(answer(ids, lengths), expected, atol=1e-6)


@pytest.mark.parametrize("name", INT8)
def test_int8_is_close(name: str) -> None:
    """With int8 weights the answers are close to fp32, and not equal."""
    ids, lengths = batch(rows=64)
    exact, int8 = (graph_of(name, precision)(ids, lengths) for precision in ("fp32", "int8"))
    difference = np.abs(int8 - exact).max()
    assert 1e-5 < difference < 0.05


@pytest.mark.parametrize(
    ("name", "precision", "scale"),
    [(*one, 0.5) for one in EACH] + [(*one, scale) for one in SOME for scale in (0.05, 3.0)],
)
def test_neighbours_change_nothing(name: str, precision: Precision, scale: float) -> None:
    """A text gets the same answer alone, in a batch, and with any amount of padding."""
    graph = graph_of(name, precision, scale=scale)
    ids, lengths = batch()
    together = graph(ids, lengths)
    alone = np.concatenate([graph(ids[i : i + 1, :n]) for i, n in enumerate(lengths)])
    wide = graph(np.pad(ids, ((0, 0), (0, 30)), constant_values=PAD), lengths)
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(wide, alone, atol=1e-6)


@pytest.mark.parametrize(("name", "precision"), EACH)
@pytest.mark.parametrize("junk", [5, VOCABULARY + 1000, -7])
def test_padding_is_not_read(name: str, precision: Precision, junk: int) -> None:
    """Ids behind the length of a row change nothing, or are refused if they are none."""
    graph = graph_of(name, precision)
    ids, lengths = batch()
    behind = np.where(np.arange(WIDTH) >= lengths[:, np.newaxis], junk, ids)
    config = CONFIGS[name].model
    if junk > VOCABULARY and config.architecture == "rnn" and not config.ngram_logits:
        with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
            graph(behind, lengths)
    else:
        np.testing.assert_array_equal(graph(behind, lengths), graph(ids, lengths))


@pytest.mark.parametrize(("name", "precision"), EACH)
def test_an_empty_batch(name: str, precision: Precision) -> None:
    """An empty batch gets no rows or an error; ONNX Runtime alone would end the process."""
    graph = graph_of(name, precision)
    if CONFIGS[name].model.architecture == "rnn":
        with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException):
            graph(np.zeros((0, 5)), np.zeros(0))
    else:
        assert graph(np.zeros((0, 5)), np.zeros(0)).shape == (0, make_model(name).output_shape[-1])


@pytest.mark.parametrize(("name", "precision"), EACH)
def test_rows_without_a_length(name: str, precision: Precision) -> None:
    """A length below 1 is refused, or a text without tokens, whatever the ids of the row are."""
    graph = graph_of(name, precision)
    expected = np.repeat(graph([[BEGIN]]), 3, axis=0)
    for ids in (np.full((3, 5), 7), np.full((3, 5), -1)):
        for lengths in ([0, -1, -(2**31)], [5, 5, 0], [-1, 5, 5]):
            if CONFIGS[name].model.architecture == "rnn":
                with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
                    graph(ids, lengths)
            else:
                empty = np.array(lengths) < 1
                np.testing.assert_allclose(graph(ids, lengths)[empty], expected[empty], atol=1e-6)


@pytest.mark.parametrize(("name", "precision"), EACH)
def test_lengths_above_the_width(name: str, precision: Precision) -> None:
    """A length above the width counts as the width, or is refused."""
    graph = graph_of(name, precision)
    ids, _ = batch(rows=3)
    lengths = [WIDTH + 1, 2**31 - 1, WIDTH]
    if CONFIGS[name].model.architecture == "rnn":
        with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
            graph(ids, lengths)
    else:
        np.testing.assert_array_equal(graph(ids, lengths), graph(ids, [WIDTH] * 3))


@pytest.mark.parametrize(("name", "precision"), EACH)
def test_ids_out_of_range(name: str, precision: Precision) -> None:
    """Ids below 0 and padding within a text are unknown; ids above the vocabulary are refused."""
    graph = graph_of(name, precision)
    no_ids = (-1, -VOCABULARY, -(2**31), PAD)
    unknown = graph([[BEGIN, 7, UNKNOWN, 9]] * len(no_ids))
    np.testing.assert_array_equal(graph([[BEGIN, 7, no_id, 9] for no_id in no_ids]), unknown)
    for no_id in (VOCABULARY, 2**31 - 1):
        with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
            graph([[BEGIN, 7, no_id, 9]])


def test_negative_states() -> None:
    """The maximum of a unit whose states are all negative is 0 in all three forms."""
    model = build_model(LSTM.replace(pooling="max"), vocabulary=VOCABULARY, classes=3)
    layer = model.get_layer(FORWARD.format(0))
    kernel, recurrent, bias = layer.get_weights()
    bias[2 * LSTM.model.units : 3 * LSTM.model.units] = -20  # every candidate is -1
    layer.set_weights([kernel * 0, recurrent * 0, bias])
    ids, lengths = batch()
    uniform = np.full((len(ids), 3), 1 / 3)  # the output of zeros, as its bias is 0
    for answers in (
        Graph(model)(ids, lengths),
        ServingGraph(model, temperature=TEMPERATURE)(ids, lengths).numpy(),
        model.predict_on_batch(ids),
    ):
        np.testing.assert_allclose(answers, uniform, atol=1e-6)


@pytest.mark.parametrize("name", ["bow", "bow-hidden"])
def test_a_word_counts_once(name: str) -> None:
    """Repeats, order and special ids change nothing in a bag of words."""
    graph = graph_of(name)
    once = graph([[BEGIN, 7, 9, 11]])
    for row in ([11, 9, 7], [7] * 9 + [9, 7, 11, 9], [UNKNOWN, 7, UNKNOWN, 9, PAD, 11, BEGIN]):
        np.testing.assert_allclose(graph([row]), once, atol=1e-6)
    assert np.abs(graph([[BEGIN, 7, 9]]) - once).max() > 1e-4


def test_no_word_at_all() -> None:
    """A text without a word of the vocabulary gets the answer of an empty bag."""
    model = make_model("bow-hidden")
    ids = np.array([[BEGIN, UNKNOWN, UNKNOWN], [BEGIN, PAD, PAD]], np.int32)
    expected = ServingGraph(model, temperature=TEMPERATURE)(ids, np.array([3, 1], np.int32))
    np.testing.assert_allclose(Graph(model)(ids, [3, 1]), expected.numpy(), atol=1e-6)


def test_sentinels_span_every_row() -> None:
    """Every row of codes has the ends of their range, in which quantizing again is exact."""
    codes, _ = quantize_columns(make_model("lstm").get_layer(WORD_EMBEDDINGS).vectors)
    wide = add_sentinels(codes)
    assert wide.dtype == np.int8
    assert (wide.max(axis=1) == 127).all()
    assert (wide.min(axis=1) == -128).all()
    np.testing.assert_array_equal(wide[:, :-2], codes)


def test_seven_bits() -> None:
    """The sum of two products of an int8 weight and a uint8 input fits into 16 bits."""
    graph = build_onnx(make_model("lstm", scale=3.0), temperature=1.0, precision="int8").graph
    (lstm,) = (node for node in graph.node if node.op_type == "DynamicQuantizeLSTM")
    kernels = [c for c in graph.initializer if c.name in lstm.input[1:3]]
    weights = [np.frombuffer(c.raw_data, np.int8) for c in kernels]
    assert len(weights) == 2
    largest = max(int(np.abs(values.astype(int)).max()) for values in weights)
    assert 0 < 2 * 255 * largest < 2**15


@pytest.mark.parametrize(("name", "precision"), SOME)
def test_the_same_bytes(name: str, precision: Precision) -> None:
    """The same model gives the same file, byte for byte."""
    model = make_model(name)
    first, second = (
        build_onnx(model, temperature=1.0, precision=precision).SerializeToString()
        for _ in range(2)
    )
    assert first == second


def test_word_vectors_are_stored_as_int8() -> None:
    """A number of the table of word vectors takes a byte."""
    config = LSTM.replace(embedding_dim=64, units=4)
    model = build_model(config, vocabulary=5_000, classes=2)
    size = build_onnx(model, temperature=1.0).ByteSize()
    assert 5_000 * 64 < size < 5_000 * 64 * 1.1


@pytest.mark.parametrize("name", CONFIGS)
def test_precisions(name: str) -> None:
    """Only LSTMs can have int8 weights: ONNX Runtime has no other int8 recurrent operator."""
    expected = ("fp32", "int8") if name.startswith("lstm") else ("fp32",)
    assert precisions(make_model(name)) == expected


def test_few_nodes_for_ngrams() -> None:
    """The table of n-gram logits is stored once, and looked up once per order from bigrams on.

    Unigrams have a table by id. No dense row over all buckets is computed.
    """
    graph = build_onnx(make_model("bow-ngrams"), temperature=1.0).graph
    tables = [c.name for c in graph.initializer if list(c.dims) == [64 + 1, 3]]
    assert len(tables) == 1
    assert sum(tables[0] in node.input for node in graph.node) == 3 - 1
