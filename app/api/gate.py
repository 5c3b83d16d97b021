"""Refuses requests that would be too late from their bytes, before anything is spent on them.

Under overload most requests are refused, so a refusal must cost a fraction of an answer. The
ordinary way, with a parsed head, a task and the body as JSON, costs several times as much. Only
what is plainly a whole `POST /predict` in one read is refused here, with the same answer. All else
takes the ordinary way, which decides by the same rule.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import orjson

from app.api.body import Limits
from app.api.error_handlers import problem_type_of, retry_after
from app.api.keys import Keys, find_keys
from app.api.middleware import PROBLEM_JSON, VALID_ID, WHITESPACE, make_request_id
from app.api.security_headers import EVERYWHERE
from app.errors import Overloaded, RateExceeded, Unauthorized, ValenceError
from app.serving.repository import Repository, Version
from app.telemetry.metrics import Metrics

ROUTE: Final = "/predict"

_START: Final = b"POST /predict HTTP/1.1\r\n"
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]{1,9})\r\n", re.IGNORECASE)
_TIMEOUT: Final = re.compile(rb"\r\nx-request-timeout-ms: *([0-9]{1,9})\r\n")
_MODEL: Final = re.compile(rb'"model"\s*:\s*"([A-Za-z0-9._-]{1,64})"')
_REQUEST_ID: Final = re.compile(rb"\r\nx-request-id: *([^\r\n]*)\r\n", re.IGNORECASE)
_ORDINARY: Final = (
    *(b"\r\ntransfer-encoding", b"\r\nconnection", b"\r\nexpect", b"\r\nupgrade"),
    *(b"\r\ncontent-encoding", b"\r\norigin"),
)
"""Beginnings of headers whose requests take the ordinary way."""
_CREDENTIALS: Final = (b"\r\nauthorization", b"\r\nx-api-key")
"""Those of headers that carry keys: where none are asked for, they take the ordinary way, too."""
_HEADERS: Final = re.compile(rb"POST /predict HTTP/1.1\r\n(?:[A-Za-z0-9-]+:[\t\x20-\x7e]*\r\n)+")
_ALERT_S: Final = 1.0
"""How long the gate is used after a refusal."""
_MAX_KNOWN_HEADS, _MAX_KNOWN_BYTES = 256, 4096
_ANSWER: Final = (
    b"HTTP/1.1 429 Too Many Requests\r\n"
    + b"".join(name + b": " + value + b"\r\n" for name, value in EVERYWHERE)
    + b"content-length: %d\r\ncontent-type: "
    + PROBLEM_JSON.encode()
    + b"\r\nretry-after: %d\r\nx-request-id: %s\r\n\r\n%s"
)


@dataclass(frozen=True, slots=True)
class _Head:
    """What is known of a request from its headers.

    Attributes:
        timeout_s: Seconds until the deadline; None if the request takes the ordinary way.
        request_id: As received; empty if it is made here.
        keys: All API keys, if the service asks for them.
    """

    timeout_s: float | None
    request_id: bytes = b""
    keys: tuple[bytes, ...] = ()


_ORDINARY_HEAD: Final = _Head(None)


class Gate:
    """Decides from the bytes of a request whether it is refused at once.

    Args:
        repository: The versions that answer.
        limits: The limits of a request.
        metrics: Counts the refused requests.
        draining: Whether connections are asked to close, which the ordinary way does.
        wants_line: Whether the access log would write the line of a request that is refused at a
            time: then it takes the ordinary way, which logs it.
        keys: The API keys; None if the service asks for none. A request without a valid one takes
            the ordinary way, and one that is refused counts against the rate of its key.
        refused_at: Returns when a request was last refused. Without overload all requests take the
            ordinary way, and the gate costs nothing.
    """

    def __init__(
        self,
        repository: Repository,
        limits: Limits,
        metrics: Metrics,
        draining: Callable[[], bool],
        refused_at: Callable[[], float],
        wants_line: Callable[[float], bool] | None = None,
        keys: Keys | None = None,
    ) -> None:
        self._repository = repository
        self._timeout_ms = limits.request_timeout_ms
        self._max_body_bytes = limits.max_body_bytes
        self._metrics = metrics
        self._draining = draining
        self._refused_at = refused_at
        self._wants_line = wants_line
        self._keys = keys
        self._ordinary = _ORDINARY if keys is not None else _ORDINARY + _CREDENTIALS
        # A client sends the same headers again and again, but for the length of the body.
        self._heads: dict[bytes, _Head] = {}
        # Of the error that was rendered last.
        self._rendered: Overloaded | None = None
        self._problem = b""
        self._retry_after = 0
        self._count: Callable[[], None] = lambda: None

    def refuse(self, data: bytes) -> bytes | None:
        """The answer to a request that is refused; None if it takes the ordinary way.

        Args:
            data: Bytes received on a connection that waits for its next request.
        """
        started = time.monotonic()
        if started > self._refused_at() + _ALERT_S or not data.startswith(_START):
            return None
        end = data.find(_END)
        if end < 0:
            return None
        length = _LENGTH.search(data, 0, end + 2)
        body_bytes = len(data) - end - len(_END)
        if length is None or int(length[1]) != body_bytes or body_bytes > self._max_body_bytes:
            return None
        head = self._read_head(data[: length.start()] + data[length.end() - 2 : end + 2])
        if head.timeout_s is None or self._draining():
            return None
        if self._wants_line is not None and self._wants_line(started):
            return None
        request_id = head.request_id or make_request_id().encode("ascii")
        version = self._find(data, end, request_id)
        if version is None or version.predictor is None:
            return None
        error = version.predictor.refusal(body_bytes, now=started, timeout_s=head.timeout_s)
        if not isinstance(error, Overloaded):
            return None
        if self._keys is not None:
            try:
                self._keys.check(head.keys)
            except Unauthorized:
                return None
            except RateExceeded as too_often:
                error = too_often
        seconds = time.monotonic() - started
        self._metrics.observe_request(ROUTE, version.name, 429, seconds, version=version.number)
        return self._render(error, request_id)

    def _find(self, data: bytes, end: int, request_id: bytes) -> Version | None:
        """The version that answers; None if only the ordinary way can tell."""
        name: str | None = None
        if data.find(b'"model"', end) >= 0:
            model = _MODEL.search(data, end)
            if model is None:
                return None
            name = model[1].decode("ascii")
        # Errors of a body with `inputs` have another form.
        if data.find(b'"version"', end) >= 0 or data.find(b'"inputs"', end) >= 0:
            return None
        try:
            return self._repository.find(name, None, request_id.decode("ascii"))
        except ValenceError:
            return None

    def _read_head(self, head: bytes) -> _Head:
        """Read the headers of a request.

        Args:
            head: The request line and all headers, but one Content-Length.
        """
        known = self._heads.get(head)
        if known is None:
            known = self._parse_head(head)
            if len(self._heads) >= _MAX_KNOWN_HEADS:
                self._heads.clear()
            if len(head) <= _MAX_KNOWN_BYTES:
                self._heads[head] = known
        return known

    def _parse_head(self, head: bytes) -> _Head:
        """As `_read_head`, for headers that are not known yet.

        Whatever another reader of HTTP could understand otherwise takes the ordinary way, so that
        nobody can hide a request in another one.
        """
        lower = head.lower()
        if (
            b"\r\ncontent-length" in lower
            or lower.count(b"\r\nhost:") != 1
            or lower.count(b"\n") != lower.count(b"\r\n")
            or any(name in lower for name in self._ordinary)
            or _HEADERS.fullmatch(head) is None
        ):
            return _ORDINARY_HEAD
        timeout_ms = self._timeout_ms
        if b"\r\nx-request-timeout-ms" in lower:
            timeout = _TIMEOUT.search(lower)
            timeout_ms = int(timeout[1]) if timeout else 0
            if not 1 <= timeout_ms <= self._timeout_ms:
                return _ORDINARY_HEAD
        sent = _REQUEST_ID.search(head)
        request_id = sent[1].rstrip(WHITESPACE) if sent is not None else b""
        if not VALID_ID.fullmatch(request_id):
            request_id = b""
        if self._keys is None:
            return _Head(timeout_ms / 1e3, request_id)
        lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
        keys = find_keys((name.lower(), value.strip()) for name, _, value in lines)
        return _Head(timeout_ms / 1e3, request_id, tuple(keys))

    def _render(self, error: Overloaded, request_id: bytes) -> bytes:
        """The answer; all of it but the request id is kept while the error is the same."""
        if error is not self._rendered:
            self._rendered = error
            problem_type = problem_type_of(error)
            self._count = self._metrics.rejected.labels(problem_type.rejected).inc
            self._problem = orjson.dumps(problem_type.problem(str(error)))[:-1]
            self._retry_after = retry_after(error)
        self._count()
        body = b'%s,"request_id":"%s"}' % (self._problem, request_id)
        return _ANSWER % (len(body), self._retry_after, request_id, body)
