"""Training: it learns, stops early, is reproducible, and leaves a complete run or nothing."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import DataError
from app.text.encoder import TextEncoder
from tests.corpus import make_corpus, write_csv, write_tsv_folder
from tests.deferred import deferred
from tests.trained import Workshop
from training.config import NGRAM_VECTOR_DIM, Config
from training.configs import load_config
from training.data.corpus import Corpus
from training.data.preprocessing import encode
from training.data.shards import Shard, TrainingExample, training_examples

with deferred():
    import keras

    from training.data.dataset import Source, load_dataset
    from training.data.readers import read
    from training.distillation.teacher_data import TeacherInput, TeacherOutput
    from training.fit.run import Run
    from training.fit.workspace import Workspace
    from training.models.build import NGRAM_EMBEDDINGS
    from training.models.predict import predict
    from training.reports.scores import log_loss
    from training.train import train, train_run

TINY = load_config("smoke").replace(epochs=2)
LOOP = TINY.replace(architecture="embedding")
"""For tests of the loop: it takes half the time of an LSTM to trace."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A small data set."""
    folder = tmp_path_factory.mktemp("data")
    return Source(str(write_tsv_folder(folder, train=120, test=20)))


def weights(model_file: Path) -> list[np.ndarray]:
    """The weights in a model file."""
    model = keras.models.load_model(model_file, compile=False)
    return [np.asarray(w) for w in model.get_weights()]


def figures(run: Run) -> dict[str, list[float]]:
    """The history without the throughput."""
    return {name: values for name, values in run.history.items() if name != "tokens_per_second"}


@pytest.mark.parametrize("name", ["lstm", "bow"])
def test_it_learns(workshop: Workshop, name: str) -> None:
    """Each architecture learns an easy data set almost perfectly."""
    history = Run.read(workshop.runs / name).history
    assert max(history["val_accuracy"]) > 0.9


def test_the_same_seed_gives_the_same_model(source: Source, tmp_path: Path) -> None:
    """Training twice gives identical metrics and weights, with averaging and dropout."""
    config = TINY.replace(word_dropout=0.2, ema_momentum=0.9, hidden=(4,), clip_norm=1.0)
    for name in ("a", "b"):
        train_run(config, source, tmp_path / name)
    first, second = (Run.read(tmp_path / name) for name in ("a", "b"))
    assert figures(first) == figures(second)
    kept = [weights(tmp_path / name / "model.keras") for name in ("a", "b")]
    assert all(map(np.array_equal, *kept))


@pytest.fixture(scope="module")
def contrary(source: Source) -> tuple[Corpus, Corpus]:
    """Training texts, and the same texts with swapped labels for validation.

    So the first epoch is the best, and each later one is worse.
    """
    corpus = source.read("train")
    swap = {"negative": "positive", "positive": "negative"}
    swapped = tuple(replace(e, label=swap[e.label]) for e in corpus.examples)
    return corpus, replace(corpus, examples=swapped)


@pytest.fixture(scope="module")
def first_epoch(
    contrary: tuple[Corpus, Corpus], tmp_path_factory: pytest.TempPathFactory
) -> list[np.ndarray]:
    """The weights after one epoch."""
    path = tmp_path_factory.mktemp("first") / "model.keras"
    train(LOOP.replace(epochs=1), *contrary, path)
    return weights(path)


def test_the_best_epoch_is_kept(
    contrary: tuple[Corpus, Corpus], first_epoch: list[np.ndarray], tmp_path: Path
) -> None:
    """The saved model is that of the epoch with the lowest validation loss."""
    config = LOOP.replace(epochs=4, stop_patience=4)
    losses = train(config, *contrary, tmp_path / "model.keras").history["val_loss"]
    assert losses == sorted(losses)
    assert all(map(np.array_equal, weights(tmp_path / "model.keras"), first_epoch))


def test_the_last_epoch_is_kept(
    contrary: tuple[Corpus, Corpus], first_epoch: list[np.ndarray], tmp_path: Path
) -> None:
    """A recipe that keeps the last epoch trains all epochs and saves the last."""
    config = LOOP.replace(epochs=4, keep="last", stop_patience=1)
    losses = train(config, *contrary, tmp_path / "model.keras").history["val_loss"]
    assert len(losses) == 4
    assert not all(map(np.array_equal, weights(tmp_path / "model.keras"), first_epoch))


