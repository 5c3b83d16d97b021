"""Parts of the OpenAPI document that several routes share."""

from typing import Any, Final

from app.api.body import Limits

SERVER_TIMING_HEADER: Final = {
    "description": "Milliseconds spent on tokenizing, in the queue, and in the model.",
    "schema": {
        "type": "string",
        "examples": ["tokenize;dur=0.061, queue;dur=0.112, infer;dur=1.930"],
    },
}


def document_json(*examples: dict[str, Any]) -> dict[str, Any]:
    """The `content` of a body that is a JSON object."""
    named = {f"example {number}": {"value": each} for number, each in enumerate(examples, start=1)}
    return {"application/json": {"schema": {"type": "object"}, "examples": named}}


def document_timeout(limits: Limits) -> dict[str, Any]:
    """The parameter `X-Request-Timeout-Ms`."""
    return {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "description": "Milliseconds until the response is no longer useful.",
        "schema": {"type": "integer", "minimum": 1, "maximum": limits.request_timeout_ms},
    }
