"""Method: one loop, seeded, with Keras' own callbacks, that goes on where it was stopped."""

import json
import math
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app import __version__
from app.artifact import TOKENIZER
from app.errors import DataError
from app.text.encoder import TextEncoder
from app.text.padding import Int32Array
from training.config import Config
from training.data.batches import ScoringBatches, TrainingBatches
from training.data.corpus import Corpus, Stream
from training.data.dataset import Source, load_dataset
from training.data.preprocessing import build_encoder
from training.data.shards import Lesson, Shard, lessons_of, write_shard
from training.data.split import fingerprint
from training.distillation.teacher import Material, Taught, mix, teach
from training.features.store import Knowledge
from training.features.vector_files import VectorsFound, read_vectors
from training.fit.checkpoints import EVERY, WorkingFolder, save_whole, working_folder
from training.fit.loop import fit_model, recipe_callbacks
from training.fit.optimizers import build_optimizer, class_weights
from training.fit.run import MODEL, RUN, Run
from training.models.build import EMBEDDING, KNOWN, NGRAMS, OUTPUT, build_model
from training.models.predict import SCORED_AT_ONCE, score_rows
from training.support.cache import keep
from training.support.files import check_target, written_aside
from training.support.progress import console, track

_COVERAGE: Final = "coverage.json"


_TEACHER: Final = "teacher.npz"


TEACHER_ORDERS: Final = 2
"""Words of an n-gram at most, of a teacher whose pupil has no n-grams itself."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training leaves behind.

    Attributes:
        encoder: The tokenizer it was trained with.
        history: Per figure (`loss`, `val_accuracy`, ...) its value after each epoch.
        seconds: Wall time of the loop; of one that was stopped, of its parts together.
        coverage: Of a file of word vectors: which share of the `vocabulary` and of the training
            `tokens` it has; empty where there is none.
    """

    encoder: TextEncoder
    history: dict[str, list[float]]
    seconds: float
    coverage: dict[str, float]