def test_word_vectors_from_a_file(source: Source, tmp_path: Path) -> None:
    """Word embeddings start from a file of word vectors; the run records its coverage."""
    lines = [
        f"{word} {' '.join(['0.5'] * TINY.model.embedding_dim)}\n"
        for word in ("superb", "dull", "x")
    ]
    path = tmp_path / "vectors.txt"
    path.write_text("".join(lines))
    config = TINY.replace(epochs=1, embeddings_file=str(path), learning_rate=1e-6)
    train_run(config, source, tmp_path / "run")
    encoder = TextEncoder.load(tmp_path / "run" / "tokenizer.json")
    model = keras.models.load_model(tmp_path / "run" / "model.keras", compile=False)
    superb, other = model.get_layer("embedding").vectors[encoder.vocabulary.ids(["superb", "the"])]
    np.testing.assert_allclose(superb, 0.5, atol=1e-3)
    assert np.abs(other).max() < 0.1
    coverage = Run.read(tmp_path / "run").coverage
    assert coverage["vocabulary"] == pytest.approx(2 / len(encoder.vocabulary.words))
    assert 0 < coverage["tokens"] < 0.2


def test_ngram_embeddings(source: Source, tmp_path: Path) -> None:
    """The model contains frozen n-gram vectors; only their projection is learned."""
    config = LOOP.replace(epochs=1, ngram_embeddings=500, ngram_embedding_dim=3)
    kept = []
    for epochs in (1, 2):
        train_run(config.replace(epochs=epochs), source, tmp_path / f"run{epochs}")
        model = keras.models.load_model(tmp_path / f"run{epochs}" / "model.keras", compile=False)
        kept.append(model.get_layer(NGRAM_EMBEDDINGS).get_weights())
    (turn, place, vectors), (other_turn, *fixed) = kept
    assert turn.shape == (NGRAM_VECTOR_DIM, 3)
    assert (turn != other_turn).all()
    np.testing.assert_array_equal(place, fixed[0])
    np.testing.assert_array_equal(vectors, fixed[1])
    assert place.max() > 10
    assert vectors[1 : 1 + place.max()].any(axis=1).all()
    assert not vectors[0].any()


def test_it_stops_early(contrary: tuple[Corpus, Corpus], tmp_path: Path) -> None:
    """Training stops after `stop_patience` epochs without a lower validation loss."""
    config = LOOP.replace(epochs=30, stop_patience=2)
    history = train(config, *contrary, tmp_path / "model.keras").history
    assert len(history["val_loss"]) == 1 + 2


def test_the_rate_is_reduced(contrary: tuple[Corpus, Corpus], tmp_path: Path) -> None:
    """The learning rate is halved if the validation loss has not fallen."""
    config = LOOP.replace(epochs=3, stop_patience=3, reduce_patience=1)
    rates = train(config, *contrary, tmp_path / "model.keras").history["learning_rate"]
    np.testing.assert_allclose(
        rates, LOOP.optimizer.learning_rate * np.array([1, 1, 0.5]), rtol=1e-6
    )


def test_the_loss_is_that_of_the_true_label(source: Source, tmp_path: Path) -> None:
    """The validation loss is the mean negative log-likelihood of the labels."""
    dataset = load_dataset(source, validation_share=0.3, seed=7)
    kept = tmp_path / "model.keras"
    trained = train(LOOP.replace(epochs=1), dataset.train, dataset.validation, kept)
    model = keras.models.load_model(kept, compile=False)
    answers = predict(model, encode(trained.encoder, dataset.validation, ""))
    targets = np.array(dataset.validation.targets())
    assert trained.history["val_loss"] == pytest.approx([log_loss(answers, targets)], rel=1e-5)


def test_labels_as_training_examples(source: Source, tmp_path: Path) -> None:
    """Training on labels and on training examples made from them gives the same weights."""
    dataset = load_dataset(source, validation_share=0.1, seed=7)
    sides, config = (dataset.train, dataset.validation), LOOP.replace(epochs=1)
    train(config, *sides, tmp_path / "labels.keras")
    examples = training_examples(dataset.train)
    train(config, *sides, tmp_path / "examples.keras", examples=examples)
    kept = (weights(tmp_path / f"{name}.keras") for name in ("labels", "examples"))
    assert all(map(np.array_equal, *kept))


def test_soft_labels(tmp_path: Path) -> None:
    """The model learns from soft labels, and not from examples with a weight of 0."""
    corpus = read(write_csv(tmp_path / "x.csv", make_corpus(360, seed=1)))
    validation = read(write_csv(tmp_path / "y.csv", make_corpus(60, seed=2)))
    soft_labels = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)
    examples = [
        TrainingExample(text, soft_labels[target], weight=1.0)
        for text, target in zip(corpus.texts(), corpus.targets(), strict=True)
    ]
    wrong = [TrainingExample(each.text, each.target[::-1], weight=0.0) for each in examples]
    config = TINY.replace(epochs=4)
    history = train(
        config, corpus, validation, tmp_path / "model.keras", examples=[*examples, *wrong]
    ).history
    assert max(history["val_accuracy"]) > 0.9


