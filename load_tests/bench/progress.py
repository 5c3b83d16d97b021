"""The progress of a run on stderr, where that is a terminal."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def show_progress(steps: int, console: Console | None = None) -> Iterator[Callable[[str], None]]:
    """Show a bar with the finished steps, the elapsed time and the current step.

    The bar is drawn once per step and not by rich's refresh thread, because that thread would
    compete for the cores that are being measured.

    Args:
        steps: The number of steps to come.
        console: Where the bar appears, stderr by default. Silent unless it is a terminal.

    Yields:
        A function to call at the start of each step with its description.
    """
    console = console or Console(stderr=True)
    columns = (
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(
        *columns,
        console=console,
        auto_refresh=False,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=steps)
        finished = itertools.count()

        def step(description: str) -> None:
            bar.update(task, completed=next(finished), description=description, refresh=True)

        yield step
