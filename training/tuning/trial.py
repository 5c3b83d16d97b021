"""One trial of a search: train once, report each epoch, stop when told to."""

import math
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np

from app.errors import DataError
from app.text.encoder import TextEncoder
from training.config import Config
from training.data.corpus import Corpus
from training.data.dataset import Dataset
from training.data.preprocessing import encode
from training.models.predict import predict
from training.support.progress import quiet
from training.train import train
from training.tuning.interface import Report

_DECIMALS: Final = 6  # what an accuracy of four bytes can tell


class Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports the figure after each epoch, and ends a training that is not worth going on with.

    Args:
        report: Told the figure after each epoch.
        keep: Which epoch training keeps, as in `Config`.

    Attributes:
        figure: Validation accuracy of the epoch to keep so far; nan before the first.
        ended: Whether the training was ended, for its figure or because its loss was no number.
    """

    def __init__(self, report: Report, *, keep: str) -> None:
        super().__init__()
        self._report, self._keep, self._lowest_loss = report, keep, math.inf
        self.figure, self.ended = math.nan, False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report; after the last epoch there is nothing left to end."""
        figures = logs or {}
        if not math.isfinite(figures["val_loss"]):
            self.ended = self.model.stop_training = True
            return
        if self._keep == "last" or figures["val_loss"] < self._lowest_loss:
            self._lowest_loss = figures["val_loss"]
            self.figure = round(float(figures["val_accuracy"]), _DECIMALS)
        last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if self._report(epoch + 1, self.figure) and not last:
            self.ended = self.model.stop_training = True


def train_once(dataset: Dataset, checkpoint: Path, config: Config, report: Report) -> float | None:
    """Train with one setting, without a word; answers its figure, or None when it was ended."""
    watch = Watch(report, keep=config.loop.keep)
    try:
        with quiet():
            trained = train(
                config,
                dataset.train,
                dataset.validation,
                checkpoint,
                unlabelled=dataset.unlabelled.texts(),
                callbacks=[watch],
            )
            if config.teacher.kind != "none" and config.model.ngram_logits and not watch.ended:
                # What is kept carries the teacher's n-grams, without which each epoch was judged.
                return _judge(checkpoint, trained.encoder, dataset.validation)
    except DataError:
        if not watch.ended:  # else a loss that is no number, which is an answer here
            raise
    finally:
        keras.utils.clear_session()  # what one trial leaves behind would add up
    return None if watch.ended else watch.figure


def _judge(path: Path, encoder: TextEncoder, validation: Corpus) -> float:
    """Accuracy of a model on validation texts."""
    model = keras.models.load_model(path, compile=False)
    answers = predict(model, encode(encoder, validation, "Encoding validation texts"))
    right = answers.argmax(axis=1) == np.array(validation.targets())
    return round(float(right.mean()), _DECIMALS)
