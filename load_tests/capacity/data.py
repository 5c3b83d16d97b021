"""Texts of a file, read as training and scoring read it."""

import random
from pathlib import Path

from app.errors import ValenceError
from app.tables.table import TEXT_COLUMNS, open_table
from load_tests.bench.errors import WrongCall
from load_tests.bench.texts import MIN_TEXTS


def read_texts(path: Path, column: str | None, count: int, seed: int) -> list[str]:
    """Choose distinct texts of a table in any format that training reads.

    Args:
        path: The file.
        column: The name or number of the column; a usual name by default.
        count: The most texts.
        seed: Determines the choice.

    Raises:
        WrongCall: The file cannot be read, or has too few texts.
    """
    try:
        table = open_table(path)
        position = table.find_column(column, TEXT_COLUMNS, "text")
        rows = table.rows(lambda _: None, {position})  # a bad row is not sent
        found = list(dict.fromkeys(text for row in rows if (text := row.cells[position].strip())))
    except ValenceError as error:
        raise WrongCall(f"--data: {error}") from error
    if len(found) < MIN_TEXTS:
        raise WrongCall(f"--data must have at least {MIN_TEXTS} texts. Received: {len(found)}")
    if len(found) > count:
        found = random.Random(seed).sample(found, count)  # noqa: S311 - reproducible, not secret
    return found
