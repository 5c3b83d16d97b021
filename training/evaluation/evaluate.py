"""Results: what an exported version says of labelled texts, and how good that is.

`evaluate_version` asks a version through the code that serves. The test texts that a version's
manifest names are read once, and what was found goes into the version; any other labelled texts
leave it as it is. `ExportedModel` and `OnnxModel` are for export, where there is no version yet.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.artifact import MANIFEST, REPORT, Manifest, read_verified
from app.errors import DataError, InvalidInput, MissingLibrary, UnusableVersion
from training.data.corpus import Corpus
from training.data.dataset import Source
from training.data.formats import SplitName
from training.data.split import fingerprint
from training.evaluation.record import record_test
from training.evaluation.served import EngineName, ServedVersion, list_engines
from training.reports.comparison import Entry
from training.reports.report import (
    METRICS,
    Report,
    describe_paired,
    describe_split,
    render_mistakes,
    write_report,
)
from training.reports.scores import Scored, compare_paired, measure
from training.support.files import written_aside


@dataclass(frozen=True, slots=True)
class Question:
    """What to evaluate on, and what to do with the answer.

    Attributes:
        source: Where the texts are.
        split: Which split of them.
        engine: Which engine answers; `auto` is the one that the service would choose.
        against: A version to compare with; by default the one before, if it has the same labels.
        report: A folder for a report of its own; an earlier report there is replaced.
        texts: Whether that report also gets the beginnings of the texts it got wrong.
        again: Whether test texts that were read before are read again.
        baselines: Whether the version's own test texts are answered by simpler models too.
        leaking: Whether the recipe is also trained and scored on a split that leaks.
    """

    source: Source
    split: SplitName = "test"
    engine: EngineName = "auto"
    against: Path | None = None
    report: Path | None = None
    texts: bool = False
    again: bool = False
    baselines: bool = False
    leaking: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a version scored.

    Attributes:
        version: Name and number, as `lstm/1`.
        texts: What it was asked, as `imdb test`.
        metrics: `metrics[engine][name]`; the engine that serves comes first.
        split: Everything that is known of the answers of the first engine, by `describe_split`;
            empty where a version from before there were such reports was read out.
        recorded: Whether the figures are those that the version already had.
        own: Whether they are of the version's own test texts, and so stand in its manifest.
    """

    version: str
    texts: str
    metrics: Mapping[str, Mapping[str, float]]
    split: Mapping[str, Any]
    recorded: bool
    own: bool


def evaluate_version(folder: Path, question: Question) -> Evaluation:
    """Score an exported version on labelled texts, as it would answer them in service.

    Its own test texts, told by their fingerprint, are read once: every engine that the version has
    scores them, the manifest and the report get what was found, and later calls read that out.

    Args:
        folder: `models/<name>/<version>`.
        question: On what, and what for.

    Raises:
        InvalidInput: The folder for the report is no such folder, or there is nothing to report.
        UnusableVersion: The version, or the one to compare with, does not pass its checks.
        DataError: The data is wrong, or has labels that the model has not.
        MissingLibrary: The library of the engine is not installed.
    """
    _check(question)
    try:
        manifest = read_verified(folder)
    except UnusableVersion as error:
        raise UnusableVersion(f"{folder}: {error}") from error
    corpus = question.source.read(question.split)
    own = fingerprint(corpus) == manifest.data.splits.get("test")
    if question.baselines and not own:
        raise InvalidInput(
            f"--baselines must be of the version's own test texts. Received: {corpus.name}"
        )
    if own and "test" in manifest.metrics and not question.again:
        return _read_out(folder, manifest, corpus, question)
    writing = written_aside(question.report, replaces=METRICS) if question.report else nullcontext()
    with writing as aside:
        other = _find_other(folder, manifest.labels, question)
        engines = list_engines(folder, question.engine)
        answers = {
            engine: ServedVersion.load(folder, engine).score(corpus)
            for engine in (engines if own else engines[:1])
        }
        scored = answers[engines[0]]
        evaluation = Evaluation(
            version=f"{manifest.name}/{manifest.version}",
            texts=corpus.name,
            metrics={
                engine: measure(each.probabilities, each.y_true, each.labels)
                for engine, each in answers.items()
            },
            split=describe_split(
                scored,
                texts=corpus.name,
                engine=engines[0],
                against=_compare(other, scored, corpus) if other else None,
                beside=_list_beside(manifest, question, corpus, scored),
            ),
            recorded=False,
            own=own,
        )
        if aside is not None:
            _write_apart(aside, manifest, evaluation, corpus.texts() if question.texts else None)
        if own:
            record_test(folder, manifest, evaluation.metrics, evaluation.split)
    return evaluation


