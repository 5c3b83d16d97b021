"""What the supervisor and its workers tell each other: JSON objects, whole or not at all."""

import json
import socket
from typing import Any, Final

MAX_MESSAGE_BYTES: Final = 2**20
"""Of one message; a worker's figures are some 20 kB."""


def make_line() -> tuple[socket.socket, socket.socket]:
    """Two ends of a line that keeps messages apart, neither of which blocks."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
        # The system doubles what is asked for and may grant less; what is there suffices then.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_MESSAGE_BYTES)
    return ends


def tell(line: socket.socket, **message: Any) -> bool:
    """Send a message.

    Returns:
        False when it was lost: the other side is gone, or has not listened for long, or the message
        is too long.
    """
    content = json.dumps(message).encode()
    if len(content) > MAX_MESSAGE_BYTES:
        return False
    try:
        line.send(content)
    except OSError:
        return False
    return True


def hear(line: socket.socket) -> dict[str, Any] | None:
    """The next message; None when the other side is gone.

    Raises:
        BlockingIOError: There is none yet.
    """
    try:
        received = line.recv(MAX_MESSAGE_BYTES)
    except ConnectionError:
        return None
    if not received:
        return None
    message: dict[str, Any] = json.loads(received)
    return message
