import json
from collections import Counter
from collections.abc import Iterator

import pytest

from load_tests.bench.bundled import Bundled
from load_tests.bench.errors import BenchError
from load_tests.bench.load import Load, Outcome
from tests.answering import Answering, answering


@pytest.fixture
def server() -> Iterator[Answering]:
    """A server whose answers depend on the texts."""
    with answering() as server:
        yield server


def bodies(*texts: str) -> list[bytes]:
    return [json.dumps({"text": text}).encode() for text in texts]


def send_once(server: Answering, *texts: str, connections: int = 2) -> Outcome:
    load = Load(server.port, bodies(*texts), connections, seconds=10)
    return Bundled(each_once=True).run(load)


def test_each_once(server: Answering) -> None:
    """Every body is sent once; each answer is returned with its position."""
    texts = [f"text number {number}" for number in range(50)]
    outcome = send_once(server, *texts, connections=7)
    assert (outcome.answered, outcome.errors) == (50, {})
    assert sorted(outcome.sample) == list(enumerate(bodies(*texts)))
    assert sorted(server.bodies) == sorted(bodies(*texts))
    assert server.connections == 7


def test_for_a_time(server: Answering) -> None:
    """By default bodies are sent repeatedly and in order until the time is up."""
    outcome = Bundled().run(Load(server.port, bodies("a", "b", "c"), 3, seconds=1))
    assert outcome.answered > 3
    assert outcome.errors == {}
    assert 0 < outcome.p50_ms <= outcome.p99_ms
    sent = Counter(server.bodies)
    assert max(sent.values()) - min(sent.values()) <= 4  # up to three in flight
    assert all(answer == bodies("a", "b", "c")[index] for index, answer in outcome.sample)


def test_other_statuses(server: Answering) -> None:
    """An answer with another status counts as an error of that status."""
    outcome = send_once(server, "good", "503", "429", "503")
    assert outcome.answered == 1
    assert outcome.errors == {"status 503": 2, "status 429": 1}


def test_lost_connections(server: Answering) -> None:
    """A connection that ends without an answer is an error, and is replaced."""
    outcome = send_once(server, "good", "lost", "good", "lost", "good", connections=1)
    assert outcome.answered == 3
    assert outcome.errors == {"connection lost": 2}
    assert server.connections == 3


def test_closed_connections(server: Answering) -> None:
    """A server may close a connection after an answer; that is no error."""
    outcome = send_once(server, "close", "close", "good", connections=1)
    assert (outcome.answered, outcome.errors) == (3, {})


def test_odd_answers(server: Answering) -> None:
    """An answer without Content-Length is an error."""
    outcome = send_once(server, "odd", "good")
    assert outcome.answered == 1
    assert outcome.errors == {"no status or Content-Length": 1}


def test_no_server(server: Answering) -> None:
    """A load on a port without a server ends the benchmark."""
    with pytest.raises(BenchError, match="no connection"):
        Bundled().run(Load(1, bodies("good"), 1, seconds=1))
