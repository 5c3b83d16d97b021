"""The command line of the service: `valence serve | predict | score | models | key`."""

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from app import __version__
from app.command_line import FAILED, OK, WRONG_CALL, Parser, find_nearest
from app.errors import InvalidInput, MissingLibrary, UnusableVersion, ValenceError
from app.score_options import EXAMPLES as _SCORE_EXAMPLES
from app.score_options import KEY_VARIABLE, RAY, SCORE_SETTINGS, add_score_options
from app.settings import ENV_PREFIX, Settings, explain_settings_error, unknown_variables

if TYPE_CHECKING:  # imported late, below: what a command does not need would only keep it waiting
    from app.artifact import Manifest
    from app.serving.repository import Repository, Version

_STDERR = 2
_STDIN = "-"

_SERVE_EXAMPLES = f"""examples:
  valence serve
  valence serve --port 9000 --models-dir /srv/models --log-format json
  {ENV_PREFIX}PORT=9000 valence serve

Every option is also an environment variable: {ENV_PREFIX} and its name in capitals.
SIGTERM drains: the service becomes unready at once, finishes open requests and exits with 0."""

_PREDICT_EXAMPLES = """examples:
  valence predict "A warm, funny film that I will happily watch again."
  valence predict --model bow --json "Two hours I will never get back."
  valence predict --explain - < review.txt
"""

_EXPLAINED = 10
"""Words of an explanation that are printed."""

_MODELS_EXAMPLES = """examples:
  valence models
  valence models --verify --json
  valence models --copy-to /srv/models --engine onnx
"""

_KEY_EXAMPLES = f"""examples:
  valence key shop >> keys.txt
  valence key shop --requests-per-second 50 >> keys.txt
  {ENV_PREFIX}API_KEYS_FILE=keys.txt valence serve

stdout gets the line for the file, which has a hash of the key. The key itself is shown once, on
stderr: give it to the client, who sends it as Authorization: Bearer KEY or X-API-Key: KEY."""

