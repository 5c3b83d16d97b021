"""Rows of CSV and TSV files, quoted as in RFC 4180 or not at all.

A stray quotation mark may swallow the rows up to the next one, and the result is a valid row. So a
quoted cell with line feeds in it is compared with its neighbours, and its lines are read again one
by one if they look like rows themselves.
"""

import csv
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from app.errors import DataError
from app.tables.characters import Lines
from app.tables.rows import BadRow, Row

MOST_CHARACTERS: Final = 2**24
"""The longest cell; without a limit an unterminated quotation mark would read the whole file."""
DELIMITERS: Final = (",", "\t", ";", "|")
_MOST_LINES: Final = 10_000
_SAMPLE_ROWS: Final = 100
_ADVICE: Final = (
    "if quotation marks are ordinary characters in this file, pass --no-quoting; "
    "if the cell is right as it is, pass --quoting"
)

csv.field_size_limit(MOST_CHARACTERS)

SplitCells = Callable[[str], Sequence[str]]
"""Splits a line, without its line feed, into cells; raises `ValueError` with the rule it breaks."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the cells of a row are told apart.

    Attributes:
        delimiter: One character.
        quoting: Whether cells may be quoted. None: they may, but a quoted cell that holds what
            looks like whole rows is a bad row.
        split_cells: Splits lines in a way of its own; the two others do not matter then.
    """

    delimiter: str = ","
    quoting: bool | None = None
    split_cells: SplitCells | None = None


def read_delimited(
    lines: Lines, dialect: Dialect, refuse: Callable[[BadRow], None]
) -> Iterator[Row]:
    """Yield the rows of a table, the header included; blank lines are no rows.

    Args:
        lines: The lines.
        dialect: How they are split.
        refuse: Called with each row that is not yielded.
    """
    split_cells = dialect.split_cells
    if split_cells is None and dialect.quoting is False:
        delimiter = dialect.delimiter
        split_cells = lambda line: line.split(delimiter)  # noqa: E731 - shorter than its name
    if split_cells is not None:
        yield from _read_by_line(lines, split_cells, refuse)
    else:
        yield from _read_quoted(lines, dialect, refuse)


def _read_by_line(
    lines: Lines, split_cells: SplitCells, refuse: Callable[[BadRow], None]
) -> Iterator[Row]:
    number = 0
    for line_number, line in enumerate(lines, start=1):
        bare = line.removesuffix("\n").removesuffix("\r")
        if not bare:
            continue
        number += 1
        if (fault := lines.find_fault(number, line_number, bare)) is not None:
            refuse(fault)
            continue
        try:
            cells = split_cells(bare)
        except ValueError as error:
            refuse(BadRow(number, line_number, str(error), bare))
            continue
        yield Row(number, line_number, cells, bare)


class _Feed:
    """Hands lines to `csv.reader`, remembers those of the current row and takes them back."""

    def __init__(self, lines: Iterable[str], most: int | None) -> None:
        self.row: list[str] = []
        self._lines, self._most = iter(lines), most
        self._returned: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._most is not None and len(self.row) >= self._most:
            raise _TooManyLines
        line = self._returned.popleft() if self._returned else next(self._lines)
        self.row.append(line)
        return line

    def take_back(self) -> str:
        """Read all lines of the current row but the first again, and return the first."""
        first, *rest = self.row
        self._returned.extendleft(reversed(rest))
        self.row = [first]
        return first


class _TooManyLines(Exception):
    """A cell has more lines than texts have."""


def _read_quoted(lines: Lines, dialect: Dialect, refuse: Callable[[BadRow], None]) -> Iterator[Row]:
    feed = _Feed(lines, None if dialect.quoting else _MOST_LINES)
    reader = csv.reader(feed, delimiter=dialect.delimiter, strict=True)
    shapes = _Shapes()
    number, line = 0, 1
    while True:
        feed.row.clear()
        rule, advice = "", ""
        cells: list[str] = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            rule = _rule_of(str(error))
        except _TooManyLines:
            rule, advice = (
                f"a cell must have at most {_MOST_LINES:,} lines. Received: more",
                _ADVICE,
            )
        if not rule and not cells:
            line += 1
            continue
        number += 1
        if not rule and len(feed.row) > 1 and dialect.quoting is None:
            count = shapes.count_swallowed(feed.row, cells, dialect.delimiter)
            if count:
                rule = (
                    "a quoted cell must not hold what looks like whole rows. Received: one from "
                    f"row {number} to row {number + count - 1}"
                )
                advice = _ADVICE
        if rule:
            raw = feed.take_back()
            lines.forget_fault()
            refuse(BadRow(number, line, rule, raw.removesuffix("\n"), advice))
        elif (fault := lines.find_fault(number, line, "".join(feed.row))) is not None:
            refuse(fault)
        else:
            shapes.add(cells)
            yield Row(number, line, cells, "".join(feed.row))
        line += len(feed.row)


