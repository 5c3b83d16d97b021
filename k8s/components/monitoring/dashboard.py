"""Writes the Grafana dashboard, and the alerts as a plain file for Prometheus without its operator.

    .venv/bin/python k8s/components/monitoring/dashboard.py

Panels are code, because hundreds of lines of JSON differ between two panels by their query only. A
test keeps the written files up to date, and every name in a query a metric of the service.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

HERE: Final = Path(__file__).parent
DASHBOARD: Final = HERE / "dashboard.json"
OPERATOR_RULES: Final = HERE / "prometheusrule.yaml"
PLAIN_RULES: Final = HERE / "alerts.yml"

_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_COLUMNS: Final = 24
_WIDTH, _HEIGHT = 8, 8
_PLAIN_HEADER: Final = (
    "# Written by dashboard.py from prometheusrule.yaml, for rule_files of prometheus.yml.\n"
)


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes:
        title: Its title.
        about: What a reader should know of it.
        unit: Grafana's word for the unit.
        queries: PromQL by legend. `JOB` stands for the selected services, `MODEL` for them and
            the selected models.
        kind: Grafana's word for the kind of panel.
        stack: Whether the series add up to a whole.
        top: The top of the axis, if it is fixed.
    """

    title: str
    about: str
    unit: str
    queries: dict[str, str]
    kind: str = "timeseries"
    stack: bool = False
    top: float | None = None


