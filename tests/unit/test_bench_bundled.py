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
    """A server that does as the texts say."""
    with answering() as server:
        yield server


def bodies(*texts: str) -> list[bytes]:
    return [json.dumps({"text": text}).encode() for text in texts]


def send_once(server: Answering, *texts: str, connections: int = 2) -> Outcome:
    load = Load(server.port, bodies(*texts), connections, seconds=10)
    return Bundled(each_once=True).run(load)


def test_each_once(server: Answering) -> None:
    """Every body is sent once; its answer comes back with its position."""
    texts = [f"text number {number}" for number in range(50)]
    outcome = send_once(server, *texts, connections=7)
    assert (outcome.answered, outcome.errors) == (50, {})
    assert sorted(outcome.sample) == list(enumerate(bodies(*texts)))
    assert sorted(server.bodies) == sorted(bodies(*texts))
    assert server.connections == 7


def test_for_a_time(server: Answering) -> None:
    """Without a count, bodies are sent in turn until the time is up; latencies are in order."""
    outcome = Bundled().run(Load(server.port, bodies("a", "b", "c"), 3, seconds=1))
    assert outcome.answered > 3
    assert outcome.errors == {}
    assert 0 < outcome.p50_ms <= outcome.p99_ms
    sent = Counter(server.bodies)
    assert max(sent.values()) - min(sent.values()) <= 4  # three were on their way
    assert all(answer == bodies("a", "b", "c")[index] for index, answer in outcome.sample)


def test_other_statuses(server: Answering) -> None:
    """An answer with another status is an error by that name, and no answer."""
    outcome = send_once(server, "good", "503", "429", "503")
    assert outcome.answered == 1
    assert outcome.errors == {"status 503": 2, "status 429": 1}


def test_lost_connections(server: Answering) -> None:
    """A connection that ends unanswered is an error, and another takes its place."""
    outcome = send_once(server, "good", "lost", "good", "lost", "good", connections=1)
    assert outcome.answered == 3
    assert outcome.errors == {"the connection was lost": 2}
    assert server.connections == 3


def test_closed_connections(server: Answering) -> None:
    """A server may close after an answer: nothing was lost."""
    outcome = send_once(server, "close", "close", "good", connections=1)
    assert (outcome.answered, outcome.errors) == (3, {})


def test_odd_answers(server: Answering) -> None:
    """An answer that does not tell its length is an error."""
    outcome = send_once(server, "odd", "good")
    assert outcome.answered == 1
    assert outcome.errors == {"an answer without status or Content-Length": 1}


def test_nobody_there(server: Answering) -> None:
    """Where nobody listens, nothing was measured."""
    with pytest.raises(BenchError, match="no connection"):
        Bundled().run(Load(1, bodies("good"), 1, seconds=1))
