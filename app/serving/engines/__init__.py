"""The engine protocol, and the choice of the library that runs a model.

Each engine is a module of its own, which alone imports its library.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from app.artifact import GOLDEN, LEARNED, ONNX, REPORT, TOKENIZER
from app.errors import InferenceFailed, MissingLibrary
from app.serving.hardware import sees_gpu
from app.text.padding import Int32Array, pad_rows

EngineName = Literal["auto", "tensorflow", "onnx"]
Device = Literal["auto", "cpu", "gpu"]

_SUM_TOLERANCE: Final = 1e-3


class Engine(Protocol):
    """A loaded model. `run` may be called from several threads at once."""

    name: str

    def run(self, ids: Int32Array, lengths: Int32Array) -> NDArray[np.floating]:
        """Compute probabilities of shape (rows, labels) for padded rows of ids.

        Args:
            ids: int32 of shape (rows, longest), padded on the right.
            lengths: int32 of shape (rows,), each from 1 to longest.
        """
        ...


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to choose and set up an engine.

    Attributes:
        engine: The library, or `auto`; see `choose_engine`.
        device: The device, or `auto`.
        threads: The number of batches that run at once, each on one core.
    """

    engine: EngineName = "auto"
    device: Device = "auto"
    threads: int = 1


@dataclass(frozen=True, slots=True)
class _Library:
    """The module of an engine, and what it needs.

    Attributes:
        module: Imports the library.
        package: The library.
        extra: The extra of this distribution that installs it.
        process_bytes: The memory of a process with the library and without models, as measured.
        weights: Matches the files with the weights in a repository.
    """

    module: str
    package: str
    extra: str
    process_bytes: int
    weights: str


_LIBRARIES: Final = {
    "tensorflow": _Library(
        *("app.serving.engines.tensorflow", "tensorflow", "tensorflow"),
        process_bytes=512 * 2**20,
        weights="*/*/variables/*",
    ),
    "onnx": _Library(
        *("app.serving.engines.onnx", "onnxruntime", "onnx"),
        process_bytes=64 * 2**20,
        weights=f"*/*/{ONNX}",
    ),
}
_BYTES_PER_WEIGHT_BYTE: Final = 1.25
"""The memory of a loaded model, next to the size of its file, as measured."""

LoadEngine = Callable[[Path], Engine]
"""`load_engine` with its options bound; tests replace it."""


def choose_engine(options: EngineOptions, *, has_onnx: bool = True) -> str:
    """Choose the engine that runs a version on this machine, without importing a library.

    `auto` is TensorFlow if there is a GPU; else ONNX Runtime if the version has `model.onnx`; else
    TensorFlow. If the library of the first choice is not installed, the other one is taken.

    Args:
        options: The options from the settings.
        has_onnx: Whether the version has `model.onnx`.

    Raises:
        MissingLibrary: No library that could run the version is installed.
    """
    if options.engine != "auto":
        names = [options.engine]
    elif options.device == "gpu" or not has_onnx:
        names = ["tensorflow"]
    elif options.device == "auto" and sees_gpu():
        names = ["tensorflow", "onnx"]
    else:
        names = ["onnx", "tensorflow"]
    for name in names:
        if find_spec(_LIBRARIES[name].package) is not None:
            return name
    library = _LIBRARIES[names[0]]
    raise MissingLibrary(
        f"the engine {names[0]} needs the package {library.package}, which is not installed: "
        f"run make setup, or install valence[{library.extra}]"
    )


def estimate_memory(engine: str, models_dir: Path) -> int:
    """Estimate the memory of a process that has every version of a repository loaded, in bytes.

    Args:
        engine: The name of the engine that runs the models.
        models_dir: The repository.
    """
    library = _LIBRARIES[engine]
    weights = sum(path.stat().st_size for path in models_dir.glob(library.weights))
    return int(library.process_bytes + _BYTES_PER_WEIGHT_BYTE * weights)


def is_read(engine: str, file: str) -> bool:
    """Whether a service with one engine reads a file of a version.

    Args:
        engine: The name of the engine.
        file: The file, named as in the manifest.
    """
    if file in {TOKENIZER, GOLDEN} or (file.startswith(f"{REPORT}/") and file.endswith(".png")):
        return True
    if file == LEARNED or file.startswith(f"{REPORT}/"):
        return False
    return (file == ONNX) == (engine == "onnx")


def load_engine(folder: Path, options: EngineOptions) -> Engine:
    """Load the model of a version folder.

    Raises:
        MissingLibrary: The library of the engine is not installed.
        UnusableVersion: The library cannot load the model.
    """
    name = choose_engine(options, has_onnx=(folder / ONNX).is_file())
    engine: Engine = import_module(_LIBRARIES[name].module).load(folder, options)
    return engine


def infer(engine: Engine, rows: Sequence[Int32Array], *, labels: int) -> NDArray[np.float64]:
    """Pad rows, run the model once, and check its output.

    Args:
        engine: The model.
        rows: One row of ids per text, each int32 of shape (length_i,), length_i >= 1.
        labels: The number of columns the output must have.

    Returns:
        float64 of shape (len(rows), labels). Row i belongs to rows[i] and sums to 1.

    Raises:
        InferenceFailed: The output has another shape, or a row is not a distribution.
    """
    lengths = np.array([len(row) for row in rows], dtype=np.int32)
    ids = pad_rows(rows, width=int(lengths.max()))
    output = np.asarray(engine.run(ids, lengths), dtype=np.float64)
    if output.shape != (len(rows), labels):
        raise InferenceFailed(
            f"the model must return {len(rows)} rows of {labels}. Received: shape {output.shape}"
        )
    totals = output.sum(axis=1, keepdims=True)
    # In this form NaN, for which every comparison is false, is rejected too.
    if not ((output >= 0).all() and (np.abs(totals - 1) <= _SUM_TOLERANCE).all()):
        raise InferenceFailed("the model must return probabilities that sum to 1 in every row")
    normalized: NDArray[np.float64] = output / totals
    return normalized