logger = logging.getLogger("app")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success, 2 on a wrong call, 1 on failure.
    """
    options = _make_parser().parse_args(arguments)
    try:
        status: int = options.command(options)
        print(end="", flush=True)  # while a closed pipe can still be handled
    except BrokenPipeError:  # the reader has what it wanted, as in `valence models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return OK
    except ValidationError as error:
        if options.debug:
            raise
        return _fail(options, explain_settings_error(error, typed=_typed(options)), WRONG_CALL)
    except ValenceError as error:
        if options.debug:
            raise
        return _fail(options, str(error), WRONG_CALL if isinstance(error, InvalidInput) else FAILED)
    except KeyboardInterrupt:
        return _fail(options, "interrupted", FAILED)
    except Exception as error:  # a bug still deserves a sentence
        if options.debug:
            raise
        return _fail(options, f"unexpected {type(error).__name__}; --debug shows where", FAILED)
    return status


def _fail(options: argparse.Namespace, sentence: str, status: int) -> int:
    """Report why a command ends: on stderr, or as an event where the log is asked for as JSON."""
    if not _wants_json(options):
        return _complain(sentence, status)
    from app.telemetry.logs import configure_logs

    configure_logs("json", "info")
    logger.critical("the service failed", extra={"reason": sentence, "exit_status": status})
    return status


def _wants_json(options: argparse.Namespace) -> bool:
    """Whether JSON logs were asked for. Read without `Settings`, which may be what is wrong."""
    if options.command is not _serve:
        return False
    wanted = options.log_format or os.environ.get(f"{ENV_PREFIX}LOG_FORMAT", "")
    return bool(wanted.lower() == "json")


def _complain(sentence: str, status: int) -> int:
    if sys.stderr is not None:  # else `print` would take standard output, which may be a table
        print(f"valence: {sentence}", file=sys.stderr)
    return status


def _serve(options: argparse.Namespace) -> int:
    """Run the service until a signal ends it."""
    settings = _read_settings(options)
    _open_closed_streams()
    from app.telemetry.logs import configure_logs

    configure_logs(_choose_log_format(settings), settings.log_level)
    for variable, nearest in _unknown_variables():
        logger.warning(
            "unknown setting in the environment", extra={"variable": variable, "nearest": nearest}
        )
    _require_default(settings)
    from app.configuration import engine_options
    from app.server import serve
    from app.serving.engines import choose_engine

    choose_engine(engine_options(settings))
    serve(settings, _announce)
    return OK


def _require_default(settings: Settings) -> None:
    """Check that the default model is in the repository.

    Raises:
        ValenceError: There is no folder of models, it cannot be read, or the default model is not
            in it.
    """
    if not settings.models_dir.is_dir():
        raise ValenceError(
            f"the folder of models must exist. Received: {settings.models_dir.absolute()}; name "
            f"another with --models-dir or {ENV_PREFIX}MODELS_DIR"
        )
    from app.serving.repository import Repository

    repository = Repository(settings.models_dir, settings.default_model)
    repository.scan()
    if repository.default not in repository.versions:
        raise ValenceError(f"{settings.models_dir.absolute()}: {repository.explain_default()}")


def _choose_log_format(settings: Settings) -> Literal["json", "text"]:
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    return settings.log_format or ("text" if on_terminal else "json")


def _announce(url: str) -> None:
    """Print what to try; for people only, so that logs in a file or a cluster stay parseable."""
    if sys.stderr is None or not sys.stderr.isatty():
        return
    body = '{"text": "A warm, funny film that I will happily watch again."}'
    print(
        f"\nValence is ready at {url} (documentation: {url}/docs). Try:\n\n"
        f"  curl -s {url}/predict -d '{body}'\n",
        file=sys.stderr,
        flush=True,
    )


def _unknown_variables() -> list[tuple[str, str | None]]:
    """Environment variables that look like a setting and are none, each with the nearest one."""
    settings = [f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields]
    return [
        (variable, find_nearest(variable.upper(), settings, cutoff=0))
        for variable in unknown_variables(os.environ)
        if variable.upper() != KEY_VARIABLE
    ]


def _open_closed_streams() -> None:
    """Open /dev/null for closed standard streams: uvloop aborts if a socket gets their number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(number)


def _predict(options: argparse.Namespace) -> int:
    """Predict one text in this process, with the code of the service."""
    settings = _read_settings(options)
    text = _read_stdin() if options.text == _STDIN else options.text
    _open_closed_streams()
    _complain_about_variables()
    logging.getLogger("app").addHandler(logging.NullHandler())  # errors are reported by `main`
    import asyncio

    from app.api.body import check_text
    from app.api.predict import describe_response
    from app.configuration import engine_options, parse_version_option, request_limits
    from app.main import predict_once
    from app.serving.engines import choose_engine

    error = check_text(text, "the text", request_limits(settings))
    if error is not None:
        raise error
    choose_engine(engine_options(settings))
    version, prediction = asyncio.run(
        predict_once(
            settings,
            text,
            model=options.model,
            number=parse_version_option(options.version),
            explain=options.explain,
        )
    )
    if options.json:
        print(json.dumps(describe_response(version, prediction)))
        return OK
    print(prediction.label)
    for label, probability in prediction.probabilities.items():
        print(f"  {label:<12} {probability:.4f}")
    print(f"  {'tokens':<12} {prediction.tokens}, {prediction.unknown} unknown")
    if not prediction.reliable:
        print("  not reliable: the model knows too little of this text to judge it")
    words = sorted(prediction.explanation or (), key=lambda word: -abs(word.contribution))
    for word in words[:_EXPLAINED]:
        print(f"  {word.contribution:+.2f}  {text[word.start : word.end]}")
    return OK


def _score(options: argparse.Namespace) -> int:
    """Score a file of texts."""
    options.on_ray = options.engine == RAY
    if options.on_ray:
        options.engine = None  # the library that runs the models is a setting nevertheless
    settings = _read_settings(options)
    _complain_about_variables()
    logging.getLogger("app").addHandler(logging.NullHandler())  # errors are reported by `main`
    from app.score import score

    lines, status = score(options, settings)
    for line in lines:
        _complain(line, status)
    return status


