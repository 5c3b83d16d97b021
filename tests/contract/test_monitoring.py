"""The dashboard and the alerts of k8s/components/monitoring/ against the metrics of the service."""

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from fastapi.routing import APIRoute
from prometheus_client import ProcessCollector

from app.main import create_app
from app.serving.shapes import choose_batch
from app.settings import Settings
from tests.contract.test_metrics_names import COUNTERS, GAUGES, HISTOGRAMS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "k8s" / "components" / "monitoring"
RUNBOOK = ROOT / "docs" / "runbook.md"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="there is no promtool in PATH"
)

_SERIES = re.compile(r"\b((?:valence|process)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+) *(?:=~|!~|!=|=) *"[^"]*"')
_GROUPING = re.compile(r"\b(?:by|without|ignoring|on) *\(([^)]*)\)")
_OF_THE_TARGET = {"job", "instance", "namespace"}
"""Labels that Prometheus adds."""


@cache
def dashboard() -> ModuleType:
    """The module that writes the dashboard."""
    spec = importlib.util.spec_from_file_location("dashboard", FOLDER / "dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def known_series() -> dict[str, set[str]]:
    """The labels of each series that the service exports."""
    process = ProcessCollector(registry=None).collect()
    found = {s.name: set(s.labels) for metric in process for s in metric.samples}
    found |= {f"valence_{name}_total": labels for name, labels in COUNTERS.items()}
    found |= {f"valence_{name}": labels for name, labels in GAUGES.items()}
    for name, labels in HISTOGRAMS.items():
        found |= {f"valence_{name}_{part}": labels for part in ("sum", "count")}
        found[f"valence_{name}_bucket"] = labels | {"le"}
    return found


def rules() -> list[dict[str, str]]:
    """The alerts."""
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return group["rules"]


def all_queries() -> Iterator[str]:
    yield from dashboard().queries()
    for rule in rules():
        yield rule["expr"]


def faults(query: str) -> list[str]:
    """What a query names and the service does not export."""
    known, found, labels = known_series(), [], set(_OF_THE_TARGET)
    for name, matchers in _SERIES.findall(query):
        if name not in known:
            found.append(name)
            continue
        labels |= known[name]
        found += [
            f"{name}: {label}"
            for label in _MATCHER.findall(matchers)
            if label not in known[name] | _OF_THE_TARGET
        ]
    groupings = {label.strip() for each in _GROUPING.findall(query) for label in each.split(",")}
    return found + sorted(groupings - labels)


def run_promtool(verb: str, files: list[str]) -> None:
    command = ["promtool", verb, "rules", *files]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_are_up_to_date() -> None:
    """The files are those that dashboard.py writes."""
    for path, content in dashboard().render().items():
        assert path.read_text(encoding="utf-8") == content, f"run {FOLDER.name}/dashboard.py"


def test_every_query_names_what_there_is() -> None:
    """Every metric and every label in a query is one that the service exports."""
    assert {query: found for query in all_queries() if (found := faults(query))} == {}


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("rate(valence_request_total[5m])", "valence_request_total"),
        ('valence_workers{status="ready"}', "valence_workers: status"),
        ("sum by (version) (valence_workers)", "version"),
        ("valence_batch_items_bucket", None),
        ("valence_batch_items", "valence_batch_items"),
    ],
)
def test_what_a_wrong_query_names(query: str, fault: str | None) -> None:
    """The check finds a wrong metric, a wrong label and a wrong grouping."""
    assert faults(query) == ([fault] if fault else [])


def test_every_metric_is_shown() -> None:
    """Every metric of the service is in the dashboard or in an alert, but for these."""
    text = " ".join(all_queries())
    left_out = {
        name
        for name in (*COUNTERS, *GAUGES, *HISTOGRAMS)
        if not re.search(rf"\bvalence_{name}(?:_total|_bucket|_sum|_count)?\b", text)
    }
    assert left_out == {"key_loads"}


def test_queries_leave_other_processes_out() -> None:
    """Metrics that every process has are those of Valence, whatever jobs are selected."""
    found = [query for query in all_queries() if re.search(r"\bprocess_", query)]
    assert len(found) > 1
    assert [query for query in found if "on (namespace, job, instance)" not in query] == []


def test_requests_for_predictions(tmp_path: Path) -> None:
    """Where a query counts requests for predictions, it counts their routes and no other."""
    (pattern,) = {
        each for query in all_queries() for each in re.findall(r'route=~"([^"]*)"', query)
    }
    app = create_app(Settings(models_dir=tmp_path))
    paths = [route.path for route in app.routes if isinstance(route, APIRoute)]
    assert [path for path in paths if re.fullmatch(pattern, path)] == app.posts()


@needs_promtool
def test_probes_and_refusals_are_no_failures(tmp_path: Path) -> None:
    """The panel Failed shows the share of predictions that ended with 500, and nothing else."""
    (panel,) = (each for each in dashboard().ROWS["Traffic"] if each.title == "Failed")
    query = re.sub(r"\$\w+", ".*", dashboard().expand(panel.queries["500"]))
    rates = {("/predict", 200): 88, ("/predict", 500): 2, ("/v2/models/{model}/infer", 503): 10}
    rates |= {("/readyz", 503): 500, ("/livez", 200): 500, ("other", 505): 50}
    series = [
        {
            "series": f'valence_requests_total{{route="{route}", status="{status}"}}',
            "values": f"0+{rate}x60",
        }
        for (route, status), rate in rates.items()
    ]
    rounded = f"round({query.replace('[.*]', '[5m]')}, 0.001)"  # sums come in any order
    expected = {"expr": rounded, "eval_time": "30m"}
    expected["exp_samples"] = [{"labels": "{}", "value": 0.02}]
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [expected]}
    (tmp_path / "test.yml").write_text(yaml.dump({"tests": [test]}))
    run_promtool("test", [str(tmp_path / "test.yml")])


