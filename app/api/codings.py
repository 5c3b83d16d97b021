"""Content codings (RFC 9110, section 8.4.1): bodies are unpacked, answers are packed when asked."""

import asyncio
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from starlette.types import Message, Receive, Send

from app.errors import InvalidCoding, TooLarge, UnknownCoding

MIN_BYTES: Final = 1024
"""A shorter answer fits into a packet as it is."""
ACCEPTED: Final = b"gzip, deflate"

_PIECE_BYTES: Final = 64 * 1024
_INLINE_BYTES: Final = 256 * 1024
"""A longer answer is packed in a thread: so many take about 2 ms."""
_LEVEL: Final = 1
_GZIP_BITS: Final = 16 + zlib.MAX_WBITS
_CODINGS: Final = {b"gzip": _GZIP_BITS, b"x-gzip": _GZIP_BITS, b"deflate": zlib.MAX_WBITS}
_ZLIB_METHOD: Final = 8
_MAX_CHOICES: Final = 8


class Decoder:
    """Unpacks a body piece by piece, so that a small one cannot become a large one unseen.

    `deflate` is the format of zlib. Some clients send its data alone, which is taken, too.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._stream: Any = None

    def decode(self, data: bytes) -> Iterator[bytes]:
        """Unpack what was received, in pieces of at most 64 KiB.

        Raises:
            InvalidCoding: It is not in this coding.
        """
        piece = b""
        while data or len(piece) == _PIECE_BYTES:
            if self._stream is None or self._stream.eof:
                if not data:
                    return
                self._stream = self._open(data)
            try:
                piece = self._stream.decompress(data, _PIECE_BYTES)
            except zlib.error:
                raise _not_whole() from None
            if piece:
                yield piece
            data = self._stream.unconsumed_tail or self._stream.unused_data

    def _open(self, data: bytes) -> Any:
        """Begin: with the first part of the body, or with a next one, of which gzip may have many.

        Raises:
            InvalidCoding: There is something behind the end.
        """
        if self._bits == _GZIP_BITS:
            return zlib.decompressobj(self._bits)
        if self._stream is not None:
            raise _not_whole()
        has_header = data[0] & 0x0F == _ZLIB_METHOD
        return zlib.decompressobj(self._bits if has_header else -self._bits)

    def finish(self) -> None:
        """The body has been received.

        Raises:
            InvalidCoding: Its end is missing.
        """
        if self._stream is None or not self._stream.eof:
            raise _not_whole()


def _not_whole() -> InvalidCoding:
    return InvalidCoding("the body must be whole, in the coding that Content-Encoding says")


def unpacking(receive: Receive, content_encoding: bytes, limit: int) -> Receive:
    """A `receive` that unpacks the body.

    Args:
        receive: Of the request.
        content_encoding: The header.
        limit: So many bytes may arrive, however little they unpack to.

    Raises:
        UnknownCoding: The coding is not taken. The new `receive` raises `InvalidCoding` and
            `TooLarge`.
    """
    coding = content_encoding.strip().lower()
    if coding in (b"", b"identity"):
        return receive
    bits = _CODINGS.get(coding)
    if bits is None:
        raise UnknownCoding("Content-Encoding must be gzip or deflate")
    decoder = Decoder(bits)
    pieces: Iterator[bytes] = iter(())
    arrived, more_body = 0, True

    async def receive_piece() -> Message:
        nonlocal pieces, arrived, more_body
        while True:
            piece = next(pieces, None)
            if piece is not None:
                return {"type": "http.request", "body": piece, "more_body": True}
            if not more_body:
                decoder.finish()
                return {"type": "http.request", "body": b"", "more_body": False}
            message = await receive()
            if message["type"] == "http.disconnect":
                return message
            chunk = message.get("body", b"")
            arrived += len(chunk)
            if arrived > limit:
                raise TooLarge(f"the body must have at most {limit} bytes. Received: more")
            pieces = decoder.decode(chunk)
            more_body = message.get("more_body", False)

    return receive_piece


@lru_cache(maxsize=64)
def choose_coding(accept_encoding: bytes) -> bytes | None:
    """The coding of an answer, from Accept-Encoding; None for none."""
    weights: dict[bytes, float] = {}
    for choice in accept_encoding.lower().split(b",", _MAX_CHOICES)[:_MAX_CHOICES]:
        name, _, rest = choice.partition(b";")
        weights[name.strip()] = _read_weight(rest)
    others = weights.get(b"*", 0.0)
    ranked = [(weights.get(name, others), name) for name in (b"deflate", b"gzip")]
    weight, best = max(ranked, key=lambda each: (each[0], each[1] == b"gzip"))
    return best if weight > 0 else None


def _read_weight(rest: bytes) -> float:
    """The weight of a choice, as in `q=0.5`; 1 if there is none, 0 if it is malformed."""
    name, equals, value = rest.partition(b"=")
    if not equals or name.strip() != b"q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def packing(send: Send, coding: bytes) -> Send:
    """A `send` that packs an answer, if that is worth it: one that comes in pieces is left."""
    head: Message | None = None

    async def send_packed(message: Message) -> None:
        nonlocal head
        if message["type"] == "http.response.start":
            head = message  # its length is not known yet
            return
        if head is not None:
            start, head = head, None
            body = message.get("body", b"")
            if not message.get("more_body") and len(body) >= MIN_BYTES:
                body = await _pack(body, coding)
                message = {**message, "body": body}
                start["headers"] = [
                    *(each for each in start["headers"] if each[0] != b"content-length"),
                    (b"content-length", b"%d" % len(body)),
                    (b"content-encoding", coding),
                    (b"vary", b"Accept-Encoding"),
                ]
            await send(start)
        await send(message)

    return send_packed


async def _pack(body: bytes, coding: bytes) -> bytes:
    bits = _CODINGS[coding]
    if len(body) <= _INLINE_BYTES:
        return zlib.compress(body, _LEVEL, wbits=bits)
    return await asyncio.to_thread(zlib.compress, body, _LEVEL, wbits=bits)
