"""The method: data, features, teacher, model, fit.

`train` is one function per step, in this order; `train_run` reads the data before it and writes the
run after it. Every long step is cached or checkpointed, so a stopped training resumes.
"""

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, Final, Self

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app import __version__
from app.artifact import LEARNED, NEUTRAL, TOKENIZER
from app.errors import CannotResume, DataError, InvalidInput
from app.text.encoder import TextEncoder
from app.text.padding import Int32Array
from training.config import Config
from training.data.accounting import print_rows
from training.data.batches import ScoringBatches, TrainingBatches
from training.data.corpus import Corpus, LazySequence, hash_texts
from training.data.dataset import Dataset, Source, load_dataset
from training.data.learned import Learned
from training.data.preprocessing import build_encoder
from training.data.shards import (
    InMemoryShard,
    Shard,
    TrainingExample,
    training_examples,
    write_shard,
)
from training.data.split import fingerprint, group_digests
from training.distillation.answers import TeacherAnswers, everyday_examples
from training.distillation.neutral import neutral_texts
from training.distillation.silent import silent_texts
from training.distillation.soft_labels import SoftLabels, mix_teachers
from training.distillation.student import add_ngram_logits, soft_label_examples
from training.distillation.teacher import FOLDS, fit_teacher
from training.distillation.teacher_data import TeacherInput, TeacherOutput
from training.features.store import VectorStore
from training.features.vector_files import FileVectors, read_vectors
from training.fit.checkpoints import CHECKPOINT_INTERVAL_S, FRESH
from training.fit.loop import fit_model, recipe_callbacks
from training.fit.model_saver import save_model
from training.fit.optimizers import build_optimizer, class_weights
from training.fit.progress import EpochProgress
from training.fit.run import MODEL, RUN, Run
from training.fit.workspace import (
    WORKSPACE_FORMAT,
    Workspace,
    open_workspace,
    temporary_workspace,
)
from training.models.build import (
    HALVED_NEUTRAL,
    NGRAM_EMBEDDINGS,
    NGRAM_LOGITS,
    WORD_EMBEDDINGS,
    build_model,
    halve_neutral,
    has_layer,
)
from training.models.next_word import METHOD, build_next_word_model, reader
from training.support.files import atomic_folder, atomic_path, check_target
from training.support.progress import console, print_line, track

