"""The service without metrics, for comparison: `python -m load_tests.bench.unmetered serve ...`.

Nothing is counted: every update of a metric does nothing, also in workers, which are forked.
"""

import sys
from typing import Any

from app.cli import main
from app.telemetry.tally import Counter, Gauge, Histogram


def ignore(*_: Any) -> None:
    """Do nothing, in place of an update."""


def unmeter() -> None:
    """Let every update of a metric do nothing, in this process and those it forks."""
    kinds = (
        (Counter, ("inc",)),
        (Gauge, ("inc", "dec", "set")),
        (Histogram, ("observe",)),
    )
    for kind, updates in kinds:
        for update in updates:
            setattr(kind, update, ignore)


if __name__ == "__main__":
    unmeter()
    sys.exit(main())
