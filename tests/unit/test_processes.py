import subprocess
import sys

FORK = """
import os
from app.api.middleware import make_request_id
if os.fork() == 0:
    print(make_request_id(), flush=True)
    os._exit(0)
os.wait()
print(make_request_id())
"""


def test_request_ids_of_workers() -> None:
    """Processes that were forked from one make different request ids."""
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, check=True, timeout=60
    )
    one, other = done.stdout.split()
    assert one != other
    assert {len(one), len(other)} == {32}
