"""Progress bars on stderr, where it is a terminal."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")

console = Console(stderr=True)


def progress_bar(console: Console = console) -> Progress:
    """A bar with counts and the time that is left; silent where stderr is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=console.quiet or not console.is_terminal,
        transient=True,
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Neither bars nor lines on the console of this module meanwhile."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def track(items: Sequence[T], description: str) -> Iterable[T]:
    """`items`, with a bar that moves while they are used."""
    with progress_bar() as bar:
        yield from bar.track(items, description=description)


class EpochProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """A bar over the steps of an epoch, and a line of figures after each."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = progress_bar()
        self._task: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Show the bar."""
        self._bar.start()
        self._task = self._bar.add_task("", total=self.params["steps"])

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the bar anew."""
        title = f"Epoch {epoch + 1} of at most {self.params['epochs']}"
        self._bar.reset(self._task, description=title)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Move the bar."""
        figures = logs or {}
        self._bar.update(self._task, completed=batch + 1, loss=figures.get("loss"))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print what the epoch came to."""
        figures = "  ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
        console.print(f"epoch {epoch + 1}: {figures}", highlight=False, soft_wrap=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Take the bar away."""
        self._bar.stop()
