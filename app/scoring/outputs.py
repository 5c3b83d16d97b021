"""Rows with their verdicts as CSV, TSV, JSON lines or Parquet."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol, get_args

from app.errors import InvalidInput
from app.scoring.files import AppendedFile, encode, encode_csv
from app.scoring.verdicts import DECIMALS, AddedColumns, choose_label
from app.tables.columnar import json_values
from app.tables.containers import STANDARD_INPUT
from app.tables.parquet_parts import ParquetParts
from app.tables.rows import Row

OutputFormat = Literal["csv", "tsv", "jsonl", "parquet"]
STANDARD_OUTPUT: Final = STANDARD_INPUT
_SUFFIXES: Final[dict[str, OutputFormat]] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}

Verdict = tuple[Sequence[float] | None, str | None]
"""The probabilities of a row, or why there are none."""


def choose_format(path: Path, wanted: str | None) -> tuple[OutputFormat, bool]:
    """Return the format of an output, and whether it is packed with gzip.

    Raises:
        InvalidInput: The name of the file does not tell, or tells of something else.
    """
    name = path.name.lower()
    packed = name.endswith(".gz")
    told = _SUFFIXES.get(Path(name.removesuffix(".gz")).suffix)
    if wanted is not None:
        found = next(each for each in get_args(OutputFormat) if each == wanted)
    elif path == STANDARD_OUTPUT:
        found = "csv"
    elif told is None:
        raise InvalidInput(
            "the name of the output must end in .csv, .tsv, .jsonl or .parquet, the first three "
            "perhaps with .gz, or --output-format must name its format. "
            f"Received: {path.name}"
        )
    else:
        found = told
    if found == "parquet" and (packed or path == STANDARD_OUTPUT):
        raise InvalidInput("Parquet must be written to a file without .gz; it is packed already")
    return found, packed


class Shape(Protocol):
    """What an output must know of a table."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        ...

    @property
    def format(self) -> str:
        """How it is read; see `app.tables.table`."""
        ...


class Output(Protocol):
    """Where rows go. `mark` tells how far it has come, and `open` goes on from there."""

    def open(self, mark: Any) -> None:
        """Begin anew, with None, or after what a mark counts; the rest is dropped."""
        ...

    def write(self, rows: Sequence[Row], verdicts: Sequence[Verdict]) -> None:
        """Add rows."""
        ...

    def mark(self) -> Any:
        """Return how much was written, once it is on the disk; JSON can hold it."""
        ...

    def finish(self) -> Path | None:
        """Return the complete file, which is to be moved to its place."""
        ...

    def is_moved(self) -> bool:
        """Whether the complete file is no longer where `finish` has made it."""
        ...

    def close(self) -> None:
        """Close without completing anything."""
        ...


class TextOutput:
    """CSV, TSV or JSON lines."""

    def __init__(
        self,
        file: "AppendedFile | StandardOutput",
        path: Path | None,
        encoder: "DelimitedEncoder | JsonEncoder",
    ) -> None:
        self._file, self._path, self._encoder = file, path, encoder

    def open(self, mark: Any) -> None:
        """See `Output`."""
        self._file.open(mark or 0)
        if not mark and (header := self._encoder.header()):
            self._file.append(header)

    def write(self, rows: Sequence[Row], verdicts: Sequence[Verdict]) -> None:
        """See `Output`."""
        if rows:
            self._file.append(self._encoder.encode(rows, verdicts))

    def mark(self) -> int:
        """See `Output`."""
        return self._file.mark()

    def finish(self) -> Path | None:
        """See `Output`."""
        self._file.close()
        return self._path

    def is_moved(self) -> bool:
        """See `Output`."""
        return self._path is not None and not self._path.exists()

    def close(self) -> None:
        """See `Output`."""
        self._file.close()


class StandardOutput:
    """Standard output, as `AppendedFile` without a past."""

    def open(self, _mark: int) -> None:
        """Nothing to open."""

    def append(self, piece: bytes) -> None:
        """Write bytes, at once: who reads them may want to see rows come."""
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()

    def mark(self) -> int:
        """Nothing can be taken back."""
        return 0

    def close(self) -> None:
        """It stays open."""


class DelimitedEncoder:
    """Rows as CSV or TSV, quoted as in RFC 4180 where needed, with a header."""

    def __init__(self, columns: Sequence[str], added: AddedColumns, delimiter: str) -> None:
        self._header = [*columns, *added.names]
        self._labels = added.labels
        self._delimiter = delimiter
        self._failed = [""] * (2 + len(added.labels))

    def header(self) -> bytes:
        """Return the names of the columns."""
        return encode_csv([self._header], self._delimiter)

    def encode(self, rows: Sequence[Row], verdicts: Sequence[Verdict]) -> bytes:
        """Return rows with their verdicts."""
        lines = []
        for row, (probabilities, error) in zip(rows, verdicts, strict=True):
            if probabilities is None:
                lines.append([*row.cells, *self._failed, error or ""])
                continue
            confidence = max(probabilities)
            label = choose_label(self._labels, probabilities)
            numbers = [f"{number:.{DECIMALS}f}" for number in (confidence, *probabilities)]
            lines.append([*row.cells, label, *numbers, ""])
        return encode_csv(lines, self._delimiter)


