"""Hot swaps under load: `python -m load_tests.bench.swaps`.

New versions of one model are published while clients ask for predictions without a version. A
request is lost if it is not answered with 200, and mixed if it began after another client had the
answer of a newer version.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from load_tests.bench.errors import BenchError
from load_tests.bench.machine import bundled_version
from load_tests.bench.server import Server, serve
from load_tests.bench.texts import make_texts, single_bodies
from load_tests.slo import percentile

_FILES: Final = ("model.onnx", "tokenizer.json", "golden.jsonl")
"""What ONNX Runtime needs of a version."""
_SWAP_TIMEOUT_S: Final = 60
_TIMEOUT_S: Final = 30
_WARM_SWAPS: Final = 5
"""Swaps before the memory is compared: the allocator's first pages come with them."""
_SEED: Final = 12


@dataclass(frozen=True, slots=True)
class Answer:
    """One request of one client.

    Attributes:
        began: When it was sent, in seconds of one clock.
        ended: When its answer was read.
        version: The version that answered; 0 if the request was lost.
    """

    began: float
    ended: float
    version: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was measured.

    Attributes:
        answers: All requests.
        swaps: When each swap began, and when its version was first seen.
        memory_bytes: Resident memory before the first swap and after each.
    """

    answers: Sequence[Answer]
    swaps: Sequence[tuple[float, float]]
    memory_bytes: Sequence[int]

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return sum(answer.version == 0 for answer in self.answers)

    @property
    def mixed(self) -> int:
        """Requests answered by an older version than one that had been seen when they began."""
        return count_mixed(self.answers)

    def p99_ms(self, *, swapping: bool) -> float:
        """The 99th percentile of the requests that overlap a swap, or of those that do not."""
        return percentile(
            [
                (answer.ended - answer.began) * 1e3
                for answer in self.answers
                if self._overlaps(answer) is swapping
            ],
            0.99,
        )

    def _overlaps(self, answer: Answer) -> bool:
        return any(answer.ended >= begin and answer.began <= end for begin, end in self.swaps)

    @property
    def memory_growth(self) -> float:
        """From the swaps at the beginning to those at the end; 0.01 is one percent."""
        after = self.memory_bytes[1:]
        warm = after[_WARM_SWAPS:] or after
        few = max(1, len(warm) // 5)
        return statistics.median(warm[-few:]) / statistics.median(warm[:few]) - 1


def count_mixed(answers: Sequence[Answer]) -> int:
    """Requests that began after another had the answer of a newer version, and got an older one."""
    seen = sorted((answer.ended, answer.version) for answer in answers)
    newest, position, mixed = 0, 0, 0
    for answer in sorted(answers, key=lambda answer: answer.began):
        while position < len(seen) and seen[position][0] < answer.began:
            newest = max(newest, seen[position][1])
            position += 1
        mixed += 0 < answer.version < newest
    return mixed


def publish(source: Path, models: Path, name: str, number: int, **changes: Any) -> Path:
    """Publish a copy of a version under another number, in one step.

    Args:
        source: A version folder.
        models: The repository.
        name: The model of the copy.
        number: The version of the copy; one that is there is replaced.
        changes: Fields of the manifest of the copy.
    """
    folder = models / name / str(number)
    aside, replaced = folder.with_name(f".{number}"), folder.with_name(f".{number}.old")
    aside.mkdir(parents=True)
    for file in _FILES:
        shutil.copyfile(source / file, aside / file)
    manifest = json.loads((source / "manifest.json").read_text())
    manifest["files"] = {file: manifest["files"][file] for file in _FILES}
    manifest |= {"name": name, "version": number, **changes}
    (aside / "manifest.json").write_text(json.dumps(manifest))
    if folder.exists():
        folder.rename(replaced)
    aside.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    return folder


@contextmanager
def load(
    port: int, bodies: Sequence[bytes], *, clients: int, rate: float
) -> Iterator[list[Answer]]:
    """Clients that send requests at a constant rate, each on its own connection.

    Args:
        port: The port of the service.
        bodies: Bodies of `POST /predict`, sent in turn.
        clients: How many clients there are.
        rate: Requests per second, all clients together.
    """
    answers: list[Answer] = []
    stop = threading.Event()

    def work(number: int) -> None:
        next_at = time.perf_counter() + number / rate
        turns = cycle(bodies[number::clients])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
        with closing(connection):
            while not stop.wait(max(0.0, next_at - time.perf_counter())):
                next_at = max(next_at + clients / rate, time.perf_counter() - clients / rate)
                answers.append(_ask(connection, next(turns)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _ask(connection: http.client.HTTPConnection, body: bytes) -> Answer:
    began = time.perf_counter()
    version = 0
    try:
        connection.request("POST", "/predict", body)
        response = connection.getresponse()
        content = response.read()
        if response.status == 200:
            version = int(json.loads(content)["version"])
    except (OSError, http.client.HTTPException):
        connection.close()
    return Answer(began, time.perf_counter(), version)


def measure(
    source: Path,
    *,
    swaps: int,
    options: Sequence[str],
    clients: int,
    rate: float,
    report: Callable[[str], None],
    calm_s: float = 1.0,
) -> Outcome:
    """Swap versions under load.

    Args:
        source: The version folder that is published again and again.
        swaps: How many times.
        options: More options of `valence serve`.
        clients: Clients of the load.
        rate: Their requests per second.
        report: Called with a line after every swap.
        calm_s: Seconds between two swaps; five times as long before the first.

    Raises:
        BenchError: A version did not take over in time.
    """
    name = source.parent.name
    with tempfile.TemporaryDirectory(prefix="swaps-") as folder:
        models = Path(folder)
        published = publish(source, models, name, 1)
        bodies = single_bodies(make_texts(512, _SEED), name)
        with (
            serve(models, "onnx", ("--reload-poll-s", "0", *options)) as server,
            load(server.port, bodies, clients=clients, rate=rate) as answers,
        ):
            time.sleep(5 * calm_s)
            times: list[tuple[float, float]] = []
            memory = [_memory(server)]
            for number in range(2, swaps + 2):
                before, published = published, publish(source, models, name, number)
                shutil.rmtree(before)  # it answers until the new one does, then it is released
                began = time.perf_counter()
                _swap(server, answers, number)
                times.append((began, time.perf_counter()))
                time.sleep(calm_s)
                memory.append(_memory(server))
                report(
                    f"version {number} after {times[-1][1] - began:.1f} s, "
                    f"{memory[-1] / 1e6:.1f} MB"
                )
        return Outcome(answers, times, memory)


def _swap(server: Server, answers: Sequence[Answer], number: int) -> None:
    """Let the service look, and wait until a client has seen the version."""
    os.kill(server.pid, signal.SIGHUP)
    deadline = time.perf_counter() + _SWAP_TIMEOUT_S
    while not any(answer.version == number for answer in answers[-100:]):
        if time.perf_counter() > deadline:
            raise BenchError(f"version {number} did not take over within {_SWAP_TIMEOUT_S} s")
        time.sleep(0.02)


def _memory(server: Server) -> int:
    usage = server.usage()
    return usage.resident_bytes if usage is not None else 0


def _complain(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the measurement; returns 1 if a request was lost or mixed."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench.swaps", description=__doc__)
    parser.add_argument("--swaps", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--clients", type=int, default=8, help="clients (default: 8)")
    parser.add_argument("--rate", type=float, default=200, help="requests/s (default: 200)")
    parser.add_argument(
        "--source", type=Path, default=bundled_version("bow"), help="the version folder"
    )
    parser.add_argument("options", nargs="*", help="after --: options of valence serve")
    options = parser.parse_args(arguments)
    try:
        outcome = measure(
            options.source,
            swaps=options.swaps,
            options=options.options or ("--workers", "2"),
            clients=options.clients,
            rate=options.rate,
            report=_complain,
        )
    except BenchError as error:
        _complain(str(error))
        return 1
    before, during = outcome.p99_ms(swapping=False), outcome.p99_ms(swapping=True)
    ratio = during / before if before else 0.0
    say = sys.stdout.write
    say(f"requests: {len(outcome.answers)}, lost: {outcome.lost}, mixed: {outcome.mixed}\n")
    say(f"p99 during swaps: {during:.1f} ms, between: {before:.1f} ms, {ratio:.2f} times\n")
    say(f"memory: {outcome.memory_growth:+.1%} over {options.swaps} swaps\n")
    return 1 if outcome.lost or outcome.mixed else 0


if __name__ == "__main__":
    sys.exit(main())
