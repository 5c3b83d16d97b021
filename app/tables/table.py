"""A table: rows with named columns, in any of the formats below.

| format       | file                                                                        |
|--------------|-----------------------------------------------------------------------------|
| `csv`        | CSV, TSV and their kin: a header or none, quoted as in RFC 4180 or not        |
| `json-lines` | one JSON object per line; its keys are the columns                            |
| `fasttext`   | `__label__NAME the text`; the columns are `label` and `text`                   |
| `parquet`    | a Parquet file; needs pyarrow                                                 |
| `excel`      | the first sheet of a workbook (.xlsx), with a header or none; needs openpyxl  |

Each may be packed with gzip, or alone in a zip archive. Rows are read one by one, in constant
memory.
"""

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from app.errors import DataError
from app.tables.characters import Lines, check_not_utf16, detect_encoding, show_encoding
from app.tables.columnar import read_parquet, read_workbook
from app.tables.containers import (
    PARQUET_MAGIC,
    Opened,
    is_workbook,
    open_table_bytes,
)
from app.tables.delimited import (
    Dialect,
    SplitCells,
    check_delimiter,
    detect_delimiter,
    read_delimited,
)
from app.tables.fasttext import COLUMNS, PREFIX, read_fasttext
from app.tables.json_lines import parse_object, read_json_lines
from app.tables.rows import BadRow, Row

TableFormat = Literal["auto", "csv", "json-lines", "fasttext", "parquet", "excel"]
Refuse = Callable[[BadRow], None]

TEXT_COLUMNS: Final = ("text", "review", "sentence")
"""Default text columns, in order of preference."""

_SUFFIX_DELIMITERS: Final = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_JSON_SUFFIXES: Final = (".jsonl", ".ndjson", ".json")
_DELIMITER_NAMES: Final = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
_SAMPLE_LINES: Final = 200
_LONGEST_NAME: Final = 40
_MOST_SHOWN: Final = 24


@dataclass(frozen=True, slots=True)
class TableOptions:
    r"""How to read a table, where its bytes and its name do not tell.

    Attributes:
        format: See the table above; `auto` tells it from the bytes.
        encoding: A name that Python knows. Default: that of the byte order mark, or UTF-8.
        delimiter: For `csv`, one character, `\t` or `tab`. Default: told from the first lines.
        quoting: For `csv`, whether cells may be quoted; see `app.tables.delimited.Dialect`.
        header: Whether the first row of `csv` and `excel` has the names of the columns; without it
            they are numbered from 1.
        split_cells: For `csv`, splits lines in a way of its own.
    """

    format: TableFormat = "auto"
    encoding: str | None = None
    delimiter: str | None = None
    quoting: bool | None = None
    header: bool = True
    split_cells: SplitCells | None = None


