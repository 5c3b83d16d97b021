"""Versions published into a repository while it is served: copies of the bundled `bow`."""

import json
import shutil
from pathlib import Path
from typing import Any

from app.artifact import MANIFEST
from tests.server import ROOT

SOURCE = ROOT / "models" / "bow" / "2"
FILES = ("model.onnx", "tokenizer.json", "golden.jsonl")
"""What ONNX Runtime needs of a version."""


def publish(models: Path, name: str, number: int, **changes: Any) -> Path:
    """Publish a copy of `bow` as another model or version, in one step.

    Args:
        models: The repository.
        name: The name of the model.
        number: The number of the version.
        changes: Fields of the manifest.
    """
    folder = models / name / str(number)
    aside = folder.with_name(f".{number}")
    aside.mkdir(parents=True)
    for file in FILES:
        shutil.copyfile(SOURCE / file, aside / file)
    manifest = json.loads((SOURCE / MANIFEST).read_text())
    manifest["files"] = {file: manifest["files"][file] for file in FILES}
    manifest |= {"name": name, "version": number, **changes}
    (aside / MANIFEST).write_text(json.dumps(manifest))
    if folder.exists():
        folder.rename(folder.with_name(f".{number}.old"))
    aside.rename(folder)
    shutil.rmtree(folder.with_name(f".{number}.old"), ignore_errors=True)
    return folder


def set_aliases(models: Path, name: str, **aliases: float) -> None:
    """Write `aliases.json` of a model, in one step."""
    aside = models / name / ".aliases.json"
    aside.write_text(json.dumps(aliases))
    aside.replace(models / name / "aliases.json")
