"""Clients of every kind: most behave, some leave, and some do what HTTP forbids.

Each kind is a function that takes one turn. A turn that opens a connection of its own closes it.
"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from load_tests.soak.truth import Question, Truth
from load_tests.soak.verdict import EXCUSED, Ledger
from load_tests.wire import BrokenConnectionError, Connection, Reply

HEADER_TIMEOUT_S: Final = 3.0
"""What the service is started with."""
_PATIENCE_S: Final = 4.0
"""A sweep a second closes what is past its bound; the rest is for a busy machine."""
_MAX_LIST: Final = 16
_MAX_PIPELINED: Final = 6
_HOST: Final = b"Host: valence\r\n"
_PROBED: Final = ("/livez", "/readyz", "/readyz", "/models", "/metrics", "/openapi.json")
_REFUSED: Final = frozenset({429, 503, 504})


@dataclass(frozen=True, slots=True)
class World:
    """What all clients share.

    Attributes:
        port: The port of the service.
        texts: What they ask about.
        questions: The pairs of model and alias they ask.
        truth: The right answers.
        ledger: Where they count.
        was_killed: Whether the worker of a connection was killed.
        stop: Set when it is over.
    """

    port: int
    texts: Sequence[str]
    questions: Sequence[tuple[str, str | None]]
    truth: Truth
    ledger: Ledger
    was_killed: Callable[[Connection], bool]
    stop: threading.Event


class Client:
    """A thread's worth of turns of one kind.

    Attributes:
        world: As passed in.
        rng: Decides what it does.
        name: Names it in request ids and faults.

    Args:
        world: What all clients share.
        kind: The name of what it does.
        number: Its number among those of its kind.
        rng: Decides what it does.
    """

    def __init__(self, world: World, kind: str, number: int, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.name = f"{kind}-{number}".replace(" ", "-")
        self._kind = kind
        self._turn = 0
        self._kept: Connection | None = None

    def run(self, rate: float) -> None:
        """Take so many turns a second, or as many as there is time for, until all is over."""
        next_at = time.monotonic() + self.rng.random() / rate
        while not self.world.stop.wait(max(0.0, next_at - time.monotonic())):
            next_at = max(next_at + 1 / rate, time.monotonic())
            self._turn += 1
            self.world.ledger.count_turn(self._kind)
            try:
                KINDS[self._kind](self)
            except OSError as error:  # a connection that cannot be opened
                self.world.ledger.count("lost", f"{self.name}: {type(error).__name__}")
        self.drop()

    def open(self) -> Connection:
        """A new connection."""
        return Connection(self.world.port)

    def keep(self) -> Connection:
        """The connection that this client keeps."""
        if self._kept is not None and not self._kept.is_silent():
            self.fault("doubled", "bytes between two requests")
            self.drop()
        if self._kept is None:
            self._kept = self.open()
        return self._kept

    def drop(self) -> None:
        """Close the connection that this client keeps."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def ask(self, *, single: bool = True) -> Question:
        """A question."""
        model, alias = self.rng.choice(self.world.questions)
        count = 1 if single else self.rng.randint(2, _MAX_LIST)
        texts = self.rng.choices(self.world.texts, k=count)
        if not single and self.rng.random() < 0.2:
            texts[self.rng.randrange(count)] = ""
        return Question(model, alias, texts, single)

    def make(self, question: Question, number: int = 0, *, chunked: bool = False) -> bytes:
        """The request of a question; `number` tells it from others of the same turn."""
        body = question.body()
        head = b"POST /predict HTTP/1.1\r\n" + _HOST
        head += f"X-Request-ID: {self.id_of(number)}\r\n".encode()
        if not chunked:
            return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        cut = self.rng.randrange(1, len(body))
        pieces = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[:cut], body[cut:]))
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"

    def id_of(self, number: int = 0) -> str:
        """The id of a request of this turn."""
        return f"{self.name}.{self._turn}.{number}"

    def lose(self, connection: Connection, error: Exception, what: str) -> None:
        """Count a complete request that got no answer."""
        if self.world.was_killed(connection):
            self.world.ledger.count(EXCUSED, "")
        else:
            self.fault("lost", f"{what}: {error}")

    def fault(self, kind: str, what: str) -> None:
        """Count a fault."""
        self.world.ledger.count(kind, f"{self.id_of()}: {what}")

    def check(
        self, reply: Reply, question: Question, began: int, sent_at: float, number: int = 0
    ) -> None:
        """Check the answer to a question that was asked at a time."""
        latency_ms = (time.monotonic() - sent_at) * 1e3
        if reply.request_id != self.id_of(number):
            self.fault("doubled", f"the answer to {reply.request_id}")
        elif reply.status != 200:
            kind = "error" if reply.status == 500 else "status"
            kind = "refused" if reply.status in _REFUSED else kind
            self.fault(kind, f"{reply.status} {reply.body[:200]!r}")
        elif fault := self.world.truth.find_fault(question, began, reply.body):
            self.fault(fault, f"{question.model} {question.alias} {len(question.texts)} texts")
        else:
            self.world.ledger.count_answer(latency_ms)

    def exchange(
        self, connection: Connection, questions: Sequence[Question], pieces: Sequence[bytes]
    ) -> bool:
        """Send requests in pieces, and read their answers in order; returns whether it goes on."""
        began = [self.world.truth.begin(question) for question in questions]
        number = 0
        try:
            for piece in pieces:
                connection.send(piece)
            sent_at = time.monotonic()
            for number, question in enumerate(questions):
                reply = connection.read()
                self.check(reply, question, began[number], sent_at, number)
        except BrokenConnectionError as error:
            for _ in questions[number:]:
                self.lose(connection, error, f"{len(pieces)} pieces")
            return False
        return not reply.closes


