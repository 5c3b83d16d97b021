"""Bytes to lines of characters: the encoding of a table, and its lines."""

import codecs
import io
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from app.errors import DataError, InvalidInput
from app.tables.containers import SAMPLE_BYTES, Opened
from app.tables.rows import BadRow

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SINGLE_BYTE: Final = ("cp125", "iso8859", "latin", "mac_", "cp1006", "cp775")
_CYRILLIC_AND_GREEK: Final = (
    "cp1251",
    "cp1253",
    "iso8859_5",
    "iso8859_7",
    "mac_cyrillic",
    "mac_greek",
)
_NO_ENCODINGS_OF_FILES: Final = ("idna", "punycode", "unicode_escape", "raw_unicode_escape")
_MOST_GUESSES: Final = 3
_MOST_LINE_BYTES: Final = 2**26
_GUESS_BYTES: Final = 2**16
_SHOWN_NAMES: Final = {
    "utf-8-sig": "UTF-8",
    "utf-8": "UTF-8",
    "utf-16": "UTF-16",
    "utf-32": "UTF-32",
}


@dataclass(frozen=True, slots=True)
class _Undecodable:
    """The first byte of a line that its encoding does not have.

    Attributes:
        line: Counted from 1.
        byte: Its value, 0 to 255.
        position: In the line, counted from 1.
    """

    line: int
    byte: int
    position: int


def check_encoding(name: str) -> str:
    """Return the name of an encoding as Python knows it.

    Raises:
        InvalidInput: There is no such encoding of text.
    """
    known = None
    with suppress(LookupError, ValueError):
        known = codecs.lookup(name).name if "a\n".encode(name).decode(name) == "a\n" else None
    if known is None or known in _NO_ENCODINGS_OF_FILES:
        raise InvalidInput(
            "the encoding must be one of files, such as utf-8, utf-16, cp1252 or gb18030. "
            f"Received: {name!r}"
        )
    return known


def detect_encoding(start: bytes, name: str | None) -> str:
    """Return the encoding of a table: the one that was named, that of its mark, or UTF-8.

    A byte order mark of UTF-8 is no part of the text in any case.
    """
    marked = next((encoding for mark, encoding in _MARKS if start.startswith(mark)), None)
    if name is None:
        return marked or "utf-8"
    named = check_encoding(name)
    return "utf-8-sig" if named == "utf-8" else named


def show_encoding(name: str) -> str:
    """Return an encoding as messages name it."""
    return _SHOWN_NAMES.get(name, name)


def check_not_utf16(start: bytes) -> None:
    """Refuse UTF-16 without a byte order mark: as UTF-8 it is valid, and full of NUL.

    Raises:
        DataError: Most of the bytes at even or at odd positions are NUL.
    """
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if max(even, odd) > len(start) // 8:
        guess = "utf-16-le" if odd > even else "utf-16-be"
        raise DataError(
            "the text must be UTF-8. Received: NUL in every other byte; the bytes look like UTF-16 "
            f"without a mark; pass --encoding {guess}"
        )


def describe_bytes(start: bytes) -> str:
    """Return what bytes look like that are not in the expected encoding, and the option to pass.

    This is advice only: a wrong guess would read, and train on, other words.
    """
    charsets = _guess(start)
    if not charsets:
        return "pass the encoding of the file, as in --encoding cp1252"
    charset = charsets[0]
    if charset.startswith(_SINGLE_BYTE) and charset not in _CYRILLIC_AND_GREEK:
        return (
            "the bytes look like a European encoding of one byte per character; pass its name, "
            "such as --encoding cp1252 (Windows, western) or --encoding cp1250 (central)"
        )
    others = f" (or {' or '.join(charsets[1:])})" if charsets[1:] else ""
    return f"the bytes look like {charset}{others}; if that is so, pass --encoding {charset}"


def _guess(start: bytes) -> list[str]:
    """The encodings that fit bytes, the likeliest first."""
    try:
        from charset_normalizer import from_bytes  # only advice depends on it
    except ModuleNotFoundError:
        return []
    found = [match.encoding for match in from_bytes(start[:_GUESS_BYTES])]
    return [name for name in found if name not in ("utf_8", "ascii")][:_MOST_GUESSES]


