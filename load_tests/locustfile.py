"""Locust users who send reviews, check the answers, and misbehave.

    locust -f load_tests/locustfile.py --headless --host http://127.0.0.1:8000 -u 16 -t 1m
    locust -f load_tests/locustfile.py ... --processes 4 --shape spike OneText OpenInference

Users have constant throughput: they send at fixed times, however fast the server is. The number of
users therefore sets the load; each class says what one user adds. In a distributed run the master
judges, from what all workers report. README.md explains shapes, and the objectives that decide the
exit code.
"""

import itertools
import json
import logging
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from locust import FastHttpUser, LoadTestShape, constant_throughput, events, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner
from locust.stats import StatsEntry

from load_tests.answers import (
    moved,
    server_timing,
    wrong_prediction,
    wrong_predictions,
    wrong_tensors,
)
from load_tests.corpus import texts, word_count
from load_tests.shapes import SHAPES, count_users
from load_tests.slo import Measured, Objectives, missed
from load_tests.timings import Timings
from load_tests.wire import BrokenConnectionError, Connection

ONE_TEXT = "one text"
SEVERAL_TEXTS = "several texts"
OPEN_INFERENCE = "open inference"

# Seeds must stay below 2**32: in Python some longer ones give the sequence of a shorter one, as
# 2**32 + 2 and 2 do.
_SEEDS_PER_PROCESS: Final = 2**20
_TIMINGS_KEY: Final = "valence_server_times"
_OVERSIZED_BYTES: Final = 2**40
_PIECES: Final = 5
_PIECE_PAUSE_S: Final = 0.2

# Milliseconds by metric of Server-Timing. Kept outside Locust's request statistics, which would
# count them as requests and round them to two digits.
_server_times = Timings()
_reporters: set[str] = set()
_seeds = itertools.count()


def _seed(environment: Environment) -> int:
    """A seed that no other user has, in this process or in another of the same run."""
    process: int = getattr(environment.runner, "worker_index", 0)
    return process * _SEEDS_PER_PROCESS + next(_seeds)


