"""The composition root: settings in, a running service out."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI

from app import __version__
from app.api.documentation import register_documentation
from app.api.error_handlers import (
    document_common_parts,
    internal_error,
    register_error_handlers,
)
from app.api.front_door import FrontDoor
from app.api.health import register_health, register_models
from app.api.middleware import RequestMiddleware
from app.api.predict import register_predict
from app.api.schemas import Limits
from app.artifact import ONNX
from app.errors import InvalidInput, MissingLibrary, UnknownModel, UnusableVersion, ValenceError
from app.serving.batcher import Batcher
from app.serving.engines import (
    EngineOptions,
    LoadEngine,
    choose_engine,
    load_engine,
    visible_cores,
)
from app.serving.lifecycle import Lifecycle, Phase
from app.serving.predictor import Prediction, Predictor
from app.serving.repository import LoadedVersion, Repository, State, Version, load_version
from app.serving.request_queue import BatchPolicy
from app.serving.slots import EngineSlots
from app.settings import Settings
from app.telemetry.logs import describe_exception, log_loop_errors
from app.telemetry.metrics import Metrics
from app.workers import Workers, can_fork_workers

logger = logging.getLogger(__name__)

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
        known: Collection[tuple[str, int]] | None = None,
    ) -> None:
        self.lifecycle = Lifecycle()
        self.metrics = Metrics()
        self.repository = Repository(settings.models_dir, settings.default_model, known=known)
        self.loading: asyncio.Task[None] | None = None
        self._load_engine = load
        self._on_loaded = on_loaded
        self._slots = EngineSlots(settings.threads or visible_cores())
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
    workers: Workers | None = None,
    known: Collection[tuple[str, int]] | None = None,
) -> FastAPI:
    """Put the rooms together. `app.state.service` is the `Service`.

    Args:
        settings: Every knob.
        load: Loads the engine of a version folder; by default as the settings say.
        on_loaded: Called when the models are loaded, just before the service is ready.
        workers: The other processes that answer on the same port, if there are any.
        known: Name and number of the versions that may be loaded; None for all that are there.
    """
    service = Service(
        settings,
        load or partial(load_engine, options=engine_options(settings)),
        on_loaded,
        known,
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
    register_health(app, service.lifecycle, service.metrics.tally, workers)
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


def engine_options(settings: Settings) -> EngineOptions:
    """What the engines are told."""
    return EngineOptions(settings.engine, settings.device, settings.threads or visible_cores())


def divide_cores(
    settings: Settings,
    *,
    count_cores: Callable[[], int] = visible_cores,
    can_fork: Callable[[], bool] = can_fork_workers,
) -> Settings:
    """Settle how many workers there are, and how many batches each runs at once.

    One Python process keeps about one core busy with HTTP and text, so on a CPU there is a worker
    for each core, with one batch at a time: measured in docs/measurements.md. TensorFlow's own
    memory is several times that of the models, and a GPU is better fed by one process: there is
    one worker then.

    Args:
        settings: Every knob; 0 workers or threads are those to settle.
        count_cores: Tells how many there are for this process.
        can_fork: Whether there may be more than one worker here.

    Raises:
        InvalidInput: More than one worker is asked for where that cannot be.
        MissingLibrary: No library that could run the models is installed.
    """
    cores = count_cores()
    workers = settings.workers
    if workers > 1 and not can_fork():
        raise InvalidInput(f"WORKERS must be 0 or 1 on this system. Received: {workers}")
    if not workers:
        has_onnx = any(settings.models_dir.glob(f"*/*/{ONNX}"))
        engine = choose_engine(engine_options(settings), has_onnx=has_onnx)
        alone = engine != "onnx" or not can_fork()
        workers = 1 if alone else max(1, cores // (settings.threads or 1))
    threads = settings.threads or max(1, cores // workers)
    return settings.model_copy(update={"workers": workers, "threads": threads})


def request_limits(settings: Settings) -> Limits:
    """How much a request may ask for."""
    return Limits(
        max_text_chars=settings.max_text_chars,
        max_texts=settings.max_texts_per_request,
        max_body_bytes=settings.max_body_bytes,
        request_timeout_ms=settings.request_timeout_ms,
    )
