"""`POST /predict`."""

from collections.abc import Coroutine
from functools import partial
from typing import Any

import orjson
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.api import classify
from app.api.application import RawRoute
from app.api.body import (
    SMALL_BODY_BYTES,
    PredictCall,
    parse_calmly,
    parse_fields,
    parse_json,
    read_object,
)
from app.api.classify import INPUTS, ClassifyCall, parse_classify, write_classes
from app.api.error_handlers import document_errors, document_problems, problem_of
from app.api.health import link_to_model
from app.api.inference import JSON, Header, Inference
from app.api.middleware import context_of
from app.api.openapi import SERVER_TIMING_HEADER, document_timeout
from app.api.schemas import (
    ClassifyRequest,
    LabelScore,
    PredictListResponse,
    PredictRequest,
    PredictResponse,
)
from app.errors import ValenceError
from app.serving.predictor import Prediction, Result
from app.serving.repository import Version


def register_predict(app: FastAPI, inference: Inference) -> None:
    """Add `POST /predict`."""
    limits = inference.limits

    def parse(scope: Scope, body: bytes) -> PredictCall | ClassifyCall:
        content = read_object(parse_json(body), "the body")
        if INPUTS in content:
            context_of(scope).dialect = classify.DIALECT
            return parse_classify(content, limits)
        return parse_fields(content, limits)

    def read(scope: Scope, body: bytes) -> PredictCall | ClassifyCall:
        if len(body) <= SMALL_BODY_BYTES:  # the usual way, one call shorter
            return parse(scope, body)
        return parse_calmly(body, partial(parse, scope, body))

    def predict(scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Predict the sentiment of one text, or of several at once.

        The body is read as JSON whatever its Content-Type. An invalid text of a list gets an
        `error` in its place; the other texts are predicted. A body with `inputs` is answered as
        text-embeddings-inference and Hugging Face's Inference API do.
        """
        return inference.answer(scope, receive, send, read, _write)

    app.router.add_api_route(
        "/predict",
        predict,
        methods=["POST"],
        tags=["predict"],
        response_model=(
            PredictResponse | PredictListResponse | list[LabelScore] | list[list[LabelScore]]
        ),
        responses={
            200: {
                "headers": {"Server-Timing": SERVER_TIMING_HEADER},
                "links": link_to_model("model"),
            },
            **_document_errors(400, 404, 408, 413, 415, 422, 429, 500, 503, 504),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _document_body()}},
            },
            "parameters": [document_timeout(limits)],
        },
        route_class_override=RawRoute,
    )


def _document_body() -> dict[str, Any]:
    schemas = [model.model_json_schema() for model in (PredictRequest, ClassifyRequest)]
    examples = [example for schema in schemas for example in schema.pop("examples")]
    return {"anyOf": schemas, "examples": examples}


def _document_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Problem details; and the errors of a body with `inputs`."""
    responses = document_problems(*statuses)
    for status, other in document_errors(classify.DIALECT, *statuses).items():
        responses[status]["content"] |= other["content"]
    return responses


def _write(
    version: Version, call: PredictCall | ClassifyCall, result: Result
) -> tuple[bytes, list[Header]]:
    if isinstance(call, PredictCall):
        return write_predictions(version, call, result)
    return write_classes(version, call, result)


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
        **_describe(prediction),
    }


def _describe_item(prediction: Prediction | ValenceError) -> dict[str, Any]:
    """The part of one text in the response to a request with `texts`, as a JSON object."""
    if isinstance(prediction, ValenceError):
        return {"error": problem_of(prediction)}
    return _describe(prediction)


def _describe(prediction: Prediction) -> dict[str, Any]:
    content: dict[str, Any] = {
        "label": prediction.label,
        "probabilities": prediction.probabilities,
        "tokens": prediction.tokens,
        "unknown": prediction.unknown,
        "truncated": prediction.truncated,
        "reliable": prediction.reliable,
    }
    if prediction.explanation is not None:
        content["explanation"] = [word._asdict() for word in prediction.explanation]
    return content
