"""A progress bar over the steps of each epoch."""

from collections.abc import Mapping
from typing import Any

import keras
from rich.progress import TextColumn

from training.support.progress import TOKENS_PER_SECOND, console, progress_bar


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
