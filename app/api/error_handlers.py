"""The single table from exception to status, and problem details (RFC 9457) as the answer."""

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from app.api.middleware import PROBLEM_JSON, context_of, make_request_id
from app.api.schemas import Problem
from app.errors import (
    DeadlineExceeded,
    Draining,
    InferenceFailed,
    InvalidInput,
    NotJSON,
    NotReady,
    Overloaded,
    TooLarge,
    UnknownModel,
    ValenceError,
)
from app.telemetry.metrics import NO_MODEL, OTHER_ROUTE, Metrics

_NOT_READY_RETRY_S: Final = 1
_SEE_LOG: Final = "the log of the service says more, under this request_id"
_REQUEST_ID_HEADER: Final = {
    "description": "Taken from the request, or made.",
    "schema": {"type": "string", "examples": ["c0ffee5eed"]},
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What a client is told about one kind of error.

    Attributes:
        status: Of the answer.
        slug: The end of the problem's type, a URI that names it.
        title: The problem in general; the detail is in the message of the exception.
        example: Of such a detail, for the documentation.
        rejected: The `reason` under which `rejected_total` counts it, if it does.
    """

    status: int
    slug: str
    title: str
    example: str = ""
    rejected: str = ""

    def problem(self, detail: str) -> dict[str, Any]:
        """The problem as JSON has it."""
        return {
            "type": f"urn:valence:problem:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": detail,
        }


INTERNAL: Final = Kind(500, "internal", "The service made a mistake", _SEE_LOG)
INVALID_HTTP: Final = Kind(
    400,
    "invalid-http",
    "The request is not HTTP",
    "the connection must carry HTTP/1.1 with a head of reasonable size, and not ask for a tunnel",
)

KINDS: Final[dict[type[Exception], Kind]] = {
    NotJSON: Kind(
        400,
        "not-json",
        "The body is not JSON",
        "the body must be JSON; it stops being so at character 9",
    ),
    UnknownModel: Kind(
        404,
        "unknown-model",
        "No such model or version",
        "there is no such model or version that answers; there are: bow (1), lstm (2, 1)",
    ),
    TooLarge: Kind(
        413,
        "too-large",
        "Over a limit",
        "text must have at most 100000 characters. Received: 250000",
    ),
    InvalidInput: Kind(
        422,
        "invalid-input",
        "A field is wrong",
        "text must not contain NUL (U+0000); found at character 17",
    ),
    Overloaded: Kind(
        429,
        "queue-full",
        "The queue is full",
        "the queue holds 4090 of 4096 texts and has no room for 16 more",
        rejected="queue_full",
    ),
    InferenceFailed: Kind(
        500,
        "inference-failed",
        "The model failed",
        "the model failed on this text",
    ),
    NotReady: Kind(
        503,
        "not-ready",
        "Not ready",
        "the model is being loaded",
        rejected="not_ready",
    ),
    Draining: Kind(
        503,
        "draining",
        "Shutting down",
        "the model is being stopped",
        rejected="draining",
    ),
    DeadlineExceeded: Kind(
        504,
        "deadline-exceeded",
        "The deadline passed",
        "the answer was not ready within 10000 ms",
        rejected="deadline",
    ),
}


def kind_of(error: ValenceError) -> Kind:
    """The entry of the nearest class in the table; what it does not know is our mistake."""
    return next((KINDS[cls] for cls in type(error).__mro__ if cls in KINDS), INTERNAL)


def problem_of(error: ValenceError) -> dict[str, Any]:
    """The problem details of an exception, as they stand for one text in a list."""
    return kind_of(error).problem(str(error))


def problem_response(
    scope: Scope, problem: dict[str, Any], headers: dict[str, str] | None = None
) -> Response:
    """A whole answer that is a problem."""
    content = problem | {"request_id": context_of(scope).request_id}
    return Response(json.dumps(content), problem["status"], headers, PROBLEM_JSON)


def internal_error(request_id: str) -> Response:
    """The answer to an exception that nobody foresaw: it is in the log, under `request_id`."""
    content = INTERNAL.problem(INTERNAL.example) | {"request_id": request_id}
    return Response(json.dumps(content), INTERNAL.status, media_type=PROBLEM_JSON)


def refuse_invalid_http(metrics: Metrics) -> Response:
    """The answer to what is not HTTP. No route meets it, so it is counted here."""
    metrics.requests.labels(OTHER_ROUTE, NO_MODEL, str(INVALID_HTTP.status)).inc()
    request_id = make_request_id()
    content = INVALID_HTTP.problem(INVALID_HTTP.example) | {"request_id": request_id}
    headers = {"X-Request-ID": request_id}
    return Response(json.dumps(content), INVALID_HTTP.status, headers, PROBLEM_JSON)


def answer_valence_error(scope: Scope, error: ValenceError) -> Response:
    """The answer to an exception of ours, and the note of it in the request's context."""
    kind = kind_of(error)
    context = context_of(scope)
    context.error = type(error).__name__
    context.rejected = kind.rejected
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    elif isinstance(error, NotReady):
        headers["Retry-After"] = str(_NOT_READY_RETRY_S)
    # What is not in the table was never meant for a client's eyes.
    detail = _SEE_LOG if kind is INTERNAL else str(error)
    return problem_response(scope, kind.problem(detail), headers)


def register_error_handlers(app: FastAPI) -> None:
    """Answer every exception that leaves a route with problem details."""

    async def handle_valence_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, ValenceError):
            raise error
        return answer_valence_error(request.scope, error)

    async def answer_http_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        if error.status_code == 404:
            kind = Kind(404, "no-such-route", "No such route")
            detail = "GET /docs lists the routes"
        elif error.status_code == 405:
            kind = Kind(405, "method-not-allowed", "Method not allowed")
            detail = "the header Allow names the methods of this route"
        else:
            kind = Kind(error.status_code, "http", "The request was refused")
            detail = "see the status"
        return problem_response(request.scope, kind.problem(detail), dict(error.headers or {}))

    app.add_exception_handler(ValenceError, handle_valence_error)
    app.add_exception_handler(HTTPException, answer_http_error)


def document_common_parts(app: FastAPI) -> None:
    """Add to the OpenAPI page what all routes share, and take out the error body FastAPI assumes.

    They share the schema `Problem`, the header `X-Request-ID` and the answer to our own mistakes.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        fresh = app.openapi_schema is None
        document = generate()
        if fresh:
            schemas = document["components"]["schemas"]
            schemas["Problem"] = Problem.model_json_schema()
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            for route in document["paths"].values():
                for operation in route.values():
                    responses = operation["responses"]
                    if "HTTPValidationError" in str(responses.get("422")):
                        del responses["422"]
                    for status, response in document_problems(500).items():
                        responses.setdefault(str(status), response)
                    for response in responses.values():
                        response.setdefault("headers", {})["X-Request-ID"] = _REQUEST_ID_HEADER
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents


def document_problems(*statuses: int, detail: str = "") -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route in OpenAPI: each status with its problems as examples.

    Args:
        statuses: That the route may answer with.
        detail: What the examples say, if it is not what `KINDS` has.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        kinds = [kind for kind in (*KINDS.values(), INTERNAL) if kind.status == status]
        examples = {
            kind.slug: {
                "summary": kind.title,
                "value": kind.problem(detail or kind.example) | {"request_id": "c0ffee5eed"},
            }
            for kind in kinds
        }
        responses[status] = {
            "description": " · ".join(kind.title for kind in kinds),
            "content": {
                PROBLEM_JSON: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": examples,
                }
            },
        }
    return responses
