"""The report of a capacity run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from load_tests.capacity.measure import CURVE, CoreFigures, Layout
from load_tests.capacity.pair import Turn, agreement
from load_tests.capacity.report import Wanted, make_content, write_files, write_markdown
from load_tests.capacity.search import Knee
from load_tests.capacity.trial import Stage, Trial

STAGE = Stage(1.0, 0.9, 4.0)
TRIAL = Trial(
    *(100.0, 10.0, 1000, 1000, {}, 5.0, 20.0, 50.0, 8.0, 0.1, 0.5, 0.1),
    server_cores=0.5,
    stages={"queue": STAGE, "infer": STAGE, "rest": STAGE},
)
ONE = Knee(99, 101, 9)
WANTED = Wanted(rates=[1000, 10_000], lowest_share=0.25, nodes=3, limit_ms=100)
ABOUT: dict[str, Any] = {
    "machine": {"cpu": "a processor", "cores": 2, "commit": None, "time": "today"},
    "run": {
        "model": "lstm",
        "texts": 10,
        "source": "generated",
        "list_share": 0.05,
        "list_size": 16,
        "rounds": 3,
        "seconds": 10.0,
        "warm_up_s": 1.0,
    },
}


def figures(cores: int, *rates: float) -> CoreFigures:
    knees = [Knee(rate * 0.98, rate * 1.02, 12) for rate in rates]
    found = CoreFigures(Layout(tuple(range(cores)), (1,)), cores, knees)
    found.curve = [
        replace(TRIAL, rate=found.rate * share, server_cores=cores * min(share, 0.96))
        for share in CURVE
    ]
    return found


def test_figures_of_the_rounds() -> None:
    """The rate is the median of the rounds, the interval has all that was kept and broken."""
    found = figures(1, 200, 100, 300)
    assert found.rate == pytest.approx(200, rel=0.001)
    assert found.interval == pytest.approx((98, 306))
    assert found.at_knee.rate == pytest.approx(190, rel=0.001)


def test_report(tmp_path: Path) -> None:
    """Knees, stages on both sides, replicas, and the turns with two are in the report."""
    measured = [figures(1, 200), figures(2, 300)]
    turns = [Turn(ONE, Knee(180, 182, 9), apart=True), Turn(ONE, Knee(205, 207, 9), apart=True)]
    text = write_markdown(ABOUT, measured, turns, WANTED)
    assert "| 1 | 200 | 196 to 204 | 200 | 196 to 204 | 0.95 cores |" in text
    assert "| 2 | 300 | 294 to 306 | 150 | 147 to 153 | 1.90 cores |" in text
    assert "on the same cores" in text  # two of two
    assert "| 1.20 | 240 | 5.0, 50.0 | 0.9, 4.0 |" in text
    assert "| 1 | 100 | 200 | 181 | 0.91 |" in text
    assert "within 10% of the measured rate in all turns" in text
    assert "have cores of their own" in text
    content = make_content(ABOUT, measured, turns)
    written = write_files(tmp_path, content, text, measured, WANTED)
    assert json.loads((tmp_path / "capacity.json").read_text())["cores"][0]["rate"] == (
        pytest.approx(200, rel=0.001)
    )
    assert (tmp_path / "capacity.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in written} >= {"capacity.md", "kustomization.yaml"}


def test_a_wrong_prediction_is_said() -> None:
    """A turn that is more than a tenth off is not within a tenth."""
    assert "NOT within 10%" in agreement([Turn(ONE, Knee(178, 179, 9), apart=True)])
    low, high = (Turn(ONE, Knee(rate, rate, 9), apart=True) for rate in (181, 223))
    assert "NOT within 10%" in agreement([low])  # 200 is 10.5 % more than 181
    assert "is within 10%" not in agreement([high])


def test_shared_cores_are_said() -> None:
    """Where a replica shares its core, the report says that the turns compare such cores."""
    turns = [Turn(ONE, Knee(180, 182, 9), apart=False)]
    text = write_markdown(ABOUT, [figures(1, 200)], turns, WANTED)
    assert "each replica shares its core with its part of the balancer" in text
    assert make_content(ABOUT, [], turns)["two_replicas"][0]["apart"] is False
