"""Collects the metrics of all workers for the one worker that was asked for `/metrics`."""

import itertools
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.workers.messages import send


class Aggregation(Protocol):
    """How metrics snapshots are combined; `app.telemetry.tally.Tally` is one."""

    def merge(self, snapshots: Sequence[Any]) -> Any:
        """Merge the snapshots of several workers into one."""
        ...

    def remains(self, snapshot: Any) -> Any:
        """The part of a snapshot that still counts after its worker has ended: no gauges."""
        ...


@dataclass
class _Collection:
    """One pending request for the metrics of all workers.

    Attributes:
        channel: To the worker that asked.
        request: The number that the worker gave its request.
        missing: The workers that have not sent a snapshot yet.
    """

    channel: socket.socket
    request: int
    missing: set[int]


class MetricsCollector:
    """Keeps the last snapshot of every worker, and merges them on request.

    For a worker that has died, or does not respond in time, the last snapshot is used, so that no
    counter ever decreases. Merging here rather than in the worker keeps the reply equally small
    for any number of workers.

    Args:
        aggregation: How snapshots are combined.
    """

    def __init__(self, aggregation: Aggregation) -> None:
        self._aggregation = aggregation
        self._last: dict[int, Any] = {}
        self._collections: dict[int, _Collection] = {}
        self._identifiers = itertools.count()

    def last_snapshot(self, worker: int) -> Any:
        """The last snapshot of a worker; None if it has sent none."""
        return self._last.get(worker)

    def start(self, channels: Mapping[int, socket.socket], asking: int, request: int) -> int:
        """Ask all workers for a snapshot.

        Args:
            channels: To each worker, by its number.
            asking: The worker that asked.
            request: The number that the worker gave its request; the reply repeats it.

        Returns:
            The identifier of this collection, for `add` and `finish`.
        """
        identifier = next(self._identifiers)
        collection = _Collection(channels[asking], request, missing=set(channels))
        self._collections[identifier] = collection
        for worker, channel in channels.items():
            if not send(channel, take_snapshot=identifier):
                self._stop_waiting(identifier, worker)
        return identifier

    def add(self, worker: int, identifier: int, snapshot: Any) -> None:
        """Add the snapshot of a worker; the last one missing finishes the collection."""
        self._last[worker] = snapshot
        self._stop_waiting(identifier, worker)

    def finish(self, identifier: int) -> None:
        """Reply with what is known. Does nothing if the collection is finished."""
        collection = self._collections.pop(identifier, None)
        if collection is not None:
            merged = self._aggregation.merge(list(self._last.values()))
            send(collection.channel, merged=collection.request, metrics=merged)

    def remove(self, worker: int) -> None:
        """Stop waiting for a worker that has ended, and keep only its counters."""
        if worker in self._last:
            self._last[worker] = self._aggregation.remains(self._last[worker])
        for identifier in list(self._collections):
            self._stop_waiting(identifier, worker)

    def _stop_waiting(self, identifier: int, worker: int) -> None:
        collection = self._collections.get(identifier)
        if collection is not None:
            collection.missing.discard(worker)
            if not collection.missing:
                self.finish(identifier)
