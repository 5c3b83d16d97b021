"""Worker: a process that trains one trial after another for a search.

A worker process imports this module first. TensorFlow is imported later, when its number of
threads can be set.
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
    """A process that trains when called.

    Args:
        dataset: Texts to train and validate on.
        checkpoint: File for the model of the current trial.
        jobs: Number of workers that share the cores.
    """

    def __init__(self, dataset: Dataset, checkpoint: Path, *, jobs: int) -> None:
        context = multiprocessing.get_context("spawn")  # TensorFlow cannot be forked
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, dataset, checkpoint, jobs), daemon=True
        )
        self._process.start()
        theirs.close()

    def __call__(self, config: Config, report: Report) -> float | None:
        """Train once.

        Raises:
            ChildProcessError: The process ended before it returned a result.
        """
        try:
            self._connection.send(config)
            while isinstance(message := self._connection.recv(), tuple):
                self._connection.send(report(*message))
        except (EOFError, ConnectionError) as error:
            self._process.join()
            raise ChildProcessError(
                f"a worker process ended with exit code {self._process.exitcode}, possibly out of "
                "memory: try fewer --jobs; the same command resumes the study"
            ) from error
        if isinstance(message, Exception):
            raise message
        return cast("float | None", message)

    def kill(self) -> None:
        """Kill the process, even in the middle of a training."""
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, dataset: Dataset, checkpoint: Path, jobs: int) -> None:
    """Main loop of the process: receives a `Config`, sends the accuracy per epoch and the result.

    Messages: (epoch, accuracy) after each epoch, answered with whether to stop; then the result, a
    float or None, or an exception.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and kills this process
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    import_tensorflow()
    _share_machine(jobs)
    from training.tuning.trial import train_once

    def report(epoch: int, accuracy: float) -> bool:
        connection.send((epoch, accuracy))
        return bool(connection.recv())

    while True:
        result: float | Exception | None
        try:
            result = train_once(dataset, checkpoint, connection.recv(), report)
        except EOFError:
            return
        except ValenceError as error:
            result = error
        except Exception:  # noqa: BLE001 - raised again in the parent
            result = RuntimeError(traceback.format_exc())
        connection.send(result)


def _exit_with_parent() -> None:
    """Exit when the parent does: a killed parent cannot kill its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _share_machine(jobs: int) -> None:
    """Limit TensorFlow to this worker's share of the cores, and to the GPU memory it needs."""
    import tensorflow as tf

    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    threads = max(1, cores // jobs)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
