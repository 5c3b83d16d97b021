"""`POST /predict`."""

from collections.abc import Coroutine
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.api.application import RawRoute
from app.api.body import PredictCall, parse_predict
from app.api.error_handlers import document_problems, problem_of
from app.api.health import link_to_model
from app.api.inference import JSON, SERVER_TIMING_HEADER, Header, Inference
from app.api.schemas import PredictListResponse, PredictRequest, PredictResponse
from app.errors import ValenceError
from app.serving.predictor import Prediction, Result
from app.serving.repository import Version


def register_predict(app: FastAPI, inference: Inference) -> None:
    """Add `POST /predict`."""
    limits = inference.limits

    def read(_scope: Scope, body: bytes) -> PredictCall:
        return parse_predict(body, limits)

    def predict(scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Predict the sentiment of one text, or of several at once.

        The body is read as JSON whatever its Content-Type. An invalid text of a list gets an
        `error` in its place; the other texts are predicted.
        """
        return inference.answer(scope, receive, send, read, write_predictions)

    app.router.add_api_route(
        "/predict",
        predict,
        methods=["POST"],
        tags=["predict"],
        response_model=PredictResponse | PredictListResponse,
        responses={
            200: {
                "headers": {"Server-Timing": SERVER_TIMING_HEADER},
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


def write_predictions(
    version: Version, call: PredictCall, result: Result
) -> tuple[bytes, list[Header]]:
    """The body of the response, and its headers.

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
    return orjson.dumps(content), [JSON]


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
