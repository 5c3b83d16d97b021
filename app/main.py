"""The composition root: settings in, an application out."""

import asyncio
import logging
import platform
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI
from starlette.types import ASGIApp

from app import __version__
from app.api import openinference, tensorflow_serving
from app.api.access_log import AccessLog
from app.api.application import Application
from app.api.body import Bodies
from app.api.connections import ConnectionLimits
from app.api.console.routes import register_console
from app.api.cross_origin import CrossOrigin
from app.api.documentation import register_documentation
from app.api.error_handlers import (
    REJECTION_REASONS,
    UNROUTED_STATUSES,
    document_common_parts,
    internal_error,
    register_error_handlers,
)
from app.api.gate import Gate
from app.api.health import assess, register_metrics, register_models, register_probes
from app.api.inference import Inference
from app.api.keys import OPEN_PATHS, KeyCheck, Keys
from app.api.middleware import RequestMiddleware
from app.api.predict import register_predict
from app.api.traces import TraceMiddleware
from app.artifact import Manifest
from app.configuration import engine_options, find_engine, request_limits
from app.errors import MissingLibrary
from app.service import Alone, Service
from app.serving.batcher import TraceRun
from app.serving.engines import (
    LoadEngine,
    load_engine,
)
from app.serving.hardware import visible_cores
from app.serving.predictor import Prediction
from app.serving.repository import Repository, Version, load_version
from app.serving.request_queue import BatchPolicy
from app.settings import Settings
from app.telemetry.logs import log_loop_errors
from app.telemetry.metrics import OTHER_ROUTE
from app.workers import Workers

if TYPE_CHECKING:  # the extra `otel` may not be installed
    from app.telemetry.tracing import Tracing

logger = logging.getLogger(__name__)

_KEPT_DESCRIPTORS: Final = 64
_METRICS_CONNECTIONS: Final = 16
"""On a port for metrics. Of Prometheus there are one or two."""
# Most load balancers close idle connections after 60 s. The client should close first: a request
# that it sends while the server closes is lost.
_KEEP_ALIVE_S: Final = 75

DIALECTS: Final = {
    "/v1": tensorflow_serving.DIALECT,
    "/V1": tensorflow_serving.DIALECT,
    "/v2": openinference.DIALECT,
}
"""How errors are told, by the start of the path."""

DESCRIPTION = """Sentiment of English texts, from models trained on real reviews.

Errors are problem details (RFC 9457). Every answer carries `X-Request-ID`; predictions also carry
`Server-Timing`."""


