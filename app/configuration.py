"""What other layers take of settings and options; without FastAPI, which takes long to import."""

import logging
from collections.abc import Callable
from typing import Final

from app.api.body import Limits, parse_version
from app.artifact import ONNX
from app.errors import InvalidInput
from app.serving.engines import EngineOptions, choose_engine, estimate_memory
from app.serving.hardware import memory_limit, visible_cores
from app.settings import Settings
from app.workers import can_fork_workers

_MIB: Final = 2**20
_SUPERVISOR_BYTES: Final = 64 * _MIB
_REQUESTS_BYTES: Final = 64 * _MIB  # for the requests that a worker has at once

logger = logging.getLogger(__name__)


def engine_options(settings: Settings) -> EngineOptions:
    """The part of the settings that decides which engine runs a model, and where."""
    return EngineOptions(settings.engine, settings.device, settings.threads or visible_cores())


def find_engine(settings: Settings) -> str:
    """The engine that runs the models of the repository, those with `model.onnx` if there are any.

    Raises:
        MissingLibrary: No installed library can run them.
    """
    has_onnx = any(settings.models_dir.glob(f"*/*/{ONNX}"))
    return choose_engine(engine_options(settings), has_onnx=has_onnx)


def request_limits(settings: Settings) -> Limits:
    """The part of the settings that bounds one request."""
    return Limits(
        max_text_chars=settings.max_text_chars,
        max_texts=settings.max_texts_per_request,
        max_body_bytes=settings.max_body_bytes,
        request_timeout_ms=settings.request_timeout_ms,
    )


def divide_cores(
    settings: Settings,
    *,
    count_cores: Callable[[], int] = visible_cores,
    can_fork: Callable[[], bool] = can_fork_workers,
    find_memory: Callable[[], int | None] = memory_limit,
) -> Settings:
    """Choose the number of workers, and the number of threads in each.

    On a CPU each core gets a worker with one thread, because the GIL lets one Python process keep
    about one core busy with HTTP and text; see docs/measurements.md. With TensorFlow there is one
    worker: the library's own memory is several times that of the models, and a GPU is fed better
    by one process.

    The memory limit of the container bounds the workers too, even a number that was set: else the
    kernel would kill workers again and again while they load their models.

    Args:
        settings: All settings; `workers` and `threads` are chosen here where they are 0.
        count_cores: Returns the number of cores of this process.
        can_fork: Whether this system supports more than one worker.
        find_memory: Returns the memory that all processes may use together, in bytes, or None.

    Raises:
        InvalidInput: More than one worker was set on a system that supports one.
        MissingLibrary: No installed library can run the models.
    """
    cores = count_cores()
    workers = settings.workers
    if workers > 1 and not can_fork():
        raise InvalidInput(f"WORKERS must be 0 or 1 on this system. Received: {workers}")
    if workers != 1:
        engine = find_engine(settings)
        if not workers:
            one_worker = engine != "onnx" or not can_fork()
            workers = 1 if one_worker else max(1, cores // (settings.threads or 1))
        each = estimate_memory(engine, settings.models_dir) + _REQUESTS_BYTES
        workers = _fit_into_memory(workers, find_memory(), each)
    threads = settings.threads or max(1, cores // workers)
    return settings.model_copy(update={"workers": workers, "threads": threads})


def _fit_into_memory(workers: int, limit: int | None, each: int) -> int:
    """As many workers as the memory allows; at least one. The log says if these are fewer."""
    if limit is None:
        return workers
    most = max(1, (limit - _SUPERVISOR_BYTES) // each)
    if most >= workers:
        return workers
    logger.warning(
        "the memory limit allows fewer workers",
        extra={
            "workers": most,
            "wanted": workers,
            "limit_mib": limit // _MIB,
            "mib_per_worker": each // _MIB,
        },
    )
    return most


def parse_version_option(typed: str | None) -> int | str | None:
    """The value of `--version`: a number or an alias; None if it was not given.

    Raises:
        InvalidInput: It is neither.
    """
    try:
        return parse_version(typed)
    except InvalidInput as error:
        raise InvalidInput(f"--{error}. Received: {typed!r}") from None
