"""A finished training on disk: what the exporter starts from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from app.errors import DataError
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
        history: Per figure its value after each epoch.
        seconds: Wall time of the loop.
        code_version: Of this project.
    """

    config: dict[str, Any]
    source: Source
    labels: tuple[str, ...]
    data: dict[str, Any]
    history: dict[str, list[float]]
    seconds: float
    code_version: str

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


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes the place of `folder` when the block ends well.

    It stands beside `folder` under a hidden name, so that a rename is all that remains to do; when
    the block raises it is removed, and `folder` is as it was.
    """
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        if folder.exists():
            shutil.rmtree(folder)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
