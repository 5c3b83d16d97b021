"""The HTTP/1.1 protocol on one connection."""

import asyncio
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn import Config
from uvicorn.server import ServerState

from app.api.protocol import HTTPProtocol
from tests.fakes import until

pytestmark = pytest.mark.anyio

REQUEST = b"POST / HTTP/1.1\r\nHost: valence\r\nContent-Length: 2\r\n\r\n{}"


class Connection(asyncio.Transport):
    """A transport that never closes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def connect(app: ASGIApp, **options: Any) -> HTTPProtocol:
    """A connection to an application, on the running event loop."""
    config = Config(app, lifespan="off", ws="none", log_config=None)
    config.load()
    protocol = HTTPProtocol(
        refuse=Response,
        **options,
        config=config,
        server_state=ServerState(),
        app_state={},
        _loop=asyncio.get_running_loop(),
    )
    protocol.connection_made(Connection())
    return protocol


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


async def test_refused_early() -> None:
    """A request is refused before it is parsed only if every earlier one is answered."""
    answered = asyncio.Event()

    async def answer(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await answered.wait()
        await Response("ok")({"type": "http"}, receive, send)

    protocol = connect(answer, refuse_early=lambda _data: b"refused;")
    connection: Any = protocol.transport
    written = connection._transport
    protocol.data_received(REQUEST)
    assert written.written == b"refused;"
    protocol._refuse_early = lambda _data: None
    protocol.data_received(REQUEST)
    protocol._refuse_early = lambda _data: b"refused;"
    protocol.data_received(REQUEST)
    answered.set()
    await until(lambda: written.written.count(b"200 OK") == 2)
    assert written.written.count(b"refused;") == 1
    protocol.data_received(REQUEST)
    assert written.written.endswith(b"refused;")
    protocol.connection_lost(None)
