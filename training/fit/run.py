"""A run: a finished training on disk, which the exporter reads."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from app.artifact import DataCard
from app.errors import DataError, InvalidInput
from training.data.dataset import Source

RUN: Final = "run.json"
MODEL: Final = "model.keras"


@dataclass(frozen=True, slots=True)
class Run:
    """The description of a training, beside its weights and its tokenizer.

    Attributes:
        config: The recipe, as a plain mapping.
        source: Where the data came from.
        labels: In the order of the model's outputs.
        data: The data card, as in the manifest.
        history: The value of each metric (`loss`, `val_accuracy`, `tokens_per_second`, ...) after
            each epoch.
        seconds: Wall time of the training loop, summed over its parts if it was resumed.
        code_version: The version of this project.
        coverage: The shares of the vocabulary and of the training tokens that a file of word
            vectors covers; empty without one.
        inputs: Digests of what it has read; empty in runs of earlier releases.
    """

    config: dict[str, Any]
    source: Source
    labels: tuple[str, ...]
    data: dict[str, Any]
    history: dict[str, list[float]]
    seconds: float
    code_version: str
    coverage: dict[str, float] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write `run.json`."""
        text = json.dumps(asdict(self), indent=1)
        (folder / RUN).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read `run.json`.

        Raises:
            DataError: The file is missing or invalid.
        """
        path = folder / RUN
        try:
            return _parse(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise DataError(f"{path}: a run folder must have this file, made by train") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            reason = f"{where}: {first['msg']}"
            raise DataError(f"{path}: not the description of a run: {reason}") from error
        except (ValueError, KeyError, TypeError, RecursionError, InvalidInput) as error:
            raise DataError(f"{path}: not the description of a run: {error}") from error


def _parse(content: Any) -> Run:
    """A run from the JSON that `Run.write` wrote, with every value of its type."""
    content["source"] = Source(**content["source"])
    content["labels"] = tuple(content["labels"])
    run: Run = TypeAdapter(Run).validate_python(asdict(Run(**content)))
    DataCard(**run.data)
    if not run.history.get("val_loss"):
        raise ValueError("its history has no val_loss")
    return run
