"""What every request gets: an id, a place in the metrics, an answer even to our own mistakes."""

import logging
import os
import random
import re
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.telemetry.logs import describe_exception
from app.telemetry.metrics import NO_MODEL, OTHER_ROUTE, Metrics

logger = logging.getLogger(__name__)

PROBLEM_JSON: Final = "application/problem+json"
CLIENT_GONE: Final = 499
"""The status under which a request is counted whose client did not wait for the answer."""

_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_CONTEXT: Final = "valence.context"
_PROBE: Final = "/readyz"


class ClientGoneError(Exception):
    """The client left; there is nobody to answer."""


class RequestContext:
    """What the rooms of the door tell each other about one request.

    Attributes:
        request_id: Taken from the request when it is sane, else made.
        model: The model's label in the metrics; set by the route.
        timeout: The header `X-Request-Timeout-Ms` as received.
        content_length: The header as received.
        body_unread: Whether some of the body may still be on its way.
        status: Of the answer.
        error: The class of what went wrong.
        rejected: The `reason` under which `rejected_total` counts the request.
    """

    __slots__ = (
        "body_unread",
        "content_length",
        "error",
        "model",
        "rejected",
        "request_id",
        "status",
        "timeout",
    )

    def __init__(self, scope: Scope) -> None:
        self.request_id = ""
        self.model = NO_MODEL
        self.timeout: bytes | None = None
        self.content_length: bytes | None = None
        self.body_unread = False
        self.status = CLIENT_GONE
        self.error = ""
        self.rejected = ""
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _SANE_ID.fullmatch(value):
                self.request_id = value.decode("ascii")
            elif name == b"x-request-timeout-ms":
                self.timeout = value
            elif name == b"content-length":
                self.content_length = value
                self.body_unread = value != b"0"
            elif name == b"transfer-encoding":
                self.body_unread = True
        if not self.request_id:
            self.request_id = make_request_id()


# Ids must differ, not be secret: the system's own source of randomness takes 20 times as long.
_random = random.Random()  # noqa: S311
os.register_at_fork(after_in_child=_random.seed)


def make_request_id() -> str:
    """For a request that brings none."""
    return f"{_random.getrandbits(128):032x}"


def context_of(scope: MutableMapping[str, Any]) -> RequestContext:
    """The context that the middleware made for a request."""
    context: RequestContext = scope[_CONTEXT]
    return context


class RequestMiddleware:
    """Plain ASGI, a few microseconds a request.

    Args:
        app: What answers.
        metrics: Where requests are counted.
        draining: Whether clients should not reuse their connection.
        answer_unexpected: The answer when the app raises, made from the request's id.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        draining: Callable[[], bool],
        answer_unexpected: Callable[[str], Response],
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._draining = draining
        self._answer_unexpected = answer_unexpected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; the lifespan passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        context = scope[_CONTEXT] = RequestContext(scope)
        answered = False

        async def send_with_headers(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                context.status = message["status"]
                headers = list(message.get("headers", ()))
                headers.append((b"x-request-id", context.request_id.encode("ascii")))
                # What is left of a body would be taken for the next request.
                if context.body_unread or self._draining():
                    headers.append((b"connection", b"close"))
                message["headers"] = headers
            await send(message)

        self._metrics.requests_in_flight.inc()
        try:
            await self._app(scope, receive, send_with_headers)
        except ClientGoneError:
            pass
        except Exception as error:  # noqa: BLE001 the last resort; it must not reach uvicorn's log
            context.error = type(error).__name__
            logger.error(  # noqa: TRY400 the formatter keeps messages of exceptions out
                "a request met an unexpected error",
                extra={"request_id": context.request_id} | describe_exception(error),
            )
            if not answered:
                response = self._answer_unexpected(context.request_id)
                await response(scope, receive, send_with_headers)
        finally:
            self._metrics.requests_in_flight.dec()
            self._count(scope, context, time.monotonic() - started)

    def _count(self, scope: Scope, context: RequestContext, seconds: float) -> None:
        """One request in the metrics; in the log when the fault is on this side.

        A refusal is debugging: whoever asks too much, or in too much of a hurry, could fill the
        log with them.
        """
        route: str = getattr(scope.get("route"), "path", OTHER_ROUTE)
        self._metrics.observe_request(route, context.model, context.status, seconds)
        if context.rejected:
            self._metrics.rejected.labels(context.rejected).inc()
        if context.rejected or (context.status >= 500 and route != _PROBE):  # it answers by 503
            logger.log(
                logging.DEBUG if context.rejected else logging.WARNING,
                "a request failed",
                extra={
                    "request_id": context.request_id,
                    "route": route,
                    "model": context.model,
                    "status": context.status,
                    "reason": context.error,
                    "duration_ms": round(seconds * 1e3, 3),
                },
            )
