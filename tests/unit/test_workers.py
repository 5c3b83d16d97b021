"""Channels, metrics and cores of workers, without processes."""

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.workers import WorkerState, can_fork_workers
from app.workers.collector import MetricsCollector
from app.workers.heartbeat import Heartbeat
from app.workers.link import Callbacks, Link
from app.workers.messages import MAX_MESSAGE_BYTES, make_channel, receive, send

needs_channels = pytest.mark.skipif(not can_fork_workers(), reason="needs Linux socket pairs")

READY = WorkerState("ready", ready=True, reason="")
STARTING = WorkerState("starting", ready=False, reason="a worker is starting")


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a channel."""
    ends = make_channel()
    yield ends
    for end in ends:
        end.close()


@needs_channels
def test_messages_stay_apart(channel: tuple[socket.socket, socket.socket]) -> None:
    """Messages arrive whole, in order and one at a time."""
    here, there = channel
    assert send(here, collect=1)
    assert send(here, states=["x" * 100_000])
    assert [receive(there), receive(there)] == [{"collect": 1}, {"states": ["x" * 100_000]}]
    with pytest.raises(BlockingIOError):
        receive(there)


@needs_channels
def test_message_that_is_too_long(channel: tuple[socket.socket, socket.socket]) -> None:
    """A message over the limit is not sent at all."""
    here, there = channel
    assert not send(here, metrics="x" * MAX_MESSAGE_BYTES)
    with pytest.raises(BlockingIOError):
        receive(there)


@needs_channels
def test_closed_channel(channel: tuple[socket.socket, socket.socket]) -> None:
    """When the other end is closed, sending fails and receiving returns None."""
    here, there = channel
    there.close()
    assert not send(here, drain=True)
    assert receive(here) is None


@needs_channels
def test_full_channel(channel: tuple[socket.socket, socket.socket]) -> None:
    """A message that does not fit into the buffer is dropped; the sender does not wait."""
    here, _ = channel
    while send(here, metrics="x" * 100_000):
        pass


class Sum:
    """Snapshots are numbers; the fraction stands for what does not count after the end."""

    def merge(self, snapshots: Any) -> Any:
        return sum(snapshots)

    def remains(self, snapshot: Any) -> Any:
        return int(snapshot)


class Collecting:
    """A collector, and both ends of its channels to two workers."""

    def __init__(self) -> None:
        channels = {number: make_channel() for number in (1, 2)}
        self.collector = MetricsCollector(Sum())
        self.ours = {number: ends[0] for number, ends in channels.items()}
        self.theirs = {number: ends[1] for number, ends in channels.items()}

    def start(self, request: int) -> int:
        """Worker 1 asks for the metrics of all; the identifier that both workers receive."""
        identifier = self.collector.start(self.ours, 1, request)
        for channel in self.theirs.values():
            assert receive(channel) == {"take_snapshot": identifier}
        return identifier

    def close(self) -> None:
        for channel in (*self.ours.values(), *self.theirs.values()):
            channel.close()


@pytest.fixture
def collecting() -> Iterator[Collecting]:
    collecting = Collecting()
    yield collecting
    collecting.close()


@needs_channels
def test_metrics_of_all(collecting: Collecting) -> None:
    """A request for metrics is answered when all workers have sent theirs, with all merged."""
    identifier = collecting.start(7)
    collecting.collector.add(1, identifier, 10)
    with pytest.raises(BlockingIOError):
        receive(collecting.theirs[1])
    collecting.collector.add(2, identifier, 20)
    assert receive(collecting.theirs[1]) == {"merged": 7, "metrics": 30}


@needs_channels
def test_metrics_of_a_dead_worker(collecting: Collecting) -> None:
    """The counters of a dead worker keep counting; no request waits for it."""
    identifier = collecting.start(7)
    collecting.collector.add(2, identifier, 20.5)
    collecting.collector.add(1, identifier, 10)
    assert receive(collecting.theirs[1]) == {"merged": 7, "metrics": 30.5}
    identifier = collecting.start(8)
    collecting.collector.add(1, identifier, 11)
    collecting.collector.remove(2)
    assert receive(collecting.theirs[1]) == {"merged": 8, "metrics": 31}
    assert collecting.collector.last_snapshot(2) == 20


@needs_channels
def test_metrics_of_a_silent_worker(collecting: Collecting) -> None:
    """For a worker that does not respond in time its last snapshot is used."""
    identifier = collecting.start(7)
    collecting.collector.add(2, identifier, 20)
    collecting.collector.add(1, identifier, 10)
    receive(collecting.theirs[1])
    identifier = collecting.start(8)
    collecting.collector.add(1, identifier, 15)
    collecting.collector.finish(identifier)
    assert receive(collecting.theirs[1]) == {"merged": 8, "metrics": 35}
    collecting.collector.add(2, identifier, 25)  # too late for this request
    assert collecting.collector.last_snapshot(2) == 25


@dataclass
class Worker:
    """The link of a worker, without its process, and the supervisor's ends of its channels."""

    adopted: list[socket.socket] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.control, its_control = make_channel()
        self.connections, its_connections = make_channel()
        self.its_ends = (its_control, its_connections)
        self.heartbeat = Heartbeat()
        self.link = Link(1, its_control, its_connections, self.heartbeat, states=[STARTING] * 2)

    def open(self) -> None:
        self.link.open(
            Callbacks(
                adopt=self.adopted.append,
                snapshot=lambda: 5,
                drain=lambda: self.told.append("drain"),
                stop=lambda: self.told.append(f"stop with {len(self.adopted)}"),
                obey=lambda message: self.told.append(f"obey {message['serving']}"),
            )
        )

    def dispatch(self, count: int) -> None:
        """Send connections to the worker, as the supervisor does."""
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
    """A worker with an open link."""
    worker = Worker()
    worker.open()
    yield worker
    loop = asyncio.get_running_loop()
    for end in worker.its_ends:
        loop.remove_reader(end.fileno())
    worker.close()


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 what it waits for arrives through a socket
        await asyncio.sleep(0)