def test_padding_can_be_waste() -> None:
    """The rule of batches allows more padding than the alert does, of texts of its least width."""
    (query,) = (rule["expr"] for rule in rules() if rule["alert"] == "ValencePaddingWaste")
    share, width = map(float, re.findall(r"> ([\d.]+)", query)[:2])
    lengths = [int(width) + 8] + [int(width) - 1] * 7
    batch = choose_batch(lengths, preferred=8, max_items=8, max_tokens=1000)
    computed = max(lengths) * len(batch)
    assert computed / len(batch) > width
    assert 1 - sum(lengths[index] for index in batch) / computed > share


def test_panels_are_whole() -> None:
    """Every panel has an id of its own, a title, a description and a query, and none overlap."""
    panels = json.loads((FOLDER / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    shown = [panel for panel in panels if panel["type"] != "row"]
    assert all(panel["title"] and panel["description"] and panel["targets"] for panel in shown)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)


def test_every_alert_has_a_runbook() -> None:
    """The address of each alert is a heading of docs/runbook.md."""
    headings = re.findall(r"^## (.+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    for rule in rules():
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert page.endswith("/docs/runbook.md")
        assert anchor in anchors


def test_every_alert_has_a_test() -> None:
    """Each alert fires in a test of its rules."""
    tests = yaml.safe_load((FOLDER / "alerts_test.yml").read_text(encoding="utf-8"))["tests"]
    fired = {
        alert
        for test in tests
        for each in test["promql_expr_test"]
        for sample in each.get("exp_samples", ())
        for alert in re.findall(r'alertname="(\w+)"', sample["labels"])
    }
    assert fired == {rule["alert"] for rule in rules()}


@needs_promtool
@pytest.mark.parametrize(
    ("verb", "files"),
    [("check", ["alerts.yml"]), ("test", ["alerts_test.yml", "alerts_days_test.yml"])],
)
def test_promtool(verb: str, files: list[str]) -> None:
    """The rules are valid; each alert fires when it should, and none for a healthy service."""
    run_promtool(verb, files)
