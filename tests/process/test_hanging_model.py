"""A model that hangs costs one process, which is replaced."""

import shutil
import sys
from pathlib import Path

import httpx
import pytest

from app.workers import can_fork_workers
from tests.hanging import TOKENS
from tests.server import PATIENCE_S, ROOT, LoggingProcess

HANG = {"text": "film " * (TOKENS - 1)}


def serve(models: Path, workers: str) -> LoggingProcess:
    command = (sys.executable, "-m", "tests.hanging", "serve", "--port", "0")
    options = ("--models-dir", str(models), "--workers", workers, "--engine-timeout-s", "0.5")
    return LoggingProcess(*command, *options)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with the bundled version of `bow`."""
    return shutil.copytree(ROOT / "models" / "bow", tmp_path / "models" / "bow").parent


def post(server: LoggingProcess, body: dict[str, str]) -> httpx.Response:
    address = server.wait_for("the service is starting")["address"]
    return httpx.post(f"{address}/predict", json=body, timeout=PATIENCE_S)


def test_one_process_ends(models: Path) -> None:
    """A service with one process answers 504 and ends with status 1 and one sentence."""
    with serve(models, "1") as server:
        server.wait_for("the service is ready")
        assert post(server, HANG).status_code == 504
        assert server.wait() == 1
        assert "the model took longer than 0.5 s" in "".join(server.errors)


@pytest.mark.skipif(not can_fork_workers(), reason="needs several workers")
def test_worker_is_replaced(models: Path) -> None:
    """A worker with a hanging model answers 504 and is replaced; the service goes on."""
    with serve(models, "2") as server:
        server.wait_for("the service is ready")
        assert post(server, HANG).status_code == 504
        server.wait_for("worker died")
        server.wait_for("all workers are ready again")
        assert post(server, {"text": "superb"}).status_code == 200
        assert server.stop() == 0
