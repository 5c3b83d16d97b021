"""What a model run is, and which library does it. A module per engine imports its library."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from app.artifact import ONNX
from app.errors import InferenceFailed, MissingLibrary
from app.serving.gpu import sees_gpu
from app.text.padding import Int32Array, pad_rows

EngineName = Literal["auto", "tensorflow", "onnx"]
Device = Literal["auto", "cpu", "gpu"]

_TOTAL_TOLERANCE: Final = 1e-3
_CGROUP: Final = Path("/sys/fs/cgroup")


class Engine(Protocol):
    """A loaded model. `run` may be called from several threads at once."""

    name: str

    def run(self, ids: Int32Array, lengths: Int32Array) -> NDArray[np.floating]:
        """Probabilities of shape (rows, labels) for padded rows of ids.

        Args:
            ids: int32 of shape (rows, longest), padded on the right.
            lengths: int32 of shape (rows,), each from 1 to longest.
        """
        ...


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine may be told.

    Attributes:
        engine: Which library, or `auto`.
        device: Where it computes, or `auto`.
        threads: Batches that run at once, each on one core.
    """

    engine: EngineName = "auto"
    device: Device = "auto"
    threads: int = 1


@dataclass(frozen=True, slots=True)
class _Library:
    """Where an engine is and what it needs."""

    module: str
    package: str
    extra: str


_LIBRARIES: Final = {
    "tensorflow": _Library("app.serving.engines.tensorflow", "tensorflow", "tensorflow"),
    "onnx": _Library("app.serving.engines.onnx", "onnxruntime", "onnx"),
}

LoadEngine = Callable[[Path], Engine]
"""`load_engine` with its options settled; a fake one in tests."""


def choose_engine(options: EngineOptions, *, has_onnx: bool = True) -> str:
    """The engine that runs a version on this machine, found without importing a library.

    `auto` is TensorFlow where there is a GPU; else ONNX Runtime where the version has its graph;
    else TensorFlow. Of these, the first whose library is installed.

    Args:
        options: What was asked for.
        has_onnx: Whether the version has `model.onnx`.

    Raises:
        MissingLibrary: No library that could run it is installed.
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


def load_engine(folder: Path, options: EngineOptions) -> Engine:
    """Load the model of a version folder.

    Raises:
        MissingLibrary: The library is not installed.
        UnusableVersion: The library cannot load the model.
    """
    name = choose_engine(options, has_onnx=(folder / ONNX).is_file())
    engine: Engine = import_module(_LIBRARIES[name].module).load(folder, options)
    return engine


def infer(engine: Engine, rows: Sequence[Int32Array], *, labels: int) -> NDArray[np.float64]:
    """Pad rows, run the model once, and hold its answer to the rules.

    Args:
        engine: The model.
        rows: One row of ids per text, each int32 of shape (length_i,), length_i >= 1.
        labels: Columns the answer must have.

    Returns:
        float64 of shape (len(rows), labels). Row i belongs to rows[i] and sums to 1.

    Raises:
        InferenceFailed: The answer has another shape, or a row is no distribution.
    """
    lengths = np.array([len(row) for row in rows], dtype=np.int32)
    ids = pad_rows(rows, width=int(lengths.max()))
    answer = np.asarray(engine.run(ids, lengths), dtype=np.float64)
    if answer.shape != (len(rows), labels):
        raise InferenceFailed(
            f"the model must return {len(rows)} rows of {labels}. Received: shape {answer.shape}"
        )
    totals = answer.sum(axis=1, keepdims=True)
    # Written so that a NaN, for which every comparison is false, is refused as well.
    if not ((answer >= 0).all() and (np.abs(totals - 1) <= _TOTAL_TOLERANCE).all()):
        raise InferenceFailed("the model must return probabilities that sum to 1 in every row")
    normalized: NDArray[np.float64] = answer / totals
    return normalized


def visible_cores(cgroup: Path = _CGROUP) -> int:
    """Cores this process may use: those it may run on, or fewer where a container has a quota.

    A quota is processor time in each period, as `docker run --cpus` and a pod's CPU limit set it;
    1.5 cores count as 2.

    Args:
        cgroup: Where a container sees its limits: `cpu.max` (version 2), or `cpu/cpu.cfs_quota_us`
            and `cpu/cpu.cfs_period_us` (version 1).
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(cores, _read_quota(cgroup) or cores)


def _read_quota(cgroup: Path) -> int | None:
    """Cores of the quota, rounded up; None where there is none."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text()
        return max(1, math.ceil(int(quota) / int(period))) if int(quota) > 0 else None
    except (OSError, ValueError):  # no such files, or the quota is the word max
        return None
