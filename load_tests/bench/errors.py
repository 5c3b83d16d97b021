"""Errors that end a benchmark.

BenchError          something failed: exit status 1
└── WrongCall       the command line is wrong: exit status 2
"""


class BenchError(Exception):
    """The benchmark cannot continue; the message is one sentence for the user."""


class WrongCall(BenchError):
    """An argument of the command line is wrong."""
