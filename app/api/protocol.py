"""HTTP/1.1 on one connection: uvicorn's protocol, stricter on requests and cleaner on close."""

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
"""Request line and headers: as much as an event loop reads at once, more than proxies accept."""
_LINGER_S: Final = 5.0
_STATUS_LINE_START: Final = b"HTTP/1."
_LINGER_BYTES: Final = 64 * 2**20
"""A closing connection drops at most so much, for at most that long."""


class HTTPProtocol(HttpToolsProtocol):
    """Ignores `Upgrade`, limits the size of headers, and answers invalid HTTP with a problem.

    A server may ignore `Upgrade` (RFC 9110, section 7.8), which `curl --http2` and Java's
    HttpClient send with the first request of a connection. httptools stops parsing there and
    treats the body as the other protocol's, so the request is parsed again without the header.

    Args:
        refuse: Makes the response to invalid HTTP, and counts it.
        refuse_early: From the bytes of a request, the answer if it is refused before it is parsed.
        on_lost: Called when the connection has ended.
        arguments: The arguments of uvicorn's protocol.
    """

    def __init__(
        self,
        *,
        refuse: Callable[[], Response],
        refuse_early: Callable[[bytes], bytes | None] = lambda _data: None,
        on_lost: Callable[[], None] = lambda: None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self._refuse = refuse
        self._refuse_early = refuse_early
        self._on_lost = on_lost
        self._active_cycle: RequestResponseCycle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Start; uvicorn writes and closes through our transport."""
        self._closing = _Transport(transport, self.loop, self._expects_more)
        super().connection_made(cast("asyncio.Transport", self._closing))

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        super().connection_lost(exc)
        # Uvicorn notifies the last pipelined request only, which may not be the active one.
        if self._active_cycle is not None and not self._active_cycle.response_complete:
            self._active_cycle.disconnected = True
            self._active_cycle.message_event.set()
        self._on_lost()

    def data_received(self, data: bytes) -> None:
        """Parse received bytes; unlike uvicorn, log no warning for invalid ones."""
        if self._closing.is_closing():
            self._closing.drop(len(data))
            return
        if self._awaits_request() and (answer := self._refuse_early(data)) is not None:
            self._closing.write_whole(answer)
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
            return
        self._unset_keepalive_if_required()
        rest: bytes | memoryview = data
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    break
                except httptools.HttpParserUpgrade as upgrade:
                    rest = memoryview(rest)[upgrade.args[0] :]
                    self._parse_again_without_upgrade()
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        scope = cast("Mapping[str, Any] | None", self.scope)  # uvicorn fills it step by step
        if scope is None or "method" in scope:
            self._head_bytes = 0
        else:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.send_400_response("")

    def _awaits_request(self) -> bool:
        """Whether the next bytes begin a request, and every earlier one is answered."""
        cycle = self.cycle
        return self._head_bytes == 0 and (
            cycle is None or (cycle.response_complete and not cycle.more_body)
        )

    def send_400_response(self, msg: str) -> None:
        """Respond with 400 and close: the start of a next request is unknown."""
        response = self._refuse()
        headers = [*response.raw_headers, (b"connection", b"close")]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        body = bytes(response.body)
        self.transport.write(b"".join((STATUS_LINE[400], *lines, b"\r\n", body)))
        self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active_cycle = cycle
        super()._start_asgi_task(cycle, app)

    def _should_upgrade(self) -> bool:
        """Called at `Upgrade`: True makes uvicorn leave the request, which is then parsed again."""
        return True

    def _parse_again_without_upgrade(self) -> None:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        self.parser = httptools.HttpRequestParser(self)
        if method == b"CONNECT":  # not optional: everything after it belongs to a tunnel
            raise httptools.HttpParserError
        head = [method, b" ", self.url, b" HTTP/", version.encode(), b"\r\n"]
        for name, value in self.headers:
            if name != b"upgrade":
                head += (name, b": ", value, b"\r\n")
        self.parser.feed_data(b"".join((*head, b"\r\n")))

    def _expects_more(self) -> bool:
        """Whether the client is still sending a request; an idle connection closes at once."""
        endless_head = self._head_bytes > _MAX_HEAD_BYTES
        return endless_head or (self.cycle is not None and self.cycle.more_body)


class _Transport:
    """A transport that writes a response with one system call, and closes in stages.

    Uvicorn writes headers and body separately. A system call for each would be a tenth of the cost
    of a request, so the headers wait for the body, within the same iteration of the event loop.

    Closing a socket while the client sends a body makes the client's system discard the response.
    So the write side is closed first, and received bytes are dropped for a while (RFC 9112,
    section 9.6).
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
        self._droppable_bytes = 0
        self._closing_timer: asyncio.TimerHandle | None = None
        self._headers = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._headers:
            data = self._headers + data
            self._headers = b""
        elif data.startswith(_STATUS_LINE_START):
            self._headers = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def write_whole(self, data: bytes) -> None:
        """Write a whole response."""
        self._flush()
        self._transport.write(data)

    def _flush(self) -> None:
        if self._headers:
            self._transport.write(self._headers)
            self._headers = b""

    def is_closing(self) -> bool:
        return self._closing_timer is not None or self._transport.is_closing()

    def close(self) -> None:
        """Close: at once if the client is not sending, or if called a second time."""
        self._flush()
        if self.is_closing() or not self._expects_more():
            if self._closing_timer is not None:
                self._closing_timer.cancel()
            self._transport.close()
            return
        self._droppable_bytes = _LINGER_BYTES
        self._closing_timer = self._loop.call_later(_LINGER_S, self._transport.close)
        self._transport.write_eof()
        self._transport.resume_reading()

    def drop(self, count: int) -> None:
        """Count received bytes that are dropped; close when they are too many."""
        self._droppable_bytes -= count
        if self._droppable_bytes < 0:
            self.close()
