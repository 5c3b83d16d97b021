"""Spans of requests and of model runs, sent by OpenTelemetry.

Imported only where tracing is on: the library comes with the extra `otel`. Spans are made when
their request has ended, from times that were taken anyway, so that a service without tracing pays
nothing. They carry numbers and names of models, never a text.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

FLUSH_TIMEOUT_S: Final = 2.0
"""How long a process that ends waits for its last spans to be sent."""
_HEADERS: Final = (b"traceparent", b"tracestate")
_ROOT: Final = Context()
_NANOSECONDS: Final = 1e9
_FIRST_OWN_ERROR: Final = 500

Attribute = str | int
Stage = tuple[str, float, float]
"""A stage of a request: its name, and its beginning and end on the monotonic clock, in seconds."""


@dataclass(slots=True)
class Traced:
    """A request that is being answered.

    Attributes:
        span: Its span; None if its trace is not sampled.
        trace_id: In hexadecimal.
        traceparent: The header that names the span.
    """

    span: Span | None
    trace_id: str
    traceparent: bytes


@dataclass(slots=True)
class TracedRun:
    """A model run, which has a span as soon as a request needs it.

    Attributes:
        ended: On the monotonic clock, in seconds.
        seconds: How long it took.
        attributes: Of its span.
        context: Names its span; None while it has none.
    """

    ended: float
    seconds: float
    attributes: dict[str, Attribute]
    context: SpanContext | None = None


class _Ids(RandomIdGenerator):  # type: ignore[misc]  # mypy does not read the library
    """Random ids, but for the next trace the one by which it was sampled.

    Most traces are not sampled, and the library takes several times as long to find that out.
    """

    chosen = 0

    def generate_trace_id(self) -> int:
        """The id of the next trace."""
        chosen, self.chosen = self.chosen, 0
        return chosen or int(super().generate_trace_id())


class Tracing:
    """Makes spans.

    Args:
        version: Of the service.
        provider: Where spans go; by default to the endpoint that OpenTelemetry's own environment
            variables name, `OTEL_EXPORTER_OTLP_ENDPOINT` above all.
    """

    def __init__(self, version: str, provider: TracerProvider | None = None) -> None:
        self._provider = provider or _open_provider(version)
        self._ids = self._provider.id_generator = _Ids()
        self._sampler = self._provider.sampler
        self._tracer = self._provider.get_tracer("valence", version)
        # The span of a run is made for a request whose trace is sampled: no sample of its own.
        self._run_tracer = self._provider.get_tracer("valence.runs", version)
        self._run_tracer.sampler = ALWAYS_ON
        self._propagator = TraceContextTextMapPropagator()
        # Times are taken on the monotonic clock.
        self._offset_s = time.time() - time.monotonic()

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> Traced:
        """Begin the span of a request, as a child of the one that its headers name."""
        carrier = {
            name.decode(): value.decode("latin-1") for name, value in headers if name in _HEADERS
        }
        if not carrier and not self._samples_next():
            trace_id = trace.format_trace_id(self._ids.generate_trace_id())
            span_id = trace.format_span_id(self._ids.generate_span_id())
            return Traced(None, trace_id, f"00-{trace_id}-{span_id}-00".encode("ascii"))
        parent = self._propagator.extract(carrier, _ROOT) if carrier else _ROOT
        span = self._tracer.start_span("request", context=parent, kind=SpanKind.SERVER)
        found = span.get_span_context()
        trace_id = trace.format_trace_id(found.trace_id)
        span_id = trace.format_span_id(found.span_id)
        header = f"00-{trace_id}-{span_id}-{int(found.trace_flags):02x}"
        return Traced(span if span.is_recording() else None, trace_id, header.encode("ascii"))

    def _samples_next(self) -> bool:
        """Whether the next trace is sampled."""
        chosen = self._ids.chosen = self._ids.generate_trace_id()
        result = self._sampler.should_sample(_ROOT, chosen, "request", SpanKind.SERVER)
        return bool(result.decision.is_recording())

    def end(
        self,
        traced: Traced,
        name: str,
        status: int,
        attributes: dict[str, Attribute],
        stages: Sequence[Stage],
        runs: Sequence[object],
    ) -> None:
        """End the span of a request, with a span for each of its stages.

        Args:
            traced: The request.
            name: Of its span.
            status: Of its response.
            attributes: Of its span.
            stages: One after another.
            runs: What `trace_run` returned for the model runs that answered it; the last stage is
                linked to them, and those without a span get one.
        """
        span = traced.span
        if span is None:
            return
        span.update_name(name)
        span.set_attributes(attributes)
        if status >= _FIRST_OWN_ERROR:
            span.set_status(Status(StatusCode.ERROR))
        parent = trace.set_span_in_context(span, _ROOT)
        for number, (stage, began, ended) in enumerate(stages, start=1):
            is_last = number == len(stages)
            links = [
                Link(self._find_span(run)) for run in runs if is_last and isinstance(run, TracedRun)
            ]
            child = self._tracer.start_span(
                stage, context=parent, links=links, start_time=self._to_ns(began)
            )
            child.end(self._to_ns(ended))
        span.end()

    def trace_run(
        self, model: str, items: int, tokens: int, padded: int, seconds: float
    ) -> TracedRun:
        """Note a model run that has just ended; returns what a request links to.

        Args:
            model: The model.
            items: Rows.
            tokens: Of the texts.
            padded: Tokens of padding.
            seconds: How long the run took.
        """
        attributes: dict[str, Attribute] = {
            "valence.model": model,
            "valence.batch.items": items,
            "valence.batch.tokens": tokens,
            "valence.batch.padded_tokens": padded,
        }
        return TracedRun(time.monotonic(), seconds, attributes)

    def _find_span(self, run: TracedRun) -> SpanContext:
        """What names the span of a run, which is made for the first request that links to it."""
        if run.context is None:
            span = self._run_tracer.start_span(
                "batch",
                context=_ROOT,
                attributes=run.attributes,
                start_time=self._to_ns(run.ended - run.seconds),
            )
            span.end(self._to_ns(run.ended))
            run.context = span.get_span_context()
        return run.context

    def close(self) -> None:
        """Send the last spans, but do not wait for a collector that is not there."""
        # Not the library's own timeout, which its retries outlast.
        sender = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        sender.start()
        sender.join(FLUSH_TIMEOUT_S)

    def _to_ns(self, moment: float) -> int:
        return int((moment + self._offset_s) * _NANOSECONDS)


def _open_provider(version: str) -> TracerProvider:
    """Spans leave in the background, many at a time."""
    # Variables of the environment, such as OTEL_SERVICE_NAME, come before these.
    resource = Resource({"service.name": "valence", "service.version": version}).merge(
        Resource.create()
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
