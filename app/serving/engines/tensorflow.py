"""A SavedModel on TensorFlow, on CPU or GPU. The one module of the service that imports it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.artifact import CUDNN_SIGNATURE, SIGNATURE
from app.errors import MissingLibrary, UnusableVersion
from app.serving.engines import Device, EngineOptions
from app.text.padding import Int32Array

_OUTPUT: Final = "probabilities"

logger = logging.getLogger(__name__)


class TensorFlowEngine:
    """A signature of a loaded SavedModel that takes ids. Thread-safe.

    Attributes:
        signature: Which one.
    """

    name = "tensorflow"

    def __init__(self, model: Any, signature: str, tensorflow: Any) -> None:
        self.signature = signature
        self._model = model  # owns the variables that the signature reads
        self._function = model.signatures[signature]
        self._tensor = tensorflow.convert_to_tensor

    def run(self, ids: Int32Array, lengths: Int32Array) -> NDArray[np.floating]:
        """Probabilities of shape (rows, labels); see `Engine.run`."""
        answer = self._function(ids=self._tensor(ids), lengths=self._tensor(lengths))
        probabilities: NDArray[np.floating] = answer[_OUTPUT].numpy()
        return probabilities


def load(folder: Path, options: EngineOptions) -> TensorFlowEngine:
    """Load the SavedModel in `folder`, with the signature for the device.

    On a GPU that is the one for cuDNN, where the version has it and cuDNN can run it; else
    `serve_ids`, which runs anywhere.

    Raises:
        MissingLibrary: TensorFlow is not installed, or the device is not there.
        UnusableVersion: TensorFlow cannot read the folder, or the signature is not in it.
    """
    tensorflow = _import_tensorflow(options.device, options.threads)
    try:
        model = tensorflow.saved_model.load(str(folder))
    except Exception as error:  # TensorFlow raises whatever its C++ side meets
        raise UnusableVersion(
            f"TensorFlow cannot load the SavedModel: {type(error).__name__}"
        ) from error
    if SIGNATURE not in model.signatures:
        raise UnusableVersion(f"the SavedModel has no signature {SIGNATURE}")
    if tensorflow.config.get_visible_devices("GPU"):  # none with DEVICE=cpu
        engine = _try_cudnn(model, tensorflow)
        if engine is not None:
            return engine
    return TensorFlowEngine(model, SIGNATURE, tensorflow)


def _try_cudnn(model: Any, tensorflow: Any) -> TensorFlowEngine | None:
    """The engine on cuDNN, if the version has that signature and one row comes through."""
    if CUDNN_SIGNATURE not in model.signatures:
        return None
    engine = TensorFlowEngine(model, CUDNN_SIGNATURE, tensorflow)
    try:
        engine.run(np.zeros((1, 1), np.int32), np.ones(1, np.int32))
    except Exception as error:  # noqa: BLE001 TensorFlow raises whatever its C++ side meets
        reason = type(error).__name__
        logger.warning("cuDNN fails; the model runs without it", extra={"reason": reason})
        return None
    return engine


@cache
def _import_tensorflow(device: Device, threads: int) -> Any:
    """Import TensorFlow and settle what must be settled before its first operation."""
    try:
        with _quiet():
            import tensorflow

            gpus = tensorflow.config.list_physical_devices("GPU")
    except ImportError as error:
        raise MissingLibrary(
            "the engine tensorflow needs the package tensorflow, which cannot be imported: "
            "install valence[tensorflow]"
        ) from error
    tensorflow.get_logger().setLevel("ERROR")
    if device == "gpu" and not gpus:
        raise MissingLibrary("no GPU is visible to TensorFlow: install valence[gpu], or DEVICE=cpu")
    # A GPU may round factors to ten bits: then an answer would depend on the batch it comes from.
    tensorflow.config.experimental.enable_tensor_float_32_execution(False)
    try:
        # Batches run side by side, one core each: that beats one batch on many cores.
        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
        tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
        if device == "cpu":
            tensorflow.config.set_visible_devices([], "GPU")
        else:
            for gpu in gpus:  # take memory as it is needed; leave the rest to other processes
                tensorflow.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        pass  # something else in this process ran an operation already; only speed depends on it
    return tensorflow


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the greetings of TensorFlow's C++ side off stderr.

    While it is imported it heeds no log level (tensorflow issue 100442), so the descriptor itself
    is turned away. Who sets TF_CPP_MIN_LOG_LEVEL wants to read along, and does.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
