"""`models/<name>/<version>/`: what there is, what answers, and the checks before it may."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import numpy as np

from app.artifact import (
    MODEL_NAME_PATTERN,
    TOKENIZER,
    GoldenRow,
    Manifest,
    read_golden,
    read_verified,
)
from app.errors import NotReady, UnknownModel, UnusableVersion
from app.serving.engines import Engine, LoadEngine, infer
from app.serving.predictor import Predictor
from app.text.encoder import TextEncoder

PREFERRED_DEFAULT: Final = "lstm"

GOLDEN_TOLERANCES: Final = {"fp32": 1e-4, "int8": 5e-3}
"""How far an answer to a golden row may be from that engine's own at export, by precision.

With weights of one byte the sums of whole numbers are the same on every processor, but what goes
into them is rounded to bytes: where another processor's last decimal of a sigmoid tips a value over
the edge, it moves by a whole step of 1/127, and later steps carry that on. As no probability may
move further than this, no label changes but where two were closer than twice as much.
"""

_MODEL_NAME: Final = re.compile(MODEL_NAME_PATTERN)
_VERSION_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")


class State(StrEnum):
    """What became of a version."""

    WAITING = "waiting"
    LOADING = "loading"
    READY = "ready"
    REFUSED = "refused"


@dataclass(slots=True, eq=False)
class Version:
    """One version folder and what became of it.

    Attributes:
        name: Of the model.
        number: The folder's name.
        folder: Where it is.
        state: Changed as it is loaded.
        reason: Why it was refused.
        manifest: Once it was read.
        engine: Name of the engine that runs it, once it is ready.
        predictor: Answers for it, once it is ready.
    """

    name: str
    number: int
    folder: Path
    state: State = State.WAITING
    reason: str = ""
    manifest: Manifest | None = None
    engine: str = ""
    predictor: Predictor | None = None

    def refuse(self, reason: str) -> None:
        """This version will not answer, because of `reason`."""
        self.state = State.REFUSED
        self.reason = reason

    def admit(self, manifest: Manifest, engine: Engine, predictor: Predictor) -> None:
        """This version answers from now on."""
        self.manifest = manifest
        self.engine = engine.name
        self.predictor = predictor
        self.state = State.READY


class Repository:
    """The folder of models.

    Every version is loaded; the newest one that is ready answers for its model.

    Args:
        folder: `models/`.
        default: Name of the model that answers when none is named.
        known: Name and number of the versions that may be loaded; None for all that are there.

    Attributes:
        folder: `models/`.
        versions: By model name in alphabetical order, the newest first.
        unreadable: Why the folder of a model cannot be read, by its name.
    """

    def __init__(
        self,
        folder: Path,
        default: str | None = None,
        *,
        known: Collection[tuple[str, int]] | None = None,
    ) -> None:
        self.folder = folder
        self._known = known
        self.versions: dict[str, list[Version]] = {}
        self.unreadable: dict[str, str] = {}
        self._scanned = False
        self._wanted_default = default

    def scan(self) -> None:
        """Read which versions there are. Half-written ones, with a dot in front, are not seen.

        A model whose folder cannot be read does not keep the others from serving.

        Raises:
            UnusableVersion: The folder cannot be read.
        """
        try:
            names = sorted(p.name for p in self.folder.iterdir() if _MODEL_NAME.fullmatch(p.name))
        except OSError as error:
            self._scanned = True
            raise UnusableVersion(
                f"the folder of models, {self.folder}, cannot be read: {error.strerror}"
            ) from error
        found: dict[str, list[Version]] = {}
        unreadable: dict[str, str] = {}
        for name in names:
            try:
                found[name] = self._find_versions(name)
            except OSError as error:
                unreadable[name] = f"its folder cannot be read: {error.strerror}"
        self.versions = {name: versions for name, versions in found.items() if versions}
        self.unreadable = unreadable
        self._scanned = True

    def _find_versions(self, name: str) -> list[Version]:
        folder = self.folder / name
        folders = folder.iterdir() if folder.is_dir() else ()
        numbers = (
            int(path.name)
            for path in folders
            if _VERSION_NUMBER.fullmatch(path.name) and path.is_dir()
        )
        return [
            Version(name, number, self.folder / name / str(number))
            for number in sorted(numbers, reverse=True)
            if self._known is None or (name, number) in self._known
        ]

    @property
    def default(self) -> str | None:
        """The model that answers when none is named: as set, else `lstm`, else the first."""
        if self._wanted_default is not None:
            return self._wanted_default
        if PREFERRED_DEFAULT in self.versions or PREFERRED_DEFAULT in self.unreadable:
            return PREFERRED_DEFAULT
        return next(iter(self.versions), None)

    def loading_order(self) -> list[Version]:
        """Every version: those of the default model first, the newest first."""
        names = sorted(self.versions, key=lambda name: name != self.default)
        return [version for name in names for version in self.versions[name]]

    def newest_ready(self, name: str) -> Version | None:
        """The version that answers for a model."""
        ready = (v for v in self.versions.get(name, ()) if v.state is State.READY)
        return next(ready, None)

    def find(self, name: str | None = None, number: int | None = None) -> Version:
        """The version that answers a request.

        Args:
            name: Of the model; None for the default model.
            number: Of the version; None for the newest one that is ready.

        Raises:
            UnknownModel: There is none, or it was refused.
            NotReady: There is one, but it is not loaded yet; or no model is named and the
                default model cannot answer.
        """
        if not self._scanned:
            raise NotReady("the repository of models is being read")
        if name is None:
            name = self.default
            if name is None or name not in self.versions:
                raise NotReady(self.explain_default())
        candidates = [
            version for version in self.versions.get(name, ()) if number in (None, version.number)
        ]
        for version in candidates:
            if version.state is State.READY:
                return version
        if any(v.state in (State.WAITING, State.LOADING) for v in candidates):
            raise NotReady("the model is being loaded")
        if candidates and number is None and name == self.default:
            raise NotReady(self.explain_default())
        raise UnknownModel(f"there is no such model or version that answers; {self._list_ready()}")

    def explain_default(self) -> str:
        """Why the default model cannot answer."""
        if self.default in self.unreadable:
            return f"the default model {self.default}: {self.unreadable[self.default]}"
        if not self.versions:
            return "there are no models in the repository"
        versions = self.versions.get(self.default or "")
        if versions is None:
            return f"the default model {self.default} is not there; {self._list_ready()}"
        reasons = "; ".join(f"version {v.number}: {v.reason}" for v in versions)
        return f"the default model {self.default} has no usable version: {reasons}"

    def _list_ready(self) -> str:
        ready = []
        for name, versions in self.versions.items():
            numbers = ", ".join(str(v.number) for v in versions if v.state is State.READY)
            if numbers:
                ready.append(f"{name} ({numbers})")
        return f"there are: {', '.join(ready)}" if ready else "there is none"


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version that passed every check."""

    manifest: Manifest
    encoder: TextEncoder
    engine: Engine


