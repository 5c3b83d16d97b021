"""The one table from exceptions to statuses, and responses with problem details (RFC 9457)."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from app.api.application import Application
from app.api.codings import ACCEPTED
from app.api.connections import CONNECTIONS_REASON
from app.api.dialects import Dialect
from app.api.framing import MAX_HEAD_BYTES, MAX_TARGET_BYTES
from app.api.middleware import (
    NO_DIALECTS,
    PREFIX_CHARS,
    PROBLEM_JSON,
    context_of,
    make_request_id,
)
from app.api.schemas import Problem
from app.api.security_headers import EVERYWHERE
from app.errors import (
    BodiesFull,
    DeadlineExceeded,
    Draining,
    InferenceFailed,
    InvalidCoding,
    InvalidHTTP,
    InvalidInput,
    NotJSON,
    NotReady,
    Overloaded,
    RateExceeded,
    RequestTimeout,
    TooLarge,
    TooLate,
    Unauthorized,
    UnknownCoding,
    UnknownModel,
    ValenceError,
)
from app.telemetry.metrics import NO_MODEL, OTHER_ROUTE, Metrics

_JSON: Final = "application/json"
_RETRY_S: Final = 1
_EXAMPLE_SCOPE: Final[Scope] = {
    "method": "POST",
    "path": "/v1/models/none",
    "path_params": {"model": "none"},
}
_SEE_LOG: Final = "the log of the service has more, under this request_id"
_NOT_FROM_THE_ROUTE: Final = "Not answered by the route; the connection is closed"
_SECURITY: Final = {name.decode(): value.decode() for name, value in EVERYWHERE}
_REQUEST_ID_HEADER: Final = {
    "description": "Taken from the request, or generated.",
    "schema": {"type": "string", "examples": ["c0ffee5eed"]},
}
_SECURITY_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "api-key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A problem type (RFC 9457): what clients are told about one class of errors.

    Attributes:
        status: The status of the response.
        slug: The end of the URI that identifies the problem type.
        title: The problem in general; the message of the exception is the detail.
        example: A detail, for the OpenAPI document.
        rejected: The `reason` in the metric `rejected_total`; empty if it is not counted there.
    """

    status: int
    slug: str
    title: str
    example: str = ""
    rejected: str = ""

    def problem(self, detail: str) -> dict[str, Any]:
        """The problem details, as a JSON object."""
        return {
            "type": f"urn:valence:problem:{self.slug}",
            "title": self.title,
            "status": self.status,
            "detail": detail,
        }


INTERNAL: Final = ProblemType(500, "internal", "Internal error", _SEE_LOG)
INVALID_HTTP: Final = ProblemType(
    400,
    "invalid-http",
    "The request is not HTTP",
    "a connection must carry HTTP/1.1 requests, each with one Host and one body length, no CONNECT",
)
REQUEST_TIMEOUT: Final = ProblemType(
    408,
    "request-timeout",
    "The request did not arrive in time",
    "the request line and the headers must arrive within HEADER_TIMEOUT_S",
)
TOO_MANY_CONNECTIONS: Final = ProblemType(
    503,
    "too-many-connections",
    "Too many connections",
    "the worker has MAX_CONNECTIONS open connections; others may ask for health only",
)
HTTP_PROBLEMS: Final = {
    each.status: each
    for each in (
        INVALID_HTTP,
        REQUEST_TIMEOUT,
        ProblemType(
            414,
            "target-too-long",
            "The path and query are too long",
            f"the path and query must have at most {MAX_TARGET_BYTES} bytes",
        ),
        ProblemType(
            417,
            "expectation-failed",
            "The expectation is unknown",
            "Expect must be 100-continue",
        ),
        ProblemType(
            431,
            "head-too-large",
            "The headers are too large",
            f"the request line and the headers must have at most {MAX_HEAD_BYTES} bytes",
        ),
        ProblemType(
            501,
            "not-implemented",
            "The method or transfer coding is unknown",
            "the method must be one of HTTP's, and Transfer-Encoding must be chunked",
        ),
        TOO_MANY_CONNECTIONS,
        ProblemType(
            505,
            "version-not-supported",
            "The version of HTTP is not supported",
            "the version of HTTP must be 1.1 or 1.0",
        ),
    )
}
"""The problems that end a connection before the application is asked, by their status."""

