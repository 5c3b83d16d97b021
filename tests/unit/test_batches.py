"""Batches: every text once, near others of its length, by the seed alone."""

import numpy as np

from app.text.vocabulary import BEGIN, FIRST_WORD, UNKNOWN
from training.batches import ScoringBatches, TrainingBatches

GENERATOR = np.random.default_rng(3)
# Row i holds i words of the id 100 + i, so that a row tells where it came from.
ROWS = [np.array([BEGIN] + [100 + i] * (1 + i % 7), np.int32) for i in range(50)]
TARGETS = np.arange(50, dtype=np.int32)


def batches(seed: int = 1, word_dropout: float = 0.0) -> TrainingBatches:
    """Batches of eight over the rows."""
    return TrainingBatches(ROWS, TARGETS, batch_size=8, word_dropout=word_dropout, seed=seed)


def targets(data: TrainingBatches) -> list[int]:
    """The order in which rows are seen."""
    return [int(t) for i in range(len(data)) for t in data[i][1]]


def test_every_row_once_an_epoch() -> None:
    """An epoch shows each text once, with its own target."""
    data = batches()
    assert sorted(targets(data)) == list(range(50))
    for i in range(len(data)):
        ids, wanted = data[i]
        assert (ids[:, 1] == 100 + wanted).all()


def test_the_seed_decides() -> None:
    """One seed gives one order, epoch after epoch; each epoch has another."""
    first, second = batches(), batches()
    assert targets(first) == targets(second)
    before = targets(first)
    first.on_epoch_end()
    second.on_epoch_end()
    assert targets(first) == targets(second) != before
    assert targets(batches(seed=2)) != before


def test_width_is_that_of_the_longest_row() -> None:
    """Nothing is padded beyond its batch."""
    data = batches()
    for i in range(len(data)):
        ids, _ = data[i]
        assert (ids[:, -1] != 0).any()


def test_batches_of_any_length() -> None:
    """Where no batches are sorted together, short and long texts share one, each still once."""
    data = TrainingBatches(ROWS, TARGETS, batch_size=8, sorted_together=1, seed=1)
    assert sorted(targets(data)) == list(range(50))
    first, _ = data[0]
    assert len({int((row != 0).sum()) for row in first}) > len(
        {int((row != 0).sum()) for row in batches()[0][0]}
    )


def test_word_dropout() -> None:
    """Some words become unknown, the same ones at every look; other ids stay."""
    data = batches(word_dropout=0.5)
    changed = kept = 0
    for i in range(len(data)):
        ids, wanted = data[i]
        np.testing.assert_array_equal(ids, data[i][0])
        assert (ids[:, 0] == BEGIN).all()
        for row, target in zip(ids, wanted, strict=True):
            rest = row[1 : len(ROWS[target])]
            assert set(rest.tolist()) <= {UNKNOWN, 100 + int(target)}
            changed += int((rest == UNKNOWN).sum())
            kept += int((rest >= FIRST_WORD).sum())
    assert changed
    assert kept


def test_scoring_goes_by_length() -> None:
    """Scoring sees each row once, short ones first, and says where each came from."""
    data = ScoringBatches(ROWS, TARGETS, batch_size=8)
    seen = [int(t) for i in range(len(data)) for t in data[i][1]]
    assert seen == data.order
    lengths = [len(ROWS[i]) for i in data.order]
    assert lengths == sorted(lengths)
