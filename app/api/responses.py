"""Small JSON answers of routes that FastAPI does not write."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.error_handlers import respond_to_error
from app.errors import ValenceError

Get = Callable[[Scope], Awaitable[dict[str, Any]]]


def answer_json(get: Get) -> ASGIApp:
    """An application that answers with what `get` returns, or with the error that it raises."""

    @wraps(get)
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            content = await get(scope)
        except ValenceError as error:
            response = respond_to_error(scope, error)
        else:
            response = Response(orjson.dumps(content), media_type="application/json")
        await response(scope, receive, send)

    return answer
