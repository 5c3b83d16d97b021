"""`python -m app`, and the command `valence`."""

import sys
from collections.abc import Sequence

from app.scoring import fork_server


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; see `app.cli.main`."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["score"] and _NOT_FORKED.isdisjoint(words):
        fork_server.start()  # first, so that it and this process import at the same time
    from app.cli import main as run

    return run(words)


_NOT_FORKED = {"--url", "--workers", "--engine", "--help", "-h"}
"""Options with which scoring may need no processes; if it does, it starts them itself."""


if __name__ == "__main__":
    sys.exit(main())
