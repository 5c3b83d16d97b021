"""What the service does about memory beyond Python's own ways, each with its measured reason."""

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

_M_ARENA_MAX: Final = -8
"""A number of `malloc.h`."""


def freeze_heap() -> None:
    """Exclude every object that exists now from all later collections.

    A loaded model stays until the process ends, and a full collection would stop the event loop
    to visit its objects again: for 90 ms with the bundled models on ONNX Runtime, and for 550 ms
    on TensorFlow, instead of less than 0.1 ms (two busy cores, Python 3.11).
    """
    gc.collect()
    gc.freeze()


def limit_arenas(count: int) -> None:
    """Let all threads share so many pools of memory, where the C library has pools.

    By default each thread that loads a version has one of its own, which keeps what loading leaves
    free: a worker with the five bundled models takes 90 MB instead of 108 with two pools, and
    answers as many requests per second. Call it before threads are started. The variable
    `MALLOC_ARENA_MAX`, if it is set, has precedence.
    """
    mallopt = _find_function("mallopt")
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_M_ARENA_MAX, count)


def settle_memory() -> None:
    """Call `freeze_heap` and `give_back_memory`: before a fork, and when versions were loaded.

    What exists is then in use for long. After a fork, a collection would write to every page that
    is shared with the parent process.
    """
    freeze_heap()
    give_back_memory()


def give_back_memory() -> None:
    """Return freed memory to the system, where the C library can; it keeps it for itself else.

    Called when a version was released, and after large requests: each round of 64 bodies of 3 MB
    left a process at twice its size. The call runs without the GIL.
    """
    if (trim := _find_function("malloc_trim")) is not None:
        trim(0)


@cache
def _find_function(name: str) -> Any | None:
    """A function of the C library; None where it has none of this name, as the GNU one has."""
    return getattr(ctypes.CDLL(None), name, None)


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the collector. Only for code that does not await: the switch is process-wide.

    Parsing a body of 4 MiB that holds 1.4 million empty lists stops the event loop for 0.16 s
    instead of 0.67 s on Python 3.11, because the collector visits all of them again and again.
    On 3.12 and 3.13, which collect between bytecodes only, the difference is 1.3 times.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
