"""`ServingGraph` answers like the Keras model, on cuDNN too as far as a CPU can tell."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.artifact import CUDNN_SIGNATURE, SIGNATURE, TEXT_SIGNATURE
from app.text.vocabulary import BEGIN, PAD, UNKNOWN
from tests.architectures import CONFIGS, VOCABULARY, batch, make_model
from tests.deferred import deferred
from tests.trained import Workshop
from training.config import Config, ModelConfig, PreprocessingConfig

with deferred():
    import keras
    import tensorflow as tf

    from training.export.saved_model import round_tables
    from training.export.tf_graph import ServingGraph
    from training.models.build import build_model


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def cut(buffer: NDArray[np.float32], *shapes: tuple[int, ...]) -> list[NDArray[np.float32]]:
    """Split a buffer into arrays of these shapes, which must fill it."""
    ends = np.cumsum([np.prod(shape) for shape in shapes])
    assert buffer.shape == (ends[-1],)
    parts = np.split(buffer, ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def lstm_of_cudnn(
    *,
    input: Any,  # noqa: A002 TensorFlow's name
    input_h: Any,
    input_c: Any,
    params: Any,
    sequence_lengths: Any,
    **attributes: Any,
) -> Any:
    """What `CudnnRNNV3` computes according to cuDNN's documentation.

    Its buffer holds, for the gates i (input), f (forget), c (candidate) and o (output) each: a
    matrix (units, inputs) for the input, in row-major order; then a matrix (units, units) for the
    previous state; then a bias for the input; then a bias for the state.
    """
    assert attributes == {"rnn_mode": "lstm", "is_training": False, "time_major": True}
    steps, rows, inputs = input.shape
    layers, _, units = input_h.shape
    assert (layers, input_c.shape) == (1, (1, rows, units))
    assert sequence_lengths.numpy().tolist() == [steps] * rows  # no padding: every row is full
    matrices = [(units, inputs)] * 4 + [(units, units)] * 4
    parts = cut(params.numpy(), *matrices, *[(units,)] * 8)
    w, r, bw, br = (parts[first : first + 4] for first in (0, 4, 8, 12))
    h, c = input_h.numpy()[0], input_c.numpy()[0]
    output = []
    for x in input.numpy():
        i, f, g, o = (x @ w[k].T + h @ r[k].T + bw[k] + br[k] for k in range(4))
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        output.append(h)
    return SimpleNamespace(output=tf.constant(np.stack(output), tf.float32))


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_the_model(name: str) -> None:
    """The graph answers like the Keras model, and ignores ids behind the length of a row."""
    model = make_model(name)
    ids, lengths = batch()
    behind = np.arange(ids.shape[1]) >= lengths[:, np.newaxis]
    junk = np.where(behind, 10_000, ids)
    answers = ServingGraph(model, temperature=1.0)(tf.constant(junk), tf.constant(lengths))
    np.testing.assert_allclose(answers, model.predict_on_batch(ids), atol=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_inputs_that_break_the_rules(name: str) -> None:
    """What is no id counts as unknown, a row without a length as a text without tokens."""
    model = make_model(name)
    graph, classes = ServingGraph(model, temperature=1.0), model.output_shape[-1]
    broken = np.array([[BEGIN, 7, -1, 9], [5, 5, 5, 5], [BEGIN, 7, VOCABULARY, PAD]], np.int32)
    mended = np.array([[BEGIN, 7, UNKNOWN, 9], [BEGIN] + [PAD] * 3, [BEGIN, 7] + [UNKNOWN] * 2])
    answers = graph(broken, np.array([9, 0, 4], np.int32))
    expected = graph(mended.astype(np.int32), np.array([4, 1, 4], np.int32))
    np.testing.assert_allclose(answers, expected, atol=1e-6)
    for width in (0, 5):
        assert graph(np.zeros((0, width), np.int32), np.zeros(0, np.int32)).shape == (0, classes)


def test_an_empty_batch_of_each_signature(workshop: Workshop) -> None:
    """Every signature that runs on a CPU takes an empty batch, the one of raw texts too."""
    none = np.zeros(0, np.int32)
    for name in ("lstm", "bow"):
        signatures = tf.saved_model.load(str(workshop.models / name / "1")).signatures
        scored = signatures[SIGNATURE](ids=tf.zeros((0, 3), tf.int32), lengths=tf.constant(none))
        of_texts = signatures[TEXT_SIGNATURE](text=tf.constant([], tf.string))
        assert scored["probabilities"].shape == of_texts["probabilities"].shape == (0, 2)


@pytest.mark.parametrize("name", CONFIGS)
def test_only_an_lstm_runs_on_cudnn(name: str) -> None:
    """Models with an LSTM can run on cuDNN, and no others."""
    assert ServingGraph(make_model(name), temperature=1.0).has_lstm is name.startswith("lstm")


@pytest.fixture(params=[(1, False), (2, True)], ids=["one layer", "stacked, both ways"])
def model(request: pytest.FixtureRequest) -> keras.Model:
    """An LSTM whose sizes all differ, and whose biases are not 0."""
    layers, both_ways = request.param
    config = Config(
        name="lstm",
        text=PreprocessingConfig(max_length=12, head_tokens=4),
        model=ModelConfig(
            architecture="rnn",
            embedding_dim=5,
            units=7,
            hidden=(6,),
            layers=layers,
            bidirectional=both_ways,
        ),
    )
    model = build_model(config, vocabulary=30, classes=3)
    generator = np.random.default_rng(1)
    model.set_weights([generator.normal(0, 0.7, w.shape) for w in model.get_weights()])
    round_tables(model)
    return model


def test_packed_for_cudnn(model: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """CuDNN as it is documented gives the answers of Keras, with padding too."""
    lengths = np.array([12, 5, 1], np.int32)
    ids = np.random.default_rng(2).integers(2, 30, (3, 12), dtype=np.int32)
    ids[np.arange(12) >= lengths[:, None]] = 0
    monkeypatch.setattr(tf.raw_ops, "CudnnRNNV3", lstm_of_cudnn)
    answers = ServingGraph(model, temperature=1.0).on_cudnn(ids, lengths)
    np.testing.assert_allclose(answers, model.predict(ids, verbose=0), atol=1e-5)
    empty = ServingGraph(model, temperature=1.0).on_cudnn(ids[:0], lengths[:0])
    assert empty.shape == (0, 3)


def operations(signature: Any) -> Iterator[Any]:
    """Every node that a signature of a loaded SavedModel can run, called functions included."""
    graph = signature.graph.as_graph_def()
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    names, pending = set(functions), [graph.node]
    while pending:
        for node in pending.pop():
            yield node
            called = {a.func.name for a in node.attr.values() if a.HasField("func")} & names
            names -= called
            pending += [functions[name] for name in called]


def test_saved_for_cudnn(workshop: Workshop) -> None:
    """An LSTM is saved with a signature for cuDNN, whose attributes survive loading."""
    loaded = tf.saved_model.load(str(workshop.models / "lstm" / "1"))
    (node,) = (n for n in operations(loaded.signatures[CUDNN_SIGNATURE]) if "Cudnn" in n.op)
    texts = [node.attr[name].s for name in ("rnn_mode", "direction", "input_mode")]
    assert node.op == "CudnnRNNV3"
    assert texts == [b"lstm", b"unidirectional", b"linear_input"]
    assert (node.attr["time_major"].b, node.attr["is_training"].b) == (True, False)


@pytest.mark.parametrize("signature", [SIGNATURE, TEXT_SIGNATURE])
def test_runs_anywhere(workshop: Workshop, signature: str) -> None:
    """The other signatures have no cuDNN operation, so they run on a CPU."""
    loaded = tf.saved_model.load(str(workshop.models / "lstm" / "1"))
    names = {node.op for node in operations(loaded.signatures[signature])}
    assert "BlockLSTMV2" in names
    assert not any("Cudnn" in name for name in names)


def test_nothing_for_cudnn(workshop: Workshop) -> None:
    """A model without an LSTM has no signature for cuDNN."""
    loaded = tf.saved_model.load(str(workshop.models / "bow" / "1"))
    assert set(loaded.signatures) == {SIGNATURE, TEXT_SIGNATURE}


def test_weights_are_saved_once(workshop: Workshop) -> None:
    """Both paths through the LSTM share their variables, and no others are saved."""
    folder = workshop.models / "lstm" / "1" / "variables"
    names = [name for name, _ in tf.train.list_variables(str(folder / "variables"))]
    of_lstm = sorted(name.split("/")[2] for name in names if name.startswith("graph/_features/"))
    # Codes and their scale, a kernel and a bias.
    assert of_lstm == ["_embedding", "_embedding", "_layers", "_layers"]
