"""One verb for the API: texts in, labelled probabilities out."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.errors import DeadlineExceeded, InferenceFailed, ValenceError
from app.serving.batcher import Batcher
from app.serving.request_queue import Item
from app.telemetry.metrics import Metrics
from app.text.encoder import Encoded, TextEncoder

_INLINE_CHARS: Final = 20_000
"""Texts longer than this together are tokenized in a thread. So much takes 0.3 ms, and 0.9 ms at
worst, which is with an accented letter somewhere: less than one run of the model."""


@dataclass(slots=True)  # not frozen, here and below: that triples the time to make one
class Prediction:
    """The answer to one text.

    Attributes:
        label: The most probable one.
        probabilities: Of every label; they sum to 1.
        tokens: Of the whole text.
        truncated: Whether the model read only part of it.
    """

    label: str
    probabilities: dict[str, float]
    tokens: int
    truncated: bool


@dataclass(slots=True)
class Answer:
    """The answer to one request.

    Attributes:
        predictions: One per text, in the order asked; an error where the model failed on it.
        tokenize_s: Seconds from texts to ids.
        queue_s: The longest wait of a text for its batch, in seconds.
        inference_s: The longest model run, in seconds.
    """

    predictions: list[Prediction | ValenceError]
    tokenize_s: float
    queue_s: float
    inference_s: float


class Predictor:
    """Answers for one version of a model."""

    def __init__(
        self,
        *,
        name: str,
        version: int,
        labels: Sequence[str],
        encoder: TextEncoder,
        batcher: Batcher,
        metrics: Metrics,
    ) -> None:
        self._labels = tuple(labels)
        self._encode = encoder.encode
        self._batcher = batcher
        self._tokenizing = 0  # texts in threads, or waiting for one
        self._metrics = metrics.for_model(name)
        self._predicted = metrics.for_labels(name, version, labels)

    async def predict(self, texts: Sequence[str], *, deadline: float) -> Answer:
        """Answer every text.

        Args:
            texts: At least one, each free of lone surrogates.
            deadline: On the monotonic clock, in seconds.

        Raises:
            Overloaded, DeadlineExceeded, Draining, NotReady: As `Batcher.submit`; then no text
                is answered.
        """
        started = time.monotonic()
        # Those on their way to the queue count, so that what waits for a thread is bounded, too.
        self._batcher.require_room(self._tokenizing + len(texts))
        if sum(map(len, texts)) <= _INLINE_CHARS:
            rows = [self._encode(text) for text in texts]
        else:
            rows = await self._encode_beside(texts, deadline)
        tokenize_s = time.monotonic() - started
        self._metrics.tokenize_seconds.observe(tokenize_s)
        submission = await self._batcher.submit([row.ids for row in rows], deadline=deadline)
        predictions = [
            self._label(item, row) for item, row in zip(submission.items, rows, strict=True)
        ]
        return Answer(predictions, tokenize_s, submission.queue_delay_s, submission.inference_s)

    async def drain(self) -> None:
        """Refuse new texts, answer the admitted ones, then stop."""
        await self._batcher.drain()

    async def _encode_beside(self, texts: Sequence[str], deadline: float) -> list[Encoded]:
        """Encode texts beside the event loop."""
        self._tokenizing += len(texts)
        try:
            return await asyncio.to_thread(self._encode_many, texts, deadline)
        finally:
            self._tokenizing -= len(texts)

    def _encode_many(self, texts: Sequence[str], deadline: float) -> list[Encoded]:
        """In a thread: encode texts until the deadline, after which nobody needs them."""
        rows = []
        for text in texts:
            if time.monotonic() >= deadline:
                raise DeadlineExceeded("the deadline passed while the texts were tokenized")
            rows.append(self._encode(text))
        return rows

    def _label(self, item: Item, row: Encoded) -> Prediction | ValenceError:
        """Name what the model answered, and count it."""
        probabilities = item.probabilities
        if probabilities is None:
            return item.error or InferenceFailed("the model gave no answer")
        confidence = max(probabilities)
        label = self._labels[probabilities.index(confidence)]
        metrics = self._metrics
        self._predicted[label].inc()
        metrics.confidence.observe(confidence)
        metrics.tokens.inc(len(row.ids) - 1)  # the begin-of-sequence id is no token
        if row.unknown:
            metrics.unknown_tokens.inc(row.unknown)
        if row.truncated:
            metrics.truncated_texts.inc()
        return Prediction(
            label, dict(zip(self._labels, probabilities, strict=True)), row.tokens, row.truncated
        )