class Lines:
    """The lines of a table, ended by line feeds only, and which of them could not be decoded.

    Texts hold U+0085 and other characters at which `str.splitlines` would split. A line keeps its
    line feed. Bytes that the encoding does not have become lone surrogates.

    Args:
        opened: The bytes.
        encoding: As from `detect_encoding`.
        name: The file, for messages.
    """

    def __init__(self, opened: Opened, encoding: str, name: str) -> None:
        self._start, self._file = opened.start, opened.file
        self._name = name
        self._encoding = encoding
        self._undecodable: _Undecodable | None = None

    def find_fault(self, number: int, line: int, raw: str) -> BadRow | None:
        """Return the bad row that a row is, if one of its lines could not be decoded.

        Args:
            number: Of the row.
            line: Where the row begins.
            raw: The row.
        """
        wrong, self._undecodable = self._undecodable, None
        if wrong is None:
            return None
        rule = (
            f"the text must be {show_encoding(self._encoding)}. Received: byte "
            f"0x{wrong.byte:02X} in position {wrong.position} of line {wrong.line}"
        )
        return BadRow(number, line, rule, raw, describe_bytes(self._start), alone=True)

    def rows(
        self, refuse: Callable[[BadRow], None], strip: Callable[[str], str] = str.strip
    ) -> Iterator[tuple[int, int, str]]:
        """Yield number, line and content of each row, where every line is one.

        Blank lines are no rows.

        Args:
            refuse: Called with each row that could not be decoded, and is not yielded.
            strip: Removes from a line what is no part of its content.
        """
        number = 0
        for line_number, line in enumerate(self, start=1):
            bare = strip(line)
            if not bare:
                continue
            number += 1
            if (fault := self.find_fault(number, line_number, bare)) is not None:
                refuse(fault)
            else:
                yield number, line_number, bare

    def sample(self) -> list[str]:
        """Return whole lines of the beginning, without their ends."""
        text = self._start.decode(self._encoding, "replace").removeprefix("\ufeff")
        lines = text.split("\n")
        if len(self._start) == SAMPLE_BYTES and len(lines) > 1:
            lines.pop()  # it may be cut
        return [line.removesuffix("\r") for line in lines]

    def forget_fault(self) -> None:
        """Forget lines that could not be decoded and will be read again."""
        self._undecodable = None

    def __iter__(self) -> Iterator[str]:
        if self._encoding == "utf-8-sig" or "\n".encode(self._encoding) == b"\n":
            return self._split_then_decode()
        return self._decode_then_split()

    def _split_then_decode(self) -> Iterator[str]:
        encoding, read = self._encoding, 0
        if encoding == "utf-8-sig":
            first = self._file.readline().removeprefix(codecs.BOM_UTF8)
            encoding, read = "utf-8", 1
            if first:
                yield self._decode(first, encoding, read)
        whole_lines = iter(partial(self._file.readline, _MOST_LINE_BYTES), b"")
        for number, line in enumerate(whole_lines, start=read + 1):
            if len(line) == _MOST_LINE_BYTES:
                raise DataError(
                    f"{self._name} line {number}: a line must have less than "
                    f"{_MOST_LINE_BYTES // 2**20} MiB. Received: more"
                )
            try:
                yield line.decode(encoding)
            except UnicodeDecodeError:
                yield self._decode(line, encoding, number)

    def _decode(self, line: bytes, encoding: str, number: int) -> str:
        try:
            return line.decode(encoding)
        except UnicodeDecodeError as error:
            self._undecodable = _Undecodable(number, line[error.start], error.start + 1)
            return line.decode(encoding, "surrogateescape")

    def _decode_then_split(self) -> Iterator[str]:
        """Decode encodings in which the byte of a line feed may be part of another character."""
        characters = io.TextIOWrapper(self._file, self._encoding, newline="\n")
        number = 0
        try:
            for line in characters:
                number += 1
                yield line if number > 1 else line.removeprefix("\ufeff")
        except UnicodeError as error:
            raise DataError(
                f"{self._name} after line {number}: the text must be "
                f"{show_encoding(self._encoding)}. Received: other bytes; is the file cut short?"
            ) from error
        finally:
            characters.detach()
