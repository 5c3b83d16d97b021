"""Scoring on Ray Data: many files, more machines. The only module that imports Ray.

A task reads a file and cuts it into chunks, and an actor per core scores them, with the code that
scores one file. Each chunk becomes a part of the output, whose name tells its file and first row,
and which appears complete or not at all. So when a worker dies and Ray repeats its work, a part is
written again and no row is lost or doubled, whatever was computed twice.
"""

import logging
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from app.errors import DataError, InvalidInput, MissingLibrary, ValenceError
from app.scoring.files import BadRowsFile
from app.scoring.job import Check, ChunkReader, Report
from app.scoring.local import Chosen, Model, Recipe, load_first, require_same
from app.scoring.outputs import OutputFormat, open_output
from app.scoring.verdicts import AddedColumns
from app.scoring.work import State
from app.tables.table import TableOptions, open_table

_PART_ROWS: Final = 2**14
_PART_CHARS: Final = 2**24
_BAD_FOLDER: Final = "_bad"  # readers of folders skip names with an underscore


class Shape(NamedTuple):
    """What the files have in common.

    Attributes:
        columns: The names of their columns.
        format: How they are read.
    """

    columns: tuple[str, ...]
    format: str


@dataclass(frozen=True, slots=True)
class RayJob:
    """What every worker must know.

    Attributes:
        folder: For the parts, on a file system that all machines share.
        kind: The format of the parts.
        options: How the files are read.
        column: The position of the column of texts.
        shape: Of the files.
        added: The columns that are added.
        recipe: How a worker gets its model.
        chosen: The version that all workers must have.
        check: The rules of a text.
    """

    folder: Path
    kind: OutputFormat
    options: TableOptions
    column: int
    shape: Shape
    added: AddedColumns
    recipe: Recipe
    chosen: Chosen
    check: Check


def list_files(source: Path) -> list[Path]:
    """List a file, or the files of a folder and those below, in the order of their names.

    Names with a leading dot or underscore are left out.

    Raises:
        DataError: There is none.
    """
    if not source.is_dir():
        return [source]
    found = [
        path
        for path in sorted(source.rglob("*"))
        if path.is_file()
        and not any(part.startswith((".", "_")) for part in path.relative_to(source).parts)
    ]
    if not found:
        raise DataError(f"{source}: there are no files in the folder")
    return found


def check_files(
    files: Sequence[Path], options: TableOptions, find: Callable[[Any], int]
) -> tuple[Shape, int]:
    """Return the shape of files, and the position of their texts.

    Args:
        files: At least one.
        options: How they are read.
        find: Finds the column of texts in a table.

    Raises:
        DataError: A file cannot be read, or differs from the first one.
    """
    first = open_table(files[0], options)
    shape = Shape(first.columns, first.format)
    for path in files[1:]:
        table = open_table(path, options)
        if Shape(table.columns, table.format) != shape:
            raise DataError(
                f"{path}: all files must have the columns and the format of {files[0]}. "
                f"Received: {table.show_columns()}; {table.describe()}"
            )
    return shape, find(first)


def score_files(
    files: Sequence[Path],
    output: Path,
    job: RayJob,
    *,
    address: str | None,
    workers: int | None,
    report: Report,
) -> State:
    """Score files on Ray, into a folder of parts.

    Args:
        files: The files.
        output: The folder; it appears when it is complete.
        job: All else.
        address: Of a Ray cluster; None for a cluster of this machine, which ends with the run.
        workers: Actors that score; None for as many as there are cores.
        report: Shows progress.

    Returns:
        The number of rows of each kind.

    Raises:
        MissingLibrary: Ray is not installed.
        InvalidInput: The output exists.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # by default it reports to its makers
    try:
        import ray.data
    except ModuleNotFoundError as error:
        raise MissingLibrary("--engine ray needs Ray: pip install valence[ray]") from error
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if output.exists():
        raise InvalidInput(f"{output}: with --engine ray the output must be a new folder")
    started = not ray.is_initialized()
    if started:
        ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        cores = int(ray.cluster_resources()["CPU"])
        counts = _run(ray, files, job, workers or cores, report)
    except Exception as error:  # Ray wraps what its workers raise, in classes of its own
        raise _explain(error) from error
    finally:
        if started:
            ray.shutdown()
    if not any((job.folder / _BAD_FOLDER).iterdir()):
        (job.folder / _BAD_FOLDER).rmdir()
    job.folder.rename(output)
    return counts


def _explain(error: BaseException) -> ValenceError:
    """Return the error of a worker, without Ray's account of it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ValenceError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    return ValenceError(f"scoring on Ray has failed: {type(error).__name__}")


