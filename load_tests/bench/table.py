"""The report as text: a table for each model with its references, and the goals."""

from collections.abc import Sequence
from typing import Any

from load_tests.bench.figures import ModelFigures, ServiceFigures, median
from load_tests.bench.goals import Goal

_HEADINGS = (
    *("", "requests/s", "texts/s", "p50 ms", "p99 ms", "/ ceiling", "/ floor"),
    *("real tokens", "batch", "CPU ms/text", "errors"),
)


def write_report(
    about: dict[str, Any], services: Sequence[ServiceFigures], goals: Sequence[Goal]
) -> str:
    """Write the complete report.

    Args:
        about: Facts about the machine and the run.
        services: The measurements, by engine.
        goals: The goals with their measurements.
    """
    machine, run = about["machine"], about["run"]
    busy = run["busy_cores_before"]
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}; "
        f"commit {machine['commit'] or 'unknown'}; {machine['time']}\n"
        f"median of rounds: {run['rounds']}, {run['seconds']:g} s per load; {run['generator']} on "
        f"the same cores; {run['texts']} texts, {run['source']}"
    ]
    if busy is not None and busy > machine["cores"] / 4:
        parts.append(f"NOTE: the machine was busy before the run (load average {busy:.1f}).")
    for service in services:
        parts.append(_describe_service(service))
        parts += [_describe_model(figures) for figures in service.models]
    parts.append(_describe_goals(goals))
    return "\n\n".join(parts) + "\n"


def align(rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
    return "\n".join(lines)


def _describe_service(service: ServiceFigures) -> str:
    ready = _number(median(service.ready_s), 2)
    return (
        f"The service on {service.engine}, all models: ready after {ready} s (median of "
        f"{len(service.ready_s)} starts)\n"
        f"resident memory: {_mebibytes(service.resident_ready_bytes)} when ready, "
        f"{_mebibytes(service.resident_bytes)} under load "
        f"({_mebibytes(service.resident_sum_bytes)} with shared pages counted per process)\n"
        f"processes: {service.processes or 'unknown'}, of which {service.workers or 'unknown'} "
        f"answer requests; each bare route is one process"
    )


def _describe_model(figures: ModelFigures) -> str:
    rows: list[Sequence[str]] = [_HEADINGS]
    for scenario in figures.scenarios:
        sample = figures.sample(scenario)
        if sample is None:
            continue
        native = scenario.texts == 1 and not scenario.door
        floor = figures.of_floor("starlette", scenario.connections) if native else None
        rows.append(
            (
                str(scenario),
                _number(sample.requests_per_s),
                _number(sample.texts_per_s),
                _number(sample.p50_ms, 2),
                _number(sample.p99_ms, 2),
                _number(figures.of_ceiling(scenario), 2),
                _number(floor, 2),
                _number(sample.real_share, 3),
                _number(sample.batch_size, 1),
                _number(sample.cpu_ms_per_text, 3),
                str(sum(sample.errors.values())),
            )
        )
    for framework, connections in figures.floors:
        sample = figures.floor(framework, connections)
        if sample is not None:
            rows.append(
                (
                    f"bare {framework} route, {connections} connections",
                    _number(sample.requests_per_s),
                    "-",
                    _number(sample.p50_ms, 2),
                    _number(sample.p99_ms, 2),
                    *("-", "-", "-", "-"),
                    _number(sample.cpu_ms_per_text, 3),
                    str(sum(sample.errors.values())),
                )
            )
    return (
        f"{figures.title}, version {figures.version}\n"
        f"in-process ceiling: {_number(figures.ceiling)} texts/s from ids, in batches of "
        f"{figures.batch_size or '-'}; {_number(figures.ceiling_from_text)} from text; one text "
        f"takes {_number(figures.in_process_ms, 3)} ms\n{align(rows)}"
    )


def _describe_goals(goals: Sequence[Goal]) -> str:
    verdicts = {True: "reached", False: "NOT REACHED", None: "not measured"}
    rows = [("goal", "measured", "bound", "")]
    for goal in goals:
        unit = f" {goal.unit}" if goal.unit else ""
        value = "-" if goal.value is None else f"{goal.value:.2f}{unit}"
        bound = f"{goal.side} {goal.bound:g}{unit}"
        rows.append((goal.name, value, bound, verdicts[goal.reached]))
    return align(rows)


def _number(value: float | None, decimals: int = 0) -> str:
    return "-" if value is None else f"{value:,.{decimals}f}"


def _mebibytes(value: int | None) -> str:
    return "unknown" if value is None else f"{value / 2**20:.0f} MiB"
