"""`models/<name>/<version>/`: find versions, choose which one answers, load and verify them."""

import hashlib
import logging
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from app.artifact import (
    MANIFEST,
    MODEL_NAME_PATTERN,
    TOKENIZER,
    GoldenRow,
    Manifest,
    digest_manifest,
    read_golden,
    read_verified,
)
from app.errors import NotReady, UnknownModel, UnusableVersion, ValenceError
from app.serving.engines import Engine, LoadEngine, infer
from app.serving.plan import (
    ALIASES,
    CANARY,
    STABLE,
    Aliases,
    Plan,
    Sight,
    key_of,
    parse_aliases,
    split_key,
    targets_of,
)
from app.text.encoder import TextEncoder

if TYPE_CHECKING:  # it takes long to import, and some only load versions
    from app.serving.predictor import Predictor

PREFERRED_DEFAULT: Final = "lstm"

GOLDEN_TOLERANCES: Final = {"fp32": 1e-4, "int8": 5e-3}
"""How far a probability may be from the same engine's at export, by precision of the weights.

int8 needs more. The integer sums are equal on every CPU, but their inputs are rounded to int8: if
a sigmoid differs in its last digit, its value may round to the next of the steps of 1/127, and the
recurrence carries the difference on. A label can change only where two probabilities were closer
than twice the tolerance.
"""

_MODEL_NAME: Final = re.compile(MODEL_NAME_PATTERN)
_VERSION_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")

logger = logging.getLogger(__name__)


class State(StrEnum):
    """The state of a version, as `/models` shows it."""

    WAITING = "waiting"
    LOADING = "loading"
    READY = "ready"
    REJECTED = "rejected"
    REMOVED = "removed"  # it serves, but its folder is no longer there


@dataclass(frozen=True, slots=True)
class Comparison:
    """How a version differs from the one in service, on the golden texts of the new one.

    Attributes:
        version: The number of the version in service.
        texts: The number of texts.
        mean_difference: The mean of the absolute differences of the probabilities.
        changed_labels: The share of the texts whose label differs.
    """

    version: int
    texts: int
    mean_difference: float
    changed_labels: float


@dataclass(slots=True, eq=False)
class Version:
    """One version folder and its state.

    Attributes:
        name: The name of the model.
        number: The name of the folder.
        folder: The folder.
        state: Changed while it is loaded.
        reason: Why it was rejected, or was not replaced.
        digest: The sha256 of its manifest, once it is loaded.
        manifest: Its manifest, once it is ready.
        engine: The name of the engine that runs it, once it is ready.
        predictor: Predicts texts with it, once it is ready and until it is released.
        loaded: What was loaded; None before, and after it was released.
    """

    name: str
    number: int
    folder: Path
    state: State = State.WAITING
    reason: str = ""
    digest: str = ""
    manifest: Manifest | None = None
    engine: str = ""
    predictor: "Predictor | None" = None
    loaded: "LoadedVersion | None" = None

    @property
    def key(self) -> str:
        """Its folder in the repository, such as `lstm/2`."""
        return key_of(self.name, self.number)

    def reject(self, reason: str) -> None:
        """Mark the version as rejected: it failed to load, or failed a check."""
        self.state = State.REJECTED
        self.reason = reason

    def activate(self, loaded: "LoadedVersion", predictor: "Predictor") -> None:
        """Mark the version as ready: it can answer requests."""
        self.digest = loaded.digest
        self.manifest = loaded.manifest
        self.engine = loaded.engine.name
        self.loaded = loaded
        self.predictor = predictor
        self.state = State.READY
        self.reason = ""

    def release(self) -> None:
        """Drop the engine and the texts' encoder, which hold the memory."""
        self.predictor = self.loaded = None


@dataclass(frozen=True, slots=True)
class _Split:
    """Two versions that share the requests without a version.

    Attributes:
        stable: Answers all but the share of `canary`.
        canary: Answers its share.
        below: Of the 2**32 hashes of request ids, those below it go to `canary`.
    """

    stable: Version
    canary: Version
    below: float

    def choose(self, request_id: str) -> Version:
        """By the request's id, so that a retry with the same id lands alike."""
        return self.canary if zlib.crc32(request_id.encode()) < self.below else self.stable


