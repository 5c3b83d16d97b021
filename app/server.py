"""From settings to a served port: in one process, or as a supervisor with workers."""

import asyncio
import contextlib
import ipaddress
import logging
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, Final

import uvicorn

from app import __version__
from app.api.connections import CONNECTIONS_REASON, Connections
from app.api.error_handlers import refuse_http
from app.api.health import state_of
from app.api.keys import Keys
from app.api.protocol import HTTPProtocol
from app.configuration import divide_cores, find_engine
from app.errors import MissingLibrary, ValenceError
from app.gc_tuning import give_back_memory, limit_arenas, settle_memory
from app.main import (
    DIALECTS,
    connection_limits,
    create_app,
    create_metrics_app,
    make_gate,
    metrics_connection_limits,
    open_keys,
    require_tracing,
)
from app.service import Service
from app.serving.agreement import Agreement
from app.serving.lifecycle import Phase
from app.settings import Settings
from app.telemetry.logs import tag_logs
from app.telemetry.metrics import Metrics
from app.workers.link import Callbacks, Link
from app.workers.supervisor import Supervisor, Timeouts

logger = logging.getLogger(__name__)

_BACKLOG: Final = 2048

# How long a worker may take to end once every request is answered; it takes far less.
_CLOSING_S: Final = 5

Announce = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shared:
    """What is opened before the fork, and shared by all processes of the service.

    Attributes:
        keys: The API keys, with what is used of the rate of each.
        metrics_listener: The socket of the port for metrics. Every worker accepts on it, because
            each can answer for all of them.
    """

    keys: Keys | None
    metrics_listener: socket.socket | None


def serve(settings: Settings, announce: Announce) -> None:
    """Run the service until a signal ends it.

    Args:
        settings: All settings.
        announce: Called with the service's URL when the service is ready.

    Raises:
        InvalidInput: A setting is wrong for this system, or the file of keys is damaged.
        ValenceError: The service cannot listen on the address, can never become ready, or has
            failed.
    """
    started = time.monotonic()
    settings = divide_cores(settings)
    require_tracing(settings)
    with contextlib.suppress(MissingLibrary):  # is said when the models are loaded
        if find_engine(settings) == "onnx":  # TensorFlow has threads of its own
            limit_arenas(1 + settings.threads)  # the event loop, and each batch that is computed
    keys = open_keys(settings)
    listener = listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    about: dict[str, Any] = {"address": make_url(host, port)}
    metrics_listener = None
    if settings.metrics_port is not None:
        metrics_listener = listen(settings.host, settings.metrics_port, option="--metrics-port")
        about["metrics_address"] = make_url(*metrics_listener.getsockname()[:2])
    about |= {"version": __version__, "workers": settings.workers}
    logger.info("the service is starting", extra=about)

    was_ready = False

    def report_ready() -> None:
        nonlocal was_ready
        was_ready = True
        seconds = round(time.monotonic() - started, 3)
        logger.info("the service is ready", extra={"seconds": seconds})
        announce(make_url(to_reachable(host), port))

    failure = _run(settings, listener, Shared(keys, metrics_listener), report_ready)
    if failure is not None:
        what = "has failed" if was_ready else "cannot become ready"
        raise ValenceError(f"the service {what}: {failure}")
    logger.info("the service has stopped")


def _run(
    settings: Settings,
    listener: socket.socket,
    shared: Shared,
    on_ready: Callable[[], None],
) -> str | None:
    """Run one process or a supervisor with workers; returns why the service could not start."""
    if settings.workers == 1:
        server = Server(settings, shared, on_ready=on_ready)
        server.run(sockets=[listener])
        return server.failure
    listener.setblocking(False)
    raise_descriptor_limit()
    settle_memory()  # before the fork: a collection in a worker would write to every shared page
    supervisor = Supervisor(
        listener,
        settings.workers,
        work=partial(_work, settings, shared),
        ledger=_SupervisorMetrics(),
        agree=partial(Agreement, members=settings.workers, poll_s=settings.reload_poll_s),
        timeouts=Timeouts(settings.drain_delay_s, settings.drain_timeout_s + _CLOSING_S),
        on_ready=on_ready,
    )
    supervisor.run()
    return supervisor.failure


