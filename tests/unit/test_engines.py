"""The choice of an engine, one model run, and the two engines."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import InferenceFailed, MissingLibrary, UnusableVersion
from app.serving import engines
from app.serving.engines import (
    Device,
    EngineName,
    EngineOptions,
    choose_engine,
    infer,
    load_engine,
)
from tests.fakes import BAD, GOOD, FakeEngine

MODELS = Path(__file__).parents[2] / "models"


class ConstantEngine:
    """An engine that always returns the same output."""

    name = "constant"

    def __init__(self, output: Any) -> None:
        self.output = np.array(output, dtype=np.float32)

    def run(self, _ids: Any, _lengths: Any) -> NDArray[np.float32]:
        """Return the output; see `Engine.run`."""
        return self.output


def rows(*rows: list[int]) -> list[NDArray[np.int32]]:
    return [np.array(row, dtype=np.int32) for row in rows]


# --- one model run ---


def test_infer_pads() -> None:
    """Rows of unequal length are padded into one array, with their lengths."""
    engine = FakeEngine()
    output = infer(engine, rows([GOOD], [BAD, BAD, BAD]), labels=2)
    assert engine.batches == [[[GOOD], [BAD, BAD, BAD]]]
    assert (output[0, 1] > 0.5, output[1, 1] > 0.5) == (True, False)


def test_infer_normalizes() -> None:
    """Each row sums to 1 in float64, whatever the model's rounding."""
    output = infer(ConstantEngine([[0.3333, 0.6666]]), rows([GOOD]), labels=2)
    assert output.dtype == np.float64
    assert abs(output.sum() - 1) < 1e-12


@pytest.mark.parametrize(
    "output",
    [
        [[0.5, 0.5]],
        [[0.5, 0.5]] * 3,
        [[1.0], [1.0]],
        [0.5, 0.5],
        [[0.5, 0.5], [np.nan, 0.5]],
        [[0.5, 0.5], [np.inf, 0.5]],
        [[0.5, 0.5], [1.5, -0.5]],
        [[0.5, 0.5], [0.5, 0.6]],
        [[0.5, 0.5], [0.0, 0.0]],
    ],
)
def test_infer_rejects_invalid_output(output: Any) -> None:
    """Another shape, NaN, a negative value or a sum other than 1 is an error."""
    with pytest.raises(InferenceFailed):
        infer(ConstantEngine(output), rows([GOOD], [BAD]), labels=2)


# --- the choice of an engine ---