def test_class_weights_of_soft_labels(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unlabelled text gets the mean of the class weights, weighted by its soft label.

    A labelled text gets the weight of its label, and a target between hard and soft label.
    """
    soft_labels = np.array([[1, 0], [0, 1], [0.25, 0.75]], np.float32)

    def fit_teacher(data: TeacherInput, *_: Any, **__: Any) -> TeacherOutput:
        half = np.full((len(data.rows), 2), 0.5, np.float32)
        return TeacherOutput(np.zeros((1, 2)), np.zeros(2), half, soft_labels, half[:0])

    monkeypatch.setattr("training.train.fit_teacher", fit_teacher)
    corpus = load_dataset(source, validation_share=0.1, seed=7).train
    skewed = replace(corpus, examples=corpus.examples[:40] + corpus.examples[-10:])
    config = LOOP.replace(
        epochs=1, teacher="linear", class_weights="balanced", soft_label_share=0.5
    )
    train(
        config,
        skewed,
        corpus,
        tmp_path / "model.keras",
        unlabelled=["one", "two", "three"],
        workspace=Workspace(tmp_path, checkpoint_every_s=math.inf),
    )
    shard, labels = Shard(tmp_path / "training"), np.array(skewed.targets())
    first, second = (len(labels) / (2 * (labels == label).sum()) for label in (0, 1))
    assert first != second
    np.testing.assert_allclose(shard.weights[:-3], np.where(labels == 0, first, second), rtol=1e-6)
    np.testing.assert_allclose(shard.targets[:-3], 0.25 + 0.5 * np.eye(2)[labels])
    expected = [first, second, 0.25 * first + 0.75 * second]
    np.testing.assert_allclose(shard.weights[-3:], expected, rtol=1e-6)


def test_word_vectors_are_read_before_the_teacher_is_trained(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An invalid file of word vectors fails the training before its longest step."""

    def fit_teacher(*_: Any, **__: Any) -> None:
        pytest.fail("the teacher is trained")

    monkeypatch.setattr("training.train.fit_teacher", fit_teacher)
    config = TINY.replace(teacher="linear", embeddings_file=str(tmp_path / "none.txt"))
    with pytest.raises(DataError, match=r"none\.txt: cannot read word vectors: No such file"):
        train_run(config, source, tmp_path / "run")


def test_no_word_is_frequent_enough(source: Source, tmp_path: Path) -> None:
    """A recipe whose vocabulary would be empty fails, and leaves nothing behind."""
    with pytest.raises(DataError, match="a word must occur at least 10000 times"):
        train_run(TINY.replace(min_count=10_000), source, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_throughput_in_the_history(workshop: Workshop) -> None:
    """The history has the tokens per second of every epoch."""
    history = Run.read(workshop.runs / "lstm").history
    assert len(history["tokens_per_second"]) == len(history["loss"])
    assert min(history["tokens_per_second"]) > 0


def test_further_callbacks(contrary: tuple[Corpus, Corpus], tmp_path: Path) -> None:
    """The caller's callbacks get the metrics of each epoch, and may stop the training."""
    heard = []

    def end(epoch: int, logs: dict[str, float]) -> None:
        heard.append(logs["val_loss"])
        watch.model.stop_training = True

    watch = keras.callbacks.LambdaCallback(on_epoch_end=end)
    history = train(LOOP, *contrary, tmp_path / "model.keras", callbacks=[watch]).history
    assert history["val_loss"] == heard
    assert len(heard) == 1 < LOOP.loop.epochs


def test_tensorboard(source: Source, tmp_path: Path) -> None:
    """Logs for TensorBoard are written to the given folder."""
    train_run(LOOP.replace(epochs=1), source, tmp_path / "run", tensorboard=tmp_path / "logs")
    assert list((tmp_path / "logs" / "train").glob("events.*"))


def test_run_contents(workshop: Workshop) -> None:
    """A run has the recipe, the data card, the history, the tokenizer and the weights."""
    run = Run.read(workshop.runs / "lstm")
    assert Config.from_mapping(run.config).name == "lstm"
    assert run.labels == ("negative", "positive")
    assert run.data["counts"]["test"] == 100
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(run.history)
    TextEncoder.load(workshop.runs / "lstm" / "tokenizer.json")


@pytest.mark.parametrize(
    "change",
    [{}, {"teacher": "linear", "ngram_logits": 1, "ngram_logits_buckets": 2**10}],
    ids=["without a teacher", "with a teacher"],
)
def test_infinite_loss(
    source: Source, tmp_path: Path, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that diverges fails, and leaves nothing behind."""
    monkeypatch.setattr("training.features.ngram_vectors.MAX_BUCKETS", 2**14)
    config = LOOP.replace(epochs=1, learning_rate=1e38, **change)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the validation loss must stay finite"):
        train_run(config, source, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text("{"),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text(json.dumps({"surprise": 1})),
    ],
    ids=["missing", "cut", "a list", "other fields"],
)
def test_invalid_run(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """A folder without a valid `run.json` is refused; the error names the file."""
    (tmp_path / "run.json").touch()
    damage(tmp_path / "run.json")
    with pytest.raises(DataError, match=r"run\.json"):
        Run.read(tmp_path)
