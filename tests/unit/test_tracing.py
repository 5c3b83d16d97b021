"""Spans of requests, as an exporter in memory receives them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

trace_sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="OpenTelemetry is not installed")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: E402
    InMemorySpanExporter,
)
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: E402

from app.telemetry.tracing import Tracing  # noqa: E402
from tests.fakes import Running, run_service, until  # noqa: E402

pytestmark = pytest.mark.anyio

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ("read", "tokenize", "queue", "infer")


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def traced(fake_models: Path, exporter: InMemorySpanExporter) -> AsyncIterator[Running]:
    """A service whose spans are kept in memory."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with run_service(fake_models, tracer=Tracing("1", provider)) as service:
        yield service


def sampling(exporter: InMemorySpanExporter, ratio: float) -> Tracing:
    """Traces of which a share is sampled, and those that a client samples."""
    provider = TracerProvider(shutdown_on_exit=False, sampler=ParentBased(TraceIdRatioBased(ratio)))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing("1", provider)


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


async def test_spans_of_a_request(traced: Running, exporter: InMemorySpanExporter) -> None:
    """A request has a span for each stage, one after another, and the whole covers them."""
    response = await traced.predict(texts=["a good film", "bad"])
    (request,) = named(exporter, "POST /predict")
    stages = [span for name in STAGES for span in named(exporter, name)]
    assert [span.name for span in stages] == [*STAGES]
    assert {span.parent.span_id for span in stages if span.parent} == {request.context.span_id}
    times = [moment for span in stages for moment in (span.start_time, span.end_time)]
    assert times == sorted(times)
    attributes = dict(request.attributes or {})
    assert attributes["http.response.status_code"] == response.status_code == 200
    assert (attributes["valence.model"], attributes["valence.version"]) == ("lstm", 2)
    assert (attributes["http.route"], attributes["valence.texts"]) == ("/predict", 2)
    assert "film" not in "".join(span.to_json() for span in exporter.get_finished_spans())


async def test_requests_link_to_their_batch(
    traced: Running, exporter: InMemorySpanExporter
) -> None:
    """Requests that were computed together have links to the one span of their batch."""
    traced.engine.gate.clear()
    first = asyncio.create_task(traced.predict(text="the"))
    await traced.engine.wait_until_running()
    others = [asyncio.create_task(traced.predict(text=text)) for text in ("good", "bad", "good")]
    await until(lambda: traced.sample("queue_items", model="lstm") == 3)
    traced.engine.gate.set()
    await asyncio.gather(first, *others)
    batches = sorted(named(exporter, "batch"), key=lambda span: span.start_time or 0)
    assert [dict(span.attributes or {})["valence.batch.items"] for span in batches] == [1, 2]
    linked = [[link.context.span_id for link in span.links] for span in named(exporter, "infer")]
    ids = [span.context.span_id for span in batches]
    assert sorted(linked) == sorted([[ids[0]], *[[ids[1]]] * 3])


async def test_a_sampled_request_has_its_batch(
    fake_models: Path, exporter: InMemorySpanExporter
) -> None:
    """However few traces are sampled, each sampled request has the span of its batch, just one."""
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    async with run_service(fake_models, tracer=sampling(exporter, 0.01)) as traced:
        body = {"texts": ["good", "bad", "the film"]}
        for _ in range(3):
            await traced.client.post("/predict", json=body, headers=headers)
    links = [[link.context.span_id for link in span.links] for span in named(exporter, "infer")]
    assert [bool(each) for each in links] == [True] * 3
    linked = {span_id for each in links for span_id in each}
    assert {span.context.span_id for span in named(exporter, "batch")} == linked
    assert all(span.context.trace_id != int(TRACE, 16) for span in named(exporter, "batch"))


async def test_no_span_for_a_batch_without_a_sampled_request(
    fake_models: Path, exporter: InMemorySpanExporter
) -> None:
    """Where no trace is sampled, there are no spans at all."""
    async with run_service(fake_models, tracer=sampling(exporter, 0.0)) as traced:
        assert (await traced.predict(text="good")).status_code == 200
    assert exporter.get_finished_spans() == ()


async def test_context_in_and_out(traced: Running, exporter: InMemorySpanExporter) -> None:
    """A request continues the trace of its client, and the response names its span."""
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
    response = await traced.client.post("/predict", json={"text": "good"}, headers=headers)
    (request,) = named(exporter, "POST /predict")
    assert f"{request.context.trace_id:032x}" == TRACE
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == SPAN
    assert response.headers["traceparent"] == f"00-{TRACE}-{request.context.span_id:016x}-01"


async def test_a_client_that_does_not_sample(
    traced: Running, exporter: InMemorySpanExporter
) -> None:
    """A request whose client does not record its trace has no spans."""
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-00"}
    response = await traced.client.post("/predict", json={"text": "good"}, headers=headers)
    assert response.headers["traceparent"].endswith("-00")
    assert named(exporter, "POST /predict") == []


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_sampling(exporter: InMemorySpanExporter, ratio: float) -> None:
    """As many traces have spans as the sampler says, and the header tells which ones."""
    tracing = sampling(exporter, ratio)
    traced = [tracing.begin([]) for _ in range(400)]
    for each in traced:
        tracing.end(each, "GET /", 200, {}, (), ())
    sampled = [each for each in traced if int(each.traceparent[-2:], 16) & 1]
    found = {f"{span.context.trace_id:032x}" for span in named(exporter, "GET /")}
    assert found == {each.trace_id for each in sampled}
    assert ratio * 400 - 80 <= len(sampled) <= ratio * 400 + 80
    assert len({each.traceparent for each in traced}) == 400


async def test_a_failed_request(traced: Running, exporter: InMemorySpanExporter) -> None:
    """A request that failed has a span that says so, and why."""
    await traced.predict(text="poison")
    (request,) = named(exporter, "POST /predict")
    assert request.status.status_code.name == "ERROR"
    assert dict(request.attributes or {})["error.type"] == "InferenceFailed"


async def test_without_tracing(running: Running) -> None:
    """Without tracing no response has the header."""
    assert "traceparent" not in (await running.predict(text="good")).headers
