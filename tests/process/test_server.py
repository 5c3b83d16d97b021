import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server import COMMAND, PATIENCE_S, ROOT, ServerProcess, environment, run

BANNER_URL = re.compile(rb"curl -s (\S+)/predict -d ")

Start = Callable[..., ServerProcess]


@pytest.fixture(scope="module")
def start(exported_models: Path) -> Iterator[Start]:
    """Starts servers, and ends them after the tests, passed or failed."""
    servers: list[ServerProcess] = []

    def start_one(*options: str, models: Path = exported_models) -> ServerProcess:
        servers.append(ServerProcess(models, *options))
        return servers[-1]

    yield start_one
    for server in servers:
        server.close()


class OpenRequest:
    """A request of which the server has read the headers, and waits for the body."""

    BODY = b'{"text": "superb"}'

    def __init__(self, address: httpx.URL) -> None:
        self._socket = socket.create_connection((address.host, address.port), PATIENCE_S)
        self._socket.sendall(
            b"POST /predict HTTP/1.1\r\nHost: valence\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % len(self.BODY)
        )
        assert self._socket.recv(100).startswith(b"HTTP/1.1 100 ")  # now it waits for the body

    def finish(self) -> tuple[int, str | None]:
        """Send the body; return status and Connection header of the answer."""
        self._socket.sendall(self.BODY)
        with self._socket, HTTPResponse(self._socket) as response:
            response.begin()
            response.read()
            return response.status, response.headers["Connection"]


JUNK = {
    b"SECRET": 400,
    b'{"text": "SECRET\\u0000"}': 422,
    b'{"text": "SECRET\\ud800"}': 422,
    b'{"text": 5, "SECRET": 1}': 422,
    b'{"text": "SECRET", "model": "SECRET"}': 404,
    json.dumps({"text": "SECRET " * 200_000}).encode(): 413,
    json.dumps({"texts": ["SECRET"] * 10_000}).encode(): 413,
    b'{"text": "SECRET"}': 200,
}


@dataclass
class Life:
    """What one server did from its start to its end."""

    address: str
    statuses: dict[str, int]
    answers: dict[str, Any]
    open_request: tuple[int, str | None]
    exit_status: int
    log: list[dict[str, Any]]
    errors: str


@pytest.fixture(scope="module")
def life(start: Start, golden: list[dict[str, Any]]) -> Life:
    """Start a server, use it, send SIGTERM, use it while it drains, and wait for its end."""
    server = start("--drain-delay-s", "600", "--log-level", "debug")
    statuses, answers = {}, {}
    with server.client() as client:
        statuses["live at once"] = client.get("/livez").status_code
        server.wait_for("the service is ready")
        statuses["ready"] = client.get("/readyz").status_code
        while len(answers) < 2:
            for model in ("lstm", "bow"):
                response = client.post("/predict", json={"text": "superb", "model": model})
                if response.status_code == 200:  # the default model is ready first
                    answers[model] = response.json()
        answers["golden"] = client.post(
            "/predict", json={"texts": [row["text"] for row in golden]}
        ).json()
        answers["junk"] = [client.post("/predict", content=b).status_code for b in JUNK]
        client.get("/SECRET", headers={"X-Request-ID": "SECRET SECRET"})
        statuses["live after junk"] = client.get("/livez").status_code
        open_request = OpenRequest(client.base_url)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("the service is draining")
    with server.client() as client:
        statuses["ready while draining"] = client.get("/readyz").status_code
        response = client.post("/predict", json={"text": "superb"})
        statuses["predict while draining"] = response.status_code
    server.process.send_signal(signal.SIGTERM)  # a second one ends the delay
    answered = open_request.finish()
    exit_status = server.wait()
    address = server.wait_for("the service is starting")["address"]
    return Life(
        *(address, statuses, answers, answered),
        *(exit_status, server.log, "".join(server.errors)),
    )


@pytest.fixture(scope="module")
def golden(exported_models: Path) -> list[dict[str, Any]]:
    """The golden rows of the default model whose texts the service accepts."""
    (folder,) = (exported_models / "lstm").iterdir()
    rows = [json.loads(line) for line in (folder / "golden.jsonl").read_text().splitlines()]
    return [row for row in rows if row["text"].strip() and "\0" not in row["text"]]


def test_live_before_ready(life: Life) -> None:
    """A server answers /livez at once, and /readyz once its models are loaded."""
    assert (life.statuses["live at once"], life.statuses["ready"]) == (200, 200)


def test_two_models(life: Life) -> None:
    """Two models answer side by side."""
    for model in ("lstm", "bow"):
        assert life.answers[model]["model"] == model
        assert sum(life.answers[model]["probabilities"].values()) == pytest.approx(1, abs=1e-6)


def test_golden_rows(life: Life, golden: list[dict[str, Any]]) -> None:
    """Over HTTP, in one request, the golden rows get the probabilities of the export.

    Those in which the model knows no word get even odds.
    """
    judged = 0
    for row, prediction in zip(golden, life.answers["golden"]["predictions"], strict=True):
        probabilities = list(prediction["probabilities"].values())
        expected = row["answers"]["onnx"] if prediction["reliable"] else [0.5, 0.5]
        assert probabilities == pytest.approx(expected, abs=1e-5)
        judged += prediction["reliable"]
    assert judged > len(golden) / 2


