"""`valence score`: the parts of a run put together."""

import argparse
import os
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from app.api.body import check_text
from app.command_line import FAILED, OK
from app.configuration import (
    divide_cores,
    engine_options,
    parse_version_option,
    request_limits,
)
from app.errors import InvalidInput
from app.score_options import BATCH_ITEMS, KEY_VARIABLE
from app.scoring.files import BadRowsFile
from app.scoring.job import Check, ChunkReader, Job, Report
from app.scoring.local import LocalScorer, Recipe, load_first
from app.scoring.outputs import STANDARD_OUTPUT, Output, choose_format, open_output
from app.scoring.progress import Progress
from app.scoring.verdicts import AddedColumns, Scorer
from app.scoring.work import State, WorkFolder
from app.serving.engines import load_engine
from app.serving.repository import Repository
from app.settings import Settings
from app.tables.containers import STANDARD_INPUT
from app.tables.rows import check_bad_rows_file
from app.tables.table import TEXT_COLUMNS, Table, TableOptions, open_table


def score(options: argparse.Namespace, settings: Settings) -> tuple[list[str], int]:
    """Score one table.

    Returns:
        What to say of it, line by line, and the exit status.

    Raises:
        InvalidInput: The options contradict each other, the table or an unfinished run.
        ValenceError: The run failed.
    """
    if options.on_ray:
        return _score_on_ray(options, settings)
    plan = _Plan(options)
    progress = Progress(sys.stderr)
    scorer = _make_scorer(options, settings)
    try:
        run = plan.prepare(scorer, settings)
        before = run.state
        started = time.monotonic()
        after = run.score(progress.update)
        seconds = time.monotonic() - started
    finally:
        progress.clear()
        scorer.close()
    return _report(options, plan.bad_rows, scorer.version, before, after, seconds)


