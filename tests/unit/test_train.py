"""Training: it learns, it stops, it can be repeated, and leaves all or nothing."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from app.errors import DataError, InvalidInput
from app.text.encoder import TextEncoder
from tests.corpus import make_corpus, write_csv, write_tsv_folder
from tests.trained import Workshop
from training.config import NGRAM_VECTOR_DIM, Config
from training.configs import load_config
from training.data.corpus import Corpus
from training.data.dataset import Source, load_dataset
from training.data.preprocessing import encode
from training.data.readers import read
from training.data.shards import Lesson, Shard, lessons_of
from training.distillation.teacher import Material, Taught
from training.fit.checkpoints import WorkingFolder
from training.fit.run import Run
from training.models.build import KNOWN
from training.models.predict import predict
from training.reports.scores import log_loss
from training.support.files import written_aside
from training.train import train, train_run

TINY = load_config("smoke").replace(epochs=2)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A data set of a few texts."""
    folder = tmp_path_factory.mktemp("data")
    return Source(str(write_tsv_folder(folder, train=120, test=20)))


def write_half(folder: Path) -> None:
    """Begin to write, then be interrupted."""
    with written_aside(folder, replaces="run.json") as aside:
        (aside / "new").touch()
        raise KeyboardInterrupt


def weights(model_file: Path) -> list[np.ndarray]:
    """The weights a training kept."""
    model = keras.models.load_model(model_file, compile=False)
    return [np.asarray(w) for w in model.get_weights()]


def figures(run: Run) -> dict[str, list[float]]:
    """The history without what a clock has measured."""
    return {name: values for name, values in run.history.items() if name != "tokens_per_second"}


@pytest.mark.parametrize("name", ["lstm", "bow"])
def test_it_learns(workshop: Workshop, name: str) -> None:
    """On texts that give their label away, each architecture gets nearly all of them right."""
    history = Run.read(workshop.runs / name).history
    assert max(history["val_accuracy"]) > 0.9


def test_the_same_seed_gives_the_same_model(source: Source, tmp_path: Path) -> None:
    """Training twice gives the same figures and weights, averaging and dropout included."""
    config = TINY.replace(word_dropout=0.2, ema_momentum=0.9, hidden=(4,), clip_norm=1.0)
    for name in ("a", "b"):
        train_run(config, source, tmp_path / name)
    first, second = (Run.read(tmp_path / name) for name in ("a", "b"))
    assert figures(first) == figures(second)
    kept = [weights(tmp_path / name / "model.keras") for name in ("a", "b")]
    assert all(map(np.array_equal, *kept))


@pytest.fixture(scope="module")
def contrary(source: Source) -> tuple[Corpus, Corpus]:
    """Texts to learn from, and the same with labels swapped: what is learned there is wrong here.

    So the first epoch is the best, and each later one is worse.
    """
    corpus = source.read("train")
    swap = {"negative": "positive", "positive": "negative"}
    swapped = tuple(replace(e, label=swap[e.label]) for e in corpus.examples)
    return corpus, replace(corpus, examples=swapped)


def test_the_best_epoch_is_kept(contrary: tuple[Corpus, Corpus], tmp_path: Path) -> None:
    """What is kept is the epoch of the lowest validation loss, not the last one."""
    config = TINY.replace(epochs=4, stop_patience=4)
    losses = train(config, *contrary, tmp_path / "four.keras").history["val_loss"]
    assert losses == sorted(losses)
    train(config.replace(epochs=1), *contrary, tmp_path / "one.keras")
    kept, first = (weights(tmp_path / name) for name in ("four.keras", "one.keras"))
    assert all(map(np.array_equal, kept, first))


