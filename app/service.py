"""The parts of one process and their life: load, warm up, become ready, reload, drain, stop."""

import asyncio
import contextlib
import logging
import math
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any, Final, TypeVar

from app.errors import MissingLibrary, UnusableVersion, ValenceError
from app.serving.agreement import Agreement, Member, Message
from app.serving.batcher import Batcher, TraceRun
from app.serving.engines import LoadEngine
from app.serving.explain import background_policy
from app.serving.lifecycle import Lifecycle, Phase
from app.serving.plan import Plan, key_of, split_key
from app.serving.predictor import Prediction, Predictor
from app.serving.repository import LoadedVersion, Repository, State, Version, load_version
from app.serving.request_queue import BatchPolicy
from app.serving.slots import EngineSlots, give_way
from app.telemetry.logs import describe_exception
from app.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

_SWITCH_INTERVAL_S: Final = 0.0005
"""How long the event loop waits for the GIL while a version is loaded beside the traffic."""
_RELEASE_AFTER_S: Final = 2.0
_DIFFERS: Final = "differs"
_BAG_OF_WORDS: Final = "bow"
"""The architecture, in a manifest, of models that read a text as a bag of words."""


class Alone:
    """The agreement of a process on its own: it is the only member, and the host.

    Args:
        poll_s: Seconds between two looks at the repository; 0 for none.
    """

    agreed: Message | None = None

    def __init__(self, poll_s: float) -> None:
        self.generation = [0]
        self.agreement = Agreement(self, members=1, poll_s=poll_s)
        self.agreement.join(1)
        self._service: Service | None = None

    def bind(self, service: "Service") -> None:
        """Name the member."""
        self._service = service

    def report(self, message: Message) -> None:
        """See `Member.report`."""
        self.agreement.receive(1, message)

    def tell(self, _member: int, message: Message) -> None:
        """See `Host.tell`."""
        if self._service is not None:
            self._service.obey(message)

    def commit(self, generation: int) -> None:
        """See `Host.commit`."""
        self.generation[0] = generation

    def call_later(self, delay_s: float, action: Callable[[], None]) -> None:
        """See `Host.call_later`."""
        asyncio.get_running_loop().call_later(delay_s, action)

    def fail(self, reason: str) -> None:
        """See `Host.fail`."""
        if self._service is not None:
            self._service.fail(reason)

    def report_differing(self) -> None:
        """Nothing to report: it has no other to differ from."""


