import signal

import pytest

from load_tests.bench.signals import signals_deferred


def test_a_signal_waits() -> None:
    """A signal inside the context is reported immediately and raised when the context ends."""
    told: list[str] = []

    def interrupt() -> None:
        with signals_deferred(lambda: told.append("came")):
            signal.raise_signal(signal.SIGINT)
            told.append("went on")

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert told == ["came", "went on"]


def test_handlers_come_back() -> None:
    """The previous handlers are restored."""
    before = signal.getsignal(signal.SIGTERM)
    with signals_deferred():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
