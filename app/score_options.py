"""The options of `valence score`."""

import argparse
from pathlib import Path
from typing import Final

from app.command_line import add_table_options
from app.tables.table import TEXT_COLUMNS

KEY_VARIABLE: Final = "VALENCE_API_KEY"
"""The environment variable with the key for `--url`; options are seen by all users of a machine."""
SCORE_SETTINGS: Final = (
    *("models_dir", "default_model", "device", "workers", "threads"),
    *("max_batch_tokens", "max_text_chars"),
)
"""The settings that are options of the command, beside `engine` and `max_batch_items`."""
RAY: Final = "ray"
BATCH_ITEMS: Final = 16
"""Texts of one model run, if it is not set. The service has fewer, for short answer times."""

EXAMPLES: Final = f"""examples:
  valence score reviews.csv scored.csv
  valence score reviews.jsonl.gz scored.parquet --text-column body --model bow
  zcat reviews.tsv.gz | valence score - - --no-quoting > scored.csv
  {KEY_VARIABLE}=vk_... valence score reviews.csv scored.csv --url https://valence.example.com

Every row and column is kept, in order; label, confidence, probability_LABEL of each label and error
are added. Rows that break a rule of the table go to OUT.bad.csv, with their number and the rule. A
run that was stopped or killed goes on where it was when the same command is given again.

exit status: 0 if every row was scored; 1 if OUT is complete, but some rows have an error or are in
the file of bad rows (0 with --allow-failures), or if the run failed; 2 on a wrong call."""


def add_score_options(parser: argparse.ArgumentParser) -> None:
    """Add all options but those of `SCORE_SETTINGS`."""
    parser.add_argument(
        "input",
        metavar="IN",
        type=Path,
        help="CSV, TSV, JSON lines, fastText, Parquet or Excel, perhaps in gzip or zip; - reads "
        "standard input",
    )
    parser.add_argument(
        "output",
        metavar="OUT",
        type=Path,
        help="its suffix tells the format: .csv, .tsv or .jsonl, perhaps with .gz, or .parquet; - "
        "writes CSV to standard output",
    )
    table = parser.add_argument_group("input")
    table.add_argument(
        "--text-column",
        metavar="COLUMN",
        help=f"by name, or by number from 1 [{', '.join(TEXT_COLUMNS)}, or the only one]",
    )
    add_table_options(table)
    result = parser.add_argument_group("output")
    result.add_argument(
        "--output-format", choices=["csv", "tsv", "jsonl", "parquet"], help="[by the suffix]"
    )
    result.add_argument("--prefix", default="", help="put before the names of the added columns")
    result.add_argument(
        "--bad-rows",
        type=Path,
        metavar="FILE",
        help="where rows go that break a rule [OUT.bad.csv]",
    )
    result.add_argument(
        "--allow-failures", action="store_true", help="exit with 0 even if some rows failed"
    )
    result.add_argument(
        "--restart", action="store_true", help="drop what a stopped run has left, and begin anew"
    )
    scoring = parser.add_argument_group("scoring")
    scoring.add_argument("--model", help="the model [the default model]")
    scoring.add_argument(
        "--version", help="its version, a number or an alias [stable, else the newest]"
    )
    scoring.add_argument(
        "--engine", help=f"library that runs the models: auto, tensorflow or onnx; or {RAY} [auto]"
    )
    scoring.add_argument(
        "--max-batch-items", metavar="ITEMS", help=f"maximum texts per batch [{BATCH_ITEMS}]"
    )
    scoring.add_argument(
        "--ray-address", metavar="ADDRESS", help=f"with --engine {RAY}: of a cluster [this machine]"
    )
    scoring.add_argument(
        "--url", help=f"score through this service; {KEY_VARIABLE} has its key, if it needs one"
    )
    scoring.add_argument(
        "--concurrency", type=int, default=8, metavar="N", help="requests at once [%(default)s]"
    )
    scoring.add_argument(
        "--patience",
        type=float,
        default=300,
        metavar="SECONDS",
        help="how long a request that is refused is repeated [%(default)s]",
    )
