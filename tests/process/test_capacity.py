"""The capacity run and the simulation as a user runs them, in their shortest form."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from load_tests.bench.machine import ROOT

TIMEOUT_S = 240


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        timeout=TIMEOUT_S,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_capacity_and_simulation(tmp_path: Path) -> None:
    """A run writes its report and its components; the simulation reads the report."""
    folder = tmp_path / "capacity"
    done = run(
        *("load_tests.capacity", "--model", "bow", "--cores", "1", "--limit-ms", "1000"),
        *("--seconds", "0.5", "--warm-up-s", "0.2", "--rounds", "1", "--tolerance", "0.9"),
        *("--out", str(folder)),
    )
    assert done.returncode == 0, done.stderr
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        *("capacity.json", "capacity.md", "capacity.png"),
        *("hpa/kustomization.yaml", "keda/kustomization.yaml"),
    }
    (figures,) = json.loads((folder / "capacity.json").read_text())["cores"]
    assert figures["interval"][0] <= figures["rate"] <= figures["interval"][1]
    assert len(figures["curve"]) == 7
    assert set(figures["curve"][0]["stages"]) == {"tokenize", "queue", "infer", "rest"}
    options = ("--rate", str(2 * figures["rate"]), "--seconds", "1", "--cores", "1")
    out = ("--out", str(tmp_path / "simulation"))
    done = run("load_tests.simulation", str(folder / "capacity.json"), *options, *out)
    assert done.returncode == 0, done.stderr
    assert "## What breaks first" in done.stdout
    assert json.loads((tmp_path / "simulation" / "simulation.json").read_text())["comparisons"]
