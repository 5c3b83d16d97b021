"""Uvicorn's own supervisor: all workers accept from one listening socket."""

import logging
from functools import cache, partial
from typing import Any, Final

import uvicorn
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from app.api.connections import ConnectionLimits, Connections
from app.api.error_handlers import refuse_http
from app.api.protocol import HTTPProtocol
from app.gc_tuning import freeze_heap
from app.main import create_app
from app.server import listen
from app.settings import Settings
from app.telemetry.logs import configure_logs
from app.telemetry.metrics import Metrics

logger = logging.getLogger("app.launcher")

# As app/workers allows. With uvicorn's 5 s, a worker that takes longer than that to import the
# service on a busy machine is killed before it answers, and so is each that replaces it.
_SILENCE_S: Final = 30


def run(settings: Settings) -> None:
    """Serve until a signal ends it."""
    listener = listen(settings.host, settings.port)
    host, port = listener.getsockname()
    logger.info("the service is starting", extra={"address": f"http://{host}:{port}"})
    config = uvicorn.Config(  # as app/server.py configures it
        partial(make_app, settings),
        factory=True,
        workers=settings.workers,
        log_config=None,
        access_log=False,
        http=make_protocol,  # type: ignore[arg-type]  # called like the class it stands for
        lifespan="on",
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=settings.drain_timeout_s,
        timeout_worker_healthcheck=_SILENCE_S,
    )
    Multiprocess(config, sockets=[listener]).run()


def make_app(settings: Settings) -> FastAPI:
    """The application of one worker, which uvicorn starts as a fresh interpreter."""
    configure_logs("json", "info")

    def finish() -> None:
        freeze_heap()
        logger.info("the service is ready")

    return create_app(settings, on_loaded=finish)


def make_protocol(**arguments: Any) -> HTTPProtocol:
    """The protocol of a connection."""
    return HTTPProtocol(connections=_connections(), **arguments)


@cache
def _connections() -> Connections:
    """The connections of one worker; nobody reads their count."""
    limits = ConnectionLimits(
        max_connections=4096, header_timeout_s=10, keep_alive_s=75, min_body_bytes_per_s=240
    )
    metrics = Metrics()
    return Connections(limits, metrics=metrics, refuse=partial(refuse_http, metrics))
