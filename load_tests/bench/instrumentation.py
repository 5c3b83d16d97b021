"""What metrics and traces cost: `python -m load_tests.bench.instrumentation`.

The service runs as it is shipped, without its metrics, and with spans of a hundredth of the
requests and of all. Loads of all of them alternate, so that the machine's other work is in all. A
collector on the same machine takes the spans and drops them.
"""

import argparse
import statistics
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

from load_tests.bench.__main__ import choose_generator
from load_tests.bench.errors import BenchError
from load_tests.bench.load import Load
from load_tests.bench.machine import cores
from load_tests.bench.server import Server, serve
from load_tests.bench.table import align
from load_tests.bench.texts import make_texts, single_bodies

_TEXTS: Final = 8192
_CONNECTIONS: Final = 64
_HEADINGS: Final = ("", "requests/s", "of shipped", "lowest", "highest", "errors")


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run the service.

    Attributes:
        name: In the report.
        module: What `python -m` runs.
        sampled: The share of the requests that have spans; None for no tracing.
    """

    name: str
    module: str = "app"
    sampled: float | None = None

    def environment(self, collector: int) -> Mapping[str, str]:
        """Variables of OpenTelemetry; the collector's port is given."""
        if self.sampled is None:
            return {}
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}",
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(self.sampled),
        }


VARIANTS: Final = (
    Variant("as shipped"),
    Variant("without metrics", module="load_tests.bench.unmetered"),
    Variant("spans of 1 %", sampled=0.01),
    Variant("spans of all", sampled=1.0),
)
"""The first is what the others are compared with."""


@dataclass(slots=True)
class Rates:
    """What a variant has answered.

    Attributes:
        per_s: Requests per second of each turn.
        errors: Failed requests of all turns.
    """

    per_s: list[float] = field(default_factory=list)
    errors: int = 0


def describe(found: Mapping[str, Rates]) -> list[Sequence[str]]:
    """Make the rows of the report: the median of each, and of its ratios to the first."""
    (_, shipped), *_ = found.items()
    rows: list[Sequence[str]] = [_HEADINGS]
    for name, rates in found.items():
        ratios = [own / other for own, other in zip(rates.per_s, shipped.per_s, strict=True)]
        rows.append(
            (
                name,
                f"{statistics.median(rates.per_s):.0f}",
                *(f"{each:.3f}" for each in (statistics.median(ratios), min(ratios), max(ratios))),
                str(rates.errors),
            )
        )
    return rows


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def _collector() -> Iterator[int]:
    """A collector that drops what it gets; yields its port."""
    with HTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def _serve(variant: Variant, options: argparse.Namespace, collector: int) -> Server:
    tracing = "off" if variant.sampled is None else "otlp"
    return serve(
        options.models_dir,
        "onnx",
        ("--workers", str(options.workers), "--tracing", tracing),
        module=variant.module,
        environment=variant.environment(collector),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table; returns 0 on success, 1 on failure."""
    parser = argparse.ArgumentParser(description="Measure what metrics and traces cost.")
    parser.add_argument("--models-dir", type=Path, default=Path("models"))
    parser.add_argument("--model", default="lstm")
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args(arguments)
    bodies = single_bodies(make_texts(_TEXTS, seed=1), options.model)
    generator = choose_generator("auto")
    found = {variant.name: Rates() for variant in VARIANTS}
    try:
        with ExitStack() as stack:
            collector = stack.enter_context(_collector())
            servers = {
                variant.name: stack.enter_context(_serve(variant, options, collector))
                for variant in VARIANTS
            }
            for server in servers.values():
                generator.run(Load(server.port, bodies, _CONNECTIONS, 1))  # warms up
            for turn in range(options.turns):
                # Each is first, and last, about as often.
                for at in range(len(VARIANTS)):
                    name = VARIANTS[(turn + at) % len(VARIANTS)].name
                    load = Load(servers[name].port, bodies, _CONNECTIONS, options.seconds)
                    outcome = generator.run(load)
                    found[name].per_s.append(outcome.answered / outcome.seconds)
                    found[name].errors += sum(outcome.errors.values())
    except BenchError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the reason
        return 1
    print(align(describe(found)))  # noqa: T201 - the report
    return 0


if __name__ == "__main__":
    sys.exit(main())
