"""Deferred handling of SIGINT and SIGTERM."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def signals_deferred(on_signal: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Defer SIGINT and SIGTERM to the end of the context.

    An exception between starting a process and recording it would leave the process running, and
    uvloop treats an exception inside a callback as an error of the connection.

    Args:
        on_signal: Called when a signal arrives, to end the context sooner.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread handles signals
        return
    received: list[int] = []

    def note(number: int, _frame: object) -> None:
        received.append(number)
        on_signal()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, note) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])
