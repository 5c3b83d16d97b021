"""Evaluate an exported version on labelled texts, through the code that serves it.

The test split that a version's manifest names is scored once, and the metrics are recorded in the
version. Scoring any other labelled texts leaves the version unchanged.
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
from training.support.files import atomic_folder


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What to evaluate on, and where the results go.

    Attributes:
        source: The labelled texts.
        split: The split of `source` to score.
        engine: The engine to run; `auto` selects the one that the service would.
        against: A version to compare with. Default: the previous version with the same labels.
        report: A folder to write a separate report into; an earlier report there is replaced.
        texts: Whether that report includes excerpts of misclassified texts.
        again: Whether to score the test split again when its metrics are already recorded.
        baselines: Whether to score simpler models on the version's own test split too.
        leaking: Whether to also train and score the recipe on a split with leakage.
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
    """The results of one evaluation.

    Attributes:
        version: Name and number, such as `lstm/1`.
        texts: The name of the scored texts, such as `imdb test`.
        metrics: `metrics[engine][name]`; the engine that serves comes first.
        split: The details of the first engine's predictions, from `describe_split`; empty for
            versions recorded before such details existed.
        recorded: Whether the metrics were read from the version instead of being computed.
        own: Whether the texts are the version's own test split, whose metrics its manifest holds.
    """

    version: str
    texts: str
    metrics: Mapping[str, Mapping[str, float]]
    split: Mapping[str, Any]
    recorded: bool
    own: bool


def evaluate_version(folder: Path, request: EvaluationRequest) -> Evaluation:
    """Score an exported version on labelled texts, as the service would.

    The version's own test split, recognized by its fingerprint, is scored once, by every engine
    that can run the version. The metrics go into manifest and report, and later calls return them.

    Args:
        folder: `models/<name>/<version>`.
        request: What to score and what to report.

    Raises:
        InvalidInput: The options contradict each other, or the report folder cannot be used.
        UnusableVersion: The version, or the one to compare with, fails its checks.
        DataError: The data is invalid or has labels that the model does not know.
        MissingLibrary: The library of the engine is not installed.
    """
    _check(request)
    try:
        manifest = read_verified(folder)
    except UnusableVersion as error:
        raise UnusableVersion(f"{folder}: {error}") from error
    corpus = request.source.read(request.split)
    own = fingerprint(corpus) == manifest.data.splits.get("test")
    if request.baselines and not own:
        raise InvalidInput(
            f"--baselines must be of the version's own test texts. Received: {corpus.name}"
        )
    if own and "test" in manifest.metrics and not request.again:
        return _read_out(folder, manifest, corpus, request)
    writing = atomic_folder(request.report, replaces=METRICS) if request.report else nullcontext()
    with writing as aside:
        other = _find_other(folder, manifest.labels, request)
        engines = list_engines(folder, request.engine)
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
                beside=_list_beside(manifest, request, corpus, scored),
            ),
            recorded=False,
            own=own,
        )
        if aside is not None:
            _write_apart(aside, manifest, evaluation, corpus.texts() if request.texts else None)
        if own:
            record_test(folder, manifest, evaluation.metrics, evaluation.split)
    return evaluation


def _check(request: EvaluationRequest) -> None:
    """Reject contradicting options before reading any data."""
    if request.texts and request.report is None:
        raise InvalidInput("--texts needs --report: a version never holds texts of a data set")
    if request.leaking and not request.baselines:
        raise InvalidInput("--leaking needs --baselines, in whose table it stands")
    for folder in request.report.resolve().parents if request.report else ():
        if (folder / MANIFEST).is_file():
            raise InvalidInput(
                f"--report must be outside of every version. Received: {request.report}, "
                f"in the version {folder}"
            )
    report = request.report.resolve() if request.report else None
    if report and report.name.isdecimal() and any(report.parent.glob(f"*/{MANIFEST}")):
        raise InvalidInput(
            "--report must not have a number among versions, where it would be taken for one. "
            f"Received: {request.report}"
        )


def _read_out(
    folder: Path, manifest: Manifest, corpus: Corpus, request: EvaluationRequest
) -> Evaluation:
    """Return the metrics that the version already holds."""
    if request.report is not None or request.against is not None or request.baselines:
        raise InvalidInput(
            f"the test split of {manifest.name}/{manifest.version} is scored once and already has "
            f"a report, {folder / REPORT / 'report.html'}; --report, --against and --baselines "
            "need --again"
        )
    return Evaluation(
        version=f"{manifest.name}/{manifest.version}",
        texts=corpus.name,
        metrics=manifest.metrics["test"],
        split=Report.read(folder / REPORT).splits.get("test", {}),
        recorded=True,
        own=True,
    )


def _find_other(
    folder: Path, labels: tuple[str, ...], request: EvaluationRequest
) -> ServedVersion | None:
    """Load the version to compare with: the one named, or the closest earlier usable one."""
    if request.against is not None:
        other = ServedVersion.load(request.against, request.engine)
        if set(other.manifest.labels) != set(labels):
            raise DataError(
                f"--against must have the same labels, {', '.join(labels)}. "
                f"Received: {', '.join(other.manifest.labels)}"
            )
        return other
    for earlier in _list_earlier(folder.resolve()):
        try:
            other = ServedVersion.load(earlier, request.engine)
        except (UnusableVersion, MissingLibrary):
            continue
        if set(other.manifest.labels) == set(labels):
            return other
    return None


def _compare(other: ServedVersion, scored: Scored, corpus: Corpus) -> dict[str, Any]:
    """Compare with another version on the same texts by McNemar's test."""
    found = compare_paired(scored.right(), other.score(corpus).right())
    return describe_paired(f"{other.manifest.name}/{other.manifest.version}", found)


def _list_beside(
    manifest: Manifest, request: EvaluationRequest, corpus: Corpus, scored: Scored
) -> list[Entry]:
    """Score the baselines, if requested."""
    if not request.baselines:
        return []
    from training.evaluation.baselines import compare_baselines  # imports scikit-learn, for seconds

    return compare_baselines(manifest, request.source, corpus, scored, leaking=request.leaking)


def _list_earlier(folder: Path) -> Iterator[Path]:
    """Yield the lower version folders of the same name, highest first."""
    numbers = {int(path.name) for path in folder.parent.iterdir() if path.name.isdecimal()}
    for number in sorted(numbers, reverse=True):
        if number < int(folder.name):
            yield folder.parent / str(number)


def _write_apart(
    folder: Path, manifest: Manifest, evaluation: Evaluation, texts: Sequence[str] | None
) -> None:
    """Write a report outside of the version."""
    title = f"{manifest.name} {manifest.version}"
    report = Report(title=title, labels=manifest.labels, limits=manifest.limits)
    write_report(folder, report.with_split(evaluation.texts, evaluation.split, evaluation.metrics))
    if texts is not None:
        page = render_mistakes(f"{title}: mistakes", evaluation.split, texts)
        (folder / "mistakes.html").write_text(page, encoding="utf-8")