def _check(question: Question) -> None:
    """Refuse what can be refused before anything is read."""
    if question.texts and question.report is None:
        raise InvalidInput("--texts needs --report: a version never holds texts of a data set")
    if question.leaking and not question.baselines:
        raise InvalidInput("--leaking needs --baselines, in whose table it stands")
    for folder in question.report.resolve().parents if question.report else ():
        if (folder / MANIFEST).is_file():
            raise InvalidInput(
                f"--report must be outside of every version. Received: {question.report}, "
                f"in the version {folder}"
            )
    report = question.report.resolve() if question.report else None
    if report and report.name.isdecimal() and any(report.parent.glob(f"*/{MANIFEST}")):
        raise InvalidInput(
            "--report must not have a number among versions, where it would be taken for one. "
            f"Received: {question.report}"
        )


def _read_out(folder: Path, manifest: Manifest, corpus: Corpus, question: Question) -> Evaluation:
    """What the version already knows of its test texts."""
    if question.report is not None or question.against is not None or question.baselines:
        raise InvalidInput(
            f"the test texts of {manifest.name}/{manifest.version} were read before, and are read "
            f"once; their report is {folder / REPORT / 'report.html'}. For --report, --against or "
            "--baselines add --again"
        )
    return Evaluation(
        version=f"{manifest.name}/{manifest.version}",
        texts=corpus.name,
        metrics=manifest.metrics["test"],
        split=Report.read(folder / REPORT).splits.get("test", {}),
        recorded=True,
        own=True,
    )


def _find_other(folder: Path, labels: tuple[str, ...], question: Question) -> ServedVersion | None:
    """What to compare with: the version that was named, or the nearest before that can answer."""
    if question.against is not None:
        other = ServedVersion.load(question.against, question.engine)
        if set(other.manifest.labels) != set(labels):
            raise DataError(
                f"--against must have the same labels, {', '.join(labels)}. "
                f"Received: {', '.join(other.manifest.labels)}"
            )
        return other
    for earlier in _list_earlier(folder.resolve()):
        try:
            other = ServedVersion.load(earlier, question.engine)
        except (UnusableVersion, MissingLibrary):
            continue
        if set(other.manifest.labels) == set(labels):
            return other
    return None


def _compare(other: ServedVersion, scored: Scored, corpus: Corpus) -> dict[str, Any]:
    """McNemar's test on the same texts."""
    found = compare_paired(scored.right(), other.score(corpus).right())
    return describe_paired(f"{other.manifest.name}/{other.manifest.version}", found)


def _list_beside(
    manifest: Manifest, question: Question, corpus: Corpus, scored: Scored
) -> list[Entry]:
    """The version among simpler models, if that was asked for."""
    if not question.baselines:
        return []
    from training.evaluation.baselines import compare_baselines  # imports scikit-learn, for seconds

    return compare_baselines(manifest, question.source, corpus, scored, leaking=question.leaking)


def _list_earlier(folder: Path) -> Iterator[Path]:
    """The lower versions of the same name, the highest first."""
    numbers = {int(path.name) for path in folder.parent.iterdir() if path.name.isdecimal()}
    for number in sorted(numbers, reverse=True):
        if number < int(folder.name):
            yield folder.parent / str(number)


def _write_apart(
    folder: Path, manifest: Manifest, evaluation: Evaluation, texts: Sequence[str] | None
) -> None:
    """A report that belongs to these texts, not to the version."""
    title = f"{manifest.name} {manifest.version}"
    report = Report(title=title, labels=manifest.labels, limits=manifest.limits)
    write_report(folder, report.with_split(evaluation.texts, evaluation.split, evaluation.metrics))
    if texts is not None:
        page = render_mistakes(f"{title}: mistakes", evaluation.split, texts)
        (folder / "mistakes.html").write_text(page, encoding="utf-8")