def make_url(host: str, port: int) -> str:
    """The URL of an address; IPv6 addresses are put in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def to_reachable(host: str) -> str:
    """The address a client on this machine connects to, for an address that is listened on.

    All addresses, `0.0.0.0` or `::`, become the loopback address.
    """
    address = ipaddress.ip_address(host)
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


class _SupervisorMetrics:
    """The metrics of the supervisor, which `/metrics` shows merged with those of its workers."""

    def __init__(self) -> None:
        self._metrics = Metrics()

    def merge(self, snapshots: Sequence[Any]) -> Any:
        """Merge the snapshots of the workers with the supervisor's own."""
        tally = self._metrics.tally
        return tally.merge([tally.snapshot(), *snapshots])

    def remains(self, snapshot: Any) -> Any:
        """See `Tally.remains`."""
        return self._metrics.tally.remains(snapshot)

    def set_workers(self, counts: Mapping[str, int]) -> None:
        """Set `valence_workers`."""
        self._metrics.set_workers(counts)

    def count_death(self, reason: str) -> None:
        """Count in `valence_worker_deaths_total`."""
        self._metrics.worker_deaths.labels(reason).inc()

    def count_unaccepted(self) -> None:
        """Count in `valence_rejected_total`."""
        self._metrics.rejected.labels(CONNECTIONS_REASON).inc()


def _work(settings: Settings, shared: Shared, link: Link) -> int:
    """Run one of several workers; returns its exit status."""
    tag_logs(worker=link.number)
    server = Server(settings, shared, link=link)
    server.run(sockets=[])
    return 0 if server.failure is None else 1


