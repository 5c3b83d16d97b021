"""The figures of all workers, gathered for the one that was asked for them."""

import itertools
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.workers.messages import tell


class Arithmetic(Protocol):
    """What can be done with figures, whatever they are."""

    def merge(self, figures: Sequence[Any]) -> Any:
        """Those of several workers as those of one."""
        ...

    def remains(self, figures: Any) -> Any:
        """What counts on when a worker has ended."""
        ...


@dataclass
class _Question:
    """A worker wants the figures of all.

    Attributes:
        line: To the one that asks.
        number: By which it knows its question.
        missing: Workers that have not reported yet.
    """

    line: socket.socket
    number: int
    missing: set[int]


class Figures:
    """The last figures of every worker; a count that was told once never falls.

    So for a worker that has died, or does not report in time, what it told last is taken. The
    answer is merged here: it is as long for a hundred workers as for one.

    Args:
        arithmetic: How figures are merged.
    """

    def __init__(self, arithmetic: Arithmetic) -> None:
        self._arithmetic = arithmetic
        self._last: dict[int, Any] = {}
        self._questions: dict[int, _Question] = {}
        self._identifiers = itertools.count()

    def of(self, worker: int) -> Any:
        """The last figures of a worker; None before it told any."""
        return self._last.get(worker)

    def ask(self, lines: Mapping[int, socket.socket], asking: int, number: int) -> int:
        """Ask all workers for their figures.

        Args:
            lines: To each worker.
            asking: The worker that wants to know.
            number: By which it knows its question.

        Returns:
            By which the question is known here, for `give_up`.
        """
        identifier = next(self._identifiers)
        self._questions[identifier] = _Question(lines[asking], number, missing=set(lines))
        for worker, line in lines.items():
            if not tell(line, report=identifier):
                self._miss(identifier, worker)
        return identifier

    def take(self, worker: int, identifier: int, figures: Any) -> None:
        """A worker has reported."""
        self._last[worker] = figures
        self._miss(identifier, worker)

    def give_up(self, identifier: int) -> None:
        """Answer a question now, if that has not happened, with what is known."""
        question = self._questions.pop(identifier, None)
        if question is not None:
            figures = self._arithmetic.merge(list(self._last.values()))
            tell(question.line, answer=question.number, figures=figures)

    def bury(self, worker: int) -> None:
        """A worker has ended: it reports no more, and holds nothing any more."""
        if worker in self._last:
            self._last[worker] = self._arithmetic.remains(self._last[worker])
        for identifier in list(self._questions):
            self._miss(identifier, worker)

    def _miss(self, identifier: int, worker: int) -> None:
        """Do not wait for this worker's report any longer."""
        question = self._questions.get(identifier)
        if question is not None:
            question.missing.discard(worker)
            if not question.missing:
                self.give_up(identifier)