_Routes = Mapping[tuple[str | None, int | str | None], Version | _Split]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A plan, its versions by key, and which of them answers what."""

    plan: Plan
    versions: Mapping[str, Version]
    routes: _Routes


class Repository:
    """The folder of models, and the versions that this process holds.

    A plan decides which versions answer; see `app.serving.agreement`. It is prepared with `hold`
    and takes effect the moment its number is in `generation`, in every process that shares it.

    Args:
        folder: `models/`.
        default: The model that answers requests that name none; see the property.
        generation: One number: the generation of the plan in effect, 0 for none.

    Attributes:
        folder: `models/`.
        versions: The versions of each model, newest first; models in alphabetical order.
        unreadable: The models whose folder cannot be read, with the reason.
        notes: As `Agreement.notes`.
        plan: The plan in effect, if this process holds it.
        wanted: A plan of which some versions could not be loaded; the others stay held.
        on_adopt: Called when another plan has taken effect.
        waiting_for: Why no plan is held, for the answers to requests.
    """

    def __init__(
        self,
        folder: Path,
        default: str | None = None,
        *,
        generation: Sequence[int] = (0,),
    ) -> None:
        self.folder = folder
        self.versions: dict[str, list[Version]] = {}
        self.unreadable: dict[str, str] = {}
        self.notes: dict[str, dict[str, str]] = {}
        self.plan: Plan | None = None
        self.wanted: Plan | None = None
        self.on_adopt: Callable[[], None] = lambda: None
        self.waiting_for = "the repository of models is being read"
        self._set_default = default
        self._shared = generation
        self._generation = 0
        self._prepared: dict[int, _Prepared] = {}
        self._held: dict[tuple[str, str], Version] = {}
        self._routes: _Routes = {}

    # --- what is there

    def scan(self) -> None:
        """Find all versions. Folders with a leading dot, which are half-written, are skipped.

        A model whose folder cannot be read leaves the others serving.

        Raises:
            UnusableVersion: The repository itself cannot be read.
        """
        self.waiting_for = "the model is being loaded"
        found, self.unreadable = self._find_all()
        self.versions = {
            name: [Version(name, number, self.folder / name / str(number)) for number in numbers]
            for name, numbers in found.items()
            if numbers
        }

    def look(self) -> Sight:
        """Find all versions without reading their models; this may be slow on a network volume."""
        try:
            found, unreadable = self._find_all()
        except UnusableVersion as error:
            return Sight(failure=str(error))
        stamps, digests = {}, {}
        aliases: dict[str, Aliases] = {}
        refused: dict[str, str] = {}
        for name, numbers in found.items():
            for number in numbers:
                key = key_of(name, number)
                try:
                    stamps[key] = _stamp(self.folder / key)
                    digests[key] = digest_manifest(self.folder / key)
                except OSError:
                    stamps.setdefault(key, "")
            try:
                if (content := self._read_aliases(name)) is not None:
                    aliases[name] = content
            except UnusableVersion as error:
                refused[name] = str(error)
        return Sight(stamps, digests, aliases, refused, unreadable)

    def _find_all(self) -> tuple[dict[str, list[int]], dict[str, str]]:
        """The versions of each model, newest first, and the models that cannot be read.

        Raises:
            UnusableVersion: The repository itself cannot be read.
        """
        try:
            names = sorted(p.name for p in self.folder.iterdir() if _MODEL_NAME.fullmatch(p.name))
        except OSError as error:
            raise UnusableVersion(
                f"the folder of models, {self.folder}, cannot be read: {error.strerror}"
            ) from error
        found: dict[str, list[int]] = {}
        unreadable: dict[str, str] = {}
        for name in names:
            try:
                found[name] = self._find_numbers(name)
            except OSError as error:
                unreadable[name] = f"its folder cannot be read: {error.strerror}"
        return found, unreadable

    def _find_numbers(self, name: str) -> list[int]:
        folder = self.folder / name
        folders = folder.iterdir() if folder.is_dir() else ()
        numbers = (
            int(path.name)
            for path in folders
            if _VERSION_NUMBER.fullmatch(path.name) and path.is_dir()
        )
        return sorted(numbers, reverse=True)

    def _read_aliases(self, name: str) -> Aliases | None:
        """The aliases of a model; None without a file.

        Raises:
            UnusableVersion: The file is invalid, or cannot be read.
        """
        path = self.folder / name / ALIASES
        try:
            is_inside = path.resolve().is_relative_to(self.folder.resolve())
        except (OSError, RuntimeError) as error:  # the latter: links in a circle, before 3.13
            raise UnusableVersion(f"{ALIASES} must not link to itself") from error
        if not is_inside:
            raise UnusableVersion(f"{ALIASES} must be inside the folder of models")
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UnusableVersion(f"{ALIASES} cannot be read: {error.strerror}") from error
        return parse_aliases(content)

    @property
    def default(self) -> str | None:
        """The model that answers requests that name none: as set, else `lstm`, else the first.

        Once a plan is held it is the plan's, so that a model that comes or goes does not change it.
        """
        if self.plan is not None:
            return self.plan.default
        if self._set_default is not None:
            return self._set_default
        if PREFERRED_DEFAULT in self.versions or PREFERRED_DEFAULT in self.unreadable:
            return PREFERRED_DEFAULT
        return next(iter(self.versions), None)

    def loading_order(self) -> list[Version]:
        """Every version, those of the default model first; of each model the newest first.

        Of a model with the alias `stable`, the version it stands for comes first.
        """
        names = sorted(self.versions, key=lambda name: name != self.default)
        return [version for name in names for version in self._stable_first(name)]

    def candidates(self, name: str | None, number: int | str | None) -> list[Version]:
        """Find the versions that may be loaded alone, without the others; call `scan` before.

        Args:
            name: The model; None for the default model.
            number: The version, or an alias; None for the first of these that passes its checks.

        Raises:
            UnknownModel: There is no such model or version.
            UnusableVersion: An alias is asked for, and the file of the aliases is invalid.
        """
        wanted = name or self.default
        if isinstance(number, str) and wanted in self.versions:
            targets = targets_of(self._read_aliases(wanted) or {})
            if number not in targets:
                there_are = f"there are: {', '.join(targets)}" if targets else "there is none"
                raise UnknownModel(f"there is no such alias of {wanted}; {there_are}")
            if not any(each.number == targets[number] for each in self.versions[wanted]):
                raise UnknownModel(
                    f"{number} of {wanted} stands for version {targets[number]}, which is not there"
                )
            number = targets[number]
        found = [v for v in self.loading_order() if v.name == wanted and number in (None, v.number)]
        if not found:
            raise UnknownModel(
                f"there is no such model or version; there are: "
                f"{', '.join(self.versions) or 'none'}"
            )
        return found

    def _stable_first(self, name: str) -> list[Version]:
        try:
            stable = (self._read_aliases(name) or {}).get(STABLE)
        except UnusableVersion:
            stable = None
        return sorted(self.versions[name], key=lambda version: version.number != stable)

    # --- what serves

    def held(self, key: str, digest: str) -> Version | None:
        """A version that this process has loaded."""
        return self._held.get((key, digest))

    def keep(self, version: Version) -> None:
        """Hold a version that is ready, until a plan without it takes effect."""
        self._held[version.key, version.digest] = version

    def hold(self, plan: Plan) -> None:
        """Be ready to serve a plan, all of whose versions are held."""
        versions = {key: self._held[key, digest] for key, digest in plan.digests.items()}
        self._prepared[plan.generation] = _Prepared(plan, versions, _make_routes(plan, versions))
        if plan.generation == self._shared[0]:
            self.adopt()

    def discard(self, generation: int) -> None:
        """Forget a plan that will not take effect."""
        self._prepared.pop(generation, None)

    def adopt(self) -> None:
        """Serve the plan whose generation is in effect, or nothing if it is not prepared."""
        self._generation = self._shared[0]
        prepared = self._prepared.get(self._generation)
        if prepared is None:
            self._routes, self.plan = {}, None
            self.waiting_for = "this worker is loading what the others serve"
        else:
            self._routes, self.plan = prepared.routes, prepared.plan
            for generation in [g for g in self._prepared if g < self._generation]:
                del self._prepared[generation]
            self.list_versions()
        self.on_adopt()

    def adopt_current(self) -> None:
        """Serve the plan in effect, if no request has done so yet."""
        if self._shared[0] != self._generation:
            self.adopt()

    def all_held(self) -> list[Version]:
        """Every version that this process has loaded."""
        return list(self._held.values())

    def take_unneeded(self) -> list[Version]:
        """The versions that no plan needs any more; they are no longer held."""
        needed = {id(v) for each in self._prepared.values() for v in each.versions.values()}
        wanted = self.wanted.digests.items() if self.wanted is not None else ()
        unneeded = [
            version
            for key, version in self._held.items()
            if id(version) not in needed and key not in wanted
        ]
        for version in unneeded:
            del self._held[version.key, version.digest]
        return unneeded

    def list_versions(self) -> None:
        """Make `versions` from the plan in effect and the notes."""
        prepared = self._prepared.get(self._generation)
        if prepared is None:
            return
        listed: dict[str, Version] = {}
        for key, note in self.notes.items():
            if "state" in note:
                name, number = split_key(key)
                state, reason = State(note["state"]), note["reason"]
                listed[key] = Version(name, number, self.folder / key, state, reason)
        for key, version in prepared.versions.items():
            note = self.notes.get(key, {})
            version.state = State.REMOVED if note.get("state") == State.REMOVED else State.READY
            version.reason = note.get("reason", "")
            listed[key] = version
        versions: dict[str, list[Version]] = {}
        for version in sorted(listed.values(), key=lambda v: (v.name, -v.number)):
            versions.setdefault(version.name, []).append(version)
        self.versions = versions

    def answering(self, name: str) -> Version | None:
        """The version of a model that answers requests without one; None if there is none."""
        found = self._routes.get((name, None))
        return found.stable if isinstance(found, _Split) else found

    def aliases(self, name: str) -> Aliases:
        """The aliases of a model in effect."""
        return self.plan.aliases.get(name, {}) if self.plan is not None else {}

    def find(
        self, name: str | None = None, number: int | str | None = None, request_id: str = ""
    ) -> Version:
        """The version that answers a request.

        Args:
            name: The model; None for the default model.
            number: The version, or an alias; None for the one that answers by default.
            request_id: Decides between `stable` and `canary` where they share the requests.

        Raises:
            UnknownModel: There is none, or it was rejected.
            NotReady: The models are being loaded; or this worker does not hold what the others
                serve; or no model is named and the default model has no ready version.
        """
        if self._shared[0] != self._generation:  # not a call: this is done for every request
            self.adopt()
        version = self._routes.get((name, number))
        if version.__class__ is Version:
            return version
        if isinstance(version, _Split):
            return version.choose(request_id)
        raise self._explain(name, number)

    def _explain(self, name: str | None, number: int | str | None) -> ValenceError:
        """Why no version answers a request."""
        if self.plan is None:
            return NotReady(self.waiting_for)
        if name is None and not self._routes.get((None, None)):
            return NotReady(self.explain_default())
        if name == self.default and number is None:
            return NotReady(self.explain_default())
        there_are = self._list_ready(self.plan)
        return UnknownModel(f"there is no such model or version that answers; {there_are}")

    def explain_default(self) -> str:
        """Why the default model cannot answer."""
        if self.default in self.unreadable:
            return f"the default model {self.default}: {self.unreadable[self.default]}"
        if not self.versions:
            return "there are no models in the repository"
        versions = self.versions.get(self.default or "")
        if versions is None:
            names = ", ".join(self.versions)
            return f"the default model {self.default} is not there; there are: {names}"
        reasons = "; ".join(f"version {v.number}: {v.reason}" for v in versions)
        return f"the default model {self.default} has no usable version: {reasons}"

    def _list_ready(self, plan: Plan) -> str:
        ready = []
        for name in plan.names():
            answers = [*map(str, plan.numbers(name)), *plan.targets(name)]
            ready.append(f"{name} ({', '.join(answers)})")
        return f"there are: {', '.join(ready)}" if ready else "there is none"


def _make_routes(plan: Plan, versions: Mapping[str, Version]) -> _Routes:
    """Which version answers which model and version, or alias; None stands for the default."""
    routes: dict[tuple[str | None, int | str | None], Version | _Split] = {}
    for name in plan.names():
        of_model: dict[int | str | None, Version | _Split] = {
            number: versions[key_of(name, number)] for number in plan.numbers(name)
        }
        for alias, number in plan.targets(name).items():
            of_model[alias] = versions[key_of(name, number)]
        stable = of_model[plan.answering(name)]
        canary = of_model.get(CANARY)
        share = plan.canary_share(name)
        of_model[None] = stable
        if share and isinstance(stable, Version) and isinstance(canary, Version):
            of_model[None] = _Split(stable, canary, share * 2**32)
        for number_or_alias, version in of_model.items():
            routes[name, number_or_alias] = version
            if name == plan.default:
                routes[None, number_or_alias] = version
    return routes


def _stamp(folder: Path) -> str:
    """A digest of the names, sizes and times of all files of a version."""
    found = []
    for root, _folders, names in os.walk(folder):
        for name in names:
            about = os.lstat(os.path.join(root, name))  # noqa: PTH118 a thousand of them count
            found.append(f"{root}/{name}:{about.st_size}:{about.st_mtime_ns}")
    return hashlib.sha256("\n".join(sorted(found)).encode(errors="surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version that passed all checks."""

    manifest: Manifest
    encoder: TextEncoder
    engine: Engine
    digest: str = ""
    comparison: Comparison | None = None