PROBLEM_TYPES: Final[dict[type[Exception], ProblemType]] = {
    InvalidHTTP: INVALID_HTTP,
    RequestTimeout: REQUEST_TIMEOUT,
    InvalidCoding: ProblemType(
        400,
        "invalid-coding",
        "The body cannot be unpacked",
        "the body must be whole, in the coding that Content-Encoding says",
    ),
    UnknownCoding: ProblemType(
        415,
        "unknown-coding",
        "The content coding is not taken",
        "Content-Encoding must be gzip or deflate",
    ),
    NotJSON: ProblemType(
        400,
        "not-json",
        "The body is not JSON",
        "the body must be JSON; invalid at character 9",
    ),
    Unauthorized: ProblemType(
        401,
        "unauthorized",
        "The key is missing or wrong",
        str(Unauthorized()),
        rejected="unauthorized",
    ),
    UnknownModel: ProblemType(
        404,
        "unknown-model",
        "No such model or version",
        "there is no such model or version that answers; there are: bow (1), lstm (2, 1)",
    ),
    TooLarge: ProblemType(
        413,
        "too-large",
        "Over a limit",
        "text must have at most 100000 characters. Received: 250000",
    ),
    InvalidInput: ProblemType(
        422,
        "invalid-input",
        "A field is wrong",
        "text must not contain NUL (U+0000); found at character 17",
    ),
    Overloaded: ProblemType(
        429,
        "queue-full",
        "The queue is full",
        "the queue holds 4090 of 4096 texts and has no room for 16 more",
        rejected="queue_full",
    ),
    RateExceeded: ProblemType(
        429,
        "rate-limit",
        "The key is used too often",
        "the key may be used 10 times per second",
        rejected="rate_limit",
    ),
    TooLate: ProblemType(
        429,
        "too-late",
        "The answer could not be ready in time",
        "the answer must be ready within 200 ms; with what waits it would take about 35 ms longer",
        rejected="too_late",
    ),
    InferenceFailed: ProblemType(
        500,
        "inference-failed",
        "The model failed",
        "the model failed on this text",
    ),
    BodiesFull: ProblemType(
        503,
        "bodies-full",
        "Too many bodies at once",
        "all bodies in flight together must have at most 67108864 bytes, bodies over 65536 bytes "
        "at most 58720256 of them",
        rejected="bodies_full",
    ),
    NotReady: ProblemType(
        503,
        "not-ready",
        "Not ready",
        "the model is being loaded",
        rejected="not_ready",
    ),
    Draining: ProblemType(
        503,
        "draining",
        "Shutting down",
        "the model is being stopped",
        rejected="draining",
    ),
    DeadlineExceeded: ProblemType(
        504,
        "deadline-exceeded",
        "The deadline passed",
        "the answer was not ready within 10000 ms",
        rejected="deadline",
    ),
}

_NO_ROUTE: Final = (204, 404, 405, 500)
"""The answers to OPTIONS, to an unknown path and to a wrong method, and an unexpected error."""
_KEY_ERRORS: Final = (Unauthorized, RateExceeded)
"""Only a service with API keys answers with them, and then for every route."""
_ROUTE_PROBLEMS: Final = [each for error, each in PROBLEM_TYPES.items() if error not in _KEY_ERRORS]

REJECTION_REASONS: Final = (
    *(t.rejected for t in PROBLEM_TYPES.values() if t.rejected),
    CONNECTIONS_REASON,
)
"""Every value of the label `reason` of the metric `rejected_total`."""


UNROUTED_STATUSES: Final = frozenset(
    {200, *HTTP_PROBLEMS, *(PROBLEM_TYPES[each].status for each in _KEY_ERRORS), *_NO_ROUTE}
)
"""The statuses of requests that reach no route of the API: 200 is that of `/openapi.json`."""


def problem_type_of(error: ValenceError) -> ProblemType:
    """The table's entry for the nearest class of an exception. Unmapped exceptions become 500."""
    return next(
        (PROBLEM_TYPES[cls] for cls in type(error).__mro__ if cls in PROBLEM_TYPES), INTERNAL
    )


