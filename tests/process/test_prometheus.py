"""A real Prometheus scrapes the running service, and every query of the dashboard returns data."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.artifact import Baseline, read_manifest, write_manifest
from tests.contract.test_monitoring import FOLDER, dashboard, rules
from tests.published import publish
from tests.server import PATIENCE_S, ServerProcess, environment

PROMETHEUS = shutil.which("prometheus")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROMETHEUS is None, reason="there is no prometheus in PATH"),
]

CONFIG = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: valence
    static_configs: [{{targets: ["{target}"]}}]
"""
VARIABLES = {"$namespace": ".*", "$job": ".*", "$model": ".*", "$__rate_interval": "10s"}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """The bundled `bow`, with a baseline."""
    folder = publish(tmp_path / "models", "bow", 2)
    baseline = Baseline(
        labels=(50, 50),
        truncated=1,
        tokens=2000,
        unknown=20,
        confidence=(0, 0, 10, 10, 20, 20, 10, 10, 5, 5, 10, 0),
    )
    write_manifest(folder, read_manifest(folder).model_copy(update={"baseline": baseline}))
    return folder.parents[1]


@contextmanager
def run_prometheus(folder: Path, target: str) -> Iterator[httpx.Client]:
    """A Prometheus that scrapes one target every second, with the alerts."""
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=FOLDER / "alerts.yml", target=target))
    log = folder / "prometheus.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            env=environment(),
            stdout=output,
            stderr=output,
        )
    try:
        with httpx.Client(base_url=_find_address(log), timeout=PATIENCE_S) as prometheus:
            yield prometheus
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _find_address(log: Path) -> str:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        for line in log.read_text().splitlines():
            if "Listening on" in line:
                return "http://" + line.rsplit("address=", 1)[1].strip()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def ask(prometheus: httpx.Client, query: str) -> list[dict[str, Any]]:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    answer = prometheus.get("/api/v1/query", params={"query": query}).json()
    assert answer["status"] == "success", (query, answer)
    result: list[dict[str, Any]] = answer["data"]["result"]
    return result


def has_data(series: list[dict[str, Any]]) -> bool:
    """Whether a query returned a number."""
    return any(each["value"][1] not in ("NaN", "+Inf", "-Inf") for each in series)


def send_traffic(client: httpx.Client) -> None:
    """Requests of every kind that the dashboard tells apart."""
    for number in range(20):
        client.post("/predict", json={"text": f"a superb film, number {number}"})
    client.post("/predict", json={"texts": [f"dull and long {n}" for n in range(200)]})
    client.post("/predict", json={"text": 1})


def test_every_query_returns_data(models: Path, tmp_path: Path) -> None:
    """Each query of the dashboard has a number after some traffic, and no alert is firing."""
    options = ("--workers", "2", "--engine", "onnx", "--metrics-port", "0")
    with ServerProcess(models, *options) as server, server.client() as client:
        server.wait_for("the service is ready")
        target = server.wait_for("the service is starting")["metrics_address"].split("//")[1]
        with run_prometheus(tmp_path, target) as prometheus:
            missing = list(dashboard().queries())
            until = time.monotonic() + PATIENCE_S
            while missing and time.monotonic() < until:
                send_traffic(client)
                missing = [each for each in missing if not has_data(ask(prometheus, each))]
            assert missing == []
            loaded = prometheus.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]
            assert [each["name"] for each in loaded] == [rule["alert"] for rule in rules()]
            assert {each["health"] for each in loaded} == {"ok"}
            assert ask(prometheus, 'ALERTS{alertstate="firing"}') == []