class JsonEncoder:
    """Rows as JSON lines. An object from JSON lines keeps its spelling, to the last space.

    Args:
        table: Where the rows come from.
        added: The added columns.
    """

    def __init__(self, table: Shape, added: AddedColumns) -> None:
        self._columns = table.columns
        self._keeps_objects = table.format == "json-lines"
        self._has_types = table.format == "parquet"
        self._labels = added.labels
        self._keys = [json.dumps(name, ensure_ascii=False) for name in added.names]

    def header(self) -> bytes:
        """There is none."""
        return b""

    def encode(self, rows: Sequence[Row], verdicts: Sequence[Verdict]) -> bytes:
        """Return rows with their verdicts."""
        lines = []
        for row, verdict in zip(rows, verdicts, strict=True):
            start = row.raw if self._keeps_objects else self._describe(row)
            start = start.rstrip().removesuffix("}").rstrip()
            comma = "" if start.endswith("{") else ", "
            lines.append(f"{start}{comma}{self._verdict(verdict)}}}\n")
        return encode("".join(lines))

    def _describe(self, row: Row) -> str:
        values = json_values(row) if self._has_types else row.cells
        return json.dumps(dict(zip(self._columns, values, strict=True)), ensure_ascii=False)

    def _verdict(self, verdict: Verdict) -> str:
        probabilities, error = verdict
        if probabilities is None:
            values = ["null"] * (2 + len(self._labels)) + [json.dumps(error, ensure_ascii=False)]
        else:
            confidence = max(probabilities)
            label = choose_label(self._labels, probabilities)
            numbers = [f"{number:.{DECIMALS}f}" for number in (confidence, *probabilities)]
            values = [json.dumps(label, ensure_ascii=False), *numbers, "null"]
        return ", ".join(f"{key}: {value}" for key, value in zip(self._keys, values, strict=True))


class ParquetOutput:
    """Parquet: the columns of a Parquet file keep their types, all others are strings.

    Args:
        folder: For the parts.
        table: Where the rows come from.
        added: The added columns.

    Raises:
        MissingLibrary: pyarrow is not installed.
    """

    def __init__(self, folder: Path, table: Shape, added: AddedColumns) -> None:
        names = added.names
        types = dict.fromkeys(names[1:-1], "float64")
        self._parts = ParquetParts(
            folder, table.columns, {name: types.get(name, "string") for name in names}
        )
        self._labels = added.labels

    def open(self, mark: Any) -> None:
        """See `Output`."""
        self._parts.open(mark or 0)

    def write(self, rows: Sequence[Row], verdicts: Sequence[Verdict]) -> None:
        """See `Output`."""
        added: list[list[Any]] = []
        for probabilities, error in verdicts:
            if probabilities is None:
                added.append([None, None, *[None] * len(self._labels), error])
            else:
                confidence = max(probabilities)
                label = choose_label(self._labels, probabilities)
                added.append([label, confidence, *probabilities, None])
        self._parts.append(rows, added)

    def mark(self) -> int:
        """See `Output`."""
        return self._parts.mark()

    def finish(self) -> Path:
        """See `Output`."""
        return self._parts.join()

    def is_moved(self) -> bool:
        """See `Output`."""
        return False  # joining the parts once more costs little

    def close(self) -> None:
        """See `Output`."""


def open_output(
    table: Shape, added: AddedColumns, *, kind: OutputFormat, packed: bool, folder: Path | None
) -> Output:
    """Make an output.

    Args:
        table: Where the rows come from.
        added: The added columns.
        kind: The format of the output.
        packed: Whether it is packed with gzip.
        folder: For unfinished files; None for standard output.

    Raises:
        InvalidInput: The format cannot hold the columns of the table.
        MissingLibrary: The format is Parquet, and pyarrow is not installed.
    """
    if kind in ("jsonl", "parquet") and len(set(table.columns)) < len(table.columns):
        raise InvalidInput(
            f"the columns of a table must have different names to be written as {kind}. "
            "Received: a name twice; CSV and TSV can hold it"
        )
    if kind == "parquet":
        if folder is None:
            raise InvalidInput("Parquet must be written to a file")
        return ParquetOutput(folder, table, added)
    encoder = (
        JsonEncoder(table, added)
        if kind == "jsonl"
        else DelimitedEncoder(table.columns, added, "," if kind == "csv" else "\t")
    )
    if folder is None:
        return TextOutput(StandardOutput(), None, encoder)
    path = folder / f"rows.{kind}"
    return TextOutput(AppendedFile(path, packed=packed), path, encoder)