class Server(uvicorn.Server):
    """Uvicorn with the service in it, which shuts down in two steps.

    First it becomes unready and keeps answering, so that load balancers notice; then it closes the
    port and finishes open requests. On its own, the first SIGTERM or SIGINT starts the first step;
    the drain delay or a second signal starts the second. A worker is told by its supervisor.

    It also ends when the service cannot become ready, or has failed; see `failure`.

    Args:
        settings: All settings.
        shared: What all processes of the service have in common.
        on_ready: Called once when the service is ready.
        link: To the supervisor; None for a process on its own.
    """

    def __init__(
        self,
        settings: Settings,
        shared: Shared,
        *,
        on_ready: Callable[[], None] = lambda: None,
        link: Link | None = None,
    ) -> None:
        self._link = link
        self._drain_delay_s = settings.drain_delay_s
        self._on_ready = on_ready
        self._signalled = self._was_ready = False
        self._adopting: set[asyncio.Task[object]] = set()
        app = create_app(
            settings,
            on_loaded=settle_memory,
            on_released=give_back_memory,
            workers=link,
            keys=shared.keys,
        )
        self._service: Service = app.state.service
        self._service.lifecycle.on_change = self._report_phase
        if link is not None and link.inherited is not None:
            self._service.metrics.tally.restore(link.inherited)
        self._connections = Connections(
            connection_limits(settings, descriptors=raise_descriptor_limit()),
            metrics=self._service.metrics,
            refuse=partial(refuse_http, self._service.metrics, dialects=DIALECTS),
            on_lost=link.heartbeat.count_closed_connection if link else lambda: None,
        )
        self._metrics_listener = shared.metrics_listener
        self._metrics_connections = Connections(
            metrics_connection_limits(settings),
            metrics=self._service.metrics,
            refuse=partial(refuse_http, self._service.metrics),
        )
        self._metrics_server: asyncio.Server | None = None
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                http=partial(  # type: ignore[arg-type]  # called like the class it stands for
                    HTTPProtocol,
                    connections=self._connections,
                    refuse_early=make_gate(
                        self._service, settings, shared.keys, app.state.access_log
                    ).refuse,
                ),
                lifespan="on",
                server_header=False,
                proxy_headers=False,  # no code uses the client's address
                ws="none",
                timeout_graceful_shutdown=settings.drain_timeout_s,
            )
        )
        self.server_state.connections = self._connections.open  # type: ignore[assignment]  # the protocols

    @property
    def failure(self) -> str | None:
        """Why the service can never become ready, or has failed; None if it can, or is."""
        return self._service.failure

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, then take connections from the supervisor."""
        self._event_loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self._metrics_listener is not None:
            self._metrics_server = await self._serve_metrics(self._metrics_listener)
        if self._link is not None:
            self._link.open(
                Callbacks(
                    adopt=self._adopt,
                    snapshot=self._service.metrics.tally.snapshot,
                    drain=self._service.begin_drain,
                    stop=self._stop,
                    obey=self._service.obey,
                )
            )
            self._report_phase()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; returns whether to shut down."""
        if self._link is not None:
            self._link.heartbeat.beat()
        return await super().on_tick(counter) or self.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take the connections that have been made, then shut down as uvicorn does.

        Closing the port resets the connections that nobody has accepted.
        """
        for listener in sockets or ():
            with contextlib.suppress(OSError):  # there are no more
                while self._connections.has_room(len(self._adopting) + 1):
                    self._adopt(listener.accept()[0])
        await asyncio.gather(*self._adopting, return_exceptions=True)
        if self._metrics_server is not None:
            self._metrics_server.close()
        for connection in list(self._metrics_connections.open):
            connection.shutdown()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals. A worker does not: its supervisor sends messages instead."""
        if self._link is not None:
            yield
            return
        handlers = {n: signal.signal(n, self.handle_exit) for n in (signal.SIGINT, signal.SIGTERM)}
        handlers[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._handle_hangup)
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal. Unlike uvicorn, do not raise it again, so that the exit status is 0."""
        if self._signalled or not self.started:
            self.should_exit = True
            return
        self._signalled = True
        self._event_loop.call_soon_threadsafe(self._begin_drain)

    def _handle_hangup(self, _signal: int, _frame: FrameType | None) -> None:
        """Look for new versions."""
        if self.started:
            self._event_loop.call_soon_threadsafe(self._service.look)

    def _begin_drain(self) -> None:
        self._service.begin_drain()
        self._event_loop.call_later(self._drain_delay_s, self._stop)

    def _stop(self) -> None:
        self._service.begin_drain()
        self.should_exit = True

    def _report_phase(self) -> None:
        """Report the phase to the supervisor, or to the log for a process on its own."""
        if self._link is not None:
            self._link.send_state(state_of(self._service.lifecycle))
        else:
            self._report_own_phase()
        if self.failure is not None:
            self._end_failed(self.failure)

    def _report_own_phase(self) -> None:
        """Count and log the phase of a process on its own."""
        lifecycle = self._service.lifecycle
        word = "draining" if lifecycle.draining else "ready" if lifecycle.ready else "starting"
        self._service.metrics.set_workers({word: 1})
        if lifecycle.ready and not self._was_ready:
            self._was_ready = True
            self._on_ready()
        elif lifecycle.phase is Phase.DRAINING and self.failure is None:
            logger.info("the service is draining")

    def _end_failed(self, reason: str) -> None:
        """Load no further models, and tell the supervisor; the next tick shuts down."""
        if not self._service.lifecycle.draining:
            if self._link is not None:
                self._link.send_failure(reason)
            self._service.begin_drain()

    def _make_protocol(self) -> asyncio.Protocol:
        """Make a protocol as uvicorn does for a connection that it accepted itself."""
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=self._event_loop,
        )
        return protocol

    async def _serve_metrics(self, listener: socket.socket) -> asyncio.Server:
        """Accept on the port for metrics."""
        app = create_metrics_app(self._service, self._link)

        def make_protocol() -> asyncio.Protocol:
            return HTTPProtocol(
                *(self.config, self.server_state, self.lifespan.state, self._event_loop),
                connections=self._metrics_connections,
                app=app,
            )

        return await self._event_loop.create_server(make_protocol, sock=listener)

    def _adopt(self, connection: socket.socket) -> None:
        """Serve a connection that was accepted elsewhere."""
        if not self._connections.has_room(len(self._adopting) + 1):
            self._connections.count_refused()
            connection.close()
            if self._link is not None:
                self._link.heartbeat.count_closed_connection()
            return
        connection.setblocking(False)
        task = self._event_loop.create_task(
            self._event_loop.connect_accepted_socket(self._make_protocol, connection)
        )
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)


def raise_descriptor_limit() -> int:
    """Let this process have as many file descriptors as the system allows; returns how many."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS has a lower limit than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        limit = most
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


def listen(host: str, port: int, *, option: str = "--port") -> socket.socket:
    """Open a listening socket.

    Args:
        host: The address.
        port: 0 for any free one.
        option: Chooses another port, for the error.

    Raises:
        ValenceError: The address is in use, or not one of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)  # connections wait there until the event loop runs
    except OSError as error:
        raise ValenceError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another port with {option}"
        ) from error
    except UnicodeError as error:
        raise ValenceError(f"cannot listen on {host}:{port}: the host name is invalid") from error
    return listener
