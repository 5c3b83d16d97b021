import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.errors import InferenceFailed, MissingLibrary, UnusableVersion
from app.serving import engines
from app.serving.engines import EngineOptions, choose_engine, infer, load_engine
from tests.fakes import BAD, GOOD, FakeEngine


class Answering:
    """An engine that gives one answer to everything."""

    name = "answering"

    def __init__(self, answer: Any) -> None:
        self.answer = np.array(answer, dtype=np.float32)

    def run(self, _ids: Any, _lengths: Any) -> NDArray[np.float32]:
        """Probabilities, or whatever stands for them; see `Engine.run`."""
        return self.answer


def rows(*rows: list[int]) -> list[NDArray[np.int32]]:
    return [np.array(row, dtype=np.int32) for row in rows]


# --- one run ---


def test_infer_pads() -> None:
    """Rows of unequal length go in as one rectangle, with their lengths."""
    engine = FakeEngine()
    answer = infer(engine, rows([GOOD], [BAD, BAD, BAD]), labels=2)
    assert engine.batches == [[[GOOD], [BAD, BAD, BAD]]]
    assert (answer[0, 1] > 0.5, answer[1, 1] > 0.5) == (True, False)


def test_infer_normalizes() -> None:
    """Each row sums to 1 in double precision, whatever the model's rounding."""
    answer = infer(Answering([[0.3333, 0.6666]]), rows([GOOD]), labels=2)
    assert answer.dtype == np.float64
    assert abs(answer.sum() - 1) < 1e-12


@pytest.mark.parametrize(
    "answer",
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
def test_infer_refuses_what_is_no_answer(answer: Any) -> None:
    """Another shape, NaN, negative values or another sum than 1 are no probabilities."""
    with pytest.raises(InferenceFailed):
        infer(Answering(answer), rows([GOOD], [BAD]), labels=2)


# --- which engine ---


def test_auto_takes_what_is_installed() -> None:
    """`auto` stands for an engine whose library is installed."""
    assert choose_engine("auto") == "tensorflow"


def test_engine_that_this_build_lacks() -> None:
    """An engine that is not in this build is refused, with those that are."""
    with pytest.raises(MissingLibrary, match="no engine onnx; it has: tensorflow"):
        choose_engine("onnx")


@pytest.mark.parametrize("engine", ["auto", "tensorflow"])
def test_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, engine: Any) -> None:
    """A library that is not installed is named, with the extra that brings it."""
    monkeypatch.setattr(engines, "find_spec", lambda _name: None)
    with pytest.raises(MissingLibrary, match=r"valence\[tensorflow\]"):
        choose_engine(engine)


def test_tensorflow_is_imported_late() -> None:
    """Importing the service, and its --help, do not import TensorFlow."""
    code = "import sys, app, app.main, app.__main__; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- TensorFlow ---


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel written by hand: the share of odd ids, blind to padding."""
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
    """The SavedModel's signature answers for batches of any size and width."""
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
def test_tensorflow_refuses_other_folders(
    saved_model: Path, tmp_path: Path, spoil: Callable[[Path, Path], Path]
) -> None:
    """What TensorFlow cannot load, or what lacks the signature, is an unusable version."""
    with pytest.raises(UnusableVersion):
        load_engine(spoil(saved_model, tmp_path), EngineOptions("tensorflow", "cpu", 2))


def test_tensorflow_without_a_gpu(saved_model: Path) -> None:
    """DEVICE=gpu without a GPU is refused, with the extra that may be missing."""
    tf = pytest.importorskip("tensorflow")
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    with pytest.raises(MissingLibrary, match=r"valence\[gpu\]"):
        load_engine(saved_model, EngineOptions("tensorflow", "gpu", 2))
