"""The command line of the service: `valence serve | predict | models`."""

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError

from app.artifact import read_manifest, read_verified
from app.errors import InvalidInput, UnusableVersion, ValenceError
from app.serving.repository import Repository, Version
from app.settings import ENV_PREFIX, Settings, explain_settings_error

OK, FAILED, WRONG_CALL = 0, 1, 2
_STDERR = 2

_SERVE_EXAMPLES = f"""examples:
  valence serve
  valence serve --port 9000 --models-dir /srv/models --log-format json
  {ENV_PREFIX}PORT=9000 valence serve

Every option is also an environment variable: {ENV_PREFIX} and its name in capitals.
SIGTERM drains: unready at once, what was admitted is answered, exit status 0."""

_PREDICT_EXAMPLES = """examples:
  valence predict "A warm, funny film that I will happily watch again."
  valence predict --model bow --json "Two hours I will never get back."
"""

_MODELS_EXAMPLES = """examples:
  valence models
  valence models --verify --json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success, 2 on a wrong call, 1 on failure.
    """
    options = _make_parser().parse_args(arguments)
    try:
        status: int = options.command(options)
        print(end="", flush=True)  # also where there is no stdout
    except BrokenPipeError:  # who read our output has what it wanted, as in `valence models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return OK
    except ValidationError as error:
        if options.debug:
            raise
        return _complain(explain_settings_error(error, typed=_typed(options)), WRONG_CALL)
    except ValenceError as error:
        if options.debug:
            raise
        return _complain(str(error), WRONG_CALL if isinstance(error, InvalidInput) else FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", FAILED)
    except Exception as error:  # a fault of ours still deserves a sentence
        if options.debug:
            raise
        return _complain(f"unexpected {type(error).__name__}; --debug shows where", FAILED)
    return status


def _complain(sentence: str, status: int) -> int:
    print(f"valence: {sentence}", file=sys.stderr)
    return status


def _serve(options: argparse.Namespace) -> int:
    """Run the service until a signal ends it."""
    settings = _read_settings(options)
    _fill_closed_streams()
    # Imported late, here and below, so that --help and `models` answer at once.
    from app.main import engine_options
    from app.server import serve
    from app.serving.engines import choose_engine
    from app.telemetry.logs import configure_logs

    # Without a stdout logs go to stderr.
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    log_format = settings.log_format or ("text" if on_terminal else "json")
    configure_logs(log_format, settings.log_level)
    choose_engine(engine_options(settings))

    def announce(address: str) -> None:
        body = '{"text": "A warm, funny film that I will happily watch again."}'
        print(
            f"\nValence is ready at {address} (documentation: {address}/docs). Try:\n\n"
            f"  curl -s {address}/predict -d '{body}'\n",
            file=sys.stderr,
            flush=True,
        )

    serve(settings, announce)
    return OK


def _fill_closed_streams() -> None:
    """Where a standard stream is closed, keep a socket from taking its number: uvloop aborts."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(number)


def _predict(options: argparse.Namespace) -> int:
    """Answer one text in this process, with the code of the service."""
    settings = _read_settings(options)
    logging.getLogger("app").addHandler(logging.NullHandler())  # the sentence says it all
    from app.api.body import check_text
    from app.api.predict import describe_response
    from app.main import engine_options, predict_once, request_limits
    from app.serving.engines import choose_engine

    error = check_text(options.text, "the text", request_limits(settings))
    if error is not None:
        raise error
    choose_engine(engine_options(settings))
    version, prediction = asyncio.run(
        predict_once(settings, options.text, model=options.model, number=options.version)
    )
    if options.json:
        print(json.dumps(describe_response(version, prediction)))
        return OK
    print(prediction.label)
    for label, probability in prediction.probabilities.items():
        print(f"  {label:<12} {probability:.4f}")
    return OK


def _models(options: argparse.Namespace) -> int:
    """List what is in the repository, without loading an engine."""
    settings = _read_settings(options)
    repository = Repository(settings.models_dir, settings.default_model)
    repository.scan()
    rows = [
        _inspect(repository, version, verify=options.verify)
        for versions in repository.versions.values()
        for version in versions
    ]
    if options.json:
        print(json.dumps(rows))
    elif not rows:
        print(f"no models in {settings.models_dir}")
    for row in () if options.json else rows:
        default = " (default)" if row["default"] else ""
        what = ", ".join(row["labels"]) if row["usable"] else row["reason"]
        state = "ok" if row["usable"] else "unusable"
        print(f"{row['model']}/{row['version']}{default}: {state}: {what}")
    for name, reason in repository.unreadable.items():
        _complain(f"{name}: {reason}", FAILED)
    unusable = sum(not row["usable"] for row in rows)
    if unusable:
        return _complain(f"{unusable} of {len(rows)} versions cannot be used", FAILED)
    return FAILED if repository.unreadable else OK


def _inspect(repository: Repository, version: Version, *, verify: bool) -> dict[str, Any]:
    """One row of `valence models`."""
    row: dict[str, Any] = {
        "model": version.name,
        "version": version.number,
        "default": version.name == repository.default,
        "usable": True,
    }
    try:
        manifest = (read_verified if verify else read_manifest)(version.folder)
    except UnusableVersion as error:
        return row | {"usable": False, "reason": str(error)}
    return row | {
        "labels": list(manifest.labels),
        "architecture": manifest.architecture,
        "created": manifest.created,
    }


def _read_settings(options: argparse.Namespace) -> Settings:
    """Settings from the environment, over which the options of the call win."""
    return Settings(**_typed(options))


def _typed(options: argparse.Namespace) -> dict[str, Any]:
    """The settings among the options that were typed."""
    return {
        name: value
        for name in Settings.model_fields
        if (value := getattr(options, name, None)) is not None
    }


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="valence",
        description="Sentiment analysis as a service.",
        epilog="valence COMMAND --help shows the options of a command, with examples.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = _add_command(commands, "serve", _serve, "run the service", _SERVE_EXAMPLES)
    _add_settings(serve, *Settings.model_fields)
    predict = _add_command(
        commands, "predict", _predict, "tell the sentiment of one text", _PREDICT_EXAMPLES
    )
    predict.add_argument("text", help="the text")
    predict.add_argument("--model", help="which model answers; else the default one")
    predict.add_argument("--version", type=int, help="which of its versions; else the newest")
    predict.add_argument("--json", action="store_true", help="print the answer as JSON")
    _add_settings(predict, "models_dir", "default_model", "engine", "device")
    models = _add_command(
        commands, "models", _models, "list what is in the repository of models", _MODELS_EXAMPLES
    )
    models.add_argument("--verify", action="store_true", help="compare every file with its sha256")
    models.add_argument("--json", action="store_true", help="print the list as JSON")
    _add_settings(models, "models_dir", "default_model")
    return parser


def _add_command(
    commands: Any,
    name: str,
    command: Callable[[argparse.Namespace], int],
    what: str,
    examples: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    parser.set_defaults(command=command)
    return parser


def _add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
    """Options with the words of the settings; they are checked as the settings are."""
    for name in names:
        field = Settings.model_fields[name]
        default = "" if field.default is None else f" (default: {field.default})"
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            metavar=name.rsplit("_", 1)[-1].upper(),
            help=f"{field.description}{default}",
        )


if __name__ == "__main__":
    sys.exit(main())
