"""HTTP/1.1 on one connection: uvicorn's, with better manners at its beginning and its end."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import httptools
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

_MAX_HEAD_BYTES: Final = 256 * 1024
"""Of a request line and headers: as much as an event loop reads at once, and more than proxies."""
_LINGER_S: Final = 5.0
_STATUS_LINE_START: Final = b"HTTP/1."
_LINGER_BYTES: Final = 64 * 2**20


class HTTPProtocol(HttpToolsProtocol):
    """Ignores offers to upgrade, bounds the head of a request, and refuses noise with a problem.

    A server may ignore an offer (RFC 9110, section 7.8), and curl --http2 and Java's HttpClient
    make one with every first request. httptools stops at it and takes the body for the other
    protocol, so the request is read again without the offer.

    Args:
        refuse: Makes the answer to what is not HTTP, and counts it.
        on_lost: Called when the connection has ended.
        arguments: Uvicorn's own.
    """

    def __init__(
        self,
        *,
        refuse: Callable[[], Response],
        on_lost: Callable[[], None] = lambda: None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self._refuse = refuse
        self._on_lost = on_lost
        self._answering: RequestResponseCycle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Begin; uvicorn closes through a transport that takes its time."""
        self._closing = _Transport(transport, self.loop, self._expects_more)
        super().connection_made(cast("asyncio.Transport", self._closing))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, one way or another."""
        super().connection_lost(exc)
        # Uvicorn tells the request that came last, which need not be the one that is answered.
        if self._answering is not None and not self._answering.response_complete:
            self._answering.disconnected = True
            self._answering.message_event.set()
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        """Read what has come; uvicorn would write a warning into the log for each oddity."""
        if self._closing.is_closing():
            self._closing.drop(len(data))
            return
        self._unset_keepalive_if_required()
        rest: bytes | memoryview = data
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    break
                except httptools.HttpParserUpgrade as offer:
                    rest = memoryview(rest)[offer.args[0] :]
                    self._read_again_without_offer()
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        scope = cast("Mapping[str, Any] | None", self.scope)  # uvicorn fills it bit by bit
        if scope is None or "method" in scope:
            self._head_bytes = 0
        else:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.send_400_response("")

    def send_400_response(self, msg: str) -> None:
        """Refuse and close: where the next request would begin is anybody's guess."""
        response = self._refuse()
        headers = [*response.raw_headers, (b"connection", b"close")]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        body = bytes(response.body)
        self.transport.write(b"".join((STATUS_LINE[400], *lines, b"\r\n", body)))
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def _should_upgrade(self) -> bool:
        """Asked at an offer: True leaves the request alone until it is read again."""
        return True

    def _read_again_without_offer(self) -> None:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        self.parser = httptools.HttpRequestParser(self)
        if method == b"CONNECT":  # is no offer but a demand: whatever follows is for a tunnel
            raise httptools.HttpParserError
        head = [method, b" ", self.url, b" HTTP/", version.encode(), b"\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                head += (name, b": ", value, b"\r\n")
        self.parser.feed_data(b"".join((*head, b"\r\n")))

    def _expects_more(self) -> bool:
        """Whether part of a request is on its way; an idle connection may go at once."""
        endless_head = self._head_bytes > _MAX_HEAD_BYTES
        return endless_head or (self.cycle is not None and self.cycle.more_body)


class _Transport:
    """A transport that writes an answer at once, and closes in stages.

    Uvicorn writes head and body apart. A call of the system for each would be a tenth of all that
    a request costs, so the head waits for what follows it in the same turn of the event loop.

    Closing while a body is on its way makes the client's system throw our answer away. So we say
    that nothing more will come from here, and drop what comes for a while (RFC 9112, section 9.6).
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        expects_more: Callable[[], bool],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._expects_more = expects_more
        self._left = 0
        self._end: asyncio.TimerHandle | None = None
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data = self._head + data
            self._head = b""
        elif data.startswith(_STATUS_LINE_START):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def _flush(self) -> None:
        if self._head:
            self._transport.write(self._head)
            self._head = b""

    def is_closing(self) -> bool:
        return self._end is not None or self._transport.is_closing()

    def close(self) -> None:
        """Close; at once when nothing is expected, or when asked a second time."""
        self._flush()
        if self.is_closing() or not self._expects_more():
            if self._end is not None:
                self._end.cancel()
            self._transport.close()
            return
        self._left = _LINGER_BYTES
        self._end = self._loop.call_later(_LINGER_S, self._transport.close)
        self._transport.write_eof()
        self._transport.resume_reading()

    def drop(self, count: int) -> None:
        """So many bytes have come; nobody reads them."""
        self._left -= count
        if self._left < 0:
            self.close()
