"""Trial worker: a process that trains one setting after another for a search.

This module is what such a process imports first, so TensorFlow waits until it can be told how many
threads to take.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from app.errors import ValenceError
from training.config import Config
from training.data.dataset import Dataset
from training.support.tensorflow_import import import_tensorflow
from training.tuning.interface import Report


class Worker:
    """A process of its own that trains when called.

    Args:
        dataset: What to train on.
        checkpoint: The file it may write to.
        jobs: How many such processes share the cores.
    """

    def __init__(self, dataset: Dataset, checkpoint: Path, *, jobs: int) -> None:
        context = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, dataset, checkpoint, jobs), daemon=True
        )
        self._process.start()
        theirs.close()

    def __call__(self, config: Config, report: Report) -> float | None:
        """Train once.

        Raises:
            ChildProcessError: The process ended before it could answer.
        """
        try:
            self._connection.send(config)
            while isinstance(answer := self._connection.recv(), tuple):
                self._connection.send(report(*answer))
        except (EOFError, ConnectionError) as error:
            self._process.join()
            raise ChildProcessError(
                f"the process of a trial ended with {self._process.exitcode}, perhaps for want of "
                "memory: take fewer --jobs; the same command goes on where this one stopped"
            ) from error
        if isinstance(answer, Exception):
            raise answer
        return cast("float | None", answer)

    def kill(self) -> None:
        """End the process, in the middle of a training if need be."""
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, dataset: Dataset, checkpoint: Path, jobs: int) -> None:
    """The life of the process: for each `Config` that comes in, epochs and a figure go out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import_tensorflow()
    _share_machine(jobs)
    from training.tuning.trial import train_once

    def report(epoch: int, figure: float) -> bool:
        connection.send((epoch, figure))
        return bool(connection.recv())

    while True:
        answer: float | Exception | None
        try:
            answer = train_once(dataset, checkpoint, connection.recv(), report)
        except EOFError:
            return
        except ValenceError as error:
            answer = error
        except Exception:  # noqa: BLE001 - raised anew by the parent
            answer = RuntimeError(traceback.format_exc())
        connection.send(answer)


def _end_with_parent() -> None:
    """A killed parent cannot end its workers; so each waits for that moment."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _share_machine(jobs: int) -> None:
    """Take this process's part of the cores, and of a GPU only the memory that is needed."""
    import tensorflow as tf

    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    threads = max(1, cores // jobs)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
