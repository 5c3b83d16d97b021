"""`model.onnx` on ONNX Runtime, on the CPU. The only module of the service that imports it."""

import logging
import os
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.artifact import ONNX
from app.errors import MissingLibrary, UnusableVersion
from app.serving.engines import EngineOptions
from app.telemetry.native_stderr import logged_stderr
from app.text.padding import Int32Array

_INPUTS: Final = {"ids": "tensor(int32)", "lengths": "tensor(int32)"}
_OUTPUTS: Final = ["probabilities"]
_LOG_FATAL_ONLY: Final = 4

logger = logging.getLogger(__name__)


class OnnxEngine:
    """A session of ONNX Runtime. Thread-safe: it computes in the calling thread."""

    name = "onnx"

    def __init__(self, session: Any) -> None:
        self._run = session.run

    def run(self, ids: Int32Array, lengths: Int32Array) -> NDArray[np.floating]:
        """Compute probabilities of shape (rows, labels); see `Engine.run`."""
        probabilities: NDArray[np.floating]
        (probabilities,) = self._run(_OUTPUTS, {"ids": ids, "lengths": lengths})
        return probabilities


def load(folder: Path, options: EngineOptions) -> OnnxEngine:
    """Load `model.onnx` of a version folder.

    Raises:
        MissingLibrary: ONNX Runtime is not installed, or the device is a GPU.
        UnusableVersion: The file is missing, ONNX Runtime cannot read it, or its inputs or
            outputs have other names or types.
    """
    if options.device == "gpu":
        raise MissingLibrary(
            "the engine onnx runs on the CPU: DEVICE=gpu needs the engine tensorflow"
        )
    if not (folder / ONNX).is_file():
        raise UnusableVersion(f"{ONNX} is missing: this version needs the engine tensorflow")
    onnxruntime = _import_onnxruntime()
    try:
        session = onnxruntime.InferenceSession(
            folder / ONNX, _session_options(onnxruntime), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # it has a class of its own for each C++ status
        raise UnusableVersion(f"ONNX Runtime cannot load {ONNX}: {type(error).__name__}") from error
    inputs = {node.name: node.type for node in session.get_inputs()}
    outputs = [node.name for node in session.get_outputs()]
    if (inputs, outputs) != (_INPUTS, _OUTPUTS):
        raise UnusableVersion(
            f"{ONNX} must have the int32 inputs ids and lengths and the output probabilities. "
            f"Received: inputs {', '.join(inputs)}; outputs {', '.join(outputs)}"
        )
    return OnnxEngine(session)


@cache
def _import_onnxruntime() -> Any:
    """Import ONNX Runtime without its telemetry, and keep its own log off stderr.

    Telemetry looks a host up and writes a device id and a database into the home folder. The
    library reads the variable while it is imported. It is forced, not a default: a running service
    connects to nobody, whatever the environment says.

    What the library writes to stderr while it is imported becomes events of our log. After that
    only fatal errors are written there: all others are raised as exceptions.

    Raises:
        MissingLibrary: It is not installed.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        with logged_stderr(logger):
            import onnxruntime
    except ImportError as error:
        raise MissingLibrary(
            "the engine onnx needs the package onnxruntime, which cannot be imported: "
            "install valence[onnx]"
        ) from error
    onnxruntime.set_default_logger_severity(_LOG_FATAL_ONLY)
    return onnxruntime


def _session_options(onnxruntime: Any) -> Any:
    """One core per batch, because batches run in parallel; and no memory kept between runs.

    The CPU arena would keep the memory of each model's largest batch, and memory patterns pay off
    only for batches of equal shape. Neither was faster here.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.log_severity_level = _LOG_FATAL_ONLY
    return options