class Shape(LoadTestShape):
    """The number of users over time, as `--shape` says."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """The number of users and how many start per second; None at the end."""
        assert self.runner is not None  # noqa: S101 - Locust sets it before the run
        options = self.runner.environment.parsed_options
        assert options is not None  # noqa: S101 - likewise
        most, run_time_s = options.num_users or 1, options.run_time or None
        elapsed_s: float = self.get_run_time()  # type: ignore[no-untyped-call]  # untyped in Locust
        try:
            users = count_users(options.shape, most, elapsed_s, run_time_s)
        except ValueError as error:
            logging.error("%s", error)  # noqa: TRY400 - a wrong call, not a bug
            return None
        return None if users is None else (users, options.spawn_rate or users)


class _Reader(FastHttpUser):
    """A user who sends a text sequence of its own.

    Attributes:
        texts: The sequence.
        model: The name of the model that is asked.
        labels: Its labels, in the order of /models.
        key_headers: What shows the key to the service; empty without one.
    """

    abstract = True
    connection_timeout = 10.0
    network_timeout = 30.0

    def __init__(self, environment: Environment) -> None:
        key = (environment.parsed_options.key or "").strip() if environment.parsed_options else ""
        self.key_headers = {"X-API-Key": key} if key else {}
        self.default_headers = self.key_headers
        super().__init__(environment)

    def on_start(self) -> None:
        """Read the labels of the model from /models."""
        self.texts = texts(_seed(self.environment))
        self.options: Namespace = self.environment.parsed_options
        self.fields = {"model": self.options.model} if self.options.model else {}
        with self.client.get("/models", catch_response=True) as response:
            body = response.json() if response.status_code == 200 else None
            found = _find_model(body, self.options.model)
            if found is None:
                response.failure(
                    "/models lists a ready version and its labels"
                    if body is not None
                    else f"status {response.status_code}"
                )
                raise StopUser
            self.model, self.labels = found

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


class OpenInference(_Reader):
    """Sends 2 requests per second with one to four texts to /v2, the Open Inference Protocol."""

    weight = 1
    wait_time = constant_throughput(2)
    sent = 0

    @task
    def infer(self) -> None:
        """The tensors hold one correct prediction per text."""
        self.sent += 1
        data = list(itertools.islice(self.texts, 1 + self.sent % 4))
        tensor = {"name": "text", "shape": [len(data)], "datatype": "BYTES", "data": data}
        with self.client.post(
            f"/v2/models/{self.model}/infer",
            json={"inputs": [tensor]},
            name=OPEN_INFERENCE,
            catch_response=True,
        ) as response:
            body = _body(response)
            if body is None:
                return
            rule = wrong_tensors(body, self.labels, len(data))
            if rule:
                response.failure(rule)


class Misbehaving(_Reader):
    """Once every two seconds breaks off, resets, sends too much, or sends slowly.

    It speaks to the socket, so the host must be http, and answer itself: a proxy in front may close
    an oversized request in its own way.
    """

    weight = 1
    wait_time = constant_throughput(0.5)

    def on_start(self) -> None:
        """Read the labels, and find the address."""
        super().on_start()
        address = urlsplit(str(self.host))
        if address.scheme != "http" or address.hostname is None:
            logging.error("misbehaving users need a host with http")
            raise StopUser
        self.name, self.port = address.hostname, address.port or 80

    @task
    def leave(self) -> None:
        """Disconnect in the middle of the body; there is nobody to answer."""

        def act(connection: Connection) -> None:
            request = self._request()
            connection.send(request[: len(request) // 2])
            connection.close()

        self._act("disconnect", act)

    @task
    def reset(self) -> None:
        """Send a whole request and reset the connection before the answer."""

        def act(connection: Connection) -> None:
            connection.send(self._request())
            connection.reset()

        self._act("reset", act)

    @task
    def send_too_much(self) -> None:
        """A body over any limit is refused with 413 before it is sent."""

        def act(connection: Connection) -> str | None:
            connection.send(self._head(_OVERSIZED_BYTES))
            status = connection.read().status
            return None if status == 413 else f"an oversized body gets 413, not {status}"

        self._act("oversized", act)

    @task
    def send_slowly(self) -> None:
        """A request in pieces, with pauses between them, gets its correct answer."""

        def act(connection: Connection) -> str | None:
            request = self._request()
            size = -(-len(request) // _PIECES)
            for start in range(0, len(request), size):
                connection.send(request[start : start + size])
                time.sleep(_PIECE_PAUSE_S)  # Locust has patched it: others go on
            reply = connection.read()
            if reply.status != 200:
                return f"status {reply.status}"
            return wrong_prediction(json.loads(reply.body), self.labels)

        self._act("slow", act)

    def _act(self, name: str, act: Callable[[Connection], str | None]) -> None:
        """Do something to a new connection, and record it beside the requests."""
        started = time.perf_counter()
        connection = None
        try:
            connection = Connection(self.port, self.name)
            rule = act(connection)
        except (OSError, ValueError, BrokenConnectionError) as error:
            rule = f"{type(error).__name__}: {error}" if isinstance(error, OSError) else str(error)
        finally:
            if connection is not None:
                connection.close()
        self.environment.events.request.fire(
            request_type="RAW",
            name=name,
            response_time=(time.perf_counter() - started) * 1e3,
            response_length=0,
            exception=None if rule is None else AssertionError(rule),
            context={},
        )

    def _request(self) -> bytes:
        body = json.dumps({"text": next(self.texts)} | self.fields).encode()
        return self._head(len(body)) + body

    def _head(self, length: int) -> bytes:
        return (
            f"POST /predict HTTP/1.1\r\nHost: {self.name}:{self.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in self.key_headers.items())
            + "\r\n"
        ).encode()


def _find_model(body: Any, model: str | None) -> tuple[str, list[str]] | None:
    """Name and labels of a model's newest ready version; of the default model if None is given.

    Returns None if there is no such version.
    """
    for entry in body["models"] if body else ():
        if entry["name"] == (model or body["default"]):
            for version in entry["versions"]:  # newest first
                if version["state"] == "ready":
                    return entry["name"], version["labels"]
    return None


def _body(response: Any) -> Any:
    """The decoded body of an answer with status 200; None, with the failure recorded, otherwise."""
    if response.status_code != 200:
        response.failure(f"status {response.status_code}")
        return None
    for name, milliseconds in server_timing(response.headers.get("Server-Timing", "")).items():
        _server_times.add(name, milliseconds)
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
    add(
        *("--key",),
        env_var="LOAD_KEY",
        help="API key of the service; other users of this machine see it in the list of processes, "
        "unlike the variable",
    )
    add(
        *("--shape",),
        choices=sorted(SHAPES),
        default="steady",
        env_var="LOAD_SHAPE",
        help="how the number of users changes over --run-time [steady]",
    )


def _report(client_id: str, data: dict[str, Any], **_: Any) -> None:
    """On a worker: add the server's timings to what is sent to the master."""
    data[_TIMINGS_KEY] = _server_times.take()


def _collect(client_id: str, data: dict[str, Any], **_: Any) -> None:
    """On the master: take in what a worker has sent."""
    _reporters.add(client_id)
    _server_times.merge(data.get(_TIMINGS_KEY, {}))


def _judge(environment: Environment, **_: Any) -> None:
    """Log the server's own timings, check the objectives and set the exit code.

    Workers judge nothing: they have sent their requests to the master, and have none left.
    """
    options = environment.parsed_options
    runner = environment.runner
    if options is None or runner is None or isinstance(runner, WorkerRunner):
        return
    for name in _server_times.names():
        p50, p95 = _server_times.quantiles(name, (0.50, 0.95))
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
    if isinstance(runner, MasterRunner) and len(_reporters) < options.expect_workers:
        sentences.append(f"{len(_reporters)} of {options.expect_workers} workers reported")
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
events.report_to_master.add_listener(_report)  # type: ignore[no-untyped-call]  # untyped in Locust
events.worker_report.add_listener(_collect)  # type: ignore[no-untyped-call]  # untyped in Locust
