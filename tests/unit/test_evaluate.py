"""What `evaluate` finds, and what becomes of it."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.artifact import (
    digest,
    list_files,
    read_golden,
    read_manifest,
    verify_files,
    write_golden,
    write_manifest,
)
from app.errors import CannotWrite, DataError, InvalidInput, UnusableVersion
from app.serving.engines import EngineOptions, choose_engine
from tests.corpus import Sample, make_corpus, write, write_csv
from tests.deferred import deferred
from tests.trained import Workshop, call
from training.support import files

with deferred():
    from training.data.dataset import Source
    from training.evaluation import record
    from training.evaluation.evaluate import Evaluation, EvaluationRequest, evaluate_version
    from training.evaluation.served import ServedVersion
    from training.export.runtimes import ExportedModel, OnnxModel
    from training.reports.calibration import fit_temperature, rescale
    from training.reports.report import Report
    from training.reports.scores import measure

SERVING = choose_engine(EngineOptions())
"""The engine that the service chooses on this machine."""


@pytest.fixture(scope="module")
def own(workshop: Workshop) -> EvaluationRequest:
    """The test texts of the versions of the workshop."""
    return EvaluationRequest(Source(str(workshop.data)))


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> EvaluationRequest:
    """Texts that no version knows of."""
    known = make_corpus(400, seed=1)
    new = [sample for sample in make_corpus(70, seed=8) if sample not in known]
    path = write_csv(tmp_path_factory.mktemp("mine") / "mine.csv", new[:60])
    return EvaluationRequest(Source(str(path)), "train")


@pytest.fixture(scope="module")
def evaluated(
    workshop: Workshop, own: EvaluationRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Evaluation]:
    """A version that was evaluated on its test texts, and what was found. Do not write."""
    folder = copy_version(workshop, tmp_path_factory.mktemp("models"))
    return folder, evaluate_version(folder, own)


def copy_version(
    workshop: Workshop,
    models: Path,
    name: str = "lstm",
    *,
    number: int = 1,
    without: Sequence[str] = (),
    **changes: Any,
) -> Path:
    """A version of the workshop to write to, under a number, with changes of its manifest."""
    source, folder = workshop.models / name / "1", models / name / str(number)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*without))
    if "labels" in changes:
        rows = read_golden(source)
        write_golden(folder, [row.model_copy(update={"labels": changes["labels"]}) for row in rows])
    manifest = read_manifest(source)
    write_manifest(folder, manifest.model_copy(update={"version": number, **changes}))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def never(*_arguments: object) -> None:
    """What must not be called."""
    raise AssertionError


# --- calibration ---


def test_temperature_is_found_again() -> None:
    """Labels drawn from probabilities that were then sharpened give the sharpening back."""
    generator = np.random.default_rng(5)
    honest = generator.dirichlet([1, 1, 1], size=20_000)
    targets = np.array([generator.choice(3, p=p) for p in honest], np.int32)
    sharpened = rescale(honest, 0.5)
    assert fit_temperature(sharpened, targets) == pytest.approx(2.0, rel=0.05)


def test_rescaling_changes_no_label() -> None:
    """A temperature moves confidence, never the order of labels; 1 moves nothing."""
    probabilities = np.random.default_rng(1).dirichlet([1, 1, 1], size=50)
    np.testing.assert_allclose(rescale(probabilities, 1.0), probabilities, atol=1e-12)
    warm = rescale(probabilities, 3.0)
    assert (warm.argsort(axis=1) == probabilities.argsort(axis=1)).all()
    np.testing.assert_allclose(warm.sum(axis=1), 1)


# --- the version's own test texts ---


def test_test_figures_go_into_the_version(
    workshop: Workshop, evaluated: tuple[Path, Evaluation]
) -> None:
    """Manifest and report get what each engine scores on test; validation stays as it was."""
    folder, found = evaluated
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    assert manifest.metrics["test"] == found.metrics
    assert set(found.metrics) == {"tensorflow", "onnx"}
    before = read_manifest(workshop.models / "lstm" / "1")
    assert manifest.metrics["validation"] == before.metrics["validation"]
    report = Report.read(folder / "report")
    assert (report.metrics, list(report.splits)) == (manifest.metrics, ["validation", "test"])
    assert report.splits["test"]["of"] == "100 texts of data test"
    assert "100 texts of data test" in (folder / "report" / "report.html").read_text()
    assert (found.recorded, found.own) == (False, True)


def test_only_manifest_and_report_change(
    workshop: Workshop, evaluated: tuple[Path, Evaluation]
) -> None:
    """The model, its tokenizer and its golden rows are the same bytes, and nothing lies beside."""
    folder, _ = evaluated
    before, after = contents(workshop.models / "lstm" / "1"), contents(folder)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert "manifest.json" in changed
    assert all(name == "manifest.json" or name.startswith("report/") for name in changed)
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_figures_are_those_of_the_exported_files(
    workshop: Workshop, evaluated: tuple[Path, Evaluation]
) -> None:
    """Batched as in service, a version scores what its SavedModel and its ONNX graph score."""
    folder, found = evaluated
    corpus = Source(str(workshop.data)).read("test")
    exported, targets = ExportedModel(folder), np.array(corpus.targets(), np.int32)
    rows = [exported.encoder.encode(text).ids for text in corpus.texts()]
    models: dict[str, ExportedModel | OnnxModel]
    models = {"tensorflow": exported, "onnx": OnnxModel(folder / "model.onnx")}
    for engine, model in models.items():
        expected = measure(model.score(rows), targets, corpus.labels)
        assert found.metrics[engine] == pytest.approx(expected, abs=1e-5)


def test_the_engine_that_serves_is_described(evaluated: tuple[Path, Evaluation]) -> None:
    """Pictures and intervals are of the engine that the service would choose; it comes first."""
    _, found = evaluated
    assert next(iter(found.metrics)) == found.split["engine"] == SERVING


def test_test_is_read_once(
    evaluated: tuple[Path, Evaluation], own: EvaluationRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again, the version reads out its figures, and no model is loaded."""
    folder, first = evaluated
    before = contents(folder)
    monkeypatch.setattr(ServedVersion, "load", never)
    second = evaluate_version(folder, own)
    assert second.recorded
    assert second.metrics == first.metrics
    assert second.split == Report.read(folder / "report").splits["test"]
    assert contents(folder) == before