@needs_channels
@pytest.mark.anyio
async def test_link_takes_connections(worker: Worker) -> None:
    """A worker serves the connections that are dispatched to it."""
    worker.dispatch(40)
    await until(lambda: len(worker.adopted) == 40)
    assert not any(connection.getblocking() for connection in worker.adopted)


@needs_channels
@pytest.mark.anyio
@pytest.mark.parametrize("gone", [False, True])
async def test_link_stops(worker: Worker, *, gone: bool) -> None:
    """Before a worker stops, it takes the connections that were dispatched to it."""
    worker.dispatch(40)
    if gone:
        worker.control.close()
        worker.connections.close()
    else:
        send(worker.control, stop=True)
    await until(lambda: worker.told)
    assert worker.told == ["stop with 40"]


@needs_channels
@pytest.mark.anyio
async def test_link_without_descriptors(worker: Worker) -> None:
    """A connection for which the worker has no file descriptor left counts as closed."""
    worker.connections.send(b"c")
    await until(lambda: worker.heartbeat.closed_connections == 1)
    assert worker.adopted == []


@needs_channels
@pytest.mark.anyio
async def test_link_receives(worker: Worker) -> None:
    """A worker receives the states of all, obeys, drains when told to, and sends its metrics."""
    send(worker.control, states=[{"phase": "ready", "ready": True, "reason": ""}] * 2)
    send(worker.control, take_snapshot=3)
    send(worker.control, agree={"serving": 4})
    send(worker.control, drain=True)
    await until(lambda: "drain" in worker.told)
    assert (worker.link.states, worker.told) == ([READY, READY], ["obey 4", "drain"])
    assert receive(worker.control) == {"snapshot": 3, "metrics": 5}


@needs_channels
@pytest.mark.anyio
async def test_link_receives_all_at_once(worker: Worker) -> None:
    """All messages that have arrived are handled before the next request is read."""
    for phase in (*["warming"] * 20, "ready"):
        send(worker.control, states=[{"phase": phase, "ready": phase == "ready", "reason": ""}])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert worker.link.states == [READY]


@needs_channels
@pytest.mark.anyio
async def test_link_gathers(worker: Worker) -> None:
    """Each request for metrics gets the reply to itself, in whatever order replies arrive."""
    first = asyncio.ensure_future(worker.link.gather())
    second = asyncio.ensure_future(worker.link.gather())
    await asyncio.sleep(0)
    requests = [message["collect"] for _ in "12" if (message := receive(worker.control))]
    for request in reversed(requests):
        send(worker.control, merged=request, metrics=f"to {request}")
    assert [await first, await second] == [[f"to {request}"] for request in requests]


@needs_channels
@pytest.mark.anyio
async def test_link_gathers_alone(worker: Worker) -> None:
    """Without a supervisor a worker returns its own metrics."""
    worker.control.close()
    assert await worker.link.gather() == [5]
