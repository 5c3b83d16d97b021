"""Locust users who send reviews and check the answers.

    locust -f load_tests/locustfile.py --headless --host http://127.0.0.1:8000 -u 16 -t 1m

Users have constant throughput: they send at fixed times, however fast the server is. The number of
users therefore sets the load; `OneText` and `SeveralTexts` say what one user adds. README.md
explains the objectives that decide the exit code.
"""

import itertools
import logging
from argparse import ArgumentParser, Namespace
from typing import Any

from locust import FastHttpUser, constant_throughput, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.stats import StatsEntry

from load_tests.answers import moved, server_timing, wrong_prediction, wrong_predictions
from load_tests.corpus import texts, word_count
from load_tests.slo import Measured, Objectives, missed, percentile

ONE_TEXT = "one text"
SEVERAL_TEXTS = "several texts"

# Milliseconds by metric of Server-Timing. Kept outside Locust's request statistics, which would
# count them as requests and round them to two digits.
_server_times: dict[str, list[float]] = {}
_seeds = itertools.count()


class _Reader(FastHttpUser):
    """A user who sends a text sequence of its own."""

    abstract = True
    connection_timeout = 10.0
    network_timeout = 30.0

    def on_start(self) -> None:
        """Read the labels of the model from /models."""
        self.texts = texts(seed=next(_seeds))
        self.options: Namespace = self.environment.parsed_options
        self.fields = {"model": self.options.model} if self.options.model else {}
        with self.client.get("/models", catch_response=True) as response:
            body = response.json() if response.status_code == 200 else None
            labels = _labels(body, self.options.model)
            if labels is None:
                response.failure("/models lists a ready version and its labels")
                raise StopUser
            self.labels = labels

    def predict(self, name: str, **fields: Any) -> Any:
        """Send POST /predict; the caller checks the answer inside a `with` block."""
        return self.client.post(
            "/predict", json=fields | self.fields, name=name, catch_response=True
        )


class OneText(_Reader):
    """Sends 4 requests per second with one text; every tenth repeats an earlier text."""

    weight = 3
    wait_time = constant_throughput(4)
    reference: tuple[str, dict[str, Any]] | None = None
    sent = 0

    @task
    def one_text(self) -> None:
        """The answer is correct, and the same for the same text."""
        self.sent += 1
        again = self.reference if self.sent % 10 == 0 else None
        text = again[0] if again else next(self.texts)
        with self.predict(ONE_TEXT, text=text) as response:
            body = _body(response)
            if body is None:
                return
            rule = wrong_prediction(body, self.labels)
            if not rule and again and again[1].get("version") == body.get("version"):
                rule = moved(again[1], body)
            if rule:
                response.failure(rule)
            elif not again:
                self.reference = self.reference or (text, body)


class SeveralTexts(_Reader):
    """Sends one request per second with several texts."""

    weight = 1
    wait_time = constant_throughput(1)

    @task
    def several_texts(self) -> None:
        """There is one correct prediction per text, in order."""
        batch = list(itertools.islice(self.texts, self.options.texts_per_request))
        with self.predict(SEVERAL_TEXTS, texts=batch) as response:
            body = _body(response)
            if body is None:
                return
            rule = wrong_predictions(body, self.labels, [word_count(text) for text in batch])
            if rule:
                response.failure(rule)


def _labels(body: Any, model: str | None) -> list[str] | None:
    """Labels of the newest ready version of a model, of the default model if None is given.

    Returns None if there is no such version.
    """
    for entry in body["models"] if body else ():
        if entry["name"] == (model or body["default"]):
            for version in entry["versions"]:  # newest first
                if version["state"] == "ready":
                    labels: list[str] = version["labels"]
                    return labels
    return None


def _body(response: Any) -> Any:
    """The decoded body of an answer with status 200; None, with the failure recorded, otherwise."""
    if response.status_code != 200:
        response.failure(f"status {response.status_code}")
        return None
    for name, milliseconds in server_timing(response.headers.get("Server-Timing", "")).items():
        _server_times.setdefault(name, []).append(milliseconds)
    try:
        return response.json()
    except ValueError:
        response.failure("the answer is JSON")
        return None


def _add_options(parser: ArgumentParser) -> None:
    """Add the options for the objectives and the model, each also an environment variable."""
    add = parser.add_argument_group("Valence").add_argument
    options: dict[str, tuple[type, Any, str]] = {
        "model": (str, None, "model in the request; the server's default if omitted"),
        "texts-per-request": (int, 16, "number of texts in a request of several texts"),
        "max-error-ratio": (float, 0.0, "highest share of failed requests, wrong answers included"),
        "p95-ms": (float, None, "highest 95th percentile of the latency of each kind of request"),
        "p99-ms": (float, None, "highest 99th percentile"),
        "min-rate": (
            float,
            None,
            "lowest number of answered requests per second, of all kinds",
        ),
    }
    for name, (kind, default, explanation) in options.items():
        variable = f"LOAD_{name.replace('-', '_').upper()}"
        add(f"--{name}", type=kind, default=default, env_var=variable, help=explanation)


def _judge(environment: Environment, **_: Any) -> None:
    """Log the server's own timings, check the objectives and set the exit code."""
    options = environment.parsed_options
    runner = environment.runner
    assert options is not None  # noqa: S101 - Locust sets it before the run
    assert runner is not None  # noqa: S101 - likewise
    for name, milliseconds in sorted(_server_times.items()):
        p50, p95 = (percentile(milliseconds, share) for share in (0.50, 0.95))
        logging.info("server, %s: p50 %.1f ms, p95 %.1f ms", name, p50, p95)
    objectives = Objectives(
        max_error_ratio=options.max_error_ratio,
        p95_ms=options.p95_ms,
        p99_ms=options.p99_ms,
        min_rate=options.min_rate,
    )
    entries = environment.stats.entries.values()
    sentences = missed(
        objectives, [_measured(entry) for entry in entries if entry.method == "POST"]
    )
    sentences += [
        f"{entry.method} {entry.name}: {entry.num_failures} failed"
        for entry in entries
        if entry.method != "POST" and entry.num_failures
    ]
    sentences += [f"a user failed: {error['msg']}" for error in runner.exceptions.values()]
    for sentence in sentences:
        logging.error("objective missed: %s", sentence)
    environment.process_exit_code = 1 if sentences else 0


def _measured(entry: StatsEntry) -> Measured:
    return Measured(
        name=str(entry.name),
        requests=entry.num_requests,
        failures=entry.num_failures,
        p95_ms=entry.get_response_time_percentile(0.95),
        p99_ms=entry.get_response_time_percentile(0.99),
        rate=entry.total_rps,
    )


events.init_command_line_parser.add_listener(_add_options)  # type: ignore[no-untyped-call]  # untyped in Locust
events.quitting.add_listener(_judge)  # type: ignore[no-untyped-call]  # untyped in Locust
