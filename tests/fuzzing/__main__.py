"""Fuzzing for as long as you like: `make fuzz SECONDS=600`.

Half of the time goes to atheris, which looks for inputs that reach new code (`harness.py`), and
half to Schemathesis, which makes requests from the OpenAPI document (`openapi.py`). The exit status
is 1 if a rule was broken or a status 500 was seen.

    python -m tests.fuzzing --seconds 600
"""

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzzing.harness import HARNESSES, SEEDS
from tests.fuzzing.openapi import run_against_server
from tests.server import ROOT

_RUNS = re.compile(r"^Done (\d+) runs|stat::number_of_executed_units: +(\d+)", re.MULTILINE)


def main() -> int:
    """Run all, and print the number of cases."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="how long (default: 120)")
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz"), help="where findings go")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    failed = False
    guided = importlib.util.find_spec("atheris") is not None
    if not guided:
        sys.stdout.write("atheris has no wheel for this system: left out\n")
    for name in HARNESSES if guided else ():
        failed |= not _run_atheris(
            name, max(1, options.seconds // (2 * len(HARNESSES))), options.out
        )
    outcome = run_against_server(options.seconds / 2)
    sys.stdout.write(f"openapi: {outcome.describe()}\n")
    return 1 if failed or outcome.failures or outcome.statuses[500] else 0


def _run_atheris(name: str, seconds: int, out: Path) -> bool:
    """Run one harness in a process of its own, which atheris ends; returns whether all was well."""
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS[name]):
            (Path(corpus) / str(number)).write_bytes(seed)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzzing.guided", name, corpus),
                *(f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10"),
                *("-print_final_stats=1", f"-artifact_prefix={out.resolve()}/{name}-"),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    runs = max((int(a or b) for a, b in _RUNS.findall(done.stderr)), default=0)
    well = done.returncode == 0 and runs > 0
    sys.stdout.write(f"{name}: {runs} cases{'' if well else ', BROKEN'}\n")
    if not well:
        sys.stdout.write(f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n")
    return well


if __name__ == "__main__":
    sys.exit(main())
