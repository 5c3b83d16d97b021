"""All metrics of the service, with the prefix `valence_`.

Label values come from closed sets: declared routes, models in the repository. An unknown route or
model is counted as `other` or `unknown`, so clients cannot create series.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from app.telemetry.logs import count_dropped_lines
from app.telemetry.tally import Combine, Counter, Family, Gauge, Histogram, Tally

OTHER_ROUTE: Final = "other"
UNKNOWN_MODEL: Final = "unknown"
WORKER_STATES: Final = ("starting", "ready", "differs", "unresponsive", "died", "draining")
WORKER_DEATHS: Final = ("killed", "failed", "unresponsive")
NO_MODEL: Final = ""
"""The label of requests without a model, such as probes."""

# A request on a CPU should fall into the middle buckets: a text of 200 words takes about 2 ms, a
# full batch about 20 ms.
_SECONDS: Final = (
    *(0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06),
    *(0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
)
_TOKENIZE_SECONDS: Final = (0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5)
_ITEMS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_CONFIDENCES: Final = (0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)


class ModelMetrics:
    """The series of one model, each looked up once.

    Attributes:
        tokenize_seconds: Time from texts to ids, per request.
        queue_delay_seconds: Time from admission to the batch, per item.
        inference_seconds: Time of one model run.
        batch_items: Rows of one model run.
        real_tokens: Tokens of texts in batches.
        padded_tokens: Padding in batches.
        queue_items: Items waiting.
        shared_items: Items that shared the result of an equal item in flight.
        cancelled_items: Items dropped before the model ran: the caller left or the deadline passed.
        confidence: Probability of the predicted label.
        tokens: Tokens read by the model.
        unknown_tokens: Those of them outside the vocabulary.
        truncated_texts: Texts longer than the model reads.
        unreliable_texts: Texts that the version cannot judge, which get even odds.
        loaded_versions: Versions that passed their checks.
        rejected_versions: Versions that failed to load, or failed a check.
        released_versions: Versions that were released.
        removed_versions: Versions that serve although their folder was removed.
    """

    def __init__(self, metrics: "Metrics", name: str) -> None:
        self.name = name
        self.tokenize_seconds = metrics.tokenize_seconds.labels(name)
        self.queue_delay_seconds = metrics.queue_delay_seconds.labels(name)
        self.inference_seconds = metrics.inference_seconds.labels(name)
        self.batch_items = metrics.batch_items.labels(name)
        self.real_tokens = metrics.batch_tokens.labels(name, "real")
        self.padded_tokens = metrics.batch_tokens.labels(name, "padded")
        self.queue_items = metrics.queue_items.labels(name)
        self.shared_items = metrics.shared_items.labels(name)
        self.cancelled_items = metrics.cancelled_items.labels(name)
        self.confidence = metrics.prediction_confidence.labels(name)
        self.tokens = metrics.tokens.labels(name)
        self.unknown_tokens = metrics.unknown_tokens.labels(name)
        self.truncated_texts = metrics.truncated_texts.labels(name)
        self.unreliable_texts = metrics.unreliable_texts.labels(name)
        self.loaded_versions = metrics.model_loads.labels(name, "loaded")
        self.rejected_versions = metrics.model_loads.labels(name, "rejected")
        self.released_versions = metrics.model_loads.labels(name, "released")
        self.removed_versions = metrics.model_loads.labels(name, "removal_refused")


class Metrics:
    """Names, units, buckets and labels, declared once.

    Attributes:
        tally: The registry of this process; it renders the metrics, and merges several processes.
    """

    def __init__(self) -> None:
        tally = self.tally = Tally()
        self._requests: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

        def counter(name: str, what: str, *labels: str) -> Family[Counter]:
            return tally.counter(f"valence_{name}", what, *labels)

        def gauge(name: str, what: str, *labels: str, combine: Combine = sum) -> Family[Gauge]:
            return tally.gauge(f"valence_{name}", what, *labels, combine=combine)

        def histogram(
            name: str, what: str, bounds: Sequence[float], *labels: str
        ) -> Family[Histogram]:
            return tally.histogram(f"valence_{name}", what, bounds, *labels)

        self.requests = counter("requests_total", "Requests handled", "route", "model", "status")
        self.request_seconds = histogram(
            "request_duration_seconds", "Time from request to response", _SECONDS, "route", "model"
        )
        self.requests_in_flight = gauge("requests_in_flight", "Requests being handled").labels()
        self.rejected = counter(
            "rejected_total", "Requests and connections rejected, by reason", "reason"
        )
        self._key_loads = counter(
            "key_loads_total", "Looks at a changed file of API keys, by each worker", "outcome"
        )
        for outcome in ("loaded", "rejected"):
            self._key_loads.labels(outcome)
        self.connections = gauge("connections", "Open connections").labels()

        self.tokenize_seconds = histogram(
            "tokenize_duration_seconds",
            "Time from texts to ids, per request",
            _TOKENIZE_SECONDS,
            "model",
        )
        self.queue_delay_seconds = histogram(
            "queue_delay_seconds", "Time from admission to batch, per item", _SECONDS, "model"
        )
        self.inference_seconds = histogram(
            "inference_duration_seconds", "Time of one model run", _SECONDS, "model"
        )
        self.batch_items = histogram("batch_items", "Items in one model run", _ITEMS, "model")
        self.batch_tokens = counter("batch_tokens_total", "Tokens in batches", "model", "kind")
        self.queue_items = gauge("queue_items", "Items waiting", "model")
        self.shared_items = counter(
            "shared_items_total", "Items that shared the result of an equal item", "model"
        )
        self.cancelled_items = counter(
            "cancelled_items_total", "Items dropped before the model ran", "model"
        )

        self.predictions = counter(
            "predictions_total", "Texts predicted", "model", "version", "label"
        )
        self.prediction_confidence = histogram(
            "prediction_confidence", "Probability of the predicted label", _CONFIDENCES, "model"
        )
        self.tokens = counter("tokens_total", "Tokens read by the model", "model")
        self.unknown_tokens = counter(
            "unknown_tokens_total", "Tokens outside the vocabulary", "model"
        )
        self.truncated_texts = counter(
            "truncated_texts_total", "Texts longer than the model reads", "model"
        )
        self.unreliable_texts = counter(
            "unreliable_texts_total", "Texts that got even odds, with nothing to go by", "model"
        )

        self.model_info = gauge(
            *("model_info", "1 for each version that is ready"),
            *("model", "version", "engine", "default"),
            combine=max,
        )
        self.model_loads = counter(
            "model_loads_total",
            "Versions loaded, rejected, released, or kept although removed",
            *("model", "outcome"),
        )
        self.workers = gauge("workers", "Workers in each state", "state")
        for state in WORKER_STATES:
            self.workers.labels(state)
        self.worker_deaths = counter("worker_deaths_total", "Workers that have died", "reason")
        for reason in WORKER_DEATHS:
            self.worker_deaths.labels(reason)
        self._dropped_lines = counter(
            "log_lines_dropped_total", "Log lines dropped because their reader stalls"
        ).labels()
        self._dropped_before = count_dropped_lines()
        tally.before_snapshot = self._count_dropped_lines

    def _count_dropped_lines(self) -> None:
        """Add the lines dropped since the last call; the log itself knows no metrics."""
        dropped = count_dropped_lines()
        self._dropped_lines.inc(dropped - self._dropped_before)
        self._dropped_before = dropped

    def count_key_load(self, taken: bool) -> None:
        """Count a changed file of keys, which was taken or rejected."""
        self._key_loads.labels("loaded" if taken else "rejected").inc()

    def declare_rejections(self, reasons: Iterable[str]) -> None:
        """Create the series of `rejected_total` for every reason."""
        for reason in reasons:
            self.rejected.labels(reason)

    def for_model(self, name: str) -> ModelMetrics:
        """The series of a model in the repository; they are created at zero if needed."""
        return ModelMetrics(self, name)

    def set_workers(self, counts: Mapping[str, int]) -> None:
        """Set the number of workers in each state; those that are not named have none."""
        for state in WORKER_STATES:
            self.workers.labels(state).set(counts.get(state, 0))

    def forget_version(self, name: str, version: int) -> None:
        """Remove the series of `model_info` of a version that is no longer ready."""
        self.model_info.remove(name, str(version))

    def for_labels(self, name: str, version: int, labels: Sequence[str]) -> dict[str, Counter]:
        """The series of `predictions_total` for each label of a version."""
        return {label: self.predictions.labels(name, str(version), label) for label in labels}

    def observe_request(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count one request. All arguments but `seconds` must come from closed sets."""
        key = (route, model, status)
        series = self._requests.get(key)
        if series is None:
            series = (
                self.requests.labels(route, model, str(status)),
                self.request_seconds.labels(route, model),
            )
            self._requests[key] = series
        series[0].inc()
        series[1].observe(seconds)
