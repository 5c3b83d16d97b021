"""The composition root: settings in, a running service out."""

import asyncio
import gc
import logging
import math
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app import __version__
from app.api.documentation import register_documentation
from app.api.error_handlers import (
    document_common_parts,
    internal_error,
    refuse_invalid_http,
    register_error_handlers,
)
from app.api.front_door import FrontDoor
from app.api.health import register_health, register_models
from app.api.middleware import RequestMiddleware
from app.api.predict import register_predict
from app.api.protocol import HTTPProtocol
from app.api.schemas import Limits
from app.errors import MissingLibrary, UnknownModel, UnusableVersion, ValenceError
from app.serving.batcher import Batcher
from app.serving.engines import EngineOptions, LoadEngine, load_engine, visible_cores
from app.serving.lifecycle import Lifecycle, Phase
from app.serving.predictor import Prediction, Predictor
from app.serving.repository import LoadedVersion, Repository, State, Version, load_version
from app.serving.request_queue import BatchPolicy
from app.serving.slots import EngineSlots
from app.settings import Settings
from app.telemetry.logs import describe_exception, log_loop_errors
from app.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

_BACKLOG = 2048
# Longer than the minute that most load balancers keep an idle connection: the side that sends the
# next request should be the one that closes, or the request meets a closed door.
_KEEP_ALIVE_S = 75

DESCRIPTION = """Sentiment of English texts, from models trained on real reviews.

Errors are problem details (RFC 9457). Every answer carries `X-Request-ID`; predictions also carry
`Server-Timing`."""


