from pathlib import Path

import pytest

from tests.fakes import run_service

# As other programs know them: dashboards, alerts, load tests. A change here is a breaking change.
NAMES = {
    "requests_total": {"route", "model", "status"},
    "request_duration_seconds": {"route", "model"},
    "tokenize_duration_seconds": {"model"},
    "queue_delay_seconds": {"model"},
    "inference_duration_seconds": {"model"},
    "batch_items": {"model"},
    "batch_tokens_total": {"model", "kind"},
    "queue_items": {"model"},
    "requests_in_flight": set(),
    "rejected_total": {"reason"},
    "cancelled_items_total": {"model"},
    "predictions_total": {"model", "version", "label"},
    "prediction_confidence": {"model"},
    "tokens_total": {"model"},
    "unknown_tokens_total": {"model"},
    "truncated_texts_total": {"model"},
    "model_info": {"model", "version", "engine", "default"},
    "model_loads_total": {"model", "outcome"},
}
HISTOGRAMS = {
    "request_duration_seconds",
    "tokenize_duration_seconds",
    "queue_delay_seconds",
    "inference_duration_seconds",
    "batch_items",
    "prediction_confidence",
}


@pytest.mark.anyio
async def test_names_and_labels(fake_models: Path) -> None:
    """A service that answered and refused exports exactly these series, with these labels."""
    async with run_service(fake_models) as service:
        await service.predict(text="good")
        await service.service.drain()
        await service.predict(text="good")
        page = (await service.client.get("/metrics")).text
    found: dict[str, set[str]] = {}
    histograms = set()
    for line in page.splitlines():
        if line.startswith("# TYPE ") and line.endswith(" histogram"):
            histograms.add(line.split()[2].removeprefix("valence_"))
        if line.startswith(("#", "process_")):  # those are the library's
            continue
        name, _, labels = line.rpartition(" ")[0].partition("{")
        for suffix in ("_bucket", "_sum", "_count"):
            base = name.removesuffix(suffix)
            if base.removeprefix("valence_") in HISTOGRAMS:
                name = base
        names = {part.partition("=")[0] for part in labels.rstrip("}").split(",") if part}
        found.setdefault(name, set()).update(names - {"le"})
    assert found == {f"valence_{name}": labels for name, labels in NAMES.items()}
    assert histograms == HISTOGRAMS


@pytest.mark.anyio
async def test_values_of_closed_sets(fake_models: Path) -> None:
    """`kind` is real or padded, `default` is true or false, `outcome` is loaded or refused."""
    async with run_service(fake_models) as service:
        kinds = [
            service.sample("batch_tokens_total", model="bow", kind=k) for k in ("real", "padded")
        ]
        info = [
            service.sample("model_info", model=m, version="1", engine="fake", default=d)
            for m, d in (("bow", "false"), ("lstm", "true"))
        ]
        loads = service.sample("model_loads_total", model="lstm", outcome="loaded")
    assert (kinds, info, loads) == ([0, 0], [1, 1], 2)
