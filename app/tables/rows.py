"""Rows, and what becomes of those that break a rule.

Every row of a file is either yielded or given to a `BadRows`, so rows read = rows yielded + bad
rows. Messages name the row, its line and the rule, and never repeat a cell.
"""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from app.errors import CannotWrite, DataError, InvalidInput

_MOST_LISTED: Final = 10
_SKIP: Final = "--skip-bad-rows FILE writes such rows to a file and goes on without them"
_COLUMNS: Final = ("row", "line", "rule", "raw")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        number: Counted from 1, the header included, blank lines not.
        line: The line in which the row begins, counted from 1.
        cells: One string per column of the table.
        raw: The row as it stands in the file, for the file of bad rows.
        origin: What the cells were spelled from: the object of a line of JSON; for Parquet, the
            record batch and the position in it. None for other formats.
    """

    number: int
    line: int
    cells: Sequence[str]
    raw: str = ""
    origin: Any = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that breaks a rule.

    Attributes:
        number: See `Row`.
        line: See `Row`.
        rule: The rule and what was received, without the contents of a cell.
        raw: The row as it stands in the file.
        advice: What else the reader can be told, such as an option that helps.
        alone: Whether it is refused at once, as the rows after it will break the same rule.
    """

    number: int
    line: int
    rule: str
    raw: str
    advice: str = ""
    alone: bool = False

    def place(self) -> str:
        """Return the row, and its line where the two differ."""
        return place(self.number, self.line)


def place(number: int, line: int) -> str:
    """Return how a message names a row: `row 3`, or `row 3 (line 5)` after cells with lines."""
    return f"row {number}" + (f" (line {line})" if line != number else "")


class BadRows:
    """Collects the bad rows of one pass: refuses them, or counts them and writes them aside.

    Use it as a context manager around the pass.

    Args:
        name: The file, for messages.
        skip: Whether bad rows are skipped; otherwise the pass ends in an error that lists the first
            ten of them.
        aside: The CSV file to which skipped rows are written, with the columns `row`, `line`,
            `rule` and `raw`. It appears when the pass has ended, also when no row was bad. Of the
            files that exist, only an earlier file of bad rows is replaced.

    Attributes:
        count: The number of bad rows so far.

    Raises:
        CannotWrite: `aside` cannot be written.
        DataError: On leaving, or at the tenth bad row, unless they are skipped.
        InvalidInput: `aside` is something else than a file of bad rows.
    """

    def __init__(self, name: str, *, skip: bool = False, aside: Path | None = None) -> None:
        self.count = 0
        self._name, self._skip, self._aside = name, skip, aside
        self._listed: list[BadRow] = []
        self._file: TextIO | None = None
        self._writer: Any = None

    def __enter__(self) -> "BadRows":
        if self._aside is not None:
            check_bad_rows_file(self._aside)
            self._partial = self._aside.with_name(f".{self._aside.name}.partial")
            with _explained_writes(self._aside):
                self._file = self._partial.open("w", newline="", encoding="utf-8")
                self._writer = csv.writer(self._file, lineterminator="\n")
                self._writer.writerow(_COLUMNS)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._file is not None and self._aside is not None:
            try:
                with _explained_writes(self._aside):
                    self._file.close()
                    if kind is None:
                        self._partial.replace(self._aside)
            finally:
                self._partial.unlink(missing_ok=True)
        if kind is None:
            self._refuse()

    def add(self, bad: BadRow) -> None:
        """Take one more bad row.

        Raises:
            DataError: It is the tenth, and bad rows are refused.
        """
        self.count += 1
        if self._skip:
            if self._writer is not None:
                raw = bad.raw.rstrip("\r\n").encode("utf-8", "backslashreplace").decode("utf-8")
                with _explained_writes(self._aside):
                    self._writer.writerow([bad.number, bad.line, bad.rule, raw])
            return
        if bad.alone:
            self._listed.clear()
        self._listed.append(bad)
        if bad.alone or len(self._listed) == _MOST_LISTED:
            self._refuse()

    def _refuse(self) -> None:
        if not self._listed:
            return
        first = self._listed[0]
        advice = f"; {first.advice}" if first.advice else ""
        if len(self._listed) == 1:
            skip = "" if first.alone else f". {_SKIP}"
            raise DataError(f"{self._name} {first.place()}: {first.rule}{advice}{skip}")
        more = " and perhaps more" if len(self._listed) == _MOST_LISTED else ""
        lines = "".join(f"\n  {bad.place()}: {bad.rule}" for bad in self._listed)
        raise DataError(
            f"{self._name} {first.place()}: {first.rule}{advice}. "
            f"{len(self._listed)} rows{more} break a rule:{lines}\n{_SKIP}"
        )


def check_bad_rows_file(path: Path) -> None:
    """Refuse to replace anything but an earlier file of bad rows.

    Raises:
        InvalidInput: The path is something else.
    """
    replaceable = not path.exists()
    if path.is_file():
        with path.open("rb") as file:
            start = file.readline(100)
        replaceable = not start or start.strip() == b"row,line,rule,raw"
    if str(path) in ("-", ".", "") or not replaceable:
        raise InvalidInput(
            f"{path}: the file of bad rows must be a new file, or one of an earlier call. "
            "Received: something else, which it would replace"
        )


@contextmanager
def _explained_writes(path: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWrite(
            f"{path}: the file of bad rows cannot be written: {error.strerror or error}"
        ) from error
