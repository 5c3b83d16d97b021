"""`models/<name>/<version>/`: find versions, choose which one answers, load and verify them."""

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
"""How far a probability may be from the same engine's at export, by precision of the weights.

int8 needs more. The integer sums are equal on every CPU, but their inputs are rounded to int8: if
a sigmoid differs in its last digit, its value may round to the next of the steps of 1/127, and the
recurrence carries the difference on. A label can change only where two probabilities were closer
than twice the tolerance.
"""

_MODEL_NAME: Final = re.compile(MODEL_NAME_PATTERN)
_VERSION_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")


class State(StrEnum):
    """The state of a version, as `/models` shows it."""

    WAITING = "waiting"
    LOADING = "loading"
    READY = "ready"
    REJECTED = "rejected"


@dataclass(slots=True, eq=False)
class Version:
    """One version folder and its state.

    Attributes:
        name: The name of the model.
        number: The name of the folder.
        folder: The folder.
        state: Changed while it is loaded.
        reason: Why it was rejected.
        manifest: Its manifest, once it is ready.
        engine: The name of the engine that runs it, once it is ready.
        predictor: Predicts texts with it, once it is ready.
    """

    name: str
    number: int
    folder: Path
    state: State = State.WAITING
    reason: str = ""
    manifest: Manifest | None = None
    engine: str = ""
    predictor: Predictor | None = None

    def reject(self, reason: str) -> None:
        """Mark the version as rejected: it failed to load, or failed a check."""
        self.state = State.REJECTED
        self.reason = reason

    def activate(self, manifest: Manifest, engine: Engine, predictor: Predictor) -> None:
        """Mark the version as ready: it answers requests from now on."""
        self.manifest = manifest
        self.engine = engine.name
        self.predictor = predictor
        self.state = State.READY


class Repository:
    """The folder of models.

    Every version is loaded; the newest one that is ready answers for its model.

    Args:
        folder: `models/`.
        default: The model that answers requests that name none; see the property.
        known: Name and number of the versions that may be loaded; None for all there are.

    Attributes:
        folder: `models/`.
        versions: The versions of each model, newest first; models in alphabetical order.
        unreadable: The models whose folder cannot be read, with the reason.
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
        self._set_default = default

    def scan(self) -> None:
        """Find all versions. Folders with a leading dot, which are half-written, are skipped.

        A model whose folder cannot be read leaves the others serving.

        Raises:
            UnusableVersion: The repository itself cannot be read.
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
        """The model that answers requests that name none: as set, else `lstm`, else the first."""
        if self._set_default is not None:
            return self._set_default
        if PREFERRED_DEFAULT in self.versions or PREFERRED_DEFAULT in self.unreadable:
            return PREFERRED_DEFAULT
        return next(iter(self.versions), None)

    def loading_order(self) -> list[Version]:
        """Every version, those of the default model first; of each model the newest first."""
        names = sorted(self.versions, key=lambda name: name != self.default)
        return [version for name in names for version in self.versions[name]]

    def newest_ready(self, name: str) -> Version | None:
        """The newest ready version of a model; None if none is ready."""
        ready = (v for v in self.versions.get(name, ()) if v.state is State.READY)
        return next(ready, None)

    def find(self, name: str | None = None, number: int | None = None) -> Version:
        """The version that answers a request.

        Args:
            name: The model; None for the default model.
            number: The version; None for the newest ready one.

        Raises:
            UnknownModel: There is none, or it was rejected.
            NotReady: It is still loading; or no model is named and the default model has no
                ready version.
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
            names = ", ".join(self.versions)
            return f"the default model {self.default} is not there; there are: {names}"
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
    """A version that passed all checks."""

    manifest: Manifest
    encoder: TextEncoder
    engine: Engine


def load_version(folder: Path, load_engine: LoadEngine) -> LoadedVersion:
    """Load a version, and check it against its manifest and its golden rows. Takes seconds.

    Raises:
        UnusableVersion: A file is missing or altered, the tokenizer is not the one of the
            training, or a golden row is not reproduced.
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
            raise UnusableVersion(f"golden row {number} must get the same ids as at export")


def _replay_probabilities(engine: Engine, golden: Sequence[GoldenRow], manifest: Manifest) -> None:
    """Run the golden rows as one batch, then one by one. This also warms up the engine."""
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
