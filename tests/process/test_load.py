"""Locust as users run it: several processes, every kind of user, and its verdict."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from load_tests.bench.machine import ROOT
from load_tests.corpus import word_count

TIMEOUT_S = 120
MODELS = {
    "default": "toy",
    "models": [
        {
            "name": "toy",
            "versions": [{"version": 1, "state": "ready", "labels": ["negative", "positive"]}],
        }
    ],
}


class Toy(BaseHTTPRequestHandler):
    """Follows the contract without a model, and keeps the single texts that it got."""

    protocol_version = "HTTP/1.1"
    texts: list[str]
    positive = 0.75
    key: str | None = None

    def do_GET(self) -> None:
        self._answer(*((200, MODELS) if self._has_key() else (401, {})))

    def _has_key(self) -> bool:
        return self.headers["X-API-Key"] == self.key

    def do_POST(self) -> None:
        if not self._has_key():
            self.close_connection = True
            self._answer(401, {})
            return
        size = int(self.headers["Content-Length"])
        if size > 2**20:
            self.close_connection = True
            self._answer(413, {})
            return
        content = self.rfile.read(size)
        if len(content) < size:
            return  # the client has left
        body = json.loads(content)
        if "inputs" in body:
            count = len(body["inputs"][0]["data"])
            names = {"label": ["positive"] * count, "probabilities": [0.25, self.positive] * count}
            self._answer(200, {"outputs": [{"name": n, "data": d} for n, d in names.items()]})
        elif "texts" in body:
            self._answer(200, {"predictions": [self._predict(text) for text in body["texts"]]})
        else:
            self.texts.append(body["text"])
            self._answer(200, self._predict(body["text"]))

    def _predict(self, text: str) -> dict[str, Any]:
        probabilities = {"negative": 0.25, "positive": self.positive}
        return {"label": "positive", "probabilities": probabilities, "tokens": word_count(text)}

    def _answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Server-Timing", "infer;dur=1.5")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def toy() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (Toy,), {"texts": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients misbehave
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run_locust(server: ThreadingHTTPServer, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "locust", "-f", "load_tests/locustfile.py", "--headless"),
            *("--host", f"http://127.0.0.1:{server.server_port}", "--only-summary", "--json"),
            *("--users", "12", "--spawn-rate", "12", "--run-time", "6s", *options),
        ],
        cwd=ROOT,
        timeout=TIMEOUT_S,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Locust forks its processes")
def test_two_processes(toy: ThreadingHTTPServer) -> None:
    """The master judges what both workers report, and no worker sends a text of the other."""
    done = run_locust(toy, "--processes", "2")
    assert done.returncode == 0, done.stderr
    assert "objective missed" not in done.stderr
    assert "server, infer: p50 1.5 ms, p95 1.5 ms" in done.stderr
    names = {entry["name"] for entry in json.loads(done.stdout[done.stdout.index("[\n") :])}
    assert {"one text", "several texts", "open inference"} <= names
    assert names & {"disconnect", "reset", "oversized", "slow"}
    texts: list[str] = toy.RequestHandlerClass.texts  # type: ignore[attr-defined]
    repeated = len(texts) - len(set(texts))
    assert repeated <= len(texts) / 10  # every tenth of a user, on purpose
    assert len(texts) > 10


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Locust forks its processes")
def test_wrong_answers(toy: ThreadingHTTPServer) -> None:
    """A wrong answer that a worker got makes the master's verdict."""
    toy.RequestHandlerClass.positive = 0.7  # type: ignore[attr-defined]
    done = run_locust(toy, "--processes", "2", "OneText", "OpenInference")
    assert done.returncode == 1
    assert "objective missed: one text" in done.stderr
    assert "objective missed: open inference" in done.stderr
    assert "no requests at all" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="Locust forks its processes")
@pytest.mark.parametrize(("key", "code"), [("a-secret", 0), (None, 1)])
def test_a_key(
    key: str | None, code: int, toy: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every user of every worker sends the key of the master, misbehaving ones included."""
    toy.RequestHandlerClass.key = "a-secret"  # type: ignore[attr-defined]
    monkeypatch.delenv("LOAD_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("LOAD_KEY", f"{key}\n")  # as in a file
    done = run_locust(toy, "--processes", "2")
    assert done.returncode == code, done.stderr
    assert ("status 401" in done.stdout + done.stderr) is (key is None)


@pytest.mark.slow
def test_started(tmp_path: Path) -> None:
    """Locust asks a service that was started for it, and all of it ends together."""
    report = tmp_path / "load.html"
    command = [sys.executable, "-m", "load_tests.started", "--users", "11", "--spawn-rate", "11"]
    done = subprocess.run(
        [*command, "--run-time", "5s", "--html", str(report), "--only-summary"],
        cwd=ROOT,
        timeout=TIMEOUT_S,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "server, infer: p50" in done.stderr
    assert "open inference" in report.read_text()
