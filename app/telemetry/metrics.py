"""Every number the service exports, under the prefix `valence_`.

Label values come from closed sets: routes as declared, models as found in the repository. What a
client makes up counts as `other` or `unknown`, so nobody can mint a series.
"""

from collections.abc import Sequence
from typing import Final

from app.telemetry.tally import Combine, Counter, Family, Gauge, Histogram, Tally

OTHER_ROUTE: Final = "other"
UNKNOWN_MODEL: Final = "unknown"
NO_MODEL: Final = ""
"""The label of requests that ask for no model, such as probes."""

# One request should fall into the middle of its buckets on a CPU: a text of 200 words takes
# about 2 ms, a full batch about 20 ms.
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
        tokenize_seconds: Text to ids, for all texts of a request together.
        queue_delay_seconds: From admission to the batch, per item.
        inference_seconds: One model run.
        batch_items: Rows of one model run.
        real_tokens: Tokens in batches that belong to texts.
        padded_tokens: Tokens in batches that fill rows up.
        queue_items: Items waiting.
        cancelled_items: Items dropped before the model ran, because nobody waits for them any more.
        confidence: Probability of the label that was answered.
        tokens: Tokens the model read.
        unknown_tokens: Of those, the ones outside the vocabulary.
        truncated_texts: Texts of which the model read a part.
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
        self.cancelled_items = metrics.cancelled_items.labels(name)
        self.confidence = metrics.prediction_confidence.labels(name)
        self.tokens = metrics.tokens.labels(name)
        self.unknown_tokens = metrics.unknown_tokens.labels(name)
        self.truncated_texts = metrics.truncated_texts.labels(name)


class Metrics:
    """Names, units, buckets and labels, declared once.

    Attributes:
        tally: The numbers of this process; it makes them a page, and those of several one.
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

        self.requests = counter("requests_total", "Requests answered", "route", "model", "status")
        self.request_seconds = histogram(
            "request_duration_seconds", "Arrival to answer", _SECONDS, "route", "model"
        )
        self.requests_in_flight = gauge("requests_in_flight", "Requests not answered yet").labels()
        self.rejected = counter("rejected_total", "Requests refused, by reason", "reason")

        self.tokenize_seconds = histogram(
            "tokenize_duration_seconds", "Texts of a request to ids", _TOKENIZE_SECONDS, "model"
        )
        self.queue_delay_seconds = histogram(
            "queue_delay_seconds", "Admission of an item to its batch", _SECONDS, "model"
        )
        self.inference_seconds = histogram(
            "inference_duration_seconds", "One run of the model", _SECONDS, "model"
        )
        self.batch_items = histogram("batch_items", "Items in one run", _ITEMS, "model")
        self.batch_tokens = counter("batch_tokens_total", "Tokens in runs", "model", "kind")
        self.queue_items = gauge("queue_items", "Items waiting", "model")
        self.cancelled_items = counter(
            "cancelled_items_total", "Items dropped before the model, as nobody waits", "model"
        )

        self.predictions = counter(
            "predictions_total", "Texts answered", "model", "version", "label"
        )
        self.prediction_confidence = histogram(
            "prediction_confidence", "Probability of the answered label", _CONFIDENCES, "model"
        )
        self.tokens = counter("tokens_total", "Tokens the model read", "model")
        self.unknown_tokens = counter(
            "unknown_tokens_total", "Tokens outside the vocabulary", "model"
        )
        self.truncated_texts = counter("truncated_texts_total", "Texts read in part", "model")

        self.model_info = gauge(
            *("model_info", "1 for each version that is ready"),
            *("model", "version", "engine", "default"),
            combine=max,
        )
        self.model_loads = counter(
            "model_loads_total", "Versions loaded or refused", "model", "outcome"
        )

    def for_model(self, name: str) -> ModelMetrics:
        """The series of the model `name`, which must be one of the repository."""
        return ModelMetrics(self, name)

    def for_labels(self, name: str, version: int, labels: Sequence[str]) -> dict[str, Counter]:
        """The `predictions_total` of each label that a version can answer."""
        return {label: self.predictions.labels(name, str(version), label) for label in labels}

    def observe_request(self, route: str, model: str, status: int, seconds: float) -> None:
        """Count one answered request; each argument but `seconds` is of a closed set."""
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