_COVERAGE: Final = "coverage.json"
_TEACHER: Final = "teacher_{}.npz"
_NEXT_WORD: Final = "next_word"
_READ_ROWS: Final = 32
_READ_TOKENS: Final = 2**13
"""`batch_size` and `batch_tokens` of next-word prediction. A step compares each word with hundreds
of others, which takes memory."""
_AFTER_READING: Final = {
    *("pooling", "attention_heads", "hidden", "activation", "dropout", "short_temperature"),
    *("ngram_logits", "ngram_logits_buckets", "ngram_logits_lr_factor", "ngram_logits_l2"),
    "nb_weighting",
}
"""Fields of a model that change nothing before its pooling; next-word prediction ends there."""
_TEACHER_ORDERS: Final = 2
"""The longest n-gram of a teacher, in words, if the student has no n-gram logits."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a training returns beside the model file.

    Attributes:
        encoder: The tokenizer it was trained with.
        history: The value of each metric (`loss`, `val_accuracy`, ...) after each epoch.
        seconds: Wall time of the training loop, summed over its parts if it was resumed.
        coverage: The shares of the `vocabulary` and of the training `tokens` that a file of word
            vectors covers; empty without one.
        without_tokens: By split, texts in which the tokenizer finds nothing.
    """

    encoder: TextEncoder
    history: dict[str, list[float]]
    seconds: float
    coverage: dict[str, float]
    without_tokens: dict[str, int]


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a training reads.

    Attributes:
        dataset: The texts, with a neutral class if the recipe has one.
        answers: Of a pretrained teacher, complete and about these texts; None for none.
        labels: Those of the trained model, without a neutral class that is taken away.
    """

    dataset: Dataset
    answers: TeacherAnswers | None
    labels: tuple[str, ...]

    @classmethod
    def read(cls, config: Config, source: Source) -> Self:
        """Read the data, and check that the answers belong to it.

        Raises:
            DataError: The data is missing or invalid.
            InvalidInput: The answers are missing, incomplete, or about other texts.
        """
        find_answers(config)  # without them, nothing needs to be read
        dataset = load_dataset(
            source,
            validation_share=config.loop.validation_share,
            seed=config.seed,
            unlabelled=config.reads_unlabelled,
        )
        return cls.of(config, dataset)

    @classmethod
    def of(cls, config: Config, dataset: Dataset) -> Self:
        """Return what a recipe learns from data that has been read.

        Raises:
            InvalidInput: The answers are missing, incomplete, or about other texts, or the data has
                no two labels to which a neutral class could be added.
        """
        answers = find_answers(config)
        config = _as_learned(config, answers)
        if answers is not None:
            answers.require_same([fingerprint(each) for each in dataset.learned_sides()])
        learned = dataset.with_neutral() if config.teacher.neutral else dataset
        kept = learned if config.teacher.keeps_neutral else dataset
        return cls(learned, answers, kept.train.labels)

    def digests(self) -> dict[str, Any]:
        """Return digests of the content, by part, ready for JSON."""
        card = self.dataset.card
        return {
            "fingerprint": card.fingerprint,
            "splits": card.splits,
            "unlabelled": fingerprint(self.dataset.unlabelled),
            **({"answers": self.answers.fingerprint()} if self.answers else {}),
        }


def train_run(
    config: Config,
    source: Source,
    folder: Path,
    *,
    tensorboard: Path | None = None,
    checkpoint_every: float = CHECKPOINT_INTERVAL_S,
    fresh: bool = False,
    parts: Path | None = None,
) -> None:
    """Train a recipe and write the run to `folder`, atomically.

    A training that is stopped leaves its workspace beside the run, and the next call with the same
    arguments resumes it.

    Args:
        config: The recipe.
        source: Where the data is.
        folder: The destination; an earlier run is replaced at the end.
        tensorboard: Where to write logs for TensorBoard, if anywhere.
        checkpoint_every: Seconds between checkpoints; 0 for a checkpoint after each step.
        fresh: Whether to discard an unfinished training.
        parts: Where vectors and teachers are kept, for other recipes that learn from the same texts
            with the same vocabulary.

    Raises:
        DataError: The data is missing or invalid, or the loss became infinite or NaN.
        InvalidInput: `folder` exists and is no run, another process is writing it, or the
            unfinished training had another recipe or other data.
        CannotResume: The unfinished training is damaged.
        CannotWrite: The disk is full, read-only or broken; the training can be resumed.
    """
    check_target(folder, replaces=RUN)
    with open_workspace(
        folder, checkpoint_every_s=checkpoint_every, fresh=fresh, parts=parts
    ) as workspace:
        inputs = Inputs.read(config, source)
        dataset = inputs.dataset
        digests = inputs.digests()
        workspace.claim(_identity(config, digests))
        try:
            result = train(
                config,
                dataset.train,
                dataset.validation,
                workspace.folder / MODEL,
                unlabelled=dataset.unlabelled.stream_texts(),
                answers=inputs.answers,
                tensorboard=tensorboard,
                workspace=workspace,
            )
        except DataError:
            workspace.discard()  # resumed, it would fail again
            raise
        _write_run(folder, config, source, inputs, digests, result, workspace)
    print_rows(dataset.rows, result.without_tokens)


def train(
    config: Config,
    training: Corpus,
    validation: Corpus,
    checkpoint: Path,
    *,
    unlabelled: Sequence[str] = (),
    examples: Collection[TrainingExample] | None = None,
    answers: TeacherAnswers | None = None,
    tensorboard: Path | None = None,
    workspace: Workspace | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> TrainingResult:
    """Build the vocabulary, train the teacher if there is one, and fit the model.

    The same seed on the same machine gives bit-identical weights, whether or not the training was
    resumed: order, initial weights and dropout are seeded, and TensorFlow's operations are
    deterministic.

    Args:
        config: The recipe.
        training: Texts to learn from.
        validation: Texts for early stopping; never learned from.
        checkpoint: Where the model of the best epoch is saved.
        unlabelled: Further texts for the teacher and for pretrained embeddings.
        examples: Training examples to use instead of the labels of `training`.
        answers: Of a pretrained teacher; by default those that the recipe names, if any.
        tensorboard: Where to write logs for TensorBoard, if anywhere.
        workspace: Where intermediate results are kept; by default a temporary folder beside
            `checkpoint`.
        callbacks: Called after those of the recipe.

    Raises:
        DataError: No word is frequent enough, a file of word vectors is invalid, there are too few
            texts for a teacher, or the loss became infinite or NaN.
    """
    with ExitStack() as stack:
        if workspace is None:
            workspace = stack.enter_context(temporary_workspace(checkpoint.parent))
        tf.config.experimental.enable_op_determinism()
        answers = answers or find_answers(config)
        _print_fallback(config, answers, unlabelled)
        config = _as_learned(config, answers)
        encoder = _fit_encoder(config, training, answers, workspace)
        vectors = _read_word_vectors(config, encoder, workspace)
        features = _features(config, encoder, training, unlabelled, answers, workspace)
        teacher = _fit_teacher(config, features, training, validation, unlabelled, workspace)
        soft_labels = _soft_labels(config, teacher, answers, training, validation, unlabelled)
        examples = _choose_examples(config, training, unlabelled, examples, soft_labels, answers)
        learned = _encode(workspace, encoder, "training", examples, training.labels)
        held_out = _encode(
            workspace, encoder, "validation", training_examples(validation), training.labels
        )
        model = _build_compiled(config, encoder, training.labels)
        if not workspace.checkpoints.exists():
            _initialize(model, config, features, vectors, teacher, learned, workspace)
            if config.model.next_word_epochs:
                texts = LazySequence(
                    lambda: chain(training.stream_texts(), unlabelled),
                    len(training) + len(unlabelled),
                )
                _learn_to_read(model, config, encoder, texts, held_out, workspace)
        coverage = _read_coverage(workspace)
        _print_sizes(config, encoder, model, learned, held_out)
        fit_callbacks = [*recipe_callbacks(config, checkpoint, tensorboard), *callbacks]
        history = _fit(config, model, learned, held_out, fit_callbacks, workspace)
        if teacher is not None and config.model.ngram_logits:
            add_ngram_logits(checkpoint, teacher, held_out)
        if config.teacher.halve_neutral:
            _halve_neutral(checkpoint)
        without_tokens = {
            # With a teacher, unlabelled texts follow those of the split. A row begins with BEGIN.
            "train": int((learned.lengths[: len(training)] == 1).sum()),
            "validation": int((held_out.lengths == 1).sum()),
        }
        seconds = workspace.checkpoints.elapsed_s()
        return TrainingResult(encoder, history, seconds, coverage, without_tokens)


# --- Data ---


def _fit_encoder(
    config: Config, training: Corpus, answers: TeacherAnswers | None, workspace: Workspace
) -> TextEncoder:
    """Build the vocabulary on the training texts, and on pieces that the recipe counts."""

    def create(path: Path) -> None:
        pieces = answers.texts() if answers and config.text.piece_count else ()
        build_encoder(config, training.stream_texts(), pieces).save(path)

    return TextEncoder.load(workspace.cache.path(TOKENIZER, create))


def _choose_examples(
    config: Config,
    training: Corpus,
    unlabelled: Sequence[str],
    examples: Collection[TrainingExample] | None,
    soft_labels: SoftLabels | None,
    answers: TeacherAnswers | None,
) -> Collection[TrainingExample]:
    """Return what the model learns: hard labels, or soft labels of all texts, and of pieces."""
    weights = class_weights(config, training.targets())
    if examples is None:
        examples = training_examples(training, weights)
    if soft_labels is not None:
        examples = soft_label_examples(
            examples,
            unlabelled,
            soft_labels,
            soft_label_share=config.teacher.soft_label_share,
            class_weights=weights,
        )
    parts = [examples]
    if answers is not None and config.teacher.piece_weight:
        classes, weight = len(training.labels), config.teacher.piece_weight
        parts.append(answers.pieces(weight, classes=classes))
        if count := config.teacher.everyday_texts:
            # Other draws than those among the questions, which have the teacher's seed.
            parts.append(everyday_examples(count, weight, classes=classes, seed=config.seed + 1))
    if without := _texts_without_opinion(config, training.labels):
        parts.append(without)
    return LazySequence(lambda: chain(*parts), sum(map(len, parts)))


def _texts_without_opinion(config: Config, labels: Sequence[str]) -> list[TrainingExample]:
    """Return silent and neutral texts: even odds, or neutral where there is such a class."""
    of_neutral = [float(label == NEUTRAL) for label in labels]
    odds = of_neutral if NEUTRAL in labels else [1 / len(labels)] * len(labels)
    target = np.array(odds, np.float32)
    weight = config.teacher.piece_weight or 1.0
    silent = silent_texts(config.teacher.silent_texts, seed=config.seed)
    without = neutral_texts(config.teacher.neutral_texts, seed=config.seed)
    return [TrainingExample(text, target, weight) for text in chain(silent, without)]


def _encode(
    workspace: Workspace,
    encoder: TextEncoder,
    split: str,
    examples: Collection[TrainingExample],
    labels: Sequence[str],
) -> Shard:
    """Encode training examples into a shard."""

    def create(path: Path) -> None:
        tracked = track(examples, f"Encoding {split} texts")
        write_shard(path, encoder, tracked, classes=len(labels))

    return Shard(workspace.cache.path(split, create))


# --- Features ---


def _read_word_vectors(
    config: Config, encoder: TextEncoder, workspace: Workspace
) -> FileVectors | None:
    """Read the recipe's file of word vectors, if it names one and the model is not initialized yet.

    Read before the teacher is trained for hours: the file may be invalid.
    """
    if not config.model.embeddings_file or workspace.checkpoints.exists():
        return None
    with console.status("Reading word vectors"):
        return read_vectors(
            Path(config.model.embeddings_file), encoder.vocabulary, dim=config.model.embedding_dim
        )


def _features(
    config: Config,
    encoder: TextEncoder,
    training: Corpus,
    unlabelled: Sequence[str],
    answers: TeacherAnswers | None,
    workspace: Workspace,
) -> VectorStore:
    """Return what can be learned from all texts without labels; each part is computed when used.

    Pieces of reviews are left out: they would only repeat the reviews.
    """
    own = answers.own_texts() if answers and config.teacher.piece_weight else ()
    others = LazySequence(lambda: chain(unlabelled, own), len(unlabelled) + len(own))

    def identity() -> list[object]:
        texts = hash_texts(chain(training.stream_texts(), others))
        return [WORKSPACE_FORMAT, config.seed, encoder.fingerprint(), texts]

    return VectorStore(
        encoder,
        training.stream_texts(),
        others,
        seed=config.seed,
        cache=workspace.shared_cache(identity),
    )


# --- Teachers ---


def find_answers(config: Config) -> TeacherAnswers | None:
    """Return the answers that the recipe names, if any; they are complete.

    Raises:
        InvalidInput: There is no such folder, or not all answers, or the recipe needs some.
    """
    options = config.teacher
    if options.answers:
        if not Path(options.answers).is_dir():
            raise InvalidInput(
                f"answers must be the output folder of teach. Received: {options.answers}, which "
                "is no folder"
            )
        answers = TeacherAnswers(Path(options.answers))
        answers.require_complete(neutral=options.neutral)
        return answers
    if options.keeps_neutral:
        raise InvalidInput(
            "only a pretrained teacher knows which texts are neutral; --answers FOLDER names its "
            "answers, made by teach. Received: none"
        )
    return None


def _as_learned(config: Config, answers: TeacherAnswers | None) -> Config:
    """Return what a recipe learns: without answers, no class that is taken away again."""
    if answers is None and config.teacher.halve_neutral:
        return config.replace(neutral=False, halve_neutral=False)
    return config


def _print_fallback(
    config: Config, answers: TeacherAnswers | None, unlabelled: Sequence[str]
) -> None:
    """Say what a recipe does without the answers that it could learn from."""
    lost = ["no pieces of texts"] if config.teacher.piece_weight else []
    lost += ["no neutral class"] if config.teacher.halve_neutral else []
    if answers is None and lost:
        print_line(
            f"{config.name}: without the answers of a pretrained teacher (--answers FOLDER), it "
            f"learns {' and '.join(lost)}"
        )
    if answers is None:
        return
    others = config.teacher.kind != "none"
    without = {
        "train": "the other teachers label them alone" if others else "they keep their labels",
        "unlabelled": "the other teachers label them alone"
        if others and not config.teacher.neutral
        else "they are left out",
    }
    if not unlabelled:
        del without["unlabelled"]
    for split, consequence in without.items():
        if split not in answers.splits():
            print_line(
                f"{config.name}: {answers.folder} has no answers about the texts of {split}; "
                f"{consequence}"
            )


def _soft_labels(
    config: Config,
    teacher: TeacherOutput | None,
    answers: TeacherAnswers | None,
    training: Corpus,
    validation: Corpus,
    unlabelled: Sequence[str],
) -> SoftLabels | None:
    """Mix the soft labels of all teachers; None without a teacher.

    Raises:
        DataError: The pretrained teacher answered other texts.
    """
    found = None if teacher is None else teacher.soft_labels
    if answers is not None and answers.splits():
        teachers = {"pretrained": answers.of_reviews()}
        if (large := answers.larger_reviews()) is not None:
            teachers["larger"] = large
        texts = [len(training), len(unlabelled), len(validation)]
        sizes = [
            pair for each in teachers.values() for pair in zip(each.sizes(), texts, strict=True)
        ]
        if any(size not in (0, there) for size, there in sizes):
            raise DataError(
                "answers must be about the texts of this training, which teach divides by the "
                f"recipe of its --config. Received: {answers.folder}, about other texts"
            )
        if found is not None:
            teachers["trained here"] = found
        found = mix_teachers(teachers, _two_classes(config, validation))
    if found is None or answers is None or not config.teacher.neutral:
        return found
    return found.with_neutral(answers.opinions_of_reviews())


def _two_classes(config: Config, corpus: Corpus) -> NDArray[np.int64]:
    """Return the class of each text among those that the data has."""
    return np.asarray(corpus.targets()) // (2 if config.teacher.neutral else 1)


def _fit_teacher(
    config: Config,
    features: VectorStore,
    training: Corpus,
    validation: Corpus,
    unlabelled: Sequence[str],
    workspace: Workspace,
) -> TeacherOutput | None:
    """Fit the teacher of a recipe and label all texts; None if the recipe has no teacher.

    Validation texts are labelled only for the weights beside a pretrained teacher.
    """
    if config.teacher.kind == "none":
        return None
    orders = config.model.ngram_logits or _TEACHER_ORDERS
    buckets = config.model.ngram_logits_buckets
    scored = validation.stream_texts() if config.teacher.answers else ()

    def identity() -> list[object]:
        texts = hash_texts(chain(training.stream_texts(), unlabelled, scored))
        options = [orders, buckets, FOLDS, _two_classes(config, training).tolist()]
        return [features.cache.folder.name, texts, *options]

    cache = workspace.shared_cache(identity)

    def compute() -> dict[str, Any]:
        output = fit_teacher(
            TeacherInput(
                rows=_encode_for_teacher(features.encoder, training.stream_texts()),
                targets=_two_classes(config, training),
                groups=group_digests(training).tolist(),
                unlabelled=_encode_for_teacher(features.encoder, unlabelled),
                classes=len(training.labels) - config.teacher.neutral,
                vocabulary=len(features.encoder.vocabulary),
                seed=config.seed,
                validation=_encode_for_teacher(features.encoder, scored),
            ),
            features.ngram_vectors,
            features.convolution_vectors if config.teacher.kind == "network" else None,
            orders=orders,
            buckets=buckets,
            cache=cache,
        )
        return asdict(output)

    return TeacherOutput(**cache.arrays(_TEACHER.format(config.teacher.kind), compute))


def _encode_for_teacher(encoder: TextEncoder, texts: Sequence[str]) -> list[Int32Array]:
    return [encoder.encode(text).ids for text in track(texts, "Encoding texts for the teacher")]


# --- Model ---


def _halve_neutral(checkpoint: Path) -> None:
    """Take the neutral class away from a saved model, unless a stopped training has done so."""
    model = keras.models.load_model(checkpoint, compile=False)
    if not has_layer(model, HALVED_NEUTRAL):
        save_model(halve_neutral(model), checkpoint)


def _build_compiled(config: Config, encoder: TextEncoder, labels: Sequence[str]) -> keras.Model:
    """Build the model with random weights, and compile it."""
    model = build_model(
        config,
        vocabulary=len(encoder.vocabulary),
        classes=len(labels),
        length=encoder.config.max_length,
    )
    model.compile(
        optimizer=build_optimizer(config),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,  # XLA would compile the step again for each length of a batch
    )
    return model


def _initialize(
    model: keras.Model,
    config: Config,
    features: VectorStore,
    vectors: FileVectors | None,
    teacher: TeacherOutput | None,
    learned: Shard,
    workspace: Workspace,
) -> None:
    """Set the weights that do not start at random."""
    if config.model.ngram_embeddings:
        size = config.model.ngram_embeddings
        model.get_layer(NGRAM_EMBEDDINGS).assign(
            features.telling_bigram_vectors(size, teacher.ngram_logits if teacher else None)
            if config.model.ngram_lookup == "bigram"
            else features.frequent_ngram_vectors(size)
        )
    if config.model.pretrain_embeddings:
        model.get_layer(WORD_EMBEDDINGS).vectors = features.word_vectors(config.model.embedding_dim)
    coverage = {} if vectors is None else _load_word_vectors(model, config, features, vectors)
    with atomic_path(workspace.folder / _COVERAGE) as partial:
        partial.write_text(json.dumps(coverage), encoding="utf-8")
    if config.model.nb_weighting:
        with console.status("Counting n-grams"):
            model.get_layer(NGRAM_LOGITS).fit_ratio(learned, learned.targets.argmax(axis=1))


def _learn_to_read(
    model: keras.Model,
    config: Config,
    encoder: TextEncoder,
    texts: LazySequence[str],
    held_out: Shard,
    workspace: Workspace,
) -> None:
    """Train embeddings and recurrent layers to predict the next word of texts.

    It is resumed like the training itself, and done once for all recipes that begin in the same
    way.
    """
    begun = reader(model)
    part = f"{_NEXT_WORD}-{_reading_identity(config, encoder, texts, begun)}"

    def compute() -> dict[str, Any]:
        rows = [encoder.encode(text).ids for text in track(texts, "Encoding texts to read")]
        read = InMemoryShard(rows, np.ones((len(rows), 1)))
        batches = TrainingBatches(
            read, batch_size=_READ_ROWS, batch_tokens=_READ_TOKENS, seed=config.seed
        )
        vocabulary, epochs = len(encoder.vocabulary), config.model.next_word_epochs
        # A copy: it leaves the states of the training's own random generators as they are.
        copy = build_model(config, vocabulary=vocabulary, classes=model.output_shape[-1])
        copy.set_weights(model.get_weights())
        print_line(f"{config.name}: learns to predict the next word of {len(rows):,} texts")
        history = fit_model(
            build_next_word_model(
                copy,
                np.bincount(np.concatenate(rows), minlength=vocabulary),
                steps=epochs * len(batches),
                seed=config.seed,
            ),
            batches,
            ScoringBatches(held_out, batch_size=_READ_ROWS),
            [EpochProgress()],
            epochs=epochs,
            checkpoints=workspace.checkpoints_of(part),
        )
        _require_finite(
            history,
            "the loss of next-word prediction",
            "try next_word_epochs 0 or a lower embedding_lr_factor",
        )
        return {
            f"weights_{number}": keras.ops.convert_to_numpy(weights)
            for number, weights in enumerate(reader(copy).trainable_weights)
        }

    cache = workspace.shared_cache(lambda: [part])
    found = cache.arrays(f"{part}.npz", compute)
    for number, weights in enumerate(begun.trainable_weights):
        weights.assign(found[f"weights_{number}"])


def _reading_identity(
    config: Config, encoder: TextEncoder, texts: LazySequence[str], begun: keras.Model
) -> str:
    """Return a digest of all that next-word prediction depends on.

    Args:
        config: The recipe.
        encoder: The tokenizer.
        texts: What is read.
        begun: Embeddings and recurrent layers as they begin.
    """
    options = {
        name: value for name, value in asdict(config.model).items() if name not in _AFTER_READING
    }
    if config.model.layers > 1:
        options["dropout"] = config.model.dropout  # between them
    weights = sha256(b"".join(each.tobytes() for each in begun.get_weights())).hexdigest()
    batches = [_READ_ROWS, _READ_TOKENS]
    learned = [encoder.fingerprint(), hash_texts(texts), weights]
    identity = [WORKSPACE_FORMAT, config.seed, options, *learned, *batches, *METHOD]
    return sha256(json.dumps(identity).encode()).hexdigest()[:16]


def _load_word_vectors(
    model: keras.Model, config: Config, features: VectorStore, vectors: FileVectors
) -> dict[str, float]:
    """Initialize word embeddings from a file; return the shares of words that it covers."""
    layer = model.get_layer(WORD_EMBEDDINGS)
    layer.vectors = vectors.over(layer.vectors)
    coverage = vectors.coverage(features.labelled_rows())
    print_line(
        f"{Path(config.model.embeddings_file).name} covers {coverage['vocabulary']:.1%} of the "
        f"vocabulary and {coverage['tokens']:.1%} of the training tokens"
    )
    return coverage


def _read_coverage(workspace: Workspace) -> dict[str, float]:
    """Read what `_initialize` wrote, perhaps in an earlier process."""
    path = workspace.folder / _COVERAGE
    try:
        coverage: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CannotResume(f"{path} is missing or damaged. {FRESH}") from error
    return coverage


def _print_sizes(
    config: Config, encoder: TextEncoder, model: keras.Model, learned: Shard, held_out: Shard
) -> None:
    weights = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    print_line(
        f"{config.name}: {len(learned):,} training texts, {len(held_out):,} validation texts, "
        f"{len(encoder.vocabulary):,} ids, {weights:,} trainable weights"
    )


# --- Fit ---


def _fit(
    config: Config,
    model: keras.Model,
    learned: Shard,
    held_out: Shard,
    callbacks: Sequence[keras.callbacks.Callback],
    workspace: Workspace,
) -> dict[str, list[float]]:
    """Fit the model; return the value of each metric after each epoch.

    Raises:
        DataError: The validation loss became infinite or NaN.
    """
    history = fit_model(
        model,
        TrainingBatches(
            learned,
            batch_size=config.loop.batch_size,
            batch_tokens=config.loop.batch_tokens,
            sort_window=config.loop.sort_window,
            word_dropout=config.loop.word_dropout,
            seed=config.seed,
        ),
        ScoringBatches(held_out),
        callbacks,
        epochs=config.loop.epochs,
        checkpoints=workspace.checkpoints,
    )
    _require_finite(history, "the validation loss", "try a lower learning_rate")
    return history


def _require_finite(history: Mapping[str, list[float]], name: str, advice: str) -> None:
    losses = history["val_loss"]
    if not np.isfinite(losses).all():
        raise DataError(
            f"{name} must stay finite. Received: {losses[-1]} after epoch {len(losses)}; {advice}"
        )


# --- Run ---


def _identity(config: Config, inputs: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Return what must not change when a training is resumed."""
    return {
        "config": config.flat(),
        "data": inputs,
        "code": {
            "version": __version__,
            "workspace_format": WORKSPACE_FORMAT,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        },
    }


def _write_run(
    folder: Path,
    config: Config,
    source: Source,
    inputs: Inputs,
    digests: Mapping[str, Any],
    result: TrainingResult,
    workspace: Workspace,
) -> None:
    """Write model, tokenizer and description to the run folder, atomically."""
    with atomic_folder(folder, replaces=RUN) as partial:
        for name in (MODEL, TOKENIZER):
            shutil.copyfile(workspace.folder / name, partial / name)
        dataset, answers = inputs.dataset, inputs.answers
        Learned.of(dataset, answers.own_texts() if answers else ()).write(partial / LEARNED)
        data = dataset.card.model_dump()
        if without_tokens := sum(result.without_tokens.values()):
            data["counts"]["without_tokens"] = without_tokens
        run = Run(
            config=asdict(config),
            source=replace(source.absolute(), bad_rows_file=None),
            labels=inputs.labels,
            data=data,
            history=result.history,
            seconds=round(result.seconds, 1),
            code_version=__version__,
            coverage=result.coverage,
            inputs=dict(digests),
        )
        run.write(partial)