def rate(metric: str, by: str = "", where: str = "JOB") -> str:
    """Increase per second, summed over what is not in `by`."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{where}}}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str = "", where: str = "MODEL") -> str:
    """A quantile of a histogram."""
    buckets = rate(f"{metric}_bucket", f"le, {by}" if by else "le", where)
    return f"histogram_quantile({share}, {buckets})"


def quantiles(metric: str, where: str) -> dict[str, str]:
    """Three quantiles of a histogram."""
    return {
        f"p{share * 100:.0f}": quantile(share, metric, where=where) for share in (0.5, 0.95, 0.99)
    }


_REQUESTS: Final = "valence_requests_total"
_PREDICTIONS: Final = "JOB, route=~`/predict|/v[12]/.+(/infer|:predict|:classify)`"
"""Requests for predictions: neither probes nor scrapes, which would hide what fails."""
_LATENCY: Final = "valence_request_duration_seconds"
_OF_VALENCE: Final = " and on (namespace, job, instance) valence_build_info{JOB}"
"""For metrics that every process has: with all jobs selected, other services are left out."""

ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Traffic": (
        Panel(
            *("Requests", "Per second, by status.", "reqps"),
            {"{{status}}": rate(_REQUESTS, "status")},
            stack=True,
        ),
        Panel(
            *("Refused", "Requests and connections that were refused, by reason.", "reqps"),
            {"{{reason}}": rate("valence_rejected_total", "reason")},
            stack=True,
        ),
        Panel(
            *("Texts", "Texts predicted per second, by model.", "short"),
            {"{{model}}": rate("valence_predictions_total", "model", "MODEL")},
            stack=True,
        ),
        Panel(
            *("By route", "Requests per second, by route.", "reqps"),
            {"{{route}}": rate(_REQUESTS, "route")},
        ),
        Panel(
            "Failed",
            "Share of the requests for predictions that ended with status 500. Those that were "
            "refused or late, with 429, 503 or 504, are in the panel Refused.",
            "percentunit",
            {
                "500": f"{rate(_REQUESTS, where=f'{_PREDICTIONS}, status=`500`')} "
                f"/ {rate(_REQUESTS, where=_PREDICTIONS)}",
            },
        ),
        Panel(
            *(
                "In flight",
                "Requests for predictions now, and open connections.",
                "short",
            ),
            {
                "requests": "sum (valence_requests_in_flight{JOB})",
                "connections": "sum (valence_connections{JOB})",
            },
        ),
    ),
    "Latency": (
        Panel(
            "One text",
            "From request to answer, of requests with one text that were answered.",
            "s",
            quantiles(_LATENCY, "MODEL, size=`one`"),
        ),
        Panel(
            "Several texts",
            "From request to answer, of requests with several texts.",
            "s",
            quantiles(_LATENCY, "MODEL, size=`many`"),
        ),
        Panel(
            "By version",
            "p99 of requests with one text. A canary shows beside the version it may replace.",
            "s",
            {
                "{{model}}/{{version}}": quantile(
                    0.99, _LATENCY, "model, version", "MODEL, size=`one`"
                )
            },
        ),
        Panel(
            "Stages, p99",
            "Where the time goes. Tokenizing is per request, waiting per text, inference per run.",
            "s",
            {
                "tokenize": quantile(0.99, "valence_tokenize_duration_seconds"),
                "queue": quantile(0.99, "valence_queue_delay_seconds"),
                "infer": quantile(0.99, "valence_inference_duration_seconds"),
            },
        ),
        Panel(
            "Stages, mean",
            "The mean of each stage.",
            "s",
            {
                stage: f"{rate(f'{metric}_sum', where='MODEL')} "
                f"/ {rate(f'{metric}_count', where='MODEL')}"
                for stage, metric in (
                    ("tokenize", "valence_tokenize_duration_seconds"),
                    ("queue", "valence_queue_delay_seconds"),
                    ("infer", "valence_inference_duration_seconds"),
                )
            },
        ),
        Panel(
            "Within 50 ms",
            "Share of requests with one text. Exact, because 50 ms is a bound of the buckets.",
            "percentunit",
            {
                "share": rate(f"{_LATENCY}_bucket", where="MODEL, size=`one`, le=`0.05`")
                + " / "
                + rate(f"{_LATENCY}_count", where="MODEL, size=`one`")
            },
            top=1,
        ),
    ),
    "Batching": (
        Panel(
            "Items per batch",
            "The mean. Near 1 the engine keeps up with single texts.",
            "short",
            {
                "{{model}}": rate("valence_batch_items_sum", "model", "MODEL")
                + " / "
                + rate("valence_batch_items_count", "model", "MODEL")
            },
        ),
        Panel(
            "Padding",
            "Share of computed tokens that are padding.",
            "percentunit",
            {
                "{{model}}": rate("valence_batch_tokens_total", "model", "MODEL, kind=`padded`")
                + " / "
                + rate("valence_batch_tokens_total", "model", "MODEL")
            },
        ),
        Panel(
            "Items not computed",
            "Per second: they share the result of an equal text, or left the queue before.",
            "short",
            {
                "shared": rate("valence_shared_items_total", where="MODEL"),
                "cancelled": rate("valence_cancelled_items_total", where="MODEL"),
            },
        ),
    ),
    "Saturation": (
        Panel(
            "Engine threads",
            "Share of time with a batch. At 1 more requests only wait longer.",
            "percentunit",
            {
                "busy": f"{rate('valence_engine_busy_seconds_total')} "
                "/ sum (valence_engine_threads{JOB})"
            },
            top=1,
        ),
        Panel(
            "Queue",
            "Share of its limits that is used.",
            "percentunit",
            {
                "items, {{model}}": "sum by (model) (valence_queue_items{MODEL}) / ignoring (model)"
                " group_left sum (valence_queue_limit_items{JOB})",
                "bytes": "sum (valence_queue_bytes{JOB}) / sum (valence_queue_limit_bytes{JOB})",
            },
        ),
        Panel(
            *("Workers", "Workers in each state.", "short"),
            {"{{state}}": "sum by (state) (valence_workers{JOB})"},
            stack=True,
        ),
        Panel(
            *("Cores", "Processor time per second, of all processes of a pod.", "short"),
            {
                "{{instance}}": "sum by (instance) (rate(process_cpu_seconds_total{JOB}"
                f"[$__rate_interval]){_OF_VALENCE})"
            },
        ),
        Panel(
            "Memory",
            "Resident memory. What workers share counts once for each.",
            "bytes",
            {
                "{{instance}}": "sum by (instance) (process_resident_memory_bytes{JOB}"
                f"{_OF_VALENCE})"
            },
        ),
        Panel(
            "Events",
            "Of the last hour: workers that died, containers that were restarted, and log lines "
            "that were dropped.",
            "short",
            {
                "died, {{reason}}": "sum by (reason) (increase("
                "valence_worker_deaths_total{JOB}[1h]))",
                "restarts": f"sum (changes(process_start_time_seconds{{JOB}}[1h]){_OF_VALENCE})",
                "dropped lines": "sum (increase(valence_log_lines_dropped_total{JOB}[1h]))",
            },
        ),
    ),
    "Models and versions": (
        Panel(
            "Ready versions",
            "Pods in which each version is ready.",
            "short",
            {
                "{{model}}/{{version}} on {{engine}}": "count by (model, version, engine) "
                "(valence_model_info{MODEL})"
            },
        ),
        Panel(
            "Texts by version",
            "Texts predicted per second.",
            "short",
            {"{{model}}/{{version}}": rate("valence_predictions_total", "model, version", "MODEL")},
            stack=True,
        ),
        Panel(
            "Loads",
            "Of the last hour: versions that were loaded, rejected or released, in all workers.",
            "short",
            {
                "{{model}} {{outcome}}": "sum by (model, outcome) (increase("
                "valence_model_loads_total{MODEL}[1h]))"
            },
        ),
        Panel(
            "Releases",
            "Pods that run each release.",
            "short",
            {
                "{{version}}, Python {{python}}, {{engine}}": "count by (version, python, engine) "
                "(valence_build_info{JOB})"
            },
        ),
    ),
    "Drift": (
        Panel(
            "Drift",
            "Population stability index of the last hour against the validation texts of the "
            "version that answers. Below 0.1 nothing has changed, above 0.25 much has. No value: "
            "fewer than 1000 texts in each pod, or a version without a baseline. The mean of the "
            "pods with a value.",
            "short",
            {
                "{{model}} {{feature}}": "avg by (model, feature) "
                "(valence_model_drift_psi{MODEL} >= 0)"
            },
        ),
        Panel(
            "Labels",
            "Share of each predicted label.",
            "percentunit",
            {
                "{{model}} {{label}}": rate("valence_predictions_total", "model, label", "MODEL")
                + " / ignoring (label) group_left "
                + rate("valence_predictions_total", "model", "MODEL")
            },
            top=1,
        ),
        Panel(
            "Confidence",
            "The median probability of the predicted label.",
            "percentunit",
            {"{{model}}": quantile(0.5, "valence_prediction_confidence", "model")},
            top=1,
        ),
        Panel(
            "Unknown words, cut and unreliable texts",
            "Share of tokens outside the vocabulary; share of texts longer than the model reads; "
            "share of texts that the version cannot judge.",
            "percentunit",
            {
                "unknown, {{model}}": rate("valence_unknown_tokens_total", "model", "MODEL")
                + " / "
                + rate("valence_tokens_total", "model", "MODEL"),
                "cut, {{model}}": rate("valence_truncated_texts_total", "model", "MODEL")
                + " / "
                + rate("valence_predictions_total", "model", "MODEL"),
                "unreliable, {{model}}": rate("valence_unreliable_texts_total", "model", "MODEL")
                + " / "
                + rate("valence_predictions_total", "model", "MODEL"),
            },
        ),
    ),
}


class _Dumper(yaml.SafeDumper):
    """Writes strings of several lines as blocks."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    )


