"""One exported version of a model: the files beside the SavedModel, written and verified here.

A version folder is `models/<name>/<version>/`. Its manifest names every other file with size and
sha256, so that a half-copied or altered version is refused before it answers anything.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import UnusableVersion

MANIFEST: Final = "manifest.json"
TOKENIZER: Final = "tokenizer.json"
GOLDEN: Final = "golden.jsonl"
ONNX: Final = "model.onnx"
"""The SavedModel's function for ONNX Runtime; a version need not have it."""
REPORT: Final = "report"

SIGNATURE: Final = "serve_ids"
"""The signature the service calls: `ids` int32 (b, t), `lengths` int32 (b,) → `probabilities`."""
CUDNN_SIGNATURE: Final = "serve_ids_cudnn"
"""The same function for a GPU, in a version with an LSTM; a version need not have it."""
TEXT_SIGNATURE: Final = "serving_default"
"""The signature for other programs: `text` string (b,) → `probabilities` float32 (b, c)."""

_CHUNK_BYTES: Final = 1 << 20

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
MODEL_NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,63}$"
ModelName = Annotated[str, Field(pattern=MODEL_NAME_PATTERN)]
MODEL_NAME_RULE: Final = (
    "a model's name must be 1 to 64 of a-z 0-9 . _ - and begin with a letter or digit"
)


class _Record(BaseModel):
    """Read-only, and strict about what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Record):
    """Size in bytes and digest of one file."""

    size: int = Field(ge=0)
    sha256: Sha256


class DataCard(_Record):
    """What a model learned from.

    Attributes:
        name: The data set.
        fingerprint: Sha256 over its texts and labels.
        counts: Texts per split, and how many were left out and why.
        splits: The same digest for each split by itself.
    """

    name: str
    fingerprint: Sha256
    counts: dict[str, int]
    splits: dict[str, Sha256] = {}


class Manifest(_Record):
    """Description of one exported version.

    Attributes:
        schema_version: Of this file; raised when a field changes its meaning.
        labels: In the order of the model's outputs.
        architecture: What kind of model it is, as the training names it.
        hyperparameters: The whole training configuration.
        code_version: Of this project, when it trained the model.
        created: ISO 8601, UTC.
        text_fingerprint: `TextEncoder.fingerprint()` of the tokenizer the model was trained with.
        temperature: By which the logits are divided inside the model; 1 leaves them as they are.
        metrics: `metrics[split][engine][name]`, measured through the exported version: `validation`
            at export, `test` when `valence-train evaluate` read it, once.
        engines: What each engine needs to know, and for `onnx` how its graph did at export:
            `precision` is that of `model.onnx`, or null where no graph was kept.
        limits: What the model is not good for, in sentences for its card.
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
    files: dict[str, FileEntry]


class GoldenRow(_Record):
    """A text with the ids and probabilities it had when the version was exported.

    Attributes:
        probabilities: What the SavedModel answered.
        answers: What another engine answered, by its name. Each engine is held to its own answers:
            one that computes with less precision differs more from the SavedModel than an engine
            that is at work on another machine may differ from itself.
    """

    text: str
    ids: tuple[int, ...]
    probabilities: tuple[float, ...]
    answers: dict[str, tuple[float, ...]] = Field(default_factory=dict)

    def expected(self, engine: str) -> tuple[float, ...]:
        """What `engine` must answer."""
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


def list_files(folder: Path) -> list[str]:
    """Every file of a version but its manifest, as the manifest names them, sorted."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in names if name != MANIFEST)


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write `manifest` with the digests of all files now in `folder`; call it last.

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
        UnusableVersion: It is missing, malformed, or belongs to another name or version.
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
            f"{MANIFEST} must stand in {manifest.name}/{manifest.version}. Received: {received}"
        )
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare every file with the manifest.

    Raises:
        UnusableVersion: A file is missing, surplus, or differs in size or digest.
    """
    present = set(list_files(folder))
    if missing := sorted(manifest.files.keys() - present):
        raise UnusableVersion(f"{missing[0]} is missing")
    if surplus := sorted(present - manifest.files.keys()):
        raise UnusableVersion(f"{surplus[0]} is not in {MANIFEST}")
    for name, expected in sorted(manifest.files.items()):
        found = digest(folder / name)
        if found.size != expected.size:
            raise UnusableVersion(f"{name} must have {expected.size} bytes. Received: {found.size}")
        if found.sha256 != expected.sha256:
            raise UnusableVersion(f"{name} differs from its sha256 in {MANIFEST}")


def read_verified(folder: Path) -> Manifest:
    """Read the manifest of a version and compare every file with it.

    `valence-train evaluate` exchanges a version for a copy with test figures. Who reads meanwhile
    may see files of both; then the manifest is another one afterwards, and is read again.

    Raises:
        UnusableVersion: As `read_manifest` and `verify_files`, or a file cannot be read.
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


def write_golden(folder: Path, rows: Iterable[GoldenRow]) -> None:
    """Write the golden rows, one JSON object a line."""
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