def _run(ray: Any, files: Sequence[Path], job: RayJob, workers: int, report: Report) -> State:
    shutil.rmtree(job.folder, ignore_errors=True)
    (job.folder / _BAD_FOLDER).mkdir(parents=True)
    ray.data.DataContext.get_current().enable_progress_bars = False
    items = [{"file": number, "path": str(path)} for number, path in enumerate(files)]
    parts = (
        ray.data.from_items(items, override_num_blocks=len(items))
        .map_batches(
            _read, batch_size=1, batch_format="pyarrow", fn_kwargs={"job": job}, num_cpus=0.25
        )
        .map_batches(
            _ScoreChunks,
            batch_size=1,
            batch_format="pyarrow",
            fn_constructor_kwargs={"job": job},
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=0.5,
        )
    )
    scored = failed = 0
    bad: dict[int, int] = {}
    for part in parts.iter_rows():
        scored += part["rows"] - part["failed"]
        failed += part["failed"]
        bad[part["file"]] = max(part["bad"], bad.get(part["file"], 0))
        report(scored + failed, 0.0)
    return State(scored=scored, failed=failed, bad=sum(bad.values()), complete=True)


def _read(items: Any, *, job: RayJob) -> Iterator[dict[str, Any]]:
    """Yield the chunks of a file."""
    for item in items.to_pylist():
        path = Path(item["path"])
        name = f"{item['file']:05}-{path.name}.bad.csv"
        bad_rows = BadRowsFile(job.folder / _BAD_FOLDER / name)
        bad_rows.open(0, 0)
        reader = ChunkReader(
            open_table(path, job.options),
            job.column,
            check=job.check,
            added=job.added,
            keeps_keys=job.kind == "jsonl",
            bad_rows=bad_rows,
            chunk_texts=_PART_ROWS,
            chunk_chars=_PART_CHARS,
        )
        first = 1
        for chunk in reader.chunks(0):
            yield {"file": [item["file"]], "first": [first], "chunk": [pickle.dumps(chunk)]}
            first = chunk.end + 1
        bad_rows.finish()


class _ScoreChunks:
    """An actor that scores chunks and writes each as a part."""

    def __init__(self, job: RayJob) -> None:
        self._job = job
        self._model: Model = load_first(job.recipe)
        require_same(self._model.chosen, job.chosen)

    def __call__(self, items: Any) -> dict[str, Any]:
        found: dict[str, list[int]] = {"file": [], "rows": [], "failed": [], "bad": []}
        for item in items.to_pylist():
            chunk = pickle.loads(item["chunk"])  # noqa: S301 it comes from `_read`
            scores = self._model.score(chunk.texts)
            name = f"part-{item['file']:05}-{item['first']:012}"
            self._write(name, chunk.rows, chunk.verdicts(scores))
            found["file"].append(item["file"])
            found["rows"].append(len(chunk.rows))
            found["failed"].append(len(chunk.errors) + len(scores.errors))
            found["bad"].append(chunk.bad)
        return found

    def _write(self, name: str, rows: Any, verdicts: Any) -> None:
        if not rows:
            return
        job = self._job
        beside = job.folder / f".{name}.{os.getpid()}"
        beside.mkdir(exist_ok=True)
        output = open_output(job.shape, job.added, kind=job.kind, packed=False, folder=beside)
        output.open(None)
        output.write(rows, verdicts)
        complete = output.finish()
        if complete is not None:
            complete.rename(job.folder / f"{name}.{job.kind}")
        for path in beside.iterdir():
            path.unlink()
        beside.rmdir()
