"""Cross-origin resource sharing (CORS): which web pages of other origins may read answers."""

from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY: Final = "*"

_METHODS: Final = b"GET, HEAD, POST"
_HEADERS: Final = b"Authorization, Content-Type, X-API-Key, X-Request-ID, X-Request-Timeout-Ms"
_EXPOSED: Final = b"Retry-After, Server-Timing, X-Request-ID"
_MAX_AGE_S: Final = b"600"
_VARY: Final = (b"vary", b"Origin")

Pairs = tuple[tuple[bytes, bytes], ...]


class CrossOrigin:
    """ASGI middleware that lets the pages of some origins read answers, and answers preflights.

    Without it, browsers let no page of another origin do so. Cookies are never allowed: the
    service has none. A preflight of another origin gets an answer that allows nothing.

    Args:
        app: The application inside.
        origins: As browsers send them, such as `https://example.com`; or `*` alone, for all.
    """

    def __init__(self, app: ASGIApp, *, origins: Collection[str]) -> None:
        self._app = app
        self._any = ANY in origins
        self._allowed: dict[str, Pairs] = {
            origin: self._make_headers(origin.encode()) for origin in origins
        }
        self._others: Pairs = () if self._any else (_VARY,)

    def _make_headers(self, origin: bytes) -> Pairs:
        headers = (
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
        )
        return headers if self._any else (*headers, _VARY)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, or add headers to the answer of the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        own = self._allowed.get(ANY if self._any else asked.get("origin", ""), self._others)
        if scope["method"] == "OPTIONS" and "access-control-request-method" in asked:
            await self._answer_preflight(own, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    async def _answer_preflight(self, own: Pairs, send: Send) -> None:
        headers = list(own)
        if own != self._others:
            headers += (
                (b"access-control-allow-methods", _METHODS),
                (b"access-control-allow-headers", _HEADERS),
                (b"access-control-max-age", _MAX_AGE_S),
            )
        await send({"type": "http.response.start", "status": 204, "headers": headers})
        await send({"type": "http.response.body"})
