"""What all protocols share: the body of a request, its deadline, its version, its prediction.

An adapter knows its protocol and nothing else: `Read` makes a call from the bytes of a body, and
`Write` makes the body of the response from the predictions.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

from starlette.types import Receive, Scope, Send

from app.api.body import SMALL_BODY_BYTES, Bodies, Limits, parse_timeout_s
from app.api.codings import unpacking
from app.api.error_handlers import respond_to_error
from app.api.middleware import ClientGoneError, RequestContext, context_of
from app.errors import DeadlineExceeded, NotReady, TooLarge, UnknownModel, ValenceError
from app.serving.predictor import Prediction, Result
from app.serving.repository import Repository, Version
from app.telemetry.metrics import UNKNOWN_MODEL
from app.telemetry.tally import Gauge

JSON: Final = (b"content-type", b"application/json")

_MAX_LENGTH_DIGITS: Final = 18
"""Digits of Content-Length that are parsed: a longer number is over any limit."""
_WATCH_AFTER_S: Final = 0.05
"""Only a request that takes longer has its connection watched."""
_NO_TEXTS: Final = Result([], 0.0, 0.0, 0.0)

Header = tuple[bytes, bytes]


class Call(Protocol):
    """A request for predictions, as its protocol was read.

    Attributes:
        texts: The valid texts, in order.
        model: None for the default model.
        version: A number or an alias; None for the version that answers by default.
        timeout_s: Seconds until the deadline, if the protocol has its own way to say so. It can
            only be sooner than that of the header.
        explain: Whether the answer says how much each word contributed.
    """

    texts: list[str]
    model: str | None
    version: int | str | None
    timeout_s: float | None
    explain: bool


CallT = TypeVar("CallT", bound=Call)

Read = Callable[[Scope, bytes], CallT]
"""Raises `InvalidInput` if the body breaks a rule of the protocol."""
Write = Callable[[Version, CallT, Result], tuple[bytes, list[Header]]]
"""Returns the body of the response, and its headers but Content-Length and Server-Timing. Raises
`ValenceError` if a text has failed that the protocol cannot leave out."""


class Inference:
    """Answers requests for predictions, whatever their protocol.

    Args:
        repository: The versions that answer.
        limits: The limits of a request.
        bodies: All bodies in flight.
        in_flight: The number of requests that are being answered: what the service works on, so
            an autoscaler can follow it. Probes and scrapes never come here.
    """

    def __init__(
        self, repository: Repository, limits: Limits, bodies: Bodies, in_flight: Gauge
    ) -> None:
        self.repository = repository
        self.limits = limits
        self._bodies = bodies
        self._in_flight = in_flight

    async def answer(
        self, scope: Scope, receive: Receive, send: Send, read: Read[CallT], write: Write[CallT]
    ) -> None:
        """Answer one request."""
        context = context_of(scope)
        self._in_flight.inc()
        try:
            guard = Guard(receive, parse_timeout_s(context.timeout, self.limits))
            try:
                body = await read_body(receive, context, self.limits, self._bodies)
                guard.body_read = True
                call = read(scope, body)
                del body  # its texts take as much memory again
                context.texts = len(call.texts)
                context.explained = call.explain
                if call.timeout_s is not None:
                    guard.shorten(call.timeout_s)
                version = self._find(call, context)
                context.result = result = await _predict(version, call, guard.deadline)
            except asyncio.CancelledError:
                guard.raise_cause()
                raise
            finally:
                guard.close()
            content, headers = write(version, call, result)
        except ValenceError as error:
            await respond_to_error(scope, error)(scope, receive, send)
        else:
            headers += (
                (b"content-length", b"%d" % len(content)),
                (
                    b"server-timing",
                    b"tokenize;dur=%.3f, queue;dur=%.3f, infer;dur=%.3f"
                    % (result.tokenize_s * 1e3, result.queue_s * 1e3, result.inference_s * 1e3),
                ),
            )
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": content})
        finally:
            self._in_flight.dec()

    def _find(self, call: Call, context: RequestContext) -> Version:
        """The version that answers; sets the model's label in the metrics."""
        try:
            version = self.repository.find(call.model, call.version, context.request_id)
        except UnknownModel:
            context.model = UNKNOWN_MODEL
            raise
        context.model, context.version = version.name, version.number
        return version


def require_all(result: Result) -> Sequence[Prediction]:
    """The predictions, for a protocol in which no text can fail alone.

    Raises:
        ValenceError: A text has failed.
    """
    predictions: list[Prediction] = []
    for each in result.predictions:
        if isinstance(each, ValenceError):
            raise each
        predictions.append(each)
    return predictions


