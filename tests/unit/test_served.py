"""Batches for evaluation, formed as the service forms them."""

from hypothesis import given
from hypothesis import strategies as st

from app.settings import Settings
from tests.deferred import deferred

with deferred():
    from training.evaluation.served import MAX_ITEMS, MAX_TOKENS, form_batches


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
