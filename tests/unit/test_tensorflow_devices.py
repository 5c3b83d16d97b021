"""The engine on TensorFlow takes the signature for the device. Only the last tests need a GPU."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.artifact import CUDNN_SIGNATURE, SIGNATURE, read_golden
from app.errors import MissingLibrary
from app.serving.engines import Device, EngineOptions, infer
from app.serving.engines import tensorflow as engine_module
from app.serving.engines.tensorflow import load
from tests.deferred import deferred
from tests.server import ROOT, ServerProcess, environment
from tests.trained import Workshop

with deferred():
    import tensorflow as real_tensorflow

BOTH = (SIGNATURE, CUDNN_SIGNATURE)
CUDNN_ANSWERS = 0.75
"""What the fake cuDNN gives the first label; the other signature gives it a half."""


class FakeTensorFlow:
    """TensorFlow as far as the engine calls it, with GPUs that are not there.

    Attributes:
        cudnn_error: What its cuDNN raises instead of answering.
        called: The signatures that were run.
        settings: What was set before the SavedModel was loaded.
    """

    convert_to_tensor = staticmethod(np.asarray)

    def __init__(self, gpus: int, signatures: tuple[str, ...] = BOTH) -> None:
        self.cudnn_error: Exception | None = None
        self.called: list[str] = []
        self.settings: list[tuple[str, Any]] = []
        self._signatures = signatures
        self._visible = [f"gpu:{number}" for number in range(gpus)]
        self.config = SimpleNamespace(
            list_physical_devices=lambda _kind: list(self._visible),
            get_visible_devices=lambda _kind: list(self._visible),
            set_visible_devices=self._set_visible_devices,
            threading=SimpleNamespace(
                set_intra_op_parallelism_threads=lambda _n: None,
                set_inter_op_parallelism_threads=lambda _n: None,
            ),
            experimental=SimpleNamespace(
                set_memory_growth=lambda gpu, on: self._set(f"growth of {gpu}", on),
                enable_tensor_float_32_execution=lambda on: self._set("tensor float", on),
            ),
        )
        self.saved_model = SimpleNamespace(load=self._load)

    def get_logger(self) -> Any:
        return SimpleNamespace(setLevel=lambda _level: None)

    def _set(self, name: str, value: Any) -> None:
        self.settings.append((name, value))

    def _set_visible_devices(self, devices: list[str], _kind: str) -> None:
        self._visible = devices

    def _load(self, _folder: str) -> Any:
        self._set("loaded", True)
        return SimpleNamespace(
            signatures={name: partial(self._answer, name) for name in self._signatures}
        )

    def _answer(self, name: str, *, ids: Any, lengths: Any) -> Any:
        self.called.append(name)
        if name == CUDNN_SIGNATURE and self.cudnn_error:
            raise self.cudnn_error
        first = CUDNN_ANSWERS if name == CUDNN_SIGNATURE else 0.5
        answer = np.tile([first, 1 - first], (len(ids), 1))
        assert len(lengths) == len(ids)
        return {"probabilities": SimpleNamespace(numpy=lambda: answer)}


Pretend = Callable[..., FakeTensorFlow]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretend]:
    """Puts a fake TensorFlow in the place of the real one."""

    def install(gpus: int, signatures: tuple[str, ...] = BOTH) -> FakeTensorFlow:
        fake = FakeTensorFlow(gpus, signatures)
        monkeypatch.setitem(sys.modules, "tensorflow", fake)
        return fake

    engine_module._import_tensorflow.cache_clear()
    yield install
    engine_module._import_tensorflow.cache_clear()


def first_probability(device: Device) -> float:
    """Load an engine and score a text with it."""
    engine = load(Path("anywhere"), EngineOptions("tensorflow", device))
    return float(infer(engine, [np.array([3, 4], np.int32)], labels=2)[0, 0])


@pytest.mark.parametrize(
    ("gpus", "device", "signatures", "cudnn"),
    [
        (1, "auto", BOTH, True),
        (1, "gpu", BOTH, True),
        (2, "auto", BOTH, True),
        (1, "cpu", BOTH, False),
        (0, "auto", BOTH, False),
        (0, "cpu", BOTH, False),
        (1, "auto", (SIGNATURE,), False),
        (1, "gpu", (SIGNATURE,), False),
    ],
)
def test_signature_for_the_device(
    pretend: Pretend, gpus: int, device: Device, signatures: tuple[str, ...], cudnn: bool
) -> None:
    """CuDNN's signature runs where a GPU may be used and the version has it; else the other."""
    fake = pretend(gpus, signatures)
    assert first_probability(device) == (CUDNN_ANSWERS if cudnn else 0.5)
    assert set(fake.called) == {CUDNN_SIGNATURE if cudnn else SIGNATURE}


