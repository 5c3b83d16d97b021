"""`POST /predict`."""

import asyncio
import json
import time
from functools import lru_cache
from typing import Any, Final

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.api.error_handlers import answer_valence_error, document_problems, problem_of
from app.api.front_door import RawRoute
from app.api.middleware import ClientGoneError, RequestContext, context_of
from app.api.schemas import (
    Limits,
    PredictAnswer,
    PredictAnswers,
    PredictCall,
    PredictRequest,
    read_predict,
    read_timeout_s,
)
from app.errors import DeadlineExceeded, NotReady, TooLarge, UnknownModel, ValenceError
from app.serving.predictor import Answer, Prediction
from app.serving.repository import Repository, Version
from app.telemetry.metrics import UNKNOWN_MODEL

_SERVER_TIMING_HEADER: Final = {
    "description": "Milliseconds from texts to ids, in the queue, and in the model.",
    "schema": {
        "type": "string",
        "examples": ["tokenize;dur=0.061, queue;dur=0.112, infer;dur=1.930"],
    },
}
_MOST_DIGITS: Final = 18
"""Of a length that are read: with so many it is over any limit."""
_WATCH_AFTER_S: Final = 0.05
"""Requests that take longer have their connection watched."""
_quote: Final = lru_cache(maxsize=1024)(json.dumps)
"""A string of a closed set, such as a label, as JSON."""
_NOTHING: Final = Answer([], 0.0, 0.0, 0.0)


