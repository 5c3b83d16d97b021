"""The measurement of single flight: what is sent, and what is counted."""

import numpy as np
import pytest

from load_tests.bench.single_flight import make_traffic, run
from tests.fakes import FILM, GOOD, FakeEngine

ROWS = [np.array([GOOD] * length, np.int32) for length in (4, *range(5, 105))]


@pytest.mark.parametrize(("share", "popular"), [(0.0, 0), (0.5, 47), (1.0, 100)])
def test_share(share: float, popular: int) -> None:
    """The popular row has its share of the traffic, and its copies are equal."""
    traffic = make_traffic(ROWS, count=100, share=share, equal=True, seed=1)
    assert sum(np.array_equal(row, ROWS[0]) for row in traffic) == popular


def test_nothing_to_share() -> None:
    """Without equal copies all rows differ, and have the same lengths as with them."""
    equal, unequal = (
        [*make_traffic(ROWS, count=100, share=0.5, equal=equal, seed=1)] for equal in (True, False)
    )
    assert [len(row) for row in equal] == [len(row) for row in unequal]
    assert len({row.tobytes() for row in unequal}) == 100
    assert ROWS[0].tolist() == [GOOD] * 4


@pytest.mark.anyio
async def test_computed() -> None:
    """`computed` is the share of the rows that the model saw."""
    engine = FakeEngine()
    traffic = make_traffic([np.array([FILM], np.int32)], count=64, share=1.0, equal=True, seed=1)
    outcome = await run(engine, traffic, labels=2, callers=8)
    assert outcome.computed == sum(map(len, engine.batches)) / 64 < 1
