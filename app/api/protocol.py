"""HTTP/1.1 on one connection: requests are parsed, answered in their order, and kept in time."""

import asyncio
import fcntl
import socket
import struct
import termios
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from starlette.types import ASGIApp, Scope
from uvicorn import Config
from uvicorn.server import ServerState

from app.api.connections import PROBES, Connections
from app.api.exchange import CONTINUE, Exchange, Headers
from app.api.framing import (
    FRAMING_HEADERS,
    MAX_HEAD_BYTES,
    MAX_TARGET_BYTES,
    Header,
    check_head,
    classify_parse_error,
    size_of_head,
)
from app.errors import InvalidHTTP, RequestTimeout

_LINGER_S: Final = 5.0
_LINGER_BYTES: Final = 64 * 2**20
"""A closing connection drops at most so much, for at most that long."""
_FIRST_REQUEST_S: Final = 0.1
"""In a shutdown, how long a new connection may take to send its first request."""
_MAX_QUEUED: Final = 8
"""So many pipelined requests wait before the connection is parsed and read no further."""
_SLICE_BYTES: Final = 16 * 1024
"""A larger read is parsed in slices. One read can hold thousands of requests, each of which takes
twenty times the memory of its bytes."""
_PROBE_S: Final = 0.05
"""How often a client that has closed its side is looked for while its request is in progress."""
_MAX_WITHOUT_BODY: Final = 2 * MAX_HEAD_BYTES
"""So much may come of a chunked body without a byte of content: the parser keeps trailers, which no
limit of bodies counts. The head may be part of the first read."""

_NOTHING, _HEAD, _BODY = range(3)
"""What the connection is in the middle of."""


