"""Requests made from the service's own OpenAPI document, against a real server."""

import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.published import publish
from tests.server import ServerProcess

CHECKS: Final = (
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)
_BATCH: Final = 200
_STEPS: Final = 6
_MAX_FAILURES: Final = 10


@dataclass
class Outcome:
    """What came of the cases.

    Attributes:
        statuses: How many answers had each status.
        failures: The first broken rules.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """The number of cases, the statuses, and what was broken."""
        statuses = ", ".join(f"{status}: {n}" for status, n in sorted(self.statuses.items()))
        lines = [f"{self.statuses.total()} cases ({statuses})", *self.failures]
        return "\n".join(lines)

    def note(self, case: Any, response: Any) -> None:
        """Count an answer, and hold it to the document."""
        self.statuses[response.status_code] += 1
        if response.status_code == 500:
            self.failures.append(f"{case.method} {case.path}: 500 {response.text[:300]}")
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as group:
            if len(self.failures) < _MAX_FAILURES:
                self.failures += [f"{case.method} {case.path}: {e}" for e in group.exceptions]


def run_against_server(seconds: float, *, seed: int = 1) -> Outcome:
    """Start a service with two small models, and send cases for so long.

    Args:
        seconds: How long; 0 for one batch of each kind.
        seed: Of the cases.
    """
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        for name, number in (("lstm", 1), ("bow", 1), ("bow", 2)):
            publish(Path(folder), name, number)
        with ServerProcess(Path(folder), "--engine", "onnx", "--workers", "1") as server:
            server.wait_for("the service is ready")
            address = server.wait_for("the service is starting")["address"]
            schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
            until = time.monotonic() + seconds
            while True:
                for work in (_send_cases, _follow_links):
                    work(schema, outcome, seed)
                seed += 1
                if time.monotonic() > until or outcome.failures:
                    break
            assert server.stop() == 0
            assert not [line for line in server.log if line.get("level") == "error"]
    return outcome


def _settings(batch: int) -> Any:
    return settings(
        max_examples=batch,
        phases=(Phase.explicit, Phase.generate),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        stateful_step_count=_STEPS,
    )


def _send_cases(schema: Any, outcome: Outcome, seed: int) -> None:
    """Cases that follow the document, and cases that break it, for every operation."""
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            count = _BATCH if operation.method == "post" else _BATCH // 10
            with contextlib.suppress(Unsatisfiable):  # nothing to break without an input
                _run(operation.as_strategy(generation_mode=mode), count, outcome, seed)


def _run(strategy: Any, count: int, outcome: Outcome, seed: int) -> None:
    @seeded(seed)
    @_settings(count)
    @given(case=strategy)
    def send(case: Any) -> None:
        outcome.note(case, case.call())

    run: Callable[[], None] = send
    run()


def _follow_links(schema: Any, outcome: Outcome, seed: int) -> None:
    """Sequences of requests in which each takes what an earlier answer links to."""
    machine = schema.as_state_machine()

    class Linked(machine):  # type: ignore[misc, valid-type]
        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            outcome.note(case, response)

    Linked.run(settings=_settings(_BATCH // 10))
