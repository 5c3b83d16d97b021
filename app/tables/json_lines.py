"""Rows of JSON lines: one object per line; its keys are the columns."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

from app.tables.characters import Lines
from app.tables.rows import BadRow, Row

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def read_json_lines(
    lines: Lines,
    columns: Sequence[str],
    refuse: Callable[[BadRow], None],
    plain: Collection[int] = (),
) -> Iterator[Row]:
    """Yield the values of `columns` of each object, as strings; blank lines are no rows.

    Other values than strings are spelled as in JSON; null and a key that is missing are empty.

    Args:
        lines: The lines.
        columns: The keys.
        plain: The positions of columns whose values must not be objects or arrays.
        refuse: Called with each row that is not yielded.
    """
    for number, line_number, bare in lines.rows(refuse):
        try:
            item = parse_object(bare)
            cells = [_spell(item.get(key), i in plain) for i, key in enumerate(columns)]
        except ValueError as error:
            refuse(BadRow(number, line_number, str(error), bare))
            continue
        yield Row(number, line_number, cells, bare, item)


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


def _spell(value: Any, plain: bool) -> str:
    if isinstance(value, str):
        if plain and not value.isascii() and _SURROGATE.search(value):
            raise ValueError("a string must be Unicode. Received: half of a surrogate pair")
        return value
    if value is None:
        return ""
    if plain and isinstance(value, dict | list):
        raise ValueError(
            "a text, a label or a group must be a string, a number, true, false or null. "
            f"Received: {_kind(value)}"
        )
    return json.dumps(value, ensure_ascii=False)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", type(None): "null"}
    return names.get(type(value), "a number, true or false")
