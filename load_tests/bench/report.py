"""The report as files: a text table, JSON and, if matplotlib is installed, a picture."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from load_tests.bench.figures import ModelFigures, Sample, ServiceFigures, median
from load_tests.bench.goals import Goal

SCHEMA_VERSION: Final = 1


def make_content(
    about: Mapping[str, Any], services: Sequence[ServiceFigures], goals: Sequence[Goal]
) -> dict[str, Any]:
    """Make the JSON content: all medians and the rounds behind them."""
    return {
        "schema_version": SCHEMA_VERSION,
        **about,
        "goals": [dataclasses.asdict(goal) | {"reached": goal.reached} for goal in goals],
        "services": [_service(service) for service in services],
    }


def write_files(
    folder: Path,
    text: str,
    content: Mapping[str, Any],
    services: Sequence[ServiceFigures],
) -> list[Path]:
    """Write `bench.txt`, `bench.json` and `bench.png`, each atomically.

    Returns:
        The paths of the files; without the picture if matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "bench.txt": text.encode(),
        "bench.json": (json.dumps(content, indent=1) + "\n").encode(),
    }
    if find_spec("matplotlib") is not None:
        from load_tests.bench.picture import draw

        files["bench.png"] = draw(services, _caption(content))
    return [write_file(folder / name, data) for name, data in files.items()]


def _service(service: ServiceFigures) -> dict[str, Any]:
    return {
        "engine": service.engine,
        "ready_s": median(service.ready_s),
        "starts_s": service.ready_s,
        "resident_ready_bytes": service.resident_ready_bytes,
        "resident_bytes": service.resident_bytes,
        "resident_sum_bytes": service.resident_sum_bytes,
        "processes": service.processes,
        "workers": service.workers,
        "models": [_model(figures) for figures in service.models],
    }


def _model(figures: ModelFigures) -> dict[str, Any]:
    return {
        "model": figures.model,
        "version": figures.version,
        "precision": figures.precision or None,
        "errors": dict(figures.errors),
        "in_process": {
            "batch_size": figures.batch_size,
            "texts_per_s": figures.ceiling,
            "texts_per_s_from_text": figures.ceiling_from_text,
            "one_text_ms": figures.in_process_ms,
            "rounds": [
                {
                    "texts_per_s_by_batch_size": r.ceiling,
                    "texts_per_s_from_text": r.ceiling_from_text,
                    "one_text_ms": r.in_process_ms,
                }
                for r in figures.rounds
            ],
        },
        "scenarios": [
            {
                **dataclasses.asdict(scenario),
                **_sample(figures.sample(scenario)),
                "of_ceiling": figures.of_ceiling(scenario),
                "of_ceiling_from_text": figures.of_ceiling(scenario, from_text=True),
                "of_floor": {
                    framework: figures.of_floor(framework, connections)
                    for framework, connections in figures.floors
                    if (scenario.texts, scenario.connections) == (1, connections)
                },
                "p99_over_p50": figures.tail(scenario),
                "p50_minus_in_process_ms": figures.added_ms(scenario),
                "rounds": [
                    _sample(r.samples[scenario]) for r in figures.rounds if scenario in r.samples
                ],
            }
            for scenario in figures.scenarios
        ],
        "floor": [
            {
                "framework": framework,
                "connections": connections,
                **_sample(figures.floor(framework, connections)),
                "rounds": [
                    _sample(r.floor[framework, connections])
                    for r in figures.rounds
                    if (framework, connections) in r.floor
                ],
            }
            for framework, connections in figures.floors
        ],
    }


def _sample(sample: Sample | None) -> dict[str, Any]:
    return dataclasses.asdict(sample) if sample else {}


def _caption(content: Mapping[str, Any]) -> str:
    machine, run = content["machine"], content["run"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores; {run['generator']} on the same cores; median "
        f"of {run['rounds']} rounds of {run['seconds']:g} s; commit {machine['commit']}"
    )


def write_file(path: Path, data: bytes) -> Path:
    """Write a file atomically; returns its path."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
