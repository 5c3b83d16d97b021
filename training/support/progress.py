"""Progress bars on stderr, where it is a terminal."""

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
