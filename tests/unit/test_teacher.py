"""The teacher: what it says of a text it has not learned from, and what a pupil keeps of it."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.special import softmax

from app.errors import DataError
from app.text.padding import Int32Array
from app.text.vocabulary import BEGIN
from tests.corpus import write_tsv_folder
from training.configs import load_config
from training.data.dataset import Source, load_dataset
from training.data.preprocessing import encode
from training.distillation.teacher import Material, Taught, teach
from training.features.ngram_hashing import draw_numbers, list_ngrams
from training.features.ngram_vectors import NgramVectors, know_ngrams
from training.features.region_vectors import RegionVectors
from training.features.store import Known
from training.fit.checkpoints import WorkingFolder
from training.models.build import NGRAMS
from training.models.predict import predict
from training.reports.scores import log_loss
from training.support.arrays import Probabilities
from training.train import train

VOCABULARY = 40
BUCKETS = 2**10


@pytest.fixture(autouse=True)
def _few_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for what 40 words make; the 16 million of real use take seconds to count."""
    monkeypatch.setattr("training.features.ngram_vectors.KNOWN_BUCKETS", 2**14)


def write_rows(targets: Sequence[int], *, seed: int = 1) -> list[Int32Array]:
    """Rows of chance words, with a word of their class in each."""
    random = np.random.default_rng(seed)
    return [
        np.array([BEGIN, *random.integers(10, 30, 6), 30 + target], np.int32) for target in targets
    ]


def ask(
    rows: list[Int32Array],
    targets: Sequence[int],
    groups: Sequence[object],
    *,
    folder: Path | None = None,
    network: bool = False,
) -> Taught:
    """A teacher of two or three classes; the unlabelled texts are the labelled ones again."""
    classes = max(targets) + 1
    material = Material(rows, np.array(targets), groups, rows, classes, VOCABULARY, seed=5)  # type: ignore[arg-type]
    words = np.random.default_rng(1).standard_normal((VOCABULARY, 8)).astype(np.float32)
    with tempfile.TemporaryDirectory() as temporary:
        once = WorkingFolder(folder or Path(temporary)).once

        def know() -> NgramVectors:
            return know_ngrams(lambda: rows, vocabulary=VOCABULARY, seed=5, once=once)

        def known() -> Known:
            regions = RegionVectors(words, np.zeros(8, np.float32))
            return Known(know(), regions, words)

        return teach(
            material,
            know,
            known if network else None,
            orders=2,
            buckets=BUCKETS,
            once=once,
        )


@pytest.mark.parametrize("classes", [2, 3])
def test_it_learns(classes: int) -> None:
    """Where a word gives the class away, nearly every text is told right, out of fold too."""
    targets = [i % classes for i in range(120)]
    taught = ask(write_rows(targets), targets, [None] * 120)
    for said in (taught.labelled, taught.unlabelled):
        assert said.shape == (120, classes)
        np.testing.assert_allclose(said.sum(axis=1), 1, atol=1e-5)
        assert (said.argmax(axis=1) == targets).mean() > 0.95


