"""`POST /predict`."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from app.api.error_handlers import document_problems, problem_of
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
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode
_NOTHING: Final = Answer([], 0.0, 0.0, 0.0)


class RawRoute(APIRoute):
    """A documented route whose function reads the request and writes the answer itself."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function as it is: FastAPI's own handler would double the cost of a request."""
        handler: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return handler


def register_predict(app: FastAPI, repository: Repository, limits: Limits) -> None:
    """Add `POST /predict`."""

    async def predict(request: Request) -> Response:
        """Tell the sentiment of one text, or of several at once.

        Takes JSON whatever the Content-Type says. Texts of a list that break a rule get an
        `error` in their place; their neighbours are answered.
        """
        context = context_of(request.scope)
        timeout_s = read_timeout_s(context.timeout, limits)
        deadline = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                body = await read_body(request.receive, context, limits)
                call = read_predict(body, limits)
                version = _find(repository, call, context)
                answer = await _answer(request.receive, version, call, deadline)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the answer was not ready within {timeout_s * 1e3:.0f} ms"
            ) from None
        return _respond(version, call, answer)

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
    content_length = context.content_length
    if content_length is not None and content_length.isdigit() and int(content_length) > limit:
        raise TooLarge(f"the body must have at most {limit} bytes. Received: {int(content_length)}")
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


async def _answer(receive: Receive, version: Version, call: PredictCall, deadline: float) -> Answer:
    """Ask the predictor, and give up when the client does."""
    if version.predictor is None:
        raise NotReady("the model is being loaded")
    if not call.texts:
        return _NOTHING
    asking = asyncio.current_task()
    watch = asyncio.create_task(_cancel_on_disconnect(receive, asking))
    try:
        return await version.predictor.predict(call.texts, deadline=deadline)
    except asyncio.CancelledError:
        if asking is not None and watch.done() and not watch.cancelled():
            asking.uncancel()
            raise ClientGoneError from None
        raise
    finally:
        watch.cancel()


async def _cancel_on_disconnect(receive: Receive, asking: "asyncio.Task[Any] | None") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if asking is not None:
        asking.cancel()


def _respond(version: Version, call: PredictCall, answer: Answer) -> Response:
    """Put the answers, and the errors of texts that were refused, in the order asked."""
    if call.single:
        only = answer.predictions[0]
        if isinstance(only, ValenceError):
            raise only
        content = describe_answer(version, only)
    else:
        predictions = iter(answer.predictions)
        count = len(call.texts) + len(call.refused)
        content = {
            "model": version.name,
            "version": version.number,
            "predictions": [
                _describe(call.refused.get(i) or next(predictions)) for i in range(count)
            ],
        }
    timing = (
        f"tokenize;dur={answer.tokenize_s * 1e3:.3f}, queue;dur={answer.queue_s * 1e3:.3f}, "
        f"infer;dur={answer.inference_s * 1e3:.3f}"
    )
    return Response(
        _encode(content),
        headers={"Server-Timing": timing},
        media_type="application/json",
    )


def describe_answer(version: Version, prediction: Prediction) -> dict[str, Any]:
    """The answer to `text`."""
    return {"model": version.name, "version": version.number, **_describe(prediction)}


def _describe(prediction: Prediction | ValenceError) -> dict[str, Any]:
    """One text's part of the answer."""
    if isinstance(prediction, ValenceError):
        return {"error": problem_of(prediction)}
    return {
        "label": prediction.label,
        "probabilities": prediction.probabilities,
        "tokens": prediction.tokens,
        "truncated": prediction.truncated,
    }
