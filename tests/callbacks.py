"""Keras callbacks for tests of what a checkpoint stores."""

from typing import Any, ClassVar

import keras


class Counter(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback with a setting and a declared state."""

    state_attributes: ClassVar = ("count",)

    def __init__(self, limit: int, count: int = 0) -> None:
        super().__init__()
        self.limit, self.count = limit, count


class Undeclared(Counter):
    """A subclass that does not say whether it adds state."""


class Stop(keras.callbacks.Callback):  # type: ignore[misc]
    """Interrupts a training at the beginning of a step, or behind the last one of an epoch."""

    state_attributes: ClassVar = ()

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__()
        self._at, self._epoch = (epoch, step), 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if (self._epoch, batch) == self._at:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == self._at[0] and self._at[1] >= self.params["steps"]:
            raise KeyboardInterrupt
