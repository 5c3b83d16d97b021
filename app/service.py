"""The parts of one process and their life: load, warm up, become ready, drain, stop."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from functools import partial

from app.errors import MissingLibrary, UnknownModel, UnusableVersion, ValenceError
from app.serving.batcher import Batcher
from app.serving.engines import LoadEngine
from app.serving.lifecycle import Lifecycle, Phase
from app.serving.predictor import Prediction, Predictor
from app.serving.repository import LoadedVersion, Repository, State, Version, load_version
from app.serving.request_queue import BatchPolicy
from app.serving.slots import EngineSlots
from app.telemetry.logs import describe_exception
from app.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)


class Service:
    """One process of the service: its models, its engine threads and its lifecycle.

    Args:
        repository: The models to serve; `start` scans it.
        load_engine: Loads the engine of a version folder.
        threads: Batches that run at once, one core each.
        policy: How batches are formed.
        engine_timeout_s: After so many seconds a model run is given up.
        on_loaded: Called when every version is loaded or rejected, before the process is ready.

    Attributes:
        lifecycle: The current phase.
        metrics: All metrics of the process.
        repository: As passed in.
        loading: Done when every version is ready or rejected; None before `start`.
        failure: Why the process can never become ready, or ready again; None if it can, or is.
            Every version of the default model was rejected, or a model hangs; `Server` then ends
            the process.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        load_engine: LoadEngine,
        threads: int,
        policy: BatchPolicy,
        engine_timeout_s: float = math.inf,
        on_loaded: Callable[[], None] = lambda: None,
    ) -> None:
        self.lifecycle = Lifecycle()
        self.metrics = Metrics()
        self.repository = repository
        self.loading: asyncio.Task[None] | None = None
        self.failure: str | None = None
        self._load_engine = load_engine
        self._slots = EngineSlots(threads, timeout_s=engine_timeout_s, on_hang=self._break)
        self._policy = policy
        self._on_loaded = on_loaded

    def start(self) -> None:
        """Start loading on the running event loop; requests are answered meanwhile."""
        self.loading = asyncio.create_task(self._load_all())

    async def load_one(self, name: str | None, number: int | None) -> Version:
        """Load one version and no other.

        Args:
            name: The model; None for the default model.
            number: The version; None for the newest one that passes its checks.

        Returns:
            The version, ready or rejected.

        Raises:
            UnknownModel: There is no such model or version.
            UnusableVersion: The repository cannot be read.
        """
        self.repository.scan()
        wanted = name or self.repository.default
        candidates = [
            version
            for version in self.repository.loading_order()
            if version.name == wanted and number in (None, version.number)
        ]
        if not candidates:
            raise UnknownModel(
                f"there is no such model or version; there are: "
                f"{', '.join(self.repository.versions) or 'none'}"
            )
        for version in candidates:
            await self._load(version)
            if version.state is State.READY:
                break
        return version

    async def predict_once(
        self, text: str, *, model: str | None, number: int | None
    ) -> tuple[Version, Prediction]:
        """Load the version that would answer in the service, predict one text, and stop.

        Raises:
            ValenceError: There is no such version, it is rejected, or it fails on the text.
        """
        try:
            version = await self.load_one(model, number)
            if version.predictor is None:
                raise UnusableVersion(f"{version.name}/{version.number}: {version.reason}")
            predicted = await version.predictor.predict([text], deadline=math.inf)
        finally:
            await self.drain()
        (prediction,) = predicted.predictions
        if isinstance(prediction, ValenceError):
            raise prediction
        return version, prediction

    def begin_drain(self) -> None:
        """Become unready, so that traffic goes elsewhere; requests are still answered."""
        if not self.lifecycle.draining:
            self._advance(Phase.DRAINING, "the service is shutting down")

    async def drain(self) -> None:
        """Answer every admitted item, then stop. Calling it again does nothing."""
        if self.lifecycle.phase is Phase.STOPPED:
            return
        self.begin_drain()
        if self.loading is not None:
            await self.loading
        await asyncio.gather(*(predictor.drain() for predictor in self._predictors()))
        self._slots.close()
        self.lifecycle.advance(Phase.STOPPED, "the service has stopped")

    async def _load_all(self) -> None:
        """Load every version, those of the default model first."""
        try:
            await asyncio.to_thread(self.repository.scan)
        except UnusableVersion as error:
            self._fail(str(error))
            return
        for name in self.repository.versions:
            self.metrics.for_model(name)  # every series exists from the start
        for name, reason in self.repository.unreadable.items():
            logger.error("a model cannot be read", extra={"model": name, "reason": reason})
        self._advance(Phase.WARMING, "the models are being loaded")
        self._check_default()
        for version in self.repository.loading_order():
            if self.lifecycle.draining:
                return
            await self._load(version)
            self._check_default()
        self._on_loaded()
        # Not as soon as the default model is ready: this pod would answer 503 for a model that
        # another pod already serves.
        if self.repository.newest_ready(self.repository.default or "") is not None:
            self._advance(Phase.READY)

    def _check_default(self) -> None:
        """Fail as soon as every version of the default model is rejected."""
        versions = self.repository.versions.get(self.repository.default or "", ())
        if self.failure is None and all(v.state is State.REJECTED for v in versions):
            self._fail(self.repository.explain_default())

    def _fail(self, reason: str) -> None:
        """Record why the process can never become ready; it stays in its phase."""
        if not self.lifecycle.draining:
            self.failure = reason
            self.lifecycle.explain(reason)

    def _break(self, reason: str) -> None:
        """Answer everything that waits with an error, and end: a thread is lost to the process."""
        logger.critical("the service has failed", extra={"reason": reason})
        for predictor in self._predictors():
            predictor.fail(reason)
        self._report_failure("engine", reason)

    def _report_failure(self, what: str, reason: str) -> None:
        """Become unready for good, and record why, so that the process is replaced."""
        self.failure = self.failure or reason
        self.lifecycle.report_fault(what, reason)

    def _predictors(self) -> list[Predictor]:
        versions = [v for group in self.repository.versions.values() for v in group]
        return [v.predictor for v in versions if v.predictor is not None]

    def _advance(self, phase: Phase, reason: str = "") -> None:
        if not self.lifecycle.draining:  # a signal may come at any time
            self.lifecycle.advance(phase, reason)

    async def _load(self, version: Version) -> None:
        """Load one version in a thread, so that the event loop stays free."""
        about = {"model": version.name, "version": version.number}
        version.state = State.LOADING
        started = time.monotonic()
        try:
            loaded = await asyncio.to_thread(load_version, version.folder, self._load_engine)
            self._activate(version, loaded)
        except (UnusableVersion, MissingLibrary) as error:
            version.reject(str(error))
        except Exception as error:  # noqa: BLE001 a version that breaks leaves the others serving
            version.reject(f"loading it raised an unexpected {type(error).__name__}")
            logger.error(  # noqa: TRY400 the formatter keeps messages of exceptions out
                "a version failed to load", extra=about | describe_exception(error)
            )
        metrics = self.metrics.for_model(version.name)
        if version.state is State.READY:
            about["seconds"] = round(time.monotonic() - started, 3)
            logger.info("a version is ready", extra=about | {"engine": version.engine})
            metrics.loaded_versions.inc()
        else:
            logger.error("a version was rejected", extra=about | {"reason": version.reason})
            metrics.rejected_versions.inc()

    def _activate(self, version: Version, loaded: LoadedVersion) -> None:
        """Give a loaded version its batcher and let it answer."""
        name, number = version.name, version.number
        batcher = Batcher(
            loaded.engine,
            labels=len(loaded.manifest.labels),
            policy=self._policy,
            slots=self._slots,
            metrics=self.metrics.for_model(name),
            on_failure=partial(self._report_failure, f"{name}/{number}"),
        )
        predictor = Predictor(
            name=name,
            version=number,
            labels=loaded.manifest.labels,
            encoder=loaded.encoder,
            batcher=batcher,
            metrics=self.metrics,
        )
        version.activate(loaded.manifest, loaded.engine, predictor)
        is_default = str(name == self.repository.default).lower()
        self.metrics.model_info.labels(name, str(number), loaded.engine.name, is_default).set(1)
