"""A table in, the same table with verdicts out, in constant memory and in the order of its rows.

Rows are read in chunks, which are scored while later ones are read, and written in order. A chunk
begins where the one before it ended, and its end depends on its rows alone; so a run that goes on
after a kill computes the same chunks, and writes the same bytes, as one that was never killed.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from app.scoring.files import BadRowsFile
from app.scoring.outputs import Output, Verdict
from app.scoring.verdicts import AddedColumns, Pending, Scorer, Scores
from app.scoring.work import State, WorkFolder
from app.tables.rows import BadRow, Row
from app.tables.table import Table

_CHUNK_CHARS: Final = 2**21
_SAVE_EVERY_S: Final = 2.0
_SAVE_EVERY_ROWS: Final = 2**12

Check = Callable[[str], str | None]
"""Says why a text is not valid; None if it is."""
Report = Callable[[int, float], None]
"""Is told how many rows are done, and the share of the input that was read."""


@dataclass(slots=True)
class Chunk:
    """Rows that are scored together.

    Attributes:
        rows: All rows.
        texts: The valid texts among theirs.
        errors: Why the text of a row is not valid, by its position.
        end: The number of the last row that was read, good or bad.
        bad, bad_bytes: As in `State`, up to there.
    """

    rows: list[Row] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    errors: dict[int, str] = field(default_factory=dict)
    end: int = 0
    bad: int = 0
    bad_bytes: int = 0

    def verdicts(self, scores: Scores) -> list[Verdict]:
        """Return the verdict of each row, from the scores of the texts."""
        found: list[Verdict] = []
        listed = scores.probabilities.tolist()
        position = 0
        for index in range(len(self.rows)):
            error = self.errors.get(index)
            if error is None:
                error = scores.errors.get(position)
                found.append((None, error) if error is not None else (listed[position], None))
                position += 1
            else:
                found.append((None, error))
        return found


class ChunkReader:
    """Cuts the rows of a table into chunks.

    Args:
        table: The table.
        column: The position of the column of texts.
        check: The rules of a text.
        added: The columns that will be added.
        keeps_keys: Whether the output can hold keys of an object that are no columns.
        bad_rows: Where rows go that break a rule of the table.
        chunk_texts: The most rows of a chunk.
        chunk_chars: A chunk ends with the text that reaches so many characters.
    """

    def __init__(
        self,
        table: Table,
        column: int,
        *,
        check: Check,
        added: AddedColumns,
        keeps_keys: bool,
        bad_rows: BadRowsFile,
        chunk_texts: int,
        chunk_chars: int = _CHUNK_CHARS,
    ) -> None:
        self._table, self._column, self._check = table, column, check
        self._names = frozenset(added.names)
        self._columns = frozenset(table.columns)
        self._key = table.columns[column]
        self._has_objects = table.format == "json-lines"
        self._keeps_keys = keeps_keys
        self._bad_rows = bad_rows
        self._chunk_texts, self._chunk_chars = chunk_texts, chunk_chars
        self._done = self._last = 0

    def chunks(self, done: int) -> Iterator[Chunk]:
        """Yield the chunks of all rows after the one with the number `done`."""
        self._done = self._last = done
        chunk, chars = Chunk(), 0
        for row in self._table.rows(self._refuse):
            if row.number <= done or self._clashes(row):
                continue
            self._last = row.number
            text = row.cells[self._column]
            error = self._check_text(row, text)
            if error is None:
                chunk.texts.append(text)
                chars += len(text)
            else:
                chunk.errors[len(chunk.rows)] = error
            chunk.rows.append(row)
            if len(chunk.rows) == self._chunk_texts or chars >= self._chunk_chars:
                yield self._cut(chunk)
                chunk, chars = Chunk(), 0
        if chunk.rows or self._last > done:
            yield self._cut(chunk)

    def _cut(self, chunk: Chunk) -> Chunk:
        chunk.end = self._last
        chunk.bad, chunk.bad_bytes = self._bad_rows.count, self._bad_rows.bytes
        return chunk

    def _refuse(self, bad: BadRow) -> None:
        if bad.number > self._done:
            self._last = bad.number
            self._bad_rows.add(bad)

    def _check_text(self, row: Row, text: str) -> str | None:
        if self._has_objects and isinstance(row.origin.get(self._key), dict | list):
            return "the text must be a string"
        return self._check(text)

    def _clashes(self, row: Row) -> bool:
        """Whether an object has keys that the output has no place for; then it is a bad row."""
        if not self._has_objects:
            return False
        keys: Collection[str] = row.origin.keys()
        if not self._names.isdisjoint(keys):
            rule = (
                "an object must not have the keys that are added. Received: one that the first "
                "objects of the file do not have; --prefix TEXT puts a text before the added keys"
            )
        elif not self._keeps_keys and not self._columns.issuperset(keys):
            rule = (
                "an object must not have keys that the first objects of the file do not have. "
                "Received: a new key; an output of JSON lines can hold it"
            )
        else:
            return False
        self._refuse(BadRow(row.number, row.line, rule, row.raw))
        return True


class Job:
    """One run.

    Args:
        reader: The rows.
        scorer: What scores them.
        output: Where they go.
        bad_rows: Where bad rows go; the same as the reader's.
        work: Where the state is saved; None if the run cannot be continued.
        report: Shows progress.
        share_read: Tells the share of the input that was read.
        clock: Monotonic, in seconds.
    """

    def __init__(
        self,
        reader: ChunkReader,
        scorer: Scorer,
        output: Output,
        bad_rows: BadRowsFile,
        work: WorkFolder | None,
        *,
        report: Report = lambda _rows, _share: None,
        share_read: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader, self._scorer, self._output = reader, scorer, output
        self._bad_rows, self._work = bad_rows, work
        self._report, self._share_read, self._clock = report, share_read, clock
        self._state = State()
        self._saved, self._saved_at = State(), clock()
        self._half_written = False

    def run(self, state: State) -> State:
        """Score all rows that the state does not count, and return the last state.

        Raises:
            ValenceError: The scorer has failed, or the table is damaged. What was written is
                saved, so that the same command goes on from there.
        """
        self._state = self._saved = state
        self._bad_rows.open(state.bad_bytes, state.bad)
        self._output.open(state.output)
        pending: deque[tuple[Chunk, Pending, float]] = deque()
        try:
            for chunk in self._reader.chunks(state.row):
                pending.append((chunk, self._scorer.submit(chunk.texts), self._share_read()))
                while len(pending) > self._scorer.depth or (pending and pending[0][1].done()):
                    self._write(*pending.popleft())
            while pending:
                self._write(*pending.popleft())
        finally:
            for _, scores, _ in pending:
                scores.cancel()
            self._save()
        return self._state

    def _write(self, chunk: Chunk, pending: Pending, share: float) -> None:
        scores = pending.result()
        self._half_written = True
        self._output.write(chunk.rows, chunk.verdicts(scores))
        failed = len(chunk.errors) + len(scores.errors)
        self._state = State(
            row=chunk.end,
            scored=self._state.scored + len(chunk.rows) - failed,
            failed=self._state.failed + failed,
            bad=chunk.bad,
            bad_bytes=chunk.bad_bytes,
        )
        self._half_written = False
        done = self._state.scored + self._state.failed
        self._report(done, share)
        late = self._clock() - self._saved_at >= _SAVE_EVERY_S
        if late or done - self._saved.scored - self._saved.failed >= _SAVE_EVERY_ROWS:
            self._save()

    def _save(self) -> None:
        """Save the state, after what it counts is on the disk."""
        if self._work is None or self._state is self._saved or self._half_written:
            return
        self._bad_rows.flush()
        self._state = replace(self._state, output=self._output.mark())
        self._work.save(self._state)
        self._saved, self._saved_at = self._state, self._clock()
