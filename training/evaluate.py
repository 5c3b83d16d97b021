"""Results: what an exported version says of labelled texts, and how good that is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
import tensorflow as tf
from numpy.typing import NDArray

from app.artifact import SIGNATURE, TEXT_SIGNATURE, TOKENIZER, read_manifest, verify_files
from app.errors import DataError, UnusableVersion
from app.text.encoder import TextEncoder
from app.text.padding import Int32Array
from training.batches import Probabilities, score_rows
from training.dataset import Source
from training.formats import SplitName
from training.progress import track
from training.scores import confusion_matrix, measure_reliability, roc_curves, score_labels

_OUTPUT: Final = "probabilities"
_TEMPERATURES: Final = np.geomspace(0.25, 4.0, 401)


class ExportedModel:
    """A version folder, run the way any TensorFlow program would.

    Attributes:
        encoder: The tokenizer beside the SavedModel.
    """

    def __init__(self, folder: Path) -> None:
        self._model = tf.saved_model.load(str(folder))
        self._score = self._model.signatures[SIGNATURE]
        self._score_text = self._model.signatures[TEXT_SIGNATURE]
        self.encoder = TextEncoder.load(folder / TOKENIZER)

    def score(self, rows: Sequence[Int32Array], *, batch_size: int = 64) -> Probabilities:
        """Probabilities of encoded texts, (rows, classes), computed in batches of like length."""

        def run(ids: Int32Array, lengths: Int32Array) -> Any:
            answer = self._score(ids=tf.constant(ids), lengths=tf.constant(lengths))
            return answer[_OUTPUT].numpy()

        return score_rows(run, rows, batch_size)

    def score_texts(self, texts: Sequence[str]) -> Probabilities:
        """Probabilities through the signature that takes raw text, in one batch."""
        answer = self._score_text(text=tf.constant([text.encode() for text in texts]))
        return np.asarray(answer[_OUTPUT].numpy(), np.float64)


class OnnxModel:
    """An ONNX graph with the inputs of `serve_ids`, run as the service runs it: on one core."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def score(self, rows: Sequence[Int32Array], *, batch_size: int = 64) -> Probabilities:
        """Probabilities of encoded texts, (rows, classes); see `ExportedModel.score`."""

        def run(ids: Int32Array, lengths: Int32Array) -> Any:
            return self._session.run([_OUTPUT], {"ids": ids, "lengths": lengths})[0]

        return score_rows(run, rows, batch_size)


def evaluate_version(folder: Path, source: Source, split: SplitName) -> dict[str, float]:
    """Score an exported version on labelled texts.

    Args:
        folder: `models/<name>/<version>`.
        source: Where the texts are.
        split: Which split of them.

    Returns:
        See `measure`.

    Raises:
        UnusableVersion: The folder is no exported version, or was altered.
        DataError: The data is wrong, or has labels that the model has not.
    """
    try:
        manifest = read_manifest(folder)
        verify_files(folder, manifest)
    except UnusableVersion as error:
        raise UnusableVersion(f"{folder}: {error}") from error
    corpus = source.read(split)
    if unknown := set(corpus.labels) - set(manifest.labels):
        raise DataError(
            f"labels must be among those of the model, {', '.join(manifest.labels)}. "
            f"Received: {', '.join(sorted(unknown))}"
        )
    exported = ExportedModel(folder)
    index = {label: position for position, label in enumerate(manifest.labels)}
    targets = np.array([index[example.label] for example in corpus.examples], np.int32)
    rows = [exported.encoder.encode(text).ids for text in track(corpus.texts(), "Encoding")]
    return measure(exported.score(rows), targets, manifest.labels)


def measure(
    probabilities: Probabilities, targets: NDArray[np.int32], labels: Sequence[str]
) -> dict[str, float]:
    """Every score of a split.

    Args:
        probabilities: (texts, classes).
        targets: The true class of each text, int32 (texts,).
        labels: Of the classes.

    Returns:
        `accuracy`, `macro_f1`, `log_loss`, `roc_auc` (the mean over labels against the rest when
        there are more than two; left out where no label has both kinds of text) and
        `expected_calibration_error`.
    """
    matrix = confusion_matrix(targets, probabilities)
    f1 = [row["f1"] for row in score_labels(matrix, labels).values()]
    areas = [curve.area() for curve in roc_curves(targets, probabilities, labels).values()]
    scores = {
        "accuracy": np.trace(matrix) / matrix.sum(),
        "macro_f1": np.mean(f1),
        "log_loss": log_loss(probabilities, targets),
        "expected_calibration_error": measure_reliability(targets, probabilities).error,
    }
    if areas:
        scores["roc_auc"] = np.mean(areas)
    return {name: round(float(value), 6) for name, value in scores.items()}


def log_loss(probabilities: Probabilities, targets: NDArray[np.int32]) -> float:
    """Mean negative logarithm of what the true class was given."""
    given = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.maximum(given, 1e-15)).mean())


def fit_temperature(probabilities: Probabilities, targets: NDArray[np.int32]) -> float:
    """The temperature under which validation texts are the least surprising.

    Dividing the logits by it changes no label, only how sure the model says it is.

    Source:
        Guo et al. (2017), section 4.2. One parameter, so a fine grid is exact enough.
    """
    losses = [log_loss(rescale(probabilities, t), targets) for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def rescale(probabilities: Probabilities, temperature: float) -> Probabilities:
    """Probabilities as they are when their logits are divided by `temperature`."""
    logits = np.log(np.maximum(probabilities, 1e-30)) / temperature
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    scaled: Any = exponentials / exponentials.sum(axis=1, keepdims=True)
    return np.asarray(scaled, np.float64)