def test_the_last_epoch_is_kept(contrary: tuple[Corpus, Corpus], tmp_path: Path) -> None:
    """Where a recipe keeps the last epoch, all are trained, and the first is not what is kept."""
    config = TINY.replace(epochs=4, keep="last", stop_patience=1)
    losses = train(config, *contrary, tmp_path / "four.keras").history["val_loss"]
    assert len(losses) == 4
    train(config.replace(epochs=1), *contrary, tmp_path / "one.keras")
    kept, first = (weights(tmp_path / name) for name in ("four.keras", "one.keras"))
    assert not all(map(np.array_equal, kept, first))


def test_word_vectors_from_a_file(source: Source, tmp_path: Path) -> None:
    """A training may start from a file of word vectors; the run says how much that covers."""
    lines = [f"{word} {' '.join(['0.5'] * TINY.embedding)}\n" for word in ("superb", "dull", "x")]
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


def test_known_ngrams(source: Source, tmp_path: Path) -> None:
    """Vectors of the texts' n-grams are in the model; only what turns them is learned."""
    config = TINY.replace(epochs=1, ngram_embeddings=500, ngram_embedding_dim=3)
    kept = []
    for epochs in (1, 2):
        train_run(config.replace(epochs=epochs), source, tmp_path / f"run{epochs}")
        model = keras.models.load_model(tmp_path / f"run{epochs}" / "model.keras", compile=False)
        kept.append(model.get_layer(KNOWN).get_weights())
    (turn, place, vectors), (other_turn, *fixed) = kept
    assert turn.shape == (NGRAM_VECTOR_DIM, 3)
    assert (turn != other_turn).all()
    np.testing.assert_array_equal(place, fixed[0])
    np.testing.assert_array_equal(vectors, fixed[1])
    assert place.max() > 10
    assert vectors[1 : 1 + place.max()].any(axis=1).all()
    assert not vectors[0].any()


def test_it_stops_early(contrary: tuple[Corpus, Corpus], tmp_path: Path) -> None:
    """Training ends when the validation loss has not fallen for the stated epochs."""
    config = TINY.replace(epochs=30, stop_patience=2)
    history = train(config, *contrary, tmp_path / "model.keras").history
    assert len(history["val_loss"]) == 1 + 2


def test_the_rate_is_reduced(contrary: tuple[Corpus, Corpus], tmp_path: Path) -> None:
    """The learning rate is halved when the validation loss has not fallen."""
    config = TINY.replace(epochs=3, stop_patience=3, reduce_patience=1)
    rates = train(config, *contrary, tmp_path / "model.keras").history["learning_rate"]
    np.testing.assert_allclose(rates, TINY.learning_rate * np.array([1, 1, 0.5]), rtol=1e-6)


def test_the_loss_is_that_of_the_true_label(source: Source, tmp_path: Path) -> None:
    """The validation loss is the mean of -log p of each text's label, as if labels were numbers."""
    dataset = load_dataset(source, validation_share=0.3, seed=7)
    kept = tmp_path / "model.keras"
    trained = train(TINY.replace(epochs=1), dataset.train, dataset.validation, kept)
    model = keras.models.load_model(kept, compile=False)
    answers = predict(model, encode(trained.encoder, dataset.validation, ""))
    targets = np.array(dataset.validation.targets())
    assert trained.history["val_loss"] == pytest.approx([log_loss(answers, targets)], rel=1e-5)


def test_labels_are_soft_labels_that_are_certain(source: Source, tmp_path: Path) -> None:
    """Learning from labels and from the same labels as lessons gives the same weights."""
    dataset = load_dataset(source, validation_share=0.1, seed=7)
    sides, config = (dataset.train, dataset.validation), TINY.replace(epochs=1)
    train(config, *sides, tmp_path / "labels.keras")
    train(config, *sides, tmp_path / "lessons.keras", lessons=lessons_of(dataset.train))
    kept = (weights(tmp_path / f"{name}.keras") for name in ("labels", "lessons"))
    assert all(map(np.array_equal, *kept))


