"""`model.onnx` on ONNX Runtime, on the CPU. The one module of the service that imports it."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.artifact import ONNX
from app.errors import MissingLibrary, UnusableVersion
from app.serving.engines import EngineOptions
from app.text.padding import Int32Array

_INPUTS: Final = {"ids": "tensor(int32)", "lengths": "tensor(int32)"}
_OUTPUTS: Final = ["probabilities"]
_ERRORS_ONLY: Final = 3


class OnnxEngine:
    """A session of ONNX Runtime. Thread-safe: it computes in the thread that calls."""

    name = "onnx"

    def __init__(self, session: Any) -> None:
        self._run = session.run

    def run(self, ids: Int32Array, lengths: Int32Array) -> NDArray[np.floating]:
        """Probabilities of shape (rows, labels); see `Engine.run`."""
        probabilities: NDArray[np.floating]
        (probabilities,) = self._run(_OUTPUTS, {"ids": ids, "lengths": lengths})
        return probabilities


def load(folder: Path, options: EngineOptions) -> OnnxEngine:
    """Load `model.onnx` of a version folder.

    Raises:
        MissingLibrary: ONNX Runtime is not installed, or a GPU is asked for.
        UnusableVersion: There is no such file, ONNX Runtime cannot read it, or it is another graph.
    """
    if options.device == "gpu":
        raise MissingLibrary("the engine onnx computes on the CPU: DEVICE=gpu needs tensorflow")
    if not (folder / ONNX).is_file():
        raise UnusableVersion(f"there is no {ONNX}: this version needs the engine tensorflow")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingLibrary(
            "the engine onnx needs the package onnxruntime, which cannot be imported: "
            "install valence[onnx]"
        ) from error
    try:
        session = onnxruntime.InferenceSession(
            folder / ONNX, _session_options(onnxruntime), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # it raises classes of its own for each status of its C++ side
        raise UnusableVersion(f"ONNX Runtime cannot load {ONNX}: {type(error).__name__}") from error
    inputs = {node.name: node.type for node in session.get_inputs()}
    outputs = [node.name for node in session.get_outputs()]
    if (inputs, outputs) != (_INPUTS, _OUTPUTS):
        raise UnusableVersion(
            f"{ONNX} must turn ids and lengths, int32, into probabilities. "
            f"Received: {', '.join(inputs)} into {', '.join(outputs)}"
        )
    return OnnxEngine(session)


def _session_options(onnxruntime: Any) -> Any:
    """Batches run side by side, one core each, and keep no more memory than they need.

    An arena would keep, for every model, what its largest batch took; and patterns of memory help
    only where batches have the same shape again and again. Neither was faster here.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    options.log_severity_level = _ERRORS_ONLY
    return options
