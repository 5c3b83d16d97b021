"""The verdict of a soak, its truth, and its clients against a server that misbehaves."""

import os
import random
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from load_tests.soak.__main__ import publish_all
from load_tests.soak.clients import KINDS, Client, World
from load_tests.soak.faults import children_of, ports_of
from load_tests.soak.report import draw, write_csv
from load_tests.soak.truth import Line, Question, Truth
from load_tests.soak.verdict import (
    EXCUSED,
    FAULTS,
    Ledger,
    Outcome,
    Sample,
    describe,
    growth,
    judge,
    summarize,
)
from load_tests.wire import BrokenConnectionError, Connection

CALM = Sample(0, 100, 200, threads=10, descriptors=40, processes=3)
GOOD = Outcome(
    before=CALM,
    samples=[replace(CALM, at_s=at, answers=50, p50_ms=2, p99_ms=9) for at in range(1, 601)],
    after=CALM,
    counts=Counter({EXCUSED: 7}),
    answered=3000,
    events=[(5.0, "kill -9"), (7.0, "reload")],
)


def test_good_soak() -> None:
    """Without faults nothing is broken; what a kill has lost is said, and excused."""
    assert judge(GOOD) == []
    text = describe(GOOD)
    assert "lost to kills: 7" in text
    assert "1 kill -9, 1 reload" in text
    assert text.endswith("All promises were kept.\n")


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_breaks_a_promise(fault: str) -> None:
    """One fault of any kind is enough."""
    assert judge(replace(GOOD, counts=Counter({fault: 1}))) == [f"1 {FAULTS[fault]}"]


def rising(share: float) -> Outcome:
    """A soak whose memory grows by a share over its last half."""
    sizes = [round(10**6 * (1 + share * second / 299)) for second in range(600)]
    pairs = zip(GOOD.samples, sizes, strict=True)
    return replace(GOOD, samples=[replace(sample, pss_bytes=size) for sample, size in pairs])


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        (rising(0.01), ""),
        (replace(rising(0.05), samples=rising(0.05).samples[:400]), ""),  # too short to tell
        (rising(0.05), "memory grew by"),
        (replace(GOOD, answered=0), "no text was answered"),
        (replace(GOOD, after=replace(CALM, processes=2)), ""),
        (replace(GOOD, after=replace(CALM, processes=4)), "4 processes at the end, 3 at the start"),
        (replace(GOOD, after=replace(CALM, threads=99)), "99 threads at the end, 10 at the start"),
        (replace(GOOD, after=replace(CALM, descriptors=44)), ""),
        (replace(GOOD, after=replace(CALM, descriptors=45)), "45 descriptors at the end"),
    ],
)
def test_bounds(outcome: Outcome, sentence: str) -> None:
    """Memory, processes, threads and descriptors have their bounds."""
    broken = judge(outcome)
    assert bool(broken) == bool(sentence)
    assert all(each.startswith(sentence) for each in broken)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], 0),
        ([5], 0),
        ([100] * 1000, 0),
        ([100, 100, 500, 100, 100, 500, 100], 0),  # peaks
        ([100 + 0.1 * n for n in range(1001)], 2 / 3),
    ],
)
def test_growth(values: Sequence[float], expected: float) -> None:
    """Growth is the typical slope, whatever peaks there are."""
    assert growth(values) == pytest.approx(expected, rel=0.02)


def test_latencies() -> None:
    """Each second has the latencies since the one before."""
    ledger = Ledger()
    for latency in (1.0, 2.0, 9.0):
        ledger.count_answer(latency)
    assert summarize(ledger.take_latencies()) == (3, 2.0, 9.0)
    assert summarize(ledger.take_latencies()) == (0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("announced", "answers", "accepted"),
    [
        ([], [1], [True]),
        ([], [2], [False]),
        ([2], [1, 2, 1], [True, True, False]),
        ([2, 1], [2, 1, 1], [True, True, True]),  # rolled back
        ([2, 3], [3, 2], [True, False]),
    ],
)
def test_versions_in_line(
    announced: Sequence[int], answers: Sequence[int], accepted: Sequence[bool]
) -> None:
    """After an answer of a later version, no request that begins gets an earlier one."""
    line = Line(1)
    for version in announced:
        line.announce(version)
    assert [line.accept(line.begin(), version) for version in answers] == accepted


def test_request_in_flight_during_a_switch() -> None:
    """A request that began before the later version answered may get the earlier one."""
    line = Line(1)
    began = line.begin()
    line.announce(2)
    assert line.accept(line.begin(), 2)
    assert line.accept(began, 1)
    assert line.has_arrived()


PREDICTION = b'{"model": "film", "version": 3, "probabilities": {"a": 0.25, "b": 0.75}}'
ONE = Question("film", None, ["superb"], single=True)


