"""Versions published into a repository while it is served: copies of the bundled `bow`."""

import json
from pathlib import Path
from typing import Any

from load_tests.bench import swaps
from tests.server import ROOT

SOURCE = ROOT / "models" / "bow" / "3"


def publish(models: Path, name: str, number: int, **changes: Any) -> Path:
    """Publish a copy of `bow`; see `load_tests.bench.swaps.publish`."""
    return swaps.publish(SOURCE, models, name, number, **changes)


def set_aliases(models: Path, name: str, **aliases: float) -> None:
    """Write `aliases.json` of a model, in one step."""
    aside = models / name / ".aliases.json"
    aside.write_text(json.dumps(aliases))
    aside.replace(models / name / "aliases.json")
