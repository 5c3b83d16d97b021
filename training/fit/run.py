"""A finished training on disk: what the exporter starts from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from app.errors import DataError
from training.data.dataset import Source

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
