"""A progress bar over the steps of each epoch."""

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
from rich.progress import TextColumn

from training.support.progress import TOKENS_PER_SECOND, print_line, progress_bar


class EpochProgress(keras.callbacks.Callback):  # type: ignore[misc]
    """Shows a bar over the steps with loss and throughput, and prints the metrics of each epoch."""

    state_attributes: ClassVar = ()

    def __init__(self) -> None:
        super().__init__()
        self._bar = progress_bar(TextColumn("{task.fields[metrics]}"))
        self._task: Any = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Show the bar."""
        self._bar.start()
        self._task = self._bar.add_task("", total=self.params["steps"], metrics="")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Reset the bar."""
        title = f"Epoch {epoch + 1} of at most {self.params['epochs']}"
        self._bar.reset(self._task, description=title, metrics="")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Advance the bar."""
        known = {name: (logs or {}).get(name) for name in ("loss", TOKENS_PER_SECOND)}
        shown = {name: value for name, value in known.items() if value is not None}
        self._bar.update(self._task, completed=batch + 1, metrics=_format(shown))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Print the metrics of the epoch."""
        print_line(f"epoch {epoch + 1}: {_format(logs or {})}")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Hide the bar."""
        self._bar.stop()


def _format(metrics: Mapping[str, float]) -> str:
    return "  ".join(
        f"{value:,.0f} tokens/s" if name == TOKENS_PER_SECOND else f"{name} {value:.4f}"
        for name, value in metrics.items()
    )
