"""Export a finished run as a version folder: complete and checked, or not at all."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app import __version__
from app.artifact import (
    LEARNED,
    NEUTRAL,
    ONNX,
    REPORT,
    SIGNATURE,
    TOKENIZER,
    Baseline,
    DataCard,
    GoldenRow,
    Manifest,
    Reliability,
    read_manifest,
    write_golden,
    write_manifest,
)
from app.errors import DataError, InvalidInput, UnusableVersion
from app.text.encoder import Encoded, TextConfig, TextEncoder
from app.text.padding import Int32Array
from training.config import Config
from training.data.accounting import print_rows
from training.data.corpus import Corpus
from training.data.dataset import Dataset, Source, load_dataset
from training.export.baseline import count_baseline
from training.export.golden import GOLDEN_TEXTS
from training.export.onnx_export import Kept, Reference, export_onnx
from training.export.runtimes import ExportedModel, OnnxModel
from training.export.saved_model import round_tables, save_model
from training.fit.run import MODEL, Run
from training.models.layers.short_temperature import short_factors
from training.models.predict import predict
from training.quality.assess import Quality, assess, choose_sets
from training.quality.figures import with_quality
from training.quality.short_texts import ShortSet
from training.reports.calibration import fit_temperature, rescale
from training.reports.reliability import give_even_odds, measure_rule
from training.reports.report import Report, describe_lengths, describe_split, write_report
from training.reports.scores import collect, measure
from training.support.arrays import IntArray, Probabilities
from training.support.files import atomic_folder
from training.support.progress import print_line, track

PARITY: Final = 1e-5
"""Largest allowed difference between a probability of the SavedModel and of the Keras model."""

_ENGINE: Final = "tensorflow"
_ONNX: Final = "onnx"


@dataclass(frozen=True, slots=True)
class _Trained:
    """A finished run and the data it was trained on."""

    run: Run
    config: Config
    encoder: TextEncoder
    model: keras.Model
    dataset: Dataset


@dataclass(frozen=True, slots=True)
class _Validation:
    """The validation texts, as the Keras model scores them.

    Attributes:
        encoded: The encoded texts.
        targets: The true class of each text, int32 (texts,).
        uncalibrated: Probabilities at temperature 1, (texts, classes).
        temperature: Divides the logits; fitted on these texts.
    """

    encoded: list[Encoded]
    targets: NDArray[np.int32]
    uncalibrated: Probabilities
    temperature: float

    @property
    def rows(self) -> list[Int32Array]:
        """The ids of each text."""
        return [each.ids for each in self.encoded]


def export(
    run_folder: Path,
    models: Path,
    *,
    source: Source | None = None,
    version: int | None = None,
    new_labels: bool = False,
    short: Path | None = None,
    short_temperature: float | None = None,
) -> Path:
    """Write `models/<name>/<version>/` from a finished training run.

    The folder appears at once and complete, or not at all. All metrics are of the validation texts:
    only `evaluate` scores the test texts, here their fingerprint is compared. The report also has
    figures of short texts, if there are any, and of capabilities.

    Args:
        run_folder: The folder that `valence-train train` wrote.
        models: The repository of models.
        source: Where the data is now, if it has moved since the training.
        version: The version's number; by default one above the highest.
        new_labels: Whether its labels may differ from those of the newest version of this name.
        short: The folder of short texts. Default: the folder `short` in or beside that of the data.
        short_temperature: Instead of that of the run's configuration.

    Returns:
        The new folder.

    Raises:
        DataError: The run is incomplete, or the data is missing or not what the model was trained
            on.
        InvalidInput: The version exists already, or has other labels than the newest one.
        UnusableVersion: The exported model and the Keras model disagree.
        CannotWrite: The disk is full, read-only or broken.
    """
    _compute_in_full_precision()
    run = Run.read(run_folder)
    config = Config.from_mapping(run.config)
    if short_temperature is not None:
        config = config.replace(short_temperature=short_temperature)
    target = _new_version(models / config.name, version)
    if not new_labels:
        check_labels(models / config.name, run.labels)
    source = source or run.source
    sets = choose_sets(short, Path(source.path), run.labels)
    trained = _load(run_folder, run, config, source)
    round_tables(trained.model)
    validation = _calibrate(trained)
    temperature = validation.temperature
    temperatures = {
        "temperature": temperature,
        "short_temperature": config.model.short_temperature,
    }
    with atomic_folder(target) as folder:
        save_model(folder, trained.model, trained.encoder, **temperatures)
        exported = ExportedModel(folder)
        reference = _score(exported, trained, validation)
        onnx, onnx_record = export_onnx(folder, trained.model, reference, **temperatures)
        write_golden(folder, _golden_rows(reference, onnx, run.labels))
        if (run_folder / LEARNED).is_file():  # runs of earlier releases lack it
            shutil.copyfile(run_folder / LEARNED, folder / LEARNED)
        reliability = measure_rule(
            validation.rows, validation.targets, exported.score, seed=config.seed
        )
        for answers in (reference.validation_answers, *([onnx.answers.validation] if onnx else ())):
            give_even_odds(answers, validation.encoded, reliability, run.labels)
        metrics = _measure(reference, onnx, run.labels)
        baseline = count_baseline(validation.encoded, reference.validation_answers)
        manifest = _describe(
            trained, int(target.name), temperature, metrics, onnx_record, baseline, reliability
        )
        quality = _assess(
            folder,
            run.labels,
            sets,
            exported,
            reliability,
            has_onnx=onnx is not None,
        )
        report = _write_report(folder, manifest, trained, validation, reference, quality)
        write_manifest(folder, with_quality(manifest, report))
    _print_results(metrics, onnx_record, reliability)
    print_rows(trained.dataset.rows)
    return target


def _compute_in_full_precision() -> None:
    """Switch TensorFloat-32 off: golden rows that a GPU rounded to ten bits would fail on a CPU."""
    tf.config.experimental.enable_tensor_float_32_execution(False)


def _new_version(folder: Path, version: int | None) -> Path:
    """The folder of the new version."""
    existing = _list_versions(folder)
    number = version if version is not None else max(existing, default=0) + 1
    if number < 1:
        raise InvalidInput(f"a version must be an integer of 1 or more. Received: {number}")
    if number in existing:
        raise InvalidInput(f"{folder.name}/{number} exists; a version is never overwritten")
    return folder / str(number)


def _list_versions(folder: Path) -> set[int]:
    return {int(path.name) for path in folder.glob("*") if path.name.isdecimal()}


def check_labels(folder: Path, labels: tuple[str, ...]) -> None:
    """Compare the labels of a run with those of the newest version that can be read.

    The new version will answer the requests that the newest one answers today.

    Raises:
        InvalidInput: They differ, or are in another order.
    """
    for number in sorted(_list_versions(folder), reverse=True):
        try:
            newest = read_manifest(folder / str(number)).labels
        except UnusableVersion:
            continue
        if newest != labels:
            raise InvalidInput(
                f"a new version must have the labels of {folder.name}/{number} in their order, "
                f"{', '.join(newest)}. Received: {', '.join(labels)}; --new-labels exports it all "
                "the same, and clients of this model get the new labels"
            )
        return


def _load(run_folder: Path, run: Run, config: Config, source: Source) -> _Trained:
    for path in filter(None, (source.path, source.test_path)):
        if not Path(path).exists():
            raise DataError(
                f"export reads the data of {run_folder} again. Received: {Path(path).absolute()}, "
                "which does not exist; name the data with --data, and with the options of train"
            )
    try:
        encoder = TextEncoder.load(run_folder / TOKENIZER)
    except UnusableVersion as error:
        raise DataError(f"{run_folder}: {error}. Train it again") from error
    model = _load_model(run_folder / MODEL)
    dataset = load_dataset(source, validation_share=config.loop.validation_share, seed=config.seed)
    _check_splits(DataCard(**run.data).splits, dataset.card.splits)
    if config.teacher.keeps_neutral:
        dataset = dataset.with_neutral()
    return _Trained(run, config, encoder, model, dataset)


def _load_model(path: Path) -> keras.Model:
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # of zip, JSON, HDF5 or Keras
        raise DataError(f"{path}: not the model of a finished training. Train it again") from error


def _check_splits(trained: Mapping[str, str], received: Mapping[str, str]) -> None:
    """Check that every split has the texts it had in training.

    Otherwise the model may have been trained on test texts, or the temperature would be fitted on
    training texts.
    """
    for split in sorted({*trained, *received}):
        if trained.get(split) != received.get(split):
            raise DataError(
                f"export needs the data the model was trained on; its {split} texts must have "
                f"the fingerprint {trained.get(split, 'none')[:12]}. "
                f"Received: {received.get(split, 'none')[:12]}"
            )


def _calibrate(trained: _Trained) -> _Validation:
    """Score the validation texts and fit the temperature."""
    texts = trained.dataset.validation.texts()
    encoded = [trained.encoder.encode(text) for text in track(texts, "Encoding validation texts")]
    rows = [each.ids for each in encoded]
    uncalibrated = predict(trained.model, rows)
    factors = short_factors(rows, trained.config.model.short_temperature)
    targets = np.array(trained.dataset.validation.targets(), np.int32)
    temperature = fit_temperature(rescale(uncalibrated, 1 / factors), targets)
    return _Validation(encoded, targets, uncalibrated, temperature)


def _score(exported: ExportedModel, trained: _Trained, validation: _Validation) -> Reference:
    """Score golden and validation texts with the SavedModel, and compare it with the Keras model.

    Raises:
        UnusableVersion: The two disagree, or the SavedModel's two signatures do.
    """
    golden = [exported.encoder.encode(text).ids for text in GOLDEN_TEXTS]
    answers = exported.score(golden)
    factors = short_factors(golden, trained.config.model.short_temperature)
    expected = rescale(predict(trained.model, golden), validation.temperature / factors)
    check_parity("serve_ids", answers, expected)
    check_parity("serving_default", exported.score_texts(GOLDEN_TEXTS), answers)
    return Reference(
        golden=golden,
        golden_answers=answers,
        validation=validation.rows,
        validation_answers=exported.score(validation.rows),
        targets=validation.targets,
    )


def check_parity(signature: str, answers: Probabilities, expected: Probabilities) -> None:
    """Compare the probabilities of a signature with those it must return.

    Raises:
        UnusableVersion: They differ by more than `PARITY`, or are not finite.
    """
    difference = float(np.max(np.abs(answers - expected)))
    if not difference <= PARITY:  # NaN fails as well
        raise UnusableVersion(
            f"{signature} must answer the golden rows within {PARITY:.0e} of the model it was made "
            f"from. Received: {difference:.1e}"
        )


def _golden_rows(
    reference: Reference, onnx: Kept | None, labels: tuple[str, ...]
) -> list[GoldenRow]:
    """The golden texts with the answers of the SavedModel and, if it is kept, of `model.onnx`."""
    return [
        GoldenRow(
            text=text,
            ids=tuple(reference.golden[i].tolist()),
            probabilities=tuple(reference.golden_answers[i].tolist()),
            answers={_ONNX: tuple(onnx.answers.golden[i].tolist())} if onnx else {},
            labels=labels,
        )
        for i, text in enumerate(GOLDEN_TEXTS)
    ]


def _measure(
    reference: Reference, onnx: Kept | None, labels: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    """Metrics of each engine on the validation texts."""
    answers = {_ENGINE: reference.validation_answers}
    if onnx is not None:
        answers[_ONNX] = onnx.answers.validation
    return {engine: measure(each, reference.targets, labels) for engine, each in answers.items()}


def _describe(
    trained: _Trained,
    version: int,
    temperature: float,
    metrics: dict[str, dict[str, float]],
    onnx_record: dict[str, Any],
    baseline: Baseline,
    reliability: Reliability,
) -> Manifest:
    run, config = trained.run, trained.config
    return Manifest(
        name=config.name,
        version=version,
        labels=run.labels,
        architecture=config.model.architecture,
        hyperparameters=asdict(_without_path(config)),
        seed=config.seed,
        code_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        text_fingerprint=trained.encoder.fingerprint(),
        data=DataCard(**run.data),
        temperature=temperature,
        metrics={"validation": metrics},
        engines={_ENGINE: {"signature": SIGNATURE}, _ONNX: onnx_record},
        limits=_limits(trained.encoder.config, trained.dataset, config),
        baseline=baseline,
        reliability=reliability,
        files={},
    )


def _limits(texts: TextConfig, dataset: Dataset, config: Config) -> tuple[str, ...]:
    room = texts.max_length - 1
    tail = room - texts.head
    kept = [
        *([f"the first {texts.head}"] if texts.head else []),
        *([f"the last {tail}"] if tail else []),
    ]
    learned = " and short texts" if config.teacher.answers else " only"
    return (
        f"Learned from {dataset.card.name}{learned}; texts of another kind or language are "
        "answered, but the probabilities are not measured there.",
        f"Of a text with more than {room} tokens {' and '.join(kept)} are read.",
        *(
            ["Short texts get more confident answers than long ones with the same evidence."]
            if config.model.short_temperature < 1
            else []
        ),
        f"Every text gets one of {', '.join(dataset.train.labels)}"
        f"{'' if NEUTRAL in dataset.train.labels else ', a text without an opinion too'}.",
    )


def _write_report(
    folder: Path,
    manifest: Manifest,
    trained: _Trained,
    validation: _Validation,
    reference: Reference,
    quality: Quality,
) -> Report:
    run, dataset, encoder = trained.run, trained.dataset, trained.encoder
    report = Report(
        title=f"{manifest.name} {manifest.version}",
        labels=manifest.labels,
        calibration=_describe_calibration(manifest, validation),
        history=run.history,
        best_epoch=_best_epoch(trained),
        lengths=describe_lengths(_lengths(encoder, dataset.train), encoder.config.max_length - 1),
        data={"name": manifest.data.name, **manifest.data.counts},
        settings=_without_path(trained.config).flat(),
        limits=manifest.limits,
    )
    scored = collect(
        dataset.validation, run.labels, validation.encoded, reference.validation_answers
    )
    name = f"{dataset.validation.name}, held out"
    described = describe_split(scored, texts=name, engine=_ENGINE)
    report = report.with_split("validation", described, manifest.metrics["validation"])
    report = quality.into(report)
    write_report(folder / REPORT, report)
    return report


def _assess(
    folder: Path,
    labels: tuple[str, ...],
    sets: Sequence[ShortSet],
    exported: ExportedModel,
    reliability: Reliability,
    *,
    has_onnx: bool,
) -> Quality:
    """Ask short texts and capabilities; `model.onnx` answers if there is one, as in service."""
    model = OnnxModel(folder / ONNX) if has_onnx else exported

    def ask(texts: Sequence[str]) -> tuple[Probabilities, IntArray]:
        encoded = [exported.encoder.encode(text) for text in texts]
        tokens = np.array([each.tokens for each in encoded], np.int32)
        probabilities = model.score([each.ids for each in encoded])
        give_even_odds(probabilities, encoded, reliability, labels)
        return probabilities, tokens

    return assess(labels, sets, ask, engine=_ONNX if has_onnx else _ENGINE)


def _describe_calibration(manifest: Manifest, validation: _Validation) -> dict[str, Any]:
    """Temperature, and calibration metrics before and after it."""
    before = measure(validation.uncalibrated, validation.targets, manifest.labels)
    after = manifest.metrics["validation"][_ENGINE]
    names = ("expected_calibration_error", "log_loss")
    return {
        "temperature": round(manifest.temperature, 4),
        "short_temperature": manifest.hyperparameters["model"]["short_temperature"],
        "validation_before": {name: before[name] for name in names},
        "validation_after": {name: after[name] for name in names},
    }


def _best_epoch(trained: _Trained) -> int:
    """The epoch whose weights were kept, counted from 1."""
    losses = trained.run.history["val_loss"]
    return len(losses) if trained.config.loop.keep == "last" else int(np.argmin(losses)) + 1


def _without_path(config: Config) -> Config:
    """The config as it is published: word vectors and answers without the folder they are in."""
    return config.replace(
        embeddings_file=Path(config.model.embeddings_file).name,
        answers=Path(config.teacher.answers).name,
    )


def _lengths(encoder: TextEncoder, corpus: Corpus) -> Int32Array:
    return np.array([len(encoder.tokenize(text)) for text in corpus.texts()], np.int32)


def _print_results(
    metrics: dict[str, dict[str, float]], onnx_record: dict[str, Any], reliability: Reliability
) -> None:
    """Print the validation metrics, whether `model.onnx` was kept, and what cannot be judged."""
    for engine, scores in metrics.items():
        figures = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        print_line(f"validation: {engine}: {figures}")
    for precision, outcome in onnx_record["tried"].items():
        verdict = outcome["fault"] or "agrees with the SavedModel"
        print_line(f"onnx: {precision} {verdict}")
    share = reliability.max_unknown_share
    print_line(f"reliable: texts with a known token and at most {share:.0%} unknown ones")
