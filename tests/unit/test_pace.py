"""Pace: what is told of a version beside a plain LSTM."""

import re
import shutil
from pathlib import Path

import pytest

from app.errors import InvalidInput
from tests.deferred import deferred
from tests.trained import Workshop, call

with deferred():
    from training.data.dataset import Source
    from training.evaluation.pace import Pace, measure_pace


def test_ratios_are_of_one_round(workshop: Workshop) -> None:
    """Both are timed in every round, and a ratio is of the two times of one."""
    found = measure_pace(workshop.models / "lstm" / "1", Source(str(workshop.data)), rounds=3)
    assert len(found.version) == len(found.plain) == 3
    assert min(found.version + found.plain) > 0
    assert Pace([100, 300, 90], [100, 100, 30]).ratios == [1, 3, 3]


def test_the_line_that_is_printed(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts a second of both, and how many times as fast the version is, with the range."""
    folder = workshop.models / "lstm" / "1"
    assert call("pace", folder, "--data", workshop.data, "--rounds", 2) == 0
    figures = r"[\d,]+ texts/s, a plain LSTM of 128 units [\d,]+: [\d.]+ times as fast"
    line = rf"{re.escape(str(folder))}: {figures} \([\d.]+ to [\d.]+ in 2 rounds\)\n"
    assert re.fullmatch(line, capsys.readouterr().out)


def test_what_cannot_be_timed(workshop: Workshop, tmp_path: Path) -> None:
    """No round and no `model.onnx` are said in a sentence each."""
    source = Source(str(workshop.data))
    folder = tmp_path / "lstm" / "1"
    shutil.copytree(workshop.models / "lstm" / "1", folder)
    with pytest.raises(InvalidInput, match="rounds must be 1 or more"):
        measure_pace(folder, source, rounds=0)
    (folder / "model.onnx").unlink()
    with pytest.raises(InvalidInput, match="must have a model"):
        measure_pace(folder, source, rounds=1)
