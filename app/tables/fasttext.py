"""Rows of fastText files: `__label__NAME the text`."""

from collections.abc import Callable, Iterator
from typing import Final

from app.tables.characters import Lines
from app.tables.rows import BadRow, Row

PREFIX: Final = "__label__"
COLUMNS: Final = ("label", "text")


def read_fasttext(lines: Lines, refuse: Callable[[BadRow], None]) -> Iterator[Row]:
    """Yield label and text of each line; blank lines are no rows.

    Args:
        lines: The lines.
        refuse: Called with each row that is not yielded: one without a label, or with several.
    """
    for number, line_number, bare in lines.rows(refuse):
        label, *rest = bare.split(None, 1)
        text = rest[0] if rest else ""
        if not label.startswith(PREFIX) or label == PREFIX:
            rule = f"a line must begin with {PREFIX}NAME and a space. Received: another beginning"
        elif text.startswith(PREFIX):
            rule = f"a line must have one {PREFIX}NAME. Received: several"
        else:
            yield Row(number, line_number, (label.removeprefix(PREFIX), text), bare)
            continue
        refuse(BadRow(number, line_number, rule, bare))
