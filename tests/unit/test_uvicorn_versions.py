"""What the service overrides or reads of uvicorn, which promises none of it to stay.

`.ci/uvicorn` runs these tests, and those of connections, with the lowest and the newest version
that pyproject.toml allows.
"""

import inspect

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from app.api.protocol import HTTPProtocol
from app.server import Server
from tests.unit.test_protocol import REQUEST, connect

pytestmark = pytest.mark.anyio

PROTOCOL = {
    *("connection_made", "connection_lost", "data_received"),
    *("send_400_response", "_should_upgrade", "_start_asgi_task"),
}
SERVER = {"startup", "on_tick", "shutdown", "capture_signals", "handle_exit"}
CLASSES = ((HTTPProtocol, HttpToolsProtocol, PROTOCOL), (Server, uvicorn.Server, SERVER))


@pytest.mark.parametrize(("ours", "theirs", "names"), CLASSES)
def test_overridden_methods(ours: type, theirs: type, names: set[str]) -> None:
    """Every method meant to override one of uvicorn's does, and no other does by accident."""
    shared = vars(ours).keys() & vars(theirs).keys()
    assert {name for name in shared if not name.startswith("__")} == names


@pytest.mark.parametrize(("ours", "theirs", "names"), CLASSES)
def test_signatures(ours: type, theirs: type, names: set[str]) -> None:
    """A method takes the parameters of the one it overrides."""
    for name in names:
        mine, base = (inspect.signature(getattr(owner, name)) for owner in (ours, theirs))
        assert list(mine.parameters) == list(base.parameters), name


async def test_attributes_of_a_connection() -> None:
    """A connection that has read a request has what app/api/protocol.py reads and replaces."""

    async def wait(_scope: Scope, receive: Receive, _send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    protocol = connect(wait)
    protocol.data_received(REQUEST)
    for name in ("loop", "transport", "parser", "scope", "url", "headers", "cycle"):
        assert getattr(protocol, name) is not None, name
    protocol._unset_keepalive_if_required()
    cycle = protocol.cycle
    assert isinstance(cycle, RequestResponseCycle)
    assert (cycle.response_complete, cycle.disconnected, cycle.more_body) == (False, False, False)
    assert cycle.message_event.is_set()  # the whole request has come
    protocol.connection_lost(None)


def test_status_line() -> None:
    """The line that begins an answer is bytes, and `_Transport` recognises it."""
    assert STATUS_LINE[400] == b"HTTP/1.1 400 Bad Request\r\n"


def test_protocol_may_be_a_callable() -> None:
    """Config takes a partial of the protocol class, as app/server.py passes one."""

    def make() -> None: ...

    config = uvicorn.Config("app.main:app", http=make, ws="none", log_config=None)  # type: ignore[arg-type]
    config.app = make
    config.load()
    assert config.http_protocol_class is make


def test_attributes_of_a_server() -> None:
    """A server that has not started has what app/server.py reads and sets."""
    server = uvicorn.Server(uvicorn.Config("app.main:app", ws="none", log_config=None))
    assert (server.started, server.should_exit) == (False, False)
    assert isinstance(server.server_state, ServerState)