def problem_of(error: ValenceError) -> dict[str, Any]:
    """The problem details of an exception, as they appear for one text of a list."""
    return problem_type_of(error).problem(str(error))


def respond_to_error(scope: Scope, error: ValenceError) -> Response:
    """The response to one of our exceptions, which is also noted in the request's context."""
    problem_type = problem_type_of(error)
    context = context_of(scope)
    context.error = type(error).__name__
    context.rejected = problem_type.rejected
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(retry_after(error))
    elif isinstance(error, NotReady | BodiesFull):
        headers["Retry-After"] = str(_RETRY_S)
    elif isinstance(error, UnknownCoding):
        headers["Accept-Encoding"] = ACCEPTED.decode()
    elif isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    # The message of an unmapped exception was not written for clients.
    detail = _SEE_LOG if problem_type is INTERNAL else str(error)
    return _respond(scope, problem_type, detail, headers)


def retry_after(error: Overloaded) -> int:
    """The value of `Retry-After`, in whole seconds."""
    return max(1, math.ceil(error.retry_after_s))


def internal_error(scope: Scope) -> Response:
    """The response to an unexpected exception, which the log has under the request's id."""
    return _respond(scope, INTERNAL, INTERNAL.example)


def refuse_http(
    metrics: Metrics,
    status: int,
    path: str,
    *,
    dialects: Mapping[str, Dialect] = NO_DIALECTS,
) -> Response:
    """The response that ends a connection. No middleware sees it: it is counted here.

    Args:
        metrics: Counts the request.
        status: One of `HTTP_PROBLEMS`.
        path: The path, as far as it was received; empty if none was.
        dialects: How the clients of the other protocols read errors, by the start of their paths.
    """
    metrics.requests.labels(OTHER_ROUTE, NO_MODEL, str(status)).inc()
    request_id = make_request_id()
    headers = {"X-Request-ID": request_id} | _SECURITY
    problem_type = HTTP_PROBLEMS[status]
    if problem_type is TOO_MANY_CONNECTIONS:
        headers["Retry-After"] = str(_RETRY_S)
    detail = problem_type.example
    dialect = dialects.get(path[:PREFIX_CHARS])
    if dialect is None:
        return _describe_problem(problem_type, detail, request_id, headers)
    return _describe_in(dialect, {}, problem_type, detail, headers)


def _respond(
    scope: Scope, problem_type: ProblemType, detail: str, headers: dict[str, str] | None = None
) -> Response:
    """A response with an error, as the protocol of the request has them."""
    context = context_of(scope)
    dialect = context.dialect
    if dialect is None:
        return _describe_problem(problem_type, detail, context.request_id, headers)
    return _describe_in(dialect, scope, problem_type, detail, headers)


def _describe_in(
    dialect: Dialect,
    scope: Scope,
    problem_type: ProblemType,
    detail: str,
    headers: dict[str, str] | None,
) -> Response:
    """A response with an error as the clients of a protocol read it."""
    slug = problem_type.slug
    status = dialect.statuses.get(slug, problem_type.status)
    return Response(orjson.dumps(dialect.describe(scope, slug, detail)), status, headers, _JSON)


def _describe_problem(
    problem_type: ProblemType, detail: str, request_id: str, headers: dict[str, str] | None
) -> Response:
    """A response with problem details."""
    body = orjson.dumps(problem_type.problem(detail) | {"request_id": request_id})
    return Response(body, problem_type.status, headers, PROBLEM_JSON)


def register_error_handlers(app: Application) -> None:
    """Answer every exception that leaves a route with problem details."""

    async def handle_valence_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, ValenceError):
            raise error
        return respond_to_error(request.scope, error)

    async def handle_http_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        if error.status_code == 404:
            problem_type = ProblemType(404, "no-such-route", "No such route")
            detail = "GET /docs lists the routes"
        elif error.status_code == 405:
            problem_type = ProblemType(405, "method-not-allowed", "Method not allowed")
            detail = "the header Allow names the methods of this route"
            # Starlette names those of the first route with the path.
            methods = app.methods_of(request.scope["path"])
            error.headers = {"Allow": ", ".join(sorted(methods))}
        else:
            problem_type = ProblemType(error.status_code, "http", "The request was rejected")
            detail = "see the status"
        return _respond(request.scope, problem_type, detail, dict(error.headers or {}))

    app.add_exception_handler(ValenceError, handle_valence_error)
    app.add_exception_handler(HTTPException, handle_http_error)


