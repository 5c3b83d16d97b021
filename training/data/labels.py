"""From the labels of a file to the classes of a model.

Numbers compare as numbers: `1`, `1.0` and `01` are one label. So do cases and Unicode forms of a
word.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from app.errors import DataError, InvalidInput
from app.tables.rows import place

CANONICAL_ORDER: Final = ("negative", "neutral", "positive")
MOST_LABELS: Final = 100
_NAMES: Final = {
    "negative": "negative",
    "neg": "negative",
    "neutral": "neutral",
    "neu": "neutral",
    "positive": "positive",
    "pos": "positive",
}
BINARY_CODES: Final = {"0": "negative", "1": "positive"}
_CODES: Final = (
    BINARY_CODES,
    {"-1": "negative", "1": "positive"},
    {"-1": "negative", "0": "neutral", "1": "positive"},
)
_RANGE: Final = re.compile(r"\s*([+-]?[\d.]+)\s*-\s*([+-]?[\d.]+)\s*")
_LONGEST_NUMBER: Final = 30
_MISSING: Final = frozenset({"", "nan", "null", "none", "n/a", "na", "inf", "-inf"})
_RULE: Final = (
    "negative, neutral or positive, or one of the codes 0 and 1, -1 and 1, or -1, 0 and 1, "
    "used consistently"
)
_ADVICE: Final = "name other labels with --label, or leave some out with --drop-label"


def plain_label(label: str) -> str:
    """Normalize a label for comparison; a number loses leading and trailing zeros."""
    bare = unicodedata.normalize("NFC", label).strip()
    number = read_number(bare)
    return bare.casefold() if number is None else f"{number.normalize():f}"


def shown_label(label: str) -> str:
    """Return a label as predictions show it; unlike casefold, lower keeps groß and καλός."""
    bare = unicodedata.normalize("NFC", label).strip()
    return bare.lower() if read_number(bare) is None else plain_label(bare)


def read_number(label: str) -> Decimal | None:
    """Return the number that a label is, if it is a finite one."""
    if not label or len(label) > _LONGEST_NUMBER or not label[-1].isdecimal() | (label[-1] == "."):
        return None
    if "_" in label:  # which Python allows in numbers
        return None
    try:
        number = Decimal(label)
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(number.adjusted()) > _LONGEST_NUMBER:
        return None
    return number + 0  # -0 is 0


def order_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Sort distinct labels: negative, neutral and positive first, then numbers, then names."""
    found = set(labels)
    known = [label for label in CANONICAL_ORDER if label in found]
    others = found - set(CANONICAL_ORDER)
    numbers = {label: number for label in others if (number := read_number(label)) is not None}
    return (
        *known,
        *sorted(numbers, key=lambda label: (numbers[label], label)),
        *sorted(others - numbers.keys()),
    )


@dataclass(frozen=True, slots=True)
class Found:
    """A label that occurs in a file.

    Attributes:
        label: The cell of its first row.
        number: That row.
        line: The line in which that row begins.
    """

    label: str
    number: int
    line: int

    def place(self) -> str:
        """Return the row as messages name it."""
        return place(self.number, self.line)