def test_it_learns_from_a_teacher(tmp_path: Path) -> None:
    """Texts without a label teach by a teacher's probabilities; a weight of 0 teaches nothing."""
    corpus = read(write_csv(tmp_path / "x.csv", make_corpus(360, seed=1)))
    validation = read(write_csv(tmp_path / "y.csv", make_corpus(60, seed=2)))
    sure = np.array([[0.9, 0.1], [0.1, 0.9]], np.float32)
    lessons = [
        Lesson(text, sure[target], weight=1.0)
        for text, target in zip(corpus.texts(), corpus.targets(), strict=True)
    ]
    wrong = [Lesson(lesson.text, lesson.target[::-1], weight=0.0) for lesson in lessons]
    config = TINY.replace(epochs=4)
    history = train(
        config, corpus, validation, tmp_path / "model.keras", lessons=[*lessons, *wrong]
    ).history
    assert max(history["val_accuracy"]) > 0.9


def test_class_weights_hold_for_what_a_teacher_says(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unlabelled text weighs as its teacher divides it between the classes, each with its own.

    Labelled ones weigh by their label, and their target lies between label and teacher.
    """
    said = np.array([[1, 0], [0, 1], [0.25, 0.75]], np.float32)

    def teach(material: Material, *_: Any, **__: Any) -> Taught:
        half = np.full((len(material.rows), 2), 0.5, np.float32)
        return Taught(np.zeros((1, 2)), np.zeros(2), half, said)

    monkeypatch.setattr("training.train.teach", teach)
    corpus = load_dataset(source, validation_share=0.1, seed=7).train
    skewed = replace(corpus, examples=corpus.examples[:40] + corpus.examples[-10:])
    config = TINY.replace(
        epochs=1, teacher="linear", class_weights="balanced", soft_label_share=0.5
    )
    train(
        config,
        skewed,
        corpus,
        tmp_path / "model.keras",
        unlabelled=["one", "two", "three"],
        work=WorkingFolder(tmp_path, every=math.inf),
    )
    shard, labels = Shard(tmp_path / "training"), np.array(skewed.targets())
    first, second = (len(labels) / (2 * (labels == label).sum()) for label in (0, 1))
    assert first != second
    np.testing.assert_allclose(shard.weights[:-3], np.where(labels == 0, first, second), rtol=1e-6)
    np.testing.assert_allclose(shard.targets[:-3], 0.25 + 0.5 * np.eye(2)[labels])
    expected = [first, second, 0.25 * first + 0.75 * second]
    np.testing.assert_allclose(shard.weights[-3:], expected, rtol=1e-6)


def test_a_wrong_file_is_told_before_a_teacher_works(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word vectors that cannot be read are not found out after hours."""

    def teach(*_: Any, **__: Any) -> None:
        pytest.fail("the teacher works")

    monkeypatch.setattr("training.train.teach", teach)
    config = TINY.replace(teacher="linear", embeddings_file=str(tmp_path / "none.txt"))
    with pytest.raises(DataError, match=r"none\.txt: word vectors cannot be read"):
        train_run(config, source, tmp_path / "run")


def test_no_word_is_frequent_enough(source: Source, tmp_path: Path) -> None:
    """A recipe that would leave no word to learn from is refused, and leaves nothing."""
    with pytest.raises(DataError, match="a word must stand at least 10000 times"):
        train_run(TINY.replace(min_count=10_000), source, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_an_epoch_tells_its_tokens_a_second(workshop: Workshop) -> None:
    """The history has the throughput of every epoch, in tokens a second."""
    history = Run.read(workshop.runs / "lstm").history
    assert len(history["tokens_per_second"]) == len(history["loss"])
    assert min(history["tokens_per_second"]) > 0


def test_further_callbacks_hear_of_every_epoch(
    contrary: tuple[Corpus, Corpus], tmp_path: Path
) -> None:
    """Callbacks of the caller's own are told the figures of each epoch, and may end it all."""
    heard = []

    def end(epoch: int, logs: dict[str, float]) -> None:
        heard.append(logs["val_loss"])
        watch.model.stop_training = True

    watch = keras.callbacks.LambdaCallback(on_epoch_end=end)
    history = train(TINY, *contrary, tmp_path / "model.keras", callbacks=[watch]).history
    assert history["val_loss"] == heard
    assert len(heard) == 1 < TINY.epochs


def test_tensorboard(source: Source, tmp_path: Path) -> None:
    """Logs for TensorBoard are written where they are asked for."""
    train_run(TINY.replace(epochs=1), source, tmp_path / "run", tensorboard=tmp_path / "logs")
    assert list((tmp_path / "logs" / "train").glob("events.*"))


def test_what_a_run_holds(workshop: Workshop) -> None:
    """A run keeps the recipe, the data's card, the history, the tokenizer and the weights."""
    run = Run.read(workshop.runs / "lstm")
    assert Config.from_mapping(run.config).name == "lstm"
    assert run.labels == ("negative", "positive")
    assert run.data["counts"]["test"] == 100
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(run.history)
    TextEncoder.load(workshop.runs / "lstm" / "tokenizer.json")


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    """Work that fails half-way leaves the earlier result whole and nothing beside it."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").touch()
    with pytest.raises(KeyboardInterrupt):
        write_half(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "run.json"]


def test_success_replaces_what_was_there(tmp_path: Path) -> None:
    """A finished result takes the place of the earlier one, whole."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").touch()
    (folder / "old").touch()
    with written_aside(folder, replaces="run.json") as aside:
        (aside / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["run", "new"]


@pytest.mark.parametrize("replaces", [None, "run.json"])
@pytest.mark.parametrize("place", ["thesis", "thesis/inner/..", "thesis/file.txt"])
def test_what_is_no_earlier_result_is_never_touched(
    tmp_path: Path, replaces: str | None, place: str
) -> None:
    """A folder or file that this program did not make is refused before any work, and stays."""
    (tmp_path / "thesis" / "inner").mkdir(parents=True)
    (tmp_path / "thesis" / "file.txt").write_text("years of work")
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(InvalidInput, match="which exists"),
        written_aside(tmp_path / place, replaces=replaces),
    ):
        pytest.fail("the work has begun")
    assert sorted(tmp_path.rglob("*")) == before


def overtake(folder: Path) -> None:
    """Begin to write; before that is finished, somebody else begins and ends."""
    with written_aside(folder) as first:
        (first / "first").touch()
        with written_aside(folder) as second:
            (second / "second").touch()


def test_two_at_once(tmp_path: Path) -> None:
    """Of two that write the same new folder, one succeeds and the other changes nothing."""
    with pytest.raises(OSError, match="not empty"):
        overtake(tmp_path / "1")
    assert [path.name for path in tmp_path.rglob("*")] == ["1", "second"]


def test_folders_made_on_the_way_go_again(tmp_path: Path) -> None:
    """A failure leaves no empty parents behind."""
    with pytest.raises(KeyboardInterrupt):
        write_half(tmp_path / "models" / "lstm" / "1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [{}, {"teacher": "linear", "ngram_logits": 1, "ngram_logits_buckets": 2**10}],
    ids=["alone", "taught"],
)
def test_a_loss_that_is_no_number(
    source: Source, tmp_path: Path, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that diverges from the start is a failure, and leaves nothing."""
    monkeypatch.setattr("training.features.ngram_vectors.KNOWN_BUCKETS", 2**14)
    config = TINY.replace(epochs=1, learning_rate=1e38, **change)  # type: ignore[arg-type]
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
def test_a_folder_that_is_no_run(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """A folder without a whole `run.json` is refused in a sentence that names the file."""
    (tmp_path / "run.json").touch()
    damage(tmp_path / "run.json")
    with pytest.raises(DataError, match=r"run\.json"):
        Run.read(tmp_path)
