"""The metrics as other programs know them: dashboards, alerts, load tests.

A change here is a breaking change.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fakes import LABELS, make_encoder, run_service, write_version

pytestmark = pytest.mark.anyio

HISTOGRAMS = {
    "request_duration_seconds": {"route", "model"},
    "tokenize_duration_seconds": {"model"},
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
}
GAUGES = {
    "queue_items": {"model"},
    "requests_in_flight": set[str](),
    "connections": set[str](),
    "model_info": {"model", "version", "engine", "default"},
    "workers": {"state"},
}
# What `traffic` leaves behind. A value that is missing here is a series that a dashboard misses.
VALUES = {
    "route": {
        *("/predict", "/livez", "/readyz", "/metrics", "/models", "/models/{name}", "other"),
        *("/v2", "/v2/models/{model}", "/v2/models/{model}/infer"),
        *("/v1/models/{model}", "/v1/models/{model}/labels/{label}:predict"),
    },
    "model": {"", "unknown", "lstm", "bow"},
    "status": {"200", "400", "404", "503"},
    "kind": {"real", "padded"},
    "reason": {
        *("queue_full", "too_late", "not_ready", "draining", "deadline", "connections"),
        *("unauthorized", "rate_limit", "bodies_full"),
        *("killed", "failed", "unresponsive"),
    },
    "state": {"starting", "ready", "differs", "unresponsive", "died", "draining"},
    "version": {"1", "2"},
    "label": {*LABELS},
    "outcome": {"loaded", "rejected", "released", "removal_refused"},
    "engine": {"fake"},
    "default": {"true", "false"},
}


async def ask_everything(client: httpx.AsyncClient) -> None:
    """A request to every route, and requests that fail."""
    paths = ("/livez", "/readyz", "/metrics", "/models", "/models/bow", "/made-up")
    for path in (*paths, "/v2", "/v2/models/bow/", "/V1/Models/made-up"):
        await client.get(path)
    for path in ("/v2/models/made-up/infer", "/v1/models/bow/labels/made-up:predict"):
        await client.post(path)
    for body in ({"texts": ["good", "a bad film"]}, {"text": "good", "model": "made-up"}):
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


@pytest.mark.parametrize("label", ["kind", "reason", "label", "outcome", "default", "state"])
async def test_series_exist_from_the_start(fresh_page: str, label: str) -> None:
    """Every value of a closed set has its series before anything has happened."""
    assert find_values(fresh_page)[label] == VALUES[label]
