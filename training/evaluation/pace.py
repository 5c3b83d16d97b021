"""Throughput of an exported version relative to a plain LSTM, interleaved, on one core.

The reference is a unidirectional LSTM of 128 units on 128-dimensional word vectors with the same
vocabulary and pooling and int8 weights, written by the same exporter. Its predictions do not
matter, so it is not trained. Both run batches of similar length, as the service forms them. On a
shared machine absolute times vary, so both run in every round and the ratio is reported.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx

from app.artifact import ONNX, TOKENIZER, read_manifest
from app.errors import InvalidInput
from app.text.encoder import TextEncoder
from training.config import Config, ModelConfig
from training.data.accounting import print_rows
from training.data.batches import batches_by_length, pad_with_lengths
from training.data.dataset import Source, load_dataset
from training.export.onnx_graph import build_onnx
from training.export.runtimes import OnnxModel
from training.export.saved_model import round_tables
from training.models.build import build_model
from training.support.progress import track

BATCH: Final = 8
TEXTS: Final = 1500
REFERENCE_UNITS: Final = 128
"""Units and embedding dimension of the plain LSTM."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Throughput of both models, in texts per second, one value per round.

    Attributes:
        version: The exported version.
        plain: The plain LSTM.
    """

    version: list[float]
    plain: list[float]

    @property
    def ratios(self) -> list[float]:
        """Speed of the version relative to the plain LSTM in each round, ascending."""
        return sorted(ours / plain for ours, plain in zip(self.version, self.plain, strict=True))

    def __str__(self) -> str:
        ratios = self.ratios
        version, plain = statistics.median(self.version), statistics.median(self.plain)
        return (
            f"{version:,.0f} texts/s, a plain LSTM of {REFERENCE_UNITS} units {plain:,.0f}: "
            f"{statistics.median(ratios):.2f} times as fast "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} rounds)"
        )


def measure_pace(version: Path, source: Source, *, rounds: int) -> Pace:
    """Time both models on the first texts of the validation split.

    Args:
        version: Folder of a version with a `model.onnx`.
        source: The data that the version was trained on.
        rounds: How often each model scores all texts.

    Raises:
        InvalidInput: The version has no `model.onnx`, or `rounds` is below 1.
    """
    if rounds < 1:
        raise InvalidInput(f"rounds must be 1 or more. Received: {rounds}")
    if not (version / ONNX).exists():
        raise InvalidInput(f"a version must have a {ONNX} to be timed. Received: {version}")
    manifest = read_manifest(version)
    encoder = TextEncoder.load(version / TOKENIZER)
    dataset = load_dataset(source, validation_share=0.1, seed=manifest.seed, read_test=False)
    texts = dataset.validation.texts()[:TEXTS]
    rows = [encoder.encode(text).ids for text in texts]
    batches = [pad_with_lengths(rows, chosen) for chosen in batches_by_length(rows, BATCH)]
    with tempfile.TemporaryDirectory() as folder:
        models = OnnxModel(version / ONNX), _plain(len(encoder.vocabulary), Path(folder))
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in track(range(rounds), "Timing"):
        for model, durations in zip(models, seconds, strict=True):
            began = time.perf_counter()
            for ids, lengths in batches:
                model.run(ids, lengths)
            durations.append(time.perf_counter() - began)
    print_rows(dataset.rows)
    return Pace(*([len(texts) / duration for duration in durations] for durations in seconds))


def _plain(vocabulary: int, folder: Path) -> OnnxModel:
    config = Config(
        name="plain",
        model=ModelConfig(architecture="rnn", embedding_dim=REFERENCE_UNITS, units=REFERENCE_UNITS),
    )
    model = build_model(config, vocabulary=vocabulary, classes=2)
    round_tables(model)
    path = folder / ONNX
    onnx.save(build_onnx(model, temperature=1.0, precision="int8"), path)
    return OnnxModel(path)
