"""Served: a version asked through the very code that serves it. The one module that may see that.

Loading checks digests and golden rows as the service does, texts become ids in `app.text`, an
engine of `app.serving` computes, and batches form by the rule of the service's queue.
"""

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
from training.data.corpus import Corpus
from training.reports.scores import Scored, collect
from training.support.progress import track

MAX_ITEMS: Final = 8
"""Texts of a batch at most; this and the next as the service does by default."""


MAX_TOKENS: Final = 16_384
"""Padded tokens of a batch at most."""


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A version that passed every check of the service.

    Attributes:
        manifest: Of the version.
        encoder: Of the version.
        engine: Which runs it.
    """

    manifest: Manifest
    encoder: TextEncoder
    engine: Engine

    @classmethod
    def load(cls, folder: Path, engine: EngineName) -> "ServedVersion":
        """Load `models/<name>/<version>`; `auto` is the engine that the service would choose.

        Raises:
            UnusableVersion: The folder is no exported version, or was altered.
            MissingLibrary: The library of the engine is not installed.
        """
        options = EngineOptions(engine, threads=visible_cores())
        try:
            loaded = load_version(folder, partial(load_engine, options=options))
        except UnusableVersion as error:
            raise UnusableVersion(f"{folder}: {error}") from error
        return cls(loaded.manifest, loaded.encoder, loaded.engine)

    def score(self, corpus: Corpus) -> Scored:
        """Answer labelled texts.

        Raises:
            DataError: A label is none of the model's.
            InferenceFailed: The model's answer to a batch is none.
        """
        labels = self.manifest.labels
        if unknown := set(corpus.labels) - set(labels):
            raise DataError(
                f"labels must be among those of the model, {', '.join(labels)}. "
                f"Received: {', '.join(sorted(unknown))}"
            )
        encoded = [self.encoder.encode(text) for text in track(corpus.texts(), "Encoding")]
        return collect(corpus, labels, encoded, self._run(encoded))

    def _run(self, encoded: list[Encoded]) -> NDArray[np.float64]:
        """Probabilities, float64 (n, c); as many batches at once as there are cores."""
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
            pool.shutdown(cancel_futures=True)  # an interruption waits for no further batch
        return probabilities


def form_batches(lengths: list[int]) -> list[list[int]]:
    """Positions of texts, batch by batch, as a queue in which all of them wait would part them."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batches = []
    while order:
        waiting = [lengths[position] for position in order[:MAX_ITEMS]]
        chosen = choose_batch(
            waiting, preferred=len(waiting), max_items=MAX_ITEMS, max_tokens=MAX_TOKENS
        )
        batches.append([order[place] for place in chosen])
        del order[: len(chosen)]  # in ascending order those nearest in length are the next ones
    return batches


def list_engines(folder: Path, engine: EngineName) -> list[EngineName]:
    """Every engine that can run a version, the one that was asked for, or `auto` takes, first.

    Raises:
        MissingLibrary: The library of the first is not installed.
    """
    has_onnx = (folder / ONNX).is_file()
    first = cast(EngineName, choose_engine(EngineOptions(engine), has_onnx=has_onnx))
    there: list[EngineName] = ["onnx", "tensorflow"] if has_onnx else ["tensorflow"]
    return [first, *(name for name in there if name != first)]
