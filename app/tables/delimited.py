"""Rows of CSV and TSV files, quoted as in RFC 4180 or not at all.

A stray quotation mark may swallow the rows up to the next one, and the result is a valid row. So
the lines of a row that spans several are compared with the rows at the beginning of the table, and
read again one by one if most of them look like rows themselves.
"""

import csv
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from app.errors import InvalidInput
from app.tables.characters import Lines
from app.tables.rows import BadRow, Row

MOST_CHARACTERS: Final = 2**24
"""The longest cell; without a limit an unterminated quotation mark would read the whole file."""
DELIMITERS: Final = (",", "\t", ";", "|")
_MOST_LINES: Final = 10_000
_SAMPLE_ROWS: Final = 100
_MOST_VALUES: Final = 100
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
    for number, line_number, bare in lines.rows(refuse, _strip_line_end):
        try:
            cells = split_cells(bare)
        except ValueError as error:
            refuse(BadRow(number, line_number, str(error), bare))
            continue
        yield Row(number, line_number, cells, bare)


def _strip_line_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


class _Feed:
    """Hands lines to `csv.reader`, remembers those of the current row and takes them back."""

    def __init__(self, lines: Iterable[str], most: int | None) -> None:
        self.row: list[str] = []
        self.again = False  # whether the current row begins with a line that was taken back
        self._lines, self._most = iter(lines), most
        self._returned: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._most is not None and len(self.row) >= self._most:
            raise _TooManyLines
        if not self.row:
            self.again = bool(self._returned)
        line = self._returned.popleft() if self._returned else next(self._lines)
        self.row.append(line)
        return line

    def take_back(self) -> None:
        """Read all lines of the current row but the first again."""
        first, *rest = self.row
        self._returned.extendleft(reversed(rest))
        self.row = [first]


class _TooManyLines(Exception):
    """A cell has more lines than texts have."""


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why a row is bad.

    Attributes:
        rule: The rule and what was received.
        advice: What helps.
        endless: Whether its quotation mark has no pair, so that the lines after it are rows.
    """

    rule: str
    advice: str = ""
    endless: bool = False


def _read_quoted(lines: Lines, dialect: Dialect, refuse: Callable[[BadRow], None]) -> Iterator[Row]:
    feed = _Feed(lines, None if dialect.quoting else _MOST_LINES)
    reader = csv.reader(feed, delimiter=dialect.delimiter, strict=True)
    neighbours = _Neighbours(lines.sample(), dialect.delimiter)
    number, line, width = 0, 1, 0
    while True:
        feed.row.clear()
        fault: _Fault | None = None
        cells: list[str] = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = _explain(str(error))
        except _TooManyLines:
            rule = f"a cell must have at most {_MOST_LINES:,} lines. Received: more"
            fault = _Fault(rule, _ADVICE, endless=True)
        if fault is None and not cells:
            line += 1
            continue
        number += 1
        width = width or len(cells)
        if len(feed.row) > 1 and dialect.quoting is None:
            if fault is None:
                fault = _check_span(feed.row, len(cells), width, number, neighbours)
            if fault is not None and (fault.endless or neighbours.are_rows(feed.row, width)):
                feed.take_back()
        elif (
            fault is None and feed.again and feed.row[0].count('"') % 2 and dialect.quoting is None
        ):
            fault = _Fault("a quotation mark must have its pair. Received: one", _ADVICE)
        raw = "".join(feed.row)
        if fault is not None:
            lines.forget_fault()
            refuse(BadRow(number, line, fault.rule, raw, fault.advice))
        elif (undecodable := lines.find_fault(number, line, raw)) is not None:
            refuse(undecodable)
        else:
            yield Row(number, line, cells, raw)
        line += len(feed.row)


def _check_span(
    lines: Sequence[str], cells: int, width: int, number: int, neighbours: "_Neighbours"
) -> _Fault | None:
    """Check a row of several lines, which may have swallowed rows."""
    if neighbours.are_rows(lines, width):
        last = number + sum(1 for line in lines if line.strip("\r\n")) - 1
        return _Fault(
            "a quoted cell must not hold what looks like whole rows. Received: one from row "
            f"{number} to row {last}",
            _ADVICE,
        )
    if cells != width:
        return _Fault(
            f"a row must have as many cells as the header, {width}. Received: {cells}, in "
            f"{len(lines)} lines; is a quotation mark or a delimiter missing?",
            _ADVICE,
        )
    return None


class _Neighbours:
    """What rows look like in a table, from its first lines.

    In a column of few values, such as the labels, a cell has one of them; in other columns it is
    one word or several, as their cells are.

    Args:
        lines: The first lines; those that are no rows matter little.
        delimiter: Between cells.
    """

    def __init__(self, lines: Sequence[str], delimiter: str) -> None:
        self._delimiter = delimiter
        rows = [line.split(delimiter) for line in lines if line]
        width = len(rows[0]) if rows else 0
        columns = list(zip(*(row for row in rows[1:] if len(row) == width), strict=True))
        self._values = [self._find_values(column) for column in columns]
        self._shapes = [{_shape(cell) for cell in column} for column in columns]

    def _find_values(self, column: Sequence[str]) -> set[str] | None:
        """The values of a column that has few; None if it has many."""
        counts = Counter(cell.strip().strip('"') for cell in column)
        repeated = {value for value, count in counts.items() if count > 1}
        few = 2 * sum(counts[value] for value in repeated) > len(column)
        return repeated if few and len(repeated) <= _MOST_VALUES else None

    def are_rows(self, lines: Sequence[str], width: int) -> bool:
        """Whether most lines of a row look like rows; all of them, if no column has few values."""
        if width < 2:  # every line has one cell
            return False
        bare = [line.rstrip("\r\n") for line in lines]
        bare = [line for line in bare if line]
        alike = sum(self._is_row(line, width) for line in bare)
        return alike == len(bare) or (any(self._values) and 2 * alike > len(bare))

    def _is_row(self, line: str, width: int) -> bool:
        cells = line.split(self._delimiter)
        if len(cells) != width:
            return False
        if len(self._values) != width:
            return True
        return all(
            _shape(cell) in shapes if values is None else cell.strip().strip('"') in values
            for cell, values, shapes in zip(cells, self._values, self._shapes, strict=True)
        )


def _shape(cell: str) -> str:
    bare = cell.strip().strip('"')
    if not bare:
        return "empty"
    return "words" if len(bare.split()) > 1 else "word"


def _explain(message: str) -> _Fault:
    """The fault behind a message of the csv module."""
    endless = "unexpected end of data" in message or "field larger" in message
    advice = "" if "new-line character" in message else _ADVICE
    return _Fault(_rule_of(message), advice, endless)


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
        InvalidInput: It is not one character, or one that quoting and lines need.
    """
    named = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(named) != 1 or named in '"\r\n':
        raise InvalidInput(
            "the delimiter must be one character other than a quotation mark or the end of a line. "
            f"Received: {delimiter!r}"
        )
    return named
