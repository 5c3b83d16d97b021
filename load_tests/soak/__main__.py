"""Mixed traffic with faults, and a verdict: `make soak MINUTES=30`.

The service is started with two workers and a repository of its own. While clients of every kind
ask, leave, or break HTTP (`load_tests/soak/clients.py`), new versions are published, aliases move,
bad versions are rejected, and workers are killed with SIGKILL. Every answer is compared with what
that text got from that version in a quiet service. Requests that were in flight on a killed worker
are counted apart.

    python -m load_tests.soak --minutes 2 --out runs/soak

The exit status is 1 if a promise was broken (`load_tests/soak/verdict.py`).
"""

import argparse
import http.client
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from load_tests.bench.errors import BenchError
from load_tests.bench.machine import bundled_version
from load_tests.bench.server import Server, serve
from load_tests.bench.swaps import publish
from load_tests.bench.texts import make_texts
from load_tests.soak.clients import CROWD, HEADER_TIMEOUT_S, Client, World
from load_tests.soak.faults import Kills, Reloads, all_ready, get_json, repeat
from load_tests.soak.truth import Line, Probabilities, Truth
from load_tests.soak.verdict import Ledger, Outcome, Sample, describe, judge, summarize

_RELOADED: Final = "film"
_STEADY: Final = ("lstm", "tweets-lstm")
"""Models of one version, number 1, that stay as they are."""
_SOURCES: Final = (bundled_version("bow-ngrams"), bundled_version("bow"))
"""Version n of the reloaded model is a copy of the source n % 2."""
_TEXTS: Final = 48
_SEED: Final = 12
_WARM_UP_S: Final = 5.0
_QUIET_S: Final = 8.0
"""Longer than the service waits for clients that do not close."""
_READY_TIMEOUT_S: Final = 60.0
_LAST_LINES: Final = 40
"""Lines of the server's log in the message of a soak that failed."""
_RELOAD_PAUSE_S: Final = 2.0
_KILL_PAUSE_S: Final = 15.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak; returns 0 if all promises were kept, 1 if not or if it could not run."""
    parser = argparse.ArgumentParser(
        prog="python -m load_tests.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=30, help="how long (default: 30)")
    parser.add_argument("--workers", type=int, default=2, help="workers, at least 2 (default: 2)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (default: 1)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/soak"), help="folder of the report (runs/soak)"
    )
    options = parser.parse_args(arguments)
    if options.workers < 2:
        parser.error("--workers must be at least 2, so that one can be killed")
    try:
        outcome = soak(options.minutes * 60, options.workers, options.seed)
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    from load_tests.soak.report import draw, write_csv

    options.out.mkdir(parents=True, exist_ok=True)
    caption = f"{options.minutes:g} minutes, {options.workers} workers, seed {options.seed}"
    (options.out / "soak.csv").write_text(write_csv(outcome.samples))
    (options.out / "soak.png").write_bytes(draw(outcome, caption))
    text = describe(outcome)
    (options.out / "soak.txt").write_text(text)
    print(f"{text}{options.out}/soak.png, soak.csv, soak.txt")
    return 1 if judge(outcome) else 0


def soak(seconds: float, workers: int, seed: int) -> Outcome:
    """Run a soak.

    Raises:
        BenchError: The service cannot be started, or does not become ready again.
    """
    rng = random.Random(seed)  # noqa: S311 - the same turns for the same seed
    texts = make_texts(_TEXTS, _SEED)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        models = Path(folder)
        publish_all(models)
        options = (
            *("--workers", str(workers), "--default-model", _RELOADED, "--reload-poll-s", "0"),
            *("--header-timeout-s", f"{HEADER_TIMEOUT_S:g}"),
        )
        with serve(models, "onnx", options) as server:
            stable, canary = Line(1), Line(2)
            lines: dict[tuple[str, str | None], Line] = {
                (_RELOADED, None): stable,
                (_RELOADED, "canary"): canary,
            }
            lines |= {(name, None): Line(1) for name in _STEADY}
            truth = Truth(_ask_all(server, texts), lines)
            ledger = Ledger()
            events: list[tuple[float, str]] = []
            started = time.monotonic()

            def note(what: str) -> None:
                events.append((time.monotonic() - started, what))

            kills = Kills(server, note, random.Random(rng.random()))  # noqa: S311 - as above
            world = World(
                server.port,
                texts,
                list(lines),
                truth,
                ledger,
                kills.was_killed,
                threading.Event(),
            )
            with _crowd(world, rng):
                time.sleep(_WARM_UP_S)
            before = _rest(server)
            world = replace(world, stop=threading.Event())
            reloads = Reloads(
                *(server, models, _RELOADED, _SOURCES),
                stable=stable,
                canary=canary,
                ledger=ledger,
                note=note,
                rng=random.Random(rng.random()),  # noqa: S311 - as above
            )
            changes = threading.Event()
            samples: list[Sample] = []
            ledger.take_latencies()
            started = time.monotonic()
            with (
                _crowd(world, rng),
                _threads(
                    changes,
                    partial(repeat, reloads.take_turn, _RELOAD_PAUSE_S, changes),
                    partial(repeat, kills.take_turn, _KILL_PAUSE_S, changes),
                ),
            ):
                while (at := time.monotonic() - started) < seconds:
                    time.sleep(max(0.0, len(samples) + 1 - at))
                    samples.append(_sample(server, started, ledger))
                    _show_progress(samples[-1], seconds, ledger)
            after = _rest(server)
            _check_metrics(server, ledger)
    return Outcome(
        *(before, samples, after, ledger.counts, ledger.answered),
        examples=ledger.examples,
        events=events,
    )


def publish_all(models: Path) -> None:
    """Copy the models of a soak into a folder: two versions of one, and one of each other."""
    for number in (1, 2):
        publish(_SOURCES[number % 2], models, _RELOADED, number)
    for name in _STEADY:
        publish(bundled_version(name), models, name, 1)
    (models / _RELOADED / "aliases.json").write_text(json.dumps({"stable": 1, "canary": 2}))


def _ask_all(server: Server, texts: Sequence[str]) -> dict[tuple[str, int, str], Probabilities]:
    """What each version answers to each text, one request after the other."""
    found: dict[tuple[str, int, str], Probabilities] = {}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    with closing(connection):
        for name, number in ((_RELOADED, 1), (_RELOADED, 2), *((name, 1) for name in _STEADY)):
            for text in texts:
                body = {"model": name, "version": number, "text": text}
                connection.request("POST", "/predict", json.dumps(body))
                answer: dict[str, Any] = json.loads(connection.getresponse().read())
                found[name, number % 2, text] = answer["probabilities"]
    return found


@contextmanager
def _crowd(world: World, rng: random.Random) -> Iterator[None]:
    """All clients, until the end of the context."""
    clients = [
        partial(Client(world, kind, number, random.Random(rng.random())).run, rate)  # noqa: S311
        for kind, (count, rate) in CROWD.items()
        for number in range(count)
    ]
    with _threads(world.stop, *clients):
        yield


@contextmanager
def _threads(stop: threading.Event, *work: Callable[[], None]) -> Iterator[None]:
    """Threads that end when `stop` is set, which the end of the context does."""
    with ExitStack() as stack:
        for each in work:
            thread = threading.Thread(target=each)
            thread.start()
            stack.callback(thread.join)
        stack.callback(stop.set)
        yield


def _rest(server: Server) -> Sample:
    """Wait until all workers are ready and all clients forgotten; returns what is left.

    Raises:
        BenchError: They do not become ready.
    """
    until = time.monotonic() + _READY_TIMEOUT_S
    while not all_ready(server.port):
        if time.monotonic() > until:
            raise BenchError(
                f"not all workers were ready within {_READY_TIMEOUT_S:.0f} s. "
                f"/readyz: {json.dumps(get_json(server.port, '/readyz'))}\n"
                + "\n".join(server.log_lines()[-_LAST_LINES:])
            )
        time.sleep(0.1)
    time.sleep(_QUIET_S)
    return _sample(server, time.monotonic(), None)


def _sample(server: Server, started: float, ledger: Ledger | None) -> Sample:
    usage = server.usage()
    if usage is None:
        raise BenchError("the service has ended")
    answers, p50, p99 = summarize(ledger.take_latencies() if ledger else [])
    return Sample(
        at_s=round(time.monotonic() - started, 3),
        pss_bytes=usage.resident_bytes,
        rss_bytes=usage.resident_sum_bytes,
        threads=usage.threads,
        descriptors=usage.descriptors,
        processes=usage.processes,
        answers=answers,
        p50_ms=round(p50, 2),
        p99_ms=round(p99, 2),
    )


def _check_metrics(server: Server, ledger: Ledger) -> None:
    """What the service itself has counted as 500."""
    _, page = server.get("/metrics")
    for line in page.splitlines():
        is_error = line.startswith("valence_requests_total{") and 'status="500"' in line
        if is_error and float(line.rpartition(" ")[2]) > 0:
            ledger.count("error", f"in the metrics: {line}")


def _show_progress(sample: Sample, seconds: float, ledger: Ledger) -> None:
    if sys.stderr.isatty():
        faults = ", ".join(f"{name}: {count}" for name, count in ledger.counts.items())
        sys.stderr.write(
            f"\r{sample.at_s:.0f} of {seconds:.0f} s, {ledger.answered} answers {faults}\x1b[K"
        )


if __name__ == "__main__":
    sys.exit(main())