def load_version(folder: Path, load_engine: LoadEngine) -> LoadedVersion:
    """Load a version and hold it to its manifest and its golden rows. Takes seconds.

    Raises:
        UnusableVersion: A file is missing or altered, the tokenizer is another one, or a golden
            row is not reproduced.
        MissingLibrary: The library of the engine is not installed.
    """
    manifest = read_verified(folder)
    encoder = TextEncoder.load(folder / TOKENIZER)
    if encoder.fingerprint() != manifest.text_fingerprint:
        raise UnusableVersion(f"{TOKENIZER} is not the one the model was trained with")
    golden = read_golden(folder)
    _replay_ids(encoder, golden)
    engine = load_engine(folder)
    _replay_probabilities(engine, golden, manifest)
    return LoadedVersion(manifest, encoder, engine)


def _replay_ids(encoder: TextEncoder, golden: Iterable[GoldenRow]) -> None:
    for number, row in enumerate(golden, start=1):
        if tuple(encoder.encode(row.text).ids.tolist()) != row.ids:
            raise UnusableVersion(f"golden row {number} gets other ids than at export")


def _replay_probabilities(engine: Engine, golden: Sequence[GoldenRow], manifest: Manifest) -> None:
    """Run the golden rows together, then one by one: that also warms the engine up."""
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
        for answer in (together[number - 1], alone[number - 1]):
            distance = float(np.abs(answer - expected).max())
            if not distance <= tolerance:
                raise UnusableVersion(
                    f"golden row {number} gets probabilities {distance:.2g} away from those at "
                    f"export; {tolerance} is allowed"
                )
