"""From texts to predictions."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from app.artifact import Reliability
from app.errors import DeadlineExceeded, InferenceFailed, Overloaded, TooLate
from app.serving.predictor import Prediction, Predictor
from app.telemetry.metrics import Metrics
from app.text.encoder import Encoded
from tests.fakes import FakeEngine, make_encoder, open_predictor, sample, until

pytestmark = pytest.mark.anyio


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def predictor(engine: FakeEngine, metrics: Metrics) -> AsyncIterator[Predictor]:
    async with open_predictor(engine, metrics) as predictor:
        yield predictor


def in_a_minute() -> float:
    return time.monotonic() + 60


async def ask(predictor: Predictor, *texts: str) -> list[Any]:
    return list((await predictor.predict(texts, deadline=in_a_minute())).predictions)


async def test_label_is_the_most_probable(predictor: Predictor) -> None:
    """The label is the most probable one; probabilities are in the order of the outputs."""
    (prediction,) = await ask(predictor, "bad bad film")
    assert isinstance(prediction, Prediction)
    assert prediction.label == "negative"
    assert list(prediction.probabilities) == ["negative", "positive"]
    assert prediction.probabilities["negative"] == max(prediction.probabilities.values())


async def test_probabilities_sum_to_one(predictor: Predictor) -> None:
    """Probabilities are Python floats that sum to 1 within 1e-6."""
    for prediction in await ask(predictor, *("good " * n + "film" for n in range(9))):
        assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert {type(p) for p in prediction.probabilities.values()} == {float}


async def test_tokens_and_truncation(predictor: Predictor) -> None:
    """`tokens` counts the whole text; `truncated` is true if it is longer than the model reads."""
    short, long = await ask(predictor, "a good film!", "film " * 40)
    assert (short.tokens, short.truncated) == (4, False)
    assert (long.tokens, long.truncated) == (40, True)


RULE = Reliability(max_unknown_share=0.5, min_known_tokens=2)


@pytest.mark.parametrize(
    ("text", "rule", "reliable"),
    [
        ("good", None, True),
        ("good xx yy zz", None, True),
        ("", None, False),
        ("xx yy", None, False),
        (f"{'xx ' * 8}good {'yy ' * 23}", None, False),  # "good" is not read
        ("good film xx yy", RULE, True),
        ("good film xx yy zz", RULE, False),
        ("good", RULE, False),
    ],
)
async def test_texts_that_cannot_be_judged(
    text: str, rule: Reliability | None, reliable: bool, predictor: Predictor, metrics: Metrics
) -> None:
    """Even odds, and not reliable: without a known token, or by the rule of the version."""
    predictor._is_reliable = (rule or Reliability()).covers
    (prediction,) = await ask(predictor, text)
    assert prediction.reliable is reliable
    assert (prediction.probabilities["negative"] == 0.5) is not reliable
    assert sample(metrics, "unreliable_texts_total", model="lstm") == (not reliable)


async def test_failing_text(predictor: Predictor) -> None:
    """A text that the model fails on has an error in its place."""
    good, poison, bad = await ask(predictor, "good", "poison", "bad")
    assert isinstance(poison, InferenceFailed)
    assert (good.label, bad.label) == ("positive", "negative")


class GatedEncoder:
    """Holds every text until the gate is opened, and counts the texts."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.texts = 0
        self._encoder = make_encoder()

    def encode(self, text: str) -> Encoded:
        """Encode a text. If this blocked the event loop, the gate would never open."""
        self.texts += 1
        assert self.gate.wait(5), "the tokenizer blocks the event loop"
        return self._encoder.encode(text)