class Service:
    """The parts of one process, and their life: load, warm up, ready, drain.

    Attributes:
        lifecycle: Where the process stands.
        metrics: What is counted.
        repository: The models.
        loading: Done when every version is ready or refused; None before `start`.
    """

    def __init__(
        self,
        settings: Settings,
        load: LoadEngine,
        on_loaded: Callable[[], None] = lambda: None,
    ) -> None:
        self.lifecycle = Lifecycle()
        self.metrics = Metrics()
        self.repository = Repository(settings.models_dir, settings.default_model)
        self.loading: asyncio.Task[None] | None = None
        self._load_engine = load
        self._on_loaded = on_loaded
        self._slots = EngineSlots(engine_threads(settings))
        self._policy = BatchPolicy(
            max_items=settings.max_batch_items,
            max_tokens=settings.max_batch_tokens,
            max_queue_delay_s=settings.max_queue_delay_ms / 1e3,
            max_queue_items=settings.max_queue_items,
        )

    def start(self) -> None:
        """Begin to load, on the running event loop; requests are answered meanwhile."""
        self.loading = asyncio.create_task(self._load())

    async def _load(self) -> None:
        """Load every version, those of the default model first; refuse those that fail."""
        started = time.monotonic()
        try:
            await asyncio.to_thread(self.repository.scan)
        except UnusableVersion as error:
            self._give_up(str(error))
            return
        for name, reason in self.repository.unreadable.items():
            logger.error("a model cannot be read", extra={"model": name, "reason": reason})
        self._advance(Phase.WARMING, "the models are being loaded")
        for candidate in self.repository.loading_order():
            if self.lifecycle.draining:
                return
            await self._load_version(candidate)
        self._on_loaded()
        # Only now: a pod that is ready for one model and not yet for another would answer 503 to
        # requests that a pod beside it could have answered.
        if self.repository.newest_ready(self.repository.default or "") is not None:
            self._advance(Phase.READY)
            seconds = round(time.monotonic() - started, 3)
            logger.info("the service is ready", extra={"seconds": seconds})
        else:
            self._give_up(self.repository.explain_default())

    def _give_up(self, reason: str) -> None:
        """Say why there is nothing to be ready with."""
        self.lifecycle.explain(reason)
        logger.error("the service cannot become ready", extra={"reason": reason})

    async def load_one(self, name: str | None, number: int | None) -> Version:
        """Load the newest version of a model that can be used, or the one that is named.

        Raises:
            UnknownModel: There is none.
        """
        self.repository.scan()
        wanted = name or self.repository.default
        candidates = [
            candidate
            for candidate in self.repository.loading_order()
            if candidate.name == wanted and number in (None, candidate.number)
        ]
        if not candidates:
            raise UnknownModel(
                f"there is no such model or version; there are: "
                f"{', '.join(self.repository.versions) or 'none'}"
            )
        for candidate in candidates:
            await self._load_version(candidate)
            if candidate.state is State.READY:
                break
        return candidate

    def begin_drain(self) -> None:
        """Say that traffic should go elsewhere; what comes nevertheless is still answered."""
        if not self.lifecycle.draining:
            self._advance(Phase.DRAINING, "the service is shutting down")
            logger.info("the service is draining")

    async def drain(self) -> None:
        """Answer what was admitted, then stop. Again is harmless."""
        if self.lifecycle.phase is Phase.STOPPED:
            return
        self.begin_drain()
        if self.loading is not None:
            await self.loading
        versions = [v for group in self.repository.versions.values() for v in group]
        predictors = [v.predictor for v in versions if v.predictor is not None]
        await asyncio.gather(*(predictor.drain() for predictor in predictors))
        self._slots.close()
        self.lifecycle.advance(Phase.STOPPED, "the service has stopped")
        logger.info("the service has stopped")

    def _advance(self, phase: Phase, reason: str = "") -> None:
        if not self.lifecycle.draining:  # a signal may come at any time
            self.lifecycle.advance(phase, reason)

    async def _load_version(self, candidate: Version) -> None:
        """Load one version in a thread; the event loop goes on answering."""
        about = {"model": candidate.name, "version": candidate.number}
        candidate.state = State.LOADING
        started = time.monotonic()
        try:
            loaded = await asyncio.to_thread(load_version, candidate.folder, self._load_engine)
            self._start(candidate, loaded)
        except (UnusableVersion, MissingLibrary) as error:
            candidate.refuse(str(error))
        except Exception as error:  # noqa: BLE001 one version must not keep the others from serving
            candidate.refuse(f"loading it met an unexpected {type(error).__name__}")
            logger.error(  # noqa: TRY400 the formatter keeps messages of exceptions out
                "a version broke while loading", extra=about | describe_exception(error)
            )
        outcome = "loaded" if candidate.state is State.READY else "refused"
        self.metrics.model_loads.labels(candidate.name, outcome).inc()
        if candidate.state is State.READY:
            about["seconds"] = round(time.monotonic() - started, 3)
            logger.info("a version is ready", extra=about | {"engine": candidate.engine})
        else:
            logger.error("a version was refused", extra=about | {"reason": candidate.reason})

    def _start(self, candidate: Version, loaded: LoadedVersion) -> None:
        """Let a loaded version answer."""
        name, number = candidate.name, candidate.number
        batcher = Batcher(
            loaded.engine,
            labels=len(loaded.manifest.labels),
            policy=self._policy,
            slots=self._slots,
            metrics=self.metrics.for_model(name),
            on_death=partial(self.lifecycle.report_fault, f"{name}/{number}"),
        )
        predictor = Predictor(
            name=name,
            version=number,
            labels=loaded.manifest.labels,
            encoder=loaded.encoder,
            batcher=batcher,
            metrics=self.metrics,
        )
        candidate.admit(loaded.manifest, loaded.engine, predictor)
        is_default = str(name == self.repository.default).lower()
        self.metrics.model_info.labels(name, str(number), loaded.engine.name, is_default).set(1)


