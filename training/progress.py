"""Progress bars on stderr, where it is a terminal."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import keras
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")

TOKENS_PER_SECOND: Final = "tokens_per_second"
"""The name of this figure in logs and histories; padding is not counted."""

console = Console(stderr=True)


def progress_bar(*more: ProgressColumn, console: Console = console) -> Progress:
    """A bar with counts and the time that is left; silent where stderr is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        *more,
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


def track(items: Collection[T], description: str) -> Iterable[T]:
    """`items`, with a bar that moves while they are used."""
    with progress_bar() as bar:
        yield from bar.track(items, total=len(items), description=description)


class EpochProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """A bar over the steps of an epoch with the tokens a second, and a line of figures after it."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = progress_bar(TextColumn("{task.fields[figures]}"))
        self._task: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Show the bar."""
        self._bar.start()
        self._task = self._bar.add_task("", total=self.params["steps"], figures="")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the bar anew."""
        title = f"Epoch {epoch + 1} of at most {self.params['epochs']}"
        self._bar.reset(self._task, description=title, figures="")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Move the bar."""
        known = {name: (logs or {}).get(name) for name in ("loss", TOKENS_PER_SECOND)}
        shown = {name: value for name, value in known.items() if value is not None}
        self._bar.update(self._task, completed=batch + 1, figures=_figures(shown))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print what the epoch came to."""
        console.print(f"epoch {epoch + 1}: {_figures(logs or {})}", highlight=False, soft_wrap=True)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Take the bar away."""
        self._bar.stop()


def _figures(logs: Mapping[str, float]) -> str:
    return "  ".join(
        f"{value:,.0f} tokens/s" if name == TOKENS_PER_SECOND else f"{name} {value:.4f}"
        for name, value in logs.items()
    )
