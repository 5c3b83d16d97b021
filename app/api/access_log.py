"""One line per request that is logged: what was asked, what it took, and the ids to find it by."""

import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final, Literal

from starlette.types import Scope

from app.api.middleware import RequestContext
from app.serving.predictor import Prediction

logger = logging.getLogger(__name__)

TRACE_ID: Final = "valence.trace_id"
"""In the scope: the id of the trace that the request is part of, if it is traced here."""
MAX_ERRORS_PER_S: Final = 20
"""Lines of requests that clients have failed with: a flood of them must not fill the log, nor cost
more than a refusal does."""
_FIRST_ERROR: Final = 400
_FIRST_OWN_ERROR: Final = 500
Requests = Literal["off", "errors", "all"]
_FIRST_STATUS: Final[dict[Requests, int | None]] = {"off": None, "errors": _FIRST_ERROR, "all": 0}
_TRACEPARENT: Final = re.compile(
    rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)


class AccessLog:
    """Decides which requests are logged, and writes their lines.

    Args:
        requests: Which requests are logged: none, those with a status of 400 or above, or all.
        clock: Monotonic, in seconds.

    Attributes:
        enabled: Whether any request is logged.
        first_status: Requests with a lower status are not logged; None if none is.
        suppressed: Lines that were left out since the last one. What the gate refuses has none.
    """

    def __init__(self, requests: Requests, clock: Callable[[], float] = time.monotonic) -> None:
        self.enabled = requests != "off"
        self.first_status = _FIRST_STATUS[requests]
        self.suppressed = 0
        self._everything = requests == "all"
        self._clock = clock
        self._left = 0
        self._renewed_at = -1.0

    def wants_refusal(self, now: float) -> bool:
        """Whether the line of a request that is refused now would be written."""
        return self._everything or self._has_room(now)

    def write(self, scope: Scope, context: RequestContext, route: str, seconds: float) -> None:
        """Log a request that has ended, unless there are too many of its kind.

        An error of the service is a warning; what the client can avoid is not.
        """
        is_own = context.status >= _FIRST_OWN_ERROR and not context.rejected
        if not (is_own or self._everything):
            if not self._has_room(self._clock()):
                self.suppressed += 1
                return
            self._left -= 1
        failed = context.status >= _FIRST_ERROR
        logger.log(
            logging.WARNING if is_own else logging.INFO,
            "a request failed" if failed else "a request was answered",
            extra=self._describe(scope, context, route, seconds),
        )

    def _describe(
        self, scope: Scope, context: RequestContext, route: str, seconds: float
    ) -> dict[str, Any]:
        """The fields of a line. What is not known of the request is left out."""
        fields: dict[str, Any] = {
            "request_id": context.request_id,
            "trace_id": scope.get(TRACE_ID) or find_trace_id(scope),
            "route": route,
            "status": context.status,
            "reason": context.error,
            "model": context.model,
            "version": context.version or None,
            "texts": context.texts or None,
            "duration_ms": _milliseconds(seconds),
        }
        result = context.result
        if result is not None:
            fields |= {
                "tokens": sum(p.tokens for p in result.predictions if isinstance(p, Prediction)),
                "tokenize_ms": _milliseconds(result.tokenize_s),
                "queue_ms": _milliseconds(result.queue_s),
                "infer_ms": _milliseconds(result.inference_s),
            }
        if self.suppressed:
            fields["suppressed"] = self.suppressed
            self.suppressed = 0
        return {name: value for name, value in fields.items() if value not in ("", None)}

    def _has_room(self, now: float) -> bool:
        if now >= self._renewed_at + 1:
            self._renewed_at = now
            self._left = MAX_ERRORS_PER_S
        return self._left > 0


def find_trace_id(scope: Scope) -> str:
    """The id of the trace in the header `traceparent`; empty if there is none."""
    for name, value in scope["headers"]:
        if name == b"traceparent" and (found := _TRACEPARENT.fullmatch(value)):
            return found[1].decode("ascii")
    return ""


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)