def test_a_network_learns_what_stands_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network beside the linear models answers every text, and is asked once for each fold.

    What it said stays in the working folder: asked again, the teacher says the same at once.
    """
    monkeypatch.setattr(
        "training.distillation.teacher.FOLDS", 2
    )  # a network is traced anew for each
    targets = [i % 2 for i in range(160)]
    rows = write_rows(targets)
    taught = ask(rows, targets, [None] * 160, folder=tmp_path, network=True)
    assert (taught.labelled.argmax(axis=1) == targets).mean() > 0.95
    assert (taught.unlabelled.argmax(axis=1) == targets).mean() > 0.95
    kept = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sum(name.startswith("convolution") for name in kept) == 2
    again = ask(rows, targets, [None] * 160, folder=tmp_path, network=True)
    np.testing.assert_array_equal(taught.labelled, again.labelled)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept


def test_a_group_is_not_told_by_itself() -> None:
    """A word of one group alone tells nothing of that group, however often the group stands."""
    random = np.random.default_rng(2)
    groups = [i // 6 for i in range(120)]
    labels = random.permutation([0, 1] * 10)
    targets = [int(labels[group]) for group in groups]
    rows = [np.array([BEGIN, 10 + g, 10 + g, 10 + g], np.int32) for g in groups]

    def right(groups: Sequence[object]) -> float:
        said = ask(rows, targets, groups).labelled.argmax(axis=1)
        return float((said == targets).mean())

    assert right([None] * 120) > 0.95
    assert right(groups) < 0.7


@pytest.mark.parametrize(
    ("targets", "groups", "message"),
    [
        ([0, 1] * 20, [i % 4 for i in range(40)], "of 5 groups or more"),
        ([0, 1] * 20 + [2], [None] * 41, "every label must stand in two of them"),
        ([0, 1] * 20 + [2] * 3, [None] * 40 + ["one"] * 3, "every label must stand in two of them"),
    ],
    ids=["few groups", "one text of a label", "one group of a label"],
)
def test_too_few_texts(
    targets: list[int], groups: list[object], message: str, tmp_path: Path
) -> None:
    """Texts that no fold of which can be told from the others are refused before any work."""
    with pytest.raises(DataError, match=message):
        ask(write_rows(targets), targets, groups, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_labels_by_turns() -> None:
    """Five labels that stand by turns do not each end in a fold of their own."""
    targets = [i % 5 for i in range(150)]
    said = ask(write_rows(targets), targets, [None] * 150).labelled
    assert (said.argmax(axis=1) == targets).mean() > 0.9


def test_words_that_stand_once() -> None:
    """Where no n-gram is frequent enough for a vector, the counts alone teach."""
    rows = [np.array([BEGIN, 10 + i], np.int32) for i in range(VOCABULARY - 10)]
    targets = [i % 2 for i in range(len(rows))]
    taught = ask([rows[0], *rows], [0, *targets], [None] * (1 + len(rows)))
    assert taught.labelled[0, 0] > 0.5
    assert taught.table.any()


def test_it_is_a_table() -> None:
    """What it says of an unlabelled text is the sum of its table over the root of the n-grams."""
    targets = [0, 1] * 40
    rows = write_rows(targets)
    taught = ask(rows, targets, [None] * 80)
    cells = list_ngrams(
        rows[3], draw_numbers(VOCABULARY, orders=2, buckets=BUCKETS), buckets=BUCKETS
    )
    logits = taught.table[cells].sum(axis=0) / np.sqrt(len(cells)) + taught.bias
    np.testing.assert_allclose(taught.unlabelled[3], softmax(logits), rtol=1e-4)


def test_the_seed_decides() -> None:
    """The same texts and seed give the same teacher."""
    targets = [0, 1] * 30
    first, second = (ask(write_rows(targets), targets, [None] * 60) for _ in range(2))
    for name in ("table", "bias", "labelled", "unlabelled"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_a_pupil_carries_its_teacher(tmp_path: Path) -> None:
    """The kept model has the teacher's n-grams beside its network, and fits validation better.

    Neither the network alone nor the n-grams alone gives the labels a higher likelihood.
    """
    dataset = load_dataset(
        Source(str(write_tsv_folder(tmp_path, train=160, test=10))), validation_share=0.2, seed=7
    )
    smoke = load_config("smoke").replace(epochs=1, units=4, embedding_dim=4)
    pupil = smoke.replace(teacher="linear", ngram_logits=2, ngram_logits_buckets=BUCKETS)
    path = tmp_path / "pupil.keras"
    trained = train(
        pupil, dataset.train, dataset.validation, path, unlabelled=["so good", "so bad"]
    )
    model = keras.models.load_model(path, compile=False)
    rows = encode(trained.encoder, dataset.validation, "")

    def loss() -> float:
        answers: Probabilities = predict(model, rows)
        return log_loss(answers, np.array(dataset.validation.targets()))

    together, ngrams, output = loss(), model.get_layer(NGRAMS), model.get_layer("output")
    table, weights = ngrams.table, output.get_weights()
    assert table.any()
    ngrams.table = np.zeros_like(table)
    assert together <= loss()
    ngrams.table = table
    output.set_weights([0 * weights[0], weights[1]])
    assert together <= loss() + 1e-6


def test_a_certain_pupil_carries_its_teacher(tmp_path: Path) -> None:
    """A network that answers with probabilities of exactly 0 is weighed as any other is."""
    dataset = load_dataset(
        Source(str(write_tsv_folder(tmp_path, train=160, test=10))), validation_share=0.2, seed=7
    )
    smoke = load_config("smoke").replace(epochs=1, units=4, embedding_dim=4, ema_momentum=0.0)
    pupil = smoke.replace(teacher="linear", ngram_logits=2, ngram_logits_buckets=BUCKETS)
    path = tmp_path / "pupil.keras"

    class Certain(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            output = self.model.get_layer("output")
            output.set_weights([np.sign(weights) * 1e4 for weights in output.get_weights()])

    train(
        *(pupil, dataset.train, dataset.validation, path),
        unlabelled=["so good", "so bad"],
        callbacks=[Certain()],
    )
    of_network = keras.models.load_model(path, compile=False).get_layer("output").get_weights()
    assert all(np.abs(weights).max() < 1e3 for weights in of_network)
