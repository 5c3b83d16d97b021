"""Users who send reviews and look at what comes back.

    locust -f load_tests/locustfile.py --headless --host http://127.0.0.1:8000 -u 16 -t 1m

Constant throughput: a user sends at fixed times, whatever the server does, as the public would.
The number of users is therefore the load: see `OneText` and `SeveralTexts` for what each adds.
README.md explains the objectives that decide the exit code.
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

# Milliseconds by the names of Server-Timing: kept apart from Locust's statistics of requests, which
# it would swell, and which round to two digits.
_server_times: dict[str, list[float]] = {}
_seeds = itertools.count()


class _Reader(FastHttpUser):
    """One of many users; each reads its own sequence of texts."""

    abstract = True
    connection_timeout = 10.0
    network_timeout = 30.0

    def on_start(self) -> None:
        """Learn from /models what an answer must look like."""
        self.texts = texts(seed=next(_seeds))
        self.options: Namespace = self.environment.parsed_options
        self.fields = {"model": self.options.model} if self.options.model else {}
        with self.client.get("/models", catch_response=True) as response:
            body = response.json() if response.status_code == 200 else None
            labels = _labels(body, self.options.model)
            if labels is None:
                response.failure("/models names a version that answers, and its labels")
                raise StopUser
            self.labels = labels

    def predict(self, name: str, **fields: Any) -> Any:
        """POST /predict, its answer to be judged by the caller inside `with`."""
        return self.client.post(
            "/predict", json=fields | self.fields, name=name, catch_response=True
        )


class OneText(_Reader):
    """Sends one text at a time, 4 a second; every tenth time one that it sent before."""

    weight = 3
    wait_time = constant_throughput(4)
    reference: tuple[str, dict[str, Any]] | None = None
    sent = 0

    @task
    def one_text(self) -> None:
        """A right answer, and the same one whenever the same text is asked."""
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
    """Sends several texts in one request, once a second."""

    weight = 1
    wait_time = constant_throughput(1)

    @task
    def several_texts(self) -> None:
        """One right answer per text, in order."""
        batch = list(itertools.islice(self.texts, self.options.texts_per_request))
        with self.predict(SEVERAL_TEXTS, texts=batch) as response:
            body = _body(response)
            if body is None:
                return
            rule = wrong_predictions(body, self.labels, [word_count(text) for text in batch])
            if rule:
                response.failure(rule)


def _labels(body: Any, model: str | None) -> list[str] | None:
    """Labels of the version that answers, for the default model if none is named; None if none."""
    for entry in body["models"] if body else ():
        if entry["name"] == (model or body["default"]):
            for version in entry["versions"]:  # the newest first
                if version["state"] == "ready":
                    labels: list[str] = version["labels"]
                    return labels
    return None


def _body(response: Any) -> Any:
    """The JSON of a good answer; None, with the failure noted, for any other."""
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
    """Objectives and the model, each also from the environment."""
    add = parser.add_argument_group("Valence").add_argument
    options: dict[str, tuple[type, Any, str]] = {
        "model": (str, None, "name of the model to ask; the default model if absent"),
        "texts-per-request": (int, 16, "texts in a request of several"),
        "max-error-ratio": (float, 0.0, "failed requests of all, wrong answers included"),
        "p95-ms": (float, None, "95 of 100 requests of a kind take at most this long"),
        "p99-ms": (float, None, "99 of 100 requests of a kind take at most this long"),
        "min-rate": (float, None, "requests per second that are really sent and answered"),
    }
    for name, (kind, default, explanation) in options.items():
        variable = f"LOAD_{name.replace('-', '_').upper()}"
        add(f"--{name}", type=kind, default=default, env_var=variable, help=explanation)


def _judge(environment: Environment, **_: Any) -> None:
    """Print the server's own times, compare with the objectives, choose the exit code."""
    options = environment.parsed_options
    runner = environment.runner
    assert options is not None  # noqa: S101 - the command line was read
    assert runner is not None  # noqa: S101 - and a run was made of it
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
    sentences += [f"a user broke: {error['msg']}" for error in runner.exceptions.values()]
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