def register_predict(app: FastAPI, repository: Repository, limits: Limits) -> None:
    """Add `POST /predict`."""

    async def predict(scope: Scope, receive: Receive, send: Send) -> None:
        """Tell the sentiment of one text, or of several at once.

        Takes JSON whatever the Content-Type says. Texts of a list that break a rule get an
        `error` in their place; their neighbours are answered.
        """
        context = context_of(scope)
        try:
            timeout_s = read_timeout_s(context.timeout, limits)
            guard = Guard(receive, timeout_s)
            try:
                body = await read_body(receive, context, limits)
                guard.body_read = True
                call = read_predict(body, limits)
                version = _find(repository, call, context)
                answer = await _answer(version, call, guard.deadline)
            except asyncio.CancelledError:
                guard.explain()
                raise
            finally:
                guard.close()
            content, timing = _respond(version, call, answer)
        except ValenceError as error:
            await answer_valence_error(scope, error)(scope, receive, send)
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
        response_model=PredictAnswer | PredictAnswers,
        responses={
            200: {"headers": {"Server-Timing": _SERVER_TIMING_HEADER}},
            **document_problems(400, 404, 413, 422, 429, 500, 503, 504),
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
                    "description": "When the answer stops being useful.",
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


async def read_body(receive: Receive, context: RequestContext, limits: Limits) -> bytes:
    """Read a body, and no more of it than is allowed, whatever its length was said to be.

    Raises:
        TooLarge: It is longer than the limit.
    """
    limit = limits.max_body_bytes
    # Zeros in front are allowed, any number of them, and int() does not take any number of digits.
    digits = (context.content_length or b"").lstrip(b"0")
    if digits.isdigit():
        announced = int(digits[:_MOST_DIGITS])
        if announced > limit:
            raise TooLarge(f"the body must have at most {limit} bytes. Received: {announced}")
    message = await receive()
    body: bytes = message.get("body", b"")
    chunks = [body]
    received = len(body)
    while message.get("more_body", False) and received <= limit:
        message = await receive()
        chunk = message.get("body", b"")
        chunks.append(chunk)
        received += len(chunk)
    if received > limit:
        raise TooLarge(f"the body must have at most {limit} bytes. Received: more")
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    context.body_unread = False
    return b"".join(chunks) if len(chunks) > 1 else body


def _find(repository: Repository, call: PredictCall, context: RequestContext) -> Version:
    """The version that answers, and its name in the metrics."""
    try:
        version = repository.find(call.model, call.version)
    except UnknownModel:
        context.model = UNKNOWN_MODEL
        raise
    context.model = version.name
    return version


async def _answer(version: Version, call: PredictCall, deadline: float) -> Answer:
    if version.predictor is None:
        raise NotReady("the model is being loaded")
    return (
        await version.predictor.predict(call.texts, deadline=deadline) if call.texts else _NOTHING
    )


class Guard:
    """Ends the handling of a request whose deadline passes or whose client leaves.

    Most requests are answered before either is worth a thought, so all they pay for is a timer.
    Only one that takes longer gets a task that watches its connection.

    Attributes:
        deadline: On the monotonic clock, in seconds.
        body_read: Whether the connection may be watched; until then, the body is being read.

    Args:
        receive: Of the request.
        timeout_s: From now to the deadline.
    """

    __slots__ = (
        "_asking",
        "_gone",
        "_late",
        "_loop",
        "_receive",
        "_timeout_s",
        "_timer",
        "_watch",
        "body_read",
        "deadline",
    )

    def __init__(self, receive: Receive, timeout_s: float) -> None:
        self.deadline = time.monotonic() + timeout_s
        self.body_read = False
        self._receive = receive
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._asking = asyncio.current_task(self._loop)
        self._watch: asyncio.Task[None] | None = None
        self._gone = self._late = False
        delay_s = min(timeout_s, _WATCH_AFTER_S)
        self._timer = self._loop.call_later(delay_s, self._look)

    def close(self) -> None:
        """The request is over."""
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()

    def explain(self) -> None:
        """After a cancellation: raise what it means, if it was ours.

        Raises:
            DeadlineExceeded: The deadline has passed.
            ClientGoneError: The client has left.
        """
        if not (self._gone or self._late) or self._asking is None:
            return
        self._asking.uncancel()
        if self._gone:
            raise ClientGoneError from None
        raise DeadlineExceeded(
            f"the answer was not ready within {self._timeout_s * 1e3:.0f} ms"
        ) from None

    def _look(self) -> None:
        """The request takes long."""
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            self._late = True
            self._end()
            return
        if self.body_read and self._watch is None:
            self._watch = asyncio.create_task(self._watch_connection())
        # A body that is still being read has the deadline alone, and is looked at again.
        delay_s = left_s if self.body_read else min(left_s, _WATCH_AFTER_S)
        self._timer = self._loop.call_later(delay_s, self._look)

    async def _watch_connection(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._end()

    def _end(self) -> None:
        if self._asking is not None:
            self._asking.cancel()


def _respond(version: Version, call: PredictCall, answer: Answer) -> tuple[bytes, bytes]:
    """The body, with the answers and the refused texts' errors in the order asked; the timing."""
    if call.single:
        only = answer.predictions[0]
        if isinstance(only, ValenceError):
            raise only
        content = _write_answer(version, _write(only))
    else:
        predictions = iter(answer.predictions)
        count = len(call.texts) + len(call.refused)
        items = [_write(call.refused.get(i) or next(predictions)) for i in range(count)]
        content = _write_answer(version, f'"predictions":[{{{"},{".join(items)}}}]')
    timing = b"tokenize;dur=%.3f, queue;dur=%.3f, infer;dur=%.3f" % (
        answer.tokenize_s * 1e3,
        answer.queue_s * 1e3,
        answer.inference_s * 1e3,
    )
    return content.encode("ascii"), timing


def _write(prediction: Prediction | ValenceError) -> str:
    """One text's part of the answer as JSON, without its braces.

    By hand: a JSON encoder takes three times as long for so small an object.
    """
    if isinstance(prediction, ValenceError):
        return f'"error":{json.dumps(problem_of(prediction))}'
    probabilities = ",".join([f"{_quote(k)}:{p!r}" for k, p in prediction.probabilities.items()])
    return (
        f'"label":{_quote(prediction.label)},"probabilities":{{{probabilities}}},'
        f'"tokens":{prediction.tokens},"truncated":{"true" if prediction.truncated else "false"}'
    )


def _write_answer(version: Version, rest: str) -> str:
    return f'{{"model":{_quote(version.name)},"version":{version.number},{rest}}}'


def describe_answer(version: Version, prediction: Prediction) -> dict[str, Any]:
    """The answer to `text`, as the route gives it."""
    answer: dict[str, Any] = json.loads(_write_answer(version, _write(prediction)))
    return answer
