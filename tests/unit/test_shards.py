"""Shards: rows on disk as they were encoded, and no text or row that stays in memory."""

import csv
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from app.errors import InvalidInput
from app.text.encoder import TextConfig, TextEncoder
from app.text.vocabulary import Vocabulary
from tests.corpus import make_corpus, write_csv
from training.configs import load_config
from training.data.batches import TrainingBatches
from training.data.dataset import Source, load_dataset
from training.data.preprocessing import build_encoder
from training.data.readers import read
from training.data.shards import Lesson, Shard, lessons_of, write_shard

ENCODER = TextEncoder(TextConfig(max_length=8, head=2), Vocabulary(["good", "bad"]))
TEXTS = ["good", "", "bad " * 20, "good bad"]


def target(*probabilities: float) -> np.ndarray:
    """What a model is to say."""
    return np.array(probabilities, np.float32)


def test_rows_are_those_of_the_encoder(tmp_path: Path) -> None:
    """What is read back is what was encoded: ids, targets and weights, row by row."""
    teacher = [target(p, 1 - p) for p in (0.0, 0.25, 0.5, 1.0)]
    lessons = [Lesson(text, p, weight=i) for i, (text, p) in enumerate(zip(TEXTS, teacher))]  # noqa: B905
    write_shard(tmp_path / "shard", ENCODER, lessons, classes=2)
    shard = Shard(tmp_path / "shard")
    for row, text in zip(shard, TEXTS, strict=True):
        np.testing.assert_array_equal(row, ENCODER.encode(text).ids)
    assert shard.lengths.tolist() == [len(row) for row in shard] == [2, 1, 8, 3]
    np.testing.assert_array_equal(shard.targets, teacher)
    assert shard.weights.tolist() == [0, 1, 2, 3]
    assert shard[-1].tolist() == shard[3].tolist()


def test_a_label_is_a_certainty(tmp_path: Path) -> None:
    """An example's label becomes the probability 1 of its class, and counts once."""
    corpus = read(write_csv(tmp_path / "x.csv", make_corpus(10, seed=1)))
    write_shard(tmp_path / "shard", ENCODER, lessons_of(corpus), classes=2)
    shard = Shard(tmp_path / "shard")
    np.testing.assert_array_equal(shard.targets, np.eye(2)[corpus.targets()])
    np.testing.assert_array_equal(shard.weights, np.ones(10))


@pytest.mark.parametrize(
    ("lesson", "rule"),
    [
        (Lesson("x", target(1)), "lesson 0: the target must be 2 probabilities that sum to 1"),
        (Lesson("x", target(0.5, 0.4)), "must be 2 probabilities that sum to 1"),
        (Lesson("x", target(1.5, -0.5)), r"Received: \[1.5, -0.5\]"),
        (Lesson("x", target(np.nan, 1)), r"Received: \[nan, 1.0\]"),
        (Lesson("x", target(0, 1), weight=-1), "a finite number from 0. Received: -1"),
    ],
)
def test_a_lesson_that_is_none(tmp_path: Path, lesson: Lesson, rule: str) -> None:
    """Targets are probabilities and weights are not negative; else the row is named."""
    with pytest.raises(InvalidInput, match=rule):
        write_shard(tmp_path / "shard", ENCODER, [lesson], classes=2)


def test_no_lessons(tmp_path: Path) -> None:
    """There is nothing to learn from nothing."""
    with pytest.raises(InvalidInput, match="there must be texts to learn from"):
        write_shard(tmp_path / "shard", ENCODER, [], classes=2)


def write_long_texts(path: Path, rows: int) -> Path:
    """A CSV of different texts of some 4,000 characters each."""
    generator = random.Random(rows)
    words = [f"word{n}" for n in range(400)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for n in range(rows):
            writer.writerow((" ".join(generator.choices(words, k=600)), ("good", "bad")[n % 2]))
    return path


def peak_memory(folder: Path, rows: int) -> int:
    """Bytes at most that Python and NumPy held on the way from a file to batches."""
    config = load_config("smoke").replace(max_length=600)
    source = Source(str(write_long_texts(folder / f"{rows}.csv", rows)))
    tracemalloc.start()
    try:
        corpus = load_dataset(source, validation_share=0.1, seed=1).train
        encoder = build_encoder(config, corpus.stream_texts())
        write_shard(folder / str(rows), encoder, lessons_of(corpus), classes=2)
        batches = TrainingBatches(Shard(folder / str(rows)), batch_size=8, seed=1)
        assert sum(len(ids) for ids, _, _ in batches.epoch(0)) == len(corpus)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_hold_the_corpus(tmp_path: Path) -> None:
    """Of a row, digests and lengths are in memory: a tenth of what its text or its ids take."""
    peak_memory(tmp_path, 20)  # imports and caches
    few, many = 100, 1_000
    growth = peak_memory(tmp_path, many) - peak_memory(tmp_path, few)
    assert growth / (many - few) < 240
