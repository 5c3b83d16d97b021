import os
import subprocess
import sys

import pytest

from app.server import run_in_long_slices

FORK = """
import os
from app.api.middleware import make_request_id
if os.fork() == 0:
    print(make_request_id(), flush=True)
    os._exit(0)
os.wait()
print(make_request_id())
"""


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="the system has no SCHED_BATCH")
def test_long_slices() -> None:
    """The service asks for long slices, unless whoever runs it has chosen another policy."""
    normal = os.sched_param(0)
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, normal)
        run_in_long_slices()
        chosen = os.sched_getscheduler(0)
        os.sched_setscheduler(0, os.SCHED_OTHER, normal)
        run_in_long_slices()
        asked = os.sched_getscheduler(0)
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, normal)
    assert (chosen, asked) == (os.SCHED_IDLE, os.SCHED_BATCH)


def test_long_slices_that_are_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system forbids it, the service runs as it is."""

    def forbid(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", forbid, raising=False)
    run_in_long_slices()


def test_request_ids_of_workers() -> None:
    """Processes that were forked from one make different request ids."""
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, check=True, timeout=60
    )
    one, other = done.stdout.split()
    assert one != other
    assert {len(one), len(other)} == {32}