class HTTPProtocol(asyncio.Protocol):
    """One connection, for uvicorn's server.

    **Order.** Pipelined requests are answered one after the other. What breaks HTTP is answered
    after them, and then the connection is closed: the start of a next request is unknown.

    **Upgrade** is ignored, as a server may (RFC 9110, section 7.8): `curl --http2` and Java's
    HttpClient send it with the first request of a connection. httptools stops parsing there and
    treats the body as the other protocol's, so the request is parsed again without the header.

    **A client that closes its side** after a request still gets the response. From here it looks
    the same as one that has left. `100 Continue`, which clients must ignore (RFC 9110, section
    15.2), makes the system of one that has left answer with RST.

    **Closing in stages.** Closing a socket while the client sends makes the client's system
    discard the response. So the write side is closed first, and received bytes are dropped for a
    while (RFC 9112, section 9.6).

    Args:
        config: Uvicorn's; it has the application.
        server_state: Uvicorn's; it has the tasks that a shutdown waits for.
        app_state: The state of the lifespan.
        _loop: The event loop.
        connections: All connections, and their limits.
        app: The application, if it is not the one in `config`.
        refuse_early: From the bytes of a request, the answer if it is refused before it is parsed.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
        app: ASGIApp | None = None,
        refuse_early: Callable[[bytes], bytes | None] | None = None,
    ) -> None:
        self.write_paused = False
        self._loop = _loop or asyncio.get_running_loop()
        self._state = server_state
        self._app = app or cast("ASGIApp", config.loaded_app)
        self._connections = connections
        self._refuse_early = refuse_early
        self._parser: httptools.HttpRequestParser | None = self._make_parser()
        self._transport: asyncio.Transport | None = None
        self._template: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "http",
            "root_path": "",
            "server": None,  # nobody asks for the addresses, and each is a system call
            "client": None,
            "state": app_state,
        }
        # The message that is being received.
        self._url = b""
        self._headers: list[Header] = []
        self._framing: list[Header] = []
        self._phase = _NOTHING
        self._received = 0  # bytes of its head before this read; then bytes since its body began
        self._read_bytes = 0
        self._read_ends_message = self._read_has_body = False
        self._body_bytes = 0  # of the body that is being received
        self._without_body = 0  # bytes of the reads in a row that brought nothing of a body
        self._timed = False
        self._began_behind = False  # in a read that began with another message: not measured
        self._fault = 0
        # Requests: one is answered, the others wait; the last of them may still be received.
        self._active: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        self._incoming: Exchange | None = None
        # The connection.
        self._since = 0.0  # when it became idle, or began to wait for the rest of a head or body
        self._new = True
        self._may_ask_all = True
        self._refusal = 0
        self._deaf = self._eof = self._last = self._read_paused = False
        self._unparsed = memoryview(b"")  # what was read behind the requests that wait
        self._closing = self._lingering = self._probed = False
        self._droppable_bytes = _LINGER_BYTES
        self._writable: asyncio.Future[None] | None = None

    # --- the connection, called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._since = self._connections.clock()
        self._may_ask_all = self._connections.add(self, self._loop)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended. Nothing of it stays."""
        self._connections.remove(self)
        for exchange in (self._active, *self._queue, self._incoming):
            if exchange is not None and not exchange.complete:
                exchange.disconnect()
        self._queue.clear()
        self._unparsed = self._unparsed[:0]
        self._active = self._incoming = None
        self._parser = self._transport = None  # they hold this object
        self._closing = True
        self.resume_writing()

    def eof_received(self) -> bool:
        """The client has closed its side; returns whether it may still get responses."""
        self._eof = True
        if self._closing or self._active is None:
            return False
        if self._phase == _BODY and self._incoming is not None:
            if self._incoming is self._active:
                return False  # the rest of the request will never come
            self._queue.remove(self._incoming)
        self._phase = _NOTHING
        self._loop.call_later(_PROBE_S, self._find_client)
        return True

    def pause_writing(self) -> None:
        """The client does not read what was written."""
        self.write_paused = True
        self._since = self._connections.clock()

    def resume_writing(self) -> None:
        """The client reads again, or has gone."""
        self.write_paused = False
        self._since = self._connections.clock()
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    def data_received(self, data: bytes) -> None:
        """Parse received bytes."""
        if self._closing or self._deaf:
            self._drop(len(data))
            return
        if self._refuse_early is not None and self._awaits_request():
            answer = self._refuse_early(data)
            if answer is not None:
                self._note_head()
                self.write(answer)
                self._since = self._connections.clock()
                return
        if len(data) <= _SLICE_BYTES:
            self._receive(data)
        else:
            self._unparsed = memoryview(data)
            self._receive_slices()

    def _receive_slices(self) -> None:
        """Parse a large read until enough requests wait; `_resume_reading` parses the rest."""
        while self._unparsed and len(self._queue) < _MAX_QUEUED:
            size = max(_SLICE_BYTES, self._body_left())
            data, self._unparsed = self._unparsed[:size], self._unparsed[size:]
            if self._closing or self._deaf:
                self._drop(len(data))
            else:
                self._receive(data)

    def _body_left(self) -> int:
        """How many bytes belong to the body that is being received; 0 if that is unknown."""
        if self._phase == _BODY and self._incoming is not None:
            for name, value in self._incoming.scope["headers"]:
                if name == b"content-length":
                    return int(value) - self._body_bytes
        return 0

    def _receive(self, data: bytes | memoryview) -> None:
        self._read_bytes = len(data)
        self._read_ends_message = self._read_has_body = False
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            start = b"" if self._read_ends_message else bytes(data)
            self._reject(self._fault or classify_parse_error(str(error), start))
            return
        if self._phase != _NOTHING:
            self._note_incomplete()

    # --- the connection, called by the server and by the sweep

    def shutdown(self) -> None:
        """Close as soon as every request that was received is answered.

        A client must repeat those behind the response with `Connection: close` (RFC 9112, section
        9.6): of pipelined requests, what was not parsed yet.
        """
        self._last = True
        if self._active is not None:
            (self._queue[-1] if self._queue else self._active).keep_alive = False
        elif self._new and self._phase == _NOTHING:
            self._loop.call_later(_FIRST_REQUEST_S, self._close_if_idle)
        else:
            self._close_if_idle()

    def enforce(self, now: float) -> None:
        """Close, or answer 408, if the client has been too slow."""
        limits, waited = self._connections.limits, now - self._since
        if self._closing:
            if waited > (_LINGER_S if self._lingering else limits.write_timeout_s):
                self.abort()
        elif self.write_paused:
            if waited > limits.write_timeout_s:
                self.abort()
        elif self._phase == _HEAD:
            if waited > limits.header_timeout_s and not self._read_paused:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        elif self._phase == _BODY:
            least = (waited - limits.body_grace_s) * limits.min_body_bytes_per_s
            if self._received < least and not (self._read_paused or self._deaf):
                self._give_up_body()
        elif self._active is None:
            longest_s = limits.header_timeout_s if self._new else limits.keep_alive_s
            if waited > longest_s:
                self._close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # --- the parser

    def _make_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # What follows a request with `Connection: close` is ignored, not an error.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _parse(self, rest: bytes | memoryview) -> None:
        while rest and self._parser is not None:
            try:
                self._parser.feed_data(rest)
                rest = b""
            except httptools.HttpParserUpgrade as upgrade:
                rest = memoryview(rest)[upgrade.args[0] :]
                self._parse_again_without_upgrade(self._parser)

    def _parse_again_without_upgrade(self, parser: httptools.HttpRequestParser) -> None:
        method, version = parser.get_method(), parser.get_http_version()
        if method == b"CONNECT":  # not optional: everything after it belongs to a tunnel
            raise httptools.HttpParserError
        head = [method, b" ", self._url, b" HTTP/", version.encode(), b"\r\n"]
        for name, value in self._headers:
            if name != b"upgrade":
                head += (name, b": ", value, b"\r\n")
        self._parser = self._make_parser()
        self._parser.feed_data(b"".join((*head, b"\r\n")))

    def on_message_begin(self) -> None:
        """A request begins."""
        self._phase = _HEAD
        self._timed = self._began_behind = False
        self._received = 0
        self._url = b""
        self._headers = []
        self._framing = []

    def on_url(self, url: bytes) -> None:
        """Part of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is ignored."""
        if self._phase == _BODY:
            return
        name = name.lower()
        header = (name, value)
        self._headers.append(header)
        if name in FRAMING_HEADERS:
            self._framing.append(header)

    def on_headers_complete(self) -> None:
        """The head is complete: begin to answer, or wait for the answers before."""
        parser = self._parser
        if parser is None or parser.should_upgrade():
            return
        version, target, headers = parser.get_http_version(), self._url, self._headers
        fault = check_head(version, target, self._framing)
        received = self._received + self._read_bytes
        may_be_large = self._began_behind or received > MAX_HEAD_BYTES
        if not fault and may_be_large and size_of_head(target, headers) > MAX_HEAD_BYTES:
            fault = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        if fault:
            self._fault = fault
            raise httptools.HttpParserError  # stops the parser
        self._note_head()
        self._phase = _BODY
        self._timed = False
        self._received = self._without_body = self._body_bytes = 0
        raw_path, query = _split_target(target)
        path = _decode_path(raw_path)
        exchange = Exchange(
            self,
            {
                **self._template,
                "http_version": version,
                "method": parser.get_method().decode("ascii"),
                "path": path,
                "raw_path": raw_path,
                "query_string": query,
                "headers": headers,
            },
            keep_alive=version == "1.1" and parser.should_keep_alive() and not self._last,
            expects_continue=len(self._framing) > 1 and self._expects_continue(version),
        )
        self._incoming = exchange
        if not self._may_ask_all:
            exchange.keep_alive = False
            if path not in PROBES:
                full = HTTPStatus.SERVICE_UNAVAILABLE
                exchange.prepared = self._connections.refuse(full, path)
        if self._active is None:
            self._answer(exchange)
        else:
            self._queue.append(exchange)
            if len(self._queue) >= _MAX_QUEUED:
                self._pause_reading()

    def _awaits_request(self) -> bool:
        """Whether the next bytes begin a request, and every earlier one is answered."""
        return (
            self._phase == _NOTHING
            and self._active is None
            and self._may_ask_all
            and not self._last
            and not self.write_paused  # else answers that nobody reads would pile up
        )

    def _note_head(self) -> None:
        """The head of a request is complete."""
        if self._new:
            self._new = False
            self._connections.note_head(self)

    def _expects_continue(self, version: str) -> bool:
        return version == "1.1" and any(name == b"expect" for name, _ in self._framing)

    def on_body(self, piece: bytes) -> None:
        """Part of the body."""
        self._read_has_body = True
        self._body_bytes += len(piece)
        if self._incoming is not None and self._incoming.feed(piece):
            self._pause_reading()

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._phase = _NOTHING
        self._read_ends_message = True
        exchange, self._incoming = self._incoming, None
        if exchange is not None:
            exchange.end()
            if exchange.complete and self._active is None:
                self._rest()  # it was answered before its body had come

    def _note_incomplete(self) -> None:
        """A head or a body goes on in a later read: note since when, and check the size."""
        if not self._timed:
            self._timed = True
            if not self._new:  # the first head is timed from the opening of the connection
                self._since = self._connections.clock()
            if self._read_ends_message:  # this read began with an earlier message
                self._read_bytes = size_of_head(self._url, self._headers)
                self._began_behind = True
        self._received += self._read_bytes
        if self._phase == _HEAD:
            if not self._headers and len(self._url) > MAX_TARGET_BYTES:
                self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)
            elif self._received > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return
        self._without_body = 0 if self._read_has_body else self._without_body + self._read_bytes
        if self._without_body > _MAX_WITHOUT_BODY:
            self._reject(HTTPStatus.BAD_REQUEST)

    # --- refusals

    def _reject(self, status: int) -> None:
        """What was received breaks HTTP."""
        exchange = self._incoming
        if self._phase != _BODY or exchange is None:
            self._refuse(status)
            return
        self._deaf = True
        if exchange.complete:
            self._close(linger=True)
        else:
            exchange.fail(InvalidHTTP("the body must be framed as its headers say"))

    def _give_up_body(self) -> None:
        """The body comes too slowly."""
        exchange = self._incoming
        self._deaf = True
        if exchange is None or exchange.complete:
            self._close()
            return
        rate = self._connections.limits.min_body_bytes_per_s
        exchange.fail(RequestTimeout(f"the body must arrive at {rate} bytes per second or faster"))

    def _refuse(self, status: int) -> None:
        """Answer with a status and close, after the requests before."""
        self._deaf = True
        self._phase = _NOTHING
        self._refusal = status
        if self._active is None:
            self._write_refusal()

    def _write_refusal(self) -> None:
        scope = {**self._template, "method": "GET", "headers": []}
        exchange = Exchange(self, scope, keep_alive=False, expects_continue=False)
        exchange.respond(self._connections.refuse(self._refusal, _path_so_far(self._url)))
        # Nothing is on its way from a client that is too slow.
        self._close(linger=self._refusal != HTTPStatus.REQUEST_TIMEOUT)

    # --- responses, called by the exchanges

    @property
    def has_queued(self) -> bool:
        """Whether requests wait behind the one that is answered."""
        return bool(self._queue)

    @property
    def common_headers(self) -> Headers:
        """The headers of every response."""
        return self._state.default_headers

    def write(self, data: bytes) -> None:
        """Write bytes; a connection that has ended takes none."""
        if self._transport is not None:
            self._transport.write(data)

    async def written(self) -> None:
        """Wait until the client has read most of what was written."""
        if self._writable is None:
            self._writable = self._loop.create_future()
        await asyncio.shield(self._writable)

    def wants_body(self, exchange: Exchange) -> None:
        """The application has taken what had come of a body: read on, if that is the next."""
        if self._read_paused and len(self._queue) < _MAX_QUEUED and exchange is self._active:
            self._resume_reading()

    def answered(self, exchange: Exchange) -> None:
        """A response is complete: answer the next request, close, or wait for one."""
        self._active = None
        if self._closing:
            return
        if not exchange.keep_alive:
            self._close(linger=exchange.more_body or self._deaf or bool(self._queue))
        elif self._queue:
            self._answer(self._queue.popleft())
            if len(self._queue) < _MAX_QUEUED and self._read_paused:
                self._resume_reading()
        elif not exchange.more_body:
            self._rest()

    def _answer(self, exchange: Exchange) -> None:
        """Answer a request."""
        if exchange.prepared is not None:
            exchange.respond(exchange.prepared)
            self._close(linger=True)
            return
        self._active = exchange
        task = self._loop.create_task(exchange.run(self._app))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)

    def _rest(self) -> None:
        """No request is left to answer."""
        if self._refusal:
            self._write_refusal()
        elif self._eof:
            self._close()
        elif self._phase == _NOTHING:
            self._since = self._connections.clock()
            if self._last:
                self._close_if_idle()

    # --- the end

    def _close_if_idle(self) -> None:
        """Close, unless a request is in progress or has arrived; that one is the last."""
        if self._closing or self._active is not None or self._phase != _NOTHING:
            return
        if not self._has_unread_bytes():
            self._close()

    def _close(self, *, linger: bool = False) -> None:
        """Close when everything is written; in stages if the client may be sending."""
        if self._closing or self._transport is None:
            return
        self._closing = True
        self._since = self._connections.clock()
        self._queue.clear()
        if linger and not self._eof:
            self._lingering = True
            self._transport.write_eof()
            self._resume_reading()
        else:
            self._transport.close()

    def _drop(self, count: int) -> None:
        """Drop received bytes; close when they are too many."""
        self._droppable_bytes -= count
        if self._droppable_bytes < 0:
            self.abort()

    def _pause_reading(self) -> None:
        if self._transport is not None and not (self._read_paused or self._closing):
            self._read_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._transport is None or not self._read_paused:
            return
        if self._phase != _NOTHING:  # what the server did not read was not late
            self._since = self._connections.clock()
            if self._phase == _BODY:
                self._received = 0
        if self._unparsed:
            self._receive_slices()
        if self._transport is not None and (len(self._queue) < _MAX_QUEUED or self._closing):
            self._read_paused = False
            self._transport.resume_reading()

    def _has_unread_bytes(self) -> bool:
        """Whether bytes have arrived that the event loop has not read yet."""
        count = bytes(4)
        if self._transport is not None:
            descriptor = self._transport.get_extra_info("socket").fileno()
            count = fcntl.ioctl(descriptor, termios.FIONREAD, count)
        return bool(struct.unpack("i", count)[0])

    def _find_client(self) -> None:
        """End the connection of a client that has left; one that only closed its side waits."""
        if self._active is None or self._closing or self._transport is None:
            return
        if not self._probed and not self._active.started:
            self._probed = True
            if self._active.scope["http_version"] == "1.1":
                self._transport.write(CONTINUE)
        sock: socket.socket = self._transport.get_extra_info("socket")
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._transport.abort()
            return
        self._loop.call_later(_PROBE_S, self._find_client)


def _split_target(target: bytes) -> tuple[bytes, bytes]:
    """The path and the query of a request target, which is a path, `*` or a whole URL.

    Raises:
        httptools.HttpParserInvalidURLError: It is none of these.
    """
    if target.startswith(b"/"):
        path, _, query = target.partition(b"#")[0].partition(b"?")
        return path, query
    if target == b"*":
        return target, b""
    url = httptools.parse_url(target)
    return url.path or b"/", url.query or b""


def _decode_path(raw_path: bytes) -> str:
    path = raw_path.decode("latin-1")
    return unquote(path) if "%" in path else path


def _path_so_far(target: bytes) -> str:
    """The path of a target of which more may have been to come; empty if there is none yet."""
    try:
        return _decode_path(_split_target(target)[0]) if target else ""
    except httptools.HttpParserInvalidURLError:
        return ""