def _read_stdin() -> str:
    """All of standard input as one text.

    Raises:
        InvalidInput: It is closed, or not UTF-8.
    """
    if sys.stdin is None:
        raise InvalidInput("- reads the text from standard input, which is closed")
    content = sys.stdin.buffer.read()
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"standard input must be UTF-8. Received: an invalid byte at position {error.start}"
        ) from error


def _complain_about_variables() -> None:
    for variable, nearest in _unknown_variables():
        _complain(f"warning: {variable} is no setting; the nearest is {nearest}", OK)


def _models(options: argparse.Namespace) -> int:
    """List the versions in the repository; only --verify loads them, as the service does."""
    settings = _read_settings(options)
    _complain_about_variables()
    logging.getLogger("app").addHandler(logging.NullHandler())  # rows have the reasons
    from app.serving.repository import Repository

    repository = Repository(settings.models_dir, settings.default_model)
    repository.scan()
    if options.copy_to is not None:
        return _copy(repository, settings, options.copy_to)
    rows = [
        _inspect(repository, version, settings if options.verify else None)
        for versions in repository.versions.values()
        for version in versions
    ]
    if options.json:
        print(json.dumps(rows))
    elif not rows:
        print(f"no models in {settings.models_dir}")
    for row in () if options.json else rows:
        default = " (default)" if row["default"] else ""
        details = ", ".join(row["labels"]) if row["usable"] else row["reason"]
        state = ("ok" if row["verified"] else "not verified") if row["usable"] else "unusable"
        print(f"{row['model']}/{row['version']}{default}: {state}: {details}")
        for kind, quality in row.get("quality", {}).items():
            print(f"  {kind}: {_describe_quality(quality)}")
    for name, reason in repository.unreadable.items():
        _complain(f"{name}: {reason}", FAILED)
    unusable = sum(not row["usable"] for row in rows)
    if unusable:
        return _complain(f"{unusable} of {len(rows)} versions cannot be used", FAILED)
    return FAILED if repository.unreadable else OK


def _copy(repository: "Repository", settings: Settings, models: Path) -> int:
    """Copy the versions that are not there yet, with what the service reads, and the aliases."""
    from app.artifact import ONNX, copy_version
    from app.configuration import engine_options
    from app.serving.engines import choose_engine, is_read
    from app.serving.plan import ALIASES

    for name, versions in repository.versions.items():
        for version in versions:
            if (models / version.key).exists():
                _complain(f"{version.key} is there already", OK)
                continue
            has_onnx = (version.folder / ONNX).is_file()
            engine = choose_engine(engine_options(settings), has_onnx=has_onnx)
            if engine == "onnx" and not has_onnx:
                raise UnusableVersion(f"{version.key} has no {ONNX}, which the engine onnx runs")
            print(copy_version(version.folder, models, partial(is_read, engine)))
        aliases, there = settings.models_dir / name / ALIASES, models / name / ALIASES
        if aliases.is_file() and not there.exists():  # else they may have been moved since
            beside = there.with_name(f".{ALIASES}")
            shutil.copy2(aliases, beside)
            beside.replace(there)
    return OK


def _inspect(
    repository: "Repository", version: "Version", verify: Settings | None
) -> dict[str, Any]:
    """One row of `valence models`; `verify` has the settings of the service to verify it for."""
    from app.artifact import read_manifest

    row: dict[str, Any] = {
        "model": version.name,
        "version": version.number,
        "default": version.name == repository.default,
        "usable": True,
        "verified": verify is not None,
    }
    try:
        manifest = _load(verify, version) if verify else read_manifest(version.folder)
    except (UnusableVersion, MissingLibrary) as error:
        return row | {"usable": False, "reason": str(error)}
    return row | {
        "labels": list(manifest.labels),
        "architecture": manifest.architecture,
        "created": manifest.created,
        "quality": {
            kind: quality.model_dump(mode="json", exclude_none=True)
            for kind, quality in manifest.quality.items()
        },
        "reliability": manifest.reliability.model_dump(mode="json"),
    }


