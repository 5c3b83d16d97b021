"""Next-word prediction: what a recurrent model learns from texts before it learns labels."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import DataError
from app.text.vocabulary import BEGIN, PAD, UNKNOWN
from tests.corpus import write_tsv_folder
from tests.deferred import deferred
from training.config import Config, ModelConfig
from training.configs import load_config

with deferred():
    import keras

    from tests.callbacks import Stop
    from training.data.batches import ScoringBatches, TrainingBatches
    from training.data.dataset import Dataset, Source, load_dataset
    from training.data.shards import InMemoryShard
    from training.fit.checkpoints import CheckpointManager
    from training.fit.loop import fit_model
    from training.fit.workspace import open_workspace
    from training.models.build import build_model
    from training.models.next_word import NextWordLoss, build_next_word_model, reader
    from training.train import train

VOCABULARY, WORDS = 12, 9
TINY = Config(
    name="m", model=ModelConfig(architecture="rnn", embedding_dim=8, units=16, input_dropout=0.1)
)
CIRCLE = [
    np.array([BEGIN, *(3 + (start + np.arange(length)) % WORDS)], np.int32)
    for start in range(WORDS)
    for length in (5, 20, 30, 40)
]
"""Texts in which each word has one that always follows."""


def next_word_model(*, steps: int = 400) -> tuple[keras.Model, keras.Model]:
    """The model to be trained, and the one that trains it on `CIRCLE`."""
    model = build_model(TINY, vocabulary=VOCABULARY, classes=2)
    counts = np.bincount(np.concatenate(CIRCLE), minlength=VOCABULARY)
    return model, build_next_word_model(model, counts, steps=steps, seed=7)


def loss_of(rows: list[list[int]]) -> float:
    """The loss of an untrained model for rows of the same length, with the same draw of words."""
    ids = np.array(rows, np.int32)
    return float(next_word_model()[1](ids))


def fit(epochs: int, folder: Path, *more: keras.callbacks.Callback) -> tuple[Any, list[float]]:
    """Fit on `CIRCLE`; returns the weights that a classifier starts from, and the losses."""
    model, next_word = next_word_model(steps=epochs * 6)
    shard = InMemoryShard(CIRCLE, np.ones((len(CIRCLE), 1)))
    history = fit_model(
        next_word,
        TrainingBatches(shard, batch_size=6, seed=7),
        ScoringBatches(shard),
        more,
        epochs=epochs,
        checkpoints=CheckpointManager(folder, interval_s=0),
    )
    return [np.asarray(each) for each in reader(model).trainable_weights], history["val_loss"]


def test_it_learns_which_word_follows(tmp_path: Path) -> None:
    """The loss begins at that of a guess among all words, and falls by half or more."""
    _, losses = fit(30, tmp_path)
    assert loss_of([CIRCLE[3].tolist()]) == pytest.approx(math.log(WORDS), abs=0.3)
    assert losses[-1] < losses[0] / 2


def test_a_stopped_training_ends_as_a_whole_one(tmp_path: Path) -> None:
    """The words that are drawn after a checkpoint are those that would have been drawn."""
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    with pytest.raises(KeyboardInterrupt):
        fit(3, tmp_path / "stopped", Stop(1, 4))
    resumed, whole = fit(3, tmp_path / "stopped"), fit(3, tmp_path / "whole")
    assert resumed[1] == whole[1]
    assert all(map(np.array_equal, resumed[0], whole[0]))


@pytest.mark.parametrize(
    ("row", "same_as"),
    [
        ([BEGIN, 4, 5, 6, PAD, PAD], [BEGIN, 4, 5, 6]),
        ([BEGIN, 4, 5, UNKNOWN, PAD], [BEGIN, 4, 5]),
        ([BEGIN, 4, 5, BEGIN], [BEGIN, 4, 5]),
    ],
    ids=["padding", "an unknown word", "a special id"],
)
def test_only_words_of_the_vocabulary_are_predicted(row: list[int], same_as: list[int]) -> None:
    """What is no word, or not known, adds nothing to the loss."""
    assert loss_of([row]) == pytest.approx(loss_of([same_as]), rel=1e-5)


@pytest.mark.parametrize("row", [[BEGIN], [BEGIN, UNKNOWN]], ids=["empty", "unknown"])
def test_a_text_without_a_next_word(row: list[int]) -> None:
    """A batch of texts that have nothing to predict has a loss of 0, which is finite."""
    assert loss_of([row]) == 0.0


def test_the_sample_stands_for_all_words() -> None:
    """Averaged over draws, the words that are drawn add up to all other words, however frequent.

    So the exponent of the loss is that of the whole softmax.
    """
    generator = np.random.default_rng(5)
    vocabulary, dim, units = 40, 6, 4
    counts = generator.zipf(1.3, vocabulary).clip(0, 10_000)
    vectors = generator.normal(size=(vocabulary, dim)).astype(np.float32)
    states = generator.normal(size=(1, 2, units)).astype(np.float32)
    layer = NextWordLoss(vectors, counts, seed=3)
    following = 3 + int(np.argmax(counts[3:]))  # often drawn itself
    ids = np.array([[BEGIN, following]], np.int32)
    sampled = [float(layer(states, ids, training=True)) for _ in range(300)]

    projection, output, bias = layer.get_weights()
    logits = states[0, 0] @ projection @ output.T + bias
    whole = np.exp(logits - logits[following])[3:].sum()
    assert np.mean(np.exp(sampled)) == pytest.approx(whole, rel=0.02)
    assert len(set(sampled)) > 1
    assert float(layer(states, ids)) == float(layer(states, ids))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A small data set."""
    folder = tmp_path_factory.mktemp("data")
    source = Source(str(write_tsv_folder(folder, train=60, test=10)))
    return load_dataset(source, validation_share=0.2, seed=7)


