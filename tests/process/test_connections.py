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
    """One HTTP response."""

    status: int
    headers: dict[str, str]
    body: Any


class Wire:
    """A connection on which a test sends and receives raw bytes."""

    def __init__(self, address: httpx.URL) -> None:
        self._socket = socket.create_connection((address.host, address.port), PATIENCE_S)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, head: str, body: bytes = b"") -> None:
        """Send a request line and headers, then the body."""
        self._socket.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)

    def send_bytes(self, data: bytes) -> None:
        """Send raw bytes."""
        self._socket.sendall(data)

    def read(self) -> Answer:
        """Read the next response."""
        with HTTPResponse(self._socket) as response:
            response.begin()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, headers, json.loads(response.read()))

    def count_answers(self, at_most: int) -> int:
        """Count responses with status 200, until `at_most` or the end of the connection."""
        answers = b""
        while answers.count(b"HTTP/1.1 200 ") < at_most and (piece := self._socket.recv(65536)):
            answers += piece
        return answers.count(b"HTTP/1.1 200 ")

    def is_closed(self) -> bool:
        """Whether the server closes the connection; waits for its next byte or the end."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True


@pytest.fixture(scope="module")
def server(bow_models: Path) -> Iterator[ServerProcess]:
    """A ready server."""
    with ServerProcess(bow_models, "--max-body-bytes", "1000") as running:
        running.wait_for("the service is ready")
        yield running


@pytest.fixture
def wire(server: ServerProcess) -> Iterator[Wire]:
    """A connection to the server."""
    with server.client() as client, Wire(client.base_url) as connection:
        yield connection


def post(path: str = "/predict", *headers: str) -> str:
    return "\n".join((f"POST {path} HTTP/1.1", "Host: valence", *headers))


LENGTH = f"Content-Length: {len(BODY)}"
H2C = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")


@pytest.mark.parametrize("offer", [H2C, ("Connection: upgrade", "Upgrade: websocket")])
def test_offer_to_upgrade(server: ServerProcess, wire: Wire, offer: tuple[str, ...]) -> None:
    """An offer to upgrade is ignored: this and the next request are answered, nothing is logged."""
    lines = len(server.log)
    for _ in range(2):
        wire.send(post("/predict", *offer, LENGTH), BODY)
        answer = wire.read()
        assert (answer.status, answer.body["tokens"]) == (200, 1)
    assert server.log[lines:] == []


def test_offer_in_pieces(wire: Wire) -> None:
    """An offer to upgrade is ignored however the request is split into packets."""
    request = post("/predict", *H2C, LENGTH).replace("\n", "\r\n").encode() + b"\r\n\r\n" + BODY
    for byte in request:
        wire.send_bytes(bytes((byte,)))
    assert wire.read().status == 200


def test_many_offers_at_once(wire: Wire) -> None:
    """Pipelined offers are answered one after the other."""
    offer = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    wire.send_bytes(offer * 1500)
    assert wire.count_answers(1500) == 1500


@pytest.mark.parametrize(("path", "kind"), [("/predict", "problem+json"), ("/v2/models", "json")])
def test_refused_before_the_router(wire: Wire, path: str, kind: str) -> None:
    """What is refused before the router is told as the protocol of its path tells errors."""
    wire.send(post(path, LENGTH, "Expect: a-miracle"))
    answer = wire.read()
    assert (answer.status, answer.headers["content-type"]) == (417, f"application/{kind}")


def test_body_refused_by_its_length(wire: Wire) -> None:
    """A body that is rejected unread closes the connection; else it would be the next request."""
    wire.send(post("/predict", "Content-Length: 1001", "Expect: 100-continue"))
    answer = wire.read()
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert wire.is_closed()


CHUNK = b"fffff\r\n" + b" " * 0xFFFFF + b"\r\n"


def test_endless_body(wire: Wire) -> None:
    """An endless body is rejected, and the connection is closed instead of read on."""
    wire.send(post("/predict", "Transfer-Encoding: chunked"), CHUNK)
    answer = wire.read()
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert wire.is_closed()
    with pytest.raises(OSError, match=r"reset|Broken pipe"):
        wire.send_bytes(CHUNK * 200)


def test_rejection_reaches_a_client_that_sends_first(wire: Wire) -> None:
    """A client that sends all of a rejected body before it reads still gets the response."""
    wire.send(post("/predict", "Content-Length: 16777216"), b" " * 16_777_216)
    assert wire.read().status == 413


def test_unread_body(wire: Wire) -> None:
    """A body that no route reads closes the connection."""
    wire.send(post("/nothing", LENGTH, "Expect: 100-continue"))
    answer = wire.read()
    assert (answer.status, answer.headers["connection"]) == (404, "close")
    assert wire.is_closed()


def test_connection_is_kept(wire: Wire) -> None:
    """A connection is kept after a request whose body was read, whatever the status."""
    for body, status in ((b"x" * len(BODY), 400), (BODY, 200)):
        wire.send(post("/predict", LENGTH), body)
        answer = wire.read()
        assert (answer.status, answer.headers.get("connection")) == (status, None)


def count_invalid(server: ServerProcess) -> float:
    """The number of requests that were not valid HTTP, from /metrics."""
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
        b"GET /livez HTTP/1.1\r\n\r\n",
    ],
    ids=["not HTTP", "invalid path", "tunnel", "no host"],
)
def test_noise(server: ServerProcess, wire: Wire, noise: bytes) -> None:
    """Invalid HTTP gets a problem document, is counted, and is not logged."""
    lines, invalid = len(server.log), count_invalid(server)
    wire.send_bytes(noise)
    answer = wire.read()
    assert (answer.status, answer.body["type"]) == (400, "urn:valence:problem:invalid-http")
    assert answer.headers["x-request-id"] == answer.body["request_id"]
    assert wire.is_closed()
    assert count_invalid(server) == invalid + 1
    assert server.log[lines:] == []
