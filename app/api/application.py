"""FastAPI with direct dispatch: it documents every route, and the fast ones bypass its router."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

Middleware = Callable[[ASGIApp], ASGIApp]


class RawRoute(APIRoute):
    """A documented route whose endpoint is a plain ASGI application.

    Source:
        A FastAPI route takes 1.5 times the processor time of a Starlette route, which takes more
        than 1.5 times that of a plain ASGI application: docs/measurements.md.
    """

    def __init__(self, path: str, endpoint: ASGIApp, **arguments: Any) -> None:
        def documented() -> None:
            """FastAPI reads this signature: scope, receive and send are not parameters."""

        documented.__name__ = endpoint.__name__
        documented.__doc__ = endpoint.__doc__
        super().__init__(path, documented, **arguments)
        self.app = endpoint


class Application(FastAPI):
    """FastAPI with one middleware around everything and direct dispatch to raw routes.

    Args:
        wrap: Puts the outermost middleware around an application.
        arguments: The arguments of `FastAPI`.
    """

    def __init__(self, *, wrap: Middleware, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._outermost = wrap(self._dispatch)
        self._raw_routes: dict[tuple[str, str], RawRoute] = {}

    def index_raw_routes(self) -> None:
        """Index the raw routes for direct dispatch. Call it when all routes are registered."""
        for route in self.routes:
            if isinstance(route, RawRoute) and "{" not in route.path:
                self._raw_routes |= {(method, route.path): route for method in route.methods or ()}

    def build_middleware_stack(self) -> ASGIApp:
        """Starlette's stack without `ServerErrorMiddleware`: ours answers unexpected errors."""
        stack: Any = super().build_middleware_stack()
        inner: ASGIApp = stack.app
        return inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        await self._outermost(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            route = self._raw_routes.get((scope["method"], scope["path"]))
            if route is not None:
                scope["route"] = route
                await route.app(scope, receive, send)
                return
        await super().__call__(scope, receive, send)