def trained(
    config: Config, dataset: Dataset, folder: Path, parts: Path | None = None, **more: Any
) -> list[np.ndarray]:
    """The weights after `train`, in a workspace that is kept only if it is interrupted."""
    path = folder / "model.keras"
    folder.mkdir(exist_ok=True)
    with open_workspace(folder / "run", parts=parts, checkpoint_every_s=0) as workspace:
        workspace.claim({})
        train(config, dataset.train, dataset.validation, path, workspace=workspace, **more)
    model = keras.models.load_model(path, compile=False)
    return [np.asarray(each) for each in model.get_weights()]


SMOKE = load_config("smoke").replace(epochs=1, next_word_epochs=2, dropout=0.3, units=5)


def test_a_recipe_reads_before_it_learns_labels(dataset: Dataset, tmp_path: Path) -> None:
    """The labels are learned from other weights than without; unlabelled texts are read, too."""
    plain = trained(SMOKE.replace(next_word_epochs=0), dataset, tmp_path / "plain")
    read = trained(SMOKE, dataset, tmp_path / "read")
    more = trained(SMOKE, dataset, tmp_path / "more", unlabelled=dataset.train.texts()[:30])
    assert [each.shape for each in plain] == [each.shape for each in read]
    assert not np.allclose(plain[0], read[0], atol=1e-3)
    assert not np.allclose(read[0], more[0], atol=1e-3)


def test_validation_texts_are_not_read(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other validation texts, and another number of them, leave the model as it is."""
    monkeypatch.setattr("training.train._READ_ROWS", 4)
    texts = dataset.validation.examples
    others = replace(dataset.validation, examples=texts[: len(texts) // 2])
    weights = [
        trained(SMOKE.replace(keep="last"), replace(dataset, validation=side), tmp_path / name)
        for name, side in (("all", dataset.validation), ("half", others))
    ]
    assert all(map(np.array_equal, *weights))


def test_interrupted_while_it_reads(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """The same training resumes where it stopped, and ends as one that was not interrupted."""
    whole = trained(SMOKE, dataset, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr("training.train.EpochProgress", lambda: Stop(1, 1))
        with pytest.raises(KeyboardInterrupt, match="again to resume at epoch 2, step 2"):
            trained(SMOKE, dataset, tmp_path / "stopped")
    capfd.readouterr()
    assert all(map(np.array_equal, trained(SMOKE, dataset, tmp_path / "stopped"), whole))
    assert "next_word: resumes at epoch 2, step 2\n" in capfd.readouterr().err


SAME = [{"dropout": 0.0}, {"hidden": (4,)}, {"attention_heads": 2}, {"ngram_logits": 1}]
OTHER = [
    *({"input_dropout": 0.2}, {"recurrent_dropout": 0.2}, {"l2": 0.1}, {"cell": "gru"}),
    *({"embedding_lr_factor": 0.5}, {"next_word_epochs": 1}, {"seed": 8}, {"units": 6}),
    {"layers": 2},
]


@pytest.fixture(scope="module")
def has_read(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts of a recipe that has read."""
    folder = tmp_path_factory.mktemp("read")
    trained(SMOKE, dataset, folder / "run", parts=folder / "parts")
    return folder / "parts"


@pytest.mark.parametrize("changes", [*SAME, *OTHER], ids=str)
def test_what_recipes_share(
    dataset: Dataset,
    has_read: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
) -> None:
    """A recipe that differs only behind the states takes over what another has learned.

    It begins with the weights that it would have learned itself.
    """
    begun: list[list[np.ndarray]] = []
    reads: list[str] = []

    def fit(model: keras.Model, *arguments: Any, **options: Any) -> dict[str, list[float]]:
        if model.name == "next_word":
            reads.append(parts)
            return fit_model(model, *arguments, **options)
        begun.append([np.asarray(each) for each in reader(model).trainable_weights])
        raise KeyboardInterrupt

    shutil.copytree(has_read, tmp_path / "shared")
    monkeypatch.setattr("training.train.fit_model", fit)
    for parts in ("shared", "own"):
        with pytest.raises(KeyboardInterrupt):
            trained(SMOKE.replace(**changes), dataset, tmp_path / parts[0], tmp_path / parts)
    assert reads == (["own"] if changes in SAME else ["shared", "own"])
    assert all(map(np.array_equal, *begun))


def test_dropout_between_layers_is_part_of_it(dataset: Dataset, tmp_path: Path, capfd: Any) -> None:
    """With two layers, another dropout is another training."""
    for name, dropout in (("first", 0.3), ("other", 0.1)):
        capfd.readouterr()
        config = SMOKE.replace(layers=2, dropout=dropout)
        trained(config, dataset, tmp_path / name, parts=tmp_path / "parts")
        assert "learns to predict the next word" in capfd.readouterr().err


def test_a_loss_without_end_is_not_kept(dataset: Dataset, tmp_path: Path) -> None:
    """A training whose weights become infinite says so at once, each time."""
    config = SMOKE.replace(cell="simple", embedding_lr_factor=1e25)
    for name in ("first", "again"):
        with pytest.raises(DataError, match="loss of next-word prediction must stay finite"):
            trained(config, dataset, tmp_path / name, parts=tmp_path / "parts")