class _Shapes:
    """What the cells of each column look like: empty, one word or number, or several words."""

    def __init__(self) -> None:
        self._seen: list[set[str]] = []
        self._rows = 0

    def add(self, cells: Sequence[str]) -> None:
        """Learn from a row."""
        if self._rows >= _SAMPLE_ROWS:
            return
        if self._rows == 0:
            self._seen = [set() for _ in cells]  # the header: its words say nothing of the cells
        elif len(cells) == len(self._seen):
            for seen, cell in zip(self._seen, cells, strict=True):
                seen.add(_shape(cell))
        self._rows += 1

    def count_swallowed(self, lines: Sequence[str], cells: Sequence[str], delimiter: str) -> int:
        """Return how many rows the lines of one row look like; 0 if they are no rows.

        Every line must have the cells of a whole row, and beside the text, cells of the shapes that
        their columns have elsewhere.
        """
        texts = {column for column, cell in enumerate(cells) if "\n" in cell}
        count = 0
        for line in lines:
            bare = line.rstrip("\r\n")
            if not bare:
                continue
            split = bare.split(delimiter)
            if len(split) != len(cells):
                return 0
            for column, cell in enumerate(split):
                seen = self._seen[column] if column < len(self._seen) else set()
                expected = seen or {_shape(cells[column])}
                if column not in texts and _shape(cell.strip('"')) not in expected:
                    return 0
            count += 1
        return count


def _shape(cell: str) -> str:
    if not cell:
        return "empty"
    return "words" if len(cell.split()) > 1 or cell != cell.strip() else "word"


def _rule_of(message: str) -> str:
    """Return the rule behind a message of the csv module."""
    if "unexpected end of data" in message:
        return (
            "a cell that begins with a quotation mark must end with one. Received: none up to "
            "the end of the file (an unterminated quote)"
        )
    if "new-line character" in message:
        return "a line must end with a line feed. Received: a bare carriage return"
    if "expected after" in message:
        return 'a quotation mark inside a quoted cell must be doubled (""). Received: a single one'
    if "field larger" in message:
        return (
            f"a cell must have at most {MOST_CHARACTERS:,} characters. Received: more; is a "
            "quotation mark unterminated?"
        )
    return f"the row must be CSV as in RFC 4180. Received: {message}"


def detect_delimiter(lines: Sequence[str], usual: str | None) -> str | None:
    """Tell the delimiter of a table from its first lines.

    Args:
        lines: The header and some rows; a cut last line must be left out.
        usual: The delimiter that the suffix implies; it wins if it fits as well as others.

    Returns:
        The delimiter that splits the first line into two cells at least, and most of the others
        into as many; None if there is none.
    """
    best, best_rank = None, (0.0, False, 0)
    for delimiter in DELIMITERS:
        widths = [len(_split_quietly(line, delimiter)) for line in lines[:_SAMPLE_ROWS]]
        widths = [width for width in widths if width]
        if not widths or widths[0] < 2:
            continue
        share = sum(width == widths[0] for width in widths) / len(widths)
        rank = (round(share, 1), delimiter == usual, widths[0])
        if rank > best_rank:
            best, best_rank = delimiter, rank
    return best


def _split_quietly(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


def check_delimiter(delimiter: str) -> str:
    r"""Return the delimiter that an option names; `\t` and `tab` are a tab.

    Raises:
        DataError: It is not one character, or one that quoting and lines need.
    """
    named = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(named) != 1 or named in '"\r\n':
        raise DataError(
            "the delimiter must be one character other than a quotation mark or the end of a line. "
            f"Received: {delimiter!r}"
        )
    return named
