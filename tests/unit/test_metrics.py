from prometheus_client import CollectorRegistry

from app.telemetry.metrics import Metrics


def test_two_registries(registry: CollectorRegistry) -> None:
    """Each registry has its own series, so that two services can live in one process."""
    other = CollectorRegistry()
    Metrics(registry).observe_request("/predict", "lstm", 200, 0.01)
    Metrics(other)
    labels = {"route": "/predict", "model": "lstm", "status": "200"}
    assert registry.get_sample_value("valence_requests_total", labels) == 1
    assert other.get_sample_value("valence_requests_total", labels) is None


def test_requests_are_counted_and_timed(metrics: Metrics, registry: CollectorRegistry) -> None:
    """A request is one in the counter and one in the histogram of its route and model."""
    for status in (200, 200, 429):
        metrics.observe_request("/predict", "lstm", status, 0.01)
    labels = {"route": "/predict", "model": "lstm"}
    counted = registry.get_sample_value("valence_requests_total", labels | {"status": "200"})
    timed = registry.get_sample_value("valence_request_duration_seconds_count", labels)
    assert (counted, timed) == (2, 3)


def test_model_series_exist_from_the_start(metrics: Metrics, registry: CollectorRegistry) -> None:
    """The series of a model are there at zero, before its first request."""
    metrics.for_model("lstm")
    metrics.for_labels("lstm", 1, ["negative", "positive"])
    assert registry.get_sample_value("valence_tokens_total", {"model": "lstm"}) == 0
    labels = {"model": "lstm", "version": "1", "label": "positive"}
    assert registry.get_sample_value("valence_predictions_total", labels) == 0
