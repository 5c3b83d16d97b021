"""Lines, figures and the cores of workers, without processes."""

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.errors import InvalidInput
from app.main import divide_cores
from app.settings import Settings
from app.workers import WorkerState, can_fork_workers
from app.workers.figures import Figures
from app.workers.link import Duties, Link
from app.workers.messages import MAX_MESSAGE_BYTES, hear, make_line, tell
from app.workers.pulse import Pulse

needs_lines = pytest.mark.skipif(not can_fork_workers(), reason="there are no such lines here")

READY = WorkerState("ready", ready=True, reason="")
STARTING = WorkerState("starting", ready=False, reason="a worker is starting")


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A line, and its two ends."""
    ends = make_line()
    yield ends
    for end in ends:
        end.close()


@needs_lines
def test_messages_stay_apart(line: tuple[socket.socket, socket.socket]) -> None:
    """What was told comes whole, in order, and not joined to what follows."""
    here, there = line
    assert tell(here, report=1)
    assert tell(here, states=["x" * 100_000])
    assert [hear(there), hear(there)] == [{"report": 1}, {"states": ["x" * 100_000]}]
    with pytest.raises(BlockingIOError):
        hear(there)


@needs_lines
def test_message_that_is_too_long(line: tuple[socket.socket, socket.socket]) -> None:
    """What could not be heard whole is not sent."""
    one, other = line
    assert not tell(one, words="x" * MAX_MESSAGE_BYTES)
    with pytest.raises(BlockingIOError):
        hear(other)


def test_other_side_that_is_gone(line: tuple[socket.socket, socket.socket]) -> None:
    """Nobody can be told anything when the other side is gone, and who listens learns it."""
    here, there = line
    there.close()
    assert not tell(here, drain=True)
    assert hear(here) is None


@needs_lines
def test_other_side_that_does_not_listen(line: tuple[socket.socket, socket.socket]) -> None:
    """A message for somebody who has not listened for long is lost; the sender does not wait."""
    here, _ = line
    while tell(here, figures="x" * 100_000):
        pass


class Sum:
    """Figures that are one number: counts, of which nothing is forgotten but what is below 1."""

    def merge(self, figures: Any) -> Any:
        return sum(figures)

    def remains(self, figures: Any) -> Any:
        return int(figures)


class Office:
    """The figures of two workers, whose lines are in our hands."""

    def __init__(self) -> None:
        lines = {number: make_line() for number in (1, 2)}
        self.figures = Figures(Sum())
        self.ours = {number: ends[0] for number, ends in lines.items()}
        self.theirs = {number: ends[1] for number, ends in lines.items()}

    def ask(self, number: int) -> list[int]:
        """Worker 1 asks; the questions that the workers then hear."""
        self.figures.ask(self.ours, 1, number)
        return [message["report"] for line in self.theirs.values() if (message := hear(line))]

    def close(self) -> None:
        for line in (*self.ours.values(), *self.theirs.values()):
            line.close()


@pytest.fixture
def office() -> Iterator[Office]:
    office = Office()
    yield office
    office.close()


@needs_lines
def test_figures_of_all(office: Office) -> None:
    """Who asks for figures is answered when all have reported, with all of them as one."""
    (question, _) = office.ask(7)
    office.figures.take(1, question, 10)
    with pytest.raises(BlockingIOError):
        hear(office.theirs[1])
    office.figures.take(2, question, 20)
    assert hear(office.theirs[1]) == {"answer": 7, "figures": 30}


@needs_lines
def test_figures_of_the_dead(office: Office) -> None:
    """What a dead worker has counted goes on counting; nobody waits for it."""
    (question, _) = office.ask(7)
    office.figures.take(2, question, 20.5)
    office.figures.take(1, question, 10)
    assert hear(office.theirs[1]) == {"answer": 7, "figures": 30.5}
    (question, _) = office.ask(8)
    office.figures.take(1, question, 11)
    office.figures.bury(2)
    assert hear(office.theirs[1]) == {"answer": 8, "figures": 31}
    assert office.figures.of(2) == 20


@needs_lines
def test_figures_of_the_silent(office: Office) -> None:
    """Of a worker that does not report in time, what it reported last is taken."""
    (question, _) = office.ask(7)
    office.figures.take(2, question, 20)
    office.figures.take(1, question, 10)
    hear(office.theirs[1])
    (question, _) = office.ask(8)
    office.figures.take(1, question, 15)
    office.figures.give_up(question)
    assert hear(office.theirs[1]) == {"answer": 8, "figures": 35}
    office.figures.take(2, question, 25)  # late, and known from now on
    assert office.figures.of(2) == 25


@dataclass
class Worker:
    """A worker of which only the link is there, and the supervisor's ends of its lines."""

    adopted: list[socket.socket] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.control, its_control = make_line()
        self.connections, its_connections = make_line()
        self.its_ends = (its_control, its_connections)
        self.pulse = Pulse()
        self.link = Link(1, its_control, its_connections, self.pulse, states=[STARTING] * 2)

    def open(self) -> None:
        self.link.open(
            Duties(
                adopt=self.adopted.append,
                report=lambda: 5,
                drain=lambda: self.told.append("drain"),
                stop=lambda: self.told.append(f"stop with {len(self.adopted)}"),
            )
        )

    def hand_over(self, count: int) -> None:
        """Hand connections to the worker, as the supervisor does."""
        for _ in range(count):
            ours, its = socket.socketpair()
            socket.send_fds(self.connections, [b"c"], [its.fileno()])
            for end in (ours, its):
                end.close()

    def close(self) -> None:
        for end in (self.control, self.connections, *self.its_ends, *self.adopted):
            end.close()


