"""Export writes a complete version that agrees with the trained model, or nothing."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from app.artifact import Reliability, read_golden, read_manifest, verify_files
from app.errors import DataError, InvalidInput, UnusableVersion
from app.text.encoder import TextEncoder
from tests.corpus import make_corpus, write_csv, write_tsv_folder
from tests.deferred import deferred
from tests.trained import Workshop, call
from training.config import Config
from training.configs import load_config

with deferred():
    import keras
    import tensorflow as tf

    from training.data.dataset import Source, load_dataset
    from training.export import saved_model
    from training.export.export import check_parity, export
    from training.export.runtimes import ExportedModel
    from training.fit.run import Run
    from training.models.layers.short_temperature import short_factors
    from training.models.predict import predict
    from training.reports.calibration import fit_temperature, rescale
    from training.reports.report import Report
    from training.train import train_run


def contents(folder: Path) -> list[str]:
    """Every path below a folder, hidden files included."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


class Again(NamedTuple):
    """What became of one more export of `bow`, beside its version 4.

    Attributes:
        version: The new version.
        encoded: The texts that were tokenized.
        tensor_float_32: Whether TensorFloat-32, which was on before, is on.
    """

    version: Path
    encoded: set[str]
    tensor_float_32: bool


@pytest.fixture(scope="module")
def again(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Again:
    """Export `bow` once more, without a report. Do not write."""
    models, encoded, tokenize = tmp_path_factory.mktemp("models"), set(), TextEncoder.tokenize
    shutil.copytree(workshop.models / "bow" / "1", models / "bow" / "4")

    def watch(encoder: TextEncoder, text: str) -> list[str]:
        encoded.add(text)
        return tokenize(encoder, text)

    tf.config.experimental.enable_tensor_float_32_execution(True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextEncoder, "tokenize", watch)
        patch.setattr("training.export.export.write_report", lambda *_: None)
        version = export(workshop.runs / "bow", models)
    return Again(version, encoded, tf.config.experimental.tensor_float_32_execution_enabled())


@pytest.mark.parametrize("name", ["lstm", "bow"])
def test_files_of_a_version(workshop: Workshop, name: str) -> None:
    """A version has every file of the contract, and all of them are in the manifest."""
    folder = workshop.models / name / "1"
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    assert set(manifest.files) >= {
        *("saved_model.pb", "variables/variables.index", "tokenizer.json", "golden.jsonl"),
        *("report/metrics.json", "report/report.html", "report/curves.png", "report/roc.png"),
        *("report/confusion_matrix.png", "report/lengths.png", "report/reliability.png"),
    }
    assert manifest.labels == ("negative", "positive")
    assert set(manifest.metrics) == {"validation"}
    assert set(manifest.metrics["validation"]) == {"tensorflow", "onnx"}
    assert manifest.metrics["validation"]["tensorflow"]["accuracy"] > 0.9
    assert manifest.baseline is not None
    assert sum(manifest.baseline.labels) == manifest.data.counts["validation"]


def test_golden_rows(workshop: Workshop) -> None:
    """The golden texts are short and long, without a known word, beyond ASCII, and with markup."""
    rows = read_golden(workshop.models / "lstm" / "1")
    encoder = ExportedModel(workshop.models / "lstm" / "1").encoder
    encoded = [encoder.encode(row.text) for row in rows]
    assert len(rows) == 22
    assert any(e.truncated for e in encoded)
    assert any(e.tokens <= 2 for e in encoded)
    assert any(e.unknown == e.tokens for e in encoded)
    assert any(not row.text.isascii() for row in rows)
    assert any("<br" in row.text for row in rows)


def test_test_texts_are_not_scored(workshop: Workshop, again: Again) -> None:
    """Export compares the fingerprint of the test texts, and never encodes them."""
    source = Source(str(workshop.data))
    assert again.encoded.isdisjoint(source.read("test").texts())
    assert not again.encoded.isdisjoint(source.read("train").texts())


def test_the_report_of_an_export(workshop: Workshop) -> None:
    """The report has the training history, and the SavedModel's metrics on validation."""
    folder = workshop.models / "lstm" / "1"
    manifest, report = read_manifest(folder), Report.read(folder / "report")
    validation = report.splits["validation"]
    assert validation["of"] == "40 texts of data train, held out"
    assert validation["metrics"] == manifest.metrics["validation"]["tensorflow"]
    assert report.metrics == manifest.metrics
    assert report.settings["units"] == manifest.hyperparameters["model"]["units"]
    assert report.lengths["texts"] == 360
    assert report.history["val_loss"]


@pytest.mark.parametrize("name", ["lstm", "bow"])
def test_calibration_does_no_harm(workshop: Workshop, name: str) -> None:
    """The temperature does not make the log loss on validation worse."""
    found = Report.read(workshop.models / name / "1" / "report").calibration
    assert found["validation_after"]["log_loss"] <= found["validation_before"]["log_loss"] + 1e-6


def test_no_path_of_the_machine(workshop: Workshop) -> None:
    """No file of a version contains a path of the machine that wrote it."""
    home = str(Path(__file__).parents[2]).encode()
    for path in (workshop.models / "lstm" / "1").rglob("*"):
        assert path.is_dir() or home not in path.read_bytes(), path.name
        assert path.is_dir() or str(workshop.data).encode() not in path.read_bytes(), path.name


def test_versions_count_up(workshop: Workshop, again: Again) -> None:
    """The next version is one above the highest; an existing version is never overwritten."""
    assert again.version.name == "5"
    models = again.version.parents[1]
    before = contents(models)
    with pytest.raises(InvalidInput, match="bow/4 exists"):
        export(workshop.runs / "bow", models, version=4)
    assert contents(models) == before


@pytest.mark.usefixtures("no_report")
def test_other_labels_than_the_newest_version(workshop: Workshop, tmp_path: Path) -> None:
    """Other labels than those of the newest version, or another order, need `new_labels`."""
    newest = tmp_path / "models" / "bow" / "3"
    shutil.copytree(workshop.models / "bow" / "1", newest)
    manifest = json.loads((newest / "manifest.json").read_text())
    for labels in (["positive", "negative"], ["bad", "good"], ["negative", "neutral", "positive"]):
        content = manifest | {"version": 3, "labels": labels, "baseline": None}
        (newest / "manifest.json").write_text(json.dumps(content))
        before = contents(tmp_path)
        with pytest.raises(InvalidInput, match=f"bow/3 in their order, {', '.join(labels)}"):
            export(workshop.runs / "bow", tmp_path / "models")
        assert contents(tmp_path) == before
    folder = export(workshop.runs / "bow", tmp_path / "models", new_labels=True)
    assert (folder.name, read_manifest(folder).labels) == ("4", ("negative", "positive"))
    assert {row.labels for row in read_golden(folder)} == {("negative", "positive")}


def test_the_data_of_a_run_is_found_from_any_folder(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run stores where its data is, and data that has moved is named in one sentence."""
    monkeypatch.chdir(workshop.data.parent)
    source = Source(workshop.data.name, test_path="test.csv")
    assert source.absolute() == Source(str(workshop.data), test_path=f"{Path.cwd()}/test.csv")
    assert Path(Run.read(workshop.runs / "lstm").source.path).is_absolute()
    run = tmp_path / "run"
    shutil.copytree(workshop.runs / "lstm", run)
    moved = json.loads((run / "run.json").read_text())
    moved["source"]["path"] = "data/imdb"
    (run / "run.json").write_text(json.dumps(moved))
    with pytest.raises(DataError, match=rf"{Path.cwd()}/data/imdb, which does not exist; name"):
        export(run, tmp_path / "models")
    assert contents(tmp_path / "models") == []


def test_disagreement_leaves_nothing(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the SavedModel differs by more than `PARITY`, nothing is written."""

    class Off(saved_model.ServingGraph):
        def __call__(self, ids: Any, lengths: Any) -> Any:
            return np.float32([[2e-5, -2e-5]]) + super().__call__(ids, lengths)

    monkeypatch.setattr(saved_model, "ServingGraph", Off)
    with pytest.raises(UnusableVersion, match=r"within 1e-05 .* Received: 2"):
        export(workshop.runs / "lstm", tmp_path / "models")
    assert contents(tmp_path) == []


def test_full_precision(again: Again) -> None:
    """Export switches TensorFloat-32 off, so golden rows are the same on GPU and CPU."""
    assert not again.tensor_float_32


@pytest.mark.parametrize("answer", [0.50002, float("nan")])
def test_parity(answer: float) -> None:
    """A difference above 1e-5, or NaN, is an error."""
    with pytest.raises(UnusableVersion):
        check_parity("serve_ids", np.array([[answer]]), np.array([[0.5]]))


def test_the_temperature_is_the_one_of_validation(workshop: Workshop) -> None:
    """The manifest's temperature was fitted on validation, and is the one in the graph.

    The recipe has another one for short texts, which is in the graph as well.
    """
    run = Run.read(workshop.runs / "lstm")
    config = Config.from_mapping(run.config)
    data = load_dataset(
        run.source, validation_share=config.loop.validation_share, seed=config.seed
    ).validation
    model = keras.models.load_model(workshop.runs / "lstm" / "model.keras", compile=False)
    exported = ExportedModel(workshop.models / "lstm" / "1")
    rows = [exported.encoder.encode(text).ids for text in data.texts()]
    unscaled = predict(model, rows).astype(np.float64)
    unscaled = rescale(unscaled, 1 / short_factors(rows, config.model.short_temperature))
    expected = fit_temperature(unscaled, np.array(data.targets(), np.int32))
    manifest = read_manifest(workshop.models / "lstm" / "1")
    assert manifest.temperature == pytest.approx(expected, rel=1e-6)
    assert manifest.temperature != pytest.approx(1.0, rel=0.01)
    np.testing.assert_allclose(exported.score(rows), rescale(unscaled, expected), atol=1e-3)


@pytest.mark.usefixtures("no_report")
def test_another_temperature_of_short_texts(workshop: Workshop, tmp_path: Path) -> None:
    """It can be chosen after the training: answers change with it, and the manifest has it."""
    run, texts = workshop.runs / "lstm", ["so good", "bad", "never again"]
    answers = []
    for short in ("0.5", "1"):
        models = tmp_path / short
        exported = call("export", "--run", run, "--models", models, "--short-temperature", short)
        assert exported == 0
        folder = models / "lstm" / "1"
        manifest, model = read_manifest(folder), ExportedModel(folder)
        assert manifest.hyperparameters["model"]["short_temperature"] == float(short)
        assert any("more confident" in limit for limit in manifest.limits) is (short == "0.5")
        answers.append(model.score([model.encoder.encode(text).ids for text in texts]))
    assert (answers[0].argmax(1) == answers[1].argmax(1)).all()
    assert (answers[0].max(1) > answers[1].max(1) + 0.01).all()
    assert call("export", "--run", run, "--models", tmp_path, "--short-temperature", "9") == 2


def test_other_test_texts(workshop: Workshop, tmp_path: Path) -> None:
    """Test texts that the training did not hold out are rejected."""
    learned = write_csv(tmp_path / "learned.csv", make_corpus(30, seed=1))
    source = Source(str(workshop.data), test_path=str(learned))
    with pytest.raises(DataError, match="must have the fingerprint"):
        export(workshop.runs / "lstm", tmp_path / "models", source=source)
    assert contents(tmp_path) == ["learned.csv"]


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.keras", lambda _: None),
        ("model.keras", lambda _: b""),
        ("model.keras", lambda _: b"PK no model"),
        ("model.keras", lambda content: content[: len(content) // 2]),
        ("model.keras", lambda content: content.replace(b"config", b"cOnfig")),
        ("model.keras", lambda content: content[:9000] + bytes(100) + content[9100:]),
        ("tokenizer.json", lambda _: None),
        ("tokenizer.json", lambda content: content[:-9]),
        ("run.json", lambda content: content.replace(b'"val_loss": [', b'"val_loss": [null, ')),
        ("run.json", lambda content: content.replace(b'"val_loss"', b'"other"')),
        ("run.json", lambda content: content.replace(b'"fingerprint": "', b'"fingerprint": "?')),
        ("run.json", lambda content: content.replace(b'"labels": [', b'"labels": [1, ')),
    ],
)
def test_a_damaged_run(
    workshop: Workshop, tmp_path: Path, name: str, damage: Callable[[bytes], bytes | None]
) -> None:
    """If a file of a run is missing or damaged, the error names the run and the file."""
    run = tmp_path / "run"
    shutil.copytree(workshop.runs / "lstm", run)
    content = damage((run / name).read_bytes())
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    with pytest.raises(DataError, match=re.escape(name)) as refused:
        export(run, tmp_path / "models")
    assert str(run) in str(refused.value)


def test_other_data(workshop: Workshop, tmp_path: Path) -> None:
    """Data that the model was not trained on is rejected."""
    other = Source(str(write_tsv_folder(tmp_path / "other", train=60, test=20, seed=9)))
    with pytest.raises(DataError, match="fingerprint"):
        export(workshop.runs / "lstm", tmp_path / "models", source=other)


@pytest.mark.usefixtures("no_report")
def test_three_classes_from_one_file(tmp_path: Path) -> None:
    """A CSV file with three labels and no test texts can be trained on and exported."""
    labels = ("negative", "neutral", "positive")
    path = write_csv(tmp_path / "mine.csv", make_corpus(240, seed=4, labels=labels))
    config = load_config("smoke").replace(
        name="three", epochs=1, architecture="embedding", hidden=(4,), truncation="post"
    )
    train_run(config, Source(str(path)), tmp_path / "run")
    folder = export(tmp_path / "run", tmp_path / "models")
    manifest = read_manifest(folder)
    assert manifest.labels == labels
    assert set(manifest.metrics) == {"validation"}
    assert ExportedModel(folder).score_texts(["so-so"]).shape == (1, 3)
    check_engines(folder, architecture="embedding")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"cell": "gru", "bidirectional": True, "pooling": "last", "ngram_logits": 2},
            marks=pytest.mark.slow,
        ),
        {"cell": "simple", "cleaning": "alphanumeric", "length_rule": "deviations"},
        {"architecture": "bow", "ngram_logits": 3, "nb_weighting": True},
    ],
    ids=["gru", "simple", "n-grams"],
)
@pytest.mark.usefixtures("no_report")
def test_every_architecture(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Every architecture is exported for both engines, and their answers agree."""
    data = write_tsv_folder(tmp_path / "data", train=80, test=20)
    config = load_config("smoke").replace(epochs=1, ngram_logits_buckets=256, **changes)
    train_run(config, Source(str(data)), tmp_path / "run")
    folder = export(tmp_path / "run", tmp_path / "models")
    check_engines(folder, architecture=config.model.architecture)


def check_engines(folder: Path, *, architecture: str) -> None:
    """Check that a version is whole, and that the answers of both engines agree."""
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    precision = manifest.engines["onnx"]["precision"]
    assert (precision, manifest.architecture) == ("fp32", architecture)
    for row in read_golden(folder):
        np.testing.assert_allclose(row.expected("onnx"), row.probabilities, atol=1e-5)


def test_any_tensorflow_program_can_use_it(workshop: Workshop, tmp_path: Path) -> None:
    """TensorFlow alone, without this project, loads a version and scores raw text."""
    version = workshop.models / "lstm" / "1"
    row = read_golden(version)[0]
    program = (
        "import sys, tensorflow as tf\n"
        "score = tf.saved_model.load(sys.argv[1]).signatures['serving_default']\n"
        "print(*score(text=tf.constant([sys.argv[2]]))['probabilities'].numpy()[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(version), row.text],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    np.testing.assert_allclose(
        [float(p) for p in done.stdout.split()], row.probabilities, atol=1e-5
    )


@pytest.mark.slow
def test_the_rule_of_a_version(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest has the rule that was measured, and the baseline counts by it."""
    rule = Reliability(max_unknown_share=0.0, min_known_tokens=10**6, measured={"level": 0.7})
    monkeypatch.setattr("training.export.export.measure_rule", lambda *_, **__: rule)
    manifest = read_manifest(export(workshop.runs / "bow", tmp_path))
    assert manifest.reliability == rule
    assert manifest.baseline is not None
    assert manifest.baseline.labels == (40, 0)
