"""A student of a pretrained teacher: it learns pieces, and a class that the data does not have."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.artifact import read_manifest
from app.errors import DataError, InvalidInput
from app.text.encoder import TextEncoder
from tests.answered import PIECES, write_answers
from tests.corpus import make_corpus, write_csv, write_tsv_folder
from tests.deferred import deferred
from tests.trained import call
from training.configs import load_config
from training.distillation.answers import TeacherAnswers, everyday_examples
from training.distillation.everyday import BAD, EVEN, GOOD, everyday_sentences

with deferred():
    import keras

    from training.data.dataset import Dataset, Source, load_dataset
    from training.data.shards import Shard
    from training.export.runtimes import OnnxModel
    from training.fit.run import Run
    from training.fit.workspace import Workspace
    from training.train import train, train_run

STUDENT = load_config("smoke").replace(
    architecture="bow", epochs=1, piece_weight=0.5, piece_count=1, silent_texts=10
)
"""The architecture that is trained fastest."""
NAMES = ("whole", "stopped")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set."""
    return write_tsv_folder(tmp_path_factory.mktemp("data"), train=120, test=20)


@pytest.fixture(scope="module")
def dataset(data: Path) -> Dataset:
    """The same, as training reads it."""
    return load_dataset(Source(str(data)), validation_share=0.1, seed=7, unlabelled=True)


