"""`/metrics` on a port of its own, in a real server."""

import re
import shutil
import socket
from pathlib import Path

import httpx
import pytest

from app.workers import can_fork_workers
from tests.process.test_keys_of_workers import make_key
from tests.server import PATIENCE_S, ROOT, ServerProcess, run

_LIVE = re.compile(r'^valence_requests_total\{.*"/livez",status="200"\} (\S+)$', re.MULTILINE)
needs_workers = pytest.mark.skipif(not can_fork_workers(), reason="needs several workers")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with the bundled version of `bow`."""
    return shutil.copytree(ROOT / "models" / "bow", tmp_path / "models" / "bow").parent


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=needs_workers)])
def test_metrics_apart(models: Path, tmp_path: Path, workers: str) -> None:
    """Metrics of all workers are on their own port, which has nothing else, and needs no key."""
    file = tmp_path / "keys.txt"
    key = make_key(file)
    options = ("--workers", workers, "--engine", "onnx", "--metrics-port", "0")
    with ServerProcess(models, *options, "--api-keys-file", str(file)) as server:
        started = server.wait_for("the service is starting")
        server.wait_for("the service is ready")
        apart = httpx.Client(base_url=started["metrics_address"], timeout=PATIENCE_S)
        with apart, server.client() as one, server.client() as other:
            assert one.get("/metrics", headers=key).status_code == 404
            for client in (one, other, one):
                assert client.get("/livez").status_code == 200
            for path in ("/livez", "/predict", "/models", "/openapi.json", "/docs"):
                assert apart.get(path).status_code == 404
            for _ in range(5):  # whichever worker takes the connection
                page = httpx.get(started["metrics_address"] + "/metrics", timeout=PATIENCE_S)
                assert page.headers["Content-Type"].startswith("text/plain")
                assert _LIVE.findall(page.text) == ["3.0"]
            assert server.stop() == 0
    assert "worker died" not in server.events()


def test_metrics_port_in_use(models: Path) -> None:
    """A port for metrics that is taken ends the start, and the sentence names the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run("serve", "--port", "0", "--models-dir", str(models), "--metrics-port", port)
    assert done.returncode == 1
    assert done.stderr.endswith("in use; choose another port with --metrics-port\n")
