"""A SavedModel on TensorFlow, on CPU or GPU. The only module of the service that imports it."""

import logging
import os
import sys
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
_NO_FOLDER: Final = f"{os.devnull}/keras"
_OPTIONAL: Final = ("matplotlib", "sklearn")

logger = logging.getLogger(__name__)


class TensorFlowEngine:
    """A signature of a loaded SavedModel that takes ids. Thread-safe.

    Attributes:
        signature: The name of the signature.
    """

    name = "tensorflow"

    def __init__(self, model: Any, signature: str, tensorflow: Any) -> None:
        self.signature = signature
        self._model = model  # keeps the variables of the signature alive
        self._function = model.signatures[signature]
        self._tensor = tensorflow.convert_to_tensor

    def run(self, ids: Int32Array, lengths: Int32Array) -> NDArray[np.floating]:
        """Compute probabilities of shape (rows, labels); see `Engine.run`."""
        outputs = self._function(ids=self._tensor(ids), lengths=self._tensor(lengths))
        probabilities: NDArray[np.floating] = outputs[_OUTPUT].numpy()
        return probabilities


def load(folder: Path, options: EngineOptions) -> TensorFlowEngine:
    """Load the SavedModel in `folder`, with the signature for the device.

    On a GPU that is the cuDNN signature, if the version has it and cuDNN can run it. Otherwise it
    is `serve_ids`, which runs on any device.

    Raises:
        MissingLibrary: TensorFlow is not installed, or there is no such device.
        UnusableVersion: TensorFlow cannot load the folder, or it lacks the signature.
    """
    tensorflow = _import_tensorflow(options.device, options.threads)
    try:
        model = tensorflow.saved_model.load(str(folder))
    except Exception as error:  # TensorFlow raises many classes
        raise UnusableVersion(
            f"TensorFlow cannot load the SavedModel: {type(error).__name__}"
        ) from error
    if SIGNATURE not in model.signatures:
        raise UnusableVersion(f"the SavedModel has no signature {SIGNATURE}")
    if tensorflow.config.get_visible_devices("GPU"):  # empty with DEVICE=cpu
        engine = _try_cudnn(model, tensorflow)
        if engine is not None:
            return engine
    return TensorFlowEngine(model, SIGNATURE, tensorflow)


def _try_cudnn(model: Any, tensorflow: Any) -> TensorFlowEngine | None:
    """The engine on cuDNN; None if the version lacks the signature or cuDNN cannot run it."""
    if CUDNN_SIGNATURE not in model.signatures:
        return None
    engine = TensorFlowEngine(model, CUDNN_SIGNATURE, tensorflow)
    try:
        engine.run(np.zeros((1, 1), np.int32), np.ones(1, np.int32))
    except Exception as error:  # noqa: BLE001 TensorFlow raises many classes
        reason = type(error).__name__
        logger.warning("cuDNN failed; the model runs without it", extra={"reason": reason})
        return None
    return engine


@cache
def _import_tensorflow(device: Device, threads: int) -> Any:
    """Import TensorFlow, and configure what must be configured before its first operation."""
    try:
        with _stderr_silenced(), _home_left_alone():
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
    # TF32 rounds factors to ten bits, so a result on a GPU would depend on its batch.
    tensorflow.config.experimental.enable_tensor_float_32_execution(False)
    try:
        # One core per batch: parallel batches are faster than one batch on many cores.
        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
        tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
        if device == "cpu":
            tensorflow.config.set_visible_devices([], "GPU")
        else:
            for gpu in gpus:  # leave free GPU memory to other processes
                tensorflow.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        pass  # TensorFlow has run an operation in this process; only speed depends on this
    return tensorflow


@contextmanager
def _home_left_alone() -> Iterator[None]:
    """Keep Keras, which TensorFlow imports, from writing into the home folder, or else into /tmp.

    It writes its settings; at a path that cannot exist it neither writes nor reads any. It also
    imports Matplotlib, which writes a cache, and scikit-learn, which takes seconds, where they are
    installed; the service needs neither.
    """
    os.environ["KERAS_HOME"] = _NO_FOLDER
    hidden = [name for name in _OPTIONAL if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type] # None: not installed
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _stderr_silenced() -> Iterator[None]:
    """Suppress what TensorFlow's C++ libraries write to stderr while they are imported.

    They write before they read a log level (tensorflow issue 100442), so the file descriptor is
    redirected. If TF_CPP_MIN_LOG_LEVEL is set, nothing is suppressed. Training has its own function
    for this, in `training/support/tensorflow_import.py`, which replays the output on failure.
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
