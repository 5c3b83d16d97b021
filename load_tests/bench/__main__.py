"""`python -m load_tests.bench`: measure the service and its references, write the report."""

import argparse
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from load_tests.bench.bundled import Bundled
from load_tests.bench.errors import BenchError, WrongCall
from load_tests.bench.figures import ServiceFigures
from load_tests.bench.goals import judge
from load_tests.bench.load import Generator
from load_tests.bench.machine import ROOT, busy_cores, describe_machine
from load_tests.bench.options import positive
from load_tests.bench.progress import show_progress
from load_tests.bench.report import make_content, write_files
from load_tests.bench.table import write_report
from load_tests.bench.texts import make_texts, read_texts
from load_tests.bench.wrk import Wrk

OK, FAILED, WRONG_CALL = 0, 1, 2

_TEXTS: Final = 2048
_PACKAGES: Final = {"onnx": "onnxruntime", "tensorflow": "tensorflow"}
_EPILOG: Final = """\
examples:
  python -m load_tests.bench
  python -m load_tests.bench --quick
  python -m load_tests.bench --engines onnx tensorflow --rounds 5
  python -m load_tests.bench --data imdb/test.tsv.gz --out runs/bench-imdb
  python -m load_tests.bench --generator bundled -- --threads 1

Options after -- are passed to `valence serve`. The service, the in-process ceiling of its engine
and a bare route are measured in alternation, on the same cores as the load generator: compare
ratios, not absolute values. Wrong answers and failures set the exit status; missed goals do not.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0 on success, 1 on failure, 2 on a wrong call."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    cut = typed.index("--") if "--" in typed else len(typed)
    options = _make_parser().parse_args(typed[:cut])
    # SIGTERM stops the servers as SIGINT does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(options, typed, serve_options=typed[cut + 1 :])
    except BenchError as error:
        if options.debug:
            raise
        return _fail(str(error), WRONG_CALL if isinstance(error, WrongCall) else FAILED)
    except OSError as error:
        if options.debug:
            raise
        return _fail(f"{error.filename or 'system error'}: {error.strerror}", FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted; no partial files are left", FAILED)
    except Exception as error:
        if options.debug:
            raise
        return _fail(f"unexpected {type(error).__name__}; --debug shows the traceback", FAILED)


def _run(options: argparse.Namespace, typed: Sequence[str], serve_options: Sequence[str]) -> int:
    generator = choose_generator(options.generator)
    models_dir = options.models_dir.resolve()
    for model in options.models:
        if not (models_dir / model).is_dir():
            raise WrongCall(f"--models must name models in {options.models_dir}. Received: {model}")
    engines = _installed(options.engines)
    if options.data:
        texts = read_texts(options.data, _TEXTS, options.seed)
    else:
        texts = make_texts(_TEXTS, options.seed)
    # Imported late: it imports the service, which --help and wrong calls do not need.
    from load_tests.bench.measure import Plan, measure

    plan = Plan(
        models_dir=models_dir,
        models=options.models,
        engines=engines,
        connections=sorted(set(options.connections)),
        rounds=1 if options.quick else options.rounds,
        seconds=1 if options.quick else options.seconds,
        texts=texts,
        generator=generator,
        serve_options=serve_options,
    )
    about = {
        "machine": describe_machine(),
        "run": {
            "command": shlex.join(("python", "-m", "load_tests.bench", *typed)),
            "generator": generator.name,
            "rounds": plan.rounds,
            "seconds": plan.seconds,
            "texts": len(texts),
            "source": f"from {options.data.name}" if options.data else "generated",
            "seed": options.seed,
            "busy_cores_before": busy_cores(),
        },
    }
    with show_progress(plan.steps) as step:
        services = measure(plan, step)
    goals = judge(services)
    text = write_report(about, services, goals)
    print(text)
    written = write_files(options.out, text, make_content(about, services, goals), services)
    print("written:", ", ".join(str(path) for path in written))
    return _report_errors(services)


def _report_errors(services: Sequence[ServiceFigures]) -> int:
    """Report failed requests; returns the exit status."""
    errors = [
        f"{what} ({count})"
        for service in services
        for figures in service.models
        for what, count in figures.count_errors().items()
    ]
    if errors:
        more = f", and {len(errors) - 1} more kinds of error" if len(errors) > 1 else ""
        return _fail(f"requests failed: {errors[0]}{more}", FAILED)
    return OK


def choose_generator(name: str) -> Generator:
    """Choose the load generator; `auto` is wrk if it is installed."""
    executable = shutil.which("wrk")
    if name == "wrk" and executable is None:
        raise WrongCall("wrk is not installed; --generator bundled works without it")
    if name == "bundled" or executable is None:
        return Bundled()
    return Wrk(executable)


def _installed(engines: Sequence[str]) -> list[str]:
    """Select the engines whose library is installed, and report the others on stderr."""
    found = [engine for engine in dict.fromkeys(engines) if find_spec(_PACKAGES[engine])]
    for engine in engines:
        if engine not in found:
            print(
                f"bench: {_PACKAGES[engine]} is not installed: {engine} is skipped",
                file=sys.stderr,
            )
    if not found:
        raise BenchError("none of the engines is installed")
    return found


def _fail(sentence: str, status: int) -> int:
    print(f"bench: {sentence}", file=sys.stderr)
    return status


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m load_tests.bench",
        description="Compare the service with its in-process ceiling and a bare HTTP route.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Any = parser.add_argument
    add("--models", nargs="+", default=["lstm", "bow"], help="models to measure [lstm bow]")
    add("--models-dir", type=Path, default=ROOT / "models", help="folder of the models [models]")
    add(
        *("--engines",),
        nargs="+",
        choices=sorted(_PACKAGES),
        default=["onnx"],
        help="engines to measure; those not installed are skipped [onnx]",
    )
    add(
        *("--generator",),
        choices=("auto", "wrk", "bundled"),
        default="auto",
        help="load generator: wrk, or the bundled one, which takes more processor time; auto is "
        "wrk if it is installed [auto]",
    )
    add(
        *("--connections",),
        nargs="+",
        type=positive,
        default=[1, 8, 64, 256],
        help="concurrent connections, one text per request [1 8 64 256]",
    )
    add("--rounds", type=positive, default=3, help="rounds, of which medians are reported [3]")
    add("--seconds", type=positive, default=3, help="duration of each load [3]")
    add("--quick", action="store_true", help="one round with loads of one second, as a smoke test")
    add(
        "--data",
        type=Path,
        help="texts: one per line, or a TSV with a column review or text; also gzip",
    )
    add("--seed", type=int, default=1, help="random seed of the texts [1]")
    add("--out", type=Path, default=Path("runs/bench"), help="folder of the report [runs/bench]")
    add("--debug", action="store_true", help="show the traceback of a failure")
    return parser


if __name__ == "__main__":
    sys.exit(main())
