"""`valence-train tune` from the shell: parallel trials, a real kill, and resuming after it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus import write, write_tsv_folder
from tests.deferred import deferred
from tests.trained import call

with deferred():
    import optuna

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_killed_and_resumed(tmp_path: Path) -> None:
    """After SIGKILL no process is left, and the same command finishes the search, each cell once.

    The first call runs two trials in parallel, the second one at a time.
    """
    data = write_tsv_folder(tmp_path / "data", train=80, test=10)
    space = write(tmp_path / "space.toml", "hidden = [[4], [8], [16], [32]]")
    search = [
        *("tune", "--config", "bow", "--set", "teacher=none", "--set", "epochs=4"),
        *("--data", str(data), "--space", str(space)),
        *("--sampler", "grid", "--study", str(tmp_path / "study")),
    ]
    command = [sys.executable, "-m", "training", *search, "--jobs", "2"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "using" not in process.stderr.readline():
            assert process.poll() is None
        process.kill()
        # Ends when the last process that could write to it has ended, workers included.
        assert "Traceback" not in process.stderr.read()
    assert call(*search) == 0

    report = json.loads((tmp_path / "study" / "report" / "trials.json").read_text())
    widths = sorted(int(trial["setting"]["hidden"]) for trial in report["trials"])
    assert widths == [4, 8, 16, 32]
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study/study.db")
    trials = optuna.load_study(study_name=None, storage=storage).trials
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "FAIL"}
    first, second = (trial.datetime_start for trial in trials[:2])
    ended = min(trial.datetime_complete for trial in trials if trial.datetime_complete)
    assert first is not None
    assert second is not None
    assert max(first, second) < ended
    storage.engine.dispose()
