"""Contradicting options of `valence-train teach` are refused before anything is read."""

import pytest

from training import cli


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--kept", "a", "--measure", "b"], "Received: --kept, --measure"),
        (["--kept", "a", "--keep", "b"], "Received: --kept, --keep"),
        (["--measure", "a", "--large", "b"], "Received: --measure, --large"),
        (["--large-steps", "5"], "--large-steps is about the encoder of --large"),
        (["--large-share", "0.5"], "--large-share is about the encoder of --large"),
    ],
)
def test_contradictions(
    options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence and exit status 2; the data need not exist."""
    status = cli.main(["teach", "--data", "/nowhere", "--to", "/nowhere/teacher", *options])
    assert status == 2
    assert sentence in capsys.readouterr().err
