"""Rows of Parquet files and Excel workbooks, as strings; each needs its library."""

import json
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import IO, Any, Final

from app.errors import DataError, MissingLibrary
from app.tables.rows import BadRow, Row

_BATCH_ROWS: Final = 1024
"""Rows of Parquet in memory at once; their cells take several times the space in Python."""


def read_parquet(
    path: Path,
    file: IO[bytes],
    refuse: Callable[[BadRow], None] | None = None,
    plain: Collection[int] | None = None,
) -> tuple[list[str], Iterator[Row]]:
    """Return the columns of a Parquet file and its rows; the first row has number 1.

    Args:
        path: For messages.
        file: Can be sought in.
        refuse: Called with each row that is not yielded.
        plain: The positions of the columns to read, whose values must not be nested; the others
            are empty. Default: all, nested or not.

    Raises:
        DataError: The file is damaged.
        MissingLibrary: pyarrow is not installed.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise MissingLibrary(
            f"{path}: reading Parquet needs pyarrow: pip install valence[tables]"
        ) from error
    try:
        parquet = ParquetFile(file)
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: the Parquet file is damaged or cut short") from error
    names = list(parquet.schema_arrow.names)
    read = sorted(range(len(names)) if plain is None else plain)

    def values() -> Iterator[tuple[Sequence[Any], Any]]:
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=[names[i] for i in read]):
            columns = [_to_python(column) for column in batch.columns]
            for place, found in enumerate(zip(*columns, strict=True)):
                yield found, (batch, place)

    def rows() -> Iterator[Row]:
        number = 0
        remaining = values()
        while True:
            try:
                item = next(remaining, None)
            except (ArrowException, OSError, ValueError, OverflowError) as error:
                raise DataError(
                    f"{path}: the Parquet file is damaged after row {number}, or has values that "
                    "Python cannot hold"
                ) from error
            if item is None:
                return
            found, origin = item
            number += 1
            if plain is not None and any(isinstance(v, dict | list | bytes) for v in found):
                rule = "a text, a label or a group must be a string or a number. Received: another"
                if refuse is not None:
                    refuse(BadRow(number, number, rule, ""))
                continue
            cells = [""] * len(names)
            for i, value in zip(read, found, strict=True):
                cells[i] = _spell(value)
            yield Row(number, number, cells, origin=origin)

    return names, rows()


def json_values(row: Row) -> list[Any]:
    """Return the values of a row of Parquet as JSON can hold them, numbers as numbers."""
    batch, place = row.origin
    columns = batch.slice(place, 1).columns
    return [
        _to_json(_to_python(column)[0], cell)
        for column, cell in zip(columns, row.cells, strict=True)
    ]


def _to_json(value: Any, spelled: str) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return json.loads(spelled) if isinstance(value, dict | list) else spelled


def _to_python(column: Any) -> list[Any]:
    try:
        values: list[Any] = column.to_pylist()
    except ValueError:  # Python has no times with nanoseconds
        values = column.cast("string").to_pylist()
    return values


def read_workbook(path: Path, file: IO[bytes]) -> tuple[str, Iterator[Row]]:
    """Return the name of a workbook's first sheet and its rows, the header included.

    Every row has as many cells as the first one. Rows without any cell are no rows.

    Raises:
        DataError: The file is damaged.
        MissingLibrary: openpyxl is not installed.
    """
    try:
        from openpyxl import load_workbook
    except ModuleNotFoundError as error:
        raise MissingLibrary(
            f"{path}: reading Excel needs openpyxl: pip install valence[tables]"
        ) from error
    try:
        workbook = load_workbook(file, read_only=True, data_only=True)
        sheet = workbook.worksheets[0]
        sheet.reset_dimensions()  # what the file says of them may be wrong
    except Exception as error:
        # openpyxl raises whatever the broken XML provokes
        raise DataError(f"{path}: the Excel workbook is damaged or has no sheet") from error

    def lines() -> Iterator[tuple[int, Sequence[Any]]]:
        try:
            yield from enumerate(sheet.iter_rows(values_only=True), start=1)
        except Exception as error:  # as above
            raise DataError(f"{path}: the Excel workbook has a damaged sheet") from error

    def rows() -> Iterator[Row]:
        number = width = 0
        for line, cells in lines():
            spelled = [_spell(cell) for cell in cells]
            if not any(spelled):
                continue
            number += 1
            if number == 1:
                width = max(i for i, cell in enumerate(spelled, start=1) if cell)
            yield Row(number, line, [*spelled, *[""] * width][:width])

    return str(sheet.title), rows()


def _spell(value: Any) -> str:
    """Return a value as CSV would hold it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=_spell)
    return str(value)
