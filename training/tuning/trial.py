"""One trial of a search: train once, report after each epoch, stop when told to."""

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
from training.train import Inputs, train
from training.tuning.interface import Report

_DECIMALS: Final = 6  # the precision of a float32 accuracy


class TrialCallback(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports the validation accuracy after each epoch, and stops training when told to.

    Args:
        report: Called with the accuracy after each epoch.
        keep: Which epoch training keeps, as in `Config`.

    Attributes:
        accuracy: Validation accuracy of the epoch to keep so far; NaN before the first.
        stopped: Whether training was stopped early, by `report` or because the loss is not finite.
    """

    def __init__(self, report: Report, *, keep: str) -> None:
        super().__init__()
        self._report, self._keep, self._lowest_loss = report, keep, math.inf
        self.accuracy, self.stopped = math.nan, False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report the accuracy; after the last epoch there is nothing left to stop."""
        logs = logs or {}
        if not math.isfinite(logs["val_loss"]):
            self.stopped = self.model.stop_training = True
            return
        if self._keep == "last" or logs["val_loss"] < self._lowest_loss:
            self._lowest_loss = logs["val_loss"]
            self.accuracy = round(float(logs["val_accuracy"]), _DECIMALS)
        last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if self._report(epoch + 1, self.accuracy) and not last:
            self.stopped = self.model.stop_training = True


def train_once(dataset: Dataset, checkpoint: Path, config: Config, report: Report) -> float | None:
    """Train with one setting, without output.

    Args:
        dataset: Texts to train and validate on, with the labels of the data.
        checkpoint: File for the model.
        config: The recipe with the trial's setting.
        report: Called after each epoch.

    Returns:
        Validation accuracy of the model that training keeps, or None if it was stopped early.

    Raises:
        InvalidInput: The recipe needs answers of a pretrained teacher that are missing, incomplete
            or about other texts.
    """
    inputs = Inputs.of(config, dataset)
    watch = TrialCallback(report, keep=config.loop.keep)
    try:
        with quiet():
            trained = train(
                config,
                inputs.dataset.train,
                inputs.dataset.validation,
                checkpoint,
                unlabelled=inputs.dataset.unlabelled.texts(),
                answers=inputs.answers,
                callbacks=[watch],
            )
            takes_table = config.teacher.kind != "none" and config.model.ngram_logits
            if (takes_table or config.teacher.halve_neutral) and not watch.stopped:
                # After the last epoch was reported, the model got the teacher's n-gram table, or
                # lost a class that the data does not have.
                return _accuracy(checkpoint, trained.encoder, dataset.validation)
    except DataError:
        if not watch.stopped:  # otherwise it is the loss that is not finite: a valid outcome here
            raise
    finally:
        keras.utils.clear_session()  # otherwise memory grows with each trial
    return None if watch.stopped else watch.accuracy


def _accuracy(path: Path, encoder: TextEncoder, validation: Corpus) -> float:
    """Accuracy of a saved model on validation texts."""
    model = keras.models.load_model(path, compile=False)
    probabilities = predict(model, encode(encoder, validation, "Encoding validation texts"))
    correct = probabilities.argmax(axis=1) == np.array(validation.targets())
    return round(float(correct.mean()), _DECIMALS)
