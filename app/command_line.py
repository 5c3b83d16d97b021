"""Argument parsing for `valence` and `valence-train`: errors suggest the nearest option."""

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

OK, FAILED, WRONG_CALL = 0, 1, 2
"""The exit statuses."""


def find_nearest(word: str, words: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The word that `word` is probably a misspelling of.

    Args:
        word: What was typed.
        words: What there is.
        cutoff: How similar the two must be, from 0 to 1.

    Returns:
        The most similar word; None if none is similar enough.
    """
    return next(iter(difflib.get_close_matches(word, words, n=1, cutoff=cutoff)), None)


def add_table_options(group: argparse._ArgumentGroup) -> None:
    """Add options that say how a table is written, where its bytes do not tell."""
    group.add_argument("--encoding", help="such as cp1252 or gb18030 [UTF-8, or by its mark]")
    group.add_argument(
        "--delimiter", help="CSV: character between cells; \\t is a tab [from the first lines]"
    )
    group.add_argument(
        "--quoting",
        action=argparse.BooleanOptionalAction,
        help="CSV: whether cells may be quoted [yes, but a quoted cell that holds what looks like "
        "whole rows is refused]",
    )
    group.add_argument(
        "--no-header",
        dest="header",
        action="store_false",
        help="CSV, Excel: the first row is a row like the others; columns are given by number",
    )


class Parser(argparse.ArgumentParser):
    """A parser that answers a wrong call in two lines, with the nearest option or command.

    Python 3.14's argparse suggests commands and choices, but no options, and complains about a
    missing argument before an option that is misspelt.
    """

    _commands: Any = None

    def add_subparsers(self, **options: Any) -> Any:
        """Add commands; see argparse."""
        self._commands = super().add_subparsers(**options)
        return self._commands

    def parse_known_args(  # type: ignore[override]  # argparse overloads it by namespace
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse arguments; argparse calls this for commands as well."""
        arguments = sys.argv[1:] if args is None else list(args)
        self._check_words(arguments)
        return super().parse_known_args(arguments, namespace)

    def parse_args(  # type: ignore[override]  # argparse overloads it by namespace
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Parse arguments. Words that are too many may be a text, which no message repeats."""
        options, more = self.parse_known_args(args, namespace)
        if more:
            self.error(
                f"there are {len(more)} arguments more than are taken; a text or a path with "
                "spaces goes in quotes"
            )
        return options

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where to read on, and exit."""
        self.exit(WRONG_CALL, f"{self.prog}: {message}\n{self.prog} --help shows how to call it\n")

    def _check_words(self, arguments: Sequence[str]) -> None:
        """Refuse the first unknown command or long option."""
        for argument in arguments:
            if argument == "--":
                return
            if self._commands is not None and not argument.startswith("-"):
                if argument not in self._commands.choices:
                    self._refuse("command", argument, self._commands.choices)
                return  # what follows belongs to the command
            option = argument.partition("=")[0]
            # Argparse takes a unique beginning for an option, and a word with a space for a value.
            known = any(name.startswith(option) for name in self._option_string_actions)
            if option.startswith("--") and not known and " " not in option:
                self._refuse("option", option, self._option_string_actions)

    def _refuse(self, kind: str, word: str, words: Iterable[str]) -> NoReturn:
        nearest = find_nearest(word, words)
        hint = f"; did you mean {nearest}?" if nearest else ""
        self.error(f"there is no {kind} {word}{hint}")
