"""A supervisor with one worker that raises or hangs: `python -m tests.supervised raise`.

It needs no models, and its timeouts are short.
"""

import socket
import sys
import time
from collections.abc import Mapping
from functools import partial

from app.serving.agreement import Agreement
from app.telemetry.logs import configure_logs
from app.telemetry.tally import Tally
from app.workers.link import Link
from app.workers.supervisor import Supervisor, Timeouts


class NoLedger(Tally):
    """Counts nothing."""

    def set_workers(self, counts: Mapping[str, int]) -> None:
        """Ignore them."""

    def count_death(self, reason: str) -> None:
        """Ignore it."""

    def count_unaccepted(self) -> None:
        """Ignore it."""


def raise_error(_link: Link) -> int:
    raise ValueError("SECRET")


def hang(_link: Link) -> int:
    time.sleep(3600)
    return 0


def run(name: str) -> None:
    """Supervise one worker."""
    configure_logs("json", "info")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        Supervisor(
            *(listener, 1),
            work={"raise": raise_error, "hang": hang}[name],
            ledger=NoLedger(),
            agree=partial(Agreement, members=1, poll_s=0),
            timeouts=Timeouts(drain_delay_s=0, stop_s=0.1, heartbeat_s=0.1),
            on_ready=lambda: None,
        ).run()


if __name__ == "__main__":
    run(sys.argv[1])
