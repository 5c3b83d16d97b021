"""All metrics of the service, with the prefix `valence_`.

Label values come from closed sets: declared routes, models in the repository. An unknown route or
model is counted as `other` or `unknown`, so clients cannot create series. Counters and the latency
of answers exist at zero from the start, because Prometheus sees no increase in the first value of
a series; the series of a version go with it.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import product
from typing import Final

from app.telemetry.drift import Clock, Feature, Watch
from app.telemetry.logs import count_dropped_lines
from app.telemetry.tally import Combine, Counter, Family, Gauge, Histogram, Tally

OTHER_ROUTE: Final = "other"
UNKNOWN_MODEL: Final = "unknown"
WORKER_STATES: Final = ("starting", "ready", "differs", "unresponsive", "died", "draining")
WORKER_DEATHS: Final = ("killed", "failed", "unresponsive")
NO_MODEL: Final = ""
"""The label of requests without a model, such as probes."""
NO_VERSION: Final = 0
"""The version of requests without one; its label is empty."""
SIZES: Final = ("", "one", "many", "explained")
"""How many texts were answered. Lists take longer by design, so they have objectives of their own;
errors, which may take no time at all, are told apart from answers. Explained requests wait behind
all texts."""
_EXPLAINED: Final = SIZES.index("explained")
CLIENT_GONE: Final = 499
"""The status of a request whose client has left before it was answered."""
_STATUSES_OF_MODELS: Final = frozenset({200, 413, 429, CLIENT_GONE, 500, 503, 504})
"""Those of requests whose model is known; what is wrong with a request is mostly told before."""
_UNKNOWN_MODEL_STATUS: Final = 404

# Objectives are round numbers, and each of these is a bound: the share of requests within one is
# exact, where an interpolated one can be off by half a bucket. A text of 200 words takes about 2 ms
# on a CPU, a full batch about 20 ms, and 10 s is the default deadline: above it is no answer.
SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_TOKENIZE_SECONDS: Final = (0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.005, 0.02, 0.1, 0.5)
_ITEMS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONFIDENCES: Final = (0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)


class ModelMetrics:
    """The series of one model, each looked up once.

    Attributes:
        tokenize_seconds: Time from texts to ids, per request: with one text, and with several.
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
        self.tokenize_seconds = tuple(
            metrics.tokenize_seconds.labels(name, size) for size in SIZES[1:_EXPLAINED]
        )
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

    Args:
        clock: Monotonic, in seconds.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        tally = self.tally = Tally()
        self._clock = clock
        self._watches: dict[str, Watch] = {}
        self._requests: dict[tuple[str, str, int, int, int], tuple[Counter, Histogram]] = {}
        self._predictions: dict[str, frozenset[int]] = {}
        self._versions: set[tuple[str, str]] = set()
        self._on_snapshot: list[Callable[[], None]] = []
        tally.before_snapshot = self._read

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
            *("request_duration_seconds", "Time from request to response", SECONDS),
            *("route", "model", "version", "size"),
        )
        self.requests_in_flight = gauge(
            "requests_in_flight", "Requests for predictions being answered"
        ).labels()
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
            *("model", "size"),
        )
        self.queue_delay_seconds = histogram(
            "queue_delay_seconds", "Time from admission to batch, per item", SECONDS, "model"
        )
        self.inference_seconds = histogram(
            "inference_duration_seconds", "Time of one model run", SECONDS, "model"
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
            "prediction_confidence", "Probability of the predicted label", CONFIDENCES, "model"
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
        self._drift = tally.divergence(
            "valence_model_drift_psi",
            "Population stability index of the last hour's texts against the validation texts",
            *("model", "feature"),
        )
        self.on_snapshot(self._update_drift)
        self.workers = gauge("workers", "Workers in each state", "state")
        for state in WORKER_STATES:
            self.workers.labels(state)
        self.worker_deaths = counter("worker_deaths_total", "Workers that have died", "reason")
        for reason in WORKER_DEATHS:
            self.worker_deaths.labels(reason)
        self.engine_threads = gauge(
            "engine_threads", "Batches that run at once, in all workers"
        ).labels()
        self.engine_busy_seconds = counter(
            "engine_busy_seconds_total", "Seconds of engine threads that had a batch"
        ).labels()
        self.queue_limit_items = gauge(
            "queue_limit_items", "Items that may wait for each model, in all workers"
        ).labels()
        self.queue_bytes = gauge("queue_bytes", "Memory of the texts that wait").labels()
        self.queue_limit_bytes = gauge(
            "queue_limit_bytes", "Memory that texts that wait may take, in all workers"
        ).labels()
        self.build_info = gauge(
            *("build_info", "1: what runs"), *("version", "python", "engine"), combine=max
        )
        dropped_lines = counter(
            "log_lines_dropped_total", "Log lines dropped because their reader stalls"
        )
        self.follow(dropped_lines.labels(), count_dropped_lines)

    def on_snapshot(self, update: Callable[[], None]) -> None:
        """Call `update` before each snapshot: for what is read, and not counted as it happens."""
        self._on_snapshot.append(update)

    def follow(self, counter: Counter, total: Callable[[], float]) -> None:
        """Let a counter grow as a total does that is kept elsewhere."""
        before = total()

        def update() -> None:
            nonlocal before
            now = total()
            counter.inc(max(0.0, now - before))
            before = now

        self.on_snapshot(update)

    def _read(self) -> None:
        for update in self._on_snapshot:
            update()

    def watch_drift(
        self,
        name: str,
        version: int,
        labels: Sequence[str],
        baseline: Mapping[str, Sequence[float]],
    ) -> None:
        """Compare the texts of a model with those that a version was validated on.

        Args:
            name: The model.
            version: The version that answers by default. The window begins anew with another one.
            labels: Its labels.
            baseline: What was counted then: `label` in the order of `labels`, `confidence` in the
                bins of `CONFIDENCES` and one above, `truncated` and `unknown` first for those that
                are not. A feature that is missing has no series.
        """
        watch = self._watches.get(name)
        identity = version, tuple(labels), dict(baseline)  # its files may be replaced
        if watch is not None and watch.version == identity:
            return
        of_model, by_label = self.for_model(name), self.for_labels(name, version, labels)

        def count_texts() -> float:
            return sum(of_model.confidence.counts)

        def count_labelled() -> float:
            return sum(each.value for each in by_label.values())

        reads: dict[str, Callable[[], Sequence[float]]] = {
            "label": lambda: [each.value for each in by_label.values()],
            "confidence": lambda: of_model.confidence.counts,
            "truncated": lambda: _split(count_texts(), of_model.truncated_texts.value),
            "unknown": lambda: _split(of_model.tokens.value, of_model.unknown_tokens.value),
        }
        features = {
            # The labels are those of the version, all else is counted for the model.
            f: Feature(expected, reads[f], count_labelled if f == "label" else count_texts)
            for f, expected in baseline.items()
        }
        self._forget_drift(name)
        self._watches[name] = Watch(identity, features, self._clock)

    def _forget_drift(self, name: str) -> None:
        self._watches.pop(name, None)
        self._drift.remove(lambda found: found["model"] == name)

    def _update_drift(self) -> None:
        for name, watch in self._watches.items():
            for feature, compared in watch.compare().items():
                self._drift.labels(name, feature).set(*compared)

    def declare_routes(
        self, statuses: Mapping[str, Iterable[int]], *, predictions: Iterable[str]
    ) -> None:
        """Name all routes, whose requests are counted from the start.

        Args:
            statuses: What each route may answer with.
            predictions: The routes whose requests are for a model, and may be waited for.
        """
        for route in predictions:
            self._predictions[route] = frozenset({*statuses[route], CLIENT_GONE})
        for route, possible in {**statuses, **self._predictions}.items():
            without_model = set(possible)
            if route in self._predictions:
                without_model.remove(200)
            for status in sorted(without_model):
                self.requests.labels(route, NO_MODEL, str(status))
        self._declare_requests(UNKNOWN_MODEL, {_UNKNOWN_MODEL_STATUS})

    def _declare_requests(self, model: str, statuses: Collection[int]) -> None:
        for route, possible in self._predictions.items():
            for status in sorted(possible.intersection(statuses)):
                self.requests.labels(route, model, str(status))

    def count_key_load(self, taken: bool) -> None:
        """Count a changed file of keys, which was taken or rejected."""
        self._key_loads.labels("loaded" if taken else "rejected").inc()

    def declare_rejections(self, reasons: Iterable[str]) -> None:
        """Create the series of `rejected_total` for every reason."""
        for reason in reasons:
            self.rejected.labels(reason)

    def for_model(self, name: str) -> ModelMetrics:
        """The series of a model in the repository; they are created at zero if needed."""
        self._declare_requests(name, _STATUSES_OF_MODELS)
        return ModelMetrics(self, name)

    def set_workers(self, counts: Mapping[str, int]) -> None:
        """Set the number of workers in each state; those that are not named have none."""
        for state in WORKER_STATES:
            self.workers.labels(state).set(counts.get(state, 0))

    def for_labels(self, name: str, version: int, labels: Sequence[str]) -> dict[str, Counter]:
        """The series of `predictions_total` for each label of a version that was loaded.

        Those of the latency of its answers are created, too: one text, and many.
        """
        self._versions.add((name, str(version)))
        for route, size in product(self._predictions, SIZES[1:_EXPLAINED]):
            self.request_seconds.labels(route, name, str(version), size)
        return {label: self.predictions.labels(name, str(version), label) for label in labels}

    def forget_version(self, name: str, version: int) -> None:
        """Remove the series of a version that is no longer ready."""
        self._versions.discard((name, str(version)))
        self.forget_unloaded()
        watch = self._watches.get(name)
        if watch is not None and watch.version[0] == version:
            self._forget_drift(name)

    def forget_unloaded(self) -> None:
        """Remove the series of all versions that are not loaded.

        The process that this one replaces may have had others.
        """
        for family in (self.model_info, self.predictions, self.request_seconds):
            family.remove(self._is_unloaded)
        self._requests = {
            key: series
            for key, series in self._requests.items()
            if key[3] == NO_VERSION or (key[1], str(key[3])) in self._versions
        }

    def _is_unloaded(self, labels: Mapping[str, str]) -> bool:
        version = labels["version"]
        return bool(version) and (labels["model"], version) not in self._versions

    def observe_request(
        self,
        route: str,
        model: str,
        status: int,
        seconds: float,
        *,
        version: int = NO_VERSION,
        texts: int = 0,
        explained: bool = False,
    ) -> None:
        """Count one request. `route`, `model` and `status` must come from closed sets.

        Args:
            route: The path of the route, with its parameters.
            model: The model's name, `NO_MODEL` or `UNKNOWN_MODEL`.
            status: The status of the response.
            seconds: From the request to its response.
            version: The version it was for; `NO_VERSION` if none. A request that ends after its
                version was released counts as one without.
            texts: How many texts were answered.
            explained: Whether they were explained, which waits behind all texts.
        """
        size = _EXPLAINED if explained and texts else min(texts, _EXPLAINED - 1)
        key = (route, model, status, version, size)
        series = self._requests.get(key)
        if series is None:
            if version != NO_VERSION and (model, str(version)) not in self._versions:
                self.observe_request(
                    route, model, status, seconds, texts=texts, explained=explained
                )
                return
            label = "" if version == NO_VERSION else str(version)
            series = self._requests[key] = (
                self.requests.labels(route, model, str(status)),
                self.request_seconds.labels(route, model, label, SIZES[key[4]]),
            )
        series[0].inc()
        series[1].observe(seconds)


def _split(total: float, part: float) -> tuple[float, float]:
    """What is not in a part of a total, and what is."""
    return total - part, part
