"""From settings to a served port: alone in one process, or as a supervisor with workers."""

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn

from app import __version__
from app.api.error_handlers import refuse_invalid_http
from app.api.protocol import HTTPProtocol
from app.errors import UnusableVersion, ValenceError
from app.gc_tuning import freeze_heap
from app.main import create_app, divide_cores
from app.service import Service
from app.serving.lifecycle import Phase
from app.serving.repository import Repository
from app.settings import Settings
from app.telemetry.logs import tag_logs
from app.telemetry.metrics import Metrics
from app.workers import WorkerState
from app.workers.link import Duties, Link
from app.workers.supervisor import Delays, Supervisor

logger = logging.getLogger(__name__)

_BACKLOG: Final = 2048
# Longer than the minute that most load balancers keep an idle connection: the side that sends the
# next request should be the one that closes, or the request meets a closed door.
_KEEP_ALIVE_S: Final = 75

# Of a worker that has answered everything; far more than it takes.
_CLOSING_S: Final = 5
_LAST_WORDS_S: Final = 0.1

Announce = Callable[[str], None]


def serve(settings: Settings, announce: Announce) -> None:
    """Run the service until a signal ends it.

    Args:
        settings: Every knob.
        announce: Called with the address when the service is ready.

    Raises:
        ValenceError: The address cannot be listened on, or there is no folder of models.
    """
    if not settings.models_dir.is_dir():
        raise ValenceError(
            f"the folder of models must exist. Received: {settings.models_dir.absolute()}; name "
            "another with --models-dir or VALENCE_MODELS_DIR"
        )
    started = time.monotonic()
    settings = divide_cores(settings)
    listener = listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    logger.info(
        "the service is starting",
        extra={"address": address, "version": __version__, "workers": settings.workers},
    )

    def tell_ready() -> None:
        seconds = round(time.monotonic() - started, 3)
        logger.info("the service is ready", extra={"seconds": seconds})
        announce(address)

    if settings.workers == 1:
        Server(settings, on_ready=tell_ready).run(sockets=[listener])
    else:
        listener.setblocking(False)
        Supervisor(
            listener,
            settings.workers,
            work=partial(_work, settings, list_versions(settings.models_dir)),
            arithmetic=Metrics().tally,
            delays=Delays(settings.drain_delay_s, settings.drain_timeout_s + _CLOSING_S),
            on_ready=tell_ready,
        ).run()
    logger.info("the service has stopped")


def list_versions(models_dir: Path) -> Collection[tuple[str, int]] | None:
    """Name and number of what there is at the start; None when that cannot be told.

    A worker that replaces another, days later, answers with these and no others: which version
    answers must not depend on the connection.
    """
    repository = Repository(models_dir)
    try:
        repository.scan()
    except UnusableVersion:
        return None  # each worker will say why
    return {(v.name, v.number) for versions in repository.versions.values() for v in versions}


def _work(settings: Settings, known: Collection[tuple[str, int]] | None, link: Link) -> int:
    """Be one of several workers."""
    tag_logs(worker=link.number)
    Server(settings, link=link, known=known).run(sockets=[])
    return 0


class Server(uvicorn.Server):
    """Uvicorn with the service in it, that leaves in two steps.

    First unready at once, still answering, so that load balancers notice; then no new connections,
    and the open requests are finished. Alone, the first SIGTERM or SIGINT is the first step, and
    the drain delay or a second signal brings the second. A worker does as its supervisor says.

    Args:
        settings: Every knob.
        on_ready: Called once when the service is ready.
        link: To the supervisor, for a worker.
        known: Name and number of the versions that may be loaded; None for all that are there.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        on_ready: Callable[[], None] = lambda: None,
        link: Link | None = None,
        known: Collection[tuple[str, int]] | None = None,
    ) -> None:
        self._link = link
        self._drain_delay_s = settings.drain_delay_s
        self._on_ready = on_ready
        self._signalled = self._was_ready = False
        self._adopting: set[asyncio.Task[object]] = set()
        app = create_app(settings, on_loaded=freeze_heap, workers=link, known=known)
        self._service: Service = app.state.service
        self._service.lifecycle.on_change = self._tell_phase
        if link is not None and link.inherited is not None:
            self._service.metrics.tally.restore(link.inherited)
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                http=partial(  # type: ignore[arg-type]  # called as the class would be
                    HTTPProtocol,
                    refuse=partial(refuse_invalid_http, self._service.metrics),
                    on_lost=link.pulse.count_closed if link else lambda: None,
                ),
                lifespan="on",
                server_header=False,
                proxy_headers=False,  # nothing here asks where a request came from
                ws="none",
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=settings.drain_timeout_s,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, then let connections come."""
        self._event_loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self._link is not None:
            self._link.open(
                Duties(
                    adopt=self._adopt,
                    report=self._service.metrics.tally.snapshot,
                    drain=self._service.begin_drain,
                    stop=self._stop,
                )
            )
            self._tell_phase()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        if self._link is not None:
            self._link.pulse.beat()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End as uvicorn does, which closes at once where it has not read a request yet."""
        if self._link is not None:
            await asyncio.gather(*self._adopting, return_exceptions=True)
            await asyncio.sleep(_LAST_WORDS_S)  # who was just let in says what it wants
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Heed signals, but for a worker, to which the supervisor passes them on as it sees fit."""
        if self._link is not None:
            yield
            return
        former = {n: signal.signal(n, self.handle_exit) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal. Uvicorn would raise it again at the end; our exit status is 0."""
        if self._signalled or not self.started:
            self.should_exit = True
            return
        self._signalled = True
        self._event_loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        self._service.begin_drain()
        self._event_loop.call_later(self._drain_delay_s, self._stop)

    def _stop(self) -> None:
        self._service.begin_drain()
        self.should_exit = True

    def _tell_phase(self) -> None:
        """Tell the supervisor, or whoever reads the log, where this process stands."""
        lifecycle = self._service.lifecycle
        if self._link is not None:
            state = WorkerState(lifecycle.phase, lifecycle.ready, lifecycle.reason)
            self._link.tell_state(state)
        elif lifecycle.ready and not self._was_ready:
            self._was_ready = True
            self._on_ready()
        elif lifecycle.phase is Phase.DRAINING:
            logger.info("the service is draining")

    def _make_protocol(self) -> asyncio.Protocol:
        """As uvicorn makes it for a connection that it accepted itself."""
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=self._event_loop,
        )
        return protocol

    def _adopt(self, connection: socket.socket) -> None:
        """Serve a connection that the supervisor has accepted."""
        task = self._event_loop.create_task(
            self._event_loop.connect_accepted_socket(self._make_protocol, connection)
        )
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket, before anything slow begins.

    Raises:
        ValenceError: The address is taken, or not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)  # who connects from now on waits for the event loop to begin
    except OSError as error:
        raise ValenceError(
            f"cannot listen on {host}:{port}: {error.strerror}; --port names another"
        ) from error
    except UnicodeError as error:
        raise ValenceError(f"cannot listen on {host}:{port}: this is no host name") from error
    return listener
