import json
import struct
from pathlib import Path
from typing import Any

import pytest

from load_tests.bench import report
from load_tests.bench.figures import ModelFigures, Round, Sample, Scenario, ServiceFigures
from load_tests.bench.goals import ALONE, BUSY, MANY, V2_BINARY, V2_JSON, judge
from load_tests.bench.report import make_content, write_files
from load_tests.bench.table import align, write_report

ABOUT: dict[str, Any] = {
    "machine": {
        "cpu": "A processor",
        "cores": 2,
        "python": "3.11.7",
        "commit": "abc",
        "time": "2026-01-01T00:00:00+00:00",
    },
    "run": {
        "rounds": 1,
        "seconds": 3,
        "generator": "wrk",
        "texts": 2048,
        "source": "generated",
        "busy_cores_before": 0.1,
    },
}


def sample(rate: float, p50_ms: float = 10, p99_ms: float = 20) -> Sample:
    return Sample(rate, rate, p50_ms, p99_ms, 0.3, real_share=0.9, batch_size=7.5)


def measured() -> list[ServiceFigures]:
    """A run that misses only the two throughput goals of lstm."""
    doors = {V2_JSON: sample(2850), V2_BINARY: sample(2850)}
    samples = {ALONE: sample(1000, 0.7), BUSY: sample(3000), MANY: sample(4000), **doors}
    lstm = Round(0.4, {4: 5000, 8: 6000}, 5500, dict(samples))
    floor = {("starlette", 64): sample(20_000), ("fastapi", 64): sample(9_000)}
    doors = {V2_JSON: sample(9000), V2_BINARY: sample(9900)}
    bow = Round(0.1, {8: 150_000}, 12_000, {BUSY: sample(10_000), **doors}, floor)
    models = [
        ModelFigures("lstm", 1, "onnx", "int8", rounds=[lstm]),
        ModelFigures("bow", 2, "onnx", "", rounds=[bow]),
    ]
    return [ServiceFigures("onnx", [0.6, 0.5, 0.9], 150 << 20, 200 << 20, 300 << 20, 3, 2, models)]


def test_goals() -> None:
    """Each goal is evaluated on its own measurement."""
    goals = judge(measured())
    assert [goal.value for goal in goals] == pytest.approx(
        [0.5, 2.0, 0.3, 4000 / 6000, 0.5, 0.9, 0.95, 1.0, 0.9, 1.1, 0.6, 200]
    )
    missed = [index for index, goal in enumerate(goals) if not goal.reached]
    assert missed == [0, 3]


def test_goals_without_figures() -> None:
    """A goal without a measurement is neither reached nor missed."""
    assert {goal.reached for goal in judge([])} == {None}
    assert {goal.reached for goal in judge([ServiceFigures("tensorflow", [9.0])])} == {None}


def test_table() -> None:
    """The report has the machine, models, references and the verdict on each goal."""
    text = write_report(ABOUT, measured(), judge(measured()))
    for words in (
        "A processor, 2 cores",
        "lstm on onnx (int8), version 1",
        "6,000 texts/s from ids, in batches of 8; 5,500 from text",
        "1 text per request, 64 connections",
        "256 texts per request, 4 connections",
        "bare starlette route, 64 connections",
        "ready after 0.60 s (median of 3 starts)",
        "resident memory: 150 MiB when ready, 200 MiB under load "
        "(300 MiB with shared pages counted per process)",
        "NOT REACHED",
    ):
        assert words in text
    assert "NOTE" not in text


def test_table_notes_a_busy_machine() -> None:
    """Measurements from a machine with other work are marked."""
    busy = ABOUT | {"run": ABOUT["run"] | {"busy_cores_before": 1.9}}
    assert "load average 1.9" in write_report(busy, measured(), [])


def test_align() -> None:
    """The first column is aligned to the left, the others to the right."""
    assert align([("a", "b"), ("long", "1"), ("x", "100")]) == "a       b\nlong    1\nx     100"


def test_content() -> None:
    """The JSON contains medians, ratios, every round and the goals."""
    content = json.loads(json.dumps(make_content(ABOUT, measured(), judge(measured()))))
    lstm, bow = content["services"][0]["models"]
    assert content["services"][0]["ready_s"] == 0.6
    assert lstm["in_process"]["texts_per_s"] == 6000
    busy = lstm["scenarios"][1]
    assert (busy["texts"], busy["connections"], busy["of_ceiling"]) == (1, 64, 0.5)
    assert busy["rounds"][0]["requests_per_s"] == 3000
    assert bow["scenarios"][0]["of_floor"]["starlette"] == 0.5
    assert [row["framework"] for row in bow["floor"]] == ["starlette", "fastapi"]
    assert content["goals"][0]["reached"] is False


def test_files(tmp_path: Path) -> None:
    """A text table, JSON and a picture with a row per model are written, and nothing else."""
    pytest.importorskip("matplotlib")
    services = measured()
    content = make_content(ABOUT, services, [])
    written = write_files(tmp_path / "bench", "words\n", content, services)
    assert [path.name for path in written] == ["bench.txt", "bench.json", "bench.png"]
    assert sorted((tmp_path / "bench").iterdir()) == sorted(written)
    assert json.loads(written[1].read_text()) == json.loads(json.dumps(content))
    png = written[2].read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert height > width / 2


def test_files_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib only the picture is missing."""
    monkeypatch.setattr(report, "find_spec", lambda _: None)
    services = measured()
    written = write_files(tmp_path, "words\n", make_content(ABOUT, services, []), services)
    assert [path.name for path in written] == ["bench.txt", "bench.json"]


def test_one_scenario_is_a_picture(tmp_path: Path) -> None:
    """A model with hardly any measurements is drawn too."""
    pytest.importorskip("matplotlib")
    figures = ModelFigures(
        "bow", 1, "onnx", "", rounds=[Round(samples={Scenario(1, 8): sample(0, 0)})]
    )
    services = [ServiceFigures("onnx", models=[figures])]
    content = make_content(ABOUT, services, judge(services))
    assert write_files(tmp_path, "words\n", content, services)[2].stat().st_size > 0
