"""How fast `valence score` is beside its ceiling, and how much memory a larger file takes.

    python -m load_tests.bench.scoring test.tsv.gz --model bow --turns 5

The command and the ceiling take turns on the same texts. The ceiling is the same engine in one
process on all cores, counted from texts, as in `load_tests.bench`; the command's time includes its
start and both files. For memory a file of `--times` as many rows is scored, of which every
hundredth breaks a rule, so that the file of bad rows is measured, too.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from load_tests.bench.ceiling import Ceiling
from load_tests.bench.errors import BenchError
from load_tests.bench.processes import read_usage
from load_tests.bench.texts import read_texts

_BATCH: Final = 32
_CEILING_S: Final = 4.0
_LOOK_EVERY_S: Final = 0.05
_BAD_EVERY: Final = 100
_INCOMPLETE: Final = 1
"""The exit status of a run in which some rows are bad."""


class Run(NamedTuple):
    """What one run of the command took.

    Attributes:
        seconds: Its wall time.
        peak_bytes: The most memory of the process and its children, shared pages counted once; 0 if
            it was not watched.
        rows: Rows with a verdict.
        bad: Rows in the file of bad rows.
    """

    seconds: float
    peak_bytes: int
    rows: int
    bad: int


def write_table(path: Path, texts: Sequence[str], *, times: int, bad: bool) -> int:
    """Write texts as CSV, `times` over; returns how many rows break a rule.

    Args:
        path: The file.
        texts: In the column `text`, beside a number.
        times: How often.
        bad: Whether every hundredth row has a cell too many.
    """
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("number", "text"))
        for number in range(times * len(texts)):
            row = [str(number), texts[number % len(texts)]]
            if bad and number % _BAD_EVERY == 0:
                row.append("too many")
                count += 1
            writer.writerow(row)
    return count


def score(table: Path, model: str, *, watch: bool = False) -> Run:
    """Run `valence score` on a table.

    Args:
        table: The table.
        model: The model.
        watch: Whether its memory is looked at, which takes processor time from it.

    Raises:
        BenchError: It fails.
    """
    output = table.with_name("scored.csv")
    command = (sys.executable, "-m", "app", "score", str(table), str(output), "--model", model)
    started = time.perf_counter()
    peak = 0
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:  # noqa: S603 - ours
        while watch and process.poll() is None:
            usage = read_usage(process.pid)
            peak = max(peak, usage.resident_bytes if usage else 0)
            time.sleep(_LOOK_EVERY_S)
        process.wait()
    seconds = time.perf_counter() - started
    if process.returncode not in (0, _INCOMPLETE):
        raise BenchError(f"valence score has failed with status {process.returncode}")
    bad_rows = output.with_name(f"{output.name}.bad.csv")
    run = Run(seconds, peak, _count(output), _count(bad_rows) if bad_rows.exists() else 0)
    bad_rows.unlink(missing_ok=True)
    output.unlink()
    return run


def _count(table: Path) -> int:
    """The rows of a CSV file without its header."""
    csv.field_size_limit(sys.maxsize)
    with table.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file)) - 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("texts", type=Path, help="one text per line, or TSV with `review`")
    parser.add_argument("--model", default="bow", help="the model [%(default)s]")
    parser.add_argument("--count", type=int, default=25_000, help="texts [%(default)s]")
    parser.add_argument("--turns", type=int, default=5, help="turns of each [%(default)s]")
    parser.add_argument("--times", type=int, default=10, help="of the larger file [%(default)s]")
    options = parser.parse_args(arguments)
    texts = read_texts(options.texts, options.count, seed=1)
    versions = Path("models", options.model).glob("[0-9]*")
    newest = max(versions, key=lambda folder: int(folder.name))
    ceiling = Ceiling(newest, "onnx", texts)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "texts.csv"
        write_table(table, texts, times=1, bad=False)
        shares = []
        for turn in range(1, options.turns + 1):
            best = ceiling.throughput_from_text(_BATCH, _CEILING_S)
            found = len(texts) / score(table, options.model).seconds
            shares.append(found / best)
            print(f"turn {turn}: {found:,.0f} rows/s, ceiling {best:,.0f}: {found / best:.3f}")
        print(f"median {statistics.median(shares):.3f} of the ceiling, {len(texts):,} texts")
        peaks = []
        for times in (1, options.times):
            broken = write_table(table, texts, times=times, bad=True)
            run = score(table, options.model, watch=True)
            peaks.append(run.peak_bytes)
            print(
                f"{times * len(texts):,} rows: peak {run.peak_bytes / 2**20:,.0f} MiB, "
                f"{run.bad:,} of {broken:,} malformed rows in the file of bad rows, "
                f"{run.rows:,} scored"
            )
        print(f"memory of {options.times} times the rows: {peaks[1] / peaks[0] - 1:+.1%}")


if __name__ == "__main__":
    main()
