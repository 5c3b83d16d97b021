"""The bytes of a table, whatever it is packed in: plain, gzip or zip, a file or standard input."""

import atexit
import gzip
import io
import os
import re
import shutil
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from app.errors import DataError

STANDARD_INPUT: Final = Path("-")
_GZIP: Final = b"\x1f\x8b"
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_EXCEL_MEMBER: Final = "xl/workbook.xml"
_BUFFER_BYTES: Final = 2**18
_UNREADABLE: Final = (
    (_GZIP, "a file that was packed twice", "unpack it once"),
    (b"PK\x03\x04", "a zip archive in another one", "unpack it once"),
    (b"\x89PNG", "a picture", "give the table itself"),
    (b"BZh", "a bzip2 file", "unpack it with bunzip2"),
    (b"\xfd7zXZ\x00", "an xz file", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", "unpack it with unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it with 7z x"),
    (b"Rar!", "a RAR archive", "unpack it with unrar x"),
    (b"\xd0\xcf\x11\xe0", "a file of Excel 97 (.xls)", "save it as .xlsx or as CSV"),
    (b"%PDF", "a PDF document", "export its table as CSV"),
    (b"SQLite format 3\x00", "an SQLite database", "export the table as CSV"),
    (b"ARROW1", "an Arrow (Feather) file", "write it as Parquet"),
    (b"ORC", "an ORC file", "write it as Parquet"),
    (b"\x89HDF", "an HDF5 file", "write the table as Parquet"),
    (b"\x80\x04\x95", "a Python pickle", "write the table as Parquet"),
)
PARQUET_MAGIC: Final = b"PAR1"
_MAGIC_BYTES: Final = 256
_TAB: Final = 9
_ASCII: Final = 0x7E
SAMPLE_BYTES: Final = 2**18
"""The beginning of a table, from which its kind, encoding and delimiter are told."""


class Opened(NamedTuple):
    """The unpacked bytes of a table.

    Attributes:
        start: The first `SAMPLE_BYTES`, or all of a shorter table.
        file: All bytes from the beginning. Parquet and Excel files can be sought in.
        share_read: Returns the share of the file, packed as it is, that has been read.
    """

    start: bytes
    file: IO[bytes]
    share_read: Callable[[], float] = lambda: 0.0


@contextmanager
def open_table_bytes(path: Path) -> Iterator[Opened]:
    """Open the bytes of a table, unpacked by their first bytes, whatever the suffix says.

    A zip archive must hold one file. An Excel workbook, itself a zip archive, is left as it is.

    Args:
        path: The file; `-` is standard input, of which a copy is read, so it can be opened again.

    Raises:
        DataError: The file is missing, unreadable, damaged, or of a kind that is no table.
    """
    with _translated_errors(path):
        source = _spool_standard_input() if path == STANDARD_INPUT else path
        with source.open("rb") as packed, _unpacked(path, packed) as opened:
            size = max(1, os.fstat(packed.fileno()).st_size)
            yield opened._replace(share_read=lambda: packed.tell() / size)


@contextmanager
def _translated_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file or folder") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: a table must be a file. Received: a folder") from error
    except (gzip.BadGzipFile, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: the compressed file is damaged or cut short") from error
    except (NotImplementedError, RuntimeError) as error:  # of zipfile
        raise DataError(
            f"{path}: a zip archive must be packed by Deflate, and not encrypted. Received: another"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read: {error.strerror or error}") from error


@contextmanager
def _unpacked(path: Path, packed: IO[bytes]) -> Iterator[Opened]:
    opened = _begin(packed)
    if opened.start.startswith(_GZIP):
        opened = _begin(gzip.GzipFile(fileobj=opened.file))
    if opened.start.startswith(_ZIP):
        with _seekable(opened.file, packed) as archive, zipfile.ZipFile(archive) as members:
            if _EXCEL_MEMBER in members.namelist():
                archive.seek(0)
                yield Opened(opened.start, archive)
                return
            with members.open(_only_member(path, members)) as member:
                opened = _begin(member)
                _check_kind(path, opened.start)
                if opened.start.startswith(PARQUET_MAGIC):
                    with _seekable(opened.file, packed) as copy:
                        yield Opened(opened.start, copy)
                else:
                    yield opened
        return
    _check_kind(path, opened.start)
    if opened.start.startswith(PARQUET_MAGIC):
        with _seekable(opened.file, packed) as copy:
            yield Opened(opened.start, copy)
    else:
        yield opened


def is_workbook(start: bytes) -> bool:
    """Whether an opened table is an Excel workbook: other zip archives are unpacked."""
    return start.startswith(_ZIP)


def _only_member(path: Path, members: zipfile.ZipFile) -> zipfile.ZipInfo:
    files = [
        item
        for item in members.infolist()
        if not item.is_dir() and not re.match(r"(__MACOSX|(.*/)?\.)", item.filename)
    ]
    if len(files) != 1:
        raise DataError(f"{path}: a zip archive must hold one file. Received: {len(files)} files")
    if files[0].flag_bits & 1:
        raise DataError(f"{path}: a zip archive must not be encrypted")
    return files[0]


def _check_kind(path: Path, start: bytes) -> None:
    """Refuse files that are no table, by their first bytes."""
    for magic, kind, advice in _UNREADABLE:
        if start.startswith(magic) and _has_controls(start[:_MAGIC_BYTES]):
            raise DataError(
                f"{path}: a table must be CSV, TSV, JSON lines, fastText, Parquet or Excel, plain "
                f"or in gzip or zip. Received: {kind}; {advice}"
            )


def _has_controls(start: bytes) -> bool:
    """Whether bytes hold control characters that no text has: some magics are words."""
    return any(byte < _TAB or byte > _ASCII for byte in start)


def _begin(file: IO[bytes] | gzip.GzipFile) -> Opened:
    start = bytearray()
    while len(start) < SAMPLE_BYTES and (more := file.read(SAMPLE_BYTES - len(start))):
        start += more
    return Opened(bytes(start), io.BufferedReader(_Replayed(bytes(start), file), _BUFFER_BYTES))


@contextmanager
def _seekable(file: IO[bytes], packed: IO[bytes]) -> Iterator[IO[bytes]]:
    """Yield the file on disk if it is not packed, and otherwise a temporary copy of `file`."""
    if packed.seekable() and _is_same(file, packed):
        packed.seek(0)
        yield packed
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy)
        copy.seek(0)
        yield copy


def _is_same(file: IO[bytes], packed: IO[bytes]) -> bool:
    raw = getattr(file, "raw", None)
    return isinstance(raw, _Replayed) and raw.source is packed


class _Replayed(io.RawIOBase):
    """A binary file whose beginning has been read, from that beginning on.

    Args:
        start: What has been read.
        source: The file, positioned after it.
    """

    def __init__(self, start: bytes, source: IO[bytes] | gzip.GzipFile) -> None:
        super().__init__()
        self.source = source
        self._start = memoryview(start)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer`; see `io.RawIOBase`."""
        chunk = self._start[: len(buffer)] or self.source.read(len(buffer))
        self._start = self._start[len(buffer) :]
        buffer[: len(chunk)] = chunk
        return len(chunk)


@cache
def _spool_standard_input() -> Path:
    """Copy standard input to a temporary file, once; the file is removed when the process ends."""
    handle, name = tempfile.mkstemp(prefix="valence-", suffix=".table")
    path = Path(name)
    atexit.register(path.unlink, missing_ok=True)
    with os.fdopen(handle, "wb") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
    return path
