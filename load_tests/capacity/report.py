"""The report: JSON, Markdown, a picture, and kustomize components."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from load_tests.bench.report import write_file
from load_tests.capacity.measure import CoreFigures
from load_tests.capacity.pair import Turn, agreement
from load_tests.capacity.replicas import (
    Capacity,
    Need,
    Scale,
    hpa_patches,
    keda_patches,
    plan,
    plan_scale,
    resources_patch,
)
from load_tests.capacity.trial import Trial

SCHEMA_VERSION: Final = 1
_STAGES: Final = ("tokenize", "queue", "infer", "rest")


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What the plan is for.

    Attributes:
        rates: Requests per second at the busiest hour, each a row of the table; the last is that of
            the patches.
        lowest_share: The lowest rate of a day, as a share of its highest.
        nodes: Of the cluster.
        limit_ms: The objective.
    """

    rates: Sequence[float]
    lowest_share: float
    nodes: int
    limit_ms: float


def capacity_of(figures: CoreFigures) -> Capacity:
    """What a replica with so many cores surely does: the lower end of the interval."""
    low = figures.interval[0]
    trial = figures.at_knee
    return Capacity(
        cores=figures.cores,
        rate=low,
        cores_at_knee=None if trial.server_cores is None else trial.server_cores * low / trial.rate,
        latencies_ms=[(each.rate, each.mean_ms) for each in figures.curve],
    )


def make_content(
    about: Mapping[str, Any], measured: Sequence[CoreFigures], turns: Sequence[Turn]
) -> dict[str, Any]:
    """Make the JSON content: every knee and every load of the curves."""
    return {
        "schema_version": SCHEMA_VERSION,
        **about,
        "cores": [
            {
                "cores": figures.cores,
                "workers": figures.workers,
                "apart": figures.layout.apart,
                "rate": figures.rate,
                "interval": figures.interval,
                "knees": [dataclasses.asdict(knee) for knee in figures.knees],
                "curve": [dataclasses.asdict(trial) for trial in figures.curve],
            }
            for figures in measured
        ],
        "two_replicas": [dataclasses.asdict(turn) for turn in turns],
    }


def write_markdown(
    about: Mapping[str, Any],
    measured: Sequence[CoreFigures],
    turns: Sequence[Turn],
    wanted: Wanted,
) -> str:
    """Write the report as Markdown."""
    machine, run = about["machine"], about["run"]
    parts = [
        "# Capacity",
        f"{run['model']}, p99 at most {wanted.limit_ms:g} ms, nothing refused or lost. "
        f"{machine['cpu']}, {machine['cores']} cores; commit {machine['commit'] or 'unknown'}; "
        f"{machine['time']}.\n"
        f"Poisson arrivals; {run['texts']} texts, {run['source']}; {run['list_share']:.0%} of the "
        f"requests are lists of {run['list_size']}; {run['rounds']} rounds, loads of "
        f"{run['seconds']:g} s after {run['warm_up_s']:g} s.",
        _knees(measured),
        *(_stages(figures) for figures in measured),
        "## Replicas for a rate, with one node down",
        f"{wanted.nodes} nodes over which replicas are spread evenly. The bounds and T are those "
        "of the autoscaler, on a day whose quietest hour has "
        f"{wanted.lowest_share:.0%} of the rate: T is the CPU utilization in percent of the "
        "request, or the requests in flight on each replica.",
        _needs(measured, wanted),
    ]
    if turns:
        parts += ["## One replica and two behind a balancer", _turns(turns)]
    return "\n\n".join(parts) + "\n"


def write_files(
    folder: Path,
    content: Mapping[str, Any],
    text: str,
    measured: Sequence[CoreFigures],
    wanted: Wanted,
) -> list[Path]:
    """Write `capacity.json`, `.md`, `.png` and the components `hpa` and `keda`."""
    files = {
        "capacity.json": (json.dumps(content, indent=1) + "\n").encode(),
        "capacity.md": text.encode(),
    }
    if find_spec("matplotlib") is not None:
        from load_tests.capacity.picture import draw

        files["capacity.png"] = draw(measured, wanted.limit_ms)
    # The replica with the highest rate for each core is the one to use many of.
    best = max(map(capacity_of, measured), key=lambda each: each.rate / each.cores)
    files |= components(best, *_plan_day(wanted.rates[-1], best, wanted))
    paths = []
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        paths.append(write_file(path, data))
    return paths


def _plan_day(rate: float, capacity: Capacity, wanted: Wanted) -> tuple[Need, Scale]:
    """The replicas for the busiest hour of a day, and what an autoscaler makes of the day."""
    least = plan(rate * wanted.lowest_share, capacity, wanted.nodes)
    most = plan(rate, capacity, wanted.nodes)
    return most, plan_scale(least, most, capacity, wanted.nodes)


