"""Pace: an exported version beside a plain LSTM, the same texts by turns, on one core.

The yardstick is one LSTM of 128 units in one direction on word vectors 128 wide, with the same
vocabulary and pooling, weights of one byte, written by the same exporter. What it answers is of no
interest, so that it need not be trained. Both read batches of like length, as the service makes
them. Times of a shared machine rise and fall; so both run in every round, and the ratio is what
is told.
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
from training.data.batches import lay_out, part_by_length
from training.data.dataset import Source, load_dataset
from training.export.export import round_embedding
from training.export.onnx_graph import build_onnx
from training.export.runtimes import OnnxModel
from training.models.build import build_model
from training.support.progress import track

BATCH: Final = 8


TEXTS: Final = 1500


YARDSTICK: Final = 128
"""Units, and width of a word's vector, of the plain LSTM."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast both were, texts a second in each round.

    Attributes:
        version: Of the version.
        plain: Of the plain LSTM.
    """

    version: list[float]
    plain: list[float]

    @property
    def ratios(self) -> list[float]:
        """How many times as fast the version was in each round, lowest first."""
        return sorted(ours / plain for ours, plain in zip(self.version, self.plain, strict=True))

    def __str__(self) -> str:
        ratios = self.ratios
        return (
            f"{statistics.median(self.version):,.0f} texts/s, a plain LSTM of {YARDSTICK} units "
            f"{statistics.median(self.plain):,.0f}: {statistics.median(ratios):.2f} times as fast "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} rounds)"
        )


def measure_pace(version: Path, source: Source, *, rounds: int) -> Pace:
    """Ask both the first held-out training texts.

    Args:
        version: Folder of a version with a `model.onnx`.
        source: Where the texts are.
        rounds: How often each is asked all of them.

    Raises:
        InvalidInput: The version has no `model.onnx`, or there are no rounds.
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
    batches = [lay_out(rows, chosen) for chosen in part_by_length(rows, BATCH)]
    with tempfile.TemporaryDirectory() as folder:
        models = OnnxModel(version / ONNX), _plain(len(encoder.vocabulary), Path(folder))
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in track(range(rounds), "Taking turns"):
        for model, taken in zip(models, seconds, strict=True):
            began = time.perf_counter()
            for ids, lengths in batches:
                model.run(ids, lengths)
            taken.append(time.perf_counter() - began)
    return Pace(*([len(texts) / one for one in taken] for taken in seconds))


def _plain(vocabulary: int, folder: Path) -> OnnxModel:
    config = Config(
        name="plain",
        model=ModelConfig(architecture="rnn", embedding_dim=YARDSTICK, units=YARDSTICK),
    )
    model = build_model(config, vocabulary=vocabulary, classes=2)
    round_embedding(model)
    path = folder / ONNX
    onnx.save(build_onnx(model, temperature=1.0, precision="int8"), path)
    return OnnxModel(path)