@pytest.fixture
def encoder(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> GatedEncoder:
    gated = GatedEncoder()
    monkeypatch.setattr(predictor, "_encode", gated.encode)
    return gated


LONG = "good film " * 2500


async def test_long_texts_leave_the_event_loop_free(
    predictor: Predictor, encoder: GatedEncoder
) -> None:
    """Long texts are tokenized in a thread, with the same results."""
    asking = asyncio.create_task(ask(predictor, LONG, "bad"))
    await until(lambda: encoder.texts == 1)
    encoder.gate.set()
    assert [prediction.tokens for prediction in await asking] == [5000, 1]


async def test_no_room_no_tokenizing(predictor: Predictor, encoder: GatedEncoder) -> None:
    """Texts for which the queue has no room are rejected before they are tokenized."""
    encoder.gate.set()
    with pytest.raises(Overloaded):
        await ask(predictor, *[LONG] * 101)
    assert encoder.texts == 0


@pytest.mark.parametrize(
    ("chars", "after_s", "timeout_s", "same"),
    [
        (100, 0.001, 0.2, True),
        (90, 0.001, 0.2, True),
        (110, 0.001, 0.2, True),
        (100, 0.001, 0.1, True),
        (60, 0.001, 0.2, False),  # less work may fit
        (150, 0.001, 0.2, False),  # a list may have room kept for it
        (100, 0.001, 0.3, False),  # more time
        (100, 0.006, 0.2, False),  # the queue is another by now
    ],
)
async def test_same_reason(
    chars: int, after_s: float, timeout_s: float, same: bool, predictor: Predictor
) -> None:
    """What is not easier than a request that was refused just now is refused for its reason."""
    admission = predictor._batcher.admission
    admission.end(admission.begin(25, 8))
    admission._pace.seconds, admission._full_pace.seconds = 1.0, 1.0  # of its run
    admission.begin(200, 8)
    predictor._expect(1000)
    now = time.monotonic()
    first = predictor.refusal(100, now=now, timeout_s=0.2)
    second = predictor.refusal(chars, now=now + after_s, timeout_s=timeout_s)
    assert isinstance(first, TooLate)
    assert (second is first) is same


async def test_texts_being_tokenized_need_room(predictor: Predictor, encoder: GatedEncoder) -> None:
    """Texts being tokenized count as waiting."""
    asking = asyncio.create_task(ask(predictor, *[LONG] * 60))
    await until(lambda: encoder.texts == 1)
    with pytest.raises(Overloaded):
        await ask(predictor, *["good"] * 60)
    encoder.gate.set()
    assert len(await asking) == 60
    assert len(await ask(predictor, *["good"] * 60)) == 60


async def test_deadline_while_tokenizing(predictor: Predictor, engine: FakeEngine) -> None:
    """Long texts past their deadline are not tokenized and do not reach the model."""
    with pytest.raises(DeadlineExceeded):
        await predictor.predict(["good " * 10_000], deadline=time.monotonic())
    assert engine.batches == []


async def test_counts(predictor: Predictor, metrics: Metrics) -> None:
    """Labels, tokens, unknown words and truncated texts are counted."""
    await ask(predictor, "good film seldom seen", "bad " * 100, "bad")
    labels = {"model": "lstm", "version": "3"}
    value = partial(sample, metrics)
    assert value("predictions_total", **labels, label="negative") == 2
    assert value("predictions_total", **labels, label="positive") == 1
    assert value("tokens_total", model="lstm") == 4 + 31 + 1
    assert value("unknown_tokens_total", model="lstm") == 2
    assert value("truncated_texts_total", model="lstm") == 1
    assert value("prediction_confidence_count", model="lstm") == 3


# --- explanations


async def explain(predictor: Predictor, *texts: str) -> list[Any]:
    return list((await predictor.explain(texts, deadline=in_a_minute())).predictions)


async def test_words_are_explained(predictor: Predictor) -> None:
    """Each word has its place in the text as sent, and what the label loses without it."""
    text = "The <b>GOOD</b>, bad good film?"
    (prediction,) = await explain(predictor, text)
    words = [(text[word.start : word.end], word.contribution) for word in prediction.explanation]
    expected = [("The", 0), ("GOOD", 1), ("bad", -1), ("good", 1), ("film", 0), ("?", 0)]
    assert [name for name, _ in words] == [name for name, _ in expected]
    assert [value for _, value in words] == pytest.approx([v for _, v in expected], abs=1e-4)
    assert [word.known for word in prediction.explanation] == [*[True] * 5, False]


async def test_what_is_not_read_has_no_contribution(predictor: Predictor) -> None:
    """Of a truncated text the words that the model reads are explained."""
    text = " ".join(f"film{index}" for index in range(50))
    (prediction,) = await explain(predictor, text)
    spoken = [text[word.start : word.end] for word in prediction.explanation]
    assert spoken == [f"film{index}" for index in (*range(8), *range(50 - 23, 50))]


async def test_text_without_words(predictor: Predictor) -> None:
    """A text without words has an empty explanation; a plain request has none."""
    (prediction,) = await explain(predictor, "...")
    assert prediction.explanation == []
    assert (await ask(predictor, "..."))[0].explanation is None


async def test_text_that_fails_is_not_explained(predictor: Predictor) -> None:
    """A text that the model fails on fails alone; the others are explained."""
    failed, good = await explain(predictor, "poison", "good")
    assert isinstance(failed, InferenceFailed)
    assert [word.contribution for word in good.explanation] == pytest.approx([1], abs=1e-4)


async def test_explanations_are_drained(predictor: Predictor, engine: FakeEngine) -> None:
    """A request that is being explained gets its answer although the model drains."""
    engine.gate.clear()
    task = asyncio.create_task(explain(predictor, "good film"))
    await engine.wait_until_running()
    drained = asyncio.create_task(predictor.drain())
    await asyncio.sleep(0)
    engine.gate.set()
    (prediction,) = await task
    assert len(prediction.explanation) == 2
    await drained


async def test_explanation_behind_texts(predictor: Predictor, engine: FakeEngine) -> None:
    """What explains a text waits behind texts that come later."""
    engine.gate.clear()
    task = asyncio.create_task(explain(predictor, "good film"))
    await engine.wait_until_running()  # the text itself
    engine.closes_behind = True
    engine.gate.set()
    await engine.wait_until_running()  # its variants
    later = asyncio.create_task(explain(predictor, "bad " * 9))
    await until(lambda: predictor._batcher.admission._pending_tokens() > 0)
    engine.closes_behind = False
    engine.gate.set()
    await asyncio.gather(task, later)
    assert [len(batch[0]) for batch in engine.batches[2:3]] == [10]


async def test_explanation_is_refused(predictor: Predictor, engine: FakeEngine) -> None:
    """An explanation that cannot be ready by the deadline is refused before anything runs."""
    await explain(predictor, "good film " * 15)  # it learns how long that takes
    predictor._background.admission.lateness_s = lambda *_: 1.0  # type: ignore[method-assign]
    engine.forget()
    with pytest.raises(TooLate):
        await explain(predictor, "good film " * 15)
    assert engine.batches == []
