"""`valence-train`: the offline pipeline from the command line. Kept short: each verb is a module.

TensorFlow is imported by the verbs that need it, so that `--help` answers at once.
"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from app.errors import InvalidInput, ValenceError
from training.config import Config
from training.configs import ALL_TUTORIALS, TUTORIALS, config_names, load_config
from training.data.dataset import Source
from training.data.formats import SplitName
from training.support.tensorflow_import import import_tensorflow

_EXAMPLES = """\
examples:
  valence-train fetch imdb --to data/imdb
  valence-train train --config lstm --data data/imdb
  valence-train export --run runs/lstm
  valence-train evaluate models/lstm/1 --data data/imdb
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns 0 on success, 1 on failure, 2 on a wrong call."""
    parser = _parser()
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = options.run_command
    # A termination cleans up as an interruption does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(options)
    except InvalidInput as error:
        if options.debug:
            raise
        print(f"valence-train: {error}", file=sys.stderr)
        return 2
    except (ValenceError, OSError) as error:
        if options.debug:
            raise
        print(f"valence-train: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if options.debug:
            raise
        print(
            f"valence-train: training needs the package {error.name}, which is not installed: "
            "run make setup, or install valence[train]",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt as interruption:
        advice = str(interruption) or "nothing half-written is left"
        print(f"valence-train: interrupted; {advice}", file=sys.stderr, flush=True)
        # TensorFlow's threads may be in the middle of a step, and an interpreter that ends around
        # them can crash: everything is cleaned up, so end without its farewells.
        os._exit(1)
    except Exception as error:
        if options.debug:
            raise
        kind = type(error).__name__
        print(f"valence-train: an unexpected {kind}; --debug shows where", file=sys.stderr)
        return 1
    return 0


def _fetch(options: argparse.Namespace) -> None:
    from training.data.fetch import fetch_imdb

    folder = fetch_imdb(options.to, archive=options.archive)
    print(f"{folder}\ntry: valence-train train --config bow --data {folder}")


def _train(options: argparse.Namespace) -> None:
    if options.config == ALL_TUTORIALS:
        _train_tutorials(options)
        return
    if options.tweets:
        raise InvalidInput(f"--tweets belongs to --config {ALL_TUTORIALS}")
    config = _config(options, options.config)
    source = _source(options)
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
    )
    print(f"{folder}\ntry: valence-train export --run {folder}")


def _train_tutorials(options: argparse.Namespace) -> None:
    if options.name:
        raise InvalidInput(f"--name belongs to one recipe, not to {ALL_TUTORIALS}")
    configs = {recipe: _config(options, recipe) for recipe in TUTORIALS}
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
        reviews=_source(options),
        tweets=Source(str(options.tweets), format="gop") if options.tweets else None,
        train_run=train_one,
        fresh=options.fresh,
    )
    print(compared)


def _export(options: argparse.Namespace) -> None:
    import_tensorflow()
    from training.export.export import export

    source = _source(options) if options.data else None
    print(export(options.run_folder, options.models, source=source, version=options.version))


def _evaluate(options: argparse.Namespace) -> None:
    import_tensorflow()
    from training.evaluation.evaluate import EvaluationRequest, evaluate_version
    from training.evaluation.summary import print_evaluation

    one_file = options.data.is_file() and options.test is None and not options.test_share
    split: SplitName = options.split or ("train" if one_file else "test")
    request = EvaluationRequest(
        source=_source(options),
        split=split,
        engine=options.engine,
        against=options.against,
        report=options.report,
        texts=options.texts,
        again=options.again,
        baselines=options.baselines,
        leaking=options.leaking,
    )
    print_evaluation(evaluate_version(options.version_folder, request))
    if options.report:
        print(f"{options.report / 'report.html'}")


def _pace(options: argparse.Namespace) -> None:
    import_tensorflow()
    from training.evaluation.pace import measure_pace

    folder = options.version_folder
    print(f"{folder}: {measure_pace(folder, _source(options), rounds=options.rounds)}")


def _tune(options: argparse.Namespace) -> None:
    from training.tuning.space import load_space
    from training.tuning.study import plan_search

    config = _config(options, options.config)
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

    found = tune(config, _source(options), search, folder, jobs=options.jobs)
    print(f"Best: {found.figure:.4f} using {found.setting}\n{found.report / 'report.html'}")
    # A value may begin with a dash, as in --label=-1=negative.
    given = [f"--{name}={value}" for name, value in _source_options(options)]
    command = ["valence-train", "train", f"--config={options.config}", *given]
    changes = [f"--set={change}" for change in (*options.set, *found.changes())]
    print(f"try: {shlex.join([*command, *changes])}")


def _config(options: argparse.Namespace, recipe: str) -> Config:
    config = load_config(recipe).with_assignments(options.set)
    if options.embeddings:
        config = config.replace(embeddings_file=str(options.embeddings), pretrain_embeddings=False)
    if options.name:
        config = config.replace(name=options.name)
    return config


def _source(options: argparse.Namespace) -> Source:
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
    )


def _source_options(options: argparse.Namespace) -> list[tuple[str, object]]:
    """The options that `_source` was made of, by name, to be shown; defaults are left out."""
    names = ("data", "test", "test_share", "format", "text_column", "label_column", "group_column")
    given = [(name, getattr(options, name)) for name in (*names, "delimiter")]
    given += [("label", assignment) for assignment in options.label]
    return [
        (name.replace("_", "-"), value) for name, value in given if value not in (None, "auto", 0.0)
    ]


def _label_names(assignments: Sequence[str]) -> dict[str, str] | None:
    names = {}
    for assignment in assignments:
        value, equals, name = assignment.rpartition("=")
        if not (value and equals and name.strip()):
            raise InvalidInput(f"--label must be VALUE=NAME. Received: {assignment!r}")
        if value in names:
            raise InvalidInput(f"--label must name a value once. Received: {value!r} twice")
        names[value] = name
    return names or None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="valence-train",
        description="Train, export and evaluate the models that Valence serves.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    fetch = _verb(
        verbs,
        "fetch",
        _fetch,
        "download a data set",
        "valence-train fetch imdb --to data/imdb\n"
        "  valence-train fetch imdb --archive ~/Downloads/aclImdb_v1.tar.gz",
    )
    fetch.add_argument("dataset", choices=["imdb"], help="which data set")
    fetch.add_argument(
        "--to", type=Path, default=Path("data/imdb"), help="folder to make [%(default)s]"
    )
    fetch.add_argument("--archive", type=Path, help="use this archive, downloaded by hand")

    train = _verb(
        verbs,
        "train",
        _train,
        "train a model by a recipe",
        "valence-train train --config lstm --data data/imdb\n"
        "  valence-train train --config smoke --name mine --data mine.csv"
        " --text-column body --label-column stars\n"
        "  valence-train train --config lstm --data data/imdb --set units=64 --set seed=11\n"
        "  valence-train train --config lstm --data data/imdb --embeddings glove.6B.100d.txt"
        " --set embedding_dim=100\n"
        "  valence-train train --config all-tutorials --data data/imdb --tweets Sentiment.csv",
    )
    train.add_argument(
        "--config",
        required=True,
        choices=[*config_names(), ALL_TUTORIALS],
        help=f"the recipe; {ALL_TUTORIALS} trains and compares those named tutorial_...",
    )
    _add_source(train, required=True)
    train.add_argument("--name", help="the model's name, if not the recipe's")
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change a field of the recipe (training/config.py lists them); repeat for more",
    )
    train.add_argument(
        "--run",
        dest="run_folder",
        type=Path,
        metavar="FOLDER",
        help="where the result goes [runs/NAME]; an earlier one is replaced when this one is done",
    )
    train.add_argument(
        "--embeddings",
        type=Path,
        metavar="FILE",
        help="start from these word vectors: text of GloVe, word2vec or fastText, .gz too",
    )
    train.add_argument("--tensorboard", type=Path, metavar="FOLDER", help="write TensorBoard logs")
    train.add_argument(
        "--checkpoint-every",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="what a kill may cost [%(default)s]; the same command goes on from the last one",
    )
    train.add_argument(
        "--fresh",
        action="store_true",
        help=f"start anew, whatever is unfinished; of {ALL_TUTORIALS} whatever is finished too",
    )
    train.add_argument(
        "--tweets",
        type=Path,
        metavar="FILE",
        help=f"of {ALL_TUTORIALS}: Sentiment.csv, without which the tutorial on tweets is left out",
    )

    tune = _verb(
        verbs,
        "tune",
        _tune,
        "search for the best setting of a recipe",
        "valence-train tune --config bow --data data/imdb --sampler grid --space tutorial-grid\n"
        "  valence-train tune --config lstm --data data/imdb --sampler tpe --trials 40"
        " --space lstm --jobs 2\n"
        "  valence-train tune --config lstm --data data/imdb --sampler gp --trials 30"
        " --space mine.toml --study runs/mine",
    )
    tune.add_argument("--config", required=True, choices=config_names(), help="the recipe")
    tune.add_argument(
        "--space",
        required=True,
        metavar="FILE|NAME",
        help="which fields may change and to what: a TOML file, or tutorial-grid, bow or lstm",
    )
    tune.add_argument(
        "--sampler",
        default="tpe",
        choices=["grid", "random", "tpe", "gp"],
        help="how settings are drawn [%(default)s]",
    )
    tune.add_argument("--trials", type=int, help="settings to try in all [all cells of a grid]")
    tune.add_argument(
        "--pruner",
        default="median",
        choices=["median", "hyperband", "none"],
        help="what ends trials that do badly [%(default)s]",
    )
    tune.add_argument("--jobs", type=int, default=1, help="trials at once [%(default)s]")
    tune.add_argument("--seed", type=int, default=7, help="of the sampler [%(default)s]")
    tune.add_argument(
        "--study",
        type=Path,
        metavar="FOLDER",
        help="where trials are kept; the same command goes on with it [runs/CONFIG-SPACE]",
    )
    tune.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change another field of the recipe; repeat for more",
    )
    tune.set_defaults(name=None, embeddings=None)
    _add_source(tune, required=True)

    export = _verb(
        verbs,
        "export",
        _export,
        "make a version folder from a finished training",
        "valence-train export --run runs/lstm --models models",
    )
    export.add_argument(
        "--run",
        dest="run_folder",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="what train wrote",
    )
    export.add_argument(
        "--models", type=Path, default=Path("models"), help="repository [%(default)s]"
    )
    export.add_argument("--version", type=int, help="version number [the next free one]")
    _add_source(export, required=False)

    evaluate = _verb(
        verbs,
        "evaluate",
        _evaluate,
        "score an exported version on labelled texts, through the code that serves",
        "valence-train evaluate models/lstm/1 --data data/imdb\n"
        "  valence-train evaluate models/lstm/1 --data mine.csv --label 5=positive"
        " --label 1=negative\n"
        "  valence-train evaluate models/lstm/2 --data mine.csv --against models/bow/1"
        " --report runs/mine --texts",
    )
    evaluate.description = (
        "Score an exported version on labelled texts, through the code that serves. The test texts "
        "of its own data set are read once: what they gave goes into the version's manifest and "
        "report, and is read out from then on."
    )
    evaluate.add_argument("version_folder", type=Path, help="models/NAME/VERSION")
    evaluate.add_argument(
        "--split",
        choices=["train", "test"],
        help="which texts [test]; of a single file without --test-share all are taken",
    )
    evaluate.add_argument(
        "--engine",
        default="auto",
        choices=["auto", "onnx", "tensorflow"],
        help="which engine answers [%(default)s: the one that the service would choose]",
    )
    evaluate.add_argument(
        "--against",
        type=Path,
        metavar="VERSION",
        help="compare with this version [the one before, if it has the same labels]",
    )
    evaluate.add_argument(
        "--report", type=Path, metavar="FOLDER", help="write a report of these texts there"
    )
    evaluate.add_argument(
        "--texts",
        action="store_true",
        help="with --report: a page mistakes.html with the beginnings of the texts it got wrong",
    )
    evaluate.add_argument(
        "--again", action="store_true", help="read test texts that were read before once more"
    )
    evaluate.add_argument(
        "--baselines",
        action="store_true",
        help="ask the most frequent class and the trigram model too; only of its own test texts",
    )
    evaluate.add_argument(
        "--leaking",
        action="store_true",
        help="with --baselines: train the recipe on a split that leaks, to show what it claims",
    )
    _add_source(evaluate, required=True)

    pace = _verb(
        verbs,
        "pace",
        _pace,
        "time an exported version beside a plain LSTM on ONNX Runtime",
        "valence-train pace models/lstm/2 --data data/imdb",
    )
    pace.description = (
        "Time an exported version beside a plain LSTM, 128 units on word vectors 128 wide and "
        "weights of one byte: the same texts by turns, on one core, and how many times as fast."
    )
    pace.add_argument("version_folder", type=Path, help="models/NAME/VERSION")
    pace.add_argument("--rounds", type=int, default=9, help="how often each is asked [%(default)s]")
    _add_source(pace, required=True)
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], None],
    summary: str,
    examples: str,
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"examples:\n  {examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.set_defaults(run_command=run)
    verb.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return verb


def _add_source(parser: argparse.ArgumentParser, *, required: bool) -> None:
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data", type=Path, required=required, help="folder or file of labelled texts"
    )
    data.add_argument("--test", type=Path, help="test texts, where they are not in --data")
    data.add_argument(
        "--test-share",
        type=float,
        default=0.0,
        metavar="PART",
        help="of one file: the part that is held out for test [0], the same in every command",
    )
    data.add_argument(
        "--format",
        default="auto",
        choices=["auto", "tsv", "tree", "kaggle", "csv", "gop"],
        help="of the files [%(default)s: told by what is there]",
    )
    data.add_argument("--text-column", help="CSV: the column of texts")
    data.add_argument("--label-column", help="CSV: the column of labels")
    data.add_argument(
        "--group-column", help="CSV: rows of equal value stay on one side of the split"
    )
    data.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="VALUE=NAME",
        help="what a label of the file is called, as in 4=positive; repeat for each",
    )
    data.add_argument("--delimiter", help="CSV: between cells [by the suffix]")