def load_version(
    folder: Path, load_engine: LoadEngine, *, in_service: LoadedVersion | None = None
) -> LoadedVersion:
    """Load a version, and check it against its manifest and its golden rows. Takes seconds.

    Args:
        folder: The folder of the version.
        load_engine: Loads its engine.
        in_service: The version to compare it with, on its golden texts.

    Raises:
        UnusableVersion: A file is missing or altered, the tokenizer is not the one of the
            training, or a golden row is not reproduced.
        MissingLibrary: The library of the engine is not installed.
    """
    if not folder.resolve().is_relative_to(folder.parent.parent.resolve()):
        raise UnusableVersion("its folder must be inside the folder of models; it links out of it")
    try:
        digest = digest_manifest(folder)
        loaded = _load_verified(folder, load_engine, digest, in_service)
        if digest_manifest(folder) == digest:
            return loaded
    except OSError as error:
        raise UnusableVersion(f"{MANIFEST} cannot be read: {error.strerror}") from error
    raise UnusableVersion("its files changed while it was loaded")


def _load_verified(
    folder: Path, load_engine: LoadEngine, digest: str, in_service: LoadedVersion | None
) -> LoadedVersion:
    manifest = read_verified(folder)
    encoder = TextEncoder.load(folder / TOKENIZER)
    if encoder.fingerprint() != manifest.text_fingerprint:
        raise UnusableVersion(f"{TOKENIZER} is not the one the model was trained with")
    golden = read_golden(folder)
    _compare_labels(golden, manifest.labels)
    _replay_ids(encoder, golden)
    engine = load_engine(folder)
    answers = _replay_probabilities(engine, golden, manifest)
    comparison = None
    if in_service is not None and set(in_service.manifest.labels) == set(manifest.labels):
        texts = [row.text for row in golden]
        comparison = _compare(in_service, texts, answers, manifest.labels)
    return LoadedVersion(manifest, encoder, engine, digest, comparison)