def create_app(
    settings: Settings,
    *,
    load: LoadEngine | None = None,
    on_loaded: Callable[[], None] = lambda: None,
    on_released: Callable[[], None] = lambda: None,
    workers: Workers | None = None,
    keys: Keys | None = None,
    tracing: "Tracing | None" = None,
) -> FastAPI:
    """Build the application.

    `app.state` has its `service`, the `bodies` in flight and its `access_log`.

    Args:
        settings: All settings of the process.
        load: Loads the engine of a version folder; by default as the settings say.
        on_loaded: Called when the models are loaded, just before the service is ready.
        on_released: Called in a thread when memory was released; see `Service`.
        workers: The other processes behind the same port; None for a process on its own.
        keys: The API keys, if they were read before this process was forked.
        tracing: Makes the spans; by default as the settings say.
    """
    keys = keys or open_keys(settings)
    tracing = tracing or open_tracing(settings)
    service = create_service(
        settings,
        load=load,
        on_loaded=on_loaded,
        on_released=on_released,
        workers=workers,
        trace_run=tracing.trace_run if tracing is not None else None,
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        log_loop_errors(asyncio.get_running_loop())
        service.start()
        yield
        await service.drain()
        if tracing is not None:
            tracing.close()

    access_log = AccessLog(settings.access_log)
    bodies = Bodies(settings.max_bodies_bytes, on_large_end=service.release_memory_soon)

    def wrap(app: ASGIApp) -> ASGIApp:
        if keys is not None:
            app = KeyCheck(app, keys=keys)
        if settings.cors_origins:  # outside of the keys, because a preflight carries none
            app = CrossOrigin(app, origins=settings.cors_origins)
        app = RequestMiddleware(
            app,
            metrics=service.metrics,
            bodies=bodies,
            draining=lambda: service.lifecycle.draining,
            answer_unexpected=internal_error,
            dialects=DIALECTS,
            log=access_log.write,
            log_from=access_log.first_status,
        )
        return app if tracing is None else TraceMiddleware(app, tracer=tracing)

    if keys is not None:
        keys.on_load = service.metrics.count_key_load
    app = Application(
        wrap=wrap,
        title="Valence",
        description=DESCRIPTION,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # replaced by a page with a fallback for browsers without network access
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.bodies = bodies
    app.state.access_log = access_log
    service.metrics.declare_rejections(REJECTION_REASONS)
    register_documentation(app)
    register_error_handlers(app)
    inference = Inference(
        service.repository,
        request_limits(settings),
        bodies,
        service.metrics.requests_in_flight,
    )
    register_predict(app, inference)
    openinference.register(app, inference, partial(assess, service.lifecycle, workers))
    tensorflow_serving.register(app, inference)
    register_models(app, service.repository, service.lifecycle, workers)
    register_probes(app, service.lifecycle, workers)
    if settings.console == "on":
        register_console(app, service.repository, metrics_are_here=settings.metrics_port is None)
    if settings.metrics_port is None:
        register_metrics(app, service.metrics.tally, workers)
    document_common_parts(app, open_paths=None if keys is None else OPEN_PATHS, dialects=DIALECTS)
    app.index_raw_routes()
    service.metrics.declare_routes(
        app.statuses() | {OTHER_ROUTE: UNROUTED_STATUSES}, predictions=app.posts()
    )
    service.metrics.build_info.labels(
        __version__, platform.python_version(), find_engine(settings)
    ).set(1)
    return app


def create_metrics_app(service: Service, workers: Workers | None) -> FastAPI:
    """Build an application with `/metrics` alone, for a port of its own. It asks for no key."""
    app = Application(
        wrap=partial(
            RequestMiddleware,
            metrics=service.metrics,
            bodies=Bodies(0),
            draining=lambda: service.lifecycle.draining,
            answer_unexpected=internal_error,
        ),
        openapi_url=None,
        redirect_slashes=False,
    )
    register_error_handlers(app)
    register_metrics(app, service.metrics.tally, workers)
    service.metrics.declare_routes(app.statuses(), predictions=())
    return app


def open_keys(settings: Settings) -> Keys | None:
    """The API keys; None if the service asks for none.

    Raises:
        InvalidInput: The file cannot be read, or is damaged.
    """
    return Keys(settings.api_keys_file) if settings.api_keys_file is not None else None


def open_tracing(settings: Settings) -> "Tracing | None":
    """What makes spans; None if that is off.

    Raises:
        MissingLibrary: OpenTelemetry is not installed.
    """
    return None if settings.tracing == "off" else _import_tracing()(__version__)


def _import_tracing() -> "type[Tracing]":
    try:
        from app.telemetry.tracing import Tracing
    except ImportError as error:
        raise MissingLibrary(
            "TRACING=otlp needs the package opentelemetry-sdk, which is not installed: run make "
            "setup, install valence[otel], or take the image of make image TARGET=traced"
        ) from error
    return Tracing


def require_tracing(settings: Settings) -> None:
    """Check before the fork that spans can be made.

    Raises:
        MissingLibrary: OpenTelemetry is not installed.
    """
    if settings.tracing != "off":
        _import_tracing()


def create_service(
    settings: Settings,
    *,
    load: LoadEngine | None = None,
    on_loaded: Callable[[], None] = lambda: None,
    on_released: Callable[[], None] = lambda: None,
    workers: Workers | None = None,
    trace_run: TraceRun | None = None,
) -> Service:
    """Build the service without HTTP. The arguments are those of `create_app`."""
    alone = Alone(settings.reload_poll_s)
    member = alone if workers is None else workers
    service = Service(
        Repository(settings.models_dir, settings.default_model, generation=member.generation),
        load_engine=load or partial(load_engine, options=engine_options(settings)),
        threads=settings.threads or visible_cores(),
        policy=batch_policy(settings),
        member=member,
        engine_timeout_s=settings.engine_timeout_s,
        trace_run=trace_run,
        on_loaded=on_loaded,
        on_released=on_released,
    )
    alone.bind(service)
    return service


def make_gate(
    service: Service,
    settings: Settings,
    keys: Keys | None = None,
    access_log: AccessLog | None = None,
) -> Gate:
    """What refuses requests before they are parsed."""
    return Gate(
        service.repository,
        request_limits(settings),
        service.metrics,
        draining=lambda: service.lifecycle.draining,
        refused_at=lambda: service.engine_load.refused_at,
        wants_line=access_log.wants_refusal if access_log and access_log.enabled else None,
        keys=keys,
    )


async def predict_once(
    settings: Settings, text: str, *, model: str | None, number: int | str | None, explain: bool
) -> tuple[Version, Prediction]:
    """Predict one text with the version that would answer in the service; see `Service`."""
    service = create_service(settings)
    return await service.predict_once(text, model=model, number=number, explain=explain)


def load_once(settings: Settings, folder: Path) -> Manifest:
    """Load a version as the service does, with all its checks, and return its manifest."""
    load = partial(load_engine, options=engine_options(settings))
    return load_version(folder, load).manifest


def batch_policy(settings: Settings) -> BatchPolicy:
    """The part of the settings that decides how batches are formed."""
    return BatchPolicy(
        max_items=settings.max_batch_items,
        max_tokens=settings.max_batch_tokens,
        max_queue_delay_s=settings.max_queue_delay_ms / 1e3,
        max_queue_items=settings.max_queue_items,
        max_queue_bytes=settings.max_queue_bytes,
    )


def connection_limits(settings: Settings, *, descriptors: int) -> ConnectionLimits:
    """The part of the settings that bounds connections.

    Args:
        settings: All settings.
        descriptors: How many file descriptors the process may have. Some are kept for files, and
            for probes when all connections are taken, and for a port for metrics.
    """
    kept = _KEPT_DESCRIPTORS + (0 if settings.metrics_port is None else 3 * _METRICS_CONNECTIONS)
    return ConnectionLimits(
        max_connections=max(1, min(settings.max_connections, descriptors - kept)),
        header_timeout_s=settings.header_timeout_s,
        keep_alive_s=_KEEP_ALIVE_S,
        min_body_bytes_per_s=settings.min_body_bytes_per_s,
    )


def metrics_connection_limits(settings: Settings) -> ConnectionLimits:
    """The bounds of the connections on a port for metrics."""
    limits = connection_limits(settings, descriptors=sys.maxsize)
    return replace(limits, max_connections=_METRICS_CONNECTIONS)
