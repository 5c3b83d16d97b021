"""The process from which the processes of a run are forked, because it has imported what they need.

A fork of the command itself would take over its threads' locks without its threads.
"""

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from typing import Final

_PRELOADED: Final = "app.scoring.preloaded"


def start() -> BaseContext:
    """Start it, unless it runs, and return the context in which processes are forked from it.

    Where it cannot be started, as without a folder for temporary files, each process imports all
    on its own.
    """
    multiprocessing.set_forkserver_preload([_PRELOADED])
    try:
        forkserver.ensure_running()
    except OSError:
        return multiprocessing.get_context("spawn")
    return multiprocessing.get_context("forkserver")
