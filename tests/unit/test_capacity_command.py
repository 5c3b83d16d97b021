"""Wrong calls of the capacity run and of the simulation."""

from collections.abc import Callable, Sequence

import pytest

from load_tests.capacity.__main__ import main as capacity
from load_tests.simulation.__main__ import main as simulation


@pytest.mark.parametrize(
    ("main", "arguments", "rule"),
    [
        (capacity, ["--model", "none"], "Received: none"),
        (capacity, ["--cores", "9999"], "--cores must be at most"),
        (simulation, ["missing.json"], "missing.json must be the file of a capacity run"),
    ],
)
def test_wrong_calls(
    main: Callable[[Sequence[str]], int],
    arguments: list[str],
    rule: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A wrong call ends with status 2 and one sentence, before anything is started."""
    assert main(arguments) == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert rule in sentence


@pytest.mark.parametrize(
    "arguments",
    [["--limit-ms", "0"], ["--nodes", "1"], ["--list-share", "2"], ["--rounds", "0"]],
)
def test_bounds(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Every option has its bounds."""
    with pytest.raises(SystemExit) as ended:
        capacity(arguments)
    assert ended.value.code == 2
    assert f"Received: {arguments[1]}" in capsys.readouterr().err
