"""`valence serve` whose models hang on a text with the word "hang".

python -m tests.hanging serve --workers 2
"""

import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app import main as composition
from app.__main__ import main
from app.serving.engines import Engine, EngineOptions, load_engine
from app.text.padding import Int32Array

TOKENS = 33
"""A text of so many ids hangs; no golden text has as many."""


def load(folder: Path, options: EngineOptions) -> Engine:
    """Load an engine that hangs on some rows."""
    engine = load_engine(folder, options)
    compute = engine.run

    def run(ids: Int32Array, lengths: Int32Array) -> NDArray[np.floating]:
        if (lengths == TOKENS).any():
            time.sleep(3600)
        return compute(ids, lengths)

    engine.run = run  # type: ignore[method-assign]
    return engine


if __name__ == "__main__":
    composition.load_engine = load  # type: ignore[attr-defined]
    sys.exit(main())