TF, ORT = "tensorflow", "onnxruntime"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that only these libraries are installed, and that there is a GPU or not."""

    def pretend(*libraries: str, gpu: bool = False) -> None:
        monkeypatch.setattr(engines, "find_spec", lambda name: name if name in libraries else None)
        monkeypatch.setattr(engines, "sees_gpu", lambda: gpu)

    return pretend


@pytest.mark.parametrize(
    ("libraries", "gpu", "has_onnx", "chosen"),
    [
        ((TF, ORT), False, True, "onnx"),
        ((TF, ORT), False, False, "tensorflow"),
        ((TF, ORT), True, True, "tensorflow"),
        ((TF, ORT), True, False, "tensorflow"),
        ((TF,), False, True, "tensorflow"),
        ((TF,), True, True, "tensorflow"),
        ((ORT,), False, True, "onnx"),
        ((ORT,), True, True, "onnx"),
    ],
)
def test_auto(
    machine: Callable[..., None],
    libraries: tuple[str, ...],
    gpu: bool,
    has_onnx: bool,
    chosen: str,
) -> None:
    """`auto`: TensorFlow on a GPU, else ONNX Runtime with a graph, else what is installed."""
    machine(*libraries, gpu=gpu)
    assert choose_engine(EngineOptions(), has_onnx=has_onnx) == chosen


@pytest.mark.parametrize(
    ("device", "chosen"), [("auto", "tensorflow"), ("cpu", "onnx"), ("gpu", "tensorflow")]
)
def test_auto_follows_the_device(machine: Callable[..., None], device: Device, chosen: str) -> None:
    """DEVICE=cpu ignores a GPU; DEVICE=gpu takes the engine that supports it."""
    machine(TF, ORT, gpu=True)
    assert choose_engine(EngineOptions(device=device), has_onnx=True) == chosen


@pytest.mark.parametrize("engine", ["tensorflow", "onnx"])
@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("has_onnx", [False, True])
def test_explicit_engine(
    machine: Callable[..., None], engine: EngineName, gpu: bool, has_onnx: bool
) -> None:
    """An explicit engine is taken whatever the machine has."""
    machine(TF, ORT, gpu=gpu)
    assert choose_engine(EngineOptions(engine), has_onnx=has_onnx) == engine


@pytest.mark.parametrize(
    ("libraries", "options", "has_onnx", "extra"),
    [
        ((), EngineOptions(), True, "onnx"),
        ((), EngineOptions(), False, "tensorflow"),
        ((ORT,), EngineOptions(), False, "tensorflow"),
        ((ORT,), EngineOptions(device="gpu"), True, "tensorflow"),
        ((ORT,), EngineOptions("tensorflow"), True, "tensorflow"),
        ((TF,), EngineOptions("onnx"), True, "onnx"),
    ],
)
def test_missing_library(
    machine: Callable[..., None],
    libraries: tuple[str, ...],
    options: EngineOptions,
    has_onnx: bool,
    extra: str,
) -> None:
    """The error names the missing library and the extra that installs it."""
    machine(*libraries)
    with pytest.raises(MissingLibrary, match=rf"install valence\[{extra}\]"):
        choose_engine(options, has_onnx=has_onnx)


@pytest.mark.parametrize(
    ("file", "readers"),
    [
        ("tokenizer.json", {"onnx", "tensorflow"}),
        ("golden.jsonl", {"onnx", "tensorflow"}),
        ("report/curves.png", {"onnx", "tensorflow"}),  # the console shows it
        ("model.onnx", {"onnx"}),
        ("saved_model.pb", {"tensorflow"}),
        ("variables/variables.index", {"tensorflow"}),
        ("assets/words.txt", {"tensorflow"}),
        ("report/report.html", set()),
        ("learned.bin", set()),
    ],
)
def test_files_that_an_engine_reads(file: str, readers: set[str]) -> None:
    """Each file of a version is read with the engines that need it."""
    assert {name for name in ("onnx", "tensorflow") if engines.is_read(name, file)} == readers


def test_libraries_are_imported_late() -> None:
    """Importing the service imports neither TensorFlow nor ONNX Runtime."""
    code = (
        "import sys, app, app.main, app.__main__; "
        "sys.exit(bool({'tensorflow', 'onnxruntime'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- TensorFlow ---


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel written by hand: the share of odd ids, without padding."""
    tf = pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("saved_model")

    def serve_ids(ids: Any, lengths: Any) -> Any:
        mask = tf.sequence_mask(lengths, tf.shape(ids)[1])
        odd = tf.math.count_nonzero(mask & (ids % 2 == 1), axis=1, dtype=tf.float32)
        share = odd / tf.cast(lengths, tf.float32)
        return {"probabilities": tf.stack([1 - share, share], axis=1)}

    function = tf.function(serve_ids, jit_compile=False)
    signature = function.get_concrete_function(
        ids=tf.TensorSpec([None, None], tf.int32, "ids"),
        lengths=tf.TensorSpec([None], tf.int32, "lengths"),
    )
    tf.saved_model.save(tf.Module(), str(folder), signatures={"serve_ids": signature})
    return folder


def test_tensorflow_runs_the_signature(saved_model: Path) -> None:
    """The signature of the SavedModel takes batches of any size and width."""
    engine = load_engine(saved_model, EngineOptions("tensorflow", "cpu", 2))
    assert engine.name == "tensorflow"
    one = infer(engine, rows([3, 4]), labels=2)
    many = infer(engine, rows([3, 4], [3] * 9, [4] * 3), labels=2)
    np.testing.assert_allclose(one, [[0.5, 0.5]])
    np.testing.assert_allclose(many, [[0.5, 0.5], [0.0, 1.0], [1.0, 0.0]])


def damage(saved_model: Path, folder: Path) -> Path:
    (folder / "saved_model.pb").write_bytes((saved_model / "saved_model.pb").read_bytes()[:50])
    return folder


def empty(_saved_model: Path, folder: Path) -> Path:
    return folder


def without_signature(_saved_model: Path, folder: Path) -> Path:
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(folder))
    return folder


@pytest.mark.parametrize("spoil", [damage, empty, without_signature])
def test_tensorflow_rejects_other_folders(
    saved_model: Path, tmp_path: Path, spoil: Callable[[Path, Path], Path]
) -> None:
    """A folder that TensorFlow cannot load, or without the signature, is unusable."""
    with pytest.raises(UnusableVersion):
        load_engine(spoil(saved_model, tmp_path), EngineOptions("tensorflow", "cpu", 2))


