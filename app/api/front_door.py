"""The front: FastAPI documents and routes; the routes that must be fast are reached at once."""

from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

WrapStack = Callable[[ASGIApp], ASGIApp]


class RawRoute(APIRoute):
    """A documented route whose function is an ASGI application.

    Source:
        FastAPI's own way to a function and back (five middlewares, matching, models in and out)
        costs more than all that Valence does to a text: docs/measurements.md.
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
        self._wrap: Final = wrap
        super().__init__(**arguments)

    def build_middleware_stack(self) -> ASGIApp:
        """Called by Starlette at the first request, when all routes are there."""
        routes = {
            (method, route.path): route
            for route in self.routes
            if isinstance(route, RawRoute) and "{" not in route.path
            for method in route.methods or ()
        }
        the_long_way = super().build_middleware_stack()

        async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
            route = routes.get((scope["method"], scope["path"])) if "method" in scope else None
            if route is None:
                await the_long_way(scope, receive, send)
            else:
                scope["route"] = route
                await route.app(scope, receive, send)

        return self._wrap(dispatch)
