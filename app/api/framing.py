"""Which heads of requests are refused, and with which status (RFC 9110 and 9112)."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

MAX_HEAD_BYTES: Final = 64 * 1024
"""Request line and headers; proxies accept less."""
MAX_TARGET_BYTES: Final = 8192
"""The path and query: RFC 9112, section 3, recommends at least 8000."""

FRAMING_HEADERS: Final = frozenset({b"host", b"transfer-encoding", b"expect"})
"""The headers that `check_head` looks at."""

Header = tuple[bytes, bytes]

_OK: Final = 0
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e]+ HTTP/1\.[01]\r\n")
_VERSION_REASON: Final = "Invalid HTTP version"
_METHOD_REASONS: Final = ("Invalid method", "Expected space after method")


def check_head(version: str, target: bytes, framing: Iterable[Header]) -> int:
    """The status that refuses a head, or 0.

    Args:
        version: Of HTTP, as in "1.1".
        target: What is between the method and the version.
        framing: The headers in `FRAMING_HEADERS`, with names in lower case.
    """
    if version not in ("1.1", "1.0"):
        return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    if len(target) > MAX_TARGET_BYTES:
        return HTTPStatus.REQUEST_URI_TOO_LONG
    hosts = 0
    for name, value in framing:
        if name == b"host":
            hosts += 1
            if _HOST.fullmatch(value) is None:
                return HTTPStatus.BAD_REQUEST
        elif name == b"expect":
            if value.lower() != b"100-continue" and version == "1.1":
                return HTTPStatus.EXPECTATION_FAILED
        elif value.strip().lower() != b"chunked":
            return HTTPStatus.NOT_IMPLEMENTED
        elif version == "1.0":  # RFC 9112, section 6.1: the framing is faulty
            return HTTPStatus.BAD_REQUEST
    return HTTPStatus.BAD_REQUEST if hosts > 1 or (not hosts and version == "1.1") else _OK


def size_of_head(target: bytes, headers: Iterable[Header]) -> int:
    """The bytes of a request line and its headers, method and version aside."""
    return len(target) + sum(len(name) + len(value) + len(b": \r\n") for name, value in headers)


def classify_parse_error(reason: str, data: bytes) -> int:
    """The status for bytes that the parser rejected.

    Args:
        reason: What the parser says.
        data: The bytes, where they begin a request; else none.
    """
    if reason == _VERSION_REASON:
        return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED
    if reason.startswith(_METHOD_REASONS) and _REQUEST_LINE.match(data):
        return HTTPStatus.NOT_IMPLEMENTED
    return HTTPStatus.BAD_REQUEST
