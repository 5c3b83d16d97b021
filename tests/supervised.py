"""A supervisor with one worker that does as the argument says: `python -m tests.supervised fail`.

It needs no models, and is impatient.
"""

import socket
import sys
import time

from app.telemetry.logs import configure_logs
from app.telemetry.tally import Tally
from app.workers.link import Link
from app.workers.supervisor import Delays, Supervisor


def fail(_link: Link) -> int:
    raise ValueError("SECRET")


def stand_still(_link: Link) -> int:
    time.sleep(3600)
    return 0


def run(name: str) -> None:
    """Supervise one worker."""
    configure_logs("json", "info")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        Supervisor(
            *(listener, 1),
            work={"fail": fail, "stand-still": stand_still}[name],
            arithmetic=Tally(),
            delays=Delays(drain_s=0, end_s=0.1, silence_s=0.1),
            on_ready=lambda: None,
        ).run()


if __name__ == "__main__":
    run(sys.argv[1])
