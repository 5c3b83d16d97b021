"""What the service overrides or reads of uvicorn, which promises none of it to stay.

`.ci/uvicorn` runs these tests, and those of connections, with the lowest and the newest version
that pyproject.toml allows.
"""

import inspect

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.server import Server

SERVER = {"startup", "on_tick", "shutdown", "capture_signals", "handle_exit"}


def test_overridden_methods() -> None:
    """Every method meant to override one of uvicorn's does, and no other does by accident."""
    shared = vars(Server).keys() & vars(uvicorn.Server).keys()
    assert {name for name in shared if not name.startswith("__")} == SERVER


@pytest.mark.parametrize("name", sorted(SERVER))
def test_signatures(name: str) -> None:
    """A method takes the parameters of the one it overrides."""
    mine, base = (inspect.signature(getattr(owner, name)) for owner in (Server, uvicorn.Server))
    assert list(mine.parameters) == list(base.parameters)


def test_protocol_may_be_a_callable() -> None:
    """Config takes a partial of the protocol class, as app/server.py passes one."""

    def make() -> None: ...

    config = uvicorn.Config("app.main:app", http=make, ws="none", log_config=None)  # type: ignore[arg-type]
    config.app = make
    config.load()
    assert config.http_protocol_class is make
    assert callable(config.loaded_app)


def test_attributes_of_a_server() -> None:
    """A server that has not started has what app/server.py and app/api/protocol.py use."""
    server = uvicorn.Server(uvicorn.Config("app.main:app", ws="none", log_config=None))
    assert (server.started, server.should_exit) == (False, False)
    state = server.server_state
    assert isinstance(state, ServerState)
    assert (state.connections, state.tasks, state.default_headers) == (set(), set(), [])


def test_arguments_of_a_protocol() -> None:
    """The server makes a protocol from these arguments, by name."""
    source = inspect.getsource(uvicorn.Server.startup)
    for argument in (
        "config=config",
        "server_state=self.server_state",
        "app_state=",
        "_loop=_loop",
    ):
        assert argument in source
