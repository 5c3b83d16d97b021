"""The designs that are compared, and how each is started."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from load_tests.bench.machine import ROOT
from load_tests.bench.server import Server, serve

_LAUNCHERS: Final = "load_tests.bench.worker_designs.launchers"
_READY: Final = ("the service is ready", "all workers are ready again")


@dataclass(frozen=True, slots=True)
class Design:
    """One way to run several workers.

    Attributes:
        name: A word.
        start: A server with the models of a folder and a number of workers, to be entered.
        tells_once: Whether one line of the log says that all workers are ready; else each worker
            logs one.
        sources: Its own code, relative to the repository.
    """

    name: str
    start: Callable[[Path, int], Server]
    tells_once: bool
    sources: tuple[str, ...]

    def count_ready(self, server: Server, workers: int) -> int:
        """How often all workers became ready: at the start, and after each replacement."""
        events = server.count_events(*_READY)
        return events if self.tells_once else max(events - workers + 1, 0)

    def count_lines(self) -> int:
        """Lines of its code, comments and docstrings included."""
        files = [path for source in self.sources for path in sorted(ROOT.glob(source))]
        return sum(len(path.read_text().splitlines()) for path in files)


def _start_service(models: Path, workers: int) -> Server:
    return serve(models, "onnx", ("--workers", str(workers)))


def _launcher(design: str) -> Callable[[Path, int], Server]:
    def start(models: Path, workers: int) -> Server:
        options = ("--workers", str(workers), "--models-dir", str(models))
        return Server(_LAUNCHERS, design, *options)

    return start


DESIGNS: Final = (
    Design(
        "supervisor",  # `valence serve`: it accepts, and passes connections on
        _start_service,
        tells_once=True,
        sources=("app/server.py", "app/workers/*.py"),
    ),
    Design(
        "uvicorn",  # uvicorn.supervisors.Multiprocess: workers accept from one shared socket
        _launcher("uvicorn"),
        tells_once=False,
        sources=("load_tests/bench/worker_designs/launchers/uvicorn_workers.py",),
    ),
    Design(
        "reuseport",  # SO_REUSEPORT: a socket for each worker, and the kernel chooses
        _launcher("reuseport"),
        tells_once=False,
        sources=(
            "load_tests/bench/worker_designs/launchers/reuseport_workers.py",
            "app/server.py",
        ),
    ),
)
"""The first is what the others are compared with."""
