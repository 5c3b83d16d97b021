"""`valence score --engine ray` on a cluster of this machine with two workers, one of which dies."""

import csv
import functools
import importlib.util
import os
import signal
import threading
from pathlib import Path

import pytest

from app import score as composition
from app.__main__ import main
from tests.server import ROOT
from tests.waiting import load_waiting, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("logging_state"),
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is absent: pip install valence[ray]"
    ),
    pytest.mark.filterwarnings("ignore"),  # Ray has warnings of its own
]

FILES = 12


def test_a_worker_dies(fake_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a worker is killed at work, its rows are scored again, and every row is there once."""
    monkeypatch.delenv("VALENCE_DATA", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # workers import the fakes
    source, signals, output = tmp_path / "in", tmp_path / "signals", tmp_path / "out"
    for folder in (source, signals):
        folder.mkdir()
    for file in range(FILES):
        lines = [f"{file}-{row},{('bad', 'good')[row % 2]} film" for row in range(50)]
        (source / f"{file:02}.csv").write_text("\n".join(["id,text", *lines, "malformed", ""]))
    load = functools.partial(load_waiting, signals=signals)
    monkeypatch.setattr(composition, "load_engine", load)

    def workers() -> list[int]:
        return [int(path.name) for path in signals.iterdir() if path.name != "go"]

    def kill_one() -> None:
        wait_until(workers)
        os.kill(workers()[0], signal.SIGKILL)
        (signals / "go").touch()

    killer = threading.Thread(target=kill_one)
    killer.start()
    options = ("--engine", "ray", "--workers", "2", "--output-format", "csv")
    status = main(["score", "--models-dir", str(fake_models), *options, str(source), str(output)])
    killer.join()
    assert status == 1  # one row of each file is malformed
    rows = []
    for part in sorted(output.glob("part-*.csv")):
        with part.open(newline="") as file_of_part:
            rows += list(csv.reader(file_of_part))[1:]
    assert [row[0] for row in rows] == [
        f"{file}-{row}" for file in range(FILES) for row in range(50)
    ]
    assert [row[2] for row in rows] == ["negative", "positive"] * 25 * FILES
    assert len(list((output / "_bad").iterdir())) == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "signals"]
