"""One exported version of a model: reads, writes and verifies the files beside the SavedModel.

A version folder is `models/<name>/<version>/`. Its manifest lists every other file with size and
sha256, so that a half-copied or altered version is rejected before it serves.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from app.errors import UnusableVersion

MANIFEST: Final = "manifest.json"
TOKENIZER: Final = "tokenizer.json"
GOLDEN: Final = "golden.jsonl"
ONNX: Final = "model.onnx"
"""The same model for ONNX Runtime; optional."""
REPORT: Final = "report"
LEARNED: Final = "learned.bin"
"""Digests of the texts that the version was trained on, for `valence-train evaluate`; optional, and
not read by the service."""

SIGNATURE: Final = "serve_ids"
"""The signature that the service calls: `ids` int32 (b, t), `lengths` int32 (b,) →
`probabilities` float32 (b, c)."""
CUDNN_SIGNATURE: Final = "serve_ids_cudnn"
"""The same function with cuDNN's LSTM, for a GPU; optional."""
TEXT_SIGNATURE: Final = "serving_default"
"""The signature for other programs: `text` string (b,) → `probabilities` float32 (b, c)."""

_CHUNK_BYTES: Final = 1 << 20

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MODEL_NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"
ModelName = Annotated[str, Field(pattern=MODEL_NAME_PATTERN)]
MODEL_NAME_RULE: Final = (
    "a model's name must be 1 to 64 of a-z 0-9 . _ - and begin with a letter or digit"
)


Share = Annotated[float, Field(ge=0, le=1)]
TextKind = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9 _.,-]{0,59}$")]
"""What `Manifest.quality` calls a kind of text: `imdb test`, `ordinary negation`."""


class _Record(BaseModel):
    """Immutable, and without undeclared fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Record):
    """Size in bytes and digest of one file."""

    size: int = Field(ge=0)
    sha256: Sha256


class DataCard(_Record):
    """The training data of a model.

    Attributes:
        name: The name of the data set.
        fingerprint: Sha256 of its texts and labels.
        counts: Texts per split, and texts left out by reason. `rows` is what was read of the
            training part.
        splits: The same digest of each split.
    """

    name: str
    fingerprint: Sha256
    counts: dict[str, int]
    splits: dict[str, Sha256] = {}


class Quality(_Record):
    """What a version is worth on texts of one kind.

    Attributes:
        texts: The number of texts with an opinion.
        accuracy: The share of them that gets the right label.
        interval: The 95 % confidence interval of the accuracy.
        calibration_error: The expected calibration error.
        sure_and_wrong: The share of them that gets a wrong label with more than 0.8.
        neutral_texts: The number of texts without an opinion.
        undecided: The share of those that gets no label with more than 0.8.
    """

    texts: int = Field(ge=0)
    accuracy: Share | None = None
    interval: tuple[Share, Share] | None = None
    calibration_error: Share | None = None
    sure_and_wrong: Share | None = None
    neutral_texts: int = Field(default=0, ge=0)
    undecided: Share | None = None

    @model_validator(mode="after")
    def _check(self) -> "Quality":
        if self.texts + self.neutral_texts == 0:
            raise ValueError("there must be at least one text")
        if self.interval is not None:
            low, high = self.interval
            if self.accuracy is None or not low <= self.accuracy <= high:
                raise ValueError("the interval must contain the accuracy")
        return self


NEUTRAL: Final = "neutral"
"""The label of texts without an opinion."""


def even_label(labels: Sequence[str]) -> int:
    """Return the index of the label of even odds: `neutral`, or without that label the first."""
    return labels.index(NEUTRAL) if NEUTRAL in labels else 0


class Reliability(_Record):
    """Which texts a version can judge; all others get even odds.

    By default a text must have one token that is in the vocabulary.

    Attributes:
        max_unknown_share: The largest share of tokens, of those that the model reads, that may be
            in no vocabulary.
        min_known_tokens: The fewest tokens that must be in the vocabulary.
        measured: The figures that led to the rule, by name.
    """

    max_unknown_share: Share = 1.0
    min_known_tokens: int = Field(default=1, ge=1)
    measured: dict[str, FiniteFloat] = {}

    def covers(self, known: int, read: int) -> bool:
        """Whether the version can judge a text.

        Args:
            known: The number of tokens that it reads and knows.
            read: The number of tokens that it reads.
        """
        return known >= self.min_known_tokens and (read - known) / read <= self.max_unknown_share


CONFIDENCE_BOUNDS: Final = (0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
"""The bins of a baseline: the inclusive upper bound of each. They are those of the metric
`prediction_confidence`, with which they are compared."""


class Baseline(_Record):
    """What a version said of its validation texts, for the service to compare its texts with.

    Attributes:
        labels: How many texts got each label, in the order of the model's outputs.
        confidence: How many texts had a probability of their label in each bin, and above.
        confidence_bounds: The bins.
        truncated: How many texts were longer than the model reads.
        tokens: How many tokens of all texts it read.
        unknown: How many of these are outside the vocabulary.
    """

    labels: tuple[int, ...]
    confidence: tuple[int, ...]
    confidence_bounds: tuple[float, ...] = CONFIDENCE_BOUNDS
    truncated: int
    tokens: int
    unknown: int

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Check that each text was counted once in each histogram."""
        texts = sum(self.labels)
        if sum(self.confidence) != texts or not 0 <= self.truncated <= texts:
            raise ValueError("a baseline must count each text once for each feature")
        if len(self.confidence) != len(self.confidence_bounds) + 1:
            raise ValueError("a baseline must have one more count of confidence than bounds")
        if not 0 <= self.unknown <= self.tokens:
            raise ValueError("a baseline must have no more unknown tokens than tokens")
        return self

    def features(self) -> dict[str, tuple[int, ...]]:
        """The histogram of each feature; that of the confidence if its bins are those of today."""
        texts = sum(self.labels)
        found = {
            "label": self.labels,
            "truncated": (texts - self.truncated, self.truncated),
            "unknown": (self.tokens - self.unknown, self.unknown),
        }
        if self.confidence_bounds == CONFIDENCE_BOUNDS:
            found["confidence"] = self.confidence
        return found


