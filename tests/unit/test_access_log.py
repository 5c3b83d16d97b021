"""Which requests have a line in the log, and what it says."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest

from app.api.access_log import MAX_ERRORS_PER_S, AccessLog, Requests, find_trace_id
from app.api.middleware import RequestContext
from app.main import make_gate
from app.serving.admission import Admission
from app.settings import Settings
from tests.fakes import ManualClock, Running, run_service

pytestmark = pytest.mark.anyio

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The lines of requests."""
    return [each for each in caplog.records if each.name == "app.api.access_log"]


def make_context(status: int, rejected: str = "") -> RequestContext:
    context = RequestContext({"type": "http", "headers": []})
    context.status, context.rejected = status, rejected
    return context


@pytest.mark.parametrize(
    ("requests", "logged"),
    [("off", []), ("errors", [404, 422, 429, 500]), ("all", [200, 404, 422, 429, 500])],
)
async def test_which_requests(
    fake_models: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    requests: Requests,
    logged: list[int],
) -> None:
    """None, those that failed, or all of them have a line."""
    caplog.set_level(logging.INFO, logger="app")
    async with run_service(fake_models, access_log=requests) as service:
        for body in ({"text": "good"}, {"text": "good", "model": "no"}, {"text": 1}):
            await service.predict(**body)
        with monkeypatch.context() as patch:
            patch.setattr(Admission, "lateness_s", lambda *_: 2.5)
            await service.predict(text="good")
        await service.predict(text="poison")
    assert [vars(line)["status"] for line in lines(caplog)] == logged


async def test_what_a_line_says(fake_models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Ids, what answered, what it took; of the texts how many and how long, never what they are."""
    caplog.set_level(logging.INFO, logger="app")
    headers = {"X-Request-ID": "abc", "traceparent": TRACEPARENT}
    async with run_service(fake_models, access_log="all") as service:
        body = {"texts": ["a good film", "bad"]}
        await service.client.post("/predict", json=body, headers=headers)
    (line,) = lines(caplog)
    fields: dict[str, Any] = vars(line)
    expected = {"request_id": "abc", "trace_id": TRACE, "route": "/predict", "status": 200}
    expected |= {"model": "lstm", "version": 2, "texts": 2, "tokens": 4}
    assert {name: fields[name] for name in expected} == expected
    assert fields["duration_ms"] >= fields["tokenize_ms"] > 0
    assert fields["infer_ms"] > 0 <= fields["queue_ms"]
    assert "film" not in json.dumps(fields, default=str)


async def test_a_client_error_is_found_by_its_id(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """By default a 4xx is in the log at INFO, with its id and the reason, without the text."""
    caplog.set_level(logging.INFO, logger="app")
    headers = {"X-Request-ID": "mine"}
    await running.client.post("/predict", json={"text": ["SECRET"]}, headers=headers)
    (line,) = lines(caplog)
    fields = vars(line)
    assert (line.levelname, fields["request_id"], fields["status"]) == ("INFO", "mine", 422)
    assert fields["reason"] == "InvalidInput"
    assert "SECRET" not in json.dumps(fields, default=str)


async def test_probes(fake_models: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A service that is not ready yet does not log that its probes get 503."""
    caplog.set_level(logging.INFO, logger="app")
    async with run_service(fake_models) as service:
        service.service.begin_drain()
        assert (await service.client.get("/readyz")).status_code == 503
    assert lines(caplog) == []


def test_a_flood_of_errors(caplog: pytest.LogCaptureFixture) -> None:
    """Clients cannot fill the log: in a second so many of their errors are logged, then counted."""
    caplog.set_level(logging.INFO, logger="app")
    clock = ManualClock()
    log = AccessLog("errors", clock)
    for _ in range(MAX_ERRORS_PER_S + 5):
        log.write({"headers": []}, make_context(404), "other", 0.001)
    assert len(lines(caplog)) == MAX_ERRORS_PER_S
    log.write({"headers": []}, make_context(500), "/predict", 0.001)  # our own are all logged
    clock.advance(1)
    log.write({"headers": []}, make_context(404), "other", 0.001)
    *_, own, last = lines(caplog)
    assert vars(own)["suppressed"] == 5
    assert "suppressed" not in vars(last)


async def test_early_refusals_have_lines(
    running: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate lets a refused request pass while the log has room for its line."""
    monkeypatch.setattr(Admission, "lateness_s", lambda *_: 2.5)
    predictor = running.service.repository.find().predictor
    assert predictor is not None
    predictor._admission.begin(10, 1)
    running.service.engine_load.refused_at = math.inf
    log = AccessLog("errors", ManualClock())
    gate = make_gate(running.service, Settings(), None, log)
    data = b'POST /predict HTTP/1.1\r\nHost: v\r\nContent-Length: 16\r\n\r\n{"text": "good"}'
    assert gate.refuse(data) is None
    log._left = 0
    log._renewed_at = math.inf
    assert gate.refuse(data) is not None


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (TRACEPARENT, TRACE),
        (TRACEPARENT + "-later", TRACE),
        ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", ""),
        (TRACEPARENT.upper(), ""),
        ("SECRET", ""),
    ],
)
def test_trace_id(header: str, found: str) -> None:
    """Only a valid id of W3C Trace Context is logged."""
    assert find_trace_id({"headers": [(b"traceparent", header.encode())]}) == found
