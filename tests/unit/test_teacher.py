"""The teacher: its out-of-fold soft labels, and what a student gets from it."""

import tempfile
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
import pytest

from app.errors import DataError
from app.text.padding import Int32Array
from app.text.vocabulary import BEGIN
from tests.corpus import write_tsv_folder
from tests.deferred import deferred
from training.configs import load_config
from training.data.preprocessing import encode
from training.features.ngram_hashing import hash_ids, list_buckets
from training.support.cache import DiskCache

with deferred():
    import keras
    from scipy.special import softmax

    from training.data.dataset import Source, load_dataset
    from training.distillation.teacher import fit_teacher
    from training.distillation.teacher_data import TeacherInput, TeacherOutput
    from training.features.ngram_vectors import NgramVectors, build_ngram_vectors
    from training.features.region_vectors import RegionVectors
    from training.features.store import ConvolutionVectors
    from training.models.build import NGRAM_LOGITS
    from training.models.predict import predict
    from training.reports.scores import log_loss
    from training.train import train

VOCABULARY = 40
BUCKETS = 2**10


@pytest.fixture(autouse=True)
def _few_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for 40 words; counting the usual 16 million takes seconds."""
    monkeypatch.setattr("training.features.ngram_vectors.MAX_BUCKETS", 2**14)


def write_rows(targets: Sequence[int], *, seed: int = 1) -> list[Int32Array]:
    """Rows of random words, each with a word of its class."""
    random = np.random.default_rng(seed)
    return [
        np.array([BEGIN, *random.integers(10, 30, 6), 30 + target], np.int32) for target in targets
    ]


def fit(
    rows: list[Int32Array],
    targets: Sequence[int],
    groups: Sequence[Hashable] | None = None,
    *,
    folder: Path | None = None,
    network: bool = False,
) -> TeacherOutput:
    """Fit a teacher; by default each text is its own group. Unlabelled texts are the same rows."""
    classes = max(targets) + 1
    groups = range(len(rows)) if groups is None else groups
    data = TeacherInput(rows, np.array(targets), groups, rows, classes, VOCABULARY, seed=5)
    words = np.random.default_rng(1).standard_normal((VOCABULARY, 8)).astype(np.float32)
    with tempfile.TemporaryDirectory() as temporary:
        cache = DiskCache(folder or Path(temporary))

        def vectors() -> NgramVectors:
            return build_ngram_vectors(lambda: rows, vocabulary=VOCABULARY, seed=5, cache=cache)

        def embeddings() -> ConvolutionVectors:
            return ConvolutionVectors(
                vectors(), RegionVectors(words, np.zeros(8, np.float32)), words
            )

        return fit_teacher(
            data,
            vectors,
            embeddings if network else None,
            orders=2,
            buckets=BUCKETS,
            cache=cache,
        )


@pytest.mark.parametrize("classes", [2, 3])
def test_it_learns(classes: int) -> None:
    """On easy texts nearly all soft labels are right, out-of-fold predictions too."""
    targets = [i % classes for i in range(120)]
    teacher = fit(write_rows(targets), targets)
    for soft_labels in (teacher.labelled, teacher.unlabelled):
        assert soft_labels.shape == (120, classes)
        np.testing.assert_allclose(soft_labels.sum(axis=1), 1, atol=1e-5)
        assert (soft_labels.argmax(axis=1) == targets).mean() > 0.95


def test_the_convolution_is_part_of_the_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A convolution is fitted once per fold and labels every text; its predictions are cached."""
    monkeypatch.setattr("training.distillation.teacher.FOLDS", 2)  # each traces its step
    targets = [i % 2 for i in range(160)]
    rows = write_rows(targets)
    teacher = fit(rows, targets, folder=tmp_path, network=True)
    assert (teacher.labelled.argmax(axis=1) == targets).mean() > 0.95
    assert (teacher.unlabelled.argmax(axis=1) == targets).mean() > 0.95
    cached = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sum(name.startswith("convolution") for name in cached) == 2
    again = fit(rows, targets, folder=tmp_path, network=True)
    np.testing.assert_array_equal(teacher.labelled, again.labelled)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == cached


