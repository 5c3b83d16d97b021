"""Importing TensorFlow: its messages are shown if the import fails, and only then."""

import logging
import os
import sys
from pathlib import Path

import pytest

from training.support.tensorflow_import import import_tensorflow


def replace_tensorflow(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Let the next import of TensorFlow execute `source`."""
    (folder / "tensorflow.py").write_text(f"import os\nos.write(2, b'from C++')\n{source}\n")
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # afterwards it is as it was
    del sys.modules["tensorflow"]
    monkeypatch.syspath_prepend(folder)


def test_a_failed_import_shows_its_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """If the import fails, what its libraries wrote to stderr is shown: it tells why."""
    replace_tensorflow(tmp_path, monkeypatch, "raise ImportError('broken')")
    with pytest.raises(ImportError, match="broken"):
        import_tensorflow()
    os.write(2, b", then ours")
    assert capfd.readouterr().err == "from C++, then ours"


def test_a_successful_import_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """If the import succeeds, its messages are dropped, and later ones are shown."""
    replace_tensorflow(tmp_path, monkeypatch, "")
    import_tensorflow()
    os.write(2, b"ours")
    assert capfd.readouterr().err == "ours"


def test_warnings_about_several_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several models in one process bring no warnings; errors are still logged."""
    replace_tensorflow(tmp_path, monkeypatch, "")
    logger = logging.getLogger("tensorflow")
    monkeypatch.setattr(logger, "level", logging.WARNING)
    logger.setLevel(logging.WARNING)
    import_tensorflow()
    assert not logger.isEnabledFor(logging.WARNING)
    assert logger.isEnabledFor(logging.ERROR)