def _compare(
    in_service: LoadedVersion,
    texts: Sequence[str],
    answers: NDArray[np.float64],
    labels: Sequence[str],
) -> Comparison:
    """Compare the answers of a new version with those of the one in service.

    Args:
        in_service: The version in service.
        texts: The golden texts of the new one.
        answers: Its probabilities, of shape (texts, labels).
        labels: Its labels; those of the version in service may be in another order.
    """
    theirs = in_service.manifest.labels
    rows = [in_service.encoder.encode(text).ids for text in texts]
    columns = [theirs.index(label) for label in labels]
    before = np.concatenate([infer(in_service.engine, [row], labels=len(theirs)) for row in rows])[
        :, columns
    ]
    return Comparison(
        version=in_service.manifest.version,
        texts=len(texts),
        mean_difference=float(np.abs(answers - before).mean()),
        changed_labels=float((answers.argmax(axis=1) != before.argmax(axis=1)).mean()),
    )


def _compare_labels(golden: Iterable[GoldenRow], labels: tuple[str, ...]) -> None:
    for number, row in enumerate(golden, start=1):
        if row.labels and row.labels != labels:
            raise UnusableVersion(
                f"{MANIFEST} must have the labels of golden row {number} in their order, "
                f"{', '.join(row.labels)}. Received: {', '.join(labels)}"
            )


