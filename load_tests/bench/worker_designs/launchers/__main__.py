"""`python -m load_tests.bench.worker_designs.launchers uvicorn|reuseport`: serve until SIGTERM.

Prints its log as lines of JSON; the first has the address, and each worker logs when it is ready.
"""

import argparse
from pathlib import Path

from app.configuration import divide_cores
from app.settings import Settings
from app.telemetry.logs import configure_logs
from load_tests.bench.worker_designs.launchers import reuseport_workers, uvicorn_workers

_RUN = {"uvicorn": uvicorn_workers.run, "reuseport": reuseport_workers.run}


def main() -> None:
    """Serve on a free port of 127.0.0.1 with the models of a folder."""
    parser = argparse.ArgumentParser(description="The service behind another supervisor.")
    parser.add_argument("design", choices=sorted(_RUN))
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--models-dir", type=Path, required=True)
    options = parser.parse_args()
    settings = Settings.model_validate(
        {
            "port": 0,
            "workers": options.workers,
            "models_dir": options.models_dir,
            "engine": "onnx",
            "device": "cpu",
        }
    )
    configure_logs("json", "info")
    _RUN[options.design](divide_cores(settings))


if __name__ == "__main__":
    main()
