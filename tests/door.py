"""One connection's protocol on a transport in memory, with a clock that a test moves."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from app.api.connections import ConnectionLimits, Connections
from app.api.error_handlers import refuse_http
from app.api.middleware import ClientGoneError
from app.api.protocol import HTTPProtocol
from app.errors import ValenceError
from app.main import DIALECTS
from app.telemetry.metrics import Metrics
from tests.fakes import ManualClock

STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) ")


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and closes when told to.

    Attributes:
        written: The bytes of all responses.
        ended: Whether the write side was closed.
        closed: Whether the connection was closed.
        reading: Whether the protocol wants to read.
    """

    def __init__(self, on_close: Callable[[], None]) -> None:
        super().__init__()
        self.written = b""
        self.ended = self.closed = False
        self.reading = True
        self._on_close = on_close

    def write(self, data: Any) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.ended = self.closed = True
        self._on_close()

    abort = close

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Door:
    """A place where clients connect, whose clock a test moves."""

    def __init__(self, app: ASGIApp, **limits: float) -> None:
        self.metrics = Metrics()
        self.clock = ManualClock()
        bounds: Any = {
            "max_connections": 100,
            "header_timeout_s": 10.0,
            "keep_alive_s": 75.0,
            "min_body_bytes_per_s": 100,
            **limits,
        }
        self.connections = Connections(
            ConnectionLimits(**bounds),
            metrics=self.metrics,
            refuse=partial(refuse_http, self.metrics, dialects=DIALECTS),
            clock=self.clock,
        )

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            with contextlib.suppress(ClientGoneError):
                await app(scope, receive, send)

        self._config = Config(answer, lifespan="off", ws="none", log_config=None)
        self._config.load()

    def connect(self, **options: Any) -> "Client":
        return Client(self, self._config, options)

    def wait(self, seconds: float) -> None:
        """Let time pass, in sweeps of one second."""
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.connections.sweep()


class Client:
    """One connection, seen from the client."""

    def __init__(self, door: Door, config: Config, options: dict[str, Any]) -> None:
        self.protocol = HTTPProtocol(
            *(config, ServerState(), {}, asyncio.get_running_loop()),
            connections=door.connections,
            **options,
        )
        self.wire = Wire(partial(self.protocol.connection_lost, None))
        self.protocol.connection_made(self.wire)

    def send(self, *pieces: bytes) -> "Client":
        for piece in pieces:
            self.protocol.data_received(piece)
        return self

    @property
    def statuses(self) -> list[int]:
        """The statuses of the responses so far."""
        return [int(status) for status in STATUS_LINE.findall(self.wire.written)]

    @property
    def bodies(self) -> list[bytes]:
        """The bodies of the responses so far."""
        parts = STATUS_LINE.split(self.wire.written)[2::2]
        return [part.partition(b"\r\n\r\n")[2] for part in parts]


async def echo_path(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path, once the body has been read."""
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    await PlainTextResponse(scope["path"])(scope, receive, send)


async def report_errors(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the name of the error that the body raises."""
    try:
        await echo_path(scope, receive, send)
    except ValenceError as error:
        headers = {"connection": "close"}
        await PlainTextResponse(type(error).__name__, headers=headers)(scope, receive, send)
