"""API keys: who may ask, and how often.

The service knows the hashes of the keys only. A line of the file is

    NAME SHA256 [REQUESTS_PER_SECOND]

with the SHA-256 of the key in hexadecimal; blank lines and lines that begin with # are skipped.
`valence key NAME` makes a key with 256 random bits. Nobody can find it by trying, so a hash that is
slow on purpose, as passwords need, would protect nothing more, and cost time in every request.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import documentation
from app.api.connections import PROBES
from app.api.console import routes as console
from app.api.error_handlers import respond_to_error
from app.errors import InvalidInput, RateExceeded, Unauthorized, ValenceError
from app.workers.heartbeat import make_shared_numbers

logger = logging.getLogger(__name__)

OPEN_PATHS: Final = frozenset(
    {
        *PROBES,
        *("/docs", documentation.SCRIPT, documentation.STYLE, "/openapi.json"),
        *(console.PAGE, console.SCRIPT, console.STYLE),
    }
)
"""Probes have no key, and a browser sends none for a page. The documentation and the console hold
no secret."""
MAX_KEYS: Final = 1000
"""A request is compared with every key, which takes 0.1 µs each."""

_PREFIX: Final = "vk_"
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHA256: Final = re.compile(r"[0-9A-Fa-f]{64}")
_MIN_RATE, _MAX_RATE = 0.001, 1e6
_MAX_FILE_BYTES: Final = 2**20
_MAX_KEY_BYTES: Final = 256
_BEARER: Final = b"bearer "
_LOOK_EVERY_S: Final = 1.0
_LOG_EVERY_S: Final = 60.0
_NS: Final = 10**9

Sight = tuple[int, int, int] | None
"""What tells that a file has changed; None if it is not there."""


@dataclass(slots=True, eq=False)
class Key:
    """One key.

    Attributes:
        name: Whose it is.
        digest: The SHA-256 of the key.
        rate: Requests per second; None for any number.
        refused: How many requests were over the rate since that was last logged.
        logged_at: When it was last logged, on the clock.
    """

    name: str
    digest: bytes
    rate: float | None
    refused: int = 0
    logged_at: float = float("-inf")


class Keys:
    """The keys of a file, which is read again when it has changed.

    A file that is damaged or has gone leaves the keys as they are: a slip of an editor must not
    lock everybody out.

    **Rates.** A key may be used as often as its rate says by all processes together, and for one
    second's requests at once (the generic cell rate algorithm, a token bucket that is one number:
    up to when the rate is used up). The numbers are in memory that forked processes share, without
    a lock. Two processes that read a number in the same microsecond count one request for two.

    Args:
        path: The file.
        clock: Monotonic, in seconds; the same for all processes.

    Attributes:
        on_load: Called after a changed file was looked at, with whether it was taken.

    Raises:
        InvalidInput: The file cannot be read, or a line is wrong.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.on_load: Callable[[bool], None] = lambda _taken: None
        self._path = path
        self._clock = clock
        self._used_until = make_shared_numbers(MAX_KEYS)
        self._looked_at = clock()
        self._seen = _look_at(path)  # before it is read: a later change is then noticed
        self._keys = read_keys(path)

    def admit(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Check the key of a request, and count the request against its rate.

        Args:
            headers: Of the request, with names in lower case.

        Raises:
            Unauthorized, RateExceeded: As `check`.
        """
        self.check(find_keys(headers))

    def check(self, presented: Sequence[bytes]) -> None:
        """Check the key of a request, and count the request against its rate.

        Args:
            presented: All keys that the request carries.

        Raises:
            Unauthorized: There is no key, a wrong one, or more than one.
            RateExceeded: The key was used too often.
        """
        if self._clock() >= self._looked_at + _LOOK_EVERY_S:
            self._look()
        if len(presented) != 1 or len(presented[0]) > _MAX_KEY_BYTES:
            raise Unauthorized
        digest = hashlib.sha256(presented[0]).digest()
        found = None
        for index, key in enumerate(self._keys):  # all of them: the time says nothing
            if hmac.compare_digest(key.digest, digest):
                found = index
        if found is None:
            raise Unauthorized
        self._count(found)

    def _count(self, index: int) -> None:
        """Count one use of a key."""
        key = self._keys[index]
        if key.rate is None:
            return
        now = int(self._clock() * _NS)
        cost = int(_NS / key.rate)
        burst = max(cost, _NS)
        # The position in a changed file may have been another key's: never wait for longer.
        used_until = min(max(self._used_until[index], now), now + burst)
        wait = used_until + cost - burst - now
        if wait > 0:
            self._log_refusal(key)
            raise RateExceeded(
                f"the key may be used {key.rate:g} times per second", retry_after_s=wait / _NS
            )
        self._used_until[index] = used_until + cost

    def _log_refusal(self, key: Key) -> None:
        """Log the first request over a rate, then one event a minute for each key."""
        key.refused += 1
        now = self._clock()
        if now >= key.logged_at + _LOG_EVERY_S:
            key.logged_at = now
            extra = {"key": key.name, "rate": key.rate, "refused": key.refused}
            logger.warning("a key is used too often", extra=extra)
            key.refused = 0

    def _look(self) -> None:
        """Read the file again if it has changed."""
        self._looked_at = self._clock()
        seen = _look_at(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._keys = read_keys(self._path)
        except InvalidInput as error:
            logger.error("the keys were not reloaded", extra={"reason": str(error)})  # noqa: TRY400
            self.on_load(False)
            return
        logger.info("the keys were reloaded", extra={"keys": len(self._keys)})
        self.on_load(True)


class KeyCheck:
    """ASGI middleware: only requests with a valid key get further, those for open paths aside."""

    def __init__(self, app: ASGIApp, *, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request pass, or refuse it; its body is not read then."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            try:
                self._keys.admit(scope["headers"])
            except ValenceError as error:
                await respond_to_error(scope, error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def find_keys(headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """All keys that a request carries, as `Authorization: Bearer KEY` or `X-API-Key: KEY`.

    Other schemes of Authorization are ignored: they may be meant for a proxy.
    """
    found = []
    for name, value in headers:
        if name == b"x-api-key":
            found.append(value.strip())
        elif name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            found.append(value[len(_BEARER) :].strip())
    return found


def make_key() -> str:
    """A new key, with 256 random bits."""
    return _PREFIX + secrets.token_urlsafe(32)


def describe_key(name: str, key: str, rate: float | None) -> str:
    """The line of the file for a key.

    Raises:
        InvalidInput: The name or the rate breaks its rule.
    """
    words = [name, hashlib.sha256(key.encode()).hexdigest()]
    line = " ".join(words if rate is None else [*words, f"{rate:g}"])
    _parse_line(line, "the key")
    return line


def read_keys(path: Path) -> list[Key]:
    """The keys of a file, in its order.

    Raises:
        InvalidInput: It cannot be read, or a line is wrong. The message never quotes a line, which
            may hold a key by mistake.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(
            f"API_KEYS_FILE must be a file that can be read: {error.strerror}. Received: {path}"
        ) from error
    if len(content) > _MAX_FILE_BYTES:
        raise InvalidInput(f"{path}: the file of keys must have at most {_MAX_FILE_BYTES} bytes")
    lines = content.decode("utf-8", errors="replace").splitlines()
    keys = [
        _parse_line(line, f"{path}: line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not 1 <= len(keys) <= MAX_KEYS:
        raise InvalidInput(
            f"{path}: the file of keys must have 1 to {MAX_KEYS} keys. Received: {len(keys)}"
        )
    for what, values in (("name", {k.name for k in keys}), ("hash", {k.digest for k in keys})):
        if len(values) < len(keys):
            raise InvalidInput(f"{path}: each {what} must be in the file of keys once")
    return keys


def _parse_line(line: str, place: str) -> Key:
    name, digest, *rest = (*line.split(), "", "")
    rates = [word for word in rest if word]
    if not _NAME.fullmatch(name) or not _SHA256.fullmatch(digest) or len(rates) > 1:
        raise InvalidInput(
            f"{place} must be NAME SHA256 [REQUESTS_PER_SECOND]: a name of up to 64 letters, "
            "digits, dots, dashes and underscores, and 64 hexadecimal digits"
        )
    return Key(name, bytes.fromhex(digest), _parse_rate(rates[0], place) if rates else None)


def _parse_rate(word: str, place: str) -> float:
    try:
        rate = float(word)
    except ValueError:
        rate = 0.0
    if not _MIN_RATE <= rate <= _MAX_RATE:
        raise InvalidInput(
            f"{place}: the requests per second must be a number from {_MIN_RATE:g} "
            f"to {_MAX_RATE:,.0f}"
        )
    return rate


def _look_at(path: Path) -> Sight:
    """A file mounted from a Secret is a link, which is followed: a new file is another inode."""
    try:
        status = os.stat(path)  # noqa: PTH116 this is done in requests, and Path.stat is slower
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
