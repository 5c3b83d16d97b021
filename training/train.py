"""Method: one loop, seeded, with Keras' own callbacks."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from app import __version__
from app.artifact import TOKENIZER
from app.errors import DataError
from app.text.encoder import TextEncoder
from app.text.padding import Int32Array
from app.text.vocabulary import Vocabulary
from training.batches import Probabilities, ScoringBatches, TrainingBatches, score_rows
from training.config import Config
from training.data import Corpus
from training.dataset import Source, load_dataset
from training.model import EMBEDDING, NGRAMS, build_model
from training.optimizers import build_optimizer, class_weights, rate_callbacks
from training.pretrained import read_vectors
from training.progress import EpochProgress, console, track
from training.run import MODEL, RUN, Run, written_aside
from training.text_config import text_config, tokenizing_config
from training.vectors import learn_vectors


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training leaves behind.

    Attributes:
        encoder: The tokenizer it was trained with.
        history: Per figure (`loss`, `val_accuracy`, ...) its value after each epoch.
        seconds: Wall time of the loop.
        coverage: Of a file of word vectors: which share of the `vocabulary` and of the training
            `tokens` it has; empty where there is none.
    """

    encoder: TextEncoder
    history: dict[str, list[float]]
    seconds: float
    coverage: dict[str, float]


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
            coverage=trained.coverage,
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
    """
    tf.config.experimental.enable_op_determinism()
    encoder = build_encoder(config, training.texts())
    rows = encode(encoder, training, "Encoding training texts")
    targets = np.array(training.targets(), np.int32)
    batches = TrainingBatches(
        rows,
        targets,
        batch_size=config.batch_size,
        sorted_together=config.sorted_together,
        word_dropout=config.word_dropout,
        seed=config.seed,
    )
    held_out = ScoringBatches(
        encode(encoder, validation, "Encoding validation texts"),
        np.array(validation.targets(), np.int32),
    )

    model = build_model(
        config,
        vocabulary=len(encoder.vocabulary),
        classes=len(training.labels),
        length=encoder.config.max_length,
    )
    model.compile(
        optimizer=build_optimizer(config),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # XLA would compile the loop anew for every width of a batch
    )
    coverage = _pretrain(config, model, encoder, training.texts(), unlabelled)
    if config.nb_weighting:
        with console.status("Counting n-grams"):
            model.get_layer(NGRAMS).learn_ratio(rows, training.targets())
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
        class_weight=class_weights(config, training.targets()),
        callbacks=_callbacks(config, checkpoint, tensorboard),
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
    return Trained(encoder, history, time.monotonic() - started, coverage)


def build_encoder(config: Config, texts: Sequence[str]) -> TextEncoder:
    """The tokenizer of a recipe, its vocabulary counted on `texts`."""
    tokenize = TextEncoder(tokenizing_config(config), Vocabulary(())).tokenize
    lengths = []

    def tokens() -> Iterator[list[str]]:
        for text in track(texts, "Counting words"):
            found = tokenize(text)
            lengths.append(len(found))
            yield found

    vocabulary = Vocabulary.build(tokens(), size=config.vocabulary_size, min_count=config.min_count)
    return TextEncoder(text_config(config, lengths), vocabulary)


def _pretrain(
    config: Config,
    model: keras.Model,
    encoder: TextEncoder,
    texts: Sequence[str],
    unlabelled: Sequence[str],
) -> dict[str, float]:
    """Give word vectors their start, if the recipe has one for them.

    Returns:
        How much of the vocabulary and of the training tokens a file of vectors covers; nothing
        where there is none.
    """
    if not (config.pretrain or config.embeddings):
        return {}
    layer = model.get_layer(EMBEDDING)
    if config.pretrain:
        rows = _whole_rows(encoder, [*texts, *unlabelled])
        with console.status("Learning word vectors"):
            layer.vectors = learn_vectors(
                rows, vocabulary=len(encoder.vocabulary), width=config.embedding, seed=config.seed
            )
        return {}
    with console.status("Reading word vectors"):
        found = read_vectors(Path(config.embeddings), encoder.vocabulary, width=config.embedding)
    layer.vectors = found.over(layer.vectors)
    coverage = found.coverage(_whole_rows(encoder, texts))
    console.print(
        f"{Path(config.embeddings).name} has vectors for {coverage['vocabulary']:.1%} of the "
        f"vocabulary and {coverage['tokens']:.1%} of the training tokens",
        highlight=False,
    )
    return coverage


def _whole_rows(encoder: TextEncoder, texts: Sequence[str]) -> list[Int32Array]:
    """The ids of texts that are not cut."""
    longest = max(map(len, texts)) + 2  # a token has at least one character
    config = replace(encoder.config, max_length=longest, head=0)
    whole = TextEncoder(config, encoder.vocabulary)
    return [whole.encode(text).ids for text in track(texts, "Reading texts for word vectors")]


def encode(encoder: TextEncoder, corpus: Corpus, description: str) -> list[Int32Array]:
    """The ids of each text of a corpus, in order."""
    return [encoder.encode(text).ids for text in track(corpus.texts(), description)]


def predict(model: keras.Model, rows: Sequence[Int32Array]) -> Probabilities:
    """Probabilities of the Keras model itself, float64 (rows, classes)."""
    return score_rows(lambda ids, _lengths: model.predict_on_batch(ids), rows, batch_size=256)


def _callbacks(
    config: Config, checkpoint: Path, tensorboard: Path | None
) -> list[keras.callbacks.Callback]:
    callbacks = [
        # First, so that all that follows sees the averaged weights after an epoch.
        *([keras.callbacks.SwapEMAWeights(swap_on_epoch=True)] if config.average else []),
        keras.callbacks.ModelCheckpoint(
            checkpoint, monitor="val_loss", save_best_only=config.keep == "best"
        ),
        *rate_callbacks(config),
        EpochProgress(),
    ]
    if config.keep == "best":
        callbacks.append(
            keras.callbacks.EarlyStopping(monitor="val_loss", patience=config.stop_patience)
        )
    if tensorboard is not None:
        callbacks.append(keras.callbacks.TensorBoard(log_dir=tensorboard))
    return callbacks
