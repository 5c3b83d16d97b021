"""Spans of a real server, sent to a collector, or to none."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.collector import Collector, collecting
from tests.server import ServerProcess

pytest.importorskip("opentelemetry.sdk.trace", reason="OpenTelemetry is not installed")


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as server:
        yield server


def start(models: Path, port: int) -> ServerProcess:
    endpoint = f"export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{port}"
    return ServerProcess(
        models, "--engine", "onnx", "--workers", "1", "--tracing", "otlp", setup=endpoint
    )


def test_spans_arrive(bow_models: Path, collector: Collector) -> None:
    """The last spans leave before the process ends; they carry no text."""
    with start(bow_models, collector.server_port) as server, server.client() as client:
        server.wait_for("the service is ready")
        assert client.post("/predict", json={"text": "superb"}).status_code == 200
        assert server.stop() == 0
    assert {path for path, _ in collector.received} == {"/v1/traces"}
    spans = b"".join(body for _, body in collector.received)
    assert all(name in spans for name in (b"POST /predict", b"tokenize", b"batch", b"valence"))
    assert b"superb" not in spans


@pytest.mark.slow
def test_no_collector(bow_models: Path) -> None:
    """Without a collector requests are answered, and the process ends as usual."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with start(bow_models, port) as server, server.client() as client:
        server.wait_for("the service is ready")
        assert client.post("/predict", json={"text": "superb"}).status_code == 200
        assert server.stop() == 0
    assert server.events()[-2:] == ["the service has stopped", "the log has ended"]
