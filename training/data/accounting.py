"""Where the rows of a data set went: every row that was read is in a split or was dropped.

Reasons are short names. Corpora carry them (`Corpus.left_out`), data cards hold them as
`dropped_REASON`, and tables show them in the words of `REASONS`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from app.errors import DataError
from training.data.corpus import Corpus

BAD_ROWS: Final = "bad_rows"
UNWANTED_LABELS: Final = "unwanted_labels"
DUPLICATES: Final = "duplicates"
CONFLICTS: Final = "conflicting_labels"
IN_TEST: Final = "because_in_test"
KNOWN_UNLABELLED: Final = "unlabelled"
NOT_ASKED_FOR: Final = "other_part"
LEARNED_FROM: Final = "learned"
CALIBRATED: Final = "calibrated"
LEARNED_UNLABELLED: Final = "learned_unlabelled"
REASONS: Final[Mapping[str, str]] = {
    BAD_ROWS: "rows that break a rule",
    UNWANTED_LABELS: "rows with a label that is left out",
    DUPLICATES: "copies of a text that was kept",
    CONFLICTS: "copies of a text whose labels disagree",
    IN_TEST: "training rows whose text is in test",
    KNOWN_UNLABELLED: "unlabelled texts that are in another split",
    NOT_ASKED_FOR: "rows of the other part of the file",
    LEARNED_FROM: "texts that the version was trained on",
    CALIBRATED: "texts that the version was chosen and calibrated on",
    LEARNED_UNLABELLED: "texts that the version was trained on without their labels",
}
"""What a reason is called in tables and messages; any other is shown by its name."""

_LABEL_CHARACTERS: Final = 24
_LABELS: Final = 12


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of all files of a data set, by where they went.

    Attributes:
        read: The number of rows, headers not counted.
        used: Rows by split.
        dropped: Rows by reason.

    Raises:
        DataError: A row is in none of these numbers, or in two.
    """

    read: int
    used: Mapping[str, int]
    dropped: Mapping[str, int]

    def __post_init__(self) -> None:
        """Check the sum."""
        self.check()

    def check(self) -> None:
        """Check that every row is counted once."""
        counted = sum(self.used.values()) + sum(self.dropped.values())
        if counted != self.read:
            raise DataError(
                f"every row must be counted once: {self.read:,} were read. Received: {counted:,} "
                f"in {', '.join([*self.used, *map(name_reason, self.dropped)])}"
            )

    def cells(self) -> list[tuple[str, int]]:
        """The rows of a table: rows read, those of each split, and dropped ones by reason."""
        dropped = self.dropped.items()
        return [
            ("rows read", self.read),
            *((f"  {name}", count) for name, count in self.used.items()),
            *((f"  dropped: {name_reason(reason)}", count) for reason, count in dropped if count),
        ]

    def table(self) -> list[str]:
        """The lines of that table, with the numbers in one column."""
        cells = self.cells()
        wide = max(len(name) for name, _ in cells)
        digits = max(len(f"{count:,}") for _, count in cells)
        return [f"{name:<{wide}}  {count:>{digits},}" for name, count in cells]


def print_rows(rows: Rows, without_tokens: Mapping[str, int] = MappingProxyType({})) -> None:
    """Print the table of rows on stderr.

    Args:
        rows: Where every row went.
        without_tokens: By split, texts in which the tokenizer finds nothing; they are used.
    """
    # Needs rich, while the command line imports this module on a machine without it.
    from training.support.progress import print_line

    for line in rows.table():
        print_line(line)
    if found := [f"{count:,} of {name}" for name, count in without_tokens.items() if count]:
        print_line(
            f"texts without a token, such as dashes alone: {', '.join(found)}; a model learns "
            "nothing from them and answers all of them alike"
        )


def name_reason(reason: str) -> str:
    """A reason in words."""
    return REASONS.get(reason, reason.replace("_", " "))


def add_up(*counts: Mapping[str, int]) -> dict[str, int]:
    """The sums of counts by reason, in the order of their first appearance."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def nothing_left(name: str, read: int, dropped: Mapping[str, int], purpose: str) -> DataError:
    """The error of a data set of which every row was dropped.

    Args:
        name: Of the texts.
        read: Rows that were read.
        dropped: Rows by reason.
        purpose: What no text is left for, as in `to learn from`.
    """
    told = [f"{count:,} {name_reason(reason)}" for reason, count in dropped.items() if count]
    return DataError(
        f"{name}: no text is left {purpose}. Received: {read:,} rows, all dropped: "
        f"{', '.join(told)}"
    )


def name_labels(labels: Iterable[str]) -> str:
    """Labels for a message. One that may be a text, from a wrong column, is told by its length."""
    listed = list(labels)
    shown = [name_label(label) for label in listed[:_LABELS]]
    if len(listed) > _LABELS:
        shown.append(f"and {len(listed) - _LABELS} more")
    return ", ".join(shown)


def name_label(label: str) -> str:
    """A label of one word as it is, and any other by its length."""
    if len(label) <= _LABEL_CHARACTERS and label.isprintable() and " " not in label:
        return label
    return f"a label of {len(label)} characters"


def count_rows(corpus: Corpus | None) -> int:
    """The rows that were read to make a corpus; none for None."""
    return 0 if corpus is None else len(corpus) + sum(corpus.left_out.values())
