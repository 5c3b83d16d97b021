import signal
from collections.abc import Iterator

import pytest

from load_tests.bench.signals import signals_deferred


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, which a shell switches off for background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_signal_waits() -> None:
    """A signal inside the context is reported immediately and raised when the context ends."""
    events: list[str] = []

    def interrupt() -> None:
        with signals_deferred(lambda: events.append("signal")):
            signal.raise_signal(signal.SIGINT)
            events.append("after the signal")

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert events == ["signal", "after the signal"]


def test_handlers_come_back() -> None:
    """The previous handlers are restored."""
    before = signal.getsignal(signal.SIGTERM)
    with signals_deferred():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
