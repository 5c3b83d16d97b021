"""The HTTP/1.1 protocol on one connection."""

import asyncio
import gc
import weakref

import orjson
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.exchange import Exchange
from app.api.framing import MAX_HEAD_BYTES, MAX_TARGET_BYTES
from app.api.protocol import HTTPProtocol
from tests.door import Door, echo_path, report_errors
from tests.fakes import sample, until

pytestmark = pytest.mark.anyio

REQUEST = b"POST / HTTP/1.1\r\nHost: valence\r\nContent-Length: 2\r\n\r\n{}"
GET = b"GET /%b HTTP/1.1\r\nHost: valence\r\n\r\n"


def connect(app: ASGIApp) -> HTTPProtocol:
    """A connection to an application, on the running event loop."""
    return Door(app).connect().protocol


# --- what is refused


def head(*headers: bytes, line: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"\r\n".join((line, *headers, b"", b""))


HOST = b"Host: valence"
TE = b"Transfer-Encoding: "
LENGTH = b"Content-Length: "

REFUSED = {
    "no host": (head(), 400),
    "two hosts": (head(HOST, HOST), 400),
    "two different hosts": (head(HOST, b"Host: other"), 400),
    "host with a space": (head(b"Host: a b"), 400),
    "host with a path": (head(b"Host: a/b"), 400),
    "length and coding": (head(HOST, LENGTH + b"2", TE + b"chunked"), 400),
    "coding and length": (head(HOST, TE + b"chunked", LENGTH + b"2"), 400),
    "two lengths": (head(HOST, LENGTH + b"2", LENGTH + b"3"), 400),
    "two equal lengths": (head(HOST, LENGTH + b"2", LENGTH + b"2"), 400),
    "list of lengths": (head(HOST, LENGTH + b"2, 2"), 400),
    "signed length": (head(HOST, LENGTH + b"+2"), 400),
    "negative length": (head(HOST, LENGTH + b"-2"), 400),
    "hexadecimal length": (head(HOST, LENGTH + b"0x2"), 400),
    "empty length": (head(HOST, LENGTH), 400),
    "endless length": (head(HOST, LENGTH + b"9" * 40), 400),
    "chunked twice": (head(HOST, TE + b"chunked", TE + b"chunked"), 400),
    "chunked is not last": (head(HOST, TE + b"chunked, gzip"), 400),
    "chunked in HTTP/1.0": (head(TE + b"chunked", line=b"POST / HTTP/1.0"), 400),
    "coding that is not chunked": (head(HOST, TE + b"gzip"), 501),
    "coding before chunked": (head(HOST, TE + b"gzip, chunked"), 501),
    "coding in a header before": (head(HOST, TE + b"gzip", TE + b"chunked"), 501),
    "coding that looks like chunked": (head(HOST, TE + b"xchunked"), 501),
    "coding identity": (head(HOST, TE + b"identity"), 501),
    "space before colon": (head(HOST, b"X : a"), 400),
    "space before the first header": (head(b" " + HOST), 400),
    "folded header": (head(HOST, b"X: a", b" b"), 400),
    "header without a colon": (head(HOST, b"X"), 400),
    "header without a name": (head(HOST, b": a"), 400),
    "name outside ASCII": (head(HOST, "\u00e9: a".encode()), 400),
    "NUL in a value": (head(HOST, b"X: a\0b"), 400),
    "control character in a value": (head(HOST, b"X: a\x01b"), 400),
    "bare CR": (head(HOST, b"X: a\rY: b"), 400),
    "bare LF": (head(HOST, b"X: a\nY: b"), 400),
    "LF for all line ends": (b"GET / HTTP/1.1\nHost: valence\n\n", 400),
    "LF for the last line end": (b"GET / HTTP/1.1\r\nHost: valence\r\n\n", 400),
    "space in the path": (head(HOST, line=b"GET /a b HTTP/1.1"), 400),
    "path outside ASCII": (head(HOST, line=b"GET /\xff HTTP/1.1"), 400),
    "tab after the method": (head(HOST, line=b"GET\t/ HTTP/1.1"), 400),
    "no HTTP": (b"SECRET\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "tunnel": (head(HOST, line=b"CONNECT valence:80 HTTP/1.1"), 400),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "HTTP/1.2": (head(HOST, line=b"GET / HTTP/1.2"), 505),
    "HTTP/2.0": (head(HOST, line=b"GET / HTTP/2.0"), 505),
    "HTTP/3.0": (head(HOST, line=b"GET / HTTP/3.0"), 505),
    "expectation": (head(HOST, b"Expect: a-miracle"), 417),
    "long path": (head(HOST, line=b"GET /%b HTTP/1.1" % (b"x" * MAX_TARGET_BYTES)), 414),
    "endless path": (b"GET /" + b"x" * MAX_TARGET_BYTES, 414),
    "large header": (head(HOST, b"X: " + b"x" * MAX_HEAD_BYTES), 431),
    "many headers": (head(HOST, *[b"X: x"] * (MAX_HEAD_BYTES // 6)), 431),
    "endless header": (b"GET / HTTP/1.1\r\nHost: valence\r\nX: " + b"x" * MAX_HEAD_BYTES, 431),
}


@pytest.mark.parametrize(("request_bytes", "status"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in pieces"])
async def test_refused(request_bytes: bytes, status: int, at_once: bool) -> None:
    """What RFC 9110 and 9112 do not allow gets its status, is counted, and ends the connection."""
    asked: list[Scope] = []

    async def note(scope: Scope, _receive: Receive, _send: Send) -> None:
        asked.append(scope)

    door = Door(note)
    client = door.connect()
    size = len(request_bytes) if at_once else 1 + len(request_bytes) // 40
    for start in range(0, len(request_bytes), size):
        client.send(request_bytes[start : start + size])
    await asyncio.sleep(0)
    assert (client.statuses, client.wire.ended, asked) == ([status], True, [])
    labels = {"route": "other", "model": "", "status": str(status)}
    assert sample(door.metrics, "requests_total", **labels) == 1


PROBLEM = ("type", "title", "status", "detail")
EARLIER = b"GET /v2/a HTTP/1.1\r\nHost: valence\r\n\r\n"
DIALECTS_OF_REFUSALS = {
    "native": (head(HOST, b"Expect: a-miracle", line=b"GET /predict HTTP/1.1"), False),
    "Open Inference Protocol": (head(HOST, TE + b"gzip", line=b"GET /v2/models HTTP/1.1"), True),
    "an endless path": (b"GET /v2/" + b"x" * MAX_TARGET_BYTES, True),
    "absolute form": (head(HOST, b"Expect: a", line=b"GET http://x/v2/models HTTP/1.1"), True),
    "escaped path": (head(HOST, b"Expect: a", line=b"GET /%76%32/models HTTP/1.1"), True),
    "a path that is no path": (head(HOST, b"Expect: a", line=b"GET *x HTTP/1.1"), False),
    "TensorFlow Serving": (head(HOST, b"Expect: a-miracle", line=b"GET /v1/m HTTP/1.1"), True),
    "no path behind one of /v2": (EARLIER + b"SECRET\r\n\r\n", False),
}


@pytest.mark.parametrize(
    ("request_bytes", "other"), DIALECTS_OF_REFUSALS.values(), ids=DIALECTS_OF_REFUSALS
)
async def test_refused_as_the_protocol_of_the_path_tells_errors(
    request_bytes: bytes, other: bool
) -> None:
    """Clients of the other protocols look for `error`, native ones for problem details."""
    client = Door(echo_path).connect().send(request_bytes)
    await until(lambda: client.wire.ended)
    body = orjson.loads(client.bodies[-1])
    assert list(body) == (["error"] if other else [*PROBLEM, "request_id"])


@pytest.mark.parametrize("read_first", range(1000, MAX_HEAD_BYTES, 15_000))
async def test_large_head_behind_a_request(read_first: int) -> None:
    """A head is measured whole, however much of it came in one read with the request before."""
    client = Door(echo_path).connect()
    large, request = REFUSED["large header"][0], head(HOST, line=b"GET /a HTTP/1.1")
    client.send(request + large[:read_first])
    client.send(large[read_first:])
    await until(lambda: client.wire.ended)
    assert client.statuses == [200, 431]


@pytest.mark.parametrize("method", [b"BREW", b"get", b"PUTT"])
async def test_unknown_method(method: bytes) -> None:
    """A method that HTTP does not know gets 501, where its line came in one piece."""
    client = Door(echo_path).connect().send(head(HOST, line=method + b" / HTTP/1.1"))
    assert (client.statuses, client.wire.ended) == ([501], True)


ACCEPTED = {
    "HTTP/1.0 without a host": (head(line=b"GET /a HTTP/1.0"), b"/a"),
    "empty host": (head(b"Host:", line=b"GET /a HTTP/1.1"), b"/a"),
    "IPv6 host": (head(b"Host: [::1]:8000", line=b"GET /a HTTP/1.1"), b"/a"),
    "absolute form": (head(HOST, line=b"GET http://b:1/a?q HTTP/1.1"), b"/a"),
    "absolute form without a path": (head(HOST, line=b"GET http://b HTTP/1.1"), b"/"),
    "asterisk form": (head(HOST, line=b"OPTIONS * HTTP/1.1"), b"*"),
    "query and fragment": (head(HOST, line=b"GET /a?b#c HTTP/1.1"), b"/a"),
    "escaped path": (head(HOST, line=b"GET /%61 HTTP/1.1"), b"/a"),
    "line breaks before the request": (b"\r\n\r\n" + GET % b"a", b"/a"),
    "Expect in HTTP/1.0": (head(b"Expect: much", line=b"GET /a HTTP/1.0"), b"/a"),
    "chunked": (head(HOST, TE + b"Chunked") + b"2;a=b\r\n{}\r\n0\r\nHost: trailer\r\n\r\n", b"/"),
    "leading zeros": (head(HOST, LENGTH + b"0002") + b"{}", b"/"),
    "largest path": (head(HOST, line=b"GET /%b HTTP/1.1" % (b"x" * 8191)), b"/" + b"x" * 8191),
    "large headers": (head(HOST, b"X: " + b"x" * 65000, line=b"GET /a HTTP/1.1"), b"/a"),
}


@pytest.mark.parametrize(("request_bytes", "path"), ACCEPTED.values(), ids=ACCEPTED)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in pieces"])
async def test_accepted(request_bytes: bytes, path: bytes, at_once: bool) -> None:
    """What RFC 9110 and 9112 allow is answered, however it is split."""
    client = Door(echo_path).connect()
    size = len(request_bytes) if at_once else 1 + len(request_bytes) // 40
    for start in range(0, len(request_bytes), size):
        client.send(request_bytes[start : start + size])
    await until(lambda: bool(client.statuses))
    assert (client.statuses, client.bodies) == ([200], [path])


BROKEN_BODIES = [b"x\r\n", b"-1\r\n", b"0x1\r\n", b"1\n{\n", b"1\r\n{}\r\n", b"f" * 20 + b"\r\n"]


@pytest.mark.parametrize("body", BROKEN_BODIES)
async def test_broken_body(body: bytes) -> None:
    """The application learns that a chunked body is broken, and answers; then comes the end."""
    client = Door(report_errors).connect().send(head(HOST, TE + b"chunked"), body)
    await until(lambda: client.wire.ended)
    assert client.bodies == [b"InvalidHTTP"]


async def test_endless_trailers() -> None:
    """What follows the content of a chunked body is bounded, and no limit of bodies counts it."""
    client = Door(report_errors).connect()
    client.send(head(HOST, TE + b"chunked"), b"2\r\n{}\r\n0\r\nX: ")
    client.send(*[b"x" * MAX_HEAD_BYTES] * 3)
    await until(lambda: client.wire.ended)
    assert client.bodies == [b"InvalidHTTP"]


# --- order


async def test_garbage_behind_a_request() -> None:
    """The request before the garbage is answered first, then the garbage with 400."""
    client = Door(echo_path).connect().send(GET % b"a" + b"SECRET\r\n\r\n")
    await until(lambda: client.wire.ended)
    assert (client.statuses, client.bodies[0]) == ([200, 400], b"/a")


async def test_pipelined_requests() -> None:
    """Pipelined requests are answered in their order, the slowest first."""
    gate = asyncio.Event()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/0":
            await gate.wait()
        await echo_path(scope, receive, send)

    client = Door(answer).connect().send(b"".join(GET % b"%d" % i for i in range(20)))
    gate.set()
    await until(lambda: len(client.statuses) == 20)
    assert client.bodies == [b"/%d" % i for i in range(20)]
    assert client.wire.reading


async def test_large_read() -> None:
    """Requests are parsed as earlier ones are answered: a read of 190 kB does not become 5 MB."""
    gate = asyncio.Event()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await echo_path(scope, receive, send)

    client = Door(answer).connect().send(b"".join(GET % b"%d" % i for i in range(5000)))
    assert sum(isinstance(each, Exchange) for each in gc.get_objects()) < 500
    assert not client.wire.reading
    gate.set()
    await until(lambda: client.wire.written.endswith(b"/4999"))
    assert client.bodies == [b"/%d" % i for i in range(5000)]
    assert client.wire.reading


@pytest.mark.parametrize("size", [20_000, 300_000])
async def test_requests_behind_a_large_body(size: int) -> None:
    """A body ends where its length says, whatever large reads it comes in."""
    body = b"POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (size, b"x" * size)
    data = body + b"".join(GET % b"%d" % i for i in range(1, 9))
    client = Door(echo_path).connect()
    client.send(data[:100_000])
    for start in range(100_000, len(data), 100_000):
        await asyncio.sleep(0)  # the application takes what has come
        client.send(data[start : start + 100_000])
    await until(lambda: len(client.statuses) == 9)
    assert client.bodies == [b"/%d" % i for i in range(9)]


async def test_garbage_far_behind_a_request() -> None:
    """What a large read has behind its fault is dropped, after the answers to what is before."""
    requests = b"".join(GET % b"%d" % i for i in range(1000))
    client = Door(echo_path).connect().send(requests + b"SECRET\r\n\r\n" + requests)
    await until(lambda: client.wire.ended)
    assert client.statuses == [200] * 1000 + [400]


async def test_requests_after_the_last() -> None:
    """Requests behind one with `Connection: close` are not answered."""
    last = head(HOST, b"Connection: close", line=b"GET /a HTTP/1.1")
    client = Door(echo_path).connect().send(last + GET % b"b")
    await until(lambda: client.wire.ended)
    assert client.bodies == [b"/a"]


async def test_client_that_closes_its_side() -> None:
    """A client that closes its side after its requests gets their answers."""
    client = Door(echo_path).connect().send(GET % b"a" + GET % b"b")
    assert client.protocol.eof_received()
    await until(lambda: client.wire.closed)
    assert client.bodies == [b"/a", b"/b"]


@pytest.mark.parametrize("sent", [b"", GET[:9], REQUEST[:-1]], ids=["nothing", "head", "body"])
async def test_client_that_leaves(sent: bytes) -> None:
    """A client that closes its side before its request is complete gets no answer."""
    client = Door(report_errors).connect().send(sent)
    assert not client.protocol.eof_received()
    assert client.statuses == []


async def test_client_disconnects_with_pipelined_requests() -> None:
    """If a client of two pipelined requests disconnects, the active one is notified."""
    seen: list[str] = []

    async def watch(_scope: Scope, receive: Receive, _send: Send) -> None:
        while (message := await receive())["type"] == "http.request":
            seen.append(message["type"])
        seen.append(message["type"])

    protocol = connect(watch)
    protocol.data_received(2 * REQUEST)
    await until(lambda: bool(seen))
    protocol.connection_lost(None)
    await until(lambda: seen[-1] == "http.disconnect")
    assert seen == ["http.request", "http.disconnect"]


async def test_answer_before_the_application() -> None:
    """Requests may be refused from their bytes, where they come alone; others go their way."""

    def refuse_posts(data: bytes) -> bytes | None:
        return b"HTTP/1.1 429 Too Many Requests\r\n\r\nno" if data == REQUEST else None

    client = Door(echo_path).connect(refuse_early=refuse_posts)
    client.send(REQUEST, REQUEST, GET % b"a" + REQUEST)
    await until(lambda: len(client.statuses) == 4)
    client.send(REQUEST[:9], REQUEST[9:])
    await until(lambda: len(client.statuses) == 5)
    assert client.bodies == [b"no", b"no", b"/a", b"/", b"/"]


# --- time


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [(b"", []), (b"\r\n", []), (b"G", [408]), (GET[:-2], [408])],
    ids=["nothing", "line breaks", "a byte", "most of it"],
)
async def test_head_that_does_not_come(sent: bytes, statuses: list[int]) -> None:
    """A head must be complete in time: else 408, or the end if nothing of it has come."""
    door = Door(echo_path, header_timeout_s=10)
    client = door.connect().send(sent)
    door.wait(10)
    assert not client.wire.closed
    door.wait(1)
    assert (client.statuses, client.wire.closed) == (statuses, True)


async def test_head_that_trickles() -> None:
    """A byte a second does not extend the time for a head."""
    door = Door(echo_path, header_timeout_s=10)
    client = door.connect()
    for _ in range(11):
        client.send(b"G" if not client.statuses else b"")
        door.wait(1)
    assert client.wire.closed


async def test_later_head_is_timed_from_its_first_byte() -> None:
    """An idle connection is kept; its next head has its own time."""
    door = Door(echo_path, header_timeout_s=10, keep_alive_s=75)
    client = door.connect().send(GET % b"a")
    await until(lambda: client.statuses == [200])
    door.wait(60)
    client.send(GET[:5])
    door.wait(10)
    assert client.statuses == [200]
    door.wait(1)
    assert (client.statuses, client.wire.closed) == ([200, 408], True)


async def test_idle_connection() -> None:
    """An idle connection is closed after the keep-alive time, without a word."""
    door = Door(echo_path, keep_alive_s=75)
    client = door.connect().send(GET % b"a")
    await until(lambda: client.statuses == [200])
    door.wait(75)
    assert not client.wire.closed
    door.wait(1)
    assert (client.statuses, client.wire.closed) == ([200], True)


async def test_slow_body() -> None:
    """After its grace a body must come at the minimum rate: the application learns it does not."""
    door = Door(report_errors, min_body_bytes_per_s=100, body_grace_s=5)
    client = door.connect().send(head(HOST, LENGTH + b"5000"), b"x" * 200)
    door.wait(6)
    await asyncio.sleep(0)
    assert client.statuses == []
    door.wait(2)
    await until(lambda: client.wire.ended)
    assert client.bodies == [b"RequestTimeout"]


async def test_fast_enough_body() -> None:
    """A body that comes at the minimum rate may take as long as it needs."""
    door = Door(report_errors, min_body_bytes_per_s=100)
    client = door.connect().send(head(HOST, LENGTH + b"5000"))
    for _ in range(50):
        door.wait(1)
        client.send(b"x" * 100)
    await until(lambda: bool(client.statuses))
    assert client.bodies == [b"/"]


async def test_slow_body_of_a_request_that_is_answered() -> None:
    """A body that nobody asks for must come in time, too."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("a")(scope, receive, send)

    door = Door(answer, min_body_bytes_per_s=100)
    client = door.connect().send(head(HOST, LENGTH + b"5000"))
    await until(lambda: client.statuses == [200])
    door.wait(8)
    assert client.wire.closed


async def test_head_that_the_server_does_not_read() -> None:
    """Behind many pipelined requests a head is in time: the server was what took long."""
    gate = asyncio.Event()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await echo_path(scope, receive, send)

    door = Door(answer, header_timeout_s=10)
    requests = [GET % b"a"] * 9 + [GET % b"b"]
    client = door.connect().send(b"".join(requests)[:-9])
    door.wait(500)
    gate.set()
    await until(lambda: len(client.statuses) == 9)
    door.wait(10)
    client.send(requests[-1][-9:])
    await until(lambda: len(client.statuses) == 10)
    assert client.statuses == [200] * 10


async def test_request_that_takes_long() -> None:
    """The time that the application takes is not the client's."""
    gate = asyncio.Event()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await echo_path(scope, receive, send)

    door = Door(answer)
    client = door.connect().send(REQUEST)
    door.wait(500)
    gate.set()
    await until(lambda: client.statuses == [200])


async def test_response_that_is_not_read() -> None:
    """A client that leaves a response unread is cut off."""
    door = Door(echo_path, write_timeout_s=60)
    client = door.connect().send(GET % b"a")
    client.protocol.pause_writing()
    door.wait(60)
    assert not client.wire.closed
    door.wait(1)
    assert client.wire.closed


async def test_early_answers_that_are_not_read() -> None:
    """A client that reads nothing gets no early answers, which nothing would hold up."""
    door = Door(echo_path, write_timeout_s=60)
    client = door.connect(refuse_early=lambda _data: b"HTTP/1.1 429 Too Many Requests\r\n\r\n")
    client.send(REQUEST)
    client.protocol.pause_writing()
    for _ in range(61):
        client.send(REQUEST)
        door.wait(1)
    assert client.statuses == [429]
    assert client.wire.closed


# --- number


async def test_connections_are_counted() -> None:
    """The gauge follows the open connections."""
    door = Door(echo_path)
    clients = [door.connect() for _ in range(3)]
    clients[0].wire.close()
    assert sample(door.metrics, "connections") == 2


async def test_newcomer_replaces_the_longest_silent_connection() -> None:
    """At the limit a new connection is served, and the one that is silent longest is closed."""
    door = Door(echo_path, max_connections=3)
    silent, kept, busy = door.connect(), door.connect(), door.connect()
    busy.send(GET % b"a")
    newcomer = door.connect().send(GET % b"b")
    await until(lambda: bool(newcomer.statuses))
    assert newcomer.statuses == [200]
    assert [each.wire.closed for each in (silent, kept, busy, newcomer)] == [True, *[False] * 3]
    assert sample(door.metrics, "rejected_total", reason="connections") == 1


PROBES = ("livez", "readyz", "v2/health/live", "v2/health/ready")


@pytest.mark.parametrize(
    ("path", "status"), [*((path.encode(), 200) for path in PROBES), (b"a", 503), (b"v2", 503)]
)
async def test_connection_over_the_limit(path: bytes, status: int) -> None:
    """When every connection is in use, a new one may ask for a probe and nothing else."""
    door = Door(echo_path, max_connections=2)
    for _ in range(2):
        door.connect().send(GET % b"a")
    newcomer = door.connect().send(GET % path)
    await until(lambda: newcomer.wire.ended)
    assert newcomer.statuses == [status]
    assert b"connection: close" in newcomer.wire.written
    assert newcomer.bodies[0].startswith(b'{"error"') == (path == b"v2")


async def test_connections_without_end() -> None:
    """Whatever connects, the open connections stay within the limit and its reserve."""
    door = Door(echo_path, max_connections=5)
    for _ in range(5):
        door.connect().send(GET % b"a")
    clients = [door.connect() for _ in range(200)]
    assert sum(not client.wire.closed for client in clients) == 16
    assert sample(door.metrics, "connections") == 21


async def test_exhaustion_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Connections over the limit are one line in the log a minute, with their number."""
    door = Door(echo_path, max_connections=1)
    for _ in range(50):
        door.connect()
    door.clock.advance(60)
    door.connect()
    door.connect()
    assert [vars(record)["refused"] for record in caplog.records] == [1, 49]


# --- the end


async def test_nothing_stays_of_a_lost_connection() -> None:
    """A lost connection is freed at once, without the collector, whatever it was doing."""
    door = Door(echo_path)
    gone = []
    gc.disable()
    try:
        for sent in (b"", GET[:9], REQUEST[:-1], GET % b"a", REQUEST * 3):
            client = door.connect().send(sent)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            client.protocol.connection_lost(ConnectionResetError())
            gone.append(weakref.ref(client.protocol))
            del client
        await until(lambda: not any(ref() for ref in gone))
    finally:
        gc.enable()


async def test_shutdown_answers_what_is_in_progress() -> None:
    """In a shutdown a request in progress is answered, and the connection closed after it."""
    client = Door(echo_path).connect().send(REQUEST[:-1])
    client.protocol.shutdown()
    client.send(REQUEST[-1:])
    await until(lambda: client.wire.closed)
    assert client.statuses == [200]
    assert b"connection: close" in client.wire.written


@pytest.mark.parametrize("says_close", [False, True])
async def test_shutdown_answers_pipelined_requests(says_close: bool) -> None:
    """In a shutdown pipelined requests are answered, too, even if the application would close."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = {"connection": "close"} if says_close else {}
        await PlainTextResponse(scope["path"], headers=headers)(scope, receive, send)

    client = Door(answer).connect().send(b"".join(GET % b"%d" % i for i in range(5)))
    client.protocol.shutdown()
    await until(lambda: client.wire.closed)
    assert client.bodies == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    *_, last = client.wire.written.split(b"HTTP/1.1 ")
    assert (client.wire.written.count(b"connection: close"), last.count(b"close")) == (1, 1)


async def test_two_line_header() -> None:
    """A header that would be two lines is never written."""

    async def split(scope: Scope, receive: Receive, send: Send) -> None:
        response = PlainTextResponse("a", headers={"x": "a\nb"})
        with pytest.raises(RuntimeError, match="a header must be one line"):
            await response(scope, receive, send)

    client = Door(split).connect().send(GET % b"a")
    await until(lambda: client.wire.closed)
    assert client.statuses == []


@pytest.mark.parametrize(("version", "expected"), [(b"1.1", b"chunked"), (b"1.0", b"close")])
async def test_body_of_unknown_length(version: bytes, expected: bytes) -> None:
    """A body in pieces is chunked, or ends with the connection in HTTP/1.0."""

    async def stream(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        await send({"type": "http.response.body", "body": b"c"})

    client = Door(stream).connect().send(head(HOST, line=b"GET /a HTTP/" + version))
    body = {b"1.1": b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"1.0": b"abc"}[version]
    await until(lambda: client.wire.written.endswith(body))
    assert expected in client.wire.written
