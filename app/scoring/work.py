"""The unfinished files of a run, and the state from which the same command goes on after a kill.

They lie in a hidden folder beside the output. The state is replaced atomically after what it counts
is on the disk, so it never promises more than there is; what was written after it is dropped.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from app.errors import DataError, InvalidInput
from app.scoring.files import move

_STATE: Final = "state.json"
_LOCK: Final = "lock"
_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class State:
    """How far a run has come.

    Attributes:
        row: The number of the last row that is in a file.
        scored: Rows with probabilities.
        failed: Rows with an error.
        bad: Rows in the file of bad rows.
        bad_bytes: The length of that file.
        output: The mark of the output.
        complete: Whether it counts all rows; then the files are being put in their places.
    """

    row: int = 0
    scored: int = 0
    failed: int = 0
    bad: int = 0
    bad_bytes: int = 0
    output: Any = None
    complete: bool = False


class WorkFolder:
    """The folder of one output; one process at a time has it open.

    Args:
        output: The path of the output.

    Attributes:
        path: The folder.
    """

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(f".{output.name}.scoring")
        self._output = output
        self._lock: IO[str] | None = None
        self._identity: Mapping[str, Any] = {}

    def open(self, identity: Mapping[str, Any], *, restart: bool) -> State:
        """Take the folder, and return the state of an earlier run that may be continued.

        Args:
            identity: What must be equal for that, by the name that messages use.
            restart: Whether an earlier run is dropped.

        Raises:
            InvalidInput: The earlier run was of another input, model or option.
            DataError: The folder cannot be written, or another process has it.
        """
        try:
            self._take()
            self._identity = json.loads(json.dumps(identity))
            return self._continue(restart=restart)
        except BaseException:
            self.close()
            raise

    def save(self, state: State) -> None:
        """Remember how far the run has come; what the state counts must be on the disk."""
        beside = self.path / f"{_STATE}.new"
        content = {"schema": _SCHEMA, "identity": self._identity, "state": asdict(state)}
        with beside.open("w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path / _STATE)

    def finish(self, complete: Path) -> None:
        """Put the complete file in its place and remove the folder."""
        move(complete, self._output)
        self.remove()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let other processes have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _take(self) -> None:
        try:
            self.path.mkdir(exist_ok=True)
            self._lock = (self.path / _LOCK).open("w")
        except OSError as error:
            raise DataError(f"{self._output}: it cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(f"{self._output}: another process is writing it") from error

    def _continue(self, *, restart: bool) -> State:
        found = self._read()
        if restart or found is None:
            self._empty()
            return State()
        earlier = found["identity"]
        differing = [name for name, value in self._identity.items() if earlier.get(name) != value]
        if differing:
            raise InvalidInput(
                f"{self._output}: an unfinished run is continued only with the same input, model "
                f"and options. Received: another {' and another '.join(differing)}; --restart "
                "drops the unfinished run"
            )
        return State(**found["state"])

    def _read(self) -> dict[str, Any] | None:
        try:
            content = json.loads((self.path / _STATE).read_text(encoding="utf-8"))
            State(**content["state"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return content if content.get("schema") == _SCHEMA else None

    def _empty(self) -> None:
        for path in self.path.iterdir():
            if path.name != _LOCK:
                path.unlink()
