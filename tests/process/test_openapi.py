"""The service keeps to its own OpenAPI document."""

import pytest


@pytest.mark.slow
def test_generated_requests() -> None:
    """Requests that follow the document or break it get what it says, and never a 500."""
    pytest.importorskip("schemathesis", reason="make fuzz installs it")
    from tests.fuzzing.openapi import run_against_server

    outcome = run_against_server(0)
    assert outcome.failures == []
    assert outcome.statuses[500] == 0
    assert outcome.statuses[200] > 0
