"""Messages between the supervisor and its workers: JSON objects over a Unix socket pair."""

import json
import socket
from typing import Any, Final

MAX_MESSAGE_BYTES: Final = 2**20
"""The limit of one message; a metrics snapshot of a worker has about 20 kB."""


def make_channel() -> tuple[socket.socket, socket.socket]:
    """The two ends of a non-blocking channel that keeps message boundaries."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setblocking(False)
        # Linux doubles the value and may grant less, which is still enough.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_MESSAGE_BYTES)
    return ends


def send(channel: socket.socket, **message: Any) -> bool:
    """Send a message without waiting.

    Returns:
        False if the message was dropped: the other end is closed, its buffer is full, or the
        message is over `MAX_MESSAGE_BYTES`.
    """
    content = json.dumps(message).encode()
    if len(content) > MAX_MESSAGE_BYTES:
        return False
    try:
        channel.send(content)
    except OSError:
        return False
    return True


def receive(channel: socket.socket) -> dict[str, Any] | None:
    """Receive the next message; None if the other end is closed.

    Raises:
        BlockingIOError: There is no message yet.
    """
    try:
        content = channel.recv(MAX_MESSAGE_BYTES)
    except ConnectionError:
        return None
    if not content:
        return None
    message: dict[str, Any] = json.loads(content)
    return message