class Table:
    """A table that can be read again and again; made by `open_table`.

    Attributes:
        path: The file.
        format: How it is read; never `auto`.
        columns: The names of the columns, without surrounding white space.
        encoding: Of its characters; empty for Parquet and Excel.
        delimiter: Between cells of `csv`; None for other formats.
        sheet: The sheet of a workbook that is read.
    """

    def __init__(self, path: Path, options: TableOptions) -> None:
        self.path = path
        self.encoding = ""
        self.delimiter: str | None = None
        self.sheet: str | None = None
        self._options = options
        self._share_read: Callable[[], float] = lambda: 0.0
        with open_table_bytes(self.path) as opened:
            if not opened.start:
                raise DataError(f"{path}: the file is empty")
            self.format = self._detect_format(opened.start)
            if self.format not in ("parquet", "excel"):
                self._detect_characters(opened)
            self.columns = tuple(self._read_columns(opened))

    def describe(self) -> str:
        """Return format, encoding and delimiter in a few words."""
        parts = {
            "csv": "CSV",
            "json-lines": "JSON lines",
            "fasttext": "fastText",
            "parquet": "Parquet",
            "excel": f"Excel, sheet {self.sheet!r}",
        }
        delimiter = self.delimiter and _DELIMITER_NAMES.get(self.delimiter, repr(self.delimiter))
        shown = [parts[self.format], f"separated by {delimiter}" if delimiter else None]
        shown += ["without quoting"] if delimiter and self._options.quoting is False else []
        shown += [show_encoding(self.encoding)] if self.encoding else []
        return ", ".join(part for part in shown if part)

    def rows(
        self, refuse: Refuse, plain: Collection[int] | None = None
    ) -> Generator[Row, None, None]:
        """Yield the rows below the header, from the beginning.

        Args:
            plain: The positions of the columns that are needed. Of JSON lines and Parquet their
                values must not be nested, and other columns may stay empty. Default: all.
            refuse: Called with each row that breaks a rule and is not yielded, such as one with
                more or fewer cells than there are columns; may raise.

        Raises:
            DataError: The file is damaged.
        """
        width = len(self.columns)
        with open_table_bytes(self.path) as opened:
            self._share_read = opened.share_read
            for row in self._read(opened, refuse, plain=plain):
                if len(row.cells) == width or self.format == "excel":
                    yield row
                    continue
                rule = (
                    f"a row must have as many cells as the header, {width}. Received: "
                    f"{len(row.cells)}; is a quotation mark or a delimiter missing?"
                )
                refuse(BadRow(row.number, row.line, rule, row.raw))
            self._share_read = lambda: 1.0

    def share_read(self) -> float:
        """Return the share of the file that `rows`, which is being iterated over, has read."""
        return self._share_read()

    def find_column(self, wanted: str | None, usual: Sequence[str], kind: str) -> int:
        """Return the position of a column, from 0.

        Args:
            wanted: Its name, or its number from 1 if no column has that name. Default: the first
                of the usual names, in any case.
            usual: Names to look for.
            kind: What the column is, for messages.

        Raises:
            DataError: There is no such column, or there are several.
        """
        folded = [name.casefold() for name in self.columns]
        for name in usual if wanted is None else [wanted]:
            found = [i for i, column in enumerate(self.columns) if column == name] or [
                i for i, column in enumerate(folded) if column == name.casefold()
            ]
            if len(found) > 1:
                numbers = " and ".join(str(i + 1) for i in found)
                raise DataError(
                    f"{self.path} row 1: a column name must occur once. Received: columns "
                    f"{numbers} with the name of the {kind} column; choose one by its number, as "
                    f"in --{kind}-column {found[0] + 1}"
                )
            if found:
                return found[0]
        by_number = {str(i): i for i in range(1, len(self.columns) + 1)}
        if (number := by_number.get(wanted or "")) is not None:
            self._check_no_header_is_lost(number, kind)
            return number - 1
        names = f"{' or '.join(usual)}, or be given by an option"
        rule = f"named {names}" if wanted is None else f"named {wanted!r}"
        if not self._options.header:
            rule = f"given by its number, from 1 to {len(self.columns)}, as the file has no header"
        shown, advice = self.show_columns(), ""
        if self._options.header and not shown.startswith("the columns"):
            advice = f"; for a file without a header, pass --no-header and --{kind}-column NUMBER"
        raise DataError(
            f"{self.path} row 1: the {kind} column must be {rule}. Received {shown}{advice}"
        )

    def show_columns(self) -> str:
        """Return the columns for a message; only their number if they may be texts."""
        if self._looks_like_header():
            more = len(self.columns) - _MOST_SHOWN
            names = [repr(name) for name in self.columns[:_MOST_SHOWN]]
            return "the columns: " + ", ".join(
                [*names, *([f"and {more} more"] if more > 0 else [])]
            )
        count = len(self.columns)
        return f"{count} column{'s' * (count != 1)} with other names"

    def _check_no_header_is_lost(self, number: int, kind: str) -> None:
        """Refuse a label that stands in the header: the file seems to have none.

        Raises:
            DataError: The header's cell occurs again below it.
        """
        if kind != "label" or not self._options.header or self.format not in ("csv", "excel"):
            return
        name = self.columns[number - 1]
        if any(row.cells[number - 1].strip() == name for row in self._first_rows()):
            raise DataError(
                f"{self.path} row 1: the name of a column must not be one of its values. "
                f"Received: column {number}, whose first cell occurs again; for a file without a "
                "header, pass --no-header"
            )

    def _looks_like_header(self) -> bool:
        """Whether each name is short, no number, without white space, and not repeated below."""
        if not self._options.header:
            return False
        if self.format in ("json-lines", "parquet"):
            return True
        for name in self.columns:
            bare = name.replace("_", "").replace("-", "").replace(".", "")
            if name and (len(name) > _LONGEST_NAME or not bare.isalnum() or bare.isdecimal()):
                return False
        for row in self._first_rows():
            if any(
                cell.strip() == name for cell, name in zip(row.cells, self.columns, strict=True)
            ):
                return False
        return True

    def _first_rows(self) -> list[Row]:
        """The first rows below the header. The file is closed again, whatever follows."""
        with closing(self.rows(lambda bad: None)) as rows:
            return list(islice(rows, _SAMPLE_LINES))

    def _detect_format(self, start: bytes) -> TableFormat:
        is_json, wanted = False, self._options.format
        binary: TableFormat | None = None
        if start.startswith(PARQUET_MAGIC):
            binary = "parquet"
        elif is_workbook(start):
            binary = "excel"
        if wanted not in ("auto", binary) and (binary or wanted in ("parquet", "excel")):
            received = binary or "a file of characters"
            raise DataError(f"{self.path}: the file must be {wanted}. Received: {received}")
        if binary is not None:
            return binary
        if wanted != "auto":
            return wanted
        if self._options.delimiter is not None or self._options.split_cells:
            return "csv"
        suffix = bare_suffix(self.path)
        bare = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        if bare.startswith(PREFIX.encode()):
            return "fasttext"
        if suffix in _JSON_SUFFIXES:
            is_json = True
        elif bare.startswith(b"{") and suffix not in _SUFFIX_DELIMITERS:
            first = bare.split(b"\n", 1)[0].decode("utf-8", "replace")
            try:
                is_json = bool(parse_object(first))
            except ValueError:
                is_json = False
        if is_json and bare.startswith(b"["):
            raise DataError(
                f"{self.path}: JSON must have one object per line. Received: one array; "
                "jq -c '.[]' writes its objects as lines"
            )
        return "json-lines" if is_json else "csv"

    def _detect_characters(self, opened: Opened) -> None:
        start = opened.start
        self.encoding = detect_encoding(start, self._options.encoding)
        lines = Lines(opened, self.encoding, str(self.path))
        options = self._options
        if self.encoding == "utf-8":
            try:
                check_not_utf16(start)
            except DataError as error:
                raise DataError(f"{self.path}: {error}") from error
        if self.format != "csv" or options.split_cells is not None:
            return
        if options.delimiter is not None:
            self.delimiter = check_delimiter(options.delimiter)
            return
        usual = _SUFFIX_DELIMITERS.get(bare_suffix(self.path))
        sample = [line for line in lines.sample() if line]
        self.delimiter = detect_delimiter(sample[:_SAMPLE_LINES], usual) or usual or ","

    def _read_columns(self, opened: Opened) -> list[str]:
        if self.format == "parquet":
            return read_parquet(self.path, opened.file)[0]
        if self.format == "fasttext":
            return list(COLUMNS)
        if self.format == "json-lines":
            return self._read_keys(opened)
        first = next(self._read(opened, self._refuse_header, header=True), None)
        if first is None:
            raise DataError(f"{self.path}: there are no rows to read")
        if not self._options.header:
            return [str(number) for number in range(1, len(first.cells) + 1)]
        return [name.strip() for name in first.cells]

    def _read_keys(self, opened: Opened) -> list[str]:
        """Return the keys of the first objects, in the order in which they appear."""
        keys: dict[str, None] = {}
        for line in Lines(opened, self.encoding, str(self.path)).sample()[:_SAMPLE_LINES]:
            try:
                keys |= dict.fromkeys(parse_object(line.strip() or "{}"))
            except ValueError:
                continue  # a bad row, reported when the rows are read
        return list(keys)

    def _read(
        self,
        opened: Opened,
        refuse: Refuse,
        *,
        header: bool = False,
        plain: Collection[int] | None = None,
    ) -> Iterator[Row]:
        """Yield the rows of the opened file, the header only if asked for."""
        rows = self._read_all(opened, refuse, plain)
        if self.format in ("csv", "excel") and self._options.header and not header:
            next(rows, None)
        return rows

    def _read_all(
        self, opened: Opened, refuse: Refuse, plain: Collection[int] | None
    ) -> Iterator[Row]:
        if self.format == "parquet":
            return read_parquet(self.path, opened.file, refuse, plain)[1]
        if self.format == "excel":
            self.sheet, rows = read_workbook(self.path, opened.file)
            return rows
        lines = Lines(opened, self.encoding, str(self.path))
        if self.format == "json-lines":
            return read_json_lines(lines, self.columns, refuse, plain or ())
        if self.format == "fasttext":
            return read_fasttext(lines, refuse)
        quoting, split_cells = self._options.quoting, self._options.split_cells
        return read_delimited(lines, Dialect(self.delimiter or ",", quoting, split_cells), refuse)

    def _refuse_header(self, bad: BadRow) -> None:
        advice = f"; {bad.advice}" if bad.advice else ""
        raise DataError(f"{self.path} {bad.place()}: {bad.rule}{advice}")


def open_table(path: Path, options: TableOptions | None = None) -> Table:
    """Tell how a table is written from its first bytes, and read the names of its columns.

    Args:
        path: The file; `-` is standard input.
        options: What is known already.

    Raises:
        DataError: The file is missing, empty, no table, or its header breaks a rule.
        InvalidInput: The encoding is unknown.
        MissingLibrary: The format needs a library that is not installed.
    """
    return Table(path, options or TableOptions())


def bare_suffix(path: Path) -> str:
    """Return the suffix in lower case, without that of the packing."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz").removesuffix(".zip")).suffix