def document_common_parts(
    app: FastAPI,
    *,
    open_paths: Collection[str] | None = None,
    dialects: Mapping[str, Dialect] = NO_DIALECTS,
) -> None:
    """Add to the OpenAPI document what all routes share, and remove FastAPI's own error body.

    All routes share the schema `Problem`, the header `X-Request-ID`, the response 500, those that
    end a connection before the route is asked, and, with API keys, the answers to a wrong one.

    Args:
        app: The application.
        open_paths: The paths that need no API key; None if no path does.
        dialects: How the clients of the other protocols read errors, by the start of their paths.
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
            if open_paths is not None:
                document["components"]["securitySchemes"] = _SECURITY_SCHEMES
            for path, route in document["paths"].items():
                needs_key = open_paths is not None and path not in open_paths
                dialect = dialects.get(path[:PREFIX_CHARS])
                for operation in route.values():
                    responses = operation["responses"]
                    if "HTTPValidationError" in str(responses.get("422")):
                        del responses["422"]
                    if needs_key:
                        operation["security"] = [{name: []} for name in _SECURITY_SCHEMES]
                        _document_key_problems(responses, dialect)
                    internal = document_errors(dialect, 500) if dialect else document_problems(500)
                    for status, response in internal.items():
                        responses.setdefault(str(status), response)
                    responses.setdefault("default", _document_ends(dialect))
                    for response in responses.values():
                        response.setdefault("headers", {})["X-Request-ID"] = _REQUEST_ID_HEADER
        return document

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents for extending OpenAPI


def document_problems(*statuses: int, detail: str = "") -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route in OpenAPI: each status, with its problem types as examples.

    Args:
        statuses: The statuses the route may answer with.
        detail: The detail of the examples; by default the one in `PROBLEM_TYPES`.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        types = [each for each in (*_ROUTE_PROBLEMS, INTERNAL) if each.status == status]
        title = " · ".join(each.title for each in types)
        responses[status] = _document(title, *types, detail=detail)
    return responses


def document_errors(dialect: Dialect, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """As `document_problems`, for a route of another protocol.

    Args:
        dialect: The errors of the protocol.
        statuses: The statuses that the route may answer with, as the protocol has them.
    """
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        types = [
            each
            for each in (*_ROUTE_PROBLEMS, INTERNAL)
            if dialect.statuses.get(each.slug, each.status) == status
        ]
        responses[status] = _document_in(dialect, *types)
    return responses


def _document_ends(dialect: Dialect | None) -> dict[str, Any]:
    """The responses that end a connection before the route is asked."""
    types = HTTP_PROBLEMS.values()
    if dialect is None:
        return _document(_NOT_FROM_THE_ROUTE, *types)
    return _document_in(dialect, *types) | {"description": _NOT_FROM_THE_ROUTE}


def _document_in(dialect: Dialect, *types: ProblemType) -> dict[str, Any]:
    examples = {
        each.slug: {
            "summary": each.title,
            "value": dialect.describe(_EXAMPLE_SCOPE, each.slug, each.example),
        }
        for each in types
    }
    content = {"schema": {"type": "object"}, "examples": examples}
    return {
        "description": " · ".join(each.title for each in types),
        "content": {_JSON: content},
    }


def _document_key_problems(responses: dict[str, Any], dialect: Dialect | None) -> None:
    """Add the answers to a missing, wrong or overused key to the responses of a route."""
    for error in _KEY_ERRORS:
        each = PROBLEM_TYPES[error]
        own = _document_in(dialect, each) if dialect else _document(each.title, each)
        response = responses.setdefault(str(each.status), own)
        for media_type, content in own["content"].items():
            response["content"][media_type]["examples"] |= content["examples"]


def _document(description: str, *types: ProblemType, detail: str = "") -> dict[str, Any]:
    examples = {
        each.slug: {
            "summary": each.title,
            "value": each.problem(detail or each.example) | {"request_id": "c0ffee5eed"},
        }
        for each in types
    }
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
    return {"description": description, "content": {PROBLEM_JSON: content}}
