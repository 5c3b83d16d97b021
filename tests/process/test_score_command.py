"""`valence score` as its users run it: real processes, the bundled models, a kill."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.server import COMMAND, ROOT, ServerProcess, environment, run
from tests.waiting import wait_until

ROWS = 8000


def rows_saved(state: Path) -> int:
    try:
        return int(json.loads(state.read_text())["state"]["row"])
    except (OSError, ValueError):
        return 0


def descendants(pid: int) -> list[Path]:
    """The folders in /proc of the processes that a process has started, and of theirs."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    started = [int(child) for task in tasks for child in task.read_text().split()]
    return [Path(f"/proc/{child}") for child in started] + [
        path for child in started for path in descendants(child)
    ]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """After SIGKILL no process is left, and the same command loses and doubles no row."""
    table, output = tmp_path / "in.csv", tmp_path / "out.csv"
    texts = ("A warm and funny film.", "Dull and far too long.")
    lines = [f"{number},{texts[number % 2]}" for number in range(ROWS)]
    table.write_text("\n".join(["id,text", *lines, "malformed", ""]))
    options = ("score", str(table), str(output), "--model", "bow", "--workers", "2")
    with subprocess.Popen([*COMMAND, *options], cwd=ROOT, env=environment()) as process:
        state = tmp_path / ".out.csv.scoring" / "state.json"
        wait_until(lambda: rows_saved(state) > 0 or process.poll() is not None)
        started = descendants(process.pid)
        process.kill()
    saved = rows_saved(state)
    assert 0 < saved <= ROWS
    assert not output.exists()
    assert len(started) >= 2
    wait_until(lambda: not any(path.exists() for path in started))
    done = run(*options)
    assert done.returncode == 1, done.stderr
    assert f"{saved - 1:,} before this run" in done.stderr
    with output.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[0] for row in rows] == [str(number) for number in range(ROWS)]
    verdicts = {texts[0]: "positive", texts[1]: "negative"}
    assert all(row[2] == verdicts[row[1]] for row in rows)
    with (tmp_path / "out.csv.bad.csv").open(newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["row", str(ROWS + 2)]
    names = ["in.csv", "out.csv", "out.csv.bad.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_interrupted(tmp_path: Path) -> None:
    """Ctrl+C ends all processes with one sentence and status 1, and the state is kept."""
    table, output = tmp_path / "in.csv", tmp_path / "out.csv"
    table.write_text("text\n" + "A warm and funny film.\n" * 200_000)
    options = ("score", str(table), str(output), "--model", "bow", "--workers", "2")
    state = tmp_path / ".out.csv.scoring" / "state.json"
    with subprocess.Popen(
        [*COMMAND, *options],
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell ignores it for what it runs in the background, such as these tests.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        wait_until(lambda: rows_saved(state) > 0 or process.poll() is not None)
        started = descendants(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (1, "valence: interrupted\n")
    assert rows_saved(state) > 0
    wait_until(lambda: not any(path.exists() for path in started))


@pytest.mark.slow
def test_parquet_in_two_processes(tmp_path: Path) -> None:
    """Where a fork would not be safe, beside threads of PyArrow, processes start without one."""
    table, output = tmp_path / "in.parquet", tmp_path / "out.csv"
    parquet.write_table(pa.table({"text": ["A warm and funny film.", "Dull and too long."]}), table)
    done = run("score", str(table), str(output), "--model", "bow", "--workers", "2")
    assert done.returncode == 0, done.stderr
    with output.open(newline="") as file:
        assert [row[1] for row in csv.reader(file)] == ["label", "positive", "negative"]


def test_without_standard_error(tmp_path: Path) -> None:
    """A closed standard error gets no messages, and standard output holds the table alone."""
    table = tmp_path / "in.csv"
    table.write_text("text\nA warm and funny film.\n")
    command = " ".join([*map(str, COMMAND), "score", str(table), "-", "--model", "bow", "2>&-"])
    done = subprocess.run(
        ("sh", "-c", command), cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0
    assert [line.split(",")[1] for line in done.stdout.splitlines()] == ["label", "positive"]


def test_scoring_waits_for_no_web_framework() -> None:
    """The command imports no FastAPI, which would be half of its start."""
    program = "import sys, app.__main__, app.score; print('fastapi' in sys.modules)"
    done = subprocess.run((sys.executable, "-c", program), cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def test_a_service_gives_the_same_file(tmp_path: Path) -> None:
    """With --url a running service scores, and the file is the same but for the last digits."""
    shutil.copytree(ROOT / "models" / "bow", tmp_path / "models" / "bow")
    table = tmp_path / "in.csv"
    table.write_text(
        "text\n" + "".join(f"{'good ' * (n % 40)}film\n" for n in range(199)) + 'xqzt\n""\n'
    )
    here, there = tmp_path / "here.csv", tmp_path / "there.csv"
    assert run("score", str(table), str(here), "--model", "bow").returncode == 1
    with ServerProcess(tmp_path / "models", "--workers", "1") as server:
        url = server.wait_for("the service is starting")["address"]
        done = run("score", str(table), str(there), "--url", url)
    assert done.returncode == 1, done.stderr
    assert "201 rows with verdicts of bow/3" in done.stderr
    assert round_off(there) == round_off(here)
    assert server.errors == []


def round_off(path: Path) -> list[list[str]]:
    """The cells of a table, numbers with five decimals."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    return [[f"{float(cell):.5f}" if "0." in cell else cell for cell in row] for row in rows]
