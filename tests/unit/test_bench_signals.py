import signal

import pytest

from load_tests.bench.signals import signals_later


def test_a_signal_waits() -> None:
    """What comes inside is told at once, and raised when the context has ended."""
    told: list[str] = []

    def interrupt() -> None:
        with signals_later(lambda: told.append("came")):
            signal.raise_signal(signal.SIGINT)
            told.append("went on")

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert told == ["came", "went on"]


def test_handlers_come_back() -> None:
    """Afterwards the handlers are those from before."""
    before = signal.getsignal(signal.SIGTERM)
    with signals_later():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
