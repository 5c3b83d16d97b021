"""What must hold for any bytes a client may send, and for any file.

Hypothesis and atheris call the same functions.

Each takes bytes and raises if a rule is broken: `AssertionError`, or whatever the service raised.
"""

import asyncio
import json
import re
from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any, Final

from starlette.types import Message, Receive, Scope, Send

from app.api.body import Limits, PredictCall, parse_predict, parse_timeout_s
from app.api.error_handlers import problem_type_of
from app.api.openinference import DIALECT, InferCall, parse_infer, write_infer
from app.errors import InvalidHTTP, InvalidInput
from app.serving.predictor import Prediction, Result
from tests.door import Door, report_errors
from tests.fuzzing import tables
from tests.fuzzing.tables import check_table

LIMITS: Final = Limits(
    max_text_chars=50, max_texts=5, max_body_bytes=10_000, request_timeout_ms=1000
)

REFUSALS: Final = frozenset({400, 408, 414, 417, 431, 501, 505})
"""The statuses that end a connection before the application is asked."""
_NUMBER, _METHOD = b"x-number", b"x-method"
_RESPONSE: Final = re.compile(
    rb"HTTP/1\.1 ([1-5]\d\d) [A-Za-z -]+\r\n((?:[a-z0-9-]+: [^\r\n]*\r\n)*)\r\n"
)
_MAX_MESSAGE_CHARS: Final = 300
_MAX_PIECES: Final = 8
_TURNS: Final = 12


def check_body(data: bytes) -> None:
    """A body is parsed, or is refused with an error of the tree that quotes nothing of it."""
    refusal: InvalidInput | None = None
    try:
        call = parse_predict(data, LIMITS)
    except InvalidInput as error:
        refusal = error
    if refusal is None:
        _check_call(call, data)
    else:
        assert not isinstance(refusal, InvalidHTTP)
        assert len(str(refusal)) < _MAX_MESSAGE_CHARS


def _check_call(call: PredictCall, data: bytes) -> None:
    body = json.loads(data)
    texts = [body["text"]] if call.single else body["texts"]
    valid = [text for index, text in enumerate(texts) if index not in call.invalid]
    assert call.texts == valid
    assert len(texts) <= LIMITS.max_texts
    assert all(0 < len(text) <= LIMITS.max_text_chars and text.strip() for text in call.texts)
    for text in call.texts:
        text.encode("utf-8")
    assert call.version is None or isinstance(call.version, int | str)


def check_timeout(data: bytes) -> None:
    """A deadline is within its bounds, or is refused."""
    try:
        seconds = parse_timeout_s(data, LIMITS)
    except InvalidInput:
        return
    assert 0 < seconds <= LIMITS.request_timeout_ms / 1e3


