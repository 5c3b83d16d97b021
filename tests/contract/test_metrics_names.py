"""The metrics as other programs know them: dashboards, alerts, load tests.

A change here is a breaking change.
"""

import platform
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app import __version__
from tests.fakes import LABELS, make_encoder, run_service, write_version

pytestmark = pytest.mark.anyio

HISTOGRAMS = {
    "request_duration_seconds": {"route", "model", "version", "size"},
    "tokenize_duration_seconds": {"model", "size"},
    "queue_delay_seconds": {"model"},
    "inference_duration_seconds": {"model"},
    "batch_items": {"model"},
    "prediction_confidence": {"model"},
}
COUNTERS = {
    "requests": {"route", "model", "status"},
    "batch_tokens": {"model", "kind"},
    "rejected": {"reason"},
    "key_loads": {"outcome"},
    "cancelled_items": {"model"},
    "shared_items": {"model"},
    "predictions": {"model", "version", "label"},
    "tokens": {"model"},
    "unknown_tokens": {"model"},
    "truncated_texts": {"model"},
    "unreliable_texts": {"model"},
    "model_loads": {"model", "outcome"},
    "log_lines_dropped": set[str](),
    "worker_deaths": {"reason"},
    "engine_busy_seconds": set[str](),
}
GAUGES = {
    "queue_items": {"model"},
    "requests_in_flight": set[str](),
    "connections": set[str](),
    "model_info": {"model", "version", "engine", "default"},
    "workers": {"state"},
    "engine_threads": set[str](),
    "queue_limit_items": set[str](),
    "queue_bytes": set[str](),
    "queue_limit_bytes": set[str](),
    "build_info": {"version", "python", "engine"},
    "model_drift_psi": {"model", "feature"},
}
PREDICTIONS = (
    *("/predict", "/v2/models/bow/infer", "/v2/models/bow/versions/1/infer"),
    *("/v1/models/bow:predict", "/v1/models/made-up:classify"),
    *("/v1/models/bow/versions/1:classify", "/v1/models/bow/labels/stable:predict"),
)
# What `traffic` leaves behind. A value that is missing here is a series that a dashboard misses.
VALUES = {
    "route": {
        *("/predict", "/livez", "/readyz", "/metrics", "/models", "/models/{name}", "other"),
        *("/v2", "/v2/models/{model}/infer"),
        "/v2/models/{model}/versions/{version}/infer",
        *(
            f"/v1/models/{{model}}{which}:{verb}"
            for which in ("", "/versions/{version}", "/labels/{label}")
            for verb in ("predict", "classify")
        ),
        *("/v2/health/live", "/v2/health/ready", "/docs", "/docs/swagger-ui.css"),
        *("/docs/swagger-ui.js", "/", "/console/style.css", "/console/script.js"),
        "/console/pictures/{model}/{version}/{name}",
        *(
            f"/v2/models/{{model}}{version}{what}"
            for version in ("", "/versions/{version}")
            for what in ("", "/ready", "/config")
        ),
        *(
            f"/v1/models/{{model}}{version}{what}"
            for version in ("", "/versions/{version}", "/labels/{label}")
            for what in ("", "/metadata")
        ),
    },
    "model": {"", "unknown", "lstm", "bow"},
    "status": {
        *("200", "204", "400", "401", "404", "405", "408", "413", "414", "415", "417", "422"),
        *("429", "431", "499", "500", "501", "503", "504", "505"),
    },
    "kind": {"real", "padded"},
    "reason": {
        *("queue_full", "too_late", "not_ready", "draining", "deadline", "connections"),
        *("unauthorized", "rate_limit", "bodies_full"),
        *("killed", "failed", "unresponsive"),
    },
    "state": {"starting", "ready", "differs", "unresponsive", "died", "draining"},
    "version": {"", "1", "2", __version__},
    "size": {"", "one", "many", "explained"},
    "python": {platform.python_version()},
    "label": {*LABELS},
    "outcome": {"loaded", "rejected", "released", "removal_refused"},
    "engine": {"fake", "tensorflow"},  # the repository of the test has no `model.onnx`
    "default": {"true", "false"},
    "feature": {"label", "confidence", "truncated", "unknown"},
}


