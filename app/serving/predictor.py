"""Texts in, labelled probabilities out: the one verb the API needs."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from sys import getsizeof
from typing import Final

from app.artifact import Reliability, even_label
from app.errors import DeadlineExceeded, InferenceFailed, ValenceError
from app.serving.batcher import Batcher
from app.serving.explain import Variants, Word, contributions, log_odds, make_variants
from app.serving.request_queue import Item
from app.telemetry.metrics import Metrics
from app.text.encoder import Encoded, EncodedWords, TextEncoder
from app.text.vocabulary import UNKNOWN

_INLINE_CHARS: Final = 20_000
"""Requests with more characters are tokenized in a thread. So many take 0.3 ms, 0.9 ms with an
accented letter, and 2 ms with characters beyond Latin-1: about as long as one model run."""

_SAME_REASON: Final = 0.02
"""The reason of a refusal holds for this share of the time until the deadline,"""
_SAME_REASON_S: Final = 0.005
"""but not for longer: less than a model run."""
_SIMILAR: Final = 0.8
"""For a request with this share of the work, too. It decides little: most work waits already."""
_ONE_KNOWN: Final = Reliability()
_DECIMALS: Final = 6
"""Of a contribution. More would be noise of a float32."""


@dataclass(slots=True)  # not frozen, here and below: that takes three times as long to create
class Prediction:
    """The prediction for one text.

    Attributes:
        label: The most probable label. If the odds are even, it is `neutral`, or without that label
            the first one.
        probabilities: One for each label; they sum to 1.
        tokens: The number of tokens of the whole text.
        unknown: The number of them that are not in the vocabulary.
        truncated: Whether the text was longer than the model reads.
        reliable: Whether the version can judge the text. If not, the odds are even.
        explanation: The contribution of each word that the model reads, if that was asked for.
    """

    label: str
    probabilities: dict[str, float]
    tokens: int
    unknown: int
    truncated: bool
    reliable: bool = True
    explanation: Sequence[Word] | None = None


@dataclass(slots=True)
class Result:
    """The result of one request.

    Attributes:
        predictions: One per text, in the order of the request; an error if the model failed on it.
        tokenize_s: The time from texts to ids, in seconds.
        queue_s: The longest time that a text waited for its batch, in seconds.
        inference_s: The longest model run, in seconds.
        started: When the texts were read, on the monotonic clock, in seconds.
        runs: The model runs, if they are traced.
    """

    predictions: list[Prediction | ValenceError]
    tokenize_s: float
    queue_s: float
    inference_s: float
    started: float = 0.0
    runs: Sequence[object] = ()


@dataclass(slots=True)
class _Refused:
    """A request that was refused, and what is refused for the same reason a moment later.

    Under overload most of the time of a refusal would go into finding the same reason again.

    Attributes:
        error: Why.
        tokens: Of its texts, as estimated.
        most_tokens: A request with more has a right to a decision of its own: a list that is
            refused may have room kept for it.
        timeout_s: Seconds that were left to its deadline.
        at: When it was refused.
    """

    error: ValenceError
    tokens: float
    most_tokens: float
    timeout_s: float
    at: float

    def covers(self, tokens: float, now: float, timeout_s: float) -> bool:
        """Whether a request with no more time, and not much less work, is late as well."""
        return (
            now - self.at < min(timeout_s * _SAME_REASON, _SAME_REASON_S)
            and timeout_s <= self.timeout_s
            and self.tokens * _SIMILAR <= tokens <= self.most_tokens
        )


class Predictor:
    """Predicts texts with one version of a model.

    Args:
        name, version, labels: Of the version.
        encoder: Its texts' encoder.
        batcher: Runs the texts.
        background: Runs what explains them.
        metrics: Those of the service.
        bag_of_words: Whether the model reads a text as a bag of words.
        reliability: Which texts the version can judge.
    """

    def __init__(
        self,
        *,
        name: str,
        version: int,
        labels: Sequence[str],
        encoder: TextEncoder,
        batcher: Batcher,
        background: Batcher,
        metrics: Metrics,
        bag_of_words: bool = False,
        reliability: Reliability = _ONE_KNOWN,
    ) -> None:
        self._labels = tuple(labels)
        self._is_reliable = reliability.covers
        self._even_label = self._labels[even_label(self._labels)]
        self._even_odds = dict.fromkeys(self._labels, 1 / len(self._labels))
        self._encode = encoder.encode
        self._locate = encoder.locate
        self._background = background
        self._bag_of_words = bag_of_words
        self._explaining = 0  # requests
        self._max_length = encoder.config.max_length
        self._batcher = batcher
        self._admission = batcher.admission
        self._load = batcher.load
        self._tokenizing = 0  # texts being tokenized in threads
        self._tokenized = asyncio.Event()
        self._refused: _Refused | None = None
        self._expected = 0.0  # tokens of requests that were read and do not wait yet
        self._metrics = metrics.for_model(name)
        self._predicted = metrics.for_labels(name, version, labels)

    async def predict(self, texts: Sequence[str], *, deadline: float) -> Result:
        """Predict every text.

        Args:
            texts: At least one, each free of lone surrogates.
            deadline: On the monotonic clock, in seconds.

        Raises:
            Overloaded, TooLate, DeadlineExceeded, Draining, NotReady: As `Batcher.submit`; then no
                text is predicted.
        """
        started = time.monotonic()
        lengths = [*map(len, texts)]
        tokens = self._admission.estimate_tokens(lengths, self._max_length)
        size = sum(map(getsizeof, texts))
        # Texts being tokenized count as waiting, so that they are bounded too.
        count = self._tokenizing + len(texts)
        self._batcher.require(count, tokens, deadline=deadline, size=size)
        self._load.waiting_bytes += size
        try:
            chars = sum(lengths)
            if chars <= _INLINE_CHARS:
                rows = [self._encode(text) for text in texts]
            else:
                rows = await self._encode_in_thread(texts, tokens, deadline)
            tokenize_s = time.monotonic() - started
            self._metrics.tokenize_seconds[len(texts) > 1].observe(tokenize_s)
            self._admission.learn_tokens(chars, sum(row.tokens for row in rows))
            submission = await self._batcher.submit([row.ids for row in rows], deadline=deadline)
        finally:
            self._load.waiting_bytes -= size
        predictions = [
            self._label(item, row) for item, row in zip(submission.items, rows, strict=True)
        ]
        return Result(
            predictions,
            tokenize_s,
            submission.queue_delay_s,
            submission.inference_s,
            started,
            submission.runs,
        )

    async def explain(self, texts: Sequence[str], *, deadline: float) -> Result:
        """Predict every text, and tell how much each word contributed.

        What explains a text waits behind all texts. The texts are explained one after another, so
        that the requests of others take turns with this one.

        Args:
            texts: As for `predict`.
            deadline: On the monotonic clock, in seconds; for the explanations, too.

        Raises:
            Overloaded, TooLate, DeadlineExceeded, Draining, NotReady: As `predict`.
        """
        tokens = self._admission.estimate_tokens([*map(len, texts)], self._max_length)
        self._batcher.require(len(texts), tokens, deadline=deadline)
        self._explaining += 1
        try:
            plans = await asyncio.to_thread(self._plan, texts, deadline)
            self._background.require(
                max(len(variants.rows) for _, variants in plans),
                sum(variants.tokens for _, variants in plans),
                deadline=deadline,
            )
            result = await self.predict(texts, deadline=deadline)
            for index, (located, variants) in enumerate(plans):
                prediction = result.predictions[index]
                if isinstance(prediction, Prediction):
                    try:
                        explanation = await self._explain(prediction, located, variants, deadline)
                    except InferenceFailed as error:
                        result.predictions[index] = error
                    else:
                        prediction.explanation = explanation
        finally:
            self._explaining -= 1
            self._tokenized.set()
        return result

    async def drain(self) -> None:
        """Admit no new texts, answer the admitted ones, then stop.

        Texts that are being tokenized or explained were admitted, too.
        """
        while self._tokenizing or self._explaining:
            self._tokenized.clear()
            await self._tokenized.wait()
        await self._batcher.drain()
        await self._background.drain()

    def fail(self, reason: str) -> None:
        """Close for good: every request that waits gets an error, and so does every later one."""
        self._batcher.fail(reason)
        self._background.fail(reason)

    def refusal(self, chars: int, *, now: float, timeout_s: float) -> ValenceError | None:
        """What `predict` would raise now for a request whose texts are not known yet.

        Args:
            chars: The most characters that its texts may have.
            now: On the monotonic clock, in seconds.
            timeout_s: Seconds from now to its deadline.
        """
        tokens = self._admission.estimate_tokens((chars,), self._max_length)
        if self._load.running:
            last = self._refused
            if last is not None and last.covers(tokens, now, timeout_s):
                return last.error
            error = self._batcher.refusal(self._tokenizing + 1, tokens, deadline=now + timeout_s)
            if error is not None:
                most = self._admission.run_tokens
                self._refused = _Refused(error, tokens, most, timeout_s, now)
                return error
        self._expect(tokens)
        return None

    def _expect(self, tokens: float) -> None:
        """Count a request that is about to come, until the event loop has let it wait.

        The event loop reads many requests before it begins to answer the first of them.
        """
        if not self._expected:
            asyncio.get_running_loop().call_soon(self._forget_expected)
        self._expected += tokens
        self._admission.tokenizing(tokens)

    def _forget_expected(self) -> None:
        self._admission.tokenizing(-self._expected)
        self._expected = 0.0

    async def _encode_in_thread(
        self, texts: Sequence[str], tokens: float, deadline: float
    ) -> list[Encoded]:
        """Encode texts without blocking the event loop."""
        self._tokenizing += len(texts)
        self._admission.tokenizing(tokens)
        try:
            return await asyncio.to_thread(self._encode_many, texts, deadline)
        finally:
            self._tokenizing -= len(texts)
            self._tokenized.set()
            self._admission.tokenizing(-tokens)

    def _encode_many(self, texts: Sequence[str], deadline: float) -> list[Encoded]:
        """In a thread: encode texts, and stop at the deadline."""
        rows = []
        for text in texts:
            if time.monotonic() >= deadline:
                raise DeadlineExceeded("the deadline passed while the texts were tokenized")
            rows.append(self._encode(text))
        return rows

    def _plan(self, texts: Sequence[str], deadline: float) -> list[tuple[EncodedWords, Variants]]:
        """In a thread: what explains each text; stop at the deadline."""
        plans = []
        for text in texts:
            if time.monotonic() >= deadline:
                raise DeadlineExceeded("the deadline passed while the texts were tokenized")
            located = self._locate(text)
            plans.append((located, make_variants(located.ids, bag_of_words=self._bag_of_words)))
        return plans

    async def _explain(
        self,
        prediction: Prediction,
        located: EncodedWords,
        variants: Variants,
        deadline: float,
    ) -> list[Word]:
        """The contribution of each word that the model read.

        Raises:
            InferenceFailed: The model failed without one of them.
        """
        if not prediction.reliable:  # nothing decided
            return [
                Word(start, end, 0.0, number != UNKNOWN)
                for (start, end), number in zip(
                    located.spans, located.ids.tolist()[1:], strict=True
                )
            ]
        submission = await self._background.submit(variants.rows, deadline=deadline)
        label = self._labels.index(prediction.label)
        odds = []
        for item in submission.items:
            if item.probabilities is None:
                raise item.error or InferenceFailed("the model returned nothing")
            odds.append(log_odds(item.probabilities, label))
        found = contributions(variants, odds)
        ids = located.ids.tolist()[1:]
        return [
            Word(start, end, round(found[index], _DECIMALS), number != UNKNOWN)
            for index, ((start, end), number) in enumerate(zip(located.spans, ids, strict=True))
        ]

    def _label(self, item: Item, row: Encoded) -> Prediction | ValenceError:
        """The prediction of an item, counted in the metrics; or its error."""
        probabilities = item.probabilities
        if probabilities is None:
            return item.error or InferenceFailed("the model returned nothing")
        metrics = self._metrics
        read = row.read
        reliable = self._is_reliable(row.known, read)
        if reliable:
            confidence = max(probabilities)
            label = self._labels[probabilities.index(confidence)]
            named = dict(zip(self._labels, probabilities, strict=True))
        else:
            label, named = self._even_label, self._even_odds.copy()
            confidence = named[label]
            metrics.unreliable_texts.inc()
        self._predicted[label].inc()
        metrics.confidence.observe(confidence)
        metrics.tokens.inc(read)
        if read > row.known:
            metrics.unknown_tokens.inc(read - row.known)
        if row.truncated:
            metrics.truncated_texts.inc()
        return Prediction(label, named, row.tokens, row.unknown, row.truncated, reliable)