def test_tensorflow_without_a_gpu(saved_model: Path) -> None:
    """DEVICE=gpu without a GPU is an error that names the extra that may be missing."""
    tf = pytest.importorskip("tensorflow")
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    with pytest.raises(MissingLibrary, match=r"valence\[gpu\]"):
        load_engine(saved_model, EngineOptions("tensorflow", "gpu", 2))


# --- ONNX Runtime ---


def write_onnx(folder: Path, **changes: Any) -> Path:
    """A graph written by hand: the share of odd ids in a row. `changes` rename its ends."""
    onnx = pytest.importorskip("onnx")
    h, t = onnx.helper, onnx.TensorProto
    names = {"ids": "ids", "probabilities": "probabilities"} | changes
    nodes = [
        h.make_node("Mod", [names["ids"], "two"], ["odd"]),
        h.make_node("Cast", ["odd"], ["ones"], to=t.FLOAT),
        h.make_node("ReduceMean", ["ones", "axis"], ["share"]),
        h.make_node("Sub", ["one", "share"], ["rest"]),
        h.make_node("Concat", ["rest", "share"], [names["probabilities"]], axis=1),
    ]
    graph = h.make_graph(
        nodes,
        "odd",
        [
            h.make_tensor_value_info(names["ids"], t.INT32, ["b", "t"]),
            h.make_tensor_value_info("lengths", t.INT32, ["b"]),
        ],
        [h.make_tensor_value_info(names["probabilities"], t.FLOAT, ["b", 2])],
        [
            h.make_tensor("two", t.INT32, [], [2]),
            h.make_tensor("one", t.FLOAT, [], [1]),
            h.make_tensor("axis", t.INT64, [1], [1]),
        ],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return folder


def test_onnx_runs_the_graph(tmp_path: Path) -> None:
    """ONNX Runtime takes batches of any size and width."""
    engine = load_engine(write_onnx(tmp_path), EngineOptions("onnx"))
    assert engine.name == "onnx"
    np.testing.assert_allclose(infer(engine, rows([3, 4]), labels=2), [[0.5, 0.5]])
    many = infer(engine, rows([3] * 9, [4] * 9), labels=2)
    np.testing.assert_allclose(many, [[0.0, 1.0], [1.0, 0.0]])


def test_onnx_in_several_threads(tmp_path: Path) -> None:
    """Several threads may run one engine at once; each gets its own result."""
    engine = load_engine(write_onnx(tmp_path), EngineOptions("onnx"))
    batches = [rows(*[[3 + (i == j) for j in range(64)]] * 8) for i in range(64)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda batch: infer(engine, batch, labels=2)[0, 0], batches))
    np.testing.assert_allclose(results, 1 / 64)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ids": "words"}, "Received: inputs words, lengths; outputs probabilities"),
        ({"probabilities": "logits"}, "Received: inputs ids, lengths; outputs logits"),
    ],
)
def test_onnx_rejects_other_graphs(tmp_path: Path, changes: Any, reason: str) -> None:
    """A graph with other inputs or outputs is unusable."""
    with pytest.raises(UnusableVersion, match=reason):
        load_engine(write_onnx(tmp_path, **changes), EngineOptions("onnx"))


def test_onnx_rejects_other_files(tmp_path: Path) -> None:
    """A file that ONNX Runtime cannot read is unusable."""
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(UnusableVersion, match=r"cannot load model\.onnx"):
        load_engine(tmp_path, EngineOptions("onnx"))


def test_onnx_without_a_graph(saved_model: Path) -> None:
    """A version without `model.onnx` is unusable on ONNX Runtime; `auto` takes TensorFlow."""
    with pytest.raises(UnusableVersion, match=r"model\.onnx is missing"):
        load_engine(saved_model, EngineOptions("onnx"))
    assert load_engine(saved_model, EngineOptions("auto", "cpu", 2)).name == "tensorflow"


def test_onnx_has_no_gpu(tmp_path: Path) -> None:
    """ENGINE=onnx with DEVICE=gpu is an error that names the engine to use."""
    with pytest.raises(MissingLibrary, match="DEVICE=gpu needs the engine tensorflow"):
        load_engine(write_onnx(tmp_path), EngineOptions("onnx", "gpu"))


def test_onnx_errors_are_raised_only(capfd: pytest.CaptureFixture[str]) -> None:
    """ONNX Runtime raises an error of a run, and prints nothing: stderr may be part of the log."""
    engine = load_engine(next(MODELS.glob("bow/*")), EngineOptions("onnx"))
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        engine.run(np.array([[10**9]], np.int32), np.array([1], np.int32))
    assert capfd.readouterr().err == ""
