"""Score a version through the code that serves it. The only training module that may import it.

Loading verifies digests and golden rows as the service does, `app.text` encodes the texts, an
engine of `app.serving` runs, and batches follow the rule of the service's queue. Texts that the
version cannot judge get even odds, as in the service.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from app.artifact import ONNX, Manifest
from app.errors import DataError, UnusableVersion
from app.serving.engines import (
    Engine,
    EngineOptions,
    choose_engine,
    infer,
    load_engine,
)
from app.serving.engines import EngineName as EngineName
from app.serving.hardware import visible_cores
from app.serving.repository import load_version
from app.serving.shapes import choose_batch
from app.text.encoder import Encoded, TextEncoder
from training.data.accounting import name_labels
from training.data.corpus import Corpus
from training.reports.reliability import give_even_odds
from training.reports.scores import Scored, collect
from training.support.arrays import IntArray
from training.support.progress import track

MAX_ITEMS: Final = 8
"""Maximum texts in a batch; like `MAX_TOKENS` the default of the service."""
MAX_TOKENS: Final = 16_384
"""Maximum tokens in a batch, padding included."""


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A version that passed every check of the service.

    Attributes:
        manifest: The manifest of the version.
        encoder: Its text encoder.
        engine: The engine that runs it.
    """

    manifest: Manifest
    encoder: TextEncoder
    engine: Engine

    @classmethod
    def load(cls, folder: Path, engine: EngineName) -> "ServedVersion":
        """Load `models/<name>/<version>`; `auto` selects the engine that the service would.

        Raises:
            UnusableVersion: The folder is not an exported version, or was altered.
            MissingLibrary: The library of the engine is not installed.
        """
        options = EngineOptions(engine, threads=visible_cores())
        try:
            loaded = load_version(folder, partial(load_engine, options=options))
        except UnusableVersion as error:
            raise UnusableVersion(f"{folder}: {error}") from error
        return cls(loaded.manifest, loaded.encoder, loaded.engine)

    def score(self, corpus: Corpus) -> Scored:
        """Score labelled texts.

        Raises:
            DataError: A label is not one of the model's.
            InferenceFailed: The engine returned an invalid result for a batch.
        """
        labels = self.manifest.labels
        if unknown := set(corpus.labels) - set(labels):
            raise DataError(
                f"labels must be among those of the model, {name_labels(labels)}. "
                f"Received: {name_labels(sorted(unknown))}"
            )
        encoded = [self.encoder.encode(text) for text in track(corpus.texts(), "Encoding")]
        return collect(corpus, labels, encoded, self._judge(encoded))

    def ask(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], IntArray]:
        """Score texts without labels.

        Returns:
            Probabilities, float64 (texts, classes), and tokens before truncation, int (texts,).

        Raises:
            InferenceFailed: The engine returned an invalid result for a batch.
        """
        encoded = [self.encoder.encode(text) for text in texts]
        return self._judge(encoded), np.array([each.tokens for each in encoded], np.int32)

    def _judge(self, encoded: list[Encoded]) -> NDArray[np.float64]:
        """Return probabilities, float64 (n, c): even ones of a text that cannot be judged."""
        probabilities = self._run(encoded)
        give_even_odds(probabilities, encoded, self.manifest.reliability, self.manifest.labels)
        return probabilities

    def _run(self, encoded: list[Encoded]) -> NDArray[np.float64]:
        """Return probabilities, float64 (n, c); one batch per core runs at a time."""
        probabilities = np.empty((len(encoded), len(self.manifest.labels)))
        batches = form_batches([len(text.ids) for text in encoded])
        pool = ThreadPoolExecutor(visible_cores())
        try:
            answers = pool.map(
                lambda batch: infer(
                    self.engine,
                    [encoded[position].ids for position in batch],
                    labels=len(self.manifest.labels),
                ),
                batches,
            )
            title = f"Scoring on {self.engine.name}"
            for batch, answer in zip(track(batches, title), answers, strict=True):
                probabilities[batch] = answer
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt does not wait for queued batches
        return probabilities


def form_batches(lengths: list[int]) -> list[list[int]]:
    """Form batches as the queue of the service does when all texts wait: positions of texts."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batches = []
    while order:
        waiting = [lengths[position] for position in order[:MAX_ITEMS]]
        chosen = choose_batch(
            waiting, preferred=len(waiting), max_items=MAX_ITEMS, max_tokens=MAX_TOKENS
        )
        batches.append([order[place] for place in chosen])
        del order[: len(chosen)]  # sorted, so the closest in length come first
    return batches


def list_engines(folder: Path, engine: EngineName) -> list[EngineName]:
    """Return the engines that can run a version; the requested (or automatic) one comes first.

    Raises:
        MissingLibrary: The library of the first one is not installed.
    """
    has_onnx = (folder / ONNX).is_file()
    first = cast(EngineName, choose_engine(EngineOptions(engine), has_onnx=has_onnx))
    there: list[EngineName] = ["onnx", "tensorflow"] if has_onnx else ["tensorflow"]
    return [first, *(name for name in there if name != first)]
