"""Ask a version all questions about its quality, and say how it did in a few figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from training.quality.capabilities import has_polarity, judge, suite_fingerprint, suite_texts
from training.quality.short_texts import (
    ShortSet,
    find_short_folder,
    fingerprint,
    read_short_sets,
    score_short_sets,
    usable_sets,
)
from training.reports.report import Report, plain
from training.support.arrays import IntArray, Probabilities

Ask = Callable[[Sequence[str]], tuple[Probabilities, IntArray]]
"""Returns the probabilities of texts, (texts, classes), and their tokens, int (texts,)."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures beside those of the version's own texts, ready for JSON; empty ones are not known.

    Attributes:
        short_texts: See `training.quality.short_texts.score_short_sets`.
        capabilities: See `training.quality.capabilities.judge`.
    """

    short_texts: Mapping[str, Any] = field(default_factory=dict)
    capabilities: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, report: Report) -> Self:
        """Return what a report holds."""
        return cls(report.short_texts, report.capabilities)

    def into(self, report: Report) -> Report:
        """Return a report with these figures; figures that are not known leave it as it is."""
        both = self.over(self.of(report))
        return replace(report, short_texts=both.short_texts, capabilities=both.capabilities)

    def over(self, earlier: Self) -> Self:
        """Return these figures, and earlier ones where they are not known."""
        return type(self)(
            self.short_texts or earlier.short_texts, self.capabilities or earlier.capabilities
        )

    def is_current(self, labels: Sequence[str], sets: Sequence[ShortSet]) -> bool:
        """Whether these are the figures of today's capabilities and of these sets, if any."""
        suite = suite_fingerprint() if has_polarity(labels) else None
        return self.capabilities.get("fingerprint") == suite and (
            not sets or self.short_texts.get("fingerprint") == fingerprint(sets)
        )


def choose_sets(named: Path | None, data: Path, labels: Sequence[str]) -> tuple[ShortSet, ...]:
    """Return the sets of short texts to ask, those with labels that the model has.

    Args:
        named: The folder that the user named, if any.
        data: The data set, beside which a folder is looked for otherwise.
        labels: Of the model.

    Raises:
        DataError: A file is invalid; or the model has the labels of no set in the named folder.
    """
    if named is not None:
        return usable_sets(read_short_sets(named), labels)
    found = find_short_folder(data)
    sets = read_short_sets(found) if found else ()
    return tuple(each for each in sets if not each.unknown_labels(labels))


def assess(labels: Sequence[str], sets: Sequence[ShortSet], ask: Ask, *, engine: str) -> Quality:
    """Ask a version short texts and capabilities.

    Args:
        labels: In the order of the version's outputs.
        sets: From `choose_sets`; may be empty.
        ask: The version.
        engine: Its name, for the report.
    """
    short_texts: dict[str, Any] = {}
    capabilities: dict[str, Any] = {}
    if sets:
        probabilities, tokens = ask([text.text for each in sets for text in each.texts])
        scored = score_short_sets(sets, labels, probabilities, tokens)
        short_texts = {"engine": engine, **scored}
    if has_polarity(labels):
        probabilities, _ = ask(suite_texts())
        capabilities = {"engine": engine, **judge(labels, probabilities)}
    return Quality(plain(short_texts), plain(capabilities))
