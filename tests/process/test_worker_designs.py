"""The designs of workers that are compared, with the real service."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from app.workers import can_fork_workers
from load_tests.bench.bundled import Bundled
from load_tests.bench.machine import ROOT
from load_tests.bench.worker_designs.designs import DESIGNS, Design
from load_tests.bench.worker_designs.rounds import largest_share
from load_tests.bench.worker_designs.subject import Plan, run_subject, until

pytestmark = pytest.mark.skipif(not can_fork_workers(), reason="one process is all there is here")

BODIES = [b'{"text": "superb", "model": "bow"}']


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: design.name)
def test_design(design: Design, tmp_path: Path) -> None:
    """A design starts two workers, replaces one that is killed, and ends at SIGTERM."""
    shutil.copytree(ROOT / "models" / "bow", tmp_path / "bow")
    plan = Plan(tmp_path, "bow", 2, BODIES, 8, 1, Bundled())
    with run_subject(design, plan) as subject:
        assert 0.5 <= asyncio.run(largest_share(subject, 8)) <= 1
        before = subject.workers()
        subject.kill_worker()
        asyncio.run(until("the worker is replaced", lambda: subject.times_ready() > 1))
        assert (len(before), len(set(before) & set(subject.workers()))) == (2, 1)
        os.kill(subject.server.pid, signal.SIGTERM)
        asyncio.run(until("it has ended", lambda: subject.server.exit_status() is not None))
        assert subject.server.exit_status() == 0
