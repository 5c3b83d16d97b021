"""Shards: encoded rows on disk; neither texts nor rows stay in memory."""

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
from tests.deferred import deferred
from training.configs import load_config
from training.data.preprocessing import build_encoder
from training.data.shards import Shard, TrainingExample, training_examples, write_shard

with deferred():
    from training.data.batches import TrainingBatches
    from training.data.dataset import Source, load_dataset
    from training.data.readers import read

ENCODER = TextEncoder(TextConfig(max_length=8, head=2), Vocabulary(["good", "bad"]))
TEXTS = ["good", "", "bad " * 20, "good bad"]


def target(*probabilities: float) -> np.ndarray:
    """A hard or soft label."""
    return np.array(probabilities, np.float32)


def test_rows_are_those_of_the_encoder(tmp_path: Path) -> None:
    """Ids, targets and weights are read back as they were written, row by row."""
    targets = [target(p, 1 - p) for p in (0.0, 0.25, 0.5, 1.0)]
    examples = [
        TrainingExample(text, soft_label, weight=i)
        for i, (text, soft_label) in enumerate(zip(TEXTS, targets, strict=True))
    ]
    write_shard(tmp_path / "shard", ENCODER, examples, classes=2)
    shard = Shard(tmp_path / "shard")
    for row, text in zip(shard, TEXTS, strict=True):
        np.testing.assert_array_equal(row, ENCODER.encode(text).ids)
    assert shard.lengths.tolist() == [len(row) for row in shard] == [2, 1, 8, 3]
    np.testing.assert_array_equal(shard.targets, targets)
    assert shard.weights.tolist() == [0, 1, 2, 3]
    assert shard[-1].tolist() == shard[3].tolist()


def test_hard_labels(tmp_path: Path) -> None:
    """A label becomes a probability of 1 for its class, with a sample weight of 1."""
    corpus = read(write_csv(tmp_path / "x.csv", make_corpus(10, seed=1)))
    write_shard(tmp_path / "shard", ENCODER, training_examples(corpus), classes=2)
    shard = Shard(tmp_path / "shard")
    np.testing.assert_array_equal(shard.targets, np.eye(2)[corpus.targets()])
    np.testing.assert_array_equal(shard.weights, np.ones(10))


@pytest.mark.parametrize(
    ("example", "rule"),
    [
        (TrainingExample("x", target(1)), "example 0: the target must be 2 probabilities that sum"),
        (TrainingExample("x", target(0.5, 0.4)), "must be 2 probabilities that sum to 1"),
        (TrainingExample("x", target(1.5, -0.5)), r"Received: \[1.5, -0.5\]"),
        (TrainingExample("x", target(np.nan, 1)), r"Received: \[nan, 1.0\]"),
        (TrainingExample("x", target(0, 1), weight=-1), "finite and 0 or more. Received: -1"),
    ],
)
def test_invalid_examples(tmp_path: Path, example: TrainingExample, rule: str) -> None:
    """Targets must be probabilities and weights not negative; the error names the row."""
    with pytest.raises(InvalidInput, match=rule):
        write_shard(tmp_path / "shard", ENCODER, [example], classes=2)


def test_no_examples(tmp_path: Path) -> None:
    """A shard without examples is refused."""
    with pytest.raises(InvalidInput, match="at least one training example"):
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
    """Peak of the memory that Python and NumPy allocate on the way from a file to batches."""
    config = load_config("smoke").replace(max_length=600)
    source = Source(str(write_long_texts(folder / f"{rows}.csv", rows)))
    tracemalloc.start()
    try:
        corpus = load_dataset(source, validation_share=0.1, seed=1).train
        encoder = build_encoder(config, corpus.stream_texts())
        write_shard(folder / str(rows), encoder, training_examples(corpus), classes=2)
        batches = TrainingBatches(Shard(folder / str(rows)), batch_size=8, seed=1)
        assert sum(len(ids) for ids, _, _ in batches.epoch(0)) == len(corpus)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_hold_the_corpus(tmp_path: Path) -> None:
    """A row costs the memory of its digests and length, a tenth of its text or its ids."""
    peak_memory(tmp_path, 20)  # imports and caches
    few, many = 100, 1_000
    growth = peak_memory(tmp_path, many) - peak_memory(tmp_path, few)
    assert growth / (many - few) < 240
