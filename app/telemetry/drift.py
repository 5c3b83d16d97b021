"""How far the texts of the last hour are from those that a version was validated on.

Nothing is counted for it: it reads totals that the metrics have anyway, when a snapshot is taken.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

WINDOW_S: Final = 3600.0
_STEP_S: Final = 300.0
"""The window moves in steps of this length."""
MIN_COUNT: Final = 1000
"""With fewer texts the index would show chance: of n texts in b bins, its mean is (b - 1) / n.
Tokens are no texts: those of one text are alike."""
_MIN_SHARE: Final = 1e-4
"""Of an empty bin, whose logarithm would be infinite."""

Clock = Callable[[], float]
Identity = tuple[int, tuple[str, ...], Mapping[str, Sequence[float]]]
"""A version: its number, its labels, and what was counted when it was validated."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One thing that may drift.

    Attributes:
        expected: What was counted in each bin when the version was validated.
        read: Returns what has been counted in each bin since the start of the process.
        count_texts: Returns how many texts that was.
    """

    expected: Sequence[float]
    read: Callable[[], Sequence[float]]
    count_texts: Callable[[], float]


def population_stability_index(
    expected: Sequence[float], observed: Sequence[float], texts: float
) -> float:
    """The difference of two histograms: 0 if their shares are equal, above 0.25 if much differs.

    Args:
        expected: The count of each bin, or its share.
        observed: The same, of the same bins.
        texts: How many texts were observed; at least `MIN_COUNT`.

    Returns:
        At least 0; NaN if there is too little to compare.

    Source:
        Siddiqi, Credit Risk Scorecards (2006): the sum of (o - e) ln(o / e) over the bins.
    """
    total, all_expected = sum(observed), sum(expected)
    if texts < MIN_COUNT or not total or not all_expected:
        return math.nan
    index = 0.0
    for each, other in zip(expected, observed, strict=True):
        before = max(each / all_expected, _MIN_SHARE)
        after = max(other / total, _MIN_SHARE)
        index += (after - before) * math.log(after / before)
    return index


class Window:
    """What totals have grown by in the last hour.

    Args:
        read: Returns the totals.
        clock: Monotonic, in seconds.
    """

    def __init__(self, read: Callable[[], Sequence[float]], clock: Clock = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._marks = deque([(clock(), tuple(read()))])

    def counts(self) -> list[float]:
        """The growth of each total. Call it more often than every few minutes."""
        now, totals, marks = self._clock(), tuple(self._read()), self._marks
        while len(marks) > 1 and marks[1][0] <= now - WINDOW_S:
            marks.popleft()
        if now >= marks[-1][0] + _STEP_S:
            marks.append((now, totals))
        return [after - before for after, before in zip(totals, marks[0][1], strict=True)]


class Watch:
    """The windows of one model.

    Args:
        version: The version whose validation texts the model's texts are compared with.
        features: By name.
        clock: Monotonic, in seconds.
    """

    def __init__(
        self, version: Identity, features: Mapping[str, Feature], clock: Clock = time.monotonic
    ) -> None:
        self.version = version
        self._features = {
            name: (each.expected, Window(partial(_read, each), clock))
            for name, each in features.items()
        }

    def compare(self) -> dict[str, tuple[list[float], list[float], float]]:
        """The expected shares of each feature, and what was counted in the window: bins, texts."""
        found = {}
        for name, (expected, window) in self._features.items():
            *observed, texts = window.counts()
            found[name] = [count / (sum(expected) or 1) for count in expected], observed, texts
        return found


def _read(feature: Feature) -> tuple[float, ...]:
    return *feature.read(), feature.count_texts()
