"""Artifact: a version folder that any program may rely on, or nothing at all."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app import __version__
from app.artifact import (
    CUDNN_SIGNATURE,
    REPORT,
    SIGNATURE,
    TEXT_SIGNATURE,
    TOKENIZER,
    DataCard,
    GoldenRow,
    Manifest,
    write_golden,
    write_manifest,
)
from app.errors import DataError, InvalidInput, UnusableVersion
from app.text.encoder import TextConfig, TextEncoder
from app.text.padding import Int32Array
from training.config import Config
from training.data.corpus import Corpus
from training.data.dataset import Dataset, Source, load_dataset
from training.export.golden import GOLDEN_TEXTS
from training.export.onnx_export import Kept, Reference, export_onnx
from training.export.runtimes import ExportedModel
from training.export.text_graph import TextGraph
from training.export.tf_graph import ServingGraph
from training.fit.run import MODEL, Run
from training.models.build import EMBEDDING, KNOWN, NGRAMS, has_layer
from training.models.predict import predict
from training.reports.calibration import fit_temperature, rescale
from training.reports.report import Report, describe_lengths, describe_split, write_report
from training.reports.scores import Scored, collect, measure
from training.support.arrays import Probabilities
from training.support.files import atomic_folder
from training.support.progress import print_line, track

PARITY: Final = 1e-5
"""How far the exported model may be from the Keras model, on any probability of a golden row."""


_ENGINE: Final = "tensorflow"


_ONNX: Final = "onnx"


def export(
    run_folder: Path, models: Path, *, source: Source | None = None, version: int | None = None
) -> Path:
    """Make `models/<name>/<version>/` from a finished training.

    The folder appears at once and complete, or not at all. All figures are of validation: the test
    texts are compared with those of the training, by fingerprint, and answered by `evaluate` alone.

    Args:
        run_folder: What `valence-train train` wrote.
        models: The repository of models.
        source: Where the data is now, if it has moved since the training.
        version: The version's number; the next free one by default.

    Returns:
        The new folder.

    Raises:
        DataError: The run is incomplete, or the data is not what the model was trained on.
        InvalidInput: The version exists already.
        UnusableVersion: The exported model and the Keras model disagree.
    """
    # A GPU would round factors to ten bits, and its golden rows be no rule for a CPU.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    run = Run.read(run_folder)
    config = Config.from_mapping(run.config)
    target = _target(models / config.name, version)
    encoder = TextEncoder.load(run_folder / TOKENIZER)
    model = _load_model(run_folder / MODEL)
    dataset = load_dataset(
        source or run.source, validation_share=config.loop.validation_share, seed=config.seed
    )
    _check_splits(DataCard(**run.data).splits, dataset.card.splits)
    round_embedding(model)
    texts = dataset.validation.texts()
    encoded = [encoder.encode(text) for text in track(texts, "Encoding validation texts")]
    validation_rows = [each.ids for each in encoded]
    unscaled = predict(model, validation_rows)
    temperature = fit_temperature(unscaled, _targets(dataset.validation))

    with atomic_folder(target) as folder:
        save(folder, model, encoder, temperature=temperature)
        exported = ExportedModel(folder)
        golden, golden_answers = _score_golden(exported, model, temperature)
        answers, targets = exported.score(validation_rows), _targets(dataset.validation)
        scored = collect(dataset.validation, run.labels, encoded, answers)
        reference = Reference(golden, golden_answers, validation_rows, answers, targets)
        onnx, onnx_record = export_onnx(folder, model, reference, temperature=temperature)
        write_golden(folder, _golden_rows(golden, golden_answers, onnx))
        metrics = {_ENGINE: measure(answers, targets, run.labels)}
        if onnx is not None:
            metrics[_ONNX] = measure(onnx.answers.validation, targets, run.labels)
        manifest = Manifest(
            name=config.name,
            version=int(target.name),
            labels=run.labels,
            architecture=config.model.architecture,
            hyperparameters=asdict(_without_path(config)),
            seed=config.seed,
            code_version=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            text_fingerprint=encoder.fingerprint(),
            data=DataCard(**run.data),
            temperature=temperature,
            metrics={"validation": metrics},
            engines={_ENGINE: {"signature": SIGNATURE}, _ONNX: onnx_record},
            limits=_limits(encoder.config, dataset),
            files={},
        )
        _write_report(folder, manifest, run, encoder, dataset, scored, unscaled)
        write_manifest(folder, manifest)
    _tell(metrics, onnx_record)
    return target


def _load_model(path: Path) -> keras.Model:
    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: not the model of a finished training") from error


def _check_splits(trained: Mapping[str, str], received: Mapping[str, str]) -> None:
    """Every split must be, text by text, what it was in training.

    Else a test text may have been learned from, or the temperature be fitted on training texts.
    """
    for split in sorted({*trained, *received}):
        if trained.get(split) != received.get(split):
            raise DataError(
                f"export needs the data the model was trained on; its {split} texts must have "
                f"the fingerprint {trained.get(split, 'none')[:12]}. "
                f"Received: {received.get(split, 'none')[:12]}"
            )


def round_embedding(model: keras.Model) -> None:
    """Round vectors and the table of n-grams to half precision, in which they are stored.

    Done on the Keras model, so that parity compares like with like.
    """
    if has_layer(model, KNOWN):
        model.get_layer(KNOWN).fold()
    if has_layer(model, EMBEDDING):
        layer = model.get_layer(EMBEDDING)
        layer.vectors = layer.vectors.astype(np.float16).astype(np.float32)
    if has_layer(model, NGRAMS):
        layer = model.get_layer(NGRAMS)
        layer.table = layer.table.astype(np.float16).astype(np.float32)


def save(folder: Path, model: keras.Model, encoder: TextEncoder, *, temperature: float) -> None:
    """Write the SavedModel with its signatures, and the tokenizer beside it."""
    module = tf.Module()
    module.graph = ServingGraph(model, temperature=temperature)
    module.text = TextGraph(encoder)

    def score(ids: Any, lengths: Any) -> dict[str, Any]:
        return {"probabilities": module.graph(ids, lengths)}

    def score_on_cudnn(ids: Any, lengths: Any) -> dict[str, Any]:
        return {"probabilities": module.graph.on_cudnn(ids, lengths)}

    def score_text(text: Any) -> dict[str, Any]:
        return score(*module.text(text))

    padded_ids = (
        tf.TensorSpec([None, None], tf.int32, name="ids"),
        tf.TensorSpec([None], tf.int32, name="lengths"),
    )
    signatures = {
        SIGNATURE: _function(score, *padded_ids),
        TEXT_SIGNATURE: _function(score_text, tf.TensorSpec([None], tf.string, name="text")),
    }
    if module.graph.has_lstm:
        signatures[CUDNN_SIGNATURE] = _function(score_on_cudnn, *padded_ids)
    tf.saved_model.save(module, os.fspath(folder), signatures=signatures)
    encoder.save(folder / TOKENIZER)


def _function(python: Callable[..., dict[str, Any]], *inputs: tf.TensorSpec) -> Any:
    # Without autograph: there is no Python control flow on tensors to convert.
    return tf.function(python, autograph=False, input_signature=inputs)


def _target(folder: Path, version: int | None) -> Path:
    """Where the new version goes."""
    there = {int(path.name) for path in folder.glob("*") if path.name.isdecimal()}
    number = version if version is not None else max(there, default=0) + 1
    if number < 1:
        raise InvalidInput(f"a version must be a whole number from 1. Received: {number}")
    if number in there:
        raise InvalidInput(f"{folder.name}/{number} exists; a version is never written over")
    return folder / str(number)


def _score_golden(
    exported: ExportedModel, model: keras.Model, temperature: float
) -> tuple[list[Int32Array], Probabilities]:
    """The golden texts as ids, and their answers, once all three ways to an answer agree."""
    rows = [exported.encoder.encode(text).ids for text in GOLDEN_TEXTS]
    answers = exported.score(rows)
    check_parity("serve_ids", answers, rescale(predict(model, rows), temperature))
    check_parity("serving_default", exported.score_texts(GOLDEN_TEXTS), answers)
    return rows, answers


def _golden_rows(
    rows: list[Int32Array], answers: Probabilities, onnx: Kept | None
) -> list[GoldenRow]:
    """What is written down of the golden texts, with the answers of `model.onnx` if it is there."""
    return [
        GoldenRow(
            text=text,
            ids=tuple(rows[i].tolist()),
            probabilities=tuple(answers[i].tolist()),
            answers={_ONNX: tuple(onnx.answers.golden[i].tolist())} if onnx else {},
        )
        for i, text in enumerate(GOLDEN_TEXTS)
    ]


def check_parity(signature: str, answers: Probabilities, expected: Probabilities) -> None:
    """Hold two ways to the same answers together.

    Raises:
        UnusableVersion: They are further apart than `PARITY`, or not finite.
    """
    difference = float(np.max(np.abs(answers - expected)))
    if not difference <= PARITY:  # NaN is no agreement either
        raise UnusableVersion(
            f"{signature} must answer the golden rows within {PARITY:.0e} of the model it was made "
            f"from. Received: {difference:.1e}"
        )


def _targets(corpus: Corpus) -> NDArray[np.int32]:
    return np.array(corpus.targets(), np.int32)


def _tell(metrics: dict[str, dict[str, float]], onnx_record: dict[str, Any]) -> None:
    """Print what the version scores, and what became of `model.onnx`."""
    for engine, scores in metrics.items():
        figures = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
        print_line(f"validation: {engine}: {figures}")
    for precision, outcome in onnx_record["tried"].items():
        verdict = outcome["fault"] or "agrees with the SavedModel"
        print_line(f"onnx: {precision} {verdict}")


def _limits(config: TextConfig, dataset: Dataset) -> tuple[str, ...]:
    room = config.max_length - 1
    tail = room - config.head
    kept = [
        *([f"the first {config.head}"] if config.head else []),
        *([f"the last {tail}"] if tail else []),
    ]
    return (
        f"Learned from {dataset.card.name} only; texts of another kind or language are answered, "
        "but the probabilities are not measured there.",
        f"Of a text with more than {room} tokens {' and '.join(kept)} are read.",
        f"Every text gets one of {', '.join(dataset.train.labels)}, a text without an opinion too.",
    )


def _write_report(
    folder: Path,
    manifest: Manifest,
    run: Run,
    encoder: TextEncoder,
    dataset: Dataset,
    scored: Scored,
    unscaled: Probabilities,
) -> None:
    before = measure(unscaled, scored.y_true, run.labels)
    after = manifest.metrics["validation"][_ENGINE]
    sureness = ("expected_calibration_error", "log_loss")
    losses = run.history["val_loss"]
    config = _without_path(Config.from_mapping(run.config))
    kept = len(losses) - 1 if config.loop.keep == "last" else int(np.argmin(losses))
    report = Report(
        title=f"{manifest.name} {manifest.version}",
        labels=manifest.labels,
        calibration={
            "temperature": round(manifest.temperature, 4),
            "validation_before": {name: before[name] for name in sureness},
            "validation_after": {name: after[name] for name in sureness},
        },
        history=run.history,
        best_epoch=kept + 1,
        lengths=describe_lengths(_lengths(encoder, dataset.train), encoder.config.max_length - 1),
        data={"name": manifest.data.name, **manifest.data.counts},
        settings=config.flat(),
        limits=manifest.limits,
    )
    name = f"{dataset.validation.name}, held out"
    validation = describe_split(scored, texts=name, engine=_ENGINE)
    write_report(
        folder / REPORT,
        report.with_split("validation", validation, manifest.metrics["validation"]),
    )


def _without_path(config: Config) -> Config:
    """The config as it is published: its file of word vectors without the folder."""
    return config.replace(embeddings_file=Path(config.model.embeddings_file).name)


def _lengths(encoder: TextEncoder, corpus: Corpus) -> Int32Array:
    return np.array([len(encoder.tokenize(text)) for text in corpus.texts()], np.int32)
