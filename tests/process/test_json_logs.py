"""JSON logs are JSON from the first line to the last."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.server import COMMAND, PATIENCE_S, ROOT, environment

_PAGE: Final = 4096

CHATTY = """
import os, sys
os.write(2, b"\\x1b[0;93m[W:onnxruntime:Default, device_discovery.cc:164] no GPU\\x1b[m\\n")
sys.path.remove(os.path.dirname(__file__))
del sys.modules["onnxruntime"]
import onnxruntime
sys.modules["onnxruntime"] = onnxruntime
"""
"""ONNX Runtime, which greets on stderr when it is imported, as it does on some machines."""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_warnings_of_onnxruntime(tmp_path: Path, workers: str) -> None:
    """What ONNX Runtime writes to stderr is an event of the log; stderr stays empty."""
    (tmp_path / "onnxruntime.py").write_text(CHATTY)
    server = subprocess.Popen(
        [
            *(*COMMAND, "serve", "--port", "0", "--workers", workers, "--engine", "onnx"),
            *("--drain-delay-s", "0"),
        ],
        cwd=ROOT,
        env=environment() | {"PYTHONPATH": str(tmp_path), "VALENCE_LOG_FORMAT": "json"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    events = []
    for line in server.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "the service is ready":
            server.terminate()
    _, errors = server.communicate()
    assert (server.returncode, errors) == (0, "")
    said = [event for event in events if event["event"] == "a library wrote to stderr"]
    assert len(said) == int(workers)
    assert said[0]["line"] == "[W:onnxruntime:Default, device_discovery.cc:164] no GPU"
    assert said[0]["logger"] == "app.serving.engines.onnx"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reader_that_stalls(workers: str) -> None:
    """If nobody reads the log, requests are answered all the same, and SIGTERM ends the service."""
    options = ("--port", "0", "--workers", workers, "--engine", "onnx", "--log-level", "debug")
    server = subprocess.Popen(
        [*COMMAND, "serve", *options, "--log-format", "json"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        pipesize=_PAGE,
    )
    assert server.stdout is not None
    try:
        address = ""
        for line in server.stdout:
            event = json.loads(line)
            address = address or event.get("address", "")
            if event["event"] == "the service is ready":
                break
        with httpx.Client(base_url=address, timeout=PATIENCE_S) as client:
            for _ in range(100):  # each logs a line, and the pipe holds twenty
                refused = client.post("/predict", json={"text": "good", "model": "nobody"})
                assert refused.status_code == 404
                assert client.post("/predict", json={"text": "good"}).status_code == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE_S) == 0
    finally:
        server.kill()
        server.stdout.close()
