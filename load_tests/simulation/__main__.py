"""`python -m load_tests.simulation`: clusters that do not fit on a machine, in virtual time."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from load_tests.bench.errors import BenchError, WrongCall
from load_tests.bench.options import above_zero, share
from load_tests.simulation.cluster import METHODS, NOTICE_S, REPLACE_S, Pods
from load_tests.simulation.plan import Wanted, find
from load_tests.simulation.report import draw, make_content, write_files, write_markdown
from load_tests.simulation.service_times import read_measured
from load_tests.simulation.validate import compare

OK, FAILED, WRONG_CALL = 0, 1, 2

_EPILOG: Final = """\
examples:
  python -m load_tests.simulation runs/capacity/capacity.json --price 0.04
  python -m load_tests.simulation runs/capacity/capacity.json --rate 500 --spikes 8 --nodes 5

The file is that of `make capacity`. First the simulation is held against its measurements; then a
rate is simulated request by request, with all nodes and with one lost; then a day with spikes. The
same seed gives the same figures.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and write the report; returns 0 on success, 1 on failure, 2 on a wrong call."""
    options = _make_parser().parse_args(arguments)
    try:
        measured = read_measured(options.measurements)
        wanted = Wanted(
            rate=options.rate,
            lowest_share=options.lowest_share,
            spikes=options.spikes,
            spike_factor=options.spike_factor,
            cores=options.cores,
            method=options.method or measured.content["run"].get("method", "least-requests"),
            pods=Pods(
                options.pod_start_s, options.notice_s, options.replace_s, nodes=options.nodes
            ),
            price=options.price,
            seconds=options.seconds,
            seed=options.seed,
        )
        comparisons = compare(measured, method=wanted.method, seed=options.seed)
        measured = measured.on(wanted.cores)
        found = find(measured, wanted)
    except BenchError as error:
        print(f"simulation: {error}", file=sys.stderr)
        return WRONG_CALL if isinstance(error, WrongCall) else FAILED
    text = write_markdown(measured, wanted, comparisons, found)
    print(text)
    content = make_content(measured, wanted, comparisons, found)
    written = write_files(options.out, content, text, draw(found, measured.limit_ms))
    print("written:", ", ".join(str(path) for path in written))
    return OK


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m load_tests.simulation",
        description="Simulate replicas, a balancer, an autoscaler and a day of traffic.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Any = parser.add_argument
    add("measurements", type=Path, help="capacity.json of a capacity run")
    add("--rate", type=above_zero, default=10_000, help="requests/s at the busiest hour [10000]")
    add("--lowest-share", type=share, default=0.25, help="of it at the quietest hour [0.25]")
    add("--spikes", type=int, default=4, help="of ten minutes, at random times of the day [4]")
    add("--spike-factor", type=above_zero, default=1.5, help="their height [1.5]")
    add("--cores", type=int, choices=range(1, 65), metavar="N", default=2, help="of a replica [2]")
    add("--method", choices=METHODS, help="of the balancer [as measured, else random]")
    add("--nodes", type=int, choices=range(2, 1001), metavar="N", default=3, help="[3]")
    add("--pod-start-s", type=above_zero, default=10, help="until a new pod is ready [10]")
    add(
        *("--notice-s",),
        type=above_zero,
        default=NOTICE_S,
        help=f"from the loss of a node until it gets no requests [{NOTICE_S:g}]",
    )
    add(
        *("--replace-s",),
        type=above_zero,
        default=REPLACE_S,
        help=f"from the loss until its pods are started elsewhere [{REPLACE_S:g}; zones: 80]",
    )
    add("--price", type=above_zero, default=0.04, help="of a core for an hour [0.04]")
    add("--seconds", type=above_zero, default=30, help="request by request [30]")
    add("--seed", type=int, default=1, help="of everything that is random [1]")
    add("--out", type=Path, default=Path("runs/simulation"), help="folder [runs/simulation]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
