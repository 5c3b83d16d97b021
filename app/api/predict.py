"""`POST /predict`."""

import asyncio
import time
from typing import Any, Final

import orjson
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.api.application import RawRoute
from app.api.body import (
    SMALL_BODY_BYTES,
    Bodies,
    Limits,
    PredictCall,
    parse_predict,
    parse_timeout_s,
)
from app.api.error_handlers import document_problems, problem_of, respond_to_error
from app.api.health import link_to_model
from app.api.middleware import ClientGoneError, RequestContext, context_of
from app.api.schemas import PredictListResponse, PredictRequest, PredictResponse
from app.errors import DeadlineExceeded, NotReady, TooLarge, UnknownModel, ValenceError
from app.serving.predictor import Prediction, Result
from app.serving.repository import Repository, Version
from app.telemetry.metrics import UNKNOWN_MODEL

_SERVER_TIMING_HEADER: Final = {
    "description": "Milliseconds spent on tokenizing, in the queue, and in the model.",
    "schema": {
        "type": "string",
        "examples": ["tokenize;dur=0.061, queue;dur=0.112, infer;dur=1.930"],
    },
}
_MAX_LENGTH_DIGITS: Final = 18
"""Digits of Content-Length that are parsed: a longer number is over any limit."""
_WATCH_AFTER_S: Final = 0.05
"""Only a request that takes longer has its connection watched."""
_NO_TEXTS: Final = Result([], 0.0, 0.0, 0.0)


def register_predict(app: FastAPI, repository: Repository, limits: Limits, bodies: Bodies) -> None:
    """Add `POST /predict`."""

    async def predict(scope: Scope, receive: Receive, send: Send) -> None:
        """Predict the sentiment of one text, or of several at once.

        The body is read as JSON whatever its Content-Type. An invalid text of a list gets an
        `error` in its place; the other texts are predicted.
        """
        context = context_of(scope)
        try:
            timeout_s = parse_timeout_s(context.timeout, limits)
            guard = Guard(receive, timeout_s)
            try:
                body = await read_body(receive, context, limits, bodies)
                guard.body_read = True
                call = parse_predict(body, limits)
                del body  # its texts take as much memory again
                version = _find(repository, call, context)
                result = await _predict(version, call, guard.deadline)
            except asyncio.CancelledError:
                guard.raise_cause()
                raise
            finally:
                guard.close()
            content, timing = _respond(version, call, result)
        except ValenceError as error:
            await respond_to_error(scope, error)(scope, receive, send)
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
            (b"server-timing", timing),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    app.router.add_api_route(
        "/predict",
        predict,
        methods=["POST"],
        tags=["predict"],
        response_model=PredictResponse | PredictListResponse,
        responses={
            200: {
                "headers": {"Server-Timing": _SERVER_TIMING_HEADER},
                "links": link_to_model("model"),
            },
            **document_problems(400, 404, 408, 413, 422, 429, 500, 503, 504),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": PredictRequest.model_json_schema()}},
            },
            "parameters": [
                {
                    "name": "X-Request-Timeout-Ms",
                    "in": "header",
                    "description": "Milliseconds until the response is no longer useful.",
                    "schema": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": limits.request_timeout_ms,
                    },
                }
            ],
        },
        route_class_override=RawRoute,
    )


async def read_body(
    receive: Receive, context: RequestContext, limits: Limits, bodies: Bodies
) -> bytes:
    """Read a body up to the limit, whatever its Content-Length says.

    Its bytes count in `bodies` until the request ends.

    Raises:
        TooLarge: It is longer than the limit.
        BodiesFull: All bodies together are over their limit.
        ClientGoneError: The client has disconnected.
    """
    limit = limits.max_body_bytes
    # Leading zeros are allowed, and int() rejects numbers of too many digits.
    digits = (context.content_length or b"").lstrip(b"0")
    if digits.isdigit():
        announced = int(digits[:_MAX_LENGTH_DIGITS])
        if announced > limit:
            raise TooLarge(f"the body must have at most {limit} bytes. Received: {announced}")
        if announced > SMALL_BODY_BYTES:
            bodies.require(announced, announced)
    chunks = []
    received, more_body = 0, True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        received += len(chunk)
        if received > limit:
            raise TooLarge(f"the body must have at most {limit} bytes. Received: more")
        if bodies.received + len(chunk) > bodies.limit_of_large:  # seldom, so that it costs nothing
            bodies.require(len(chunk), received)
        bodies.received += len(chunk)
        context.body_bytes = received
        chunks.append(chunk)
        more_body = message.get("more_body", False)
    context.body_unread = False
    return b"".join(chunks) if len(chunks) > 1 else chunk