class LabelPattern:
    """A value, or a range of numbers such as `1-2`, that an option names.

    Args:
        pattern: As it was typed.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._plain = plain_label(pattern)
        self._range: tuple[Decimal, Decimal] | None = None
        match = _RANGE.fullmatch(pattern)
        if match and (low := read_number(match[1])) is not None:
            high = read_number(match[2])
            if high is None:
                return
            if low <= high:
                self._range = low, high

    def is_value(self, plain: str) -> bool:
        """Whether the pattern is this label itself."""
        return plain == self._plain

    def holds(self, plain: str) -> bool:
        """Whether the pattern is this label, or a range that it is in."""
        if self.is_value(plain):
            return True
        number = read_number(plain)
        return (
            self._range is not None
            and number is not None
            and self._range[0] <= number <= self._range[1]
        )


class LabelRules:
    """Which labels get which names, and which are left out.

    Args:
        names: Names by value or range; None if there are no such options.
        drop: Values and ranges whose rows are left out.
    """

    def __init__(self, names: Mapping[str, str] | None, drop: Sequence[str] = ()) -> None:
        self._names = (
            None
            if names is None
            else [(LabelPattern(value), shown_label(name)) for value, name in names.items()]
        )
        self._drop = [LabelPattern(value) for value in drop]

    @property
    def most(self) -> int:
        """How many different labels are collected before the column is taken for another one."""
        return max(MOST_LABELS, len(self._names or ()))

    def drops(self, plain: str) -> bool:
        """Whether rows with this label are left out."""
        return any(pattern.holds(plain) for pattern in self._drop)

    def name(self, path: object, found: Mapping[str, Found]) -> Mapping[str, str]:
        """Return the name of every label of a file.

        Args:
            path: For messages.
            found: The labels that are not dropped, normalized by `plain_label`.

        Raises:
            DataError: A label has no name.
        """
        _check_missing(path, found)
        if self._names is not None:
            return {plain: self._named(path, plain, one) for plain, one in found.items()}
        for vocabulary in (_NAMES, *_CODES):
            if found.keys() <= vocabulary.keys():
                return vocabulary
        if not found.keys() & _NAMES.keys():
            return _as_they_are(path, found)
        stranger = next(one for plain, one in found.items() if plain not in _NAMES)
        raise _wrong_label(path, stranger, _RULE, _ADVICE)

    def _named(self, path: object, plain: str, found: Found) -> str:
        names = self._names or []
        exact = [name for pattern, name in names if pattern.is_value(plain)]
        if chosen := exact or [name for pattern, name in names if pattern.holds(plain)]:
            if len(set(chosen)) > 1:
                raise InvalidInput(
                    f"{path} {found.place()}: a label must have one name. "
                    f"Received: ranges that give it {' and '.join(map(repr, chosen))}"
                )
            return chosen[0]
        values = ", ".join(repr(pattern.pattern) for pattern, _ in names[:24])
        raise _wrong_label(
            path, found, f"one of {values}", "--drop-label leaves out the rows of a label"
        )


def _check_missing(path: object, found: Mapping[str, Found]) -> None:
    """Refuse empty labels, and what stands for them beside numbers.

    Raises:
        DataError: A label is empty; the message says how to leave such rows out.
    """
    others = found.keys() - _MISSING
    are_numbers = bool(others) and all(read_number(label) is not None for label in others)
    for label in ("", *sorted(_MISSING - {""})):
        if label in found and (label == "" or are_numbers):
            shown = f"an empty one; --drop-label={label} leaves such rows out"
            raise DataError(
                f"{path} {found[label].place()}: labels must not be empty. Received: {shown}"
            )


def _wrong_label(path: object, found: Found, rule: str, advice: str) -> DataError:
    """Say which row has a wrong label; only a number is repeated: a word may be a text."""
    bare, size = found.label.strip(), len(found.label)
    another = f"another value of {size} character{'s' * (size != 1)}"
    received = another if read_number(bare) is None else repr(bare)
    return DataError(
        f"{path} {found.place()}: the label must be {rule}. Received: {received}; {advice}"
    )


def _as_they_are(path: object, found: Mapping[str, Found]) -> Mapping[str, str]:
    """Use labels of a file's own unchanged, unless the column does not look like labels."""
    too_many = len(found) > MOST_LABELS
    if too_many:
        odd = next(iter(found.values()))
        raise DataError(
            f"{path} {odd.place()}: there may be at most {MOST_LABELS} different labels. Received: "
            f"more than {MOST_LABELS} different ones; is this the right column?"
        )
    return {plain: shown_label(one.label) for plain, one in found.items()}