async def read_body(
    receive: Receive, context: RequestContext, limits: Limits, bodies: Bodies
) -> bytes:
    """Read a body up to the limit, whatever its Content-Length says, and unpack it on the way.

    Its bytes, unpacked, count in `bodies` until the request ends.

    Raises:
        UnknownCoding, InvalidCoding: It cannot be unpacked.
        TooLarge: It is longer than the limit.
        BodiesFull: All bodies together are over their limit.
        ClientGoneError: The client has disconnected.
    """
    limit = limits.max_body_bytes
    # Leading zeros are allowed, and int() rejects numbers of too many digits.
    digits = (context.content_length or b"").lstrip(b"0")
    if digits.isdigit():
        announced = int(digits[:_MAX_LENGTH_DIGITS])
        if announced > limit:
            raise TooLarge(f"the body must have at most {limit} bytes. Received: {announced}")
        if announced > SMALL_BODY_BYTES:
            bodies.require(announced, announced)
    if context.content_encoding is not None:
        receive = unpacking(receive, context.content_encoding, limit)
    chunks = []
    received, more_body = 0, True
    while more_body:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        chunk = message.get("body", b"")
        received += len(chunk)
        if received > limit:
            raise TooLarge(f"the body must have at most {limit} bytes. Received: more")
        if bodies.received + len(chunk) > bodies.limit_of_large:  # seldom, so that it costs nothing
            bodies.require(len(chunk), received)
        bodies.received += len(chunk)
        context.body_bytes = received
        chunks.append(chunk)
        more_body = message.get("more_body", False)
    context.body_unread = False
    return b"".join(chunks) if len(chunks) > 1 else chunk


async def _predict(version: Version, call: Call, deadline: float) -> Result:
    """Predict the valid texts of a call."""
    if version.predictor is None:
        raise NotReady("the model is being loaded")
    if not call.texts:
        return _NO_TEXTS
    predict = version.predictor.explain if call.explain else version.predictor.predict
    return await predict(call.texts, deadline=deadline)


class Guard:
    """Cancels a request when its deadline passes or its client disconnects.

    Most requests are answered before either can happen, so they pay for one timer only. A request
    that takes longer gets a task that watches its connection.

    Attributes:
        deadline: On the monotonic clock, in seconds.
        body_read: Set it when the body is read; until then the connection must not be watched.

    Args:
        receive: The request's `receive`.
        timeout_s: Seconds from now to the deadline.
    """

    __slots__ = (
        "_client_gone",
        "_deadline_passed",
        "_loop",
        "_receive",
        "_task",
        "_timeout_s",
        "_timer",
        "_watcher",
        "body_read",
        "deadline",
    )

    def __init__(self, receive: Receive, timeout_s: float) -> None:
        self.deadline = time.monotonic() + timeout_s
        self.body_read = False
        self._receive = receive
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(self._loop)
        self._watcher: asyncio.Task[None] | None = None
        self._client_gone = self._deadline_passed = False
        delay_s = min(timeout_s, _WATCH_AFTER_S)
        self._timer = self._loop.call_later(delay_s, self._check)

    def shorten(self, timeout_s: float) -> None:
        """Bring the deadline forward, to so many seconds after the beginning of the request."""
        if timeout_s < self._timeout_s:
            self.deadline += timeout_s - self._timeout_s
            self._timeout_s = timeout_s
            self._timer.cancel()
            delay_s = max(0.0, min(self.deadline - time.monotonic(), _WATCH_AFTER_S))
            self._timer = self._loop.call_later(delay_s, self._check)

    def close(self) -> None:
        """Stop the timer and the watcher: the request is done."""
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def raise_cause(self) -> None:
        """After a cancellation: raise what it stands for, if it came from this guard.

        Raises:
            DeadlineExceeded: The deadline has passed.
            ClientGoneError: The client has disconnected.
        """
        if not (self._client_gone or self._deadline_passed) or self._task is None:
            return
        self._task.uncancel()
        if self._client_gone:
            raise ClientGoneError from None
        raise DeadlineExceeded(
            f"the answer was not ready within {self._timeout_s * 1e3:.0f} ms"
        ) from None

    def _check(self) -> None:
        """The timer fired: cancel a late request, else start to watch its connection."""
        left_s = self.deadline - time.monotonic()
        if left_s <= 0:
            self._deadline_passed = True
            self._cancel()
            return
        if self.body_read and self._watcher is None:
            self._watcher = asyncio.create_task(self._watch_connection())
        # Until the body is read only the deadline is watched; check again soon.
        delay_s = left_s if self.body_read else min(left_s, _WATCH_AFTER_S)
        self._timer = self._loop.call_later(delay_s, self._check)

    async def _watch_connection(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._client_gone = True
        self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
