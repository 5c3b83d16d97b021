"""Run an exported version in TensorFlow or in ONNX Runtime."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import tensorflow as tf

from app.artifact import SIGNATURE, TEXT_SIGNATURE, TOKENIZER
from app.text.encoder import TextEncoder
from app.text.padding import Int32Array
from training.models.predict import score_rows
from training.support.arrays import Probabilities

_OUTPUT: Final = "probabilities"


class ExportedModel:
    """A version's SavedModel, called through its signatures as any TensorFlow program would.

    Attributes:
        encoder: The encoder saved beside it.
    """

    def __init__(self, folder: Path) -> None:
        self._model = tf.saved_model.load(str(folder))
        self._score = self._model.signatures[SIGNATURE]
        self._score_text = self._model.signatures[TEXT_SIGNATURE]
        self.encoder = TextEncoder.load(folder / TOKENIZER)

    def score(self, rows: Sequence[Int32Array], *, batch_size: int = 64) -> Probabilities:
        """Probabilities of encoded texts, (rows, classes), in batches of similar length."""

        def run(ids: Int32Array, lengths: Int32Array) -> Any:
            answer = self._score(ids=tf.constant(ids), lengths=tf.constant(lengths))
            return answer[_OUTPUT].numpy()

        return score_rows(run, rows, batch_size)

    def score_texts(self, texts: Sequence[str]) -> Probabilities:
        """Probabilities of raw texts, (texts, classes), in one batch."""
        answer = self._score_text(text=tf.constant([text.encode() for text in texts]))
        return np.asarray(answer[_OUTPUT].numpy(), np.float64)


class OnnxModel:
    """A `model.onnx`, run on one core as the service runs it."""

    def __init__(self, path: Path) -> None:
        # Read while the library is imported: no look-up, no connection, no file in the home folder.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def score(self, rows: Sequence[Int32Array], *, batch_size: int = 64) -> Probabilities:
        """Probabilities of encoded texts, (rows, classes), in batches of similar length."""
        return score_rows(self.run, rows, batch_size)

    def run(self, ids: Int32Array, lengths: Int32Array) -> Any:
        """Probabilities of one batch, float32 (batch, classes)."""
        return self._session.run([_OUTPUT], {"ids": ids, "lengths": lengths})[0]
