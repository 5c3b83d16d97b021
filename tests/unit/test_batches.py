"""Batches: every row once, with rows of similar length, in an order that the seed decides."""

import platform
import resource
from typing import Any

import numpy as np
import pytest

from app.text.encoder import TextConfig, TextEncoder
from app.text.vocabulary import BEGIN, FIRST_WORD, UNKNOWN, Vocabulary
from tests.deferred import deferred
from training.data.shards import Shard, TrainingExample, write_shard

with deferred():
    from training.data.batches import Batch, ScoringBatches, TrainingBatches

# Text i repeats word i, so a row shows which text it is.
COUNT = 50
WORDS = [f"word{i}" for i in range(COUNT)]
ENCODER = TextEncoder(TextConfig(max_length=9, head=1), Vocabulary(WORDS))


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    """Rows of two to eight ids."""
    folder = tmp_path_factory.mktemp("shard") / "rows"
    targets = np.eye(COUNT, dtype=np.float32)
    examples = [
        TrainingExample(f"{word} " * (1 + i % 7), targets[i], weight=i)
        for i, word in enumerate(WORDS)
    ]
    write_shard(folder, ENCODER, examples, classes=COUNT)
    return Shard(folder)


def epoch(shard: Shard, number: int = 0, *, start: int = 0, **options: float) -> list[Batch]:
    """The batches of an epoch, eight rows each."""
    settings: dict[str, Any] = {"seed": 1, **options}
    batches = TrainingBatches(shard, batch_size=8, **settings)
    return list(batches.epoch(number, start=start).as_numpy_iterator())


def rows(batches: list[Batch]) -> list[int]:
    """The rows in the order of the batches."""
    return [int(row) for _, targets, _ in batches for row in targets.argmax(axis=1)]


def test_every_row_once_an_epoch(shard: Shard) -> None:
    """An epoch has each row once, with its own target and weight."""
    batches = epoch(shard)
    assert sorted(rows(batches)) == list(range(COUNT))
    assert len(batches) == len(TrainingBatches(shard, batch_size=8, seed=1)) == 7
    for ids, targets, weights in batches:
        assert (ids[:, 1] == FIRST_WORD + targets.argmax(axis=1)).all()
        assert (weights == targets.argmax(axis=1)).all()


def test_the_order_depends_on_seed_and_epoch(shard: Shard) -> None:
    """The same seed and epoch give the same order; another seed or epoch gives another."""
    first = rows(epoch(shard, 0))
    assert first == rows(epoch(shard, 0))
    assert first != rows(epoch(shard, 1))
    assert first != rows(epoch(shard, 0, seed=2))


def test_an_epoch_resumes_in_the_middle(shard: Shard) -> None:
    """From any step, the batches equal those of the whole epoch, word dropout included."""
    whole, rest = epoch(shard, 3, word_dropout=0.5), epoch(shard, 3, start=4, word_dropout=0.5)
    assert len(rest) == 3
    for expected, received in zip(whole[4:], rest, strict=True):
        for one, other in zip(expected, received, strict=True):
            np.testing.assert_array_equal(one, other)


def test_padding_to_the_longest_row(shard: Shard) -> None:
    """A batch is as long as its longest row."""
    for ids, _, _ in epoch(shard):
        assert (ids[:, -1] != 0).any()


def test_rows_are_bucketed_by_length(shard: Shard) -> None:
    """Rows of similar length share a batch, which keeps padding low."""
    widths = [np.ptp((ids != 0).sum(axis=1)) for ids, _, _ in epoch(shard)]
    assert max(widths) <= 2


def test_batches_of_any_length(shard: Shard) -> None:
    """With a window of one batch, short and long rows share a batch, each row still once."""
    mixed = epoch(shard, sort_window=1)
    assert sorted(rows(mixed)) == list(range(COUNT))
    assert np.ptp((mixed[0][0] != 0).sum(axis=1)) > 2


def test_batches_of_short_rows_are_larger(shard: Shard) -> None:
    """The shorter the rows, the more are in a batch; every row is in one, every epoch equally."""
    settings: dict[str, Any] = {"batch_size": 4, "batch_tokens": 64, "seed": 1}
    batches = TrainingBatches(shard, **settings)
    found = [list(batches.epoch(number).as_numpy_iterator()) for number in (0, 1)]
    for each in found:
        assert sorted(rows(each)) == list(range(COUNT))
        assert len(each) == len(batches)
        assert all(len(ids) * ids.shape[1] <= 64 for ids, _, _ in each)
    sizes = {len(ids) for ids, _, _ in found[0]}
    assert {4, 8} <= sizes
    assert max(sizes) > 8
    resumed = batches.epoch(1, start=2).as_numpy_iterator()
    np.testing.assert_array_equal(next(iter(resumed))[0], found[1][2][0])


def test_word_dropout(shard: Shard) -> None:
    """Some words become the unknown id; padding and the first id of a row never do."""
    changed = kept = 0
    for ids, targets, _ in epoch(shard, word_dropout=0.5):
        assert (ids[:, 0] == BEGIN).all()
        for row, number in zip(ids, targets.argmax(axis=1), strict=True):
            words = row[1 : shard.lengths[number]]
            assert set(words.tolist()) <= {UNKNOWN, FIRST_WORD + int(number)}
            assert not row[shard.lengths[number] :].any()
            changed += int((words == UNKNOWN).sum())
            kept += int((words >= FIRST_WORD).sum())
    assert changed
    assert kept


def test_scoring_batches(shard: Shard) -> None:
    """Scoring has each row once, the shortest first; `order` maps them back to the rows."""
    data = ScoringBatches(shard, batch_size=8)
    assert rows([data[i] for i in range(len(data))]) == data.order.tolist()
    assert (np.diff(shard.lengths[data.order]) >= 0).all()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a matter of glibc's memory")
def test_freed_memory_is_used_again(shard: Shard) -> None:
    """After an epoch, memory as large as a step's tensors is not fetched anew, page by page."""
    epoch(shard)

    def fetched() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.empty(2**22, np.float32)[::1024] = 1  # 16 MiB, a number in each page
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    first, later = fetched(), [fetched() for _ in range(20)]
    assert sum(later) < max(first, 50)
