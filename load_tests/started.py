"""Locust against a service that is started for it, and stopped afterwards.

    python -m load_tests.started --users 16 --run-time 20s --html runs/load.html

All arguments are Locust's. The exit status is Locust's, 1 also if the service does not start.
"""

import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from load_tests.bench.errors import BenchError
from load_tests.bench.machine import ROOT
from load_tests.bench.server import serve

_LOCUSTFILE: Final = "load_tests/locustfile.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the service, run Locust, stop the service."""
    typed = sys.argv[1:] if arguments is None else arguments
    try:
        with serve(ROOT / "models", "onnx") as server:
            command = [
                *(sys.executable, "-m", "locust", "-f", _LOCUSTFILE, "--headless"),
                *("--host", f"http://127.0.0.1:{server.port}", *typed),
            ]
            return subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - ours
    except BenchError as error:
        sys.stderr.write(f"load: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 1


if __name__ == "__main__":
    sys.exit(main())
