"""Rows of JSON lines: one object per line; its keys are the columns."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from app.tables.characters import Lines
from app.tables.rows import BadRow, Row


def read_json_lines(
    lines: Lines, columns: Sequence[str], refuse: Callable[[BadRow], None]
) -> Iterator[Row]:
    """Yield the values of `columns` of each object, as strings; blank lines are no rows.

    Numbers and booleans are spelled as in JSON; null and a key that is missing are empty.

    Args:
        lines: The lines.
        columns: The keys.
        refuse: Called with each row that is not yielded.
    """
    number = 0
    for line_number, line in enumerate(lines, start=1):
        bare = line.strip()
        if not bare:
            continue
        number += 1
        if (fault := lines.find_fault(number, line_number, bare)) is not None:
            refuse(fault)
            continue
        try:
            item = parse_object(bare)
            cells = [_spell(item.get(key)) for key in columns]
        except ValueError as error:
            refuse(BadRow(number, line_number, str(error), bare))
            continue
        yield Row(number, line_number, cells, bare)


def parse_object(line: str) -> dict[str, Any]:
    """Return the object in a line.

    Raises:
        ValueError: The line is not one JSON object; the message is the rule.
    """
    try:
        item = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"a line must be one JSON object. Received: {error.msg} at character {error.pos + 1}"
        ) from error
    except (RecursionError, ValueError) as error:
        raise ValueError(
            "a line must be one JSON object. Received: nesting or a number beyond all limits"
        ) from error
    if not isinstance(item, dict):
        raise ValueError(f"a line must be one JSON object. Received: {_kind(item)}")  # noqa: TRY004
    return item


def _spell(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise ValueError(
        f"a value must be a string, a number, true, false or null. Received: {_kind(value)}"
    )


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", type(None): "null"}
    return names.get(type(value), "a number, true or false")
