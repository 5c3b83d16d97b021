import contextlib
import resource
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server import PATIENCE_S, ServerProcess

RST_AT_CLOSE = struct.pack("ii", 1, 0)
GET = b"GET /livez HTTP/1.1\r\nHost: valence\r\n\r\n"


@pytest.fixture(scope="module", params=["1", "2"], ids=["one process", "two workers"])
def server(request: pytest.FixtureRequest, bow_models: Path) -> Iterator[ServerProcess]:
    """A ready server with 128 file descriptors, which gives a head two seconds."""
    options = ("--workers", request.param, "--threads", "1", "--header-timeout-s", "2")
    with ServerProcess(bow_models, *options, setup="ulimit -n 128") as running:
        running.wait_for("the service is ready")
        yield running


@pytest.fixture(scope="module", autouse=True)
def _many_descriptors() -> Iterator[None]:
    """Let this process open more sockets than the server may."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def connect(server: ServerProcess) -> socket.socket:
    address = httpx.URL(server.wait_for("the service is starting")["address"])
    return socket.create_connection((address.host, address.port), PATIENCE_S)


def read_to_end(connection: socket.socket) -> bytes:
    """All that the server sends until it closes."""
    received = b""
    with connection, contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    return received


def open_connections(client: httpx.Client) -> float:
    """The connections that the service has, this one aside."""
    lines = client.get("/metrics").text.splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("valence_connections "))
    return float(value) - 1


@pytest.mark.parametrize(("sent", "answer"), [(b"", b""), (GET[:-2], b"HTTP/1.1 408 ")])
def test_head_that_does_not_come(server: ServerProcess, sent: bytes, answer: bytes) -> None:
    """A connection whose request does not come is closed, with 408 if part of it has come."""
    clients = [connect(server) for _ in range(20)]
    for client in clients:
        client.sendall(sent)
    answers = [read_to_end(client) for client in clients]
    assert all(each.startswith(answer) for each in answers)
    assert all(bool(each) == bool(answer) for each in answers)


def test_probes_during_a_flood(server: ServerProcess) -> None:
    """While 2,000 silent clients connect, every probe and every request is answered; one line."""
    statuses = set()
    with contextlib.ExitStack() as flood:
        silent = []
        for _ in range(100):  # by turns, so that no probe waits for the flood to get the processor
            silent += [flood.enter_context(connect(server)) for _ in range(20)]
            with server.client() as client:
                probes = [client.get(path) for path in ("/livez", "/readyz", "/models")]
            statuses |= {each.status_code for each in probes}
        for client in silent:
            assert read_to_end(client) == b""
    assert statuses == {200}
    exhausted = server.events().count("connections are exhausted")
    assert 1 <= exhausted <= 2  # once a minute in each worker
    with server.client() as client:
        assert 'rejected_total{reason="connections"} 0.0' not in client.get("/metrics").text


def test_connections_that_are_reset(server: ServerProcess) -> None:
    """Connections that end with RST, before or after an answer, are forgotten at once."""
    for request in (b"", GET[:9], GET):
        for _ in range(20):
            with connect(server) as client:
                client.sendall(request)
                if request == GET:
                    assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_AT_CLOSE)
    with server.client() as client:
        while open_connections(client):
            pass


def test_client_that_closes_its_side(server: ServerProcess) -> None:
    """A client that closes its side after the request gets its answer, in pieces or pipelined."""
    body = b'{"text": "superb"}'
    head = b"POST /predict HTTP/1.1\r\nHost: valence\r\nContent-Length: %d\r\n\r\n" % len(body)
    for _ in range(50):
        client = connect(server)
        client.sendall(head + body + head + body)
        client.shutdown(socket.SHUT_WR)
        assert read_to_end(client).count(b"HTTP/1.1 200 ") == 2


def test_garbage_behind_a_request(server: ServerProcess) -> None:
    """A valid request with garbage behind it in the same packet is answered, then comes 400."""
    for _ in range(30):
        client = connect(server)
        client.sendall(GET + b"SECRET\r\n\r\n")
        answers = read_to_end(client)
        assert answers.startswith(b"HTTP/1.1 200 ")
        assert answers.count(b"HTTP/1.1 400 ") == 1
