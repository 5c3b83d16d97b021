"""SIGINT and SIGTERM interrupt a command, even if the exception for it gets lost.

Python runs a signal handler wherever the main thread happens to be. Below native code, as in the
iterators of TensorFlow, `KeyboardInterrupt` may come out as another error, or not at all. So the
signal itself is remembered: long loops look for it, and errors after it count as the interruption.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_received = False


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt; for the main thread.

    Raises:
        KeyboardInterrupt: A signal arrived, and the block did not complete.
    """
    global _received
    _received = False
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell sets it for "command &"
        numbers.append(signal.SIGINT)
    before = [signal.signal(number, _interrupt) for number in numbers]
    try:
        with errors_as_interruption():
            yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        _received = False


@contextmanager
def errors_as_interruption() -> Iterator[None]:
    """Raise KeyboardInterrupt instead of an error that follows a signal."""
    try:
        yield
    except Exception:
        check_interruption()
        raise


def check_interruption() -> None:
    """Raise KeyboardInterrupt if a signal has arrived; loops over long work call this."""
    if _received:
        raise KeyboardInterrupt


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    global _received
    _received = True
    raise KeyboardInterrupt
