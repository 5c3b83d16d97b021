"""Method: one loop, seeded, with Keras' own callbacks."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from app import __version__
from app.artifact import TOKENIZER
from app.errors import DataError
from app.text.encoder import TextConfig, TextEncoder
from app.text.padding import Int32Array
from app.text.vocabulary import Vocabulary
from training.batches import Probabilities, ScoringBatches, TrainingBatches, score_rows
from training.config import Config
from training.data import Corpus
from training.dataset import Source, load_dataset
from training.model import EMBEDDING, build_model
from training.progress import EpochProgress, console, track
from training.run import MODEL, RUN, Run, written_aside
from training.vectors import Float32Array, learn_vectors


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training leaves behind.

    Attributes:
        encoder: The tokenizer it was trained with.
        history: Per figure (`loss`, `val_accuracy`, ...) its value after each epoch.
        seconds: Wall time of the loop.
    """

    encoder: TextEncoder
    history: dict[str, list[float]]
    seconds: float


def train_run(
    config: Config, source: Source, folder: Path, *, tensorboard: Path | None = None
) -> None:
    """Train by a recipe and write the run `folder`, at once and complete.

    Raises:
        DataError: The data is missing or wrong, or the loss did not stay finite.
        InvalidInput: `folder` exists and is no earlier run.
    """
    with written_aside(folder, replaces=RUN) as aside:
        dataset = load_dataset(
            source,
            validation_share=config.validation_share,
            seed=config.seed,
            unlabelled=config.pretrain,
        )
        trained = train(
            config,
            dataset.train,
            dataset.validation,
            aside / MODEL,
            unlabelled=dataset.unlabelled.texts(),
            tensorboard=tensorboard,
        )
        trained.encoder.save(aside / TOKENIZER)
        run = Run(
            config=asdict(config),
            source=source,
            labels=dataset.train.labels,
            data=dataset.card.model_dump(),
            history=trained.history,
            seconds=round(trained.seconds, 1),
            code_version=__version__,
        )
        run.write(aside)


def train(
    config: Config,
    training: Corpus,
    validation: Corpus,
    checkpoint: Path,
    *,
    unlabelled: Sequence[str] = (),
    tensorboard: Path | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Trained:
    """Build the vocabulary on `training`, then the model, and fit it.

    The same seed on the same machine gives the same weights: the order, the initial weights and
    the dropout are seeded, and TensorFlow is told to add in a fixed order.

    Args:
        config: The recipe.
        training: Texts to learn from.
        validation: Texts that decide when to stop; never learned from.
        checkpoint: Where the model of the best epoch is kept, written anew when one is better.
        unlabelled: Further texts to learn word vectors from, if the recipe does.
        tensorboard: Where to write logs for TensorBoard, if anywhere.
        callbacks: Called after those of the loop itself.
    """
    tf.config.experimental.enable_op_determinism()
    encoder = build_encoder(config, training.texts())
    rows = encode(encoder, training, "Encoding training texts")
    targets = np.array(training.targets(), np.int32)
    batches = TrainingBatches(
        rows,
        targets,
        batch_size=config.batch_size,
        word_dropout=config.word_dropout,
        seed=config.seed,
    )
    held_out = ScoringBatches(
        encode(encoder, validation, "Encoding validation texts"),
        np.array(validation.targets(), np.int32),
    )

    model = build_model(config, vocabulary=len(encoder.vocabulary), classes=len(training.labels))
    model.compile(
        optimizer=_optimizer(config),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # XLA would compile the loop anew for every width of a batch
    )
    if config.pretrain:
        texts = [*training.texts(), *unlabelled]
        model.get_layer(EMBEDDING).vectors = _pretrain(config, encoder, texts)
    console.print(
        f"{config.name}: {len(rows):,} texts to learn from, {len(validation):,} held out, "
        f"{len(encoder.vocabulary):,} ids, {model.count_params():,} weights",
        highlight=False,
    )
    started = time.monotonic()
    fitted = model.fit(
        batches,
        validation_data=held_out,
        epochs=config.epochs,
        callbacks=[*_callbacks(config, checkpoint, tensorboard), *callbacks],
        verbose=0,
        shuffle=False,  # the batches shuffle themselves, by their own seed
    )
    history = {name: [float(v) for v in values] for name, values in fitted.history.items()}
    losses = history["val_loss"]
    if not np.isfinite(losses).all():
        raise DataError(
            f"the validation loss must stay finite. Received: {losses[-1]} after epoch "
            f"{len(losses)}; try a lower learning_rate"
        )
    return Trained(encoder, history, time.monotonic() - started)


def build_encoder(config: Config, texts: Sequence[str]) -> TextEncoder:
    """The tokenizer of a recipe, its vocabulary counted on `texts`."""
    text_config = TextConfig(max_length=config.max_length, head=config.head)
    tokenize = TextEncoder(text_config, Vocabulary(())).tokenize
    vocabulary = Vocabulary.build(
        (tokenize(text) for text in track(texts, "Counting words")),
        size=config.vocabulary_size,
        min_count=config.min_count,
    )
    return TextEncoder(text_config, vocabulary)


def _pretrain(config: Config, encoder: TextEncoder, texts: Sequence[str]) -> Float32Array:
    """Word vectors from whole texts: (ids, embedding)."""
    longest = max(map(len, texts)) + 2  # a token has at least one character
    whole = TextEncoder(TextConfig(max_length=longest, head=0), encoder.vocabulary)
    rows = [whole.encode(text).ids for text in track(texts, "Reading texts for word vectors")]
    with console.status("Learning word vectors"):
        return learn_vectors(
            rows, vocabulary=len(encoder.vocabulary), width=config.embedding, seed=config.seed
        )


def encode(encoder: TextEncoder, corpus: Corpus, description: str) -> list[Int32Array]:
    """The ids of each text of a corpus, in order."""
    return [encoder.encode(text).ids for text in track(corpus.texts(), description)]


def predict(model: keras.Model, rows: Sequence[Int32Array]) -> Probabilities:
    """Probabilities of the Keras model itself, float64 (rows, classes)."""
    return score_rows(lambda ids, _lengths: model.predict_on_batch(ids), rows, batch_size=256)


def _optimizer(config: Config) -> keras.optimizers.Optimizer:
    settings: dict[str, Any] = {"learning_rate": config.learning_rate}
    if config.clip_norm:
        settings["global_clipnorm"] = config.clip_norm
    if config.average:
        settings |= {"use_ema": True, "ema_momentum": config.average}
    return keras.optimizers.get({"class_name": config.optimizer, "config": settings})


def _callbacks(
    config: Config, checkpoint: Path, tensorboard: Path | None
) -> list[keras.callbacks.Callback]:
    callbacks = [
        # First, so that all that follows sees the averaged weights after an epoch.
        *([keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if config.average else []),
        keras.callbacks.ModelCheckpoint(checkpoint, monitor="val_loss", save_best_only=True),
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=config.stop_patience),
        keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss", factor=0.5, patience=config.reduce_patience
        ),
        EpochProgress(),
    ]
    if tensorboard is not None:
        callbacks.append(keras.callbacks.TensorBoard(log_dir=tensorboard))
    return callbacks