def train_run(
    config: Config,
    source: Source,
    folder: Path,
    *,
    tensorboard: Path | None = None,
    checkpoint_every: float = EVERY,
    fresh: bool = False,
) -> None:
    """Train by a recipe and write the run `folder`, at once and complete.

    A training that was stopped leaves a working folder beside it; the next one with the same
    arguments goes on there.

    Args:
        config: The recipe.
        source: Where the data is.
        folder: Where the run goes; an earlier run is replaced at the end.
        tensorboard: Where to write logs for TensorBoard, if anywhere.
        checkpoint_every: Seconds between checkpoints; 0 for one after each step.
        fresh: Whether to discard what an unfinished training left.

    Raises:
        DataError: The data is missing or wrong, or the loss did not stay finite.
        InvalidInput: `folder` exists and is no earlier run, another training is writing it, or an
            unfinished one had another recipe or other data.
    """
    check_target(folder, replaces=RUN)
    with working_folder(folder, every=checkpoint_every, fresh=fresh) as work:
        dataset = load_dataset(
            source,
            validation_share=config.loop.validation_share,
            seed=config.seed,
            unlabelled=config.reads_unlabelled,
        )
        card = dataset.card
        texts = {
            "fingerprint": card.fingerprint,
            "splits": card.splits,
            "unlabelled": fingerprint(dataset.unlabelled),
        }
        version = {"version": __version__}
        work.claim({"config": config.flat(), "data": texts, "code": version})
        try:
            trained = train(
                config,
                dataset.train,
                dataset.validation,
                work.folder / MODEL,
                unlabelled=dataset.unlabelled.stream_texts(),
                tensorboard=tensorboard,
                work=work,
            )
        except DataError:
            work.discard()  # it would end in the same way again
            raise
        with written_aside(folder, replaces=RUN) as aside:
            for name in (MODEL, TOKENIZER):
                shutil.copyfile(work.folder / name, aside / name)
            run = Run(
                config=asdict(config),
                source=source,
                labels=dataset.train.labels,
                data=card.model_dump(),
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
    lessons: Collection[Lesson] | None = None,
    tensorboard: Path | None = None,
    work: WorkingFolder | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Trained:
    """Build the vocabulary on `training`, then the model, and fit it.

    The same seed on the same machine gives the same weights: the order, the initial weights and
    the dropout are seeded, and TensorFlow is told to add in a fixed order. Stopped and continued
    in between, it gives the same weights too.

    No text stays in memory, nor do ids, but while something is learned without labels, or by a
    teacher.

    Args:
        config: The recipe.
        training: Texts to learn from.
        validation: Texts that decide when to stop; never learned from.
        checkpoint: Where the model of the best epoch is kept, written anew when one is better.
        unlabelled: Further texts, for all that the recipe learns without labels, and its teacher.
        lessons: What is learned instead of the labels of `training`: these or other texts, with
            soft labels and weights, say of a teacher.
        tensorboard: Where to write logs for TensorBoard, if anywhere.
        work: Where all is kept that a later training with the same arguments goes on from; by
            default nothing is.
        callbacks: Further ones, called after those of the recipe.

    Raises:
        DataError: No word is frequent enough, a file of word vectors is wrong, the texts are too
            few for a teacher, or the validation loss did not stay finite.
    """
    if work is None:
        with tempfile.TemporaryDirectory() as folder:
            return train(
                config,
                training,
                validation,
                checkpoint,
                unlabelled=unlabelled,
                lessons=lessons,
                tensorboard=tensorboard,
                work=WorkingFolder(Path(folder), every=math.inf),
                callbacks=callbacks,
            )
    tf.config.experimental.enable_op_determinism()
    texts = training.stream_texts()
    encoder = TextEncoder.load(
        work.once(TOKENIZER, lambda path: build_encoder(config, texts).save(path))
    )
    # Before a teacher works for hours: the file may be none.
    found = None if work.has_checkpoint() else _read_embeddings(config, encoder)
    weights = class_weights(config, training.targets())
    if lessons is None:
        lessons = lessons_of(training, weights)
    knowledge = Knowledge(encoder, texts, unlabelled, seed=config.seed, once=work.once)
    taught = None
    if config.teacher.kind != "none":
        taught = _teach(config, knowledge, training, unlabelled, work)
        lessons = _lessons_of(taught, config, lessons, unlabelled, weights)
    learned = _encode_once(work, encoder, "training", lessons, training)
    held_out = _encode_once(work, encoder, "validation", lessons_of(validation), training)

    model = build_model(
        config,
        vocabulary=len(encoder.vocabulary),
        classes=len(training.labels),
        length=encoder.config.max_length,
    )
    model.compile(
        optimizer=build_optimizer(config),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # XLA would compile the loop anew for every width of a batch
    )
    if not work.has_checkpoint():
        if config.model.ngram_embeddings:
            model.get_layer(KNOWN).assign(knowledge.frequent_ngrams(config.model.ngram_embeddings))
        coverage = _pretrain(config, model, knowledge, found)
        (work.folder / _COVERAGE).write_text(json.dumps(coverage), encoding="utf-8")
        if config.model.nb_weighting:
            with console.status("Counting n-grams"):
                model.get_layer(NGRAMS).learn_ratio(learned, learned.targets.argmax(axis=1))
    weights_learned = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    console.print(
        f"{config.name}: {len(learned):,} texts to learn from, {len(held_out):,} held out, "
        f"{len(encoder.vocabulary):,} ids, {weights_learned:,} weights to learn",
        highlight=False,
        soft_wrap=True,
    )
    batches = TrainingBatches(
        learned,
        batch_size=config.loop.batch_size,
        sorted_together=config.loop.sort_window,
        word_dropout=config.loop.word_dropout,
        seed=config.seed,
    )
    history = fit_model(
        model,
        batches,
        ScoringBatches(held_out),
        [*recipe_callbacks(config, checkpoint, tensorboard), *callbacks],
        epochs=config.loop.epochs,
        work=work,
    )
    losses = history["val_loss"]
    if not np.isfinite(losses).all():
        raise DataError(
            f"the validation loss must stay finite. Received: {losses[-1]} after epoch "
            f"{len(losses)}; try a lower learning_rate"
        )
    if taught is not None and config.model.ngram_logits:
        _carry(checkpoint, taught, held_out)
    coverage = json.loads((work.folder / _COVERAGE).read_text(encoding="utf-8"))
    return Trained(encoder, history, work.seconds(), coverage)


def _teach(
    config: Config,
    knowledge: Knowledge,
    training: Corpus,
    unlabelled: Sequence[str],
    work: WorkingFolder,
) -> Taught:
    """What the teacher of a recipe says, once and for all."""
    encoder = knowledge.encoder

    def encode_all(texts: Sequence[str]) -> list[Int32Array]:
        return [encoder.encode(text).ids for text in track(texts, "Reading texts for the teacher")]

    def ask() -> dict[str, NDArray[Any]]:
        taught = teach(
            Material(
                rows=encode_all(training.stream_texts()),
                target=np.asarray(training.targets()),
                groups=[example.group for example in training.examples],
                unlabelled=encode_all(unlabelled),
                classes=len(training.labels),
                vocabulary=len(encoder.vocabulary),
                seed=config.seed,
            ),
            knowledge.ngram_vectors,
            knowledge.know_places if config.teacher.kind == "network" else None,
            orders=config.model.ngram_logits or TEACHER_ORDERS,
            buckets=config.model.ngram_logits_buckets,
            once=work.once,
        )
        return asdict(taught)

    return Taught(**keep(work.once, _TEACHER, ask))


def _lessons_of(
    taught: Taught,
    config: Config,
    labelled: Collection[Lesson],
    unlabelled: Sequence[str],
    weights: Mapping[int, float] | None,
) -> Stream[Lesson]:
    """Labelled texts, their targets between label and teacher, then the unlabelled ones.

    The `weights` of classes hold for unlabelled texts too: as the teacher divides a text between
    the classes.
    """

    def lessons() -> Iterator[Lesson]:
        share = np.float32(config.teacher.soft_label_share)
        for lesson, said in zip(labelled, taught.labelled, strict=True):
            target = (1 - share) * lesson.target + share * said
            yield replace(lesson, target=target)
        for text, said in zip(unlabelled, taught.unlabelled, strict=True):
            weight = sum(said[k] * weights[k] for k in weights) if weights else 1.0
            yield Lesson(text, said, float(weight))

    return Stream(lessons, len(labelled) + len(unlabelled))


def _carry(path: Path, taught: Taught, held_out: Shard) -> None:
    """Let the kept model carry the teacher's table beside its network, each as far as it helps.

    How far is told by the validation texts: two numbers, that give their labels the highest
    likelihood.
    """
    model = keras.models.load_model(path, compile=False)
    output, ngrams = model.get_layer(OUTPUT), model.get_layer(NGRAMS)
    if ngrams.table.any():
        return  # it does already: a training was stopped between this and its end
    # Not the logarithms of probabilities: where one is 0, there is none.
    parts = keras.Model(model.inputs, [output.output, ngrams.output])
    ngrams.table = taught.table
    kernel, bias = output.get_weights()
    logits = score_rows(
        lambda ids, _lengths: np.stack(parts.predict_on_batch(ids), axis=1),
        held_out,
        SCORED_AT_ONCE,
    )  # (texts, network and teacher, classes)
    logits[:, 1] += taught.bias
    shares = mix(logits.swapaxes(0, 1), held_out.targets.argmax(axis=1))
    of_network, of_teacher = (np.float32(share) for share in shares)
    output.set_weights([of_network * kernel, of_network * bias + of_teacher * taught.bias])
    ngrams.table = of_teacher * taught.table
    save_whole(model, path)
    console.print(
        f"{model.name}: carries the teacher's n-grams, {of_teacher:.2f} of them beside "
        f"{of_network:.2f} of the network",
        highlight=False,
        soft_wrap=True,
    )


def _encode_once(
    work: WorkingFolder,
    encoder: TextEncoder,
    kind: str,
    lessons: Collection[Lesson],
    corpus: Corpus,
) -> Shard:
    """The lessons as ids on disk, encoded now unless they were before."""

    def encode_all(path: Path) -> None:
        tracked = track(lessons, f"Encoding {kind} texts")
        write_shard(path, encoder, tracked, classes=len(corpus.labels))

    return Shard(work.once(kind, encode_all))


def _pretrain(
    config: Config, model: keras.Model, knowledge: Knowledge, found: VectorsFound | None
) -> dict[str, float]:
    """Give word vectors their start, if the recipe has one for them.

    Args:
        config: The recipe.
        model: Gets the vectors.
        knowledge: Of all texts.
        found: The vectors of the recipe's file, if it names one.

    Returns:
        How much of the vocabulary and of the training tokens a file of vectors covers; nothing
        where there is none.
    """
    if config.model.pretrain_embeddings:
        model.get_layer(EMBEDDING).vectors = knowledge.word_vectors(config.model.embedding_dim)
    if found is None:
        return {}
    layer = model.get_layer(EMBEDDING)
    layer.vectors = found.over(layer.vectors)
    coverage = found.coverage(knowledge.labelled_rows())
    console.print(
        f"{Path(config.model.embeddings_file).name} has vectors for "
        f"{coverage['vocabulary']:.1%} of the vocabulary and {coverage['tokens']:.1%} of the "
        "training tokens",
        highlight=False,
        soft_wrap=True,
    )
    return coverage


def _read_embeddings(config: Config, encoder: TextEncoder) -> VectorsFound | None:
    """The vectors of the recipe's file, if it names one."""
    if not config.model.embeddings_file:
        return None
    with console.status("Reading word vectors"):
        return read_vectors(
            Path(config.model.embeddings_file), encoder.vocabulary, width=config.model.embedding_dim
        )
