"""Baselines on the test split of a version, and the accuracy that leakage would have claimed."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Final

import keras
import numpy as np

from app.artifact import Manifest
from app.errors import DataError, InvalidInput
from training.config import Config
from training.data.corpus import Corpus
from training.data.dataset import Dataset, Source, load_dataset
from training.data.preprocessing import build_encoder, encode
from training.evaluation.trigrams import fit_trigrams
from training.fit.run import MODEL
from training.models.predict import predict
from training.reports.comparison import Entry
from training.reports.scores import Scored, compare_paired
from training.support.arrays import Probabilities
from training.support.progress import console
from training.train import train

LEAKING: Final = (
    "not a result: the accuracy that a random row split would have claimed, with copies of test "
    "texts in training"
)
_STRENGTHS: Final = (0.03, 0.1, 0.3, 1.0)


def compare_baselines(
    manifest: Manifest, source: Source, test: Corpus, scored: Scored, *, leaking: bool
) -> list[Entry]:
    """Compare a version with the majority class and the trigram model on its test split.

    Args:
        manifest: The manifest of the version.
        source: The data that it was trained on.
        test: Its test split.
        scored: Its predictions for `test`.
        leaking: Whether to train its recipe again on a split with leakage and add the result.

    Raises:
        DataError: The training texts are not those of the version.
        InvalidInput: `leaking` is set, but the test split is not part of the same file, or the
            version learned from the answers of a pretrained teacher.
    """
    config = Config.from_mapping(manifest.hyperparameters)
    if leaking and not source.test_share:
        raise InvalidInput(
            "--leaking needs one file that --test-share splits. Received: a separate test split"
        )
    if leaking and config.teacher.answers:
        raise InvalidInput(
            "--leaking trains the recipe on another split, and a pretrained teacher answers the "
            "texts of one. Received: a version that learned from answers"
        )
    dataset = load_dataset(source, validation_share=config.loop.validation_share, seed=config.seed)
    if dataset.card.splits != manifest.data.splits:
        raise DataError(
            f"baselines must be trained on the training texts of {manifest.name}/"
            f"{manifest.version}. Received: other texts"
        )
    found, seconds, choice = score_trigrams(dataset, test, config)
    trigrams = among(scored.labels, found, dataset.train.labels)
    majority = score_majority(dataset.train, len(scored.y_true))
    p_value = compare_paired(scored.right(), trigrams.argmax(axis=1) == scored.y_true).p_value
    entries = [
        Entry.score(manifest.name, scored.probabilities, scored.y_true, scored.labels),
        Entry.score(
            "trigram model",
            trigrams,
            scored.y_true,
            scored.labels,
            seconds=seconds,
            note=f"{choice}; McNemar's p {p_value:.2g}",
        ),
        Entry.score(
            "most frequent class",
            among(scored.labels, majority, dataset.train.labels),
            scored.y_true,
            scored.labels,
        ),
    ]
    if leaking:
        entries.append(score_leaking(config, source))
    return entries


def among(
    labels: Sequence[str], probabilities: Probabilities, known: Sequence[str]
) -> Probabilities:
    """Return probabilities of `known` labels as ones of all `labels`, 0 for the others."""
    spread = np.zeros((len(probabilities), len(labels)))
    spread[:, [labels.index(label) for label in known]] = probabilities
    return spread


def score_majority(train: Corpus, texts: int) -> Probabilities:
    """Predict the class shares of the training split for every text: (texts, classes)."""
    counts = np.array(list(train.counts().values()), np.float64)
    return np.tile(counts / counts.sum(), (texts, 1))


def score_trigrams(
    dataset: Dataset, test: Corpus, config: Config
) -> tuple[Probabilities, float, str]:
    """Score the test split with the trigram model of the best validation accuracy.

    Its vocabulary holds every word that occurs at least twice in training; texts are truncated as
    the recipe does.

    Returns:
        Probabilities (texts, classes), training time in seconds, and the chosen hyperparameters.
    """
    started = time.monotonic()
    texts = dataset.train.stream_texts()
    encoder = build_encoder(config.replace(vocabulary_size=10**6, min_count=2), texts)
    rows = encode(encoder, dataset.train, "Encoding training texts")
    held_out = encode(encoder, dataset.validation, "Encoding validation texts")
    expected = np.array(dataset.validation.targets())
    best = -1.0
    with console.status("Fitting trigrams"):
        for nb_weighting, strength in product((True, False), _STRENGTHS):
            fitted = fit_trigrams(
                rows,
                dataset.train.targets(),
                len(dataset.train.labels),
                strength=strength,
                nb_weighting=nb_weighting,
                seed=config.seed,
            )
            accuracy = float((fitted.score(held_out).argmax(axis=1) == expected).mean())
            if accuracy > best:
                best, model = accuracy, fitted
                choice = f"{'NB-weighted' if nb_weighting else 'unweighted'}, C {strength:g}"
    answers = model.score(encode(encoder, test, "Encoding test texts"))
    return answers, time.monotonic() - started, choice


def score_leaking(config: Config, source: Source) -> Entry:
    """Train and score the recipe on a random row split, across which duplicates leak."""
    whole = replace(source, test_share=0.0).read("train")
    order = np.random.default_rng(config.seed).permutation(len(whole)) / len(whole)
    ends = (source.test_share, source.test_share + config.loop.validation_share)
    side = np.searchsorted(ends, order, side="right")  # 0 test, 1 validation, 2 train
    test = whole.where(side == 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        trained = train(config, whole.where(side == 2), whole.where(side == 1), path)
        model = keras.models.load_model(path, compile=False)
        answers = predict(model, encode(trained.encoder, test, "Encoding leaking texts"))
    return Entry.score(
        f"{config.name}, leaking split",
        answers,
        np.array(test.targets()),
        test.labels,
        seconds=trained.seconds,
        note=LEAKING,
    )
