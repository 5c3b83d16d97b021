"""Scoring through a running service, with bounded concurrency and patience."""

import json
import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ssl import SSLCertVerificationError
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from app.errors import InvalidInput, NotReady, Unauthorized, UnknownModel, ValenceError
from app.scoring.verdicts import Scores

_CHUNK_TEXTS: Final = 64
_PROBE: Final = "A text that tells which version answers."
_FIRST_PATIENCE_S: Final = 10.0
_ANSWER_TIMEOUT_S: Final = 60.0
_LONGEST_WAIT_S: Final = 30.0
_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
_TOO_LARGE: Final = 413

Connect = Callable[[float], HTTPConnection]
"""Makes a connection whose answers may take so many seconds."""


class RemoteScorer:
    """Scores through `POST /predict` of a service; see `Scorer`.

    A request that is refused for now, or breaks off, is sent again: after the seconds in
    `Retry-After` where the service says so, and else after a time that doubles.

    Args:
        url: The address of the service, such as `http://127.0.0.1:8000`.
        model: The model; None for the service's default model.
        version: Its version, a number or an alias; None for the one that answers by default. All
            texts go to the version that answers first.
        key: An API key, if the service asks for one.
        concurrency: The most requests at once.
        patience_s: For how long a request is repeated before scoring fails.
        connect: Replaces the connection, for tests.
        pause: Waits for some seconds; returns True if scoring was stopped meanwhile.

    Raises:
        InvalidInput: The address is none.
        NotReady: The service does not answer.
        Unauthorized: The key is missing or wrong.
        UnknownModel: The service has no such model or version.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        version: int | str | None = None,
        key: str | None = None,
        concurrency: int = 8,
        patience_s: float = 300.0,
        connect: Connect | None = None,
        pause: Callable[[float], bool] | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._connect, self._path = (connect, "") if connect else _parse(url)
        self._stopped = threading.Event()
        self._pause = pause or self._stopped.wait
        self._patience_s = min(patience_s, _FIRST_PATIENCE_S)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._own = threading.local()
        self._fields: dict[str, Any] = {}
        if model is not None:
            self._fields["model"] = model
        if version is not None:
            self._fields["version"] = version
        answer = self._ask({"text": _PROBE})
        try:
            self._fields = {"model": answer["model"], "version": answer["version"]}
            self.labels = tuple(answer["probabilities"])
        except (KeyError, TypeError) as error:
            raise self._failure("an answer without model, version and probabilities") from error
        self._patience_s = patience_s
        self.version = f"{answer['model']}/{answer['version']}"
        self.identity = f"{self.version} of {self._url}"
        self.chunk_texts = _CHUNK_TEXTS
        self.depth = 2 * concurrency
        self._executor = ThreadPoolExecutor(concurrency, "request")

    def submit(self, texts: Sequence[str]) -> "Future[Scores]":
        """Start to score texts; see `Scorer`."""
        return self._executor.submit(self._score, texts)

    def close(self) -> None:
        """Stop; see `Scorer`."""
        self._stopped.set()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _score(self, texts: Sequence[str]) -> Scores:
        scores = Scores(np.full((len(texts), len(self.labels)), np.nan))
        self._fill(texts, 0, scores)
        return scores

    def _fill(self, texts: Sequence[str], start: int, scores: Scores) -> None:
        """Score texts, whose first has the position `start`; in halves if they are too large."""
        if not texts:
            return
        try:
            answer = self._ask({"texts": list(texts)})
        except _TooLargeError as error:
            if len(texts) == 1:
                scores.errors[start] = str(error)
                return
            middle = len(texts) // 2
            self._fill(texts[:middle], start, scores)
            self._fill(texts[middle:], start + middle, scores)
            return
        predictions = answer.get("predictions")
        if not isinstance(predictions, list) or len(predictions) != len(texts):
            raise self._failure("an answer without a prediction for each text")
        for index, prediction in enumerate(predictions, start=start):
            try:
                if "error" in prediction:
                    problem = prediction["error"]
                    scores.errors[index] = str(problem.get("detail") or problem["title"])
                else:
                    found = prediction["probabilities"]
                    scores.probabilities[index] = [found[label] for label in self.labels]
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise self._failure("a prediction of another form") from error

    def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """Send one request, again and again if need be, and return its answer."""
        content = json.dumps(body | self._fields, ensure_ascii=False).encode()
        waited_s, attempt = 0.0, 0
        while True:
            jitter = 0.5 + random.random() / 2  # noqa: S311 - not all at the same moment
            wait_s = min(2.0**attempt / 4, _LONGEST_WAIT_S) * jitter
            try:
                status, retry_after, answer = self._send(content)
            except SSLCertVerificationError as error:
                reason = f"an invalid certificate: {error.verify_message}"
                raise self._failure(reason) from error
            except (OSError, HTTPException) as error:
                reason = getattr(error, "strerror", None) or type(error).__name__
            else:
                if status == 200:
                    return _parse_object(answer) or self._raise("an answer that is no JSON object")
                problem = _parse_object(answer) or {}
                detail = str(problem.get("detail") or problem.get("title") or "no reason")
                self._check(status, detail)
                reason = f"status {status}: {detail}"
                wait_s = max(wait_s, retry_after) if retry_after else wait_s
            if waited_s + wait_s > self._patience_s:
                raise NotReady(
                    f"the service at {self._url} must answer within {self._patience_s:g} s, "
                    f"repetitions included. Received: {reason}"
                )
            waited_s += wait_s
            attempt += 1
            if self._pause(wait_s):
                raise NotReady("scoring was stopped")

    def _send(self, content: bytes) -> tuple[int, float, bytes]:
        """Send one request on this thread's connection; returns status, Retry-After and body."""
        connection: HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._connect(_ANSWER_TIMEOUT_S)
        try:
            connection.request("POST", f"{self._path}/predict", content, self._headers)
            response = connection.getresponse()
            body = response.read()
        except BaseException:
            self._own.connection = None
            connection.close()
            raise
        header = response.headers.get("Retry-After", "")
        retry_after = min(float(header), self._patience_s) if header.isdigit() else 0.0
        return response.status, retry_after, body

    def _check(self, status: int, detail: str) -> None:
        """Raise unless a request with this status may succeed when it is sent again."""
        if status == _TOO_LARGE:
            raise _TooLargeError(detail)
        if status in (401, 403):
            raise Unauthorized
        if status == 404:
            raise UnknownModel(f"the service at {self._url}: {detail}")
        if status not in _AGAIN:
            raise self._failure(f"status {status}: {detail}")

    def _failure(self, received: str) -> ValenceError:
        return ValenceError(
            f"the service at {self._url} must answer as Valence does. Received: {received}"
        )

    def _raise(self, received: str) -> Any:
        raise self._failure(received)


class _TooLargeError(ValenceError):
    """The service takes no request of this size."""


def _parse(url: str) -> tuple[Connect, str]:
    """Return what connects to the host of an address, and the path before `/predict`.

    Raises:
        InvalidInput: It is no address of a service.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.username:
        raise InvalidInput("--url must be the address of a service, such as http://127.0.0.1:8000")
    connection = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return (lambda timeout: connection(host, port, timeout=timeout)), parts.path.rstrip("/")


def _parse_object(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
