"""The comparison of the service with and without metrics and traces."""

import subprocess
import sys

from load_tests.bench.instrumentation import VARIANTS, Rates, describe


def test_rows() -> None:
    """Each turn is compared with the same turn of the service as it is shipped."""
    found = {
        "as shipped": Rates([100, 200, 300]),
        "without metrics": Rates([110, 180, 300], errors=2),
    }
    _, shipped, without = describe(found)
    assert shipped == ("as shipped", "200", "1.000", "1.000", "1.000", "0")
    assert without == ("without metrics", "180", "1.000", "0.900", "1.100", "2")


def test_variables() -> None:
    """Only a variant with spans has variables of OpenTelemetry."""
    shipped, *_, every = VARIANTS
    assert shipped.environment(4318) == {}
    assert every.environment(4318)["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:4318"
    assert every.environment(4318)["OTEL_TRACES_SAMPLER_ARG"] == "1.0"


def test_without_metrics_nothing_is_counted() -> None:
    """No update of any metric changes a number."""
    script = """
from app.telemetry.tally import Counter, Gauge, Histogram
from load_tests.bench.unmetered import unmeter
unmeter()
counter, gauge, histogram = Counter(), Gauge(), Histogram((1.0,))
counter.inc(); gauge.inc(); gauge.dec(); gauge.set(3); histogram.observe(0.5)
print(counter.numbers(), gauge.numbers(), histogram.numbers())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[0.0] [0.0] [0.0, 0, 0]\n"
