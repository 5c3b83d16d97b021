import json
import shutil
from pathlib import Path

import pytest

from load_tests.bench.errors import BenchError
from load_tests.bench.load import Load
from load_tests.bench.wrk import MARK, Wrk, parse
from tests.answering import answering

RESULT = {
    "requests": 1000,
    "duration_us": 2_000_000,
    "p50_us": 1500,
    "p99_us": 4250,
    "errors": {"status": 0, "connect": 0, "read": 0, "write": 0, "timeout": 0},
}


def output(**changes: object) -> str:
    return f"Running 2s test\n  Requests/sec: 500\n{MARK}{json.dumps(RESULT | changes)}\n"


def test_parse() -> None:
    """The script's line of JSON becomes requests, seconds and milliseconds."""
    outcome = parse(output())
    assert (outcome.answered, outcome.seconds) == (1000, 2.0)
    assert (outcome.p50_ms, outcome.p99_ms) == (1.5, 4.25)
    assert outcome.errors == {}


def test_parse_errors() -> None:
    """Answers with another status count as errors; each kind of error is named."""
    errors = RESULT["errors"] | {"status": 10, "timeout": 2}  # type: ignore[operator]
    outcome = parse(output(errors=errors))
    assert outcome.answered == 990
    assert outcome.errors == {
        "status other than 200": 10,
        "no answer within 30 seconds": 2,
    }


@pytest.mark.parametrize(
    "text", ["", "Running 2s test", f"{MARK}no JSON", f"{MARK}{{}}", f"{MARK}[]"]
)
def test_parse_rejects_other_output(text: str) -> None:
    """Output without the script's line of JSON is a failure of wrk."""
    with pytest.raises(BenchError, match="no result"):
        parse(text)


def test_missing_wrk(tmp_path: Path) -> None:
    """A wrk that cannot be started is reported in one sentence."""
    with pytest.raises(BenchError, match="cannot run"):
        Wrk(str(tmp_path / "wrk")).run(Load(1, [b"{}"], connections=1, seconds=1))


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_itself() -> None:
    """Wrk with the script counts answers with status 200 and all others."""
    bodies = [b'{"text": "good"}', b'{"text": "bad"}', b'{"text": "500"}']
    with answering() as server:
        outcome = Wrk(shutil.which("wrk") or "").run(Load(server.port, bodies, 2, seconds=1))
    failed = outcome.errors["status other than 200"]
    assert outcome.errors.keys() == {"status other than 200"}
    assert abs(outcome.answered - 2 * failed) <= 4
    assert set(server.bodies) == set(bodies)
