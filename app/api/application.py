"""FastAPI with direct dispatch: it documents every route, and the fast ones bypass its router."""

import re
from collections.abc import Callable
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

Middleware = Callable[[ASGIApp], ASGIApp]

_PARAMETER: Final = re.compile(r"\\{(\w+)\\}")
_ALL_METHODS: Final = {"GET", "HEAD", "OPTIONS", "POST"}
_ANY_ROUTE: Final = (405, 500)
"""The statuses of a wrong method and of an unexpected error."""
_MAX_KNOWN_PATHS: Final = 1024
_MAX_KNOWN_CHARS: Final = 256


class RawRoute(APIRoute):
    """A documented route whose endpoint is a plain ASGI application.

    Source:
        A FastAPI route takes 1.5 times the processor time of a Starlette route, which takes more
        than 1.5 times that of a plain ASGI application: docs/measurements.md.
    """

    flags = re.NOFLAG

    def __init__(self, path: str, endpoint: ASGIApp, **arguments: Any) -> None:
        def documented() -> None:
            """FastAPI reads this signature: scope, receive and send are not parameters."""

        documented.__name__ = endpoint.__name__
        documented.__doc__ = endpoint.__doc__
        extra = arguments.pop("openapi_extra", None) or {}
        in_path = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", path)
        ]
        extra = {**extra, "parameters": [*in_path, *extra.get("parameters", ())]}
        arguments["openapi_extra"] = extra
        super().__init__(path, documented, **arguments)
        self.app = endpoint
        template = _PARAMETER.sub(r"(?P<\1>[^/:]+)", re.escape(path))
        self.path_regex = re.compile(f"^{template}$", self.flags)


class AnyCaseRoute(RawRoute):
    """A raw route whose path may be in upper case, too."""

    flags = re.IGNORECASE


class Application(FastAPI):
    """FastAPI with one middleware around everything and direct dispatch to raw routes.

    Args:
        wrap: Puts the outermost middleware around an application.
        arguments: The arguments of `FastAPI`.
    """

    def __init__(self, *, wrap: Middleware, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._outermost = wrap(self._dispatch)
        self._patterns: list[RawRoute] = []
        self._known: dict[tuple[str, str], tuple[RawRoute, dict[str, str]]] = {}
        self._most_known = _MAX_KNOWN_PATHS

    def index_raw_routes(self) -> None:
        """Index the raw routes for direct dispatch. Call it when all routes are registered."""
        for route in self.routes:
            if isinstance(route, RawRoute):
                self._patterns.append(route)
                if "{" not in route.path:
                    self._known |= {(m, route.path): (route, {}) for m in route.methods or ()}
        self._most_known = len(self._known) + _MAX_KNOWN_PATHS

    def posts(self) -> list[str]:
        """The paths of all raw routes that take a body."""
        return [each.path for each in self._patterns if "POST" in (each.methods or ())]

    def statuses(self) -> dict[str, set[int]]:
        """What each documented route may answer with: what it says, and what any route may."""
        found: dict[str, set[int]] = {}
        for route in self.routes:
            if isinstance(route, APIRoute):
                documented = {route.status_code or 200, *map(int, route.responses)}
                found.setdefault(route.path, set()).update(documented, _ANY_ROUTE)
        return found

    def _find(self, method: str, path: str) -> tuple[RawRoute, dict[str, str]] | None:
        """The raw route of a path with parameters, and their values.

        Clients use the same few paths, so that a path costs one look-up after its first request.
        """
        for route in self._patterns:
            match = route.path_regex.match(path)
            if match is not None and method in (route.methods or ()):
                found = route, match.groupdict()
                if len(self._known) < self._most_known and len(path) <= _MAX_KNOWN_CHARS:
                    self._known[method, path] = found
                return found
        return None

    def build_middleware_stack(self) -> ASGIApp:
        """Starlette's stack without `ServerErrorMiddleware`: ours answers unexpected errors."""
        stack: Any = super().build_middleware_stack()
        inner: ASGIApp = stack.app
        return inner

    def methods_of(self, path: str) -> set[str]:
        """The methods that a path takes; none if there is no such path."""
        methods: set[str] = set()
        for route in self.routes:
            if isinstance(route, APIRoute | Route) and route.path_regex.match(path):
                methods |= route.methods or set()
        if "GET" in methods:
            methods.add("HEAD")
        return methods | {"OPTIONS"} if methods else methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan. A slash at the end of a path is ignored."""
        if scope["type"] == "http":
            path: str = scope["path"]
            if path.endswith("/") and len(path) > 1:
                scope["path"] = path[:-1]
        await self._outermost(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            key = scope["method"], scope["path"]
            found = self._known.get(key) or self._find(*key)
            if found is not None:
                scope["route"], scope["path_params"] = found
                await found[0].app(scope, receive, send)
                return
            if key[0] == "OPTIONS" and await self._answer_options(key[1], send):
                return
            if key[0] == "HEAD" and "GET" in self.methods_of(key[1]):
                # The server leaves the body out, by the method of its own scope.
                as_get = {**scope, "method": "GET"}
                await self._dispatch(as_get, receive, send)
                scope["route"] = as_get.get("route")
                return
        await super().__call__(scope, receive, send)

    async def _answer_options(self, path: str, send: Send) -> bool:
        """Answer with the methods of a path; returns whether there is one."""
        methods = _ALL_METHODS if path == "*" else self.methods_of(path)
        if methods:
            headers = [(b"allow", ", ".join(sorted(methods)).encode())]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body"})
        return bool(methods)
