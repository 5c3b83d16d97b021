"""What scoring says about texts, and the columns that hold it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from app.artifact import even_label
from app.errors import InvalidInput

DECIMALS: Final = 8
"""Of a probability in a file of text; the outputs of the models are float32."""


@dataclass(slots=True)
class Scores:
    """The verdicts on some texts.

    Attributes:
        probabilities: float64 of shape (texts, labels); rows of texts that failed hold NaN.
        errors: Why a text has no probabilities, by its position.
    """

    probabilities: NDArray[np.float64]
    errors: dict[int, str] = field(default_factory=dict)


class Pending(Protocol):
    """Scores that are being computed, as a `Future` of them."""

    def done(self) -> bool:
        """Whether `result` would not wait."""
        ...

    def result(self) -> Scores:
        """Wait for them."""
        ...

    def cancel(self) -> object:
        """Drop what was not begun."""
        ...


class Scorer(Protocol):
    """Computes verdicts somewhere, several requests at once.

    Attributes:
        labels: The labels, in the order of the columns of `Scores.probabilities`.
        version: What computes, such as `lstm/2`.
        identity: Changes when the verdicts may; a run is resumed only by the same.
        chunk_texts: The most texts that `submit` is given at once.
        depth: How many calls of `submit` keep it busy.
    """

    labels: tuple[str, ...]
    version: str
    identity: str
    chunk_texts: int
    depth: int

    def submit(self, texts: Sequence[str]) -> Pending:
        """Start to score texts, each valid by the rules of the service; see `Scores`."""
        ...

    def close(self) -> None:
        """Stop; what was not finished is dropped."""
        ...


def choose_label(labels: Sequence[str], probabilities: Sequence[float]) -> str:
    """Return the most probable label; of even odds the one that the service gives them."""
    highest = max(probabilities)
    if highest == min(probabilities):
        return labels[even_label(labels)]
    return labels[probabilities.index(highest)]


@dataclass(frozen=True, slots=True)
class AddedColumns:
    """The names of the columns that are added to each row.

    Attributes:
        labels: The labels of the model.
        prefix: Put before each name.
    """

    labels: tuple[str, ...]
    prefix: str = ""

    @property
    def probabilities(self) -> tuple[str, ...]:
        """The column of the probability of each label."""
        return tuple(f"{self.prefix}probability_{label}" for label in self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns, in their order."""
        first = (f"{self.prefix}label", f"{self.prefix}confidence")
        return (*first, *self.probabilities, f"{self.prefix}error")

    def check(self, columns: Collection[str]) -> None:
        """Check that no column of a table has an added name.

        Raises:
            InvalidInput: One has.
        """
        taken = [name for name in self.names if name in columns]
        if taken:
            raise InvalidInput(
                f"the table must not have the columns that are added: {', '.join(self.names)}. "
                f"Received: {', '.join(taken)}; --prefix TEXT puts a text before the added names"
            )
