"""Which epoch of a training is kept, and how a model is written."""

import zipfile
from pathlib import Path
from typing import Any, ClassVar

import keras

from app.errors import CannotResume
from training.fit.checkpoints import FRESH
from training.support.files import atomic_path


class ModelSaver(keras.callbacks.Callback):  # type: ignore[misc]
    """Saves the model of the epoch with the lowest validation loss, or of the last epoch.

    Unlike `keras.callbacks.ModelCheckpoint`, it writes atomically and can be resumed.

    Args:
        path: The file of the model, replaced when a better epoch ends.
        keep: `best` or `last`.

    Attributes:
        best: The lowest validation loss so far.
    """

    state_attributes: ClassVar = ("best",)

    def __init__(self, path: Path, *, keep: str) -> None:
        super().__init__()
        self._path, self._keep = path, keep
        self.best = float("inf")
        self._checked = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Check the model that an earlier process saved, before hours are spent on later epochs.

        Raises:
            CannotResume: It is missing or damaged.
        """
        if not self._checked and self.best < float("inf") and not _is_intact(self._path):
            raise CannotResume(f"{self._path} is missing or damaged. {FRESH}")
        self._checked = True

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save the model if this epoch is the one to keep so far."""
        loss = (logs or {})["val_loss"]
        if loss < self.best or self._keep == "last":
            self.best = loss
            save_model(self.model, self._path)


def save_model(model: keras.Model, path: Path) -> None:
    """Write a `.keras` file atomically."""
    with atomic_path(path) as partial:
        model.save(partial)


def _is_intact(path: Path) -> bool:
    """Whether every file in a `.keras` file, which is a zip archive, has its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False
