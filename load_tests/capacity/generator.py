"""The load generator in a process of its own, on cores of its own where there are any.

    python -m load_tests.capacity.generator FILE_OF_REQUESTS

Reads a line of JSON for each load from standard input, and writes one for each result.
"""

import contextlib
import gc
import itertools
import json
import os
import subprocess
import sys
from array import array
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from load_tests.answers import server_timing
from load_tests.bench.errors import BenchError
from load_tests.bench.machine import ROOT
from load_tests.bench.open_loop import Answers, run
from load_tests.capacity.workload import read_requests

_CONNECTIONS: Final = 32
_NICENESS: Final = -10
"""A generator that waits for its core sends late. Needs a privilege; without it, the lag tells."""
_AUTOGROUP: Final = Path("/proc/self/autogroup")
"""Where the kernel schedules sessions instead of processes, the niceness of this one counts."""
_loads: Final = itertools.count(1)
"""Numbers the loads of this process: each has times and an order of its own."""


@dataclass(slots=True)
class Observed:
    """What generators have seen of one load.

    Attributes:
        seconds: The duration of the load.
        sent: The number of requests.
        failed: Answers with another status than 200, by status; 0 stands for a lost one.
        latencies_ms: Of the answers with status 200, from when the request was due.
        lags_ms: For each request, how long after that it was sent.
        stages_ms: The durations in `Server-Timing`, by name, in the order of the latencies.
        cpu_s: The processor time of the generators.
        span_s: From the start of the warm-up to the last answer, or to the end of the load.
    """

    seconds: float
    sent: int = 0
    failed: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    lags_ms: list[float] = field(default_factory=list)
    stages_ms: dict[str, list[float]] = field(default_factory=dict)
    cpu_s: float = 0.0
    span_s: float = 0.0

    def add(self, other: "Observed") -> None:
        """Add what another generator has seen of the same load."""
        self.span_s = max(self.span_s, other.span_s)
        self.sent += other.sent
        self.failed += other.failed
        self.latencies_ms += other.latencies_ms
        self.lags_ms += other.lags_ms
        self.cpu_s += other.cpu_s
        for name, values in other.stages_ms.items():
            self.stages_ms.setdefault(name, []).extend(values)


class Generators:
    """A context manager that runs generators, each with an equal part of every load.

    Args:
        requests: The file of requests.
        cores: For each generator the cores that it may use.

    Attributes:
        count: The number of generators.
    """

    def __init__(self, requests: Path, cores: Sequence[Collection[int]]) -> None:
        self._requests = requests
        self._cores = cores
        self.count = len(cores)
        self._stack = ExitStack()
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "Generators":
        with ExitStack() as stack:
            for cores in self._cores:
                with pinned(cores):
                    process = subprocess.Popen(  # noqa: S603 - this interpreter, our module
                        [sys.executable, "-m", __name__, str(self._requests)],
                        cwd=ROOT,
                        text=True,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        start_new_session=True,
                    )
                stack.enter_context(process)
                stack.callback(process.terminate)
                self._processes.append(process)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def run(self, port: int, rate: float, seconds: float, warm_up_s: float) -> Observed:
        """Send requests at a rate, all generators together; returns what they have seen.

        Raises:
            BenchError: A generator has failed.
        """
        load_number = next(_loads)
        for number, process in enumerate(self._processes):
            load = {
                "port": port,
                "rate": rate / len(self._processes),
                "seconds": seconds,
                "warm_up_s": warm_up_s,
                "seed": load_number * len(self._processes) + number,
            }
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            process.stdin.write(json.dumps(load) + "\n")
            process.stdin.flush()
        total = Observed(seconds)
        for process in self._processes:
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            line = process.stdout.readline()
            if not line:
                raise BenchError("a load generator has ended")
            result: dict[str, Any] = json.loads(line)
            if "error" in result:
                raise BenchError(result["error"])
            total.add(_from_json(result))
        return total


@contextlib.contextmanager
def pinned(cores: Collection[int]) -> Any:
    """Let processes that are started in the context run on some cores only; all if none named."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def observe(answers: Answers) -> Observed:
    """Take apart what an open loop has seen."""
    stages: dict[str, list[float]] = {}
    for timing in answers.timings:
        for name, milliseconds in server_timing(timing.decode("latin-1")).items():
            stages.setdefault(name, []).append(milliseconds)
    return Observed(
        seconds=answers.seconds,
        span_s=answers.span_s,
        sent=answers.sent,
        failed=Counter(
            {status: len(found) for status, found in answers.latencies_ms.items() if status != 200}
        ),
        latencies_ms=answers.latencies_ms.get(200, []),
        lags_ms=answers.lags_ms,
        stages_ms=stages,
        cpu_s=answers.cpu_s,
    )


def _to_json(seen: Observed) -> dict[str, Any]:
    return {
        "seconds": seen.seconds,
        "span_s": seen.span_s,
        "sent": seen.sent,
        "failed": seen.failed,
        "cpu_s": seen.cpu_s,
        "latencies_ms": _pack(seen.latencies_ms),
        "lags_ms": _pack(seen.lags_ms),
        "stages_ms": {name: _pack(values) for name, values in seen.stages_ms.items()},
    }


def _from_json(result: dict[str, Any]) -> Observed:
    return Observed(
        seconds=result["seconds"],
        span_s=result["span_s"],
        sent=result["sent"],
        failed=Counter({int(status): count for status, count in result["failed"].items()}),
        latencies_ms=_unpack(result["latencies_ms"]),
        lags_ms=_unpack(result["lags_ms"]),
        stages_ms={name: _unpack(values) for name, values in result["stages_ms"].items()},
        cpu_s=result["cpu_s"],
    )


def _pack(values: Sequence[float]) -> str:
    """Four bytes each, in hexadecimal: a fifth of the time of JSON."""
    return array("f", values).tobytes().hex()


def _unpack(packed: str) -> list[float]:
    return array("f", bytes.fromhex(packed)).tolist()


def main() -> None:
    """Serve loads until standard input ends."""
    requests = read_requests(Path(sys.argv[1]))
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
        _AUTOGROUP.write_text(f"{_NICENESS}", encoding="ascii")
    gc.freeze()
    for line in sys.stdin:
        load = json.loads(line)
        gc.disable()  # a collection would make requests late
        try:
            answers = run(requests=requests, connections=_CONNECTIONS, shuffled=True, **load)
            result = _to_json(observe(answers))
        except BenchError as error:
            result = {"error": str(error)}
        gc.enable()
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
