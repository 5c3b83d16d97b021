"""The phases of a process, and when it is ready."""

import pytest

from app.serving.lifecycle import Lifecycle, Phase

LIFE = (Phase.WARMING, Phase.READY, Phase.DRAINING, Phase.STOPPED)


def live_until(phase: Phase) -> Lifecycle:
    lifecycle = Lifecycle()
    for step in LIFE[: LIFE.index(phase) + 1]:
        lifecycle.advance(step, f"it is {step}")
    return lifecycle


def test_ready_in_one_phase_only() -> None:
    """A process is ready in the phase READY and in no other."""
    assert not Lifecycle().ready
    assert [phase for phase in LIFE if live_until(phase).ready] == [Phase.READY]


def test_draining_phases() -> None:
    """A process is draining in DRAINING and STOPPED."""
    assert [p for p in LIFE if live_until(p).draining] == [Phase.DRAINING, Phase.STOPPED]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Phase.WARMING, Phase.STARTING),
        (Phase.WARMING, Phase.STOPPED),
        (Phase.READY, Phase.WARMING),
        (Phase.READY, Phase.READY),
        (Phase.DRAINING, Phase.READY),
        (Phase.STOPPED, Phase.READY),
    ],
)
def test_steps_that_are_not_allowed(before: Phase, after: Phase) -> None:
    """A step that is not in the table raises."""
    with pytest.raises(RuntimeError, match=f"{before} cannot become {after}"):
        live_until(before).advance(after)


def test_drain_before_ready() -> None:
    """A process that is stopped while it starts drains."""
    lifecycle = Lifecycle()
    lifecycle.advance(Phase.DRAINING, "a signal")
    assert (lifecycle.ready, lifecycle.reason) == (False, "a signal")


def test_reason() -> None:
    """A process that is not ready has a reason, the latest one given."""
    lifecycle = Lifecycle()
    assert lifecycle.reason
    lifecycle.explain("no models")
    assert lifecycle.reason == "no models"


def test_fault() -> None:
    """A fault makes a ready process unready, and is its reason."""
    lifecycle = Lifecycle()
    lifecycle.advance(Phase.WARMING)
    lifecycle.advance(Phase.READY)
    lifecycle.report_fault("lstm/1", "its batcher has failed")
    assert (lifecycle.ready, lifecycle.reason) == (False, "its batcher has failed")


def test_on_change() -> None:
    """`on_change` is called after every change."""
    lifecycle = Lifecycle()
    seen: list[tuple[Phase, bool, str]] = []
    lifecycle.on_change = lambda: seen.append((lifecycle.phase, lifecycle.ready, lifecycle.reason))
    lifecycle.advance(Phase.WARMING, "loading")
    lifecycle.explain("still loading")
    lifecycle.advance(Phase.READY)
    lifecycle.report_fault("lstm/1", "broken")
    assert seen == [
        (Phase.WARMING, False, "loading"),
        (Phase.WARMING, False, "still loading"),
        (Phase.READY, True, ""),
        (Phase.READY, False, "broken"),
    ]
