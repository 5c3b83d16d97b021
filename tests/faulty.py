"""An engine that fails as it is told to, for the tests of isolation."""

import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from app.text.padding import Int32Array
from tests.fakes import FakeEngine

Fault = Callable[[NDArray[np.floating]], NDArray[np.floating]]
"""What becomes of the probabilities of a run."""


def fail(_output: NDArray[np.floating]) -> NDArray[np.floating]:
    """Raise, with a text in the message as libraries do."""
    raise RuntimeError("the model quotes its input: SECRET")


def lose_a_row(output: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return one row too few."""
    return output[1:]


def not_a_number(output: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return no number at all."""
    return output * np.nan


class FaultyEngine(FakeEngine):
    """A `FakeEngine` with a fault in each run that has one of some ids.

    Attributes:
        fault: What goes wrong; None for nothing.
        ids: The ids that provoke it; empty for every run.
        hang: Set it to let a run that hangs end.
    """

    def __init__(self, fault: Fault | None = None, ids: Sequence[int] = ()) -> None:
        super().__init__()
        self.fault = fault
        self.ids = ids
        self.hang = threading.Event()

    def never_end(self, output: NDArray[np.floating]) -> NDArray[np.floating]:
        """Hang until the test is over."""
        self.hang.wait(timeout=60)
        return output

    def run(self, ids: Int32Array, lengths: Int32Array) -> NDArray[np.floating]:
        """Compute probabilities of shape (rows, columns); see `Engine.run`."""
        output = super().run(ids, lengths)
        if self.fault is not None and (not self.ids or np.isin(ids, self.ids).any()):
            return self.fault(output)
        return output
