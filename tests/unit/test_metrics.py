"""The series of the service, in one process and merged from several."""

import pytest

from app.telemetry.metrics import SECONDS, Metrics
from tests.fakes import LABELS, sample

_STATUSES = {"/predict": (200, 404, 422, 429, 503), "/livez": (200,)}
_LATENCY = "request_duration_seconds"
_REQUEST = {"route": "/predict", "model": "lstm"}


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
    timed = sample(metrics, "request_duration_seconds_count", **labels, version="", size="")
    assert (counted, timed) == (2, 3)


@pytest.mark.parametrize(("texts", "size"), [(0, ""), (1, "one"), (2, "many"), (1000, "many")])
def test_latency_tells_one_text_from_many(metrics: Metrics, texts: int, size: str) -> None:
    """A list has a latency of its own, and so has each version."""
    metrics.for_labels("lstm", 3, LABELS)
    metrics.observe_request("/predict", "lstm", 200, 0.01, version=3, texts=texts)
    labels = {"route": "/predict", "model": "lstm", "version": "3", "size": size}
    assert sample(metrics, "request_duration_seconds_count", **labels) == 1


def test_explained_requests_are_told_apart(metrics: Metrics) -> None:
    """An explained request waits behind all texts, so it says nothing about how long they take."""
    metrics.for_labels("lstm", 3, LABELS)
    labels = {"route": "/predict", "model": "lstm", "version": "3"}
    metrics.observe_request("/predict", "lstm", 200, 1.0, version=3, texts=1, explained=True)
    counts = [
        sample(metrics, "request_duration_seconds_count", **labels, size=size)
        for size in ("one", "explained")
    ]
    assert counts == [None, 1]


def test_an_objective_is_a_bound() -> None:
    """The share of requests within a usual objective is exact: each is a bound of the buckets."""
    assert {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0} <= set(SECONDS)


def test_series_of_a_version_go_with_it(metrics: Metrics) -> None:
    """No series of a released version remains, and a late request makes none; others stay."""
    for version in (1, 2):
        metrics.for_labels("lstm", version, LABELS)
        metrics.model_info.labels("lstm", str(version), "onnx", "true").set(1)
        metrics.observe_request("/predict", "lstm", 200, 0.01, version=version, texts=1)
    metrics.forget_version("lstm", 1)
    metrics.observe_request("/predict", "lstm", 200, 0.01, version=1, texts=1)
    page = metrics.tally.render(metrics.tally.snapshot()).decode()
    assert 'version="1"' not in page
    assert page.count('version="2"') == len(SECONDS) + 1 + 2 + len(LABELS) + 1
    assert sample(metrics, "requests_total", **_REQUEST, status="200") == 3


def test_a_version_that_comes_back(metrics: Metrics) -> None:
    """A version that is loaded again counts from zero."""
    labels = _REQUEST | {"version": "1", "size": "one"}
    for _ in range(2):
        metrics.for_labels("lstm", 1, LABELS)
        metrics.observe_request("/predict", "lstm", 200, 0.01, version=1, texts=1)
        assert sample(metrics, "request_duration_seconds_count", **labels) == 1
        metrics.forget_version("lstm", 1)


def test_inherited_series_of_versions_that_are_gone(metrics: Metrics) -> None:
    """A worker keeps no series of versions that only the worker before it had."""
    before = Metrics()
    before.for_labels("lstm", 1, LABELS)["positive"].inc()
    metrics.tally.restore(before.tally.snapshot())
    metrics.for_labels("lstm", 2, LABELS)
    metrics.forget_unloaded()
    labels = {"model": "lstm", "label": "positive"}
    assert sample(metrics, "predictions_total", **labels, version="1") is None
    assert sample(metrics, "predictions_total", **labels, version="2") == 0


@pytest.mark.parametrize(
    ("route", "model", "statuses"),
    [
        ("/predict", "", {"404", "422", "429", "499", "503"}),
        ("/predict", "unknown", {"404"}),
        ("/predict", "lstm", {"200", "429", "499", "503"}),
        ("/livez", "", {"200"}),
        ("/livez", "lstm", set()),
    ],
)
def test_requests_are_counted_from_the_start(
    metrics: Metrics, route: str, model: str, statuses: set[str]
) -> None:
    """Prometheus sees the first failures: whatever can be, and only that, has its series."""
    metrics.declare_routes(_STATUSES, predictions=["/predict"])
    metrics.for_model("lstm")
    start = f'valence_requests_total{{model="{model}",route="{route}",status="'
    page = metrics.tally.render(metrics.tally.snapshot()).decode().splitlines()
    found = [line.removeprefix(start) for line in page if line.startswith(start)]
    assert set(found) == {f'{status}"}} 0.0' for status in statuses}


def test_latency_exists_from_the_start(metrics: Metrics) -> None:
    """The first answers of a version count in rates: its histograms are there when it loads."""
    metrics.declare_routes(_STATUSES, predictions=["/predict"])
    metrics.for_labels("lstm", 3, LABELS)
    labels = _REQUEST | {"version": "3"}
    sizes = ("one", "many", "explained")
    counts = [sample(metrics, f"{_LATENCY}_count", **labels, size=size) for size in sizes]
    assert counts == [0, 0, None]
    metrics.forget_version("lstm", 3)
    assert sample(metrics, f"{_LATENCY}_count", **labels, size="one") is None


def test_a_followed_total_never_decreases(metrics: Metrics) -> None:
    """A counter grows with its total, and keeps its value where the total is set back."""
    totals = iter((10.0, 13.0, 1.0, 3.0))
    metrics.follow(metrics.engine_busy_seconds, lambda: next(totals))
    values = [sample(metrics, "engine_busy_seconds_total") for _ in range(3)]
    assert values == [3, 3, 5]


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
        worker.for_labels("lstm", 1, LABELS)
        worker.observe_request("/predict", "lstm", 200, 0.01, version=1, texts=1)
        worker.model_info.labels("lstm", "1", "onnx", "true").set(1)
    merged = metrics.tally.merge([metrics.tally.snapshot(), other.tally.snapshot()])
    page = metrics.tally.render(merged).decode().splitlines()
    assert {
        'valence_queue_items{model="lstm"} 6.0',
        "valence_requests_in_flight 2.0",
        'valence_requests_total{model="lstm",route="/predict",status="200"} 2.0',
        'valence_request_duration_seconds_bucket{le="0.01",model="lstm",route="/predict",'
        'size="one",version="1"} 2.0',
        'valence_model_info{default="true",engine="onnx",model="lstm",version="1"} 1.0',
    } <= set(page)
