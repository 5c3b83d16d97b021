"""The measurement of overload: an open loop, and the rows of its report."""

import pytest

from load_tests.bench.open_loop import (
    LOST,
    Answers,
    arrival_times,
    make_requests,
    run,
)
from load_tests.bench.overload import Capacity, describe
from tests.answering import answering


def test_arrivals() -> None:
    """Requests arrive at the mean rate, at the same times for the same seed."""
    times = [*arrival_times(1000, 2, seed=1)]
    assert len(times) == pytest.approx(2000, rel=0.1)
    assert times == sorted(times) == [*arrival_times(1000, 2, seed=1)]


def test_open_loop() -> None:
    """Every request gets its status and latency; a lost connection is an answer of its own."""
    bodies = [b'{"text": "good"}', b'{"text": "429"}', b'{"text": "lost"}']
    with answering() as server:
        answers = run(server.port, make_requests(bodies, 200), rate=300, seconds=0.2)
    assert answers.sent > 30
    assert {status: answers.count(status) > 5 for status in (200, 429, LOST)} == {
        **dict.fromkeys((200, 429, LOST), True)
    }
    assert sum(map(len, answers.latencies_ms.values())) == answers.sent
    assert (answers.quantile_ms(200, 0.5) or 0) > 0


def test_idle_connections_that_the_server_closes() -> None:
    """They are not used again: every request is answered on another one."""
    bodies = [b'{"text": "good"}']
    with answering() as server:
        server.closes = 4
        requests = make_requests(bodies, 200)
        answers = run(server.port, requests, rate=100, seconds=0.3, warm_up_s=0.2, connections=4)
    assert answers.count(200) == answers.sent > 10


def test_row() -> None:
    """A row compares the answers in time with the capacity, and with what the generator leaves."""
    answers = Answers(seconds=2.0, sent=400, cpu_s=1.0)
    for latency in (*[100.0] * 160, 250.0, 350.0):
        answers.add(200, latency)
    answers.add(429, 3.0)
    answers.add(504, 200.0)
    row = describe(2, answers, Capacity(100, idle_cores=2.0), deadline_ms=200, cores=2)
    assert row == [
        *("2", "100", "200", "80", "80%", "107%", "0", "1", "0"),
        *("1", "250", "3", "0.50"),
    ]
