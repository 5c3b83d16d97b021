"""The series of the service, in one process and merged from several."""

from app.telemetry.metrics import Metrics
from tests.fakes import sample


def test_two_services(metrics: Metrics) -> None:
    """Each has its own series, so that one process can run two services."""
    other = Metrics()
    metrics.observe_request("/predict", "lstm", 200, 0.01)
    labels = {"route": "/predict", "model": "lstm", "status": "200"}
    assert sample(metrics, "requests_total", **labels) == 1
    assert sample(other, "requests_total", **labels) is None


def test_requests_are_counted_and_timed(metrics: Metrics) -> None:
    """A request is counted by status, and timed by route and model."""
    for status in (200, 200, 429):
        metrics.observe_request("/predict", "lstm", status, 0.01)
    labels = {"route": "/predict", "model": "lstm"}
    counted = sample(metrics, "requests_total", **labels, status="200")
    timed = sample(metrics, "request_duration_seconds_count", **labels)
    assert (counted, timed) == (2, 3)


def test_model_series_exist_from_the_start(metrics: Metrics) -> None:
    """The series of a model exist at zero before its first request."""
    metrics.for_model("lstm")
    metrics.for_labels("lstm", 1, ["negative", "positive"])
    assert sample(metrics, "tokens_total", model="lstm") == 0
    labels = {"model": "lstm", "version": "1", "label": "positive"}
    assert sample(metrics, "predictions_total", **labels) == 0


def test_merge_of_two_workers(metrics: Metrics) -> None:
    """Counts of two workers are summed; a version that is ready in both is ready once."""
    other = Metrics()
    for worker in (metrics, other):
        worker.for_model("lstm").queue_items.inc(3)
        worker.requests_in_flight.inc()
        worker.observe_request("/predict", "lstm", 200, 0.01)
        worker.model_info.labels("lstm", "1", "onnx", "true").set(1)
    merged = metrics.tally.merge([metrics.tally.snapshot(), other.tally.snapshot()])
    page = metrics.tally.render(merged).decode().splitlines()
    assert {
        'valence_queue_items{model="lstm"} 6.0',
        "valence_requests_in_flight 2.0",
        'valence_requests_total{model="lstm",route="/predict",status="200"} 2.0',
        'valence_request_duration_seconds_bucket{le="0.015",model="lstm",route="/predict"} 2.0',
        'valence_model_info{default="true",engine="onnx",model="lstm",version="1"} 1.0',
    } <= set(page)