def check_framing(data: bytes) -> None:
    """Whatever comes on a connection, and in whatever pieces, the answers are HTTP and in order.

    The first byte says in how many pieces the others come. Each request has one answer, in the
    order of the requests; at most one refusal comes behind them, and ends the connection. Nothing
    stays of the connection when it has ended, and no status is 500.
    """
    if not data:
        return
    count, rest = 1 + data[0] % _MAX_PIECES, data[1:]
    size = -(-len(rest) // count) or 1
    pieces = [rest[start : start + size] for start in range(0, len(rest), size)]
    _loop().run_until_complete(_check_pieces(pieces))


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One event loop for all calls: making one takes longer than a call."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(_note_error)
    return loop


_errors: list[str] = []


def _note_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    _errors.append(f"{context['message']}: {context.get('exception')!r}")


class _Application:
    """Numbers its answers in the order in which it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        number = self.asked
        self.asked += 1

        async def send_numbered(message: Message) -> None:
            if message["type"] == "http.response.start":
                mark = (_NUMBER, b"%d" % number), (_METHOD, scope["method"].encode())
                message["headers"] = [*message["headers"], *mark]
            await send(message)

        await report_errors(scope, receive, send_numbered)


@cache
def _door() -> tuple[Door, _Application]:
    """One door for all calls."""
    application = _Application()
    return Door(application), application


async def _check_pieces(pieces: Sequence[bytes]) -> None:
    door, application = _door()
    application.asked = 0
    client = door.connect()
    for piece in pieces:
        await _turn(lambda: client.wire.reading or client.wire.closed)
        if client.wire.closed:
            break
        client.send(piece)
    await _turn(lambda: False)
    if not client.wire.closed and not client.protocol.eof_received():
        client.wire.close()
    await _turn(lambda: False)
    written, ended = client.wire.written, client.wire.ended
    if not client.wire.closed:
        client.wire.close()
    await _turn(lambda: False)
    assert not door.connections.open
    assert not _errors, _errors.pop()
    _check_responses(written, application.asked, ended=ended)


async def _turn(until: Any) -> None:
    """Let the event loop do what is due."""
    for _ in range(_TURNS):
        if until():
            return
        await asyncio.sleep(0)


def _check_responses(written: bytes, asked: int, *, ended: bool) -> None:
    numbers: list[int] = []
    refused = False
    while written:
        head = _RESPONSE.match(written)
        assert head is not None, written[:200]
        status = int(head[1])
        headers = dict(line.split(b": ", 1) for line in head[2].split(b"\r\n") if line)
        written = written[head.end() :]
        if status == 100:
            continue
        assert not refused, "an answer behind a refusal"
        if _NUMBER in headers:
            assert status == 200
            numbers.append(int(headers[_NUMBER]))
        else:
            assert status in REFUSALS
            assert headers[b"connection"] == b"close"
            refused = True
        if headers.get(_METHOD) != b"HEAD":
            size = int(headers[b"content-length"])
            assert len(written) >= size
            written = written[size:]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) <= asked
    assert ended or not refused


def check_tensors(data: bytes) -> None:
    """An inference request is answered as it asks, or is refused with a status below 500.

    The first line is the header `Inference-Header-Content-Length`, empty for none; the rest is the
    body: JSON, and behind it the binary tensors.
    """
    header, _, body = data.partition(b"\n")
    refusal: InvalidInput | None = None
    try:
        call = parse_infer(body, header or None, LIMITS, model="m")
    except InvalidInput as error:
        refusal = error
    if refusal is None:
        _check_infer(call)
    else:
        problem = problem_type_of(refusal)
        assert DIALECT.statuses.get(problem.slug, problem.status) in {400, 413}
        assert len(str(refusal)) < _MAX_MESSAGE_CHARS


def _check_infer(call: InferCall) -> None:
    assert 0 < len(call.texts) <= LIMITS.max_texts
    assert all(0 < len(text) <= LIMITS.max_text_chars and text.strip() for text in call.texts)
    assert call.timeout_s is None or call.timeout_s > 0
    predictions = [Prediction("b", {"a": 0.25, "b": 0.75}, 1, 0, False) for _ in call.texts]
    version: Any = SimpleNamespace(name="m", number=1)
    content, headers = write_infer(version, call, Result([*predictions], 0.0, 0.0, 0.0))
    _check_tensors(content, dict(headers), call)


def _check_tensors(content: bytes, headers: dict[bytes, bytes], call: InferCall) -> None:
    size = int(headers.get(b"inference-header-content-length", len(content)))
    response = json.loads(content[:size])
    assert response.get("id") == call.request_id
    assert [output["name"] for output in response["outputs"]] == [name for name, _ in call.outputs]
    left = len(content) - size
    for output, (_, binary) in zip(response["outputs"], call.outputs, strict=True):
        assert output["shape"][0] == len(call.texts)
        left -= output["parameters"]["binary_data_size"] if binary else 0
    assert left == 0


HARNESSES: Final = {
    "body": check_body,
    "timeout": check_timeout,
    "framing": check_framing,
    "table": check_table,
    "tensors": check_tensors,
}
"""The functions, by the name of what they check."""


def _infer(tensor: dict[str, Any], **members: Any) -> bytes:
    """An inference request for two texts."""
    own = {"name": "text", "datatype": "BYTES", "shape": [2], **tensor}
    return json.dumps({"inputs": [own], **members}).encode()


def _binary(blob: bytes, **members: Any) -> bytes:
    """The same with a binary tensor, behind a line with the length of its JSON."""
    head = _infer({"parameters": {"binary_data_size": len(blob)}}, **members)
    return b"%d\n%b%b" % (len(head), head, blob)


_GET: Final = b"GET /a HTTP/1.1\r\nHost: valence\r\n\r\n"
_POST: Final = b"POST /b HTTP/1.1\r\nHost: valence\r\nContent-Length: 2\r\n\r\n{}"
_CHUNKED: Final = (
    b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2;x=y\r\n{}\r\n0\r\nT: u\r\n\r\n"
)

SEEDS: Final[dict[str, Sequence[bytes]]] = {
    "body": (
        b'{"text": "a"}',
        b'{"texts": ["a", "", " ", "b\\u0000"], "model": "lstm", "version": "stable"}',
        b'{"text": "\\ud800", "version": 1}',
        b'{"text": "a", "version": ' + b"9" * 5000 + b"}",
        b"[" * 2000,
        b'{"text": NaN}',
        b'\xef\xbb\xbf{"text": "a"}',
        b'{"text": "a", "text": ["b"]}',
        b'{"t\\u00e9xt": "a"}',
    ),
    "tensors": (
        b"\n" + _infer({"data": ["a", "b"]}),
        b"\n" + _infer({"data": [["a"], ["b"]], "shape": [2, 1]}),
        _binary(b"\1\0\0\0a\2\0\0\0\xc3\xa9"),
        _binary(b"\1\0\0\0a\2\0\0\0\xc3\xa9", outputs=[{"name": "label"}]),
        _binary(b"\xff\xff\xff\xff\0\0\0\0"),
        _binary(b"\2\0\0\0 \0\0\0\0\0"),
        b"\n" + _infer({"data": ["a", "b"]}, id="\ud800", parameters={"timeout": 9**30}),
        b"\n" + _infer({"data": ["a", "b"]}, parameters={"binary_data_output": True}),
        b"99999999999999999999\n{}",
    ),
    "timeout": (b"1", b"1000", b"1001", b"0", b"-1", b"1e3", b"\xb2", b"0000000001", b" 1"),
    "framing": (
        b"\0" + _GET,
        b"\3" + _POST * 3,
        b"\7" + _CHUNKED + _GET,
        b"\1" + _GET * 12 + b"garbage\r\n\r\n",
        b"\0HEAD /a HTTP/1.1\r\nHost: valence\r\n\r\n" + _GET,
        b"\2POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        b"\0GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n" + _GET,
        b"\0GET / HTTP/1.0\r\n\r\n" + _GET,
        b"\0GET http://a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\0OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\4CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\0PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n",
        b"\0GET /%00%zz%ff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\0GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    "table": tables.SEEDS,
}
"""What each of them begins with."""
