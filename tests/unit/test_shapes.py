"""Which of the waiting items form one batch."""

from hypothesis import given
from hypothesis import strategies as st

from app.serving import shapes


def choose_batch(lengths: list[int], *, max_items: int, max_tokens: int) -> list[int]:
    """Choose among items that are all preferred."""
    return shapes.choose_batch(
        lengths, preferred=len(lengths), max_items=max_items, max_tokens=max_tokens
    )


lengths = st.lists(st.integers(1, 500), min_size=1, max_size=60)


def test_oldest_is_chosen() -> None:
    """The oldest item is always in the batch, whatever its length."""
    assert choose_batch([400, 5, 5, 5], max_items=2, max_tokens=1000)[0] == 0


def test_nearest_in_length_join() -> None:
    """The items nearest in length to the oldest are chosen, among equals the older first."""
    assert choose_batch([50, 90, 51, 20, 50, 50], max_items=4, max_tokens=1000) == [0, 4, 5, 2]


def test_token_budget() -> None:
    """Rows times the longest length stays within the token budget."""
    assert choose_batch([50] * 9, max_items=9, max_tokens=200) == [0, 1, 2, 3]


def test_budget_counts_padding() -> None:
    """An item is left out if padding the others to its length would exceed the budget."""
    assert choose_batch([40, 45, 60], max_items=9, max_tokens=100) == [0, 1]


def test_oldest_may_exceed_the_budget() -> None:
    """An item longer than the whole budget runs alone."""
    assert choose_batch([300, 5], max_items=9, max_tokens=100) == [0]


def test_different_lengths_stay_apart() -> None:
    """A short text is not padded to the length of a long one."""
    assert choose_batch([5, 500, 6], max_items=9, max_tokens=10_000) == [0, 2]


def test_preferred_items_come_first() -> None:
    """Items that are not preferred fill only the remaining rows."""
    waiting = [50, 60, 55, 50, 50]
    assert shapes.choose_batch(waiting, preferred=3, max_items=4, max_tokens=1000) == [0, 2, 1, 3]


def test_short_texts_go_together() -> None:
    """A few tokens of padding per row are allowed, however short the texts."""
    assert choose_batch([1, 9, 30], max_items=9, max_tokens=1000) == [0, 1]


def wasteful(batch: list[int]) -> bool:
    """Whether a batch of these lengths has more padding than allowed."""
    padded = max(batch) * len(batch)
    allowed = max((1 - shapes.LEAST_FILL) * padded, shapes.FREE_PADDING * len(batch))
    return padded - sum(batch) > allowed


@given(lengths, st.integers(1, 40))
def test_batch_grows_within_the_padding_bound(waiting: list[int], max_items: int) -> None:
    """A batch keeps the bound on padding; no item that keeps it is left out of a free row."""
    chosen = choose_batch(waiting, max_items=max_items, max_tokens=10**6)
    batch = [waiting[index] for index in chosen]
    assert not wasteful(batch)
    if len(chosen) < max_items:
        left_out = set(range(len(waiting))) - set(chosen)
        assert all(wasteful([*batch, waiting[index]]) for index in left_out)


@given(lengths, st.integers(1, 40), st.integers(1, 5000))
def test_limits_hold(waiting: list[int], max_items: int, max_tokens: int) -> None:
    """Every batch begins with the oldest item, has no item twice, and keeps both limits."""
    chosen = choose_batch(waiting, max_items=max_items, max_tokens=max_tokens)
    assert chosen[0] == 0
    assert len(set(chosen)) == len(chosen) <= max_items
    longest = max(waiting[index] for index in chosen)
    assert len(chosen) == 1 or longest * len(chosen) <= max_tokens