def make_truth(version: int = 3) -> Truth:
    return Truth({("film", 1, "superb"): {"a": 0.25, "b": 0.75}}, {("film", None): Line(version)})


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (PREDICTION, ""),
        (PREDICTION.replace(b"0.75", b"0.7500001"), ""),
        (PREDICTION.replace(b"0.75", b"0.7501"), "wrong"),
        (PREDICTION.replace(b"film", b"lstm"), "wrong"),
        (PREDICTION.replace(b": 3", b": 2"), "mixed"),
        (b"{", "wrong"),
        (b"{}", "wrong"),
    ],
)
def test_answers_are_compared(content: bytes, fault: str) -> None:
    """Probabilities within 1e-5, of the version that answers now, or it is a fault."""
    assert make_truth().find_fault(ONE, 0, content) == fault


def test_lists_are_compared() -> None:
    """A list has a prediction for each text, in order, and a problem for an invalid one."""
    asked = Question("film", None, ["superb", ""], single=False)
    right = b'{"probabilities": {"a": 0.25, "b": 0.75}}'
    problem = b'{"error": {"status": 422}}'
    body = b'{"model": "film", "version": 3, "predictions": [%b, %b]}'
    assert make_truth().find_fault(asked, 0, body % (right, problem)) == ""
    assert make_truth().find_fault(asked, 0, body % (problem, right)) == "wrong"


class Scripted:
    """A server that sends the same bytes to whoever has sent a request."""

    def __init__(self, answer: bytes) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        with closing(connection):
            if connection.recv(65536):
                connection.sendall(self._answer)

    def close(self) -> None:
        self._thread.join()
        self.listener.close()


def answer(body: bytes = PREDICTION, status: int = 200, number: int = 1) -> bytes:
    head = b"HTTP/1.1 %d X\r\nX-Request-ID: one-text-0.%d.0\r\nContent-Length: %d\r\n\r\n"
    return head % (status, number, len(body)) + body


@pytest.mark.parametrize(
    ("sent", "killed", "counted"),
    [
        (answer(), False, {}),
        (answer(body=b"{}"), False, {"wrong": 1}),
        (answer(status=500), False, {"error": 1}),
        (answer(status=503), False, {"refused": 1}),
        (answer(status=404), False, {"status": 1}),
        (answer(number=2), False, {"doubled": 1}),
        (answer() + answer(), False, {"doubled": 1}),
        (answer()[:-1], False, {"lost": 1}),
        (b"", False, {"lost": 1}),
        (b"", True, {EXCUSED: 1}),
    ],
    ids=["right", "wrong", "500", "503", "404", "of another", "twice", "cut", "none", "killed"],
)
def test_client_counts_faults(sent: bytes, killed: bool, counted: dict[str, int]) -> None:
    """A client tells right answers from wrong, doubled, lost and excused ones."""
    server = Scripted(sent)
    ledger = Ledger()
    world = World(
        *(server.port, ["superb"], [("film", None)], make_truth(), ledger),
        *(lambda _connection: killed, threading.Event()),
    )
    client = Client(world, "one text", 0, random.Random(1))
    client._turn = 1
    KINDS["one text"](client)
    client.keep()  # it looks for what nobody has asked for
    client.drop()
    server.close()
    assert (dict(ledger.counts), ledger.answered) == (counted, sent[: len(answer())] == answer())


def test_replies_are_told_apart() -> None:
    """Interim responses are dropped; what comes in one piece is read one by one."""
    server = Scripted(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"a") + answer(b"bc"))
    with closing(Connection(server.port)) as connection:
        connection.send(b"x")
        assert [connection.read().body for _ in range(2)] == [b"a", b"bc"]
        with pytest.raises(BrokenConnectionError, match="ended"):
            connection.read()
    server.close()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the system has no /proc")
def test_connections_of_a_process() -> None:
    """The clients of a process are found by their ports."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client, listener.accept()[0]:
            assert ports_of([os.getpid()], port) >= {client.getsockname()[1]}
    assert children_of(os.getpid()) == [] or all(children_of(os.getpid()))


def test_report() -> None:
    """The report has a row for each second, and a picture."""
    table = write_csv(GOOD.samples).splitlines()
    assert (len(table), table[0].split(",")[0]) == (601, "at_s")
    picture: Any = draw(GOOD, "a caption")
    assert picture.startswith(b"\x89PNG")


def test_a_soak_has_its_models(tmp_path: Path) -> None:
    """It serves copies of the newest bundled versions, whatever their numbers are."""
    publish_all(tmp_path)
    found = {
        path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.glob("*/*/manifest.json")
    }
    assert found == {"film/1", "film/2", "lstm/1", "tweets-lstm/1"}
