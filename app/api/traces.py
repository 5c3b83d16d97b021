"""Traces each request: W3C Trace Context in and out, and a span for each of its stages."""

import time
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.access_log import TRACE_ID
from app.api.middleware import context_of
from app.serving.predictor import Result
from app.telemetry.metrics import OTHER_ROUTE

if TYPE_CHECKING:  # the extra `otel` may not be installed
    from app.telemetry.tracing import Stage, Traced, Tracing


class TraceMiddleware:
    """Around everything else, and only where tracing is on.

    Args:
        app: The application inside.
        tracer: Makes the spans.
    """

    def __init__(self, app: ASGIApp, *, tracer: "Tracing") -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Trace one request; the lifespan passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        traced = self._tracer.begin(scope["headers"])
        scope[TRACE_ID] = traced.trace_id

        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                header = (b"traceparent", traced.traceparent)
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        try:
            await self._app(scope, receive, send_with_header)
        finally:
            self._end(scope, traced, began)

    def _end(self, scope: Scope, traced: "Traced", began: float) -> None:
        if traced.span is None:
            return
        context = context_of(scope)
        route = getattr(scope.get("route"), "path", OTHER_ROUTE)
        attributes: dict[str, str | int] = {
            "http.request.method": scope["method"],
            "http.route": route,
            "http.response.status_code": context.status,
            "valence.request_id": context.request_id,
        }
        if context.error:
            attributes["error.type"] = context.error
        if context.model:
            attributes |= {"valence.model": context.model, "valence.texts": context.texts}
        if context.version:
            attributes["valence.version"] = context.version
        result = context.result
        self._tracer.end(
            *(traced, f"{scope['method']} {route}", context.status, attributes),
            stages=_stages(began, result) if result is not None else (),
            runs=result.runs if result is not None else (),
        )


def _stages(began: float, result: Result) -> "list[Stage]":
    """When each stage of an answer was. Of several texts it is that which took longest."""
    if not result.started:  # no text was valid
        return []
    stages: list[Stage] = []
    for name, seconds in (
        ("read", result.started - began),
        ("tokenize", result.tokenize_s),
        ("queue", result.queue_s),
        ("infer", result.inference_s),
    ):
        stages.append((name, began, began + seconds))
        began += seconds
    return stages
