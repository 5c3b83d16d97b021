"""Signals that arrive below native code, which loses the exception raised for them."""

import signal
from contextlib import suppress


def swallow(number: int = signal.SIGTERM) -> None:
    """Receive a signal below native code that swallows the exception."""
    with suppress(KeyboardInterrupt):
        signal.raise_signal(number)


def fail(*_: object) -> None:
    """Receive a signal below native code that raises an error of its own instead."""
    swallow()
    raise RuntimeError("MISMATCH of original and normalized active exception types")
