"""Parquet that grows by parts, each a file of its own, and is joined when it is complete."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from app.errors import MissingLibrary
from app.tables.rows import Row

_GROUP_ROWS: Final = 2**16
_GROUP_BYTES: Final = 2**24
"""The largest row group, in rows and in bytes in memory; whole parts make a group."""


class ParquetParts:
    """Rows of a table and further columns.

    Args:
        folder: For the parts.
        columns: The columns of the table. Of a Parquet file they keep their types; all others
            are strings.
        added: The further columns and their types, as pyarrow names these.

    Raises:
        MissingLibrary: pyarrow is not installed.
    """

    def __init__(self, folder: Path, columns: Sequence[str], added: Mapping[str, str]) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ModuleNotFoundError as error:
            raise MissingLibrary(
                "writing Parquet needs pyarrow: pip install valence[tables]"
            ) from error
        self._arrow: Any = pyarrow
        self._parquet: Any = parquet
        self._folder = folder
        self._columns = columns
        self._added = added
        self._tables: list[Any] = []
        self._parts = 0

    def open(self, parts: int) -> None:
        """Go on after so many parts; later ones are dropped."""
        self._parts, self._tables = parts, []
        for path in self._folder.glob("part-*.parquet"):
            if int(path.stem.removeprefix("part-")) >= parts:
                path.unlink()

    def append(self, rows: Sequence[Row], added: Sequence[Sequence[Any]]) -> None:
        """Add rows, with one value for each further column."""
        if not rows:
            return
        arrow = self._arrow
        fields = [arrow.field(name, kind) for name, kind in self._added.items()]
        columns = [
            arrow.array(column, field.type)
            for column, field in zip(zip(*added, strict=True), fields, strict=True)
        ]
        start = self._slices(rows) if rows[0].origin and _is_batch(rows[0]) else self._strings(rows)
        schema = start.schema
        for field in fields:
            schema = schema.append(field)
        self._tables.append(
            arrow.Table.from_arrays(
                [*start.columns, *map(arrow.chunked_array, ([c] for c in columns))], schema=schema
            )
        )

    def _slices(self, rows: Sequence[Row]) -> Any:
        """Return rows of Parquet as they are."""
        slices = []
        first = 0
        for end in range(1, len(rows) + 1):
            batch, place = rows[first].origin
            if end == len(rows) or rows[end].origin[0] is not batch:
                slices.append(batch.slice(place, end - first))
                first = end
        return self._arrow.Table.from_batches(slices)

    def _strings(self, rows: Sequence[Row]) -> Any:
        columns = list(zip(*(row.cells for row in rows), strict=True))
        try:
            arrays = [self._arrow.array(column, "string") for column in columns]
        except UnicodeEncodeError:  # lone surrogates, which UTF-8 lacks
            arrays = [
                self._arrow.array(
                    [cell.encode("utf-8", "backslashreplace").decode() for cell in column]
                )
                for column in columns
            ]
        return self._arrow.Table.from_arrays(arrays, names=list(self._columns))

    def mark(self) -> int:
        """Return the number of parts, once all rows are in one that is on the disk."""
        if self._tables:
            path = self._folder / f"part-{self._parts:06}.parquet"
            self._parquet.write_table(self._arrow.concat_tables(self._tables), path)
            with path.open("rb") as part:
                os.fsync(part.fileno())
            self._tables = []
            self._parts += 1
        return self._parts

    def join(self) -> Path:
        """Write all parts into one file, and return it."""
        self.mark()
        path = self._folder / "rows.parquet"
        paths = [self._folder / f"part-{number:06}.parquet" for number in range(self._parts)]
        if not paths:
            fields = [(name, "string") for name in self._columns]
            schema = self._arrow.schema([*fields, *self._added.items()])
            self._parquet.write_table(schema.empty_table(), path)
            return path
        group: list[Any] = []
        with self._parquet.ParquetWriter(path, self._parquet.read_schema(paths[0])) as writer:
            for part in paths:
                table = self._parquet.ParquetFile(part).read()
                rows = sum(each.num_rows for each in group) + table.num_rows
                size = sum(each.nbytes for each in group) + table.nbytes
                if group and (rows > _GROUP_ROWS or size > _GROUP_BYTES):
                    writer.write_table(self._arrow.concat_tables(group))
                    group = []
                group.append(table)
            writer.write_table(self._arrow.concat_tables(group))
        return path


def _is_batch(row: Row) -> bool:
    return isinstance(row.origin, tuple)
