"""A finished training on disk: what the exporter starts from."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from app.errors import DataError, InvalidInput
from training.dataset import Source

RUN: Final = "run.json"
MODEL: Final = "model.keras"


@dataclass(frozen=True, slots=True)
class Run:
    """What is known of a training beside its weights and its tokenizer.

    Attributes:
        config: The recipe, as a plain mapping.
        source: Where the data came from.
        labels: In the order of the model's outputs.
        data: The card of the data, as in the manifest.
        history: Per figure (`loss`, `val_accuracy`, `tokens_per_second`, ...) its value after each
            epoch.
        seconds: Wall time of the loop; of one that was stopped, of its parts together.
        code_version: Of this project.
        coverage: Of the vocabulary and of the training tokens, by a file of word vectors.
    """

    config: dict[str, Any]
    source: Source
    labels: tuple[str, ...]
    data: dict[str, Any]
    history: dict[str, list[float]]
    seconds: float
    code_version: str
    coverage: dict[str, float] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write `run.json`."""
        text = json.dumps(asdict(self), indent=1)
        (folder / RUN).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read `run.json`.

        Raises:
            DataError: It is missing or no such file.
        """
        path = folder / RUN
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            content["source"] = Source(**content["source"])
            content["labels"] = tuple(content["labels"])
            return cls(**content)
        except OSError as error:
            raise DataError(f"{path}: a run folder must have this file, made by train") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: not the description of a run: {error}") from error


def check_target(folder: Path, *, replaces: str | None = None) -> Path:
    """The absolute path of a folder that `written_aside` may write.

    Raises:
        InvalidInput: There is something at `folder` that may not be replaced.
    """
    folder = folder.resolve()
    if folder.exists() and not (replaces and (folder / replaces).is_file()):
        rule = f"a new folder or one that holds {replaces}" if replaces else "a new folder"
        raise InvalidInput(f"the result must go into {rule}. Received: {folder}, which exists")
    return folder


@contextmanager
def written_aside(folder: Path, *, replaces: str | None = None) -> Iterator[Path]:
    """A folder to write into that becomes `folder` when the block ends well.

    It stands beside `folder` under a hidden name of its own, so that a rename is all that remains
    to do. When the block raises, it is removed and everything is as it was.

    Args:
        folder: Where the result goes.
        replaces: A folder that holds this file is an earlier result and may be replaced. Without
            it, and for any other folder, what exists is never touched.

    Raises:
        InvalidInput: There is something at `folder` that may not be replaced.
    """
    folder = check_target(folder, replaces=replaces)
    missing = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    aside.chmod(0o755)  # readable for the service, as any folder is; mkdtemp's are private
    try:
        yield aside
        if folder.exists() and replaces:
            _replace(folder, aside)
        else:
            aside.rename(folder)  # fails where somebody else was faster
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        for parent in missing:
            with suppress(OSError):  # not empty: the result is in it
                parent.rmdir()


def _replace(folder: Path, aside: Path) -> None:
    """Move the earlier result out of the way, the new one in, and only then delete."""
    earlier = aside.with_suffix(".earlier")
    folder.rename(earlier)
    aside.rename(folder)
    shutil.rmtree(earlier)