@pytest.fixture
async def worker() -> Any:
    """A worker that listens to its supervisor."""
    worker = Worker()
    worker.open()
    yield worker
    loop = asyncio.get_running_loop()
    for end in worker.its_ends:
        loop.remove_reader(end.fileno())
    worker.close()


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 it comes over a socket
        await asyncio.sleep(0)


@needs_lines
@pytest.mark.anyio
async def test_link_takes_connections(worker: Worker) -> None:
    """A worker serves what it is handed."""
    worker.hand_over(40)
    await until(lambda: len(worker.adopted) == 40)
    assert not any(connection.getblocking() for connection in worker.adopted)


@needs_lines
@pytest.mark.anyio
@pytest.mark.parametrize("gone", [False, True])
async def test_link_stops(worker: Worker, *, gone: bool) -> None:
    """Told to stop, or without a supervisor, a worker first takes what it was handed before."""
    worker.hand_over(40)
    if gone:
        worker.control.close()
        worker.connections.close()
    else:
        tell(worker.control, stop=True)
    await until(lambda: worker.told)
    assert worker.told == ["stop with 40"]


@needs_lines
@pytest.mark.anyio
async def test_link_without_descriptors(worker: Worker) -> None:
    """A connection for which the worker has no descriptor left counts as one that has ended."""
    worker.connections.send(b"c")
    await until(lambda: worker.pulse.closed == 1)
    assert worker.adopted == []


@needs_lines
@pytest.mark.anyio
async def test_link_hears(worker: Worker) -> None:
    """A worker knows how the others stand, drains when it is told to, and reports."""
    tell(worker.control, states=[{"phase": "ready", "ready": True, "reason": ""}] * 2)
    tell(worker.control, report=3)
    tell(worker.control, drain=True)
    await until(lambda: worker.told)
    assert (worker.link.states, worker.told) == ([READY, READY], ["drain"])
    assert hear(worker.control) == {"report": 3, "figures": 5}


@needs_lines
@pytest.mark.anyio
async def test_link_gathers(worker: Worker) -> None:
    """Who asks gets the answer to its own question."""
    first = asyncio.ensure_future(worker.link.gather())
    second = asyncio.ensure_future(worker.link.gather())
    await asyncio.sleep(0)
    questions = [message["question"] for _ in "12" if (message := hear(worker.control))]
    for number in reversed(questions):
        tell(worker.control, answer=number, figures=f"to {number}")
    assert [await first, await second] == [[f"to {number}"] for number in questions]


@needs_lines
@pytest.mark.anyio
async def test_link_gathers_alone(worker: Worker) -> None:
    """Without a supervisor a worker tells its own figures."""
    worker.control.close()
    assert await worker.link.gather() == [5]


@pytest.mark.parametrize(
    ("given", "cores", "shared_out"),
    [
        ({}, 4, (4, 1)),
        ({}, 1, (1, 1)),
        ({"threads": 2}, 4, (2, 2)),
        ({"threads": 3}, 2, (1, 3)),
        ({"workers": 2}, 4, (2, 2)),
        ({"workers": 1}, 4, (1, 4)),
        ({"workers": 3}, 2, (3, 1)),
        ({"workers": 3, "threads": 2}, 2, (3, 2)),
        ({"engine": "tensorflow"}, 4, (1, 4)),
        ({"engine": "tensorflow", "workers": 2}, 4, (2, 2)),
    ],
)
def test_cores_are_shared_out(
    given: dict[str, Any], cores: int, shared_out: tuple[int, int]
) -> None:
    """On ONNX Runtime a worker for each core, else one; what is asked for holds."""
    settings = Settings(**({"engine": "onnx"} | given))
    settled = divide_cores(settings, count_cores=lambda: cores, can_fork=lambda: True)
    assert (settled.workers, settled.threads) == shared_out


def test_models_for_tensorflow_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no version has a graph for ONNX Runtime there is one worker."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    settings = Settings(models_dir=tmp_path)
    assert divide_cores(settings, count_cores=lambda: 4, can_fork=lambda: True).workers == 1


def test_system_without_workers() -> None:
    """Where workers cannot be, there is one process, and asking for more is refused."""
    alone = divide_cores(Settings(engine="onnx"), count_cores=lambda: 4, can_fork=lambda: False)
    assert (alone.workers, alone.threads) == (1, 4)
    with pytest.raises(InvalidInput, match=r"WORKERS must be 0 or 1 on this system. Received: 2"):
        divide_cores(Settings(workers=2), can_fork=lambda: False)
