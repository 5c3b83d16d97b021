"""Signals that interrupt the pipeline, where native code loses the exception raised for them."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.errors import DataError
from tests.corpus import write_tsv_folder
from tests.deferred import deferred
from tests.signals import fail, swallow
from training import cli
from training.configs import load_config
from training.data.dataset import Source
from training.support.cache import DiskCache
from training.support.interruption import check_interruption, signals_interrupt
from training.support.progress import track

with deferred():
    from training.fit.progress import EpochProgress
    from training.train import train_run

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, which a shell switches off for background jobs."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(block: Callable[[], object]) -> pytest.ExceptionInfo[KeyboardInterrupt]:
    """Run the block where signals interrupt; it must be interrupted."""
    with pytest.raises(KeyboardInterrupt) as caught, signals_interrupt():
        block()
    return caught


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts_at_once(number: int) -> None:
    """It raises KeyboardInterrupt where the main thread is."""

    def block() -> None:
        signal.raise_signal(number)
        pytest.fail("went on")

    interrupted(block)


@pytest.mark.parametrize("number", SIGNALS)
def test_an_error_after_a_signal_is_the_interruption(number: int) -> None:
    """Native code may raise an error of its own instead of KeyboardInterrupt."""

    def block() -> None:
        swallow(number)
        raise ValueError("MISMATCH of original and normalized active exception types")

    interrupted(block)


def test_an_error_without_a_signal_stays() -> None:
    """Other errors are raised as they are, also after a block that was interrupted."""
    interrupted(lambda: signal.raise_signal(signal.SIGTERM))
    check_interruption()
    with pytest.raises(DataError, match="as it is"), signals_interrupt():
        raise DataError("as it is")


def test_handlers_come_back() -> None:
    """The handlers of before are restored, and a signal that is ignored remains so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGTERM)
    with signals_interrupt():
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_block_that_completes_is_not_interrupted() -> None:
    """A signal that is swallowed while the last result is written changes nothing any more."""
    with signals_interrupt():
        swallow()


def test_a_loop_ends_though_the_exception_is_swallowed() -> None:
    """Loops with a progress bar look for the signal before each item."""
    seen = []

    def block() -> None:
        for item in track(range(9), "Counting"):
            seen.append(item)
            swallow()

    interrupted(block)
    assert seen == [0]


def test_no_result_is_begun_after_a_signal(tmp_path: Path) -> None:
    """A cached result that is missing is not computed; one that is there is returned."""
    cache = DiskCache(tmp_path)
    cache.path("there", lambda path: path.write_text("text"))

    found, computed = [], []

    def block() -> None:
        swallow()
        found.append(cache.path("there", computed.append).read_text())
        cache.path("missing", computed.append)

    interrupted(block)
    assert (found, computed) == (["text"], [])


@pytest.mark.parametrize(("loop", "where"), [("train", 1), ("test", 0)])
@pytest.mark.parametrize("native_code", [swallow, fail])
def test_a_training_says_how_to_resume(
    native_code: Callable[[], None],
    loop: str,
    where: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever becomes of the exception, a training stops and can be resumed.

    It stops after this step, also where the validation texts of the last epoch are scored.
    """
    source = Source(str(write_tsv_folder(tmp_path / "data", train=200, test=20)))
    config = load_config("smoke").replace(architecture="bow", batch_tokens=256, epochs=1)

    steps: list[int] = []

    def on_batch_end(_self: object, batch: int, logs: object = None) -> None:
        steps.append(batch)
        if batch == where:
            native_code()

    with monkeypatch.context() as patched:
        patched.setattr(EpochProgress, f"on_{loop}_batch_end", on_batch_end)
        caught = interrupted(lambda: train_run(config, source, tmp_path / "run"))
    assert str(caught.value) == "run the same command again to resume at epoch 1, step 1"
    assert steps == list(range(where + 1))
    train_run(config, source, tmp_path / "run")
    assert (tmp_path / "run" / "model.keras").exists()


def test_a_command_fails_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It exits with 1 and says that it was interrupted, not which error native code made of it."""

    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(cli, "_run_check", fail)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as left:
        cli.main(["check", "data"])
    assert left.value.code == 1
    sentence = "valence-train: interrupted; nothing half-written is left\n"
    assert capfd.readouterr().err == sentence