def ask_one(client: Client) -> None:
    """Ask about one text on a connection that is kept."""
    question = client.ask()
    if not client.exchange(client.keep(), [question], [client.make(question)]):
        client.drop()


def ask_list(client: Client) -> None:
    """Ask about a list of texts, some with an invalid one."""
    question = client.ask(single=False)
    chunked = client.rng.random() < 0.3
    if not client.exchange(client.keep(), [question], [client.make(question, chunked=chunked)]):
        client.drop()


def pipeline(client: Client) -> None:
    """Send several requests in one write."""
    count = client.rng.randint(2, _MAX_PIPELINED)
    questions = [client.ask(single=client.rng.random() < 0.8) for _ in range(count)]
    requests = [client.make(question, number) for number, question in enumerate(questions)]
    if not client.exchange(client.keep(), questions, [b"".join(requests)]):
        client.drop()


def trickle(client: Client) -> None:
    """Send a request slowly, but not too slowly, and wait before reading the answer."""
    question = client.ask(single=False)
    request = client.make(question)
    began = client.world.truth.begin(question)
    size = -(-len(request) // 8)
    with closing(client.open()) as connection:
        try:
            for start in range(0, len(request), size):
                connection.send(request[start : start + size])
                client.world.stop.wait(0.2)
            client.world.stop.wait(0.5)
            sent_at = time.monotonic()
            client.check(connection.read(), question, began, sent_at)
        except BrokenConnectionError as error:
            client.lose(connection, error, "slowly")


def half_close(client: Client) -> None:
    """Close the own side behind a request, and wait for the answer and the end."""
    question = client.ask()
    began = client.world.truth.begin(question)
    sent_at = time.monotonic()
    with closing(client.open()) as connection:
        try:
            connection.send(client.make(question))
            connection.end_sending()
            client.check(connection.read(), question, began, sent_at)
        except BrokenConnectionError as error:
            client.lose(connection, error, "half-closed")
            return
        rest, ended = connection.read_to_end(_PATIENCE_S)
        if rest:
            client.fault("doubled", "behind the last answer")
        elif not ended:
            client.fault("stuck", "half-closed")


def leave(client: Client) -> None:
    """Leave with FIN in the middle of a request, or behind it, without reading the answer."""
    _depart(client, Connection.close)


def reset(client: Client) -> None:
    """The same, with RST."""
    _depart(client, Connection.reset)


def _depart(client: Client, end: Callable[[Connection], None]) -> None:
    request = client.make(client.ask(single=False))
    whole = client.rng.random() < 0.4
    connection = client.open()
    try:
        connection.send(request if whole else request[: client.rng.randrange(len(request))])
        client.world.stop.wait(client.rng.choice((0.0, 0.002, 0.02)))
    except BrokenConnectionError:
        pass  # killed, which is what this client does to itself anyway
    finally:
        end(connection)


def be_silent(client: Client) -> None:
    """Send nothing, or a part of a head, and wait to be cut off."""
    sent = client.rng.choice((b"", b"P", b"POST /predict HTTP/1.1\r\n" + _HOST))
    with closing(client.open()) as connection:
        try:
            connection.send(sent)
        except BrokenConnectionError:
            return
        replies, ended = connection.read_to_end(HEADER_TIMEOUT_S + _PATIENCE_S)
        statuses = [reply.status for reply in replies]
        if client.world.was_killed(connection):
            return
        if not ended:
            client.fault("stuck", f"{len(sent)} bytes of a head")
        elif statuses != ([408] if sent else []):
            client.fault("status", f"{statuses} for {len(sent)} bytes of a head")


def _post(body: bytes, *headers: bytes) -> bytes:
    lines = (b"POST /predict HTTP/1.1\r\n", _HOST, *headers, b"Content-Length: %d\r\n\r\n")
    return b"".join(lines) % len(body) + body


MALFORMED: Final[Mapping[str, tuple[bytes, int]]] = {
    "not HTTP": (b"hello\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    "no host": (b"GET /livez HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /livez HTTP/1.1\r\n" + _HOST + _HOST + b"\r\n", 400),
    "two lengths": (b"POST /predict HTTP/1.1\r\n" + _HOST + b"Content-Length: 2\r\n" * 2, 400),
    "unknown coding": (
        b"POST /predict HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: gzip\r\n\r\n",
        501,
    ),
    "unknown expectation": (_post(b"{}", b"Expect: a-miracle\r\n"), 417),
    "HTTP/3": (b"GET /livez HTTP/3.0\r\n" + _HOST + b"\r\n", 505),
    "long target": (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + _HOST + b"\r\n", 414),
    "large head": (b"GET / HTTP/1.1\r\n" + _HOST + b"X: " + b"x" * 70_000 + b"\r\n\r\n", 431),
    "bad chunk": (
        b"POST /predict HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
        400,
    ),
    "no route": (b"GET /nothing HTTP/1.1\r\n" + _HOST + b"\r\n", 404),
    "wrong method": (b"GET /predict HTTP/1.1\r\n" + _HOST + b"\r\n", 405),
    "not JSON": (_post(b'{"text": '), 400),
    "deep JSON": (_post(b"[" * 50_000), 400),
    "not UTF-8": (_post(b'{"text": "\xff"}'), 400),
    "no text": (_post(b"{}"), 422),
    "blank": (_post(b'{"text": " "}'), 422),
    "surrogate": (_post(rb'{"text": "\ud800"}'), 422),
    "unknown model": (_post(b'{"text": "a", "model": "nobody"}'), 404),
    "unknown version": (_post(b'{"text": "a", "version": 123456789}'), 404),
    "many texts": (_post(b'{"texts": [%b"a"]}' % (b'"a", ' * 1024)), 413),
    "too long": (_post(b'{"text": "%b"}' % (b"a" * 100_001)), 413),
    "too large": (b"POST /predict HTTP/1.1\r\n" + _HOST + b"Content-Length: 99999999\r\n\r\n", 413),
    "deadline": (_post(b'{"text": "a"}', b"X-Request-Timeout-Ms: soon\r\n"), 422),
}
"""Requests that are refused, and the status of each."""


def malform(client: Client) -> None:
    """Send what is refused, with a right question before it, half of the time."""
    what = client.rng.choice(list(MALFORMED))
    request, status = MALFORMED[what]
    question = client.ask()
    with closing(client.open()) as connection:
        try:
            if client.rng.random() < 0.5:
                began, sent_at = client.world.truth.begin(question), time.monotonic()
                connection.send(client.make(question) + request)
                client.check(connection.read(), question, began, sent_at)
            else:
                connection.send(request)
            reply = connection.read()
        except BrokenConnectionError as error:
            client.lose(connection, error, what)
            return
        if reply.status != status:
            client.fault("error" if reply.status == 500 else "status", f"{what}: {reply.status}")


def probe(client: Client) -> None:
    """Ask for what operators and load balancers ask for: always 200, with a worker killed too."""
    path = client.rng.choice(_PROBED)
    connection = client.keep()
    try:
        connection.send(f"GET {path} HTTP/1.1\r\nHost: valence\r\n\r\n".encode())
        reply = connection.read()
    except BrokenConnectionError as error:
        client.lose(connection, error, path)
        client.drop()
        return
    if reply.status != 200:
        client.fault("error" if reply.status == 500 else "status", f"{path}: {reply.status}")
    if reply.closes:
        client.drop()


KINDS: Final[Mapping[str, Callable[[Client], None]]] = {
    "one text": ask_one,
    "list": ask_list,
    "pipelined": pipeline,
    "slow": trickle,
    "half-closed": half_close,
    "leaving": leave,
    "reset": reset,
    "silent": be_silent,
    "malformed": malform,
    "probe": probe,
}
"""What each kind of client does."""

CROWD: Final[Mapping[str, tuple[int, float]]] = {
    "one text": (6, 12.0),
    "list": (2, 4.0),
    "pipelined": (2, 4.0),
    "slow": (3, 1.0),
    "half-closed": (1, 5.0),
    "leaving": (2, 8.0),
    "reset": (2, 8.0),
    "silent": (8, 1.0),
    "malformed": (2, 8.0),
    "probe": (1, 4.0),
}
"""How many clients of each kind there are, and how many turns a second each takes."""
