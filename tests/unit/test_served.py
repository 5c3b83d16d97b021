"""Batches for evaluation, formed as the service forms them."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.artifact import read_manifest
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.text.padding import Int32Array
from tests.deferred import deferred
from tests.fakes import make_encoder, open_predictor, write_version
from training.data.corpus import Corpus, Example

with deferred():
    from training.evaluation.served import MAX_ITEMS, MAX_TOKENS, ServedVersion, form_batches
    from training.reports.report import describe_split


class Sure:
    """An engine that is sure of the last label."""

    name = "fake"

    def __init__(self, labels: int) -> None:
        self._row = np.eye(labels, dtype=np.float32)[-1:]

    def run(self, ids: Int32Array, lengths: Int32Array) -> NDArray[np.floating]:
        """See `Engine.run`."""
        return np.repeat(self._row, len(ids), axis=0)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("labels", "label"),
    [
        (("negative", "positive"), "negative"),
        (("negative", "neutral", "positive"), "neutral"),
        (("positive", "negative", "neutral"), "neutral"),
        (("a", "b", "c"), "a"),
    ],
)
async def test_label_at_even_odds(
    tmp_path: Path, metrics: Metrics, labels: tuple[str, ...], label: str
) -> None:
    """The label that is scored of a text that cannot be judged is the one that the service says."""
    manifest = read_manifest(write_version(tmp_path, "lstm", 1)).model_copy(
        update={"labels": labels}
    )
    engine, encoder = Sure(len(labels)), make_encoder()
    corpus = Corpus("made up", (Example("", label), Example("good", labels[-1])), labels)
    scored = ServedVersion(manifest, encoder, engine).score(corpus)
    report = describe_split(scored, texts="made up", engine="fake")
    assert (report["metrics"]["accuracy"], report["mistakes"]) == (1.0, [])
    async with open_predictor(engine, metrics, labels=labels, encoder=encoder) as predictor:
        (prediction,) = (await predictor.predict([""], deadline=time.monotonic() + 60)).predictions
    assert getattr(prediction, "label", None) == label


@given(st.lists(st.integers(1, 5_000), max_size=80))
def test_batches_part_the_texts(lengths: list[int]) -> None:
    """Each text is in one batch, with texts of like length, within the limits of a batch."""
    batches = form_batches(lengths)
    assert sorted(position for batch in batches for position in batch) == [*range(len(lengths))]
    for batch in batches:
        assert len(batch) <= MAX_ITEMS
        longest = max(lengths[position] for position in batch)
        assert len(batch) == 1 or longest * len(batch) <= MAX_TOKENS


def test_texts_of_like_length_go_together() -> None:
    """Short texts do not pay for the padding of long ones."""
    assert form_batches([400, 10, 390, 11]) == [[1, 3], [2, 0]]


def test_limits_are_those_of_the_service() -> None:
    """Batches are as large as the service makes them by default."""
    fields = Settings.model_fields
    limits = fields["max_batch_items"].default, fields["max_batch_tokens"].default
    assert limits == (MAX_ITEMS, MAX_TOKENS)
