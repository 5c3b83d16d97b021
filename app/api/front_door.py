"""The front: FastAPI documents and routes; the routes that must be fast are reached at once."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

WrapStack = Callable[[ASGIApp], ASGIApp]


class RawRoute(APIRoute):
    """A documented route whose function is an ASGI application.

    Source:
        A bare FastAPI route takes half as much processor time again as a bare Starlette route, and
        that one more than half as much again as a bare ASGI application: docs/measurements.md.
    """

    def __init__(self, path: str, endpoint: ASGIApp, **arguments: Any) -> None:
        def documented() -> None:
            """A function for FastAPI to read: scope, receive and send are no parameters."""

        documented.__name__ = endpoint.__name__
        documented.__doc__ = endpoint.__doc__
        super().__init__(path, documented, **arguments)
        self.app = endpoint


class FrontDoor(FastAPI):
    """FastAPI with one middleware around everything, and a short way to raw routes.

    Args:
        wrap: Puts the outermost middleware around an application.
        arguments: FastAPI's own.
    """

    def __init__(self, *, wrap: WrapStack, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._enter = wrap(self._dispatch)
        self._raw_routes: dict[tuple[str, str], RawRoute] = {}

    def open(self) -> None:
        """All routes are there; from now on the raw ones are reached at once."""
        for route in self.routes:
            if isinstance(route, RawRoute) and "{" not in route.path:
                self._raw_routes |= {(method, route.path): route for method in route.methods or ()}

    def build_middleware_stack(self) -> ASGIApp:
        """Starlette's, but for its outermost part, which answers what nobody foresaw: ours does."""
        stack: Any = super().build_middleware_stack()
        inner: ASGIApp = stack.app
        return inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._enter(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            route = self._raw_routes.get((scope["method"], scope["path"]))
            if route is not None:
                scope["route"] = route
                await route.app(scope, receive, send)
                return
        await super().__call__(scope, receive, send)