@pytest.fixture(scope="module")
def answers(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a teacher answered about it."""
    return write_answers(tmp_path_factory.mktemp("answers"), dataset)


def examples(dataset: Dataset, folder: Path, **changes: object) -> Shard:
    """The training examples of `STUDENT` with changes."""
    workspace = Workspace(folder, checkpoint_every_s=math.inf)
    config = STUDENT.replace(**changes)
    train(config, dataset.train, dataset.validation, folder / "model.keras", workspace=workspace)
    return Shard(folder / "training")


def test_pieces_follow_the_reviews(dataset: Dataset, answers: Path, tmp_path: Path) -> None:
    """Reviews have a mixture of labels, pieces the teacher's answer, silent texts even odds."""
    shard = examples(dataset, tmp_path, answers=str(answers), soft_label_share=1.0)
    reviews = len(dataset.train)
    of_pieces = np.array([positive for _, positive, _ in PIECES])
    assert len(shard) == reviews + len(PIECES) + 10
    labels = np.array(dataset.train.targets())
    assert (shard.targets[:reviews].argmax(axis=1) == labels).all()
    assert shard.targets[:reviews].max() < 1
    np.testing.assert_allclose(shard.targets[reviews:-10, 1], of_pieces, atol=1e-6)
    np.testing.assert_allclose(shard.targets[-10:], 0.5)
    np.testing.assert_allclose(shard.weights, [1.0] * reviews + [0.5] * (len(PIECES) + 10))


@pytest.mark.parametrize("neutral", [False, True])
def test_everyday_sentences(neutral: bool, dataset: Dataset, answers: Path, tmp_path: Path) -> None:
    """Sentences of known meaning follow the pieces; those without an opinion are neutral."""
    known = everyday_examples(50, 0.5, classes=3 if neutral else 2, seed=STUDENT.seed + 1)
    data = dataset.with_neutral() if neutral else dataset
    shard = examples(
        data, tmp_path, answers=str(answers), silent_texts=0, neutral=neutral, everyday_texts=50
    )
    first = len(shard) - len(known)
    np.testing.assert_allclose(shard.targets[first:], [each.target for each in known], atol=1e-6)
    means = dict(everyday_sentences(50, seed=STUDENT.seed + 1))
    for each in known:
        meaning = means.get(each.text, 0.8)
        likely = {GOOD: -1, BAD: 0, EVEN: 1}.get(meaning) if neutral else None
        assert likely is None or each.target.argmax() == likely % 3
        assert neutral or each.text not in means or each.target[1] == pytest.approx(meaning)


@pytest.mark.parametrize("neutral", [False, True])
def test_neutral_texts(dataset: Dataset, answers: Path, tmp_path: Path, neutral: bool) -> None:
    """Neutral texts are learned with even odds, or as neutral where there is such a class."""
    data = dataset.with_neutral() if neutral else dataset
    changes = {"answers": str(answers), "silent_texts": 0, "neutral": neutral}
    (tmp_path / "with").mkdir()
    without = examples(data, tmp_path, **changes)
    shard = examples(data, tmp_path / "with", neutral_texts=40, **changes)
    assert len(shard) == len(without) + 40
    expected = [0, 1, 0] if neutral else [0.5, 0.5]
    np.testing.assert_allclose(shard.targets[-40:], np.tile(expected, (40, 1)))


def test_words_of_pieces(dataset: Dataset, answers: Path, tmp_path: Path) -> None:
    """The vocabulary has words of pieces, unless the recipe counts none of them."""
    for count in (0, 1):
        folder = tmp_path / str(count)
        folder.mkdir()
        examples(dataset, folder, answers=str(answers), piece_count=count)
        words = TextEncoder.load(folder / "tokenizer.json").vocabulary.words
        assert ("overpriced" in words) is bool(count)


def test_teachers_are_mixed(
    dataset: Dataset, answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With teachers of its own, a student gets the mixture that validation texts chose."""
    shard = examples(
        dataset, tmp_path, answers=str(answers), teacher="linear", ngram_logits_buckets=2**10
    )
    assert len(shard) == len(dataset.train) + len(PIECES) + 10
    line = next(x for x in capsys.readouterr().err.splitlines() if x.startswith("teachers: "))
    assert "pretrained 100.00% with weight" in line
    assert "trained here" in line


def test_without_answers(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without answers a recipe learns what it can, and says in a line what it does not."""
    shard = examples(dataset, tmp_path)
    assert len(shard) == len(dataset.train) + 10
    told = "smoke: without the answers of a pretrained teacher (--answers FOLDER), it learns no"
    assert capsys.readouterr().err.count(told) == 1


def test_without_answers_about_reviews(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A teacher that answered pieces alone teaches these; reviews keep their labels."""
    folder = write_answers(tmp_path / "answers", dataset, reviews=False)
    shard = examples(dataset, tmp_path, answers=str(folder))
    assert set(np.unique(shard.targets[: len(dataset.train)])) == {0, 1}
    assert len(shard) == len(dataset.train) + len(PIECES) + 10
    told = capsys.readouterr().err
    assert f"{folder} has no answers about the texts of train; they keep their labels" in told


@pytest.mark.parametrize(
    ("changes", "consequence"),
    [
        ({"neutral": True}, "they are left out"),
        ({"teacher": "linear"}, "the other teachers label them alone"),
    ],
)
def test_without_answers_about_unlabelled_texts(
    dataset: Dataset,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    consequence: str,
) -> None:
    """Unlabelled texts without answers get soft labels of the other teachers, or are left out."""
    whole = replace(dataset, unlabelled=dataset.validation)
    folder = write_answers(tmp_path / "answers", whole)
    (folder / "reviews" / "unlabelled.npz").unlink()
    if "neutral" in changes:
        whole = whole.with_neutral()
    train(
        STUDENT.replace(answers=str(folder), ngram_logits_buckets=2**10, **changes),
        whole.train,
        whole.validation,
        tmp_path / "model.keras",
        unlabelled=whole.unlabelled.texts(),
        workspace=Workspace(tmp_path, checkpoint_every_s=math.inf),
    )
    used = consequence != "they are left out"
    reviews = len(whole.train) + used * len(whole.unlabelled)
    assert len(Shard(tmp_path / "training")) == reviews + len(PIECES) + 10
    line = f"smoke: {folder} has no answers about the texts of unlabelled; {consequence}"
    assert capsys.readouterr().err.count(line) == 1


def test_answers_about_other_texts(dataset: Dataset, answers: Path, tmp_path: Path) -> None:
    """Answers about another split of the data are refused before anything is learned from them."""
    other = load_dataset(
        Source(str(write_tsv_folder(tmp_path / "data", train=80, test=20))),
        validation_share=0.1,
        seed=7,
    )
    with pytest.raises(DataError, match="answers must be about the texts of this training"):
        examples(other, tmp_path, answers=str(answers))


def test_answers_of_a_teacher_that_saw_other_texts(tmp_path: Path) -> None:
    """A teacher whose data was divided otherwise may know labels of validation texts: refused."""
    answers = TeacherAnswers(tmp_path)
    answers.require_same(["a", "b", "c"])  # nothing is known about the teacher
    (tmp_path / "teacher.json").write_text('{"data": ["a", "b", "c"]}')
    answers.require_same(["a", "b", "c"])
    with pytest.raises(InvalidInput, match="divided by the same recipe"):
        answers.require_same(["a", "x", "c"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neutral": True}, "only a pretrained teacher knows which texts are neutral"),
        ({"answers": "/nowhere"}, "answers must be the output folder of teach. Received: /nowhere"),
    ],
)
def test_answers_that_are_missing(
    data: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    """A folder that is not there is an error, and so is a neutral class without answers."""
    with pytest.raises(InvalidInput, match=message):
        train_run(STUDENT.replace(**change), Source(str(data)), tmp_path / "run")


def test_other_answers_are_another_training(
    data: Path, dataset: Dataset, answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped training does not resume with answers that have changed since."""
    folder = write_answers(tmp_path / "answers", dataset)
    monkeypatch.setattr("training.train.fit_model", stop)
    config = STUDENT.replace(answers=str(folder))
    with pytest.raises(KeyboardInterrupt):
        train_run(config, Source(str(data)), tmp_path / "run")
    np.savez(folder / "answers/0000.npz", logits=np.zeros((len(PIECES), 2), np.float32))
    with pytest.raises(InvalidInput, match="another data answers"):
        train_run(config, Source(str(data)), tmp_path / "run")


def test_a_class_that_is_taken_away(data: Path, answers: Path, tmp_path: Path) -> None:
    """It leaves two labels, each with half of what the third had; export and evaluate know two."""
    for name, changes in (("three", {}), ("two", {"halve_neutral": True})):
        config = STUDENT.replace(name=name, neutral=True, answers=str(answers), **changes)
        train_run(config, Source(str(data)), tmp_path / name)
    models = [keras.models.load_model(tmp_path / name / "model.keras") for name in ("three", "two")]
    encoder = TextEncoder.load(tmp_path / "two" / "tokenizer.json")
    for text in ("it opens at 13", "such great value", ""):
        ids = encoder.encode(text).ids[np.newaxis]
        three, two = (np.asarray(model(ids))[0] for model in models)
        np.testing.assert_allclose(two, three[[0, 2]] + three[1] / 2, atol=1e-6)
    assert call("export", "--run", tmp_path / "two", "--models", tmp_path / "models") == 0
    assert call("evaluate", tmp_path / "models/two/1", "--data", data) == 0
    manifest = read_manifest(tmp_path / "models/two/1")
    assert manifest.labels == ("negative", "positive")
    assert manifest.metrics["test"]


def test_a_training_that_stops_after_the_class_is_taken_away(
    data: Path, answers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command goes on, and takes nothing away twice."""
    config = STUDENT.replace(neutral=True, halve_neutral=True, answers=str(answers))
    train_run(config, Source(str(data)), tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr("training.train._write_run", stop)
        with pytest.raises(KeyboardInterrupt):
            train_run(config, Source(str(data)), tmp_path / "stopped")
    train_run(config, Source(str(data)), tmp_path / "stopped")
    models = [keras.models.load_model(tmp_path / f"{name}/model.keras") for name in NAMES]
    assert [model.output_shape[-1] for model in models] == [2, 2]
    assert all(map(np.array_equal, *(model.get_weights() for model in models)))


def test_a_version_without_the_class_that_is_taken_away(
    data: Path, answers: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`make` compares the labels of the trained model with those of the version before."""
    changes = [f"--set={change}" for change in ("architecture=bow", "epochs=1", "piece_count=1")]
    shared = ["make", "--config=smoke", *changes, "--set=piece_weight=0.5", "--data", data]
    shared += ["--answers", answers, "--set=neutral=true", "--models", tmp_path / "models"]
    halved = "--set=halve_neutral=true"
    assert call(*shared, halved, "--run", tmp_path / "run") == 0
    assert call(*shared, halved, "--run", tmp_path / "run", "--set=seed=8", "--fresh") == 0
    assert read_manifest(tmp_path / "models/smoke/2").labels == ("negative", "positive")
    assert call(*shared, "--run", tmp_path / "three") == 2
    assert "Received: negative, neutral, positive" in capfd.readouterr().err
    assert not (tmp_path / "three").exists()


def test_a_recipe_that_halves_learns_three_labels_of_the_data(tmp_path: Path) -> None:
    """Without answers nothing is taken away, not even a class of that name."""
    labels = ("negative", "neutral", "positive")
    data = write_csv(tmp_path / "mine.csv", make_corpus(120, seed=1, labels=labels))
    config = STUDENT.replace(neutral=True, halve_neutral=True)
    train_run(config, Source(str(data), test_share=0.1), tmp_path / "run")
    assert Run.read(tmp_path / "run").labels == labels
    assert call("export", "--run", tmp_path / "run", "--models", tmp_path / "models") == 0


def test_a_class_that_would_be_taken_away_needs_answers(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without any, the recipe learns two classes from the beginning, and is not made twice."""
    config = STUDENT.replace(neutral=True, halve_neutral=True)
    train_run(config, Source(str(data)), tmp_path / "run")
    assert "learns no pieces of texts and no neutral class" in capfd.readouterr().err
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert model.output_shape[-1] == 2
    assert call("export", "--run", tmp_path / "run", "--models", tmp_path / "models") == 0


def stop(*_: object, **__: object) -> None:
    """Stop a training."""
    raise KeyboardInterrupt


@pytest.mark.slow
def test_three_classes(data: Path, answers: Path, tmp_path: Path) -> None:
    """A model with a neutral class is trained, exported and evaluated by the words of a user."""
    run, models = tmp_path / "run", tmp_path / "models"
    changes = [f"--set={change}" for change in ("neutral=true", "piece_weight=1", "epochs=3")]
    trained = call(
        *("train", "--config", "smoke", "--name", "three", "--data", data, "--run", run),
        *("--answers", answers, "--set=silent_texts=40", "--set=piece_count=1", *changes),
        *("--set=batch_tokens=1024", "--set=ngram_embeddings=256", "--set=ngram_lookup=bigram"),
    )
    assert trained == 0
    assert call("export", "--run", run, "--models", models) == 0
    folder = models / "three" / "1"
    encoder = TextEncoder.load(folder / "tokenizer.json")
    answer = OnnxModel(folder / "model.onnx").score([encoder.encode("it opens at 13").ids])
    assert answer.argmax() == 1
    assert call("evaluate", folder, "--data", data) == 0
    manifest = read_manifest(folder)
    assert manifest.labels == ("negative", "neutral", "positive")
    assert manifest.metrics["test"]