class Service:
    """One process of the service: its models, its engine threads and its lifecycle.

    Args:
        repository: The models to serve; `start` scans it.
        load_engine: Loads the engine of a version folder.
        threads: Batches that run at once, one core each.
        policy: How batches are formed.
        member: Its part in the agreement on what serves; the repository shares its `generation`.
        engine_timeout_s: After so many seconds a model run is given up.
        trace_run: See `Batcher`.
        on_loaded: Called when every version is loaded or rejected, before the process is ready.
        on_released: Called in a thread when memory was released: when a version was loaded beside
            the traffic, or is no longer needed, and after large requests.

    Attributes:
        lifecycle: The current phase.
        metrics: All metrics of the process.
        repository: As passed in.
        loading: Done when every version is ready or rejected; None before `start`.
        engine_load: The work of all models of the process.
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
        member: Member,
        engine_timeout_s: float = math.inf,
        trace_run: TraceRun | None = None,
        on_loaded: Callable[[], None] = lambda: None,
        on_released: Callable[[], None] = lambda: None,
    ) -> None:
        self.lifecycle = Lifecycle()
        self.metrics = Metrics()
        self.repository = repository
        self.loading: asyncio.Task[None] | None = None
        self.failure: str | None = None
        self._load_engine = load_engine
        self._trace_run = trace_run
        self._slots = EngineSlots(threads, timeout_s=engine_timeout_s, on_hang=self._break)
        self.engine_load = self._slots.load
        self._policy = policy
        self._measure_engine()
        self._member = member
        self._on_loaded = on_loaded
        self._on_released = on_released
        self._preparing = asyncio.Lock()
        self._background = ThreadPoolExecutor(1, "load", initializer=give_way)
        self._release_scheduled = False
        self._settled = asyncio.Event()  # it serves, or can not
        self._tasks: set[asyncio.Task[None]] = set()
        repository.on_adopt = self._handle_switch

    def _measure_engine(self) -> None:
        """Let the metrics tell the limits of this process, and how near it is to them."""
        metrics, load = self.metrics, self._slots.load
        metrics.engine_threads.set(self._slots.count)
        metrics.queue_limit_items.set(self._policy.max_queue_items)
        metrics.queue_limit_bytes.set(self._policy.max_queue_bytes)
        metrics.follow(metrics.engine_busy_seconds, self._slots.busy_s)
        metrics.on_snapshot(lambda: metrics.queue_bytes.set(load.waiting_bytes))

    def start(self) -> None:
        """Start loading on the running event loop; probes are answered meanwhile."""
        self.loading = asyncio.create_task(self._load_all())

    def obey(self, message: Message) -> None:
        """Do what the agreement on what serves asks for; see `app.serving.agreement`."""
        if "prepare" in message:
            self._spawn(self._prepare(Plan.from_message(message["prepare"])))
        elif "serving" in message:
            self.repository.adopt_current()
            self._release_unneeded()
        elif "discard" in message:
            self.repository.discard(message["discard"])
            self._release_unneeded()
        elif "notes" in message:
            self._note(message["notes"])
        elif "look" in message:
            self._spawn(self._look())

    async def load_one(self, name: str | None, number: int | str | None) -> Version:
        """Load one version and no other.

        Args:
            name: The model; None for the default model.
            number: The version, or an alias; None for `stable`, or else the newest one that passes
                its checks.

        Returns:
            The version, ready or rejected.

        Raises:
            UnknownModel: There is no such model or version.
            UnusableVersion: The repository, or the file of the aliases, cannot be read.
        """
        self.repository.scan()
        for version in self.repository.candidates(name, number):
            await self._load(version)
            if version.state is State.READY:
                break
        return version

    async def predict_once(
        self, text: str, *, model: str | None, number: int | str | None, explain: bool = False
    ) -> tuple[Version, Prediction]:
        """Load the version that would answer in the service, predict one text, and stop.

        Args:
            text: Free of lone surrogates.
            model: The model; None for the default model.
            number: The version, or an alias; None for `stable`, or else the newest one that passes
                its checks.
            explain: Whether to tell how much each word contributed.

        Raises:
            ValenceError: There is no such version, it is rejected, or it fails on the text.
        """
        try:
            version = await self.load_one(model, number)
            if version.predictor is None:
                raise UnusableVersion(f"{version.key}: {version.reason}")
            predictor = version.predictor
            ask = predictor.explain if explain else predictor.predict
            predicted = await ask([text], deadline=math.inf)
        finally:
            await self.drain()
        (prediction,) = predicted.predictions
        if isinstance(prediction, ValenceError):
            raise prediction
        return version, prediction

    def look(self) -> None:
        """Look at the repository now. A worker does not: its supervisor asks one of them."""
        if isinstance(self._member, Alone):
            self._member.agreement.look()

    def release_memory_soon(self) -> None:
        """Call `on_released` in a while; all who ask for it meanwhile share the call."""
        if not self._release_scheduled:
            self._release_scheduled = True
            asyncio.get_running_loop().call_later(_RELEASE_AFTER_S, self._release_memory)

    def _release_memory(self) -> None:
        self._release_scheduled = False
        if not self.lifecycle.draining:
            self._spawn(self._in_background(self._on_released))

    def begin_drain(self) -> None:
        """Become unready, so that traffic goes elsewhere; requests are still answered."""
        if not self.lifecycle.draining:
            self._advance(Phase.DRAINING, "the service is shutting down")
        self._settled.set()

    async def drain(self) -> None:
        """Answer every admitted item, then stop. Calling it again does nothing."""
        if self.lifecycle.phase is Phase.STOPPED:
            return
        self.begin_drain()
        if self.loading is not None:
            await self.loading
        while self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.gather(*(predictor.drain() for predictor in self._predictors()))
        self._slots.close()
        self._background.shutdown(wait=False)
        self.lifecycle.advance(Phase.STOPPED, "the service has stopped")

    def _listed(self) -> list[Version]:
        return [v for versions in self.repository.versions.values() for v in versions]

    async def _in_background(self, work: Callable[[], _T]) -> _T:
        """Run in the one thread that loads, and gives memory back, beside the traffic.

        One, because the C library keeps memory for each thread; it gives way to the event loop.
        """
        return await asyncio.get_running_loop().run_in_executor(self._background, work)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background; `drain` waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- the first start

    async def _load_all(self) -> None:
        """Load what the others serve; or, where nothing does yet, everything there is."""
        if self._member.agreed is not None:
            self._advance(Phase.WARMING, "the models are being loaded")
            await self._prepare(Plan.from_message(self._member.agreed), first=True)
        else:
            async with self._preparing:
                await self._load_and_offer()
        await self._settled.wait()

    async def _load_and_offer(self) -> None:
        """Load every version, those of the default model first, and report them."""
        sight = await asyncio.to_thread(self.repository.look)
        try:
            await asyncio.to_thread(self.repository.scan)
        except UnusableVersion as error:
            self.fail(str(error))
            return
        for name in self.repository.versions:
            self.metrics.for_model(name)  # every series exists from the start
        for name, reason in self.repository.unreadable.items():
            logger.error("a model cannot be read", extra={"model": name, "reason": reason})
        self._advance(Phase.WARMING, "the models are being loaded")
        self._check_default()
        versions = self.repository.loading_order()
        for version in versions:
            if self.lifecycle.draining:
                return
            await self._load(version)
            if version.state is State.READY:
                self.repository.keep(version)
            self._check_default()
        self._on_loaded()
        rejected = {v.key: v.reason for v in versions if v.state is State.REJECTED}
        self._member.report(
            {
                "offer": {
                    "sight": sight.to_message(),
                    "loaded": {v.key: v.digest for v in versions if v.state is State.READY},
                    "rejected": rejected,
                    "default": self.repository.default,
                    "failure": self.failure,
                }
            }
        )

    def _check_default(self) -> None:
        """Fail as soon as every version of the default model is rejected."""
        versions = self.repository.versions.get(self.repository.default or "", ())
        if self.failure is None and all(v.state is State.REJECTED for v in versions):
            self.fail(self.repository.explain_default())

    def fail(self, reason: str) -> None:
        """Record why the process can never become ready; it stays in its phase."""
        if not self.lifecycle.draining:
            self.failure = reason
            self.lifecycle.explain(reason)
        self._settled.set()

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
        versions = {*self.repository.all_held(), *self._listed()}  # a set: most are in both
        return [v.predictor for v in versions if v.predictor is not None]

    def _advance(self, phase: Phase, reason: str = "") -> None:
        if not self.lifecycle.draining:  # a signal may come at any time
            self.lifecycle.advance(phase, reason)

    # --- later plans

    async def _prepare(self, plan: Plan, *, first: bool = False) -> None:
        """Load what a plan needs, beside the traffic; report whether this process can serve it."""
        async with self._preparing:
            if self.lifecycle.draining:
                return
            loaded, reasons = [], {}
            for key, digest in plan.digests.items():
                if self.repository.held(key, digest) is not None:
                    continue
                version = await self._load_agreed(key, digest, plan)
                if version.state is State.READY:
                    loaded.append(version)
                else:
                    reasons[key] = version.reason
            for version in loaded:
                self.repository.keep(version)
            if first:
                self._on_loaded()
            if loaded:  # reading a model takes more memory than the model
                await self._in_background(self._on_released)
            if not reasons:
                reasons = self._check_labels(plan)
            if not reasons:
                self.repository.hold(plan)
            self._explain_difference(plan, reasons)
        # Plans may change faster than models load: the next one needs what this one has loaded.
        self.repository.wanted = plan if reasons and self.repository.plan is None else None
        self._release_unneeded()
        self._member.report({"prepared": plan.generation, "reasons": reasons})

    async def _load_agreed(self, key: str, digest: str, plan: Plan) -> Version:
        """Load one version of a plan; it is rejected if it is not the one that was agreed on."""
        name, number = split_key(key)
        version = Version(name, number, self.repository.folder / key)
        in_service = self.repository.answering(name)
        with _quick_switches() if in_service is not None else contextlib.nullcontext():
            await self._load(version, in_service)
        if version.state is State.READY and version.digest != digest:
            await self._release(version)
            version.reject("its files are not those that the other workers have loaded")
        return version

    def _check_labels(self, plan: Plan) -> dict[str, str]:
        """A version with other labels may answer instead of another only if an alias says so."""
        reasons = {}
        for name in plan.names():
            before, number = self.repository.answering(name), plan.answering(name)
            if before is None or number is None or plan.targets(name):
                continue
            key = key_of(name, number)
            version = self.repository.held(key, plan.digests[key])
            if version is None or version.manifest is None or before.manifest is None:
                continue
            if version.manifest.labels != before.manifest.labels:
                reasons[key] = (
                    f"its labels must be those of version {before.number}, in the same order, "
                    f"to take over without an alias: {', '.join(before.manifest.labels)}. "
                    f"Received: {', '.join(version.manifest.labels)}"
                )
        return reasons

    def _explain_difference(self, plan: Plan, reasons: Mapping[str, str]) -> None:
        """Be unready with the reason if this process cannot serve the plan in effect."""
        if plan.generation != self._member.generation[0]:
            return
        if not reasons:
            self.lifecycle.clear_fault(_DIFFERS)
            return
        why = "; ".join(f"{key}: {reason}" for key, reason in reasons.items())
        self.lifecycle.report_fault(_DIFFERS, f"differs: {why}")
        self.repository.waiting_for = "this worker cannot load what the others serve"

    def _handle_switch(self) -> None:
        """Another plan has taken effect; this process may not hold it."""
        if self.repository.plan is None:
            self.lifecycle.report_fault(_DIFFERS, "differs: it lacks what the others serve")
            return
        self.lifecycle.clear_fault(_DIFFERS)
        answers = self.repository.answering(self.repository.default or "") is not None
        if answers and self.lifecycle.phase is Phase.WARMING:
            self._advance(Phase.READY)
        for name in self.repository.plan.names():
            self.metrics.for_model(name)
            self._watch_drift(name)
        self.metrics.forget_unloaded()
        self._settled.set()

    def _watch_drift(self, name: str) -> None:
        """Compare the texts of a model with the validation texts of the version that answers."""
        version = self.repository.answering(name)
        if version is None or version.manifest is None:
            return
        baseline = version.manifest.baseline
        features = baseline.features() if baseline is not None else {}
        self.metrics.watch_drift(name, version.number, version.manifest.labels, features)

    def _note(self, notes: dict[str, dict[str, str]]) -> None:
        """Show why versions do not serve, or should not."""
        before = self.repository.notes
        for key, note in notes.items():
            removed = note.get("state") == State.REMOVED
            if removed and before.get(key, {}).get("state") != State.REMOVED:
                self.metrics.for_model(split_key(key)[0]).removed_versions.inc()
        self.repository.notes = notes
        self.repository.list_versions()

    async def _look(self) -> None:
        sight = await asyncio.to_thread(self.repository.look)
        self._member.report({"sight": sight.to_message()})

    def _release_unneeded(self) -> None:
        """Release the versions that answer no requests any more, once they have answered all.

        While a plan is prepared it may need any of them, so they are looked at again afterwards.
        """
        if self._preparing.locked():
            return
        for version in self.repository.take_unneeded():
            self._spawn(self._release(version))

    async def _release(self, version: Version) -> None:
        if version.predictor is not None:
            await version.predictor.drain()
        about = {"model": version.name, "version": version.number}
        self.lifecycle.clear_fault(version.key)
        if all(other.key != version.key for other in self.repository.all_held()):
            self.metrics.forget_version(version.name, version.number)
        version.release()
        if not self.lifecycle.draining:
            await self._in_background(self._on_released)
            self.metrics.for_model(version.name).released_versions.inc()
            logger.info("a version was released", extra=about)

    async def _load(self, version: Version, in_service: Version | None = None) -> None:
        """Load one version in a thread, so that the event loop stays free.

        Args:
            version: Becomes ready or rejected.
            in_service: The version of the model that answers now.
        """
        about: dict[str, Any] = {"model": version.name, "version": version.number}
        version.state = State.LOADING
        started = time.monotonic()
        try:
            load = partial(
                load_version,
                version.folder,
                self._load_engine,
                in_service=in_service.loaded if in_service is not None else None,
            )
            loaded = await self._in_background(load)
            self._activate(version, loaded)
            if loaded.comparison is not None:
                about["compared"] = asdict(loaded.comparison)
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
        make_batcher = partial(
            Batcher,
            loaded.engine,
            labels=len(loaded.manifest.labels),
            slots=self._slots,
            metrics=self.metrics.for_model(name),
            trace_run=self._trace_run,
            on_failure=partial(self._report_failure, version.key),
        )
        predictor = Predictor(
            name=name,
            version=number,
            labels=loaded.manifest.labels,
            encoder=loaded.encoder,
            batcher=make_batcher(policy=self._policy),
            background=make_batcher(policy=background_policy(self._policy), background=True),
            metrics=self.metrics,
            bag_of_words=loaded.manifest.architecture == _BAG_OF_WORDS,
            reliability=loaded.manifest.reliability,
        )
        version.activate(loaded, predictor)
        is_default = str(name == self.repository.default).lower()
        self.metrics.model_info.labels(name, str(number), loaded.engine.name, is_default).set(1)


@contextlib.contextmanager
def _quick_switches() -> Iterator[None]:
    """Let the event loop have the GIL sooner while another thread computes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
