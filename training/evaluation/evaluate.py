"""Evaluate an exported version on labelled texts, through the code that serves it.

The test split that a version's manifest names is scored once, and the metrics are recorded in the
version. Scoring any other labelled texts leaves the version unchanged.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.artifact import MANIFEST, REPORT, Manifest, read_verified
from app.errors import CannotWrite, DataError, InvalidInput, MissingLibrary, UnusableVersion
from training.data.accounting import Rows, add_up, count_rows, name_labels, nothing_left
from training.data.corpus import Corpus
from training.data.dataset import Source
from training.data.formats import SplitName
from training.data.learned import find_learned
from training.data.split import fingerprint
from training.evaluation.record import record_quality, record_test
from training.evaluation.served import EngineName, ServedVersion, list_engines
from training.quality.assess import Quality, assess, choose_sets
from training.quality.short_texts import ShortSet
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
from training.support.arrays import Int64Array
from training.support.files import atomic_folder

SCORED: Final = "scored"


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
        include_learned: Whether to score texts too that the version has learned from.
        short: The folder of short texts. Default: the folder `short` in or beside that of `source`.
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
    include_learned: bool = False
    short: Path | None = None


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
        rows: Where every row that was read went.
        learned: By use (see `training.data.accounting`), texts that the version has learned from;
            None if that cannot be known. They are among the scored ones only if asked for.
        without_tokens: Scored texts in which the tokenizer finds nothing.
        quality: Figures of short texts and capabilities.
    """

    version: str
    texts: str
    metrics: Mapping[str, Mapping[str, float]]
    split: Mapping[str, Any]
    recorded: bool
    own: bool
    rows: Rows
    learned: Mapping[str, int] | None
    without_tokens: int = 0
    quality: Quality = field(default_factory=Quality)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The texts to score.

    Attributes:
        corpus: The texts.
        positions: Where each stands among those that were read, int64 (texts,), from 0.
        rows: Where every row that was read went.
        learned: See `Evaluation`.
    """

    corpus: Corpus
    positions: Int64Array
    rows: Rows
    learned: Mapping[str, int] | None


def evaluate_version(folder: Path, request: EvaluationRequest) -> Evaluation:
    """Score an exported version on labelled texts, as the service would.

    The version's own test split, recognized by its fingerprint, is scored once, by every engine
    that can run the version. The metrics go into manifest and report, and later calls return them.
    Of any other texts, those that the version has learned from are left out. Short texts and
    capabilities are asked beside either, unless the version's report has the figures already.

    Args:
        folder: `models/<name>/<version>`.
        request: What to score and what to report.

    Raises:
        InvalidInput: The options contradict each other, or the report folder cannot be used.
        UnusableVersion: The version, or the one to compare with, fails its checks.
        DataError: The data is invalid, has labels that the model does not know, or has no text
            that the version has not learned from.
        MissingLibrary: The library of the engine is not installed.
    """
    _check(request)
    try:
        manifest = read_verified(folder)
    except UnusableVersion as error:
        raise UnusableVersion(f"{folder}: {error}") from error
    whole = request.source.read(request.split)
    own = fingerprint(whole) == manifest.data.splits.get("test")
    if request.baselines and not own:
        raise InvalidInput(
            f"--baselines must be of the version's own test texts. Received: {whole.name}"
        )
    if own and "test" in manifest.metrics and not request.again:
        return _read_out(folder, manifest, whole, request)
    sets = choose_sets(request.short, Path(request.source.path), manifest.labels)
    chosen = _choose_texts(folder, manifest, whole, request, own=own)
    corpus = chosen.corpus
    writing = atomic_folder(request.report, replaces=METRICS) if request.report else nullcontext()
    with writing as aside:
        other = _find_other(folder, manifest.labels, request)
        engines = list_engines(folder, request.engine)
        version = ServedVersion.load(folder, engines[0])
        scored = version.score(corpus)
        answers = {engines[0]: scored}
        for engine in engines[1:] if own else ():
            answers[engine] = ServedVersion.load(folder, engine).score(corpus)
        known = Quality() if request.again else _read_quality(folder)
        if not known.is_current(manifest.labels, sets):
            known = _ask(version, sets)
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
            rows=chosen.rows,
            learned=chosen.learned,
            without_tokens=int((scored.tokens == 0).sum()),
            quality=known if own or sets else replace(known, short_texts={}),
        )
        for mistake in evaluation.split["mistakes"]:
            # Its position among the texts that were read, also where some of them are not scored.
            mistake["text"] = int(chosen.positions[mistake["text"] - 1]) + 1
        if aside is not None:
            _write_apart(aside, manifest, evaluation, whole.texts() if request.texts else None)
        if own:
            record_test(folder, manifest, evaluation.metrics, evaluation.split, known)
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


def _choose_texts(
    folder: Path, manifest: Manifest, whole: Corpus, request: EvaluationRequest, *, own: bool
) -> _Chosen:
    """Choose the texts to score: all, or those that the version has not learned from.

    Raises:
        DataError: No text is left.
    """
    new = np.ones(len(whole), np.bool_)
    # Training never learns from its own test texts.
    found = None if own else find_learned(folder, manifest, request.source)
    learned = {}
    for use, used in found.find(whole).items() if found else ():
        learned[use] = int((used & new).sum())
        new &= ~used
    if request.include_learned or new.all():
        kept, dropped = np.ones_like(new), dict(whole.left_out)
    else:
        kept, dropped = new, add_up(whole.left_out, learned)
    if not kept.any():
        raise nothing_left(
            whole.name, count_rows(whole), dropped, "to score; --include-learned scores them too"
        )
    corpus = whole if kept.all() else whole.where(kept)
    rows = Rows(count_rows(whole), {SCORED: len(corpus)}, dropped)
    known = own or found is not None
    return _Chosen(corpus, np.flatnonzero(kept), rows, learned if known else None)


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
    report = Report.read(folder / REPORT)
    quality = Quality.of(report)
    sets = choose_sets(request.short, Path(request.source.path), manifest.labels)
    if not quality.is_current(manifest.labels, sets):
        version = ServedVersion.load(folder, list_engines(folder, request.engine)[0])
        quality = _ask(version, sets).over(quality)
        with suppress(CannotWrite, OSError):  # a repository that is read-only is shown all the same
            record_quality(folder, manifest, quality)
    return Evaluation(
        version=f"{manifest.name}/{manifest.version}",
        texts=corpus.name,
        metrics=manifest.metrics["test"],
        split=report.splits.get("test", {}),
        recorded=True,
        own=True,
        rows=Rows(count_rows(corpus), {SCORED: len(corpus)}, corpus.left_out),
        learned={},
        quality=quality,
    )


def _read_quality(folder: Path) -> Quality:
    """Return the figures in a version's report; none if it cannot be read."""
    try:
        return Quality.of(Report.read(folder / REPORT))
    except DataError:
        return Quality()


def _ask(version: ServedVersion, sets: Sequence[ShortSet]) -> Quality:
    """Ask a version short texts and capabilities."""
    return assess(version.manifest.labels, sets, version.ask, engine=version.engine.name)


def _find_other(
    folder: Path, labels: tuple[str, ...], request: EvaluationRequest
) -> ServedVersion | None:
    """Load the version to compare with: the one named, or the closest earlier usable one."""
    if request.against is not None:
        other = ServedVersion.load(request.against, request.engine)
        if set(other.manifest.labels) != set(labels):
            raise DataError(
                f"--against must have the same labels, {name_labels(labels)}. "
                f"Received: {name_labels(other.manifest.labels)}"
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
    report = report.with_split(evaluation.texts, evaluation.split, evaluation.metrics)
    write_report(folder, evaluation.quality.into(report))
    if texts is not None:
        page = render_mistakes(f"{title}: mistakes", evaluation.split, texts)
        (folder / "mistakes.html").write_text(page, encoding="utf-8")