def create_app(
    settings: Settings,
    *,
    load: LoadEngine | None = None,
    on_loaded: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Put the rooms together. `app.state.service` is the `Service`.

    Args:
        settings: Every knob.
        load: Loads the engine of a version folder; by default as the settings say.
        on_loaded: Called when the models are loaded, just before the service is ready.
    """
    service = Service(
        settings,
        load or partial(load_engine, options=engine_options(settings)),
        on_loaded,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        log_loop_errors(asyncio.get_running_loop())
        service.start()
        yield
        await service.drain()

    app = FrontDoor(
        wrap=partial(
            RequestMiddleware,
            metrics=service.metrics,
            draining=lambda: service.lifecycle.draining,
            answer_unexpected=internal_error,
        ),
        title="Valence",
        description=DESCRIPTION,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # ours says what to do where its scripts cannot be loaded
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    register_documentation(app)
    register_error_handlers(app)
    register_predict(app, service.repository, request_limits(settings))
    register_models(app, service.repository)
    register_health(app, service.lifecycle, service.metrics.tally)
    document_common_parts(app)
    app.open()
    return app


async def predict_once(
    settings: Settings, text: str, *, model: str | None, number: int | None
) -> tuple[Version, Prediction]:
    """Answer one text with the version that would answer it in the service, loading no other.

    Raises:
        ValenceError: There is no such version, or it cannot be used, or it fails on the text.
    """
    service = Service(settings, partial(load_engine, options=engine_options(settings)))
    try:
        version = await service.load_one(model, number)
        if version.predictor is None:
            raise UnusableVersion(f"{version.name}/{version.number}: {version.reason}")
        answer = await version.predictor.predict([text], deadline=math.inf)
    finally:
        await service.drain()
    only = answer.predictions[0]
    if isinstance(only, ValenceError):
        raise only
    return version, only


class Server(uvicorn.Server):
    """Uvicorn that leaves in two steps.

    SIGTERM or SIGINT: unready at once, still answering for the drain delay, so that load
    balancers notice; then no new connections, and the open requests are finished. A second signal
    skips the delay.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        drain_delay_s: float,
        on_drain: Callable[[], None],
        on_listening: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._drain_delay_s = drain_delay_s
        self._on_drain = on_drain
        self._on_listening = on_listening
        self._draining = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as uvicorn does, then tell."""
        await super().startup(sockets)
        self._event_loop = asyncio.get_running_loop()
        self._on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a signal. Uvicorn would raise it again at the end; our exit status is 0."""
        if self._draining or not self.started:
            self.should_exit = True
            return
        self._draining = True
        self._event_loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        self._on_drain()
        self._event_loop.call_later(self._drain_delay_s, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


def serve(settings: Settings, announce: Callable[[str], None]) -> None:
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
    app = create_app(settings, on_loaded=freeze_heap)
    service: Service = app.state.service
    listener = listen(settings.host, settings.port)
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    background: set[asyncio.Task[None]] = set()

    async def announce_when_ready() -> None:
        await service.lifecycle.wait_until_ready()
        announce(address)

    server = Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            http=partial(HTTPProtocol, refuse=partial(refuse_invalid_http, service.metrics)),  # type: ignore[arg-type]  # called as the class would be
            lifespan="on",
            server_header=False,
            proxy_headers=False,  # nothing here asks where a request came from
            ws="none",
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=settings.drain_timeout_s,
        ),
        drain_delay_s=settings.drain_delay_s,
        on_drain=service.begin_drain,
        on_listening=lambda: background.add(asyncio.create_task(announce_when_ready())),
    )
    logger.info("the service is starting", extra={"address": address, "version": __version__})
    server.run(sockets=[listener])


def freeze_heap() -> None:
    """Take what is there by now out of the garbage collector's rounds.

    A model's library keeps hundreds of thousands of objects for good, and each full round would
    stop the event loop to walk over them.
    """
    gc.collect()
    gc.freeze()


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


def engine_threads(settings: Settings) -> int:
    """Batches that run at once."""
    return settings.threads or visible_cores()


def engine_options(settings: Settings) -> EngineOptions:
    """What the engines are told."""
    return EngineOptions(settings.engine, settings.device, engine_threads(settings))


def request_limits(settings: Settings) -> Limits:
    """How much a request may ask for."""
    return Limits(
        max_text_chars=settings.max_text_chars,
        max_texts=settings.max_texts_per_request,
        max_body_bytes=settings.max_body_bytes,
        request_timeout_ms=settings.request_timeout_ms,
    )