def test_test_is_told_by_its_texts(
    workshop: Workshop, evaluated: tuple[Path, Evaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same texts under another name are the test texts still, and are not read again."""
    monkeypatch.setattr(ServedVersion, "load", never)
    alone = Source(str(workshop.data / "test.tsv"))
    assert evaluate_version(evaluated[0], EvaluationRequest(alone, "train")).recorded


def test_a_version_from_before_such_reports(
    workshop: Workshop, own: EvaluationRequest, tmp_path: Path
) -> None:
    """Test figures in a manifest count as read, whoever wrote them."""
    old = {"test": {"tensorflow": {"accuracy": 0.5}}}
    folder = copy_version(workshop, tmp_path, "bow", metrics=old)
    found = evaluate_version(folder, own)
    assert (found.recorded, found.metrics, found.split) == (True, old["test"], {})


def test_again(workshop: Workshop, own: EvaluationRequest, tmp_path: Path) -> None:
    """Read once more when that is asked for; the new figures replace the old."""
    folder = copy_version(workshop, tmp_path, "bow", metrics={"test": {"onnx": {"accuracy": 0.5}}})
    found = evaluate_version(folder, replace(own, again=True, report=tmp_path / "report"))
    assert not found.recorded
    assert read_manifest(folder).metrics == {"test": found.metrics}
    assert found.metrics["onnx"]["accuracy"] > 0.9
    assert (tmp_path / "report" / "report.html").is_file()


@pytest.mark.parametrize("more", [{"report": Path("x")}, {"against": Path("x")}])
def test_nothing_is_reported_of_what_is_not_read(
    evaluated: tuple[Path, Evaluation], own: EvaluationRequest, more: dict[str, Any]
) -> None:
    """A report or a comparison needs the answers, which are not there any more."""
    with pytest.raises(InvalidInput, match=r"is scored once .* need --again"):
        evaluate_version(evaluated[0], replace(own, **more))


def test_readers_see_the_old_version_or_the_new(
    workshop: Workshop, own: EvaluationRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the exchange a service verifies the version without test figures, then with them."""
    folder = copy_version(workshop, tmp_path, "bow")
    seen = []

    def watch() -> None:
        manifest = read_manifest(folder)
        verify_files(folder, manifest)
        seen.append("test" in manifest.metrics)

    def exchange(one: Path, other: Path) -> None:
        watch()
        real(one, other)
        watch()

    real = files.exchange
    monkeypatch.setattr(files, "exchange", exchange)
    evaluate_version(folder, own)
    assert seen == [False, True]


def test_a_failure_leaves_the_version(
    workshop: Workshop, own: EvaluationRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When writing fails, the version is as it was, and nothing lies beside it."""
    folder = copy_version(workshop, tmp_path, "bow")
    before = contents(tmp_path)

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record, "write_manifest", full)
    with pytest.raises(CannotWrite, match="No space"):
        evaluate_version(folder, own)
    assert contents(tmp_path) == before
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


def test_what_was_altered_meanwhile_gets_no_digest(workshop: Workshop, tmp_path: Path) -> None:
    """A file that changed since it was verified is not made good by new digests."""
    folder = copy_version(workshop, tmp_path, "bow")
    manifest = read_manifest(folder)
    (folder / "golden.jsonl").write_text("{}\n")
    with pytest.raises(UnusableVersion, match=r"golden\.jsonl"):
        record.record_test(folder, manifest, {}, {})
    assert [path.name for path in folder.parent.iterdir()] == ["1"]


# --- short texts and capabilities ---


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """A folder of short texts, of two kinds."""
    rows = "A radiant plot.,positive,film\nDull.,negative,film\nA plot.,neutral,even\n"
    return write(tmp_path / "short" / "mine.csv", f"text,label,kind\n{rows}").parent


def test_short_texts_go_into_the_report(
    workshop: Workshop, own: EvaluationRequest, tmp_path: Path, short: Path
) -> None:
    """They are scored beside test, by set and by kind, and are in the report of the version."""
    folder = copy_version(workshop, tmp_path, "bow")
    found = evaluate_version(folder, replace(own, short=short))
    verify_files(folder, read_manifest(folder))
    scores = Report.read(folder / "report").short_texts
    assert scores == found.quality.short_texts
    mine = scores["sets"]["mine"]
    assert (mine["n"], mine["right"], mine["neutral"]) == (2, 2, 1)
    assert list(mine["kinds"]) == ["film", "even"]
    assert "mine film" in (folder / "report" / "report.html").read_text()
    assert (folder / "report" / "reliability_short.png").is_file()


def test_short_texts_can_be_added_later(
    workshop: Workshop,
    evaluated: tuple[Path, Evaluation],
    own: EvaluationRequest,
    tmp_path: Path,
    short: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A version whose test texts were scored gets their figures, once; test is not scored again."""
    folder = tmp_path / "lstm" / "1"
    shutil.copytree(evaluated[0], folder)
    monkeypatch.setattr(ServedVersion, "score", never)
    found = evaluate_version(folder, replace(own, short=short))
    assert found.recorded
    assert Report.read(folder / "report").short_texts == found.quality.short_texts
    assert read_manifest(folder).metrics["test"] == evaluated[1].metrics
    monkeypatch.setattr(ServedVersion, "load", never)
    assert evaluate_version(folder, replace(own, short=short)) == found
    assert evaluate_version(folder, own).quality == found.quality


def test_a_version_that_cannot_be_written(
    evaluated: tuple[Path, Evaluation],
    own: EvaluationRequest,
    short: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The figures of short texts are shown where they cannot be recorded."""

    def read_only(*_arguments: object) -> None:
        raise OSError(30, "Read-only file system")

    before = contents(evaluated[0])
    monkeypatch.setattr(record, "write_report", read_only)
    assert evaluate_version(evaluated[0], replace(own, short=short)).quality.short_texts
    assert contents(evaluated[0]) == before


def test_short_texts_beside_other_texts(
    workshop: Workshop, mine: EvaluationRequest, tmp_path: Path, short: Path
) -> None:
    """Beside texts that are not its test texts they are in the separate report only."""
    folder = workshop.models / "bow" / "1"
    before = contents(folder)
    found = evaluate_version(folder, replace(mine, short=short, report=tmp_path / "report"))
    assert contents(folder) == before
    assert Report.read(tmp_path / "report").short_texts == found.quality.short_texts
    assert found.quality.short_texts["sets"]["mine"]["right"] == 2


def test_capabilities_are_known_since_export(workshop: Workshop) -> None:
    """A version's report has the failure rates of its capabilities before any test is scored."""
    found = Report.read(workshop.models / "lstm" / "1" / "report").capabilities
    assert found["engine"] == "onnx"
    assert {"negation", "typing errors", "order"} <= found["capabilities"].keys()


# --- any other texts ---


def test_other_texts_leave_the_version_alone(
    workshop: Workshop, mine: EvaluationRequest, tmp_path: Path
) -> None:
    """Texts that are not its test texts are scored by one engine and written to the report only."""
    folder = workshop.models / "lstm" / "1"
    before = contents(folder)
    found = evaluate_version(folder, replace(mine, report=tmp_path / "report"))
    assert contents(folder) == before
    assert (list(found.metrics), found.own, found.recorded) == ([SERVING], False, False)
    report = Report.read(tmp_path / "report")
    assert report.splits == {"mine train": found.split}
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("texts", [True, False])
def test_texts_are_repeated_where_that_is_asked_for(
    workshop: Workshop, tmp_path: Path, *, texts: bool
) -> None:
    """A report holds no text; with `texts`, the page of mistakes has their beginnings."""
    wrong = [sample._replace(label="negative") for sample in make_corpus(9, seed=8)]
    path = write_csv(tmp_path / "mine.csv", [*wrong, *make_corpus(9, seed=9)])
    question = EvaluationRequest(
        Source(str(path)), "train", report=tmp_path / "report", texts=texts
    )
    found = evaluate_version(workshop.models / "lstm" / "1", question)
    row = found.split["mistakes"][0]["text"] - 1
    begin = [*wrong, *make_corpus(9, seed=9)][row].text[:12].encode()
    holding = {name for name, content in contents(tmp_path / "report").items() if begin in content}
    assert holding == ({"mistakes.html"} if texts else set())


def test_texts_need_a_report(workshop: Workshop, mine: EvaluationRequest) -> None:
    """There is no other place for them: a version never holds texts of a data set."""
    with pytest.raises(InvalidInput, match="--texts needs --report"):
        evaluate_version(workshop.models / "lstm" / "1", replace(mine, texts=True))


@pytest.mark.parametrize("inside", ["mine", "report", "variables/deep"])
def test_a_report_is_no_part_of_a_version(
    workshop: Workshop, mine: EvaluationRequest, inside: str
) -> None:
    """A report of other texts may not go into a version, whose files are all accounted for."""
    bow = workshop.models / "bow" / "1"
    with pytest.raises(InvalidInput, match="outside of every version"):
        evaluate_version(workshop.models / "lstm" / "1", replace(mine, report=bow / inside))


def test_a_report_is_not_taken_for_a_version(workshop: Workshop, mine: EvaluationRequest) -> None:
    """Beside versions a report may not have a number, which would make it the newest of them."""
    bow = workshop.models / "bow"
    with pytest.raises(InvalidInput, match="where it would be taken for one"):
        evaluate_version(workshop.models / "lstm" / "1", replace(mine, report=bow / "2"))
    assert not (bow / "2").exists()


def test_what_is_no_report_is_not_replaced(
    workshop: Workshop, mine: EvaluationRequest, tmp_path: Path
) -> None:
    """An earlier report is replaced, any other folder is not touched."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInput, match=r"one that holds metrics\.json"):
        evaluate_version(workshop.models / "lstm" / "1", replace(mine, report=tmp_path))
    assert contents(tmp_path) == {"notes.txt": b"mine"}


@pytest.mark.parametrize("engine", ["onnx", "tensorflow"])
def test_an_engine_is_chosen(workshop: Workshop, mine: EvaluationRequest, engine: Any) -> None:
    """The engine that is named answers."""
    found = evaluate_version(workshop.models / "bow" / "1", replace(mine, engine=engine))
    assert list(found.metrics) == [engine]


def test_labels_the_model_has_not(workshop: Workshop, tmp_path: Path) -> None:
    """Texts with other labels cannot be scored, and the message names them."""
    texts = make_corpus(12, seed=3, labels=("negative", "neutral", "positive"))
    source = Source(str(write_csv(tmp_path / "three.csv", texts)))
    with pytest.raises(DataError, match=r"negative, positive\. Received: neutral"):
        evaluate_version(workshop.models / "lstm" / "1", EvaluationRequest(source, "train"))


def test_an_altered_version(workshop: Workshop, mine: EvaluationRequest, tmp_path: Path) -> None:
    """What the service would refuse is not evaluated."""
    folder = copy_version(workshop, tmp_path, "bow")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UnusableVersion, match=r"bow/1: tokenizer\.json must have"):
        evaluate_version(folder, mine)


# --- texts that a version has learned from ---


@pytest.fixture
def mixed(workshop: Workshop, tmp_path: Path) -> EvaluationRequest:
    """30 texts that the versions were trained on, half of them labelled wrongly, then 12 new."""
    known = Source(str(workshop.data)).read("train").texts()[:30]
    samples = [Sample(text, ("negative", "positive")[n % 2]) for n, text in enumerate(known)]
    path = write_csv(tmp_path / "mixed.csv", [*samples, *make_corpus(12, seed=8)])
    return EvaluationRequest(Source(str(path)), "train")


def test_learned_texts_are_left_out(
    workshop: Workshop, mixed: EvaluationRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only new texts are scored, and every row is accounted for; mistakes keep their places."""
    folder = workshop.models / "bow" / "1"
    found = evaluate_version(folder, mixed)
    assert found.split["of"] == "12 texts of mixed train"
    assert (found.rows.read, found.rows.used) == (42, {"scored": 12})
    assert sum((found.learned or {}).values()) == 30
    assert all(row["text"] > 30 for row in found.split["mistakes"])
    assert call("evaluate", folder, "--data", mixed.source.path) == 0
    said = capsys.readouterr()
    assert "Left out: " in said.out
    assert "--include-learned" in said.out
    assert "scored" in said.err


def test_learned_texts_are_scored_where_that_is_asked_for(
    workshop: Workshop, mixed: EvaluationRequest
) -> None:
    """All texts are scored with `include_learned`, and the evaluation says how many are not new."""
    found = evaluate_version(workshop.models / "bow" / "1", replace(mixed, include_learned=True))
    assert found.split["of"] == "42 texts of mixed train"
    assert found.rows.used == {"scored": 42}
    assert sum((found.learned or {}).values()) == 30


def test_nothing_but_learned_texts(workshop: Workshop) -> None:
    """The training file itself is an error with the numbers, and no metric."""
    request = EvaluationRequest(Source(str(workshop.data)), "train")
    with pytest.raises(DataError, match=r"400 rows, all dropped: 360 .* trained on, 40 .*calibrat"):
        evaluate_version(workshop.models / "bow" / "1", request)


def test_an_older_version_cannot_say(
    workshop: Workshop, mixed: EvaluationRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A version without the list of its texts says that it does not know."""
    folder = copy_version(workshop, tmp_path, "bow", without=["learned.bin"])
    assert evaluate_version(folder, mixed).learned is None
    assert call("evaluate", folder, "--data", mixed.source.path) == 0
    assert "did not list the texts of a training" in capsys.readouterr().out


# --- beside another version ---


def test_beside_the_version_before(
    workshop: Workshop, mine: EvaluationRequest, tmp_path: Path
) -> None:
    """It is compared with the highest lower version that loads and has the same labels."""
    copy_version(workshop, tmp_path, number=2)
    copy_version(workshop, tmp_path, number=3, labels=("bad", "good"))
    broken = copy_version(workshop, tmp_path, number=4)
    (broken / "golden.jsonl").unlink()
    found = evaluate_version(copy_version(workshop, tmp_path, number=10), mine)
    against = found.split["against"]
    assert against["version"] == "lstm/2"
    assert (against["only_this_right"], against["only_other_right"]) == (0, 0)
    assert against["mcnemar_p_value"] == 1.0


def test_the_first_version_has_none_before(
    workshop: Workshop, mine: EvaluationRequest, tmp_path: Path
) -> None:
    """Without an earlier version there is nothing to compare with; a later one is none."""
    folder = copy_version(workshop, tmp_path, "bow", number=1)
    copy_version(workshop, tmp_path, "bow", number=2)
    assert evaluate_version(folder, mine).split["against"] is None


def test_beside_a_version_that_is_named(workshop: Workshop, mine: EvaluationRequest) -> None:
    """Any version with the same labels can be named; the counts are of the same texts."""
    lstm, bow = (workshop.models / name / "1" for name in ("lstm", "bow"))
    against = evaluate_version(lstm, replace(mine, against=bow)).split["against"]
    accuracy = evaluate_version(bow, mine).metrics[SERVING]["accuracy"]
    assert against["version"] == "bow/1"
    assert against["its_accuracy"] == pytest.approx(accuracy, abs=1e-6)


def test_beside_a_version_with_other_labels(
    workshop: Workshop, mine: EvaluationRequest, tmp_path: Path
) -> None:
    """A version that is named must have the same labels."""
    other = copy_version(workshop, tmp_path, "bow", labels=("bad", "good"))
    with pytest.raises(DataError, match=r"same labels, negative, positive\. Received: bad, good"):
        evaluate_version(workshop.models / "bow" / "1", replace(mine, against=other))


# --- the command ---


def test_the_command(
    workshop: Workshop, evaluated: tuple[Path, Evaluation], capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures, intervals and where they come from are printed."""
    folder, found = evaluated
    assert call("evaluate", folder, "--data", workshop.data) == 0
    printed = capsys.readouterr().out
    low, high = found.split["intervals"]["macro_f1"]
    for part in (
        "lstm/1, 100 texts of data test",
        "onnx",
        "tensorflow",
        f"{low:.4f} to {high:.4f}",
    ):
        assert part in printed
    assert "The test split is scored once" in printed


def test_the_command_on_short_texts(
    workshop: Workshop, mine: EvaluationRequest, short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sets, kinds and capabilities are printed, whole in 80 columns."""
    version = workshop.models / "bow" / "1"
    assert call("evaluate", version, "--data", mine.source.path, "--short", short) == 0
    printed = capsys.readouterr().out
    for part in ("Short texts", "mine film", "2 of 2", "Capabilities", "typing errors"):
        assert part in printed
    assert "…" not in printed


def test_one_file_is_scored_whole(
    workshop: Workshop, mine: EvaluationRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A single file of texts needs no word on which part of it is meant."""
    version, report = workshop.models / "lstm" / "1", tmp_path / "report"
    options = ["--against", workshop.models / "bow" / "1", "--report", report, "--texts"]
    assert call("evaluate", version, "--data", mine.source.path, *options) == 0
    printed = capsys.readouterr().out
    for part in ("60 texts of mine train", "Compared with bow/1", str(report / "report.html")):
        assert part in printed
    assert (report / "mistakes.html").is_file()


def test_a_file_with_brackets_in_its_name(
    workshop: Workshop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name of the texts is printed as it is, whatever it looks like."""
    path = write_csv(tmp_path / "mine[red].csv", make_corpus(12, seed=8))
    assert call("evaluate", workshop.models / "bow" / "1", "--data", path) == 0
    assert "12 texts of mine[red] train" in capsys.readouterr().out


def test_files_of_a_version_are_verified(evaluated: tuple[Path, Evaluation]) -> None:
    """Every file of an evaluated version has its digest in the manifest."""
    folder, _ = evaluated
    files = read_manifest(folder).files
    assert {name: digest(folder / name) for name in list_files(folder)} == files