_Dumper.add_representer(str, _represent)


def expand(query: str) -> str:
    """A query as Grafana takes it."""
    job = 'namespace=~"$namespace", job=~"$job"'  # ".*" takes series without a namespace, too
    return query.replace("MODEL", f'{job}, model=~"$model"').replace("JOB", job).replace("`", '"')


def queries() -> Iterator[str]:
    """The queries of all panels."""
    for panels in ROWS.values():
        for panel in panels:
            yield from map(expand, panel.queries.values())


def build() -> dict[str, Any]:
    """The dashboard."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, members in ROWS.items():
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        panels.append({"type": "row", "title": title, "gridPos": place, "panels": []})
        top += 1
        for index, panel in enumerate(members):
            line, column = divmod(index, _COLUMNS // _WIDTH)
            place = {"x": column * _WIDTH, "y": top + line * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_describe(panel) | {"gridPos": place})
        top += -(-len(members) // (_COLUMNS // _WIDTH)) * _HEIGHT
    for number, each in enumerate(panels, start=1):
        each["id"] = number
    return {
        "uid": "valence",
        "title": "Valence",
        "tags": ["valence"],
        "schemaVersion": 39,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "graphTooltip": 1,
        "templating": {"list": list(_variables())},
        "panels": panels,
    }


def _describe(panel: Panel) -> dict[str, Any]:
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.stack else {}
    bounds = {"min": 0} | ({"max": panel.top} if panel.top is not None else {})
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "custom": custom, **bounds},
            "overrides": [],
        },
        "options": {"tooltip": {"mode": "multi", "sort": "desc"}},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": expand(query),
                "legendFormat": legend,
            }
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _variables() -> Iterable[dict[str, Any]]:
    yield {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    for name, query in (
        ("namespace", "label_values(valence_build_info, namespace)"),
        ("job", expand("label_values(valence_build_info{namespace=~`$namespace`}, job)")),
        ("model", expand("label_values(valence_model_info{JOB}, model)")),
    ):
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": "All", "value": "$__all"},
        }


def render() -> dict[Path, str]:
    """The files that are written, and their contents."""
    rules = yaml.safe_load(OPERATOR_RULES.read_text(encoding="utf-8"))["spec"]
    return {
        DASHBOARD: json.dumps(build(), indent=2) + "\n",
        PLAIN_RULES: _PLAIN_HEADER + yaml.dump(rules, Dumper=_Dumper, sort_keys=False, width=200),
    }


if __name__ == "__main__":
    for path, content in render().items():
        path.write_text(content, encoding="utf-8")
