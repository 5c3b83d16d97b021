"""SO_REUSEPORT: each worker listens on a socket of its own, and the kernel chooses between them.

The parent only starts workers, replaces those that end, and passes SIGTERM on. It is what can be
left out of app/workers when the kernel distributes the connections and nothing is shared.
"""

import logging
import os
import signal
import socket
import time
from functools import partial
from typing import Final, NoReturn

from app.main import open_keys
from app.server import Server, Shared
from app.settings import Settings

logger = logging.getLogger("app.launcher")

_BACKLOG: Final = 2048
_FIRST_RESTART_S: Final = 0.5
_LAST_RESTART_S: Final = 30.0
_STABLE_S: Final = 10.0
_TICK_S: Final = 0.1
_CLOSING_S: Final = 5
_SIGNALS: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


def run(settings: Settings) -> None:
    """Serve until a signal ends it."""
    # Bound but not listening: it holds the port and gets no connections.
    with _bind(settings.host, settings.port) as reserved:
        host, port = reserved.getsockname()
        logger.info("the service is starting", extra={"address": f"http://{host}:{port}"})
        _Parent(settings.model_copy(update={"port": port})).run()


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    return listener


class _Parent:
    """Keeps a number of workers running.

    Attributes:
        _started: When each worker started, by process id.
        _failures: How often in a row a worker ended before it was stable.
        _due: When a missing worker may start.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._started: dict[int, float] = {}
        self._failures = 0
        self._due = [0.0] * settings.workers

    def run(self) -> None:
        """Replace workers until SIGTERM or SIGINT, then wait for the last to end."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while True:
            self._start_due()
            caught = signal.sigtimedwait(_SIGNALS, _TICK_S)
            self._reap()
            if caught is not None and caught.si_signo != signal.SIGCHLD:
                break
        self._signal_all(signal.SIGTERM)
        end = time.monotonic() + self._settings.drain_timeout_s + _CLOSING_S
        while self._started:
            signal.sigtimedwait(_SIGNALS, _TICK_S)
            self._reap()
            if time.monotonic() > end:
                self._signal_all(signal.SIGKILL)

    def _start_due(self) -> None:
        now = time.monotonic()
        for due in [due for due in self._due if due <= now]:
            self._due.remove(due)
            pid = os.fork()
            if pid == 0:
                self._become_worker()
            self._started[pid] = now

    def _become_worker(self) -> NoReturn:
        status = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            listener = _bind(self._settings.host, self._settings.port)
            listener.listen(_BACKLOG)
            shared = Shared(open_keys(self._settings), metrics_listener=None)
            report = partial(logger.info, "the service is ready")
            Server(self._settings, shared, on_ready=report).run(sockets=[listener])
            status = 0
        finally:
            os._exit(status)

    def _reap(self) -> None:
        """Note which workers have ended, and when to replace them."""
        while self._started:
            pid, _status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            now = time.monotonic()
            stable = now - self._started.pop(pid) > _STABLE_S
            self._failures = 1 if stable else self._failures + 1
            delay_s = min(_FIRST_RESTART_S * 2 ** (self._failures - 1), _LAST_RESTART_S)
            self._due.append(now + delay_s)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self._started:
            os.kill(pid, number)