def test_junk(life: Life) -> None:
    """Invalid requests get the documented status, and the process stays up."""
    assert life.answers["junk"] == list(JUNK.values())
    assert life.statuses["live after junk"] == 200


def test_no_text_in_the_log(life: Life) -> None:
    """Neither the log nor stderr contains anything that clients sent."""
    assert "SECRET" not in json.dumps(life.log) + life.errors


def test_nothing_on_stderr(life: Life) -> None:
    """Where stderr is no terminal, a server writes nothing there."""
    assert life.errors == ""


def test_drain_delay(life: Life) -> None:
    """After SIGTERM a server is unready at once, but still answers for the drain delay."""
    assert life.statuses["ready while draining"] == 503
    assert life.statuses["predict while draining"] == 200


def test_open_request_is_answered(life: Life) -> None:
    """A request that was open when the server stopped listening is answered."""
    assert life.open_request == (200, "close")


def test_exit_status(life: Life) -> None:
    """A server that is stopped by signals exits with 0, and logs it."""
    assert life.exit_status == 0
    assert [line["event"] for line in life.log][-3:] == [
        *("the service is draining", "the service has stopped", "the log has ended"),
    ]


def test_signal_while_loading(start: Start) -> None:
    """A server that receives SIGTERM while it loads its models exits with 0."""
    server = start()
    with server.client() as client:
        assert client.get("/livez").status_code == 200
    assert server.stop() == 0


def test_port_in_use() -> None:
    """A port in use: exit status 1 and one sentence."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--port", str(port))
    assert result.returncode == 1
    reason = "Address already in use; choose another port with --port"
    assert result.stderr == f"valence: cannot listen on 127.0.0.1:{port}: {reason}\n"


def test_reader_that_leaves() -> None:
    """A command whose output is no longer read exits with 0, as in `valence models | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [*COMMAND, "models"],
        cwd=ROOT,
        env=environment(),
        timeout=PATIENCE_S,
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize("engine", ["auto", "tensorflow", "onnx"])
def test_predict_command(exported_models: Path, engine: str, tmp_path: Path) -> None:
    """`valence predict` predicts one text with the code of the service, on each engine.

    The libraries of the engines write nothing, neither into the home folder nor elsewhere.
    """
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir(mode=0o500)  # root may write into it, others would write elsewhere
    temporary.mkdir()
    options = ("--json", "--engine", engine, "--models-dir", str(exported_models))
    variables = {"HOME": str(home), "TMPDIR": str(temporary)}
    result = run("predict", *options, "superb and gripping", **variables)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    answer = json.loads(result.stdout)
    assert (answer["model"], answer["tokens"], answer["truncated"]) == ("lstm", 3, False)
    assert (answer["unknown"], answer["reliable"]) == (0, True)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert [*home.rglob("*"), *temporary.rglob("*")] == []


def test_predict_command_explains() -> None:
    """`valence predict --explain` prints the words that matter most, with --json all in place."""
    text = "A dull, dull plot, but superb!"
    done = run("predict", "--model", "bow", "--explain", text)
    assert (done.returncode, done.stderr) == (0, "")
    weights = re.findall(r"^  ([+-][\d.]+)  (.+)$", done.stdout, re.MULTILINE)
    assert {word for _, word in weights[:2]} <= {"dull", "superb"}
    assert [abs(float(w)) for w, _ in weights] == sorted((abs(float(w)) for w, _ in weights))[::-1]
    words = json.loads(run("predict", "--model", "bow", "--explain", "--json", text).stdout)
    found = [text[word["start"] : word["end"]] for word in words["explanation"]]
    assert found == ["A", "dull", "dull", "plot", "but", "superb", "!"]


@pytest.mark.parametrize("engine", ["auto", "onnx"])
def test_onnx_without_tensorflow(exported_models: Path, engine: str) -> None:
    """On ONNX Runtime a version is verified and predicts without importing TensorFlow."""
    program = (
        "import sys, app.__main__ as valence\n"
        "status = valence.main(sys.argv[1:])\n"
        "heavy = {'tensorflow', 'keras', 'onnx', 'training'} & set(sys.modules)\n"
        "sys.exit(status or ', '.join(heavy) or 'onnxruntime' not in sys.modules)\n"
    )
    command = ("predict", "--engine", engine, "--models-dir", str(exported_models), "superb")
    done = subprocess.run(
        [sys.executable, "-c", program, *command],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_banner() -> None:
    """On a terminal a ready server prints a curl command with an address that can be reached."""
    terminal, stderr = pty.openpty()
    server = subprocess.Popen(
        [*COMMAND, "serve", "--host", "0.0.0.0", "--port", "0", "--drain-delay-s", "0"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=stderr,
    )
    os.close(stderr)
    try:
        banner = b""
        while (found := BANNER_URL.search(banner)) is None:
            banner += os.read(terminal, 4096)
        assert found[1].startswith(b"http://127.0.0.1:")
        body = {"text": "superb"}
        assert httpx.post(f"{found[1].decode()}/predict", json=body).status_code == 200
    finally:
        server.terminate()
        assert server.wait(PATIENCE_S) == 0
        os.close(terminal)
