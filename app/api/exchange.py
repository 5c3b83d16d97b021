"""One request and its response: what an ASGI application is called with."""

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, Protocol

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Scope

from app.api.middleware import ClientGoneError
from app.errors import ValenceError

MAX_BUFFERED_BYTES: Final = 64 * 1024
"""So much of a body waits for the application before the connection is read no further."""
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_BODILESS: Final = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
_CLOSE: Final = b"connection: close\r\n"

Headers = Sequence[tuple[bytes, bytes]]


class Channel(Protocol):
    """The connection, as an exchange needs it."""

    write_paused: bool

    @property
    def has_queued(self) -> bool:
        """Whether requests wait behind the one that is answered."""
        ...

    @property
    def common_headers(self) -> Headers:
        """The headers of every response."""
        ...

    def write(self, data: bytes) -> None:
        """Write bytes."""
        ...

    async def written(self) -> None:
        """Wait until the client has read most of what was written."""
        ...

    def wants_body(self, exchange: "Exchange") -> None:
        """The application has taken what had come of a body."""
        ...

    def answered(self, exchange: "Exchange") -> None:
        """The response is complete."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class Exchange:
    """One request, from its complete head to the end of its response.

    Args:
        channel: The connection it came on.
        scope: The ASGI scope.
        keep_alive: Whether the connection may carry a next request.
        expects_continue: Whether the client waits for `100 Continue` before it sends the body.

    Attributes:
        scope: As passed in.
        keep_alive: As passed in; false once the response says `Connection: close`.
        more_body: Whether part of the body has not come yet.
        started: Whether part of the response was written.
        complete: Whether all of the response was written.
        disconnected: Whether the client has gone.
        prepared: A response that was made without the application; None to ask the application.
    """

    __slots__ = (
        "_body",
        "_channel",
        "_chunked",
        "_error",
        "_expects_continue",
        "_head",
        "_left",
        "_taken",
        "_waiter",
        "complete",
        "disconnected",
        "keep_alive",
        "more_body",
        "prepared",
        "scope",
        "started",
    )

    def __init__(
        self,
        channel: Channel,
        scope: Scope,
        *,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.more_body = True
        self.started = self.complete = self.disconnected = False
        self.prepared: Response | None = None
        self._channel = channel
        self._expects_continue = expects_continue
        self._body: bytes | bytearray = b""
        self._taken = False
        self._error: ValenceError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._head: tuple[int, Headers] | None = None
        self._chunked = False
        self._left: int | None = None

    async def run(self, app: ASGIApp) -> None:
        """Let the application answer. One that does not answer ends the connection."""
        try:
            await app(self.scope, self.receive, self.send)
        finally:
            if not (self.complete or self.disconnected):
                self._channel.abort()

    # --- the request

    def feed(self, piece: bytes) -> bool:
        """Add a piece of the body; returns whether enough of it waits for the application."""
        if self.complete or self.prepared is not None:
            return False  # dropped: nobody will ask for it
        if not self._body:
            self._body = piece
        elif isinstance(self._body, bytes):
            self._body = bytearray(self._body + piece)
        else:
            self._body += piece
        self._wake()
        return len(self._body) > MAX_BUFFERED_BYTES

    def end(self) -> None:
        """The body is complete."""
        self.more_body = False
        self._wake()

    def fail(self, error: ValenceError) -> None:
        """The rest of the body will not come; `receive` raises why."""
        self._error = error
        self.keep_alive = False
        self._wake()

    def disconnect(self) -> None:
        """The client has gone."""
        self.disconnected = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def receive(self) -> Message:
        """The next piece of the body; after the last one, the end of the connection.

        Raises:
            ValenceError: The body broke HTTP, or came too slowly.
        """
        if self._expects_continue and not self.started:
            self._expects_continue = False
            if self.more_body and not self.disconnected:
                self._channel.write(CONTINUE)
        while True:
            if self.disconnected or self.complete:
                return {"type": "http.disconnect"}
            if self._body or not (self.more_body or self._taken):
                body, self._body = self._body, b""
                self._taken = not self.more_body
                self._channel.wants_body(self)
                return {"type": "http.request", "body": bytes(body), "more_body": self.more_body}
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    # --- the response

    async def send(self, message: Message) -> None:
        """Write the response; its head waits for the first piece of its body.

        Raises:
            ClientGoneError: The client has gone.
            RuntimeError: The body is not as long as the head says.
        """
        if self.disconnected:
            raise ClientGoneError
        if self._channel.write_paused:
            await self._channel.written()
            if self.disconnected:
                raise ClientGoneError
        if message["type"] == "http.response.start":
            self._head = (message["status"], message.get("headers", ()))
            return
        self._write(message.get("body", b""), last=not message.get("more_body", False))
        if self.complete:
            self._channel.answered(self)

    def respond(self, response: Response) -> None:
        """Write a complete response. The channel is not told that it was answered."""
        self._head = (response.status_code, response.raw_headers)
        self._write(bytes(response.body), last=True)

    def _write(self, body: bytes, *, last: bool) -> None:
        head = b""
        if not self.started:
            head = self._make_head(body, last=last)
            self.started = True
        if self.scope["method"] == "HEAD":
            data = head
        elif self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            data = head + chunk + (b"0\r\n\r\n" if last else b"")
        else:
            if self._left is not None:
                self._left -= len(body)
                if self._left < 0 or (last and self._left):
                    raise RuntimeError("the body must be as long as its Content-Length")
            data = head + body
        if data:
            self._channel.write(data)
        self.complete = last

    def _make_head(self, body: bytes, *, last: bool) -> bytes:
        if self._head is None:
            raise RuntimeError("a response must start with its head")
        status, headers = self._head
        self._head = None
        lines = [_STATUS_LINES[status]]
        for name, value in (*self._channel.common_headers, *headers):
            if name == b"connection":
                # The application does not know of pipelined requests: they are answered first.
                if value == b"close" and (self.more_body or not self._channel.has_queued):
                    self.keep_alive = False
                continue
            if name == b"content-length":
                self._left = int(value)
            lines.append(name + b": " + value + b"\r\n")
        if self._left is None and status not in _BODILESS:
            if last:
                lines.append(b"content-length: %d\r\n" % len(body))
            elif self.scope["http_version"] == "1.0":
                self.keep_alive = False  # the end of the connection is the end of the body
            else:
                self._chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keep_alive:
            lines.append(_CLOSE)
        lines.append(b"\r\n")
        data = b"".join(lines)
        if data.count(b"\n") != len(lines):
            raise RuntimeError("a header must be one line")
        return data
