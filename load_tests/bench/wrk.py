"""wrk as the load generator: written in C, it takes little of the cores that it shares."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Final

from load_tests.bench.errors import BenchError
from load_tests.bench.load import Load, Outcome

SCRIPT: Final = Path(__file__).parents[1] / "predict.lua"
MARK: Final = "result: "
"""The prefix of the line of JSON that `predict.lua` prints."""

_TIMEOUT_S: Final = 30
_MARGIN_S: Final = 30
_ERRORS: Final = {
    "status": "status other than 200",
    "connect": "no connection",
    "read": "connection lost",
    "write": "request not sent",
    "timeout": f"no answer within {_TIMEOUT_S} seconds",
}


class Wrk:
    """Runs wrk with `predict.lua`, in one thread so that the requests are sent in order."""

    name = "wrk"

    def __init__(self, executable: str) -> None:
        self._executable = executable

    def run(self, load: Load) -> Outcome:
        """Send requests for the duration of the load; see `Generator.run`."""
        seconds = max(round(load.seconds), 1)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            requests = Path(folder) / "requests"
            sizes = ((b"%d\n" % len(each), each) for each in load.requests())
            requests.write_bytes(b"".join(piece for pair in sizes for piece in pair))
            command = [
                *(self._executable, "-t1", f"-c{load.connections}", f"-d{seconds}s"),
                *("--timeout", f"{_TIMEOUT_S}s", "-s", str(SCRIPT)),
                f"http://127.0.0.1:{load.port}{load.path}",
            ]
            try:
                done = subprocess.run(  # noqa: S603 - the path of wrk, and numbers
                    command,
                    env=os.environ | {"REQUESTS": str(requests)},
                    timeout=seconds + _MARGIN_S,
                    capture_output=True,
                    text=True,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise BenchError(f"wrk cannot run: {type(error).__name__}") from error
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
            raise BenchError(f"wrk failed with status {done.returncode}: {lines[-1]}")
        return parse(done.stdout)


def parse(output: str) -> Outcome:
    """Read the output of wrk with `predict.lua`.

    Raises:
        BenchError: The script's line of JSON is missing or malformed.
    """
    lines = [line for line in output.splitlines() if line.startswith(MARK)]
    try:
        result: dict[str, Any] = json.loads(lines[-1].removeprefix(MARK))
        failed = {what: int(result["errors"][name]) for name, what in _ERRORS.items()}
        return Outcome(
            # wrk counts every answer, whatever its status.
            answered=int(result["requests"]) - int(result["errors"]["status"]),
            seconds=result["duration_us"] / 1e6,
            p50_ms=result["p50_us"] / 1e3,
            p99_ms=result["p99_us"] / 1e3,
            errors={what: count for what, count in failed.items() if count},
        )
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise BenchError("wrk printed no result: predict.lua did not finish") from error