class _Plan:
    """What the options ask for, checked as far as it can be without a model.

    Attributes:
        table: The input.
        bad_rows: The path of the file of bad rows.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._format, self._packed = choose_format(options.output, options.output_format)
        self.bad_rows = options.bad_rows or _default_bad_rows(options.input, options.output)
        self._check_paths()
        self._table_options = _table_options(options)
        self.table = open_table(options.input, self._table_options)
        self._column = _find_text(self.table, options)

    def prepare(self, scorer: Scorer, settings: Settings) -> "_Run":
        """Open what a run needs, and find the state of an earlier one."""
        options, table = self._options, self.table
        added = AddedColumns(scorer.labels, options.prefix)
        added.check(table.columns)
        work = None if options.output == STANDARD_OUTPUT else WorkFolder(options.output)
        output = open_output(
            table,
            added,
            kind=self._format,
            packed=self._packed,
            folder=None if work is None else work.path,
        )
        bad_rows = BadRowsFile(self.bad_rows)
        reader = ChunkReader(
            table,
            self._column,
            check=_text_rules(settings),
            added=added,
            keeps_keys=self._format == "jsonl",
            bad_rows=bad_rows,
            chunk_texts=scorer.chunk_texts,
        )
        state = State()
        if work is not None:
            state = work.open(self._identify(scorer, settings), restart=options.restart)
        job = partial(Job, reader, scorer, output, bad_rows, work, share_read=table.share_read)
        return _Run(job, output, bad_rows, work, state)

    def _check_paths(self) -> None:
        options = self._options
        if options.input == STANDARD_INPUT and sys.stdin is None:
            raise InvalidInput("- reads the table from standard input, which is closed")
        if options.output == STANDARD_OUTPUT and sys.stdout is None:
            raise InvalidInput("- writes the table to standard output, which is closed")
        paths = [options.input, options.output, self.bad_rows]
        files = [path.resolve() for path in paths if path != STANDARD_INPUT]
        if len(set(files)) < len(files):
            raise InvalidInput("IN, OUT and the file of bad rows must be different files")
        if options.output != STANDARD_OUTPUT and options.output.is_dir():
            raise InvalidInput(f"OUT must be a file. Received: {options.output}, which is a folder")
        check_bad_rows_file(self.bad_rows)

    def _identify(self, scorer: Scorer, settings: Settings) -> dict[str, Any]:
        """Return what must be equal for a run to be continued; see `WorkFolder.open`."""
        options = self._options
        if options.input == STANDARD_INPUT:
            content: Any = secrets.token_hex()
        else:
            about = options.input.stat()
            content = [str(options.input.resolve()), about.st_size, about.st_mtime_ns]
        return {
            "input": content,
            "model": scorer.identity,
            "option": {
                "table": asdict(self._table_options),
                "text": self._column,
                "output": [self._format, self._packed],
                "prefix": options.prefix,
                "bad_rows": str(self.bad_rows.resolve()),
                "max_text_chars": settings.max_text_chars,
                "batch": [_batch_items(settings), settings.max_batch_tokens],
                "chunk": scorer.chunk_texts,
            },
        }


class _Run:
    """One run over a table, from its first row or from where an earlier run has stopped.

    Attributes:
        state: How far the earlier run has come.
    """

    def __init__(
        self,
        job: Callable[..., Job],
        output: Output,
        bad_rows: BadRowsFile,
        work: WorkFolder | None,
        state: State,
    ) -> None:
        self.state = state
        self._job, self._output, self._bad_rows, self._work = job, output, bad_rows, work

    def score(self, report: Report) -> State:
        """Score the rows that are left, and put all files in their places."""
        work = self._work
        if work is not None and self.state.complete and self._output.is_moved():
            work.remove()  # it was killed after its last step but one
            return self.state
        try:
            state = self._job(report=report).run(self.state)
            if work is not None:
                work.save(replace(state, complete=True))
            complete = self._output.finish()
            self._bad_rows.finish()
            if work is not None and complete is not None:
                work.finish(complete)
        finally:
            self._output.close()
            self._bad_rows.close()
            if work is not None:
                work.close()
        return state


def _table_options(options: argparse.Namespace) -> TableOptions:
    return TableOptions(
        encoding=options.encoding,
        delimiter=options.delimiter,
        quoting=options.quoting,
        header=options.header,
    )


def _find_text(table: Table, options: argparse.Namespace) -> int:
    if options.text_column is None and len(table.columns) == 1:
        return 0
    return table.find_column(options.text_column, TEXT_COLUMNS, "text")


def _score_on_ray(options: argparse.Namespace, settings: Settings) -> tuple[list[str], int]:
    """Score the files of a folder on Ray; see `score`."""
    from app.scoring.ray_data import RayJob, check_files, list_files, score_files

    if options.url is not None or STANDARD_INPUT in (options.input, options.output):
        raise InvalidInput("--engine ray reads and writes files, without --url")
    kind, packed = choose_format(options.output, options.output_format or "parquet")
    if packed or options.bad_rows is not None:
        raise InvalidInput("--engine ray writes a folder, without .gz and --bad-rows")
    table_options = _table_options(options)
    files = list_files(options.input)
    shape, column = check_files(files, table_options, partial(_find_text, options=options))
    recipe = _make_recipe(settings, options.model, parse_version_option(options.version))
    model = load_first(recipe)
    added = AddedColumns(model.chosen.labels, options.prefix)
    added.check(shape.columns)
    job = RayJob(
        folder=options.output.with_name(f".{options.output.name}.scoring").absolute(),
        kind=kind,
        options=table_options,
        column=column,
        shape=shape,
        added=added,
        recipe=replace(recipe, folders=(model.chosen.folder.absolute(),)),
        chosen=replace(model.chosen, folder=model.chosen.folder.absolute()),
        check=_text_rules(settings),
    )
    progress = Progress(sys.stderr)
    started = time.monotonic()
    try:
        after = score_files(
            [path.absolute() for path in files],
            options.output,
            job,
            address=options.ray_address,
            workers=settings.workers or None,
            report=progress.update,
        )
    finally:
        progress.clear()
    seconds = time.monotonic() - started
    bad_rows = options.output / "_bad"
    return _report(options, bad_rows, model.chosen.version, State(), after, seconds)


def _make_scorer(options: argparse.Namespace, settings: Settings) -> Scorer:
    if options.url is not None:
        from app.scoring.remote import RemoteScorer

        if options.concurrency < 1 or options.patience < 0:
            raise InvalidInput("--concurrency must be at least 1, and --patience at least 0")
        return RemoteScorer(
            options.url,
            model=options.model,
            version=parse_version_option(options.version),
            key=os.environ.get(KEY_VARIABLE),
            concurrency=options.concurrency,
            patience_s=options.patience,
        )
    divided = divide_cores(settings)
    return LocalScorer(
        _make_recipe(settings, options.model, parse_version_option(options.version)),
        processes=divided.workers,
        threads=divided.threads,
    )


def _make_recipe(settings: Settings, model: str | None, number: int | str | None) -> Recipe:
    repository = Repository(settings.models_dir, settings.default_model)
    repository.scan()
    return Recipe(
        folders=tuple(version.folder for version in repository.candidates(model, number)),
        load=partial(load_engine, options=engine_options(settings)),
        max_items=_batch_items(settings),
        max_tokens=settings.max_batch_tokens,
    )


def _batch_items(settings: Settings) -> int:
    was_set = "max_batch_items" in settings.model_fields_set
    return settings.max_batch_items if was_set else BATCH_ITEMS


def _text_rules(settings: Settings) -> Check:
    limits = request_limits(settings)

    def check(text: str) -> str | None:
        error = check_text(text, "the text", limits)
        return None if error is None else str(error)

    return check


def _default_bad_rows(source: Path, output: Path) -> Path:
    if output != STANDARD_OUTPUT:
        return output.with_name(f"{output.name}.bad.csv")
    return Path("stdin.bad.csv" if source == STANDARD_INPUT else f"{source.name}.bad.csv")


def _report(
    options: argparse.Namespace,
    bad_rows: Path,
    version: str,
    before: State,
    after: State,
    seconds: float,
) -> tuple[list[str], int]:
    """Return what to say of a run, line by line, and the exit status."""
    rows = after.scored + after.failed
    done = rows - before.scored - before.failed
    earlier = f", {rows - done:,} before this run" if rows > done else ""
    lines = [
        f"{rows:,} rows with verdicts of {version}{earlier}; "
        f"{done:,} in {seconds:.1f} s, {done / max(seconds, 1e-9):,.0f} rows/s"
    ]
    if after.failed:
        column = f"{options.prefix}error"
        lines.append(f"{after.failed:,} of these have no verdict; the column {column} says why")
    if after.bad:
        lines.append(f"{after.bad:,} more rows break a rule of the table: {bad_rows}")
    failed = after.failed + after.bad > 0
    return lines, FAILED if failed and not options.allow_failures else OK