def _describe_quality(quality: Mapping[str, Any]) -> str:
    """What a version is worth on one kind of text, in words."""
    parts = []
    if "accuracy" in quality:
        parts.append(f"{quality['accuracy']:.1%} of {quality['texts']} right")
    if "sure_and_wrong" in quality:
        parts.append(f"{quality['sure_and_wrong']:.1%} wrong above 0.8")
    if "undecided" in quality:
        parts.append(f"{quality['undecided']:.0%} of {quality['neutral_texts']} neutral undecided")
    if "calibration_error" in quality:
        parts.append(f"calibration error {quality['calibration_error']:.3f}")
    return ", ".join(parts) or f"{quality['texts'] + quality['neutral_texts']} texts"


def _load(settings: Settings, version: "Version") -> "Manifest":
    from app.main import load_once

    return load_once(settings, version.folder)


def _key(options: argparse.Namespace) -> int:
    """Make an API key."""
    from app.api.keys import describe_key, make_key

    key = make_key()
    print(describe_key(options.name, key, options.requests_per_second))
    print(f"the key of {options.name}, shown only now: {key}", file=sys.stderr)
    return OK


def _read_settings(options: argparse.Namespace) -> Settings:
    """Settings from the options, else from the environment."""
    return Settings(**_typed(options))


def _typed(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given as options."""
    return {
        name: value
        for name in Settings.model_fields
        if (value := getattr(options, name, None)) is not None
    }


def _make_parser() -> Parser:
    parser = Parser(
        prog="valence",
        description="Sentiment analysis as a service.",
        epilog="valence COMMAND --help shows the options of a command, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = _add_command(commands, "serve", _serve, "run the service", _SERVE_EXAMPLES)
    _add_settings(serve, *Settings.model_fields)
    predict = _add_command(
        commands, "predict", _predict, "predict the sentiment of one text", _PREDICT_EXAMPLES
    )
    predict.add_argument("text", help="the text; - reads it from standard input")
    predict.add_argument("--model", help="the model (default: the default model)")
    predict.add_argument(
        "--version",
        help="its version, a number or an alias (default: the alias stable, else the newest)",
    )
    predict.add_argument("--json", action="store_true", help="print the answer as JSON")
    predict.add_argument(
        "--explain",
        action="store_true",
        help="by how much the log-odds of the label fall without a word: the "
        f"{_EXPLAINED} words that matter most, with --json all",
    )
    _add_settings(predict, "models_dir", "default_model", "engine", "device")
    score = _add_command(commands, "score", _score, "score a file of texts", _SCORE_EXAMPLES)
    add_score_options(score)
    _add_settings(score, *SCORE_SETTINGS)
    models = _add_command(
        commands, "models", _models, "list the models in the repository", _MODELS_EXAMPLES
    )
    models.add_argument(
        "--verify",
        action="store_true",
        help="load every version as the service does, with all its checks",
    )
    models.add_argument("--json", action="store_true", help="print the list as JSON")
    models.add_argument(
        "--copy-to",
        type=Path,
        metavar="FOLDER",
        help="copy versions that are not there into a folder, without files for other engines",
    )
    _add_settings(models, "models_dir", "default_model", "engine", "device")
    key = _add_command(commands, "key", _key, "make an API key", _KEY_EXAMPLES)
    key.add_argument("name", help="whose key it is")
    key.add_argument(
        "--requests-per-second", type=float, metavar="RATE", help="its rate (default: any)"
    )
    return parser


def _add_command(
    commands: Any,
    name: str,
    command: Callable[[argparse.Namespace], int],
    summary: str,
    examples: str,
) -> Parser:
    parser: Parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    parser.set_defaults(command=command)
    return parser


def _add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add options for settings. `Settings` validates them."""
    for name in names:
        field = Settings.model_fields[name]
        default = "" if field.default in (None, ()) else f" (default: {field.default})"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=name.rsplit("_", 1)[-1].upper(),
            help=f"{field.description}{default}",
        )
