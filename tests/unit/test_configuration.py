import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from app.artifact import ONNX
from app.configuration import divide_cores
from app.errors import InvalidInput, MissingLibrary
from app.main import require_tracing
from app.serving.engines import estimate_memory
from app.settings import Settings

MIB = 2**20


@pytest.mark.parametrize(
    ("given", "cores", "expected"),
    [
        ({}, 4, (4, 1)),
        ({}, 1, (1, 1)),
        ({"threads": 2}, 4, (2, 2)),
        ({"threads": 3}, 2, (1, 3)),
        ({"workers": 2}, 4, (2, 2)),
        ({"workers": 1}, 4, (1, 4)),
        ({"workers": 3}, 2, (3, 1)),
        ({"workers": 3, "threads": 2}, 2, (3, 2)),
        ({"engine": "tensorflow"}, 4, (1, 4)),
        ({"engine": "tensorflow", "workers": 2}, 4, (2, 2)),
    ],
)
def test_cores_are_divided(given: dict[str, Any], cores: int, expected: tuple[int, int]) -> None:
    """One worker per core on ONNX Runtime, else one worker; what is set is kept."""
    settings = Settings(**({"engine": "onnx"} | given))
    settled = divide_cores(
        settings, count_cores=lambda: cores, can_fork=lambda: True, find_memory=lambda: None
    )
    assert (settled.workers, settled.threads) == expected


def test_models_for_tensorflow_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a version for ONNX Runtime there is one worker."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    settings = Settings(models_dir=tmp_path)
    assert divide_cores(settings, count_cores=lambda: 4, can_fork=lambda: True).workers == 1


def test_system_without_workers() -> None:
    """A system that does not support workers gets one process; setting more is an error."""
    alone = divide_cores(Settings(engine="onnx"), count_cores=lambda: 4, can_fork=lambda: False)
    assert (alone.workers, alone.threads) == (1, 4)
    with pytest.raises(InvalidInput, match=r"WORKERS must be 0 or 1 on this system. Received: 2"):
        divide_cores(Settings(workers=2), can_fork=lambda: False)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository whose weights take 64 MiB, on either engine."""
    for name in (ONNX, "variables/variables.data-00000-of-00001"):
        path = tmp_path / "lstm" / "1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(64 * MIB)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "limit", "expected"),
    [
        ({}, None, (16, 1)),
        ({}, 64 * 1024 * MIB, (16, 1)),
        ({}, 1024 * MIB, (4, 4)),  # (1024 - 64) / (64 + 1.25 * 64 + 64)
        ({}, 480 * MIB, (2, 8)),
        ({}, 479 * MIB, (1, 16)),
        ({}, 64 * MIB, (1, 16)),
        ({"workers": 16}, 1024 * MIB, (4, 4)),
        ({"workers": 16, "threads": 1}, 1024 * MIB, (4, 1)),
        ({"workers": 3}, 1024 * MIB, (3, 5)),
        ({"workers": 2, "engine": "tensorflow"}, 1024 * MIB, (1, 16)),
        ({"workers": 2, "engine": "tensorflow"}, 2048 * MIB, (2, 8)),
    ],
)
def test_memory_bounds_the_workers(
    given: dict[str, Any],
    limit: int | None,
    expected: tuple[int, int],
    models: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There are as many workers as fit into the memory limit, and the log says if these are fewer.

    At least one is started; the cores are divided among those that are.
    """
    settings = Settings(**({"engine": "onnx", "models_dir": models} | given))
    with caplog.at_level(logging.WARNING):
        sized = divide_cores(
            settings, count_cores=lambda: 16, can_fork=lambda: True, find_memory=lambda: limit
        )
    assert (sized.workers, sized.threads) == expected
    fewer = sized.workers < (settings.workers or 16)
    assert [r.getMessage() for r in caplog.records] == (
        ["the memory limit allows fewer workers"] if fewer else []
    )


def test_one_worker_needs_no_estimate(tmp_path: Path) -> None:
    """One process starts whatever the limit is, and without a look at the models."""
    sized = divide_cores(Settings(workers=1, models_dir=tmp_path), find_memory=lambda: 1)
    assert sized.workers == 1


@pytest.mark.parametrize("engine", ["onnx", "tensorflow"])
def test_memory_of_the_weights(engine: str, models: Path) -> None:
    """The estimate counts the weights of the engine in use."""
    assert estimate_memory(engine, models) - estimate_memory(engine, models / "none") == 80 * MIB


def test_tracing_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start with tracing ends with a sentence that names the extra, if that is not installed."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "app.telemetry.tracing", raising=False)
    with pytest.raises(MissingLibrary, match=r"TRACING=otlp .* install valence\[otel\]"):
        require_tracing(Settings(tracing="otlp"))
    require_tracing(Settings())
