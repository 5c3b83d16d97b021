"""What ends a benchmark.

BenchError          something failed: exit status 1
└── WrongCall       the command was wrong: exit status 2
"""


class BenchError(Exception):
    """The benchmark cannot go on; the message is one sentence for its user."""


class WrongCall(BenchError):
    """The command asks for what cannot be."""