def _find(repository: Repository, call: PredictCall, context: RequestContext) -> Version:
    """The version that answers; sets the model's label in the metrics."""
    try:
        version = repository.find(call.model, call.version, context.request_id)
    except UnknownModel:
        context.model = UNKNOWN_MODEL
        raise
    context.model = version.name
    return version


async def _predict(version: Version, call: PredictCall, deadline: float) -> Result:
    """Predict the valid texts of a call."""
    if version.predictor is None:
        raise NotReady("the model is being loaded")
    return (
        await version.predictor.predict(call.texts, deadline=deadline) if call.texts else _NO_TEXTS
    )


class Guard:
    """Cancels a request when its deadline passes or its client disconnects.

    Most requests are answered before either can happen, so they pay for one timer only. A request
    that takes longer gets a task that watches its connection.

    Attributes:
        deadline: On the monotonic clock, in seconds.
        body_read: Set it when the body is read; until then the connection must not be watched.

    Args:
        receive: The request's `receive`.
        timeout_s: Seconds from now to the deadline.
    """

    __slots__ = (
        "_client_gone",
        "_deadline_passed",
        "_loop",
        "_receive",
        "_task",
        "_timeout_s",
        "_timer",
        "_watcher",
        "body_read",
        "deadline",
    )

    def __init__(self, receive: Receive, timeout_s: float) -> None:
        self.deadline = time.monotonic() + timeout_s
        self.body_read = False
        self._receive = receive
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(self._loop)
        self._watcher: asyncio.Task[None] | None = None
        self._client_gone = self._deadline_passed = False
        delay_s = min(timeout_s, _WATCH_AFTER_S)
        self._timer = self._loop.call_later(delay_s, self._check)

    def close(self) -> None:
        """Stop the timer and the watcher: the request is done."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def raise_cause(self) -> None:
        """After a cancellation: raise what it stands for, if it came from this guard.

        Raises:
            DeadlineExceeded: The deadline has passed.
            ClientGoneError: The client has disconnected.
        """
        if not (self._client_gone or self._deadline_passed) or self._task is None:
            return
        self._task.uncancel()
        if self._client_gone:
            raise ClientGoneError from None
        raise DeadlineExceeded(
            f"the answer was not ready within {self._timeout_s * 1e3:.0f} ms"
        ) from None

    def _check(self) -> None:
        """The timer fired: cancel a late request, else start to watch its connection."""
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            self._deadline_passed = True
            self._cancel()
            return
        if self.body_read and self._watcher is None:
            self._watcher = asyncio.create_task(self._watch_connection())
        # Until the body is read only the deadline is watched; check again soon.
        delay_s = left_s if self.body_read else min(left_s, _WATCH_AFTER_S)
        self._timer = self._loop.call_later(delay_s, self._check)

    async def _watch_connection(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._client_gone = True
        self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _respond(version: Version, call: PredictCall, result: Result) -> tuple[bytes, bytes]:
    """The body of the response, and the value of its Server-Timing header.

    Raises:
        ValenceError: The only text of the request has failed.
    """
    if call.single:
        (only,) = result.predictions
        if isinstance(only, ValenceError):
            raise only
        content = describe_response(version, only)
    else:
        predictions = iter(result.predictions)
        count = len(call.texts) + len(call.invalid)
        content = {
            "model": version.name,
            "version": version.number,
            "predictions": [
                _describe_item(call.invalid.get(i) or next(predictions)) for i in range(count)
            ],
        }
    timing = b"tokenize;dur=%.3f, queue;dur=%.3f, infer;dur=%.3f" % (
        result.tokenize_s * 1e3,
        result.queue_s * 1e3,
        result.inference_s * 1e3,
    )
    return orjson.dumps(content), timing


def describe_response(version: Version, prediction: Prediction) -> dict[str, Any]:
    """The response to a request with `text`, as a JSON object."""
    return {
        "model": version.name,
        "version": version.number,
        "label": prediction.label,
        "probabilities": prediction.probabilities,
        "tokens": prediction.tokens,
        "truncated": prediction.truncated,
    }


def _describe_item(prediction: Prediction | ValenceError) -> dict[str, Any]:
    """The part of one text in the response to a request with `texts`, as a JSON object."""
    if isinstance(prediction, ValenceError):
        return {"error": problem_of(prediction)}
    return {
        "label": prediction.label,
        "probabilities": prediction.probabilities,
        "tokens": prediction.tokens,
        "truncated": prediction.truncated,
    }
