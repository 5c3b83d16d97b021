import json
import socket
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.server import PATIENCE_S, ServerProcess

BODY = b'{"text": "superb"}'


class Answer(NamedTuple):
    """What came back over a connection."""

    status: int
    headers: dict[str, str]
    body: Any


class Wire:
    """A connection to a server, byte by byte."""

    def __init__(self, address: httpx.URL) -> None:
        self._socket = socket.create_connection((address.host, address.port), PATIENCE_S)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, head: str, body: bytes = b"") -> None:
        """Send a request line and headers, then bytes that may be their body."""
        self._socket.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def read(self) -> Answer:
        """The next answer."""
        with HTTPResponse(self._socket) as response:
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, json.loads(response.read()))

    def count_answers(self, at_most: int) -> int:
        """How many answers 200 come; waits for so many, or for the end of the connection."""
        answers = b""
        while answers.count(b"HTTP/1.1 200 ") < at_most and (piece := self._socket.recv(65536)):
            answers += piece
        return answers.count(b"HTTP/1.1 200 ")

    def is_closed(self) -> bool:
        """Whether the server ends the connection; waits until it says something."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture(scope="module")
def server(exported_models: Path) -> Iterator[ServerProcess]:
    """A ready server."""
    with ServerProcess(exported_models, "--max-body-bytes", "1000") as running:
        running.wait_for("the service is ready")
        yield running


@pytest.fixture
def wire(server: ServerProcess) -> Iterator[Wire]:
    """A connection to it."""
    with server.client() as client, Wire(client.base_url) as connection:
        yield connection


def post(path: str = "/predict", *headers: str) -> str:
    return "\n".join((f"POST {path} HTTP/1.1", "Host: valence", *headers))


LENGTH = f"Content-Length: {len(BODY)}"
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")


@pytest.mark.parametrize("offer", [H2C, ("Connection: upgrade", "Upgrade: websocket")])
def test_offer_to_upgrade(server: ServerProcess, wire: Wire, offer: tuple[str, ...]) -> None:
    """An offer to upgrade is ignored: the request is answered, and the next one, and no log."""
    lines = len(server.log)
    for _ in range(2):
        wire.send(post("/predict", *offer, LENGTH), BODY)
        answer = wire.read()
        assert (answer.status, answer.body["tokens"]) == (200, 1)
    assert server.log[lines:] == []


def test_offer_in_pieces(wire: Wire) -> None:
    """An offer to upgrade is ignored however the request is cut into pieces."""
    request = post("/predict", *H2C, LENGTH).replace("\n", "\r\n").encode() + b"\r\n\r\n" + BODY
    for byte in request:
        wire.send_bytes(bytes((byte,)))
    assert wire.read().status == 200


def test_many_offers_at_once(wire: Wire) -> None:
    """Offers that come in one piece are answered one after the other."""
    wire.send_bytes(b"GET /livez HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" * 1500)
    assert wire.count_answers(1500) == 1500


def test_body_refused_by_its_length(wire: Wire) -> None:
    """A body that is refused unread ends the connection: it would be the next request."""
    wire.send(post("/predict", "Content-Length: 1001", "Expect: 100-continue"))
    answer = wire.read()
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert wire.is_closed()


CHUNK = b"fffff\r\n" + b" " * 0xFFFFF + b"\r\n"


def test_endless_body(wire: Wire) -> None:
    """A body without an end is refused, and not even dropped for ever."""
    wire.send(post("/predict", "Transfer-Encoding: chunked"), CHUNK)
    answer = wire.read()
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert wire.is_closed()
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        wire.send_bytes(CHUNK * 200)


def test_refusal_reaches_who_sends_first(wire: Wire) -> None:
    """A client that sends all of a refused body before it reads finds the refusal."""
    wire.send(post("/predict", "Content-Length: 16777216"), b" " * 16_777_216)
    assert wire.read().status == 413


def test_body_nobody_reads(wire: Wire) -> None:
    """A route that reads no body, or is none, ends the connection when there is one."""
    wire.send(post("/nothing", LENGTH, "Expect: 100-continue"))
    answer = wire.read()
    assert (answer.status, answer.headers["connection"]) == (404, "close")
    assert wire.is_closed()


def test_connection_is_kept(wire: Wire) -> None:
    """A connection is kept after a request that was read, whatever the answer."""
    for body, status in ((b"x" * len(BODY), 400), (BODY, 200)):
        wire.send(post("/predict", LENGTH), body)
        answer = wire.read()
        assert (answer.status, answer.headers.get("connection")) == (status, None)


def count_invalid(server: ServerProcess) -> float:
    """Requests that were no HTTP, as /metrics has them."""
    series = 'valence_requests_total{model="",route="other",status="400"} '
    with server.client() as client:
        page = client.get("/metrics").text
    return sum(float(x.removeprefix(series)) for x in page.splitlines() if x.startswith(series))


@pytest.mark.parametrize(
    "noise",
    [
        b"SECRET\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"CONNECT /predict HTTP/1.1\r\nHost: valence\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX: ".ljust(256 * 1024 + 1, b"x"),
    ],
    ids=["no HTTP", "no path", "tunnel", "endless header"],
)
def test_noise(server: ServerProcess, wire: Wire, noise: bytes) -> None:
    """What is not HTTP is refused with a problem, counted, and leaves no line in the log."""
    lines, invalid = len(server.log), count_invalid(server)
    wire.send_bytes(noise)
    answer = wire.read()
    assert (answer.status, answer.body["type"]) == (400, "urn:valence:problem:invalid-http")
    assert answer.headers["x-request-id"] == answer.body["request_id"]
    assert wire.is_closed()
    assert count_invalid(server) == invalid + 1
    assert server.log[lines:] == []
