"""HTTP/1.1 on a socket of one's own, so that a client can also behave badly."""

import contextlib
import re
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_TIMEOUT_S: Final = 30.0
_RECEIVE_BYTES: Final = 64 * 1024
_RST_AT_CLOSE: Final = struct.pack("ii", 1, 0)
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ID: Final = re.compile(rb"\r\nx-request-id: *(\S+)", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)


class BrokenConnectionError(Exception):
    """The connection has ended, or was silent for too long, before an answer was complete."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer.

    Attributes:
        status: Its status; never 1xx.
        request_id: Its `X-Request-ID`; empty without one.
        body: Its body.
        closes: Whether the connection ends behind it.
    """

    status: int
    request_id: str
    body: bytes
    closes: bool


class Connection:
    """One connection to the service.

    Args:
        port: Its port.
        host: Its name or address.

    Attributes:
        local_port: The client's port, which names the connection in /proc.
        opened: When it began to be opened, on the monotonic clock.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.opened = time.monotonic()
        self._socket = socket.create_connection((host, port), _TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        self.local_port: int = self._socket.getsockname()[1]

    def send(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            BrokenConnectionError: The connection has ended.
        """
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise BrokenConnectionError(type(error).__name__) from error

    def read(self) -> Reply:
        """Wait for the next answer.

        Raises:
            BrokenConnectionError: It does not come.
        """
        while (reply := self._take()) is None:
            self._receive()
        return reply

    def read_to_end(self, timeout_s: float) -> tuple[list[Reply], bool]:
        """Wait until the server closes; returns the answers, and whether it did."""
        until = time.monotonic() + timeout_s
        with contextlib.suppress(BrokenConnectionError):
            while (left := until - time.monotonic()) > 0:
                self._receive(left)
            return list(self._replies()), False
        return list(self._replies()), True

    def is_silent(self) -> bool:
        """Whether nothing has come that was not read; also if the connection has ended."""
        self._socket.setblocking(False)
        try:
            self._received += self._socket.recv(_RECEIVE_BYTES)
        except OSError:
            pass
        finally:
            self._socket.settimeout(_TIMEOUT_S)
        return not self._received

    def end_sending(self) -> None:
        """Close the own side: nothing more will be sent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close, with FIN if everything that came was read."""
        self._socket.close()

    def reset(self) -> None:
        """Close with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_AT_CLOSE)
        self._socket.close()

    def _receive(self, timeout_s: float = _TIMEOUT_S) -> None:
        self._socket.settimeout(timeout_s)
        try:
            piece = self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError as error:
            if timeout_s == _TIMEOUT_S:
                raise BrokenConnectionError("silent") from error
            return
        except OSError as error:
            raise BrokenConnectionError(type(error).__name__) from error
        if not piece:
            raise BrokenConnectionError("ended")
        self._received += piece

    def _replies(self) -> Iterator[Reply]:
        while (reply := self._take()) is not None:
            yield reply

    def _take(self) -> Reply | None:
        """Take a complete answer from what was received; interim ones are dropped."""
        while True:
            head, found, rest = self._received.partition(_END)
            if not found:
                return None
            status = int(head[9:12])
            if status >= 200:
                break
            self._received = rest
        head += b"\r\n"
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if len(rest) < size:
            return None
        self._received = rest[size:]
        request_id = _ID.search(head)
        return Reply(
            status,
            request_id[1].decode("latin-1") if request_id else "",
            rest[:size],
            _CLOSE.search(head) is not None,
        )