def test_cudnn_that_fails(pretend: Pretend, caplog: pytest.LogCaptureFixture) -> None:
    """When cuDNN cannot run, the version is served without it; the log says so, once."""
    fake = pretend(1)
    fake.cudnn_error = RuntimeError("a long story")
    assert first_probability("auto") == 0.5
    assert fake.called == [CUDNN_SIGNATURE, SIGNATURE]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert vars(record)["reason"] == "RuntimeError"
    assert "story" not in caplog.text


@pytest.mark.parametrize("device", ["auto", "gpu"])
def test_gpus_are_shared(pretend: Pretend, device: Device) -> None:
    """Before a model is loaded, every GPU is told to take memory only as it is needed."""
    fake = pretend(2)
    load(Path("anywhere"), EngineOptions("tensorflow", device))
    before = fake.settings[: fake.settings.index(("loaded", True))]
    assert {("growth of gpu:0", True), ("growth of gpu:1", True)} <= set(before)


def test_full_precision(pretend: Pretend) -> None:
    """A GPU multiplies in full single precision, as the golden rows were computed."""
    fake = pretend(1)
    load(Path("anywhere"), EngineOptions("tensorflow"))
    assert ("tensor float", False) in fake.settings


def test_no_gpu_to_insist_on(pretend: Pretend) -> None:
    """DEVICE=gpu without a GPU is refused, whatever signatures there are."""
    pretend(0)
    with pytest.raises(MissingLibrary):
        first_probability("gpu")


def test_without_a_gpu(workshop: Workshop) -> None:
    """Where cuDNN's signature cannot run, a version that has it answers as it did at export."""
    if real_tensorflow.config.list_physical_devices("GPU"):
        pytest.skip("there is a GPU")
    folder = workshop.models / "lstm" / "1"
    row = read_golden(folder)[0]
    engine = load(folder, EngineOptions("tensorflow", "auto"))
    ids = np.array([row.ids], np.int32)
    answer = infer(engine, [ids[0]], labels=2)
    np.testing.assert_allclose(answer, [row.probabilities], atol=1e-5)
    cudnn = real_tensorflow.saved_model.load(str(folder)).signatures[CUDNN_SIGNATURE]
    with pytest.raises(real_tensorflow.errors.InvalidArgumentError, match="CudnnRNNV3"):
        cudnn(ids=real_tensorflow.constant(ids), lengths=real_tensorflow.constant([len(row.ids)]))


# --- on a GPU, in fresh processes: this one may have hidden it, or taken its memory ---


ANSWER = """
import json, sys
from pathlib import Path
import numpy as np
from app.serving.engines import EngineOptions, infer
from app.serving.engines.tensorflow import load

engine = load(Path(sys.argv[1]), EngineOptions("tensorflow", sys.argv[2]))
generator = np.random.default_rng(1)
rows = [generator.integers(1, 300, n, dtype=np.int32) for n in (1, 2, 7, 31, 64, 64, 120)]
together = infer(engine, rows, labels=2)
alone = [infer(engine, [row], labels=2)[0] for row in rows]
print(json.dumps([engine.signature, together.tolist(), np.array(alone).tolist()]))
"""


def answer_on(device: Device, version: Path) -> tuple[str, Any, Any]:
    """The signature that runs in a process of its own; seven texts together, and one by one."""
    done = subprocess.run(
        [sys.executable, "-c", ANSWER, str(version), device],
        cwd=ROOT, env=environment(gpu=device == "gpu"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    signature, together, alone = json.loads(done.stdout)
    return signature, np.array(together), np.array(alone)


@pytest.mark.gpu
def test_cudnn_agrees(workshop: Workshop) -> None:
    """CuDNN gives the probabilities of the CPU, and a text the same alone as among others."""
    version = workshop.models / "lstm" / "1"
    signature, together, alone = answer_on("gpu", version)
    _, expected, _ = answer_on("cpu", version)
    assert signature == CUDNN_SIGNATURE
    np.testing.assert_allclose(together, expected, atol=1e-4)
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.gpu
def test_served_from_a_gpu(workshop: Workshop) -> None:
    """A service with DEVICE=gpu answers as the golden rows say, and its cuDNN did not fail."""
    row = read_golden(workshop.models / "lstm" / "1")[0]
    with ServerProcess(
        workshop.models, "--engine", "tensorflow", "--device", "gpu", gpu=True
    ) as server:
        server.wait_for("the service is ready")
        body = {"text": row.text, "model": "lstm"}
        with server.client() as client:
            answer = client.post("/predict", json=body).json()
    assert "cuDNN failed; the model runs without it" not in server.events()
    np.testing.assert_allclose(list(answer["probabilities"].values()), row.probabilities, atol=1e-4)
