"""Files that grow by appending, and forget what came after the last mark when they are reopened."""

import errno
import gzip
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from app.tables.rows import BadRow

_GZIP_LEVEL: Final = 4
_BAD_COLUMNS: Final = ("row", "line", "rule", "raw")


class AppendedFile:
    """A file of bytes; with gzip, each piece is a member of its own, as the format allows.

    Args:
        path: The file.
        packed: Whether it is packed with gzip.
    """

    def __init__(self, path: Path, *, packed: bool = False) -> None:
        self._path, self._packed = path, packed
        self._file: IO[bytes] | None = None

    def open(self, mark: int) -> None:
        """Open the file at a mark, 0 for a new one; what comes after the mark is dropped."""
        self._file = self._path.open("r+b" if mark else "w+b")
        self._file.truncate(mark)
        self._file.seek(mark)

    def append(self, piece: bytes) -> None:
        """Add bytes to the end."""
        if self._file is not None:
            self._file.write(gzip.compress(piece, _GZIP_LEVEL, mtime=0) if self._packed else piece)

    def mark(self) -> int:
        """Return the length, once all of it is on the disk."""
        if self._file is None:
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class BadRowsFile:
    """The file of rows that break a rule: CSV with the columns `row`, `line`, `rule` and `raw`.

    It grows beside its place under a hidden name, and appears when all rows were read. Where no
    row is bad it does not appear, unless one of an earlier run is there and must not be believed.

    Args:
        path: Its place.

    Attributes:
        path: As passed in.
        partial: Where it grows.
        count: The rows so far, also those before the mark it was opened at.
        bytes: Its length so far.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(f".{path.name}.partial")
        self.count = self.bytes = 0
        self._file: IO[bytes] | None = None

    def open(self, mark: int, count: int) -> None:
        """Go on after so many bytes, which hold so many rows."""
        self.bytes, self.count = mark, count
        if mark:
            if not self.partial.exists():  # a run was killed just after it had put it in place
                self.path.replace(self.partial)
            self._file = self.partial.open("r+b")
            self._file.truncate(mark)
            self._file.seek(mark)
        else:
            self.partial.unlink(missing_ok=True)

    def add(self, bad: BadRow) -> None:
        """Write one more bad row."""
        if self._file is None:
            self._file = self.partial.open("wb")
            self.bytes = self._file.write(encode_csv([_BAD_COLUMNS]))
        row = (str(bad.number), str(bad.line), bad.rule, bad.raw)
        self.bytes += self._file.write(encode_csv([row]))
        self.count += 1

    def flush(self) -> None:
        """Wait until what was written is on the disk."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def finish(self) -> None:
        """Close the file and put it in its place; calling it again does nothing."""
        self.close()
        if not self.partial.exists():
            if self.count or not self.path.exists():
                return
            self.partial.write_bytes(encode_csv([_BAD_COLUMNS]))
        self.partial.replace(self.path)


def encode_csv(rows: Sequence[Sequence[str]], delimiter: str = ",") -> bytes:
    """Return rows of two cells or more as CSV in UTF-8.

    Lone surrogates, which UTF-8 lacks, are spelled as escapes. `csv.writer` takes four times as
    long for a review, and leaves carriage returns unquoted, which readers take for a row's end.
    """
    needs_quotes = re.compile(f'[{re.escape(delimiter)}"\r\n]').search
    lines = []
    for row in rows:
        cells = [
            '"' + cell.replace('"', '""') + '"' if needs_quotes(cell) else cell for cell in row
        ]
        lines.append(delimiter.join(cells))
    lines.append("")
    return encode("\n".join(lines))


def encode(text: str) -> bytes:
    """Return a text in UTF-8; lone surrogates, which UTF-8 lacks, are spelled as escapes."""
    return text.encode("utf-8", "backslashreplace")


def move(source: Path, target: Path) -> None:
    """Rename a file, or replace its target by a copy where they are on different file systems."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = target.with_name(f".{target.name}.copy")
        shutil.copyfile(source, beside)
        beside.replace(target)
        source.unlink()