def test_predictions_are_out_of_fold_by_group() -> None:
    """A word that only one group has says nothing about that group: it was not in its folds."""
    random = np.random.default_rng(2)
    groups = [i // 6 for i in range(120)]
    labels = random.permutation([0, 1] * 10)
    targets = [int(labels[group]) for group in groups]
    rows = [np.array([BEGIN, 10 + g, 10 + g, 10 + g], np.int32) for g in groups]

    def accuracy(groups: Sequence[Hashable]) -> float:
        predicted = fit(rows, targets, groups).labelled.argmax(axis=1)
        return float((predicted == targets).mean())

    assert accuracy(range(120)) > 0.95
    assert accuracy(groups) < 0.7


@pytest.mark.parametrize(
    ("targets", "groups", "message"),
    [
        ([0, 1] * 20, [i % 2 for i in range(40)], "of at least 3 groups"),
        ([0, 1] * 20 + [2], range(41), "each class must be in at least two of them"),
        ([0, 1] * 20 + [2] * 3, [*range(40), 40, 40, 40], "each class must be in at least two"),
    ],
    ids=["few groups", "one text of a class", "one group of a class"],
)
def test_too_few_texts(
    targets: list[int], groups: Sequence[int], message: str, tmp_path: Path
) -> None:
    """Texts from which no folds can be made are refused before any model is fitted."""
    with pytest.raises(DataError, match=message):
        fit(write_rows(targets), targets, groups, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_alternating_classes() -> None:
    """Five classes in alternation do not end up in one fold each."""
    targets = [i % 5 for i in range(150)]
    soft_labels = fit(write_rows(targets), targets).labelled
    assert (soft_labels.argmax(axis=1) == targets).mean() > 0.9


def test_rare_words() -> None:
    """If no n-gram is frequent enough for a vector, the teacher learns from counts alone."""
    rows = [np.array([BEGIN, 10 + i], np.int32) for i in range(VOCABULARY - 10)]
    targets = [i % 2 for i in range(len(rows))]
    teacher = fit([*[rows[0]] * 3, *rows], [0, 0, 0, *targets])
    assert teacher.labelled[0, 0] > 0.5
    assert teacher.ngram_logits.any()


def test_linear_teachers_are_a_table() -> None:
    """A soft label is the softmax of the n-gram logits' sum over the root of their number."""
    targets = [0, 1] * 40
    rows = write_rows(targets)
    teacher = fit(rows, targets)
    ngrams = list_buckets(rows[3], hash_ids(VOCABULARY, orders=2, buckets=BUCKETS), buckets=BUCKETS)
    logits = teacher.ngram_logits[ngrams].sum(axis=0) / np.sqrt(len(ngrams)) + teacher.bias
    np.testing.assert_allclose(teacher.unlabelled[3], softmax(logits), rtol=1e-4)


def test_the_same_seed_gives_the_same_teacher() -> None:
    """The same texts and seed give an identical teacher."""
    targets = [0, 1] * 30
    first, second = (fit(write_rows(targets), targets) for _ in range(2))
    for name in ("ngram_logits", "bias", "labelled", "unlabelled"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_student_gets_the_ngram_logits(tmp_path: Path) -> None:
    """The saved model adds the teacher's n-gram logits to its own, weighted by validation loss.

    Neither the network alone nor the n-grams alone has a lower loss.
    """
    dataset = load_dataset(
        Source(str(write_tsv_folder(tmp_path, train=160, test=10))), validation_share=0.2, seed=7
    )
    smoke = load_config("smoke").replace(epochs=1, units=4, embedding_dim=4)
    student = smoke.replace(teacher="linear", ngram_logits=2, ngram_logits_buckets=BUCKETS)
    path = tmp_path / "student.keras"
    trained = train(
        student, dataset.train, dataset.validation, path, unlabelled=["so good", "so bad"]
    )
    model = keras.models.load_model(path, compile=False)
    rows = encode(trained.encoder, dataset.validation, "")

    def loss() -> float:
        return log_loss(predict(model, rows), np.array(dataset.validation.targets()))

    both, ngrams, output = loss(), model.get_layer(NGRAM_LOGITS), model.get_layer("output")
    table, weights = ngrams.table, output.get_weights()
    assert table.any()
    ngrams.table = np.zeros_like(table)
    assert both <= loss()
    ngrams.table = table
    output.set_weights([0 * weights[0], weights[1]])
    assert both <= loss() + 1e-6


def test_a_student_with_probabilities_of_zero(tmp_path: Path) -> None:
    """A network whose probabilities are exactly 0 or 1 gets a finite weight like any other."""
    dataset = load_dataset(
        Source(str(write_tsv_folder(tmp_path, train=160, test=10))), validation_share=0.2, seed=7
    )
    smoke = load_config("smoke").replace(epochs=1, units=4, embedding_dim=4, ema_momentum=0.0)
    student = smoke.replace(teacher="linear", ngram_logits=2, ngram_logits_buckets=BUCKETS)
    path = tmp_path / "student.keras"

    class Certain(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            output = self.model.get_layer("output")
            output.set_weights([np.sign(weights) * 1e4 for weights in output.get_weights()])

    train(
        *(student, dataset.train, dataset.validation, path),
        unlabelled=["so good", "so bad"],
        callbacks=[Certain()],
    )
    of_network = keras.models.load_model(path, compile=False).get_layer("output").get_weights()
    assert all(np.abs(weights).max() < 1e3 for weights in of_network)
