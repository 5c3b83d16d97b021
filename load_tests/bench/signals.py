"""Interruptions at a moment that suits."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def signals_later(then: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Put off SIGINT and SIGTERM to the end of the context.

    Between a process and the note of it, nobody would end it; and inside a callback of uvloop an
    exception is taken for a fault of the connection.

    Args:
        then: Called when one comes, to end the context sooner.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are handled elsewhere
        return
    came: list[int] = []

    def note(number: int, _frame: object) -> None:
        came.append(number)
        then()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, note) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