async def ask_everything(client: httpx.AsyncClient) -> None:
    """A request to every route, and requests that fail."""
    paths = ("/livez", "/readyz", "/metrics", "/models", "/models/bow", "/made-up")
    for path in (*paths, "/v2", "/v2/models/bow/", "/V1/Models/made-up"):
        await client.get(path)
    for path in ("/v2/models/made-up/infer", "/v1/models/bow/labels/made-up:predict"):
        await client.post(path)
    for method in ("GET", "OPTIONS", "HEAD", "DELETE"):
        for path in ("/predict", "/livez", "/v1/models/bow", "/"):
            await client.request(method, path)
    for path in PREDICTIONS:
        await client.post(path, content=b"not JSON")
        await client.post(path, content=b"{}")
        await client.post(path, content=b"{}", headers={"content-encoding": "br"})
        await client.post(path, content=b" " * 5_000_000)
    for body in (
        {"texts": ["good", "a bad film"]},
        {"text": "good"},
        {"text": "good", "explain": True},
        {"text": "good", "model": "made-up"},
    ):
        await client.post("/predict", json=body)


@pytest.fixture
async def fresh_page(fake_models: Path) -> AsyncIterator[str]:
    """The metrics of a service that has answered nothing yet."""
    async with run_service(fake_models) as service:
        yield (await service.client.get("/metrics")).text


@pytest.fixture
async def used_page(tmp_path: Path) -> AsyncIterator[str]:
    """The metrics of a service with a rejected version, after requests of every kind."""
    for name, number in (("lstm", 1), ("lstm", 2), ("bow", 1)):
        write_version(tmp_path, name, number)
    make_encoder(("other",)).save(write_version(tmp_path, "bow", 2) / "tokenizer.json")
    async with run_service(tmp_path) as service:
        await ask_everything(service.client)
        await service.service.drain()
        await service.predict(text="good")
        yield (await service.client.get("/metrics")).text


def find_labels(page: str, kind: str) -> dict[str, set[str]]:
    """The label names of each metric of a kind, without those of prometheus_client."""
    return {
        family.name.removeprefix("valence_"): {
            label for sample in family.samples for label in sample.labels
        }
        - {"le"}
        for family in text_string_to_metric_families(page)
        if family.type == kind and not family.name.startswith("process_")
    }


def find_values(page: str) -> dict[str, set[str]]:
    """The values of each label, over all metrics."""
    values: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
    del values["le"]
    return values


@pytest.mark.parametrize(
    ("kind", "metrics"), [("counter", COUNTERS), ("gauge", GAUGES), ("histogram", HISTOGRAMS)]
)
async def test_names_and_labels(used_page: str, kind: str, metrics: dict[str, set[str]]) -> None:
    """The service exports exactly these metrics, with these labels."""
    assert find_labels(used_page, kind) == metrics


async def test_every_name_has_the_prefix(used_page: str) -> None:
    """Every metric begins with `valence_`, those of the process aside."""
    names = {family.name for family in text_string_to_metric_families(used_page)}
    assert {name.partition("_")[0] for name in names} == {"valence", "process"}


async def test_label_values_are_closed_sets(used_page: str) -> None:
    """Each label has exactly these values, whatever clients send."""
    assert find_values(used_page) == VALUES


@pytest.mark.parametrize(
    "label",
    [
        *("route", "status", "kind", "reason", "label", "outcome", "default", "state", "python"),
        *("engine", "feature"),
    ],
)
async def test_series_exist_from_the_start(fresh_page: str, label: str) -> None:
    """Every value of a closed set has its series before anything has happened."""
    assert find_values(fresh_page)[label] == VALUES[label]


async def test_no_counter_appears_late(fresh_page: str, used_page: str) -> None:
    """Every counter begins at 0: whatever route, model and status a request gets has its series."""
    before, after = (
        {
            (sample.name, *sorted(sample.labels.items()))
            for family in text_string_to_metric_families(page)
            if family.type == "counter"
            for sample in family.samples
        }
        for page in (fresh_page, used_page)
    )
    assert after - before == set()
