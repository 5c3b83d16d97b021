"""Progress bars and lines on stderr; bars are shown only where it is a terminal."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from training.support.interruption import check_interruption

T = TypeVar("T")
TOKENS_PER_SECOND: Final = "tokens_per_second"
"""The name of this metric in logs and histories; padding is not counted."""
console = Console(stderr=True)


def progress_bar(
    *more: ProgressColumn, count: ProgressColumn | None = None, console: Console = console
) -> Progress:
    """Return a bar with a count and the remaining time.

    Args:
        more: Further columns.
        count: The column that counts; by default completed and total steps.
        console: Where to show the bar; nothing is shown where it is no terminal, or quiet.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        count or MofNCompleteColumn(),
        TimeRemainingColumn(),
        *more,
        console=console,
        disable=console.quiet or not console.is_terminal,
        transient=True,
    )


def print_line(text: str) -> None:
    """Print one line as it is: neither wrapped nor highlighted, and brackets are no markup."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Show neither bars nor lines on the console of this module."""
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def track(items: Collection[T], description: str) -> Iterable[T]:
    """Iterate over `items` with a progress bar, until a signal interrupts the command."""
    with progress_bar() as bar:
        for item in bar.track(items, total=len(items), description=description):
            check_interruption()
            yield item