class Manifest(_Record):
    """Description of one exported version.

    Attributes:
        schema_version: The version of this schema; raised when a field changes its meaning.
        labels: The labels in the order of the model's outputs.
        architecture: The architecture, as training names it.
        hyperparameters: The whole training configuration.
        seed: The random seed of the training.
        code_version: The version of this project that trained the model.
        created: When it was exported, ISO 8601 in UTC.
        text_fingerprint: `TextEncoder.fingerprint()` of the tokenizer the model was trained with.
        data: The training data.
        temperature: The logits are divided by it, inside the model; those of short texts by
            `short_temperature` of the hyperparameters in addition, if that is there.
        metrics: `metrics[split][engine][name]`, measured on the exported version: `validation` at
            export, `test` by `valence-train evaluate`, once.
        engines: Settings and export results of each engine. For `onnx`, `precision` is the
            precision of `model.onnx`, or null if none was kept.
        limits: Known limits of the model, in sentences for its card.
        quality: What the version is worth, by kind of text; measured at export or by evaluation.
        reliability: Which texts the version can judge.
        baseline: What it said of its validation texts; None in versions of earlier releases.
        files: Every file of the version but the manifest, by its path with forward slashes.
    """

    schema_version: Literal[1] = 1
    name: ModelName
    version: int = Field(ge=1)
    labels: tuple[str, ...] = Field(min_length=2)
    architecture: str
    hyperparameters: dict[str, Any]
    seed: int
    code_version: str
    created: str
    text_fingerprint: Sha256
    data: DataCard
    temperature: float = Field(gt=0)
    metrics: dict[str, dict[str, dict[str, float]]]
    engines: dict[str, dict[str, Any]]
    limits: tuple[str, ...]
    quality: dict[TextKind, Quality] = {}
    reliability: Reliability = Reliability()
    baseline: Baseline | None = None
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Check that the baseline counts the labels."""
        if self.baseline is not None and len(self.baseline.labels) != len(self.labels):
            raise ValueError("a baseline must count each label of the version")
        return self


class GoldenRow(_Record):
    """A text with its ids and probabilities at export.

    Attributes:
        text: The text.
        ids: Its ids.
        probabilities: The probabilities from the SavedModel.
        answers: The probabilities from other engines, by name. Each engine is compared with its
            own: int8 weights differ more from the SavedModel than one engine may differ between
            two machines.
        labels: The label of each probability; empty in versions that were exported before rows
            had them. A manifest with other labels, or in another order, does not belong to the row.
    """

    text: str
    ids: tuple[int, ...]
    probabilities: tuple[float, ...]
    answers: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    labels: tuple[str, ...] = ()

    def expected(self, engine: str) -> tuple[float, ...]:
        """The probabilities that an engine must reproduce."""
        return self.answers.get(engine, self.probabilities)


def digest(path: Path) -> FileEntry:
    """Size and sha256 of a file."""
    sha256 = hashlib.sha256()
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha256.update(chunk)
            size += len(chunk)
    return FileEntry(size=size, sha256=sha256.hexdigest())


def digest_manifest(folder: Path) -> str:
    """The sha256 of a version's manifest, which stands for all its files.

    Raises:
        OSError: It cannot be read.
    """
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def list_files(folder: Path) -> list[str]:
    """Every file of a version but its manifest, as paths in the manifest, sorted."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in names if name != MANIFEST)


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write a manifest with the digests of all files in the folder. Call it last.

    Returns:
        The manifest as written.
    """
    files = {name: digest(folder / name) for name in list_files(folder)}
    complete = manifest.model_copy(update={"files": files})
    text = json.dumps(complete.model_dump(mode="json"), indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return complete


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a version.

    Raises:
        UnusableVersion: It is missing or malformed, or is of another name or version.
    """
    folder = folder.resolve()
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UnusableVersion(f"{MANIFEST} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UnusableVersion(f"{MANIFEST}: {where}: {first['msg']}") from error
    received = f"{folder.parent.name}/{folder.name}"
    if received != f"{manifest.name}/{manifest.version}":
        raise UnusableVersion(
            f"{MANIFEST} must be in {manifest.name}/{manifest.version}. Received: {received}"
        )
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare every file with the manifest.

    Raises:
        UnusableVersion: A file is missing, not in the manifest, or differs in size or digest; or
            there is a symbolic link, which could lead out of the folder.
    """
    if links := sorted(path.name for path in folder.rglob("*") if path.is_symlink()):
        raise UnusableVersion(f"a version must contain no symbolic links. Received: {links[0]}")
    present = set(list_files(folder))
    if missing := sorted(manifest.files.keys() - present):
        raise UnusableVersion(f"{missing[0]} is missing")
    if extra := sorted(present - manifest.files.keys()):
        raise UnusableVersion(f"{extra[0]} is not in {MANIFEST}")
    for name, expected in sorted(manifest.files.items()):
        found = digest(folder / name)
        if found.size != expected.size:
            raise UnusableVersion(f"{name} must have {expected.size} bytes. Received: {found.size}")
        if found.sha256 != expected.sha256:
            raise UnusableVersion(f"{name} differs from its sha256 in {MANIFEST}")


def read_verified(folder: Path) -> Manifest:
    """Read the manifest of a version and compare every file with it.

    `valence-train evaluate` replaces a version with a copy that has test metrics. A reader may see
    files of both. Then the manifest has changed, and everything is read again.

    Raises:
        UnusableVersion: See `read_manifest` and `verify_files`; or a file cannot be read.
    """
    manifest = read_manifest(folder)
    try:
        verify_files(folder, manifest)
    except (UnusableVersion, OSError) as error:
        if read_manifest(folder) != manifest:
            return read_verified(folder)
        if isinstance(error, OSError):
            raise UnusableVersion(f"a file cannot be read: {error.strerror}") from error
        raise
    return manifest


def copy_version(folder: Path, models: Path, wanted: Callable[[str], bool]) -> Path:
    """Copy a version into another repository, with some of its files and a manifest of these.

    Args:
        folder: The version.
        models: The other repository. The copy appears in it whole, or not at all.
        wanted: Whether a file of the version, named as in its manifest, is copied.

    Returns:
        The folder of the copy.

    Raises:
        UnusableVersion: See `read_verified`; or the other repository has the version already.
    """
    manifest = read_verified(folder)
    copy = models / manifest.name / str(manifest.version)
    aside = copy.with_name(f".{copy.name}")
    if copy.exists():
        raise UnusableVersion(f"a copy must not replace a version. Received: {copy}, which exists")
    shutil.rmtree(aside, ignore_errors=True)
    for name in filter(wanted, manifest.files):
        file = aside / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / name, file)
    write_manifest(aside, manifest)
    aside.rename(copy)
    return copy


def write_golden(folder: Path, rows: Iterable[GoldenRow]) -> None:
    """Write the golden rows, one JSON object per line."""
    contents = (row.model_dump(mode="json", exclude_defaults=True) for row in rows)
    lines = (json.dumps(content, ensure_ascii=True) for content in contents)
    (folder / GOLDEN).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_golden(folder: Path) -> Sequence[GoldenRow]:
    """Read the golden rows of a version.

    Raises:
        UnusableVersion: The file is missing, empty or malformed.
    """
    try:
        lines = (folder / GOLDEN).read_bytes().split(b"\n")
        rows = [GoldenRow.model_validate_json(line) for line in lines if line]
    except OSError as error:
        raise UnusableVersion(f"{GOLDEN} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise UnusableVersion(
            f"{GOLDEN}: a row is malformed: {error.errors()[0]['msg']}"
        ) from error
    if not rows:
        raise UnusableVersion(f"{GOLDEN} must have at least one row. Received: none")
    return rows