def components(capacity: Capacity, need: Need, scale: Scale) -> dict[str, bytes]:
    """Files of the kustomize components, by path; JSON is YAML.

    Args:
        capacity: Of one replica.
        need: For the busiest hour of the day.
        scale: For the day.
    """
    patches = {"hpa": hpa_patches(scale), "keda": keda_patches(scale, need.replicas)}
    return {
        f"{name}/kustomization.yaml": _component(
            f"{need.rate:g} requests/s with one node down; beside the component `{name}` of k8s.",
            [resources_patch(capacity), *found],
        )
        for name, found in patches.items()
    }


def _component(what: str, patches: Sequence[Mapping[str, Any]]) -> bytes:
    head = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
    lines = [f"# {what}", *(f"{key}: {value}" for key, value in head.items()), "patches:"]
    for patch in patches:
        first = "- "
        for key, value in patch.items():
            shown = json.dumps(value)
            lines.append(f"{first}{key}: " + (f"'{shown}'" if key == "patch" else shown))
            first = "  "
    return ("\n".join(lines) + "\n").encode()


def _knees(measured: Sequence[CoreFigures]) -> str:
    rows = [
        ("cores", "requests/s", "interval", "per core", "interval", "CPU used", "generator"),
        ("---",) * 7,
    ]
    for figures in measured:
        low, high = figures.interval
        trial = figures.at_knee
        used = "-" if trial.server_cores is None else f"{trial.server_cores:.2f} cores"
        generator = f"{trial.generator_cores:.2f} cores, late by {trial.lag_p99_ms:.1f} ms at p99"
        apart = "" if figures.layout.apart else ", on the same cores"
        rows.append(
            (
                f"{figures.cores}",
                f"{figures.rate:.0f}",
                f"{low:.0f} to {high:.0f}",
                f"{figures.rate / figures.cores:.0f}",
                f"{low / figures.cores:.0f} to {high / figures.cores:.0f}",
                used,
                f"{generator}{apart}",
            )
        )
    return _table(rows)


def _stages(figures: CoreFigures) -> str:
    names = [name for name in _STAGES if any(name in trial.stages for trial in figures.curve)]
    rows: list[tuple[str, ...]] = [
        (
            "load",
            "requests/s",
            "p50, p99 ms",
            *(f"{n}: p50, p99" for n in names),
            "texts a run",
            "failed",
        ),
        ("---",) * (5 + len(names)),
    ]
    for trial in figures.curve:
        rows.append(
            (
                f"{trial.rate / figures.rate:.2f}",
                f"{trial.rate:.0f}",
                f"{trial.p50_ms:.1f}, {trial.p99_ms:.1f}",
                *(_stage(trial, name) for name in names),
                f"{trial.run_items:.1f}",
                f"{sum(trial.failed.values())}",
            )
        )
    cores = "1 core" if figures.cores == 1 else f"{figures.cores} cores"
    return f"## Stages on both sides of the knee, {cores}\n\n{_table(rows)}"


def _stage(trial: Trial, name: str) -> str:
    stage = trial.stages.get(name)
    return "-" if stage is None else f"{stage.p50_ms:.1f}, {stage.p99_ms:.1f}"


def _needs(measured: Sequence[CoreFigures], wanted: Wanted) -> str:
    rows: list[tuple[str, ...]] = [
        ("requests/s", "cores", "replicas", "a node has", "bounds", "T, CPU", "T, in flight"),
        ("---",) * 7,
    ]
    for rate in wanted.rates:
        for figures in measured:
            need, scale = _plan_day(rate, capacity_of(figures), wanted)
            rows.append(
                (
                    f"{rate:,.0f}",
                    f"{figures.cores}",
                    f"{need.replicas}",
                    f"{need.lost}",
                    f"{scale.least} to {scale.most}",
                    "-" if scale.utilization is None else f"{scale.utilization} %",
                    f"{scale.in_flight:.1f}",
                )
            )
    return _table(rows)


def _turns(turns: Sequence[Turn]) -> str:
    rows: list[tuple[str, ...]] = [
        ("turn", "one replica", "predicted for two", "measured", "measured / predicted"),
        ("---",) * 5,
    ]
    for number, turn in enumerate(turns, start=1):
        rows.append(
            (
                f"{number}",
                f"{turn.one.rate:.0f}",
                f"{turn.predicted:.0f}",
                f"{turn.two.rate:.0f}",
                f"{turn.ratio:.2f}",
            )
        )
    cores = (
        "The replicas, the balancer and the generator have cores of their own."
        if all(turn.apart for turn in turns)
        else "There are fewer than four cores: each replica shares its core with its part of the "
        "balancer and of the generators. So this holds two such cores against one, and a replica "
        "with a core of its own does more than is shown here."
    )
    return f"{_table(rows)}\n\n{agreement(turns)}\n\n{cores}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
