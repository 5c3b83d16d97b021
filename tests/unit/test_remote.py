"""Scoring through a service: what it is asked, and what becomes of every kind of answer."""

import json
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, RemoteDisconnected
from typing import Any, cast

import pytest

from app.errors import InvalidInput, NotReady, Unauthorized, UnknownModel, ValenceError
from app.scoring.remote import RemoteScorer

Answer = tuple[int, dict[str, str], Any] | Exception

PROBED = (200, {}, {"model": "lstm", "version": 2, "probabilities": {"no": 0.1, "yes": 0.9}})


def answer(*positive: float | None) -> Answer:
    """An answer with one prediction for each number; an error for None."""
    predictions = [
        {"error": {"title": "Bad", "detail": "the text is bad"}}
        if number is None
        else {"probabilities": {"yes": number, "no": 1 - number}}
        for number in positive
    ]
    return 200, {}, {"model": "lstm", "version": 2, "predictions": predictions}


class FakeService:
    """Gives one answer after another, and remembers what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.sent: list[dict[str, str]] = []
        self.pauses: list[float] = []
        self.closed = 0

    def connect(self, _timeout: float) -> HTTPConnection:
        return cast(HTTPConnection, self)

    def request(self, _method: str, path: str, body: bytes, headers: dict[str, str]) -> None:
        assert path == "/predict"
        self.sent.append(headers)
        self.asked.append(json.loads(body))
        if isinstance(self.answers[0], Exception):
            raise cast(Exception, self.answers.pop(0))

    def getresponse(self) -> "FakeService":
        received = cast(tuple[int, dict[str, str], Any], self.answers.pop(0))
        self.status, self.headers, self.content = received
        return self

    def read(self) -> bytes:
        return (
            self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()
        )

    def close(self) -> None:
        self.closed += 1

    def pause(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        return False


Scorers = Callable[..., tuple[RemoteScorer, FakeService]]


@pytest.fixture
def start() -> Iterator[Scorers]:
    """Make a scorer whose service gives these answers after that to the first text."""
    found: list[RemoteScorer] = []

    def make(*answers: Answer, **options: Any) -> tuple[RemoteScorer, FakeService]:
        service = FakeService(PROBED, *answers)
        fixed = {"connect": service.connect, "pause": service.pause, "concurrency": 1}
        found.append(RemoteScorer("http://here/", **{**fixed, **options}))
        return found[-1], service

    yield make
    for scorer in found:
        scorer.close()


def refused(status: int, retry_after: str | None = None) -> Answer:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return status, headers, {"detail": "not now"}


def test_all_texts_go_to_the_version_that_answers_first(start: Scorers) -> None:
    """The first answer names the version and the labels; every later request asks for it."""
    scorer, service = start(answer(0.2, 0.7), model=None, version="stable")
    scores = scorer.submit(["bad", "good"]).result()
    assert (scorer.version, scorer.labels) == ("lstm/2", ("no", "yes"))
    assert service.asked[0]["version"] == "stable"
    assert service.asked[1] == {"texts": ["bad", "good"], "model": "lstm", "version": 2}
    assert scores.probabilities.tolist() == [[0.8, 0.2], [pytest.approx(0.3), 0.7]]


def test_the_key_is_sent(start: Scorers) -> None:
    """A key goes with every request, as a bearer token; without one nothing does."""
    for key, expected in (("vk_1", {"Bearer vk_1"}), (None, {None})):
        scorer, service = start(answer(0.7), key=key)
        scorer.submit(["good"]).result()
        assert {sent.get("Authorization") for sent in service.sent} == expected


@pytest.mark.parametrize(
    ("first", "least_pause"),
    [
        (refused(429, "7"), 7.0),
        (refused(503, "3"), 3.0),
        (refused(503), 0.1),
        (refused(504), 0.1),
        (ConnectionResetError("reset"), 0.1),
        (RemoteDisconnected("gone"), 0.1),
        (TimeoutError("timed out"), 0.1),
    ],
)
def test_refused_requests_are_repeated(start: Scorers, first: Answer, least_pause: float) -> None:
    """A refusal or a broken connection costs time and no text; Retry-After is honoured."""
    scorer, service = start(first, first, answer(0.7))
    assert scorer.submit(["good"]).result().errors == {}
    assert service.asked[1] == service.asked[2] == service.asked[3]
    assert len(service.pauses) == 2
    assert min(service.pauses) >= least_pause
    assert service.pauses[1] >= service.pauses[0] * 0.5


def test_patience_ends(start: Scorers) -> None:
    """After the patience a request fails with the last reason, and so does the run."""
    scorer, service = start(*[refused(503)] * 50, patience_s=20.0)
    with pytest.raises(NotReady, match=r"within 20 s, repetitions .* status 503: not now"):
        scorer.submit(["good"]).result()
    assert 10 < sum(service.pauses) <= 20


def test_lists_that_are_too_large_are_halved(start: Scorers) -> None:
    """After 413 the halves are sent; a text that is too large alone has an error."""
    halves = (refused(413), answer(0.1, 0.2), refused(413), answer(0.3), refused(413))
    scorer, service = start(*halves)
    scores = scorer.submit(["a", "b", "c", "d"]).result()
    assert [body["texts"] for body in service.asked[2:]] == [["a", "b"], ["c", "d"], ["c"], ["d"]]
    assert scores.probabilities[:3, 1].tolist() == [0.1, 0.2, 0.3]
    assert scores.errors == {3: "not now"}


def test_a_text_fails_alone(start: Scorers) -> None:
    """The error of one text of a list is that of its row."""
    scorer, _ = start(answer(0.7, None))
    assert scorer.submit(["good", "bad"]).result().errors == {1: "the text is bad"}


@pytest.mark.parametrize(
    ("received", "error", "words"),
    [
        (refused(401), Unauthorized, "must carry one valid key"),
        (refused(404), UnknownModel, "not now"),
        (refused(422), ValenceError, "status 422: not now"),
        (refused(301), ValenceError, "status 301"),
        ((200, {}, b"<html>"), ValenceError, "no JSON object"),
        ((200, {}, {"predictions": []}), ValenceError, "without a prediction for each text"),
        ((200, {}, {"predictions": [{"probabilities": {"a": 1}}]}), ValenceError, "another form"),
    ],
)
def test_other_answers_end_the_run(
    start: Scorers, received: Answer, error: type[Exception], words: str
) -> None:
    """What would not get better is not asked again."""
    scorer, service = start(received)
    with pytest.raises(error, match=words):
        scorer.submit(["good"]).result()
    assert service.pauses == []


@pytest.mark.parametrize(
    "url", ["here:8000", "ftp://here", "http://", "http://a:b@here", "http://here:x"]
)
def test_addresses(url: str) -> None:
    """An address that is none is a wrong call; a password in it would be seen by others."""
    with pytest.raises(InvalidInput, match="must be the address of a service"):
        RemoteScorer(url)
