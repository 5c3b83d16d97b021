"""`python -m load_tests.bench.worker_designs`: compare three ways to run workers, in turn."""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from load_tests.bench.bundled import Bundled
from load_tests.bench.errors import BenchError
from load_tests.bench.machine import ROOT, busy_cores, describe_machine
from load_tests.bench.texts import make_texts, single_bodies
from load_tests.bench.worker_designs.designs import DESIGNS
from load_tests.bench.worker_designs.promises import Promises, check_promises
from load_tests.bench.worker_designs.rounds import Round, measure_round
from load_tests.bench.worker_designs.subject import Plan
from load_tests.bench.worker_designs.table import make_table
from load_tests.bench.wrk import Wrk

OK, FAILED = 0, 1

_TEXTS: Final = 2048
_EPILOG: Final = """\
examples:
  python -m load_tests.bench.worker_designs
  python -m load_tests.bench.worker_designs --rounds 1 --seconds 1 --no-promises

Each round starts each design afresh, the designs in turn: connections are counted, wrk (or the
bundled generator) sends, a worker is killed under load, and the parent gets SIGTERM under load.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; returns 0 on success, 1 on failure, 2 on a wrong call."""
    options = _make_parser().parse_args(arguments)
    try:
        return _run(options)
    except BenchError as error:
        print(f"worker_designs: {error}", file=sys.stderr)
        return FAILED


def _run(options: argparse.Namespace) -> int:
    wrk = shutil.which("wrk")
    designs = [design for design in DESIGNS if design.name in options.designs]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        models_dir = Path(folder)
        shutil.copytree(options.models_dir / options.model, models_dir / options.model)
        plan = Plan(
            models_dir=models_dir,
            model=options.model,
            workers=options.workers,
            bodies=single_bodies(make_texts(_TEXTS, seed=1), options.model),
            connections=options.connections,
            seconds=options.seconds,
            generator=Wrk(wrk) if wrk else Bundled(),
        )
        rounds: dict[str, list[Round]] = {design.name: [] for design in designs}
        promises: dict[str, Promises] = {}
        load = [busy_cores()]
        for number in range(1, options.rounds + 1):
            for design in designs:
                _tell(f"round {number} of {options.rounds}: {design.name}")
                rounds[design.name].append(measure_round(design, plan))
                load.append(busy_cores())
                _write(options.out, rounds, promises, load)
        for design in designs if options.promises else ():
            _tell(f"promises: {design.name}")
            promises[design.name] = check_promises(design, plan)
    _write(options.out, rounds, promises, load)
    machine = describe_machine()
    print(f"{machine['cpu']}, {machine['cores']} cores, commit {machine['commit']}")
    print(f"{plan.generator.name}, {plan.connections} connections, {plan.workers} workers")
    print(f"load average, from start to end: {load}\n")
    print(make_table(rounds, promises))
    return OK


def _write(
    out: Path | None,
    rounds: Mapping[str, Sequence[Round]],
    promises: Mapping[str, Promises],
    load: Sequence[float | None],
) -> None:
    """Write every figure so far."""
    if out is None:
        return
    found = {
        "machine": describe_machine(),
        "load_average": load,
        "rounds": {name: [asdict(one) for one in several] for name, several in rounds.items()},
        "promises": {name: asdict(one) for name, one in promises.items()},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=2) + "\n")


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _make_parser() -> argparse.ArgumentParser:
    names = [design.name for design in DESIGNS]
    parser = argparse.ArgumentParser(
        prog="python -m load_tests.bench.worker_designs",
        description="Compare three ways to run several workers behind one port.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Any = parser.add_argument
    add("--designs", nargs="+", choices=names, default=names, help="which [all]")
    add("--rounds", type=int, default=6, help="fresh starts of each design [6]")
    add("--seconds", type=int, default=5, help="of wrk in each round [5]")
    add("--connections", type=int, default=64, help="of the load and the faults [64]")
    add("--workers", type=int, default=2, help="of each design [2]")
    add("--model", default="lstm", help="the model that is served [lstm]")
    add("--models-dir", type=Path, default=ROOT / "models", help="where it is [models]")
    add("--no-promises", dest="promises", action="store_false", help="leave the promises out")
    add("--out", type=Path, help="a JSON file for every figure of every round, written after each")
    return parser


if __name__ == "__main__":
    sys.exit(main())