def _replay_ids(encoder: TextEncoder, golden: Iterable[GoldenRow]) -> None:
    for number, row in enumerate(golden, start=1):
        if tuple(encoder.encode(row.text).ids.tolist()) != row.ids:
            raise UnusableVersion(f"golden row {number} must get the same ids as at export")


def _replay_probabilities(
    engine: Engine, golden: Sequence[GoldenRow], manifest: Manifest
) -> NDArray[np.float64]:
    """Run the golden rows as one batch, then one by one. This also warms up the engine.

    Returns:
        The probabilities, of shape (rows, labels).
    """
    labels = len(manifest.labels)
    precision = str(manifest.engines.get(engine.name, {}).get("precision"))
    tolerance = GOLDEN_TOLERANCES.get(precision, GOLDEN_TOLERANCES["fp32"])
    rows = [np.array(row.ids, dtype=np.int32) for row in golden]
    try:
        together = infer(engine, rows, labels=labels)
        alone = [infer(engine, [row], labels=labels)[0] for row in rows]
    except Exception as error:
        raise UnusableVersion(
            f"the model fails on the golden rows: {type(error).__name__}"
        ) from error
    for number, row in enumerate(golden, start=1):
        expected = np.array(row.expected(engine.name))
        if len(expected) != labels:
            raise UnusableVersion(f"golden row {number} must have {labels} probabilities")
        for probabilities in (together[number - 1], alone[number - 1]):
            distance = float(np.abs(probabilities - expected).max())
            if not distance <= tolerance:
                raise UnusableVersion(
                    f"golden row {number} must get its probabilities within {tolerance}. "
                    f"Received: a difference of {distance:.2g}"
                )
    return together
