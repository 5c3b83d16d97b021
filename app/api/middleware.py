"""What every request gets: an id, a place in the metrics, a response to unexpected errors too."""

import logging
import math
import os
import random
import re
import time
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.body import Bodies
from app.api.codings import choose_coding, packing
from app.api.dialects import Dialect
from app.api.security_headers import EVERYWHERE
from app.serving.predictor import Result
from app.telemetry.logs import describe_exception
from app.telemetry.metrics import CLIENT_GONE, NO_MODEL, NO_VERSION, OTHER_ROUTE, Metrics

logger = logging.getLogger(__name__)

PROBLEM_JSON: Final = "application/problem+json"

WHITESPACE: Final = b" \t"
"""What is no part of a header's value at its ends (RFC 9110, 5.5); uvicorn leaves it behind one."""
VALID_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_READ: Final = frozenset(
    {
        *(b"content-length", b"x-request-id", b"x-request-timeout-ms", b"accept-encoding"),
        *(b"content-encoding", b"transfer-encoding"),
    }
)
"""The headers that a context has."""
PREFIX_CHARS: Final = len("/v2")
"""So much of a path tells the protocol."""
LogRequest = Callable[["Scope", "RequestContext", str, float], None]
"""Logs a request from its scope, its context, its route and its seconds."""
NO_DIALECTS: Final[Mapping[str, Dialect]] = {}
_CONTEXT: Final = "valence.context"
_READINESS_PROBES: Final = frozenset(
    {
        *("/readyz", "/v2/health/ready", "/v2/models/{model}/ready"),
        "/v2/models/{model}/versions/{version}/ready",
    }
)
"""They answer 503 by design."""


class ClientGoneError(Exception):
    """The client has disconnected, so no response can be sent."""


class RequestContext:
    """The state of one request, shared by the middleware, the route and the error handlers.

    Attributes:
        request_id: Taken from the request if valid, else generated.
        model: The model's label in the metrics; set by the route.
        version: The version that answers; set by the route.
        texts: How many valid texts it has; set by the route.
        protection: The headers of `security_headers` that the answer gets.
        timeout: The header `X-Request-Timeout-Ms` as received.
        content_length: The header as received.
        content_encoding: The header as received.
        accept_encoding: The header as received.
        body_bytes: The bytes of the body that have been received by the application.
        body_unread: Whether part of the body may not have arrived.
        status: The status of the response.
        error: The class name of the exception that ended the request.
        rejected: The `reason` in the metric `rejected_total`; empty if it is not counted there.
        explained: Whether it asks for explanations; set by the route.
        result: What was predicted; set by the route.
        dialect: How the client reads errors; None: as problem details.
    """

    __slots__ = (
        "accept_encoding",
        "body_bytes",
        "body_unread",
        "content_encoding",
        "content_length",
        "dialect",
        "error",
        "explained",
        "model",
        "protection",
        "rejected",
        "request_id",
        "result",
        "status",
        "texts",
        "timeout",
        "version",
    )

    def __init__(self, scope: Scope, dialect: Dialect | None = None) -> None:
        self.dialect = dialect
        self.request_id = ""
        self.model = NO_MODEL
        self.explained = False
        self.version = NO_VERSION
        self.texts = 0
        self.protection = EVERYWHERE
        self.timeout: bytes | None = None
        self.content_length: bytes | None = None
        self.content_encoding: bytes | None = None
        self.accept_encoding: bytes | None = None
        self.body_bytes = 0
        self.body_unread = False
        self.status = CLIENT_GONE
        self.error = ""
        self.rejected = ""
        self.result: Result | None = None
        for name, value in scope["headers"]:
            if name not in _READ:
                continue
            if name == b"content-length":
                self.content_length = value
                self.body_unread = value != b"0"
            elif name == b"x-request-id":
                if VALID_ID.fullmatch(trimmed := value.strip(WHITESPACE)):
                    self.request_id = trimmed.decode("ascii")
            elif name == b"x-request-timeout-ms":
                self.timeout = value.strip(WHITESPACE)
            elif name == b"accept-encoding":
                self.accept_encoding = value
            elif name == b"content-encoding":
                self.content_encoding = value
            else:
                self.body_unread = True
        if not self.request_id:
            self.request_id = make_request_id()


