"""`python -m load_tests.capacity`: the highest rate that is kept, and replicas for a rate."""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from load_tests.bench.errors import BenchError, WrongCall
from load_tests.bench.machine import ROOT, busy_cores, describe_machine
from load_tests.bench.options import above_zero, at_least, positive, share
from load_tests.bench.texts import make_texts
from load_tests.capacity.balancer import BALANCERS, find_balancer
from load_tests.capacity.measure import (
    CoreFigures,
    Plan,
    available_cores,
    check_answers,
    choose_layout,
    measure_cores,
)
from load_tests.capacity.pair import Turn, check_two, choose_places
from load_tests.capacity.report import Wanted, make_content, write_files, write_markdown
from load_tests.capacity.subject import Terms
from load_tests.capacity.workload import Mix, make_bodies, request_file, texts_per_request

OK, FAILED, WRONG_CALL = 0, 1, 2

_TEXTS: Final = 8192
_EPILOG: Final = """\
examples:
  python -m load_tests.capacity
  python -m load_tests.capacity --limit-ms 50 --rates 500 5000 --nodes 4
  python -m load_tests.capacity --data imdb/test.tsv.gz --check-two
  python -m load_tests.capacity --cores 1 --seconds 3 --rounds 1 --out runs/quick

Requests arrive at random times at a given rate, whether or not earlier ones were answered, and a
latency counts from the time a request was due. The service starts on the first cores, the generator
has the others. Where none is left it shares them, which the report says: what it uses, the service
has not. A late generator ends the run. Options after -- are passed to `valence serve`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the report; returns 0 on success, 1 on failure, 2 on a wrong call."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    cut = typed.index("--") if "--" in typed else len(typed)
    options = _make_parser().parse_args(typed[:cut])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _run(options, typed, typed[cut + 1 :])
    except BenchError as error:
        if options.debug:
            raise
        return _fail(str(error), WRONG_CALL if isinstance(error, WrongCall) else FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted; no partial files are left", FAILED)


def _run(options: argparse.Namespace, typed: Sequence[str], serve_options: Sequence[str]) -> int:
    models_dir = options.models_dir.resolve()
    if not (models_dir / options.model).is_dir():
        raise WrongCall(f"--model must be in {options.models_dir}. Received: {options.model}")
    for cores in options.cores:
        choose_layout(cores, available_cores())
    if options.check_two:
        choose_places(2, available_cores())
        find_balancer(options.balancer)
    mix = Mix(options.list_share, options.list_size)
    texts = _texts(options)
    bodies = make_bodies(texts, options.model, mix, options.seed)
    terms = Terms(options.limit_ms, options.seconds, options.warm_up_s, options.tolerance)
    about: dict[str, Any] = {
        "machine": describe_machine(),
        "run": {
            "command": shlex.join(("python", "-m", "load_tests.capacity", *typed)),
            "model": options.model,
            "texts": len(texts),
            "source": f"from {options.data.name}" if options.data else "generated",
            "rounds": options.rounds,
            "busy_cores_before": busy_cores(),
            "texts_per_request": texts_per_request(bodies),
            "method": options.method,
            **asdict(mix),
            **asdict(terms),
        },
    }
    measured: list[CoreFigures] = []
    turns: list[Turn] = []
    ended: BenchError | None = None
    with request_file(bodies) as requests:
        plan = Plan(
            models_dir=models_dir,
            model=options.model,
            engine=options.engine,
            texts=texts,
            requests=requests,
            cores=options.cores,
            rounds=options.rounds,
            terms=terms,
            serve_options=serve_options,
        )
        _report("every text is asked once")
        about["tokens"] = check_answers(plan)
        try:
            for cores in options.cores:
                measured.append(measure_cores(plan, cores, _report))
            if options.check_two:
                balancing = {"balancer": options.balancer, "method": options.method}
                turns.extend(check_two(plan, turns=options.turns, report=_report, **balancing))
        except BenchError as error:
            if not measured:
                raise
            ended = error  # what was measured before, for many minutes, is written
    wanted = Wanted(
        rates=options.rates,
        lowest_share=options.lowest_share,
        nodes=options.nodes,
        limit_ms=options.limit_ms,
    )
    text = write_markdown(about, measured, turns, wanted)
    print(text)
    content = make_content(about, measured, turns)
    written = write_files(options.out, content, text, measured, wanted)
    print("written:", ", ".join(str(path) for path in written))
    if ended is not None:
        raise ended
    return OK


def _texts(options: argparse.Namespace) -> list[str]:
    if options.data is None:
        return make_texts(_TEXTS, options.seed)
    # Imported late: it needs the service's packages.
    from load_tests.capacity.data import read_texts

    return read_texts(options.data, options.text_column, _TEXTS, options.seed)


def _report(line: str) -> None:
    print(line, file=sys.stderr)


def _fail(sentence: str, status: int) -> int:
    print(f"capacity: {sentence}", file=sys.stderr)
    return status


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m load_tests.capacity",
        description="Find the highest rate of requests that keeps p99, and plan replicas for it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Any = parser.add_argument
    default_cores = [cores for cores in (1, 2) if cores <= len(available_cores())]
    add("--limit-ms", type=above_zero, default=100, help="what p99 must keep, in ms [100]")
    add(
        *("--cores",),
        nargs="+",
        type=positive,
        default=default_cores,
        help="numbers of cores of the service, a worker for each [1 2]",
    )
    add("--model", default="lstm", help="the model that is asked [lstm]")
    add("--models-dir", type=Path, default=ROOT / "models", help="folder of the models [models]")
    add("--engine", choices=("onnx", "tensorflow"), default="onnx", help="its engine [onnx]")
    add("--data", type=Path, help="texts: a table in any format that training reads [generated]")
    add("--text-column", help="its column: a name or a number [text, review or sentence]")
    add("--list-share", type=share, default=0.05, help="share of requests with lists [0.05]")
    add("--list-size", type=positive, default=16, help="texts in a list [16]")
    add("--seconds", type=above_zero, default=10, help="duration of a load [10]")
    add("--warm-up-s", type=above_zero, default=1, help="not counted before each load [1]")
    add("--rounds", type=positive, default=3, help="searches for each number of cores [3]")
    add("--tolerance", type=above_zero, default=0.04, help="of the search, as a share [0.04]")
    add(
        *("--rates",),
        nargs="+",
        type=above_zero,
        default=[100, 1000, 10_000],
        help="requests per second to plan for; the last is that of the patches [100 1000 10000]",
    )
    add("--lowest-share", type=share, default=0.25, help="of a rate at the quietest hour [0.25]")
    add(
        "--nodes",
        type=at_least(2),
        default=3,
        help="nodes, of which one may be lost [3]",
    )
    add("--check-two", action="store_true", help="hold the prediction against two replicas")
    add("--turns", type=positive, default=3, help="of --check-two [3]")
    add("--balancer", choices=("auto", *BALANCERS), default="auto", help="of --check-two [auto]")
    add(
        *("--method",),
        choices=("round-robin", "least-requests", "random"),
        default="random",
        help="how it chooses a replica for each request [random]",
    )
    add("--seed", type=int, default=1, help="random seed of texts and their order [1]")
    add("--out", type=Path, default=Path("runs/capacity"), help="of the report [runs/capacity]")
    add("--debug", action="store_true", help="show the traceback of a failure")
    return parser


if __name__ == "__main__":
    sys.exit(main())
