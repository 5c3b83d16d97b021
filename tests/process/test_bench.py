"""The benchmark as a user runs it, in its shortest form."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from load_tests.bench.bundled import Bundled
from load_tests.bench.errors import BenchError
from load_tests.bench.load import Load
from load_tests.bench.machine import ROOT
from load_tests.bench.server import Server, serve, serve_floor

TIMEOUT_S = 120


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "load_tests.bench", "--quick", "--models", "bow", *arguments],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def servers_of(pid: int) -> list[int]:
    """Running child processes of `pid`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("generator", [pytest.param("bundled", marks=pytest.mark.slow), "auto"])
def test_run(tmp_path: Path, generator: str) -> None:
    """A run prints its table, writes its files and gets only correct answers."""
    bench = start("--connections", "4", "--generator", generator, "--out", str(tmp_path))
    table, errors = bench.communicate(timeout=TIMEOUT_S)
    assert (bench.returncode, errors) == (0, "")
    assert "bow on onnx" in table
    assert "not measured" in table  # lstm was not selected
    content = json.loads((tmp_path / "bench.json").read_text())
    (bow,) = content["services"][0]["models"]
    for scenario in bow["scenarios"]:
        assert scenario["errors"] == {}
        assert scenario["texts_per_s"] > 0
        assert 0 < scenario["real_share"] <= 1
    assert [row["connections"] for row in bow["floor"]] == [4]


@pytest.mark.skipif(not Path("/proc").exists(), reason="the system has no /proc")
def test_termination(tmp_path: Path) -> None:
    """A terminated benchmark stops its servers and writes nothing."""
    bench = start("--out", str(tmp_path / "out"))
    deadline = time.monotonic() + TIMEOUT_S
    while not (servers := servers_of(bench.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    bench.send_signal(signal.SIGTERM)
    _, errors = bench.communicate(timeout=TIMEOUT_S)
    deadline = time.monotonic() + TIMEOUT_S
    assert bench.returncode == 1
    assert errors == "bench: interrupted; no partial files are left\n"
    # A worker that was just started exits a moment after its supervisor.
    while any(Path(f"/proc/{server}").exists() for server in servers):
        assert time.monotonic() < deadline, "a server is still running after the benchmark"
        time.sleep(0.05)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("framework", ["starlette", "fastapi"])
def test_floor(framework: str) -> None:
    """The bare route parses a body and answers, in one process."""
    with serve_floor(framework) as floor:
        usage = floor.usage()
        outcome = Bundled(each_once=True).run(Load(floor.port, [b'{"text": "good"}'], 1, 10))
    assert usage is None or usage.processes == 1
    assert (outcome.answered, outcome.errors) == (1, {})
    assert json.loads(outcome.sample[0][1])["tokens"] == 4


def test_service_that_cannot_be_ready(tmp_path: Path) -> None:
    """A service that cannot become ready ends the benchmark with the reason."""
    with pytest.raises(BenchError, match="no models"), serve(tmp_path, "onnx"):
        pass


def test_server_that_ends() -> None:
    """A server that does not start ends the benchmark with its last line on stderr."""
    with (
        pytest.raises(BenchError, match=r"before it was ready: .* must be a valid integer"),
        Server("app", "serve", "--port", "no port"),
    ):
        pass