# Ids must be unique, not secret, and os.urandom takes 20 times as long.
_random = random.Random()  # noqa: S311
os.register_at_fork(after_in_child=_random.seed)


def make_request_id() -> str:
    """Generate an id for a request that has none."""
    return f"{_random.getrandbits(128):032x}"


def context_of(scope: MutableMapping[str, Any]) -> RequestContext:
    """The context of a request, which the middleware created."""
    context: RequestContext = scope[_CONTEXT]
    return context


class RequestMiddleware:
    """The one middleware, around everything. Plain ASGI: it costs microseconds.

    Args:
        app: The application inside.
        metrics: Counts the requests.
        bodies: The bodies of all requests; the one of a request is released when it ends.
        draining: Whether to close each connection after its response.
        answer_unexpected: Makes the response to an unexpected exception from the scope.
        dialects: How the clients of the other protocols read errors, by the start of their paths.
        log: Logs a request.
        log_from: The lowest status of the requests that are logged; None to log none.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        bodies: Bodies,
        draining: Callable[[], bool],
        answer_unexpected: Callable[[Scope], Response],
        dialects: Mapping[str, Dialect] = NO_DIALECTS,
        log: LogRequest = lambda *_: None,
        log_from: int | None = None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._bodies = bodies
        self._draining = draining
        self._answer_unexpected = answer_unexpected
        self._dialects = dialects
        self._log = log
        self._log_from = math.inf if log_from is None else log_from

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; the lifespan passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        dialect = self._dialects.get(scope["path"][:PREFIX_CHARS])
        context = scope[_CONTEXT] = RequestContext(scope, dialect)
        answered = False

        async def send_with_headers(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                context.status = message["status"]
                headers = [*message.get("headers", ()), *context.protection]
                headers.append((b"x-request-id", context.request_id.encode("ascii")))
                # The rest of an unread body would be parsed as the next request.
                if context.body_unread or self._draining():
                    headers.append((b"connection", b"close"))
                message["headers"] = headers
            await send(message)

        answer: Send = send_with_headers
        if context.accept_encoding is not None:
            coding = choose_coding(context.accept_encoding)
            answer = packing(answer, coding) if coding else answer
        try:
            await self._app(scope, receive, answer)
        except ClientGoneError:
            context.status = CLIENT_GONE
        except Exception as error:  # noqa: BLE001 otherwise uvicorn logs its message
            context.error = type(error).__name__
            logger.error(  # noqa: TRY400 the formatter keeps messages of exceptions out
                "a request failed with an unexpected error",
                extra={"request_id": context.request_id} | describe_exception(error),
            )
            if not answered:
                response = self._answer_unexpected(scope)
                await response(scope, receive, send_with_headers)
        finally:
            self._bodies.release(context.body_bytes)
            self._count(scope, context, time.monotonic() - started)

    def _count(self, scope: Scope, context: RequestContext, seconds: float) -> None:
        """Count one request in the metrics, and log it if that is asked for."""
        route: str = getattr(scope.get("route"), "path", OTHER_ROUTE)
        self._metrics.observe_request(
            route,
            context.model,
            context.status,
            seconds,
            version=context.version,
            texts=context.texts if context.status == 200 else 0,
            explained=context.explained,
        )
        is_probe = route in _READINESS_PROBES
        if context.rejected and not is_probe:
            self._metrics.rejected.labels(context.rejected).inc()
        if context.status >= self._log_from and not (is_probe and self._log_from):
            self._log(scope, context, route, seconds)
