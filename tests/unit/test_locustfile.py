"""The parts of the locustfile that distributed runs need; in a process that Locust may patch."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """
import itertools
from argparse import Namespace
from types import SimpleNamespace

from load_tests import locustfile
from load_tests.corpus import texts
from load_tests.locustfile import _collect, _judge, _report, _seed, _server_times
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

options = Namespace(
    max_error_ratio=0.0, p95_ms=None, p99_ms=None, min_rate=None, expect_workers=2
)

def environment(runner_class, **attributes):
    made = Environment(parsed_options=options)
    runner = runner_class.__new__(runner_class)
    greenlet = SimpleNamespace(kill=lambda **_: None)  # ended by the destructor
    runner.__dict__.update(environment=made, exceptions={}, greenlet=greenlet, **attributes)
    made.runner = runner
    return made

workers = [environment(WorkerRunner, worker_index=index) for index in (0, 1)]
seeds = []
for worker in workers:
    locustfile._seeds = itertools.count()  # as in a process of its own
    seeds += [_seed(worker) for _ in range(8)]
print("texts:", len({next(texts(seed)) for seed in seeds}))

# A worker that has sent its statistics has none left, and says nothing of it.
_judge(workers[0])
print("a worker's exit code:", workers[0].process_exit_code)

master = environment(MasterRunner)
sent = {"a": {}, "b": {}}
for name, data in sent.items():
    _server_times.add("infer", 1.5)
    _report(client_id=name, data=data)
print("sent:", sent)
_collect(client_id="a", data=sent["a"])
master.stats.log_request("POST", "one text", 12, 100)
_judge(master)
print("one of two:", master.process_exit_code)
_collect(client_id="b", data=sent["b"])
_judge(master)
print("both:", master.process_exit_code)
print("merged:", _server_times.take())
"""


def test_distributed() -> None:
    """Texts differ between workers; only the master judges, and misses a worker that is silent."""
    times = {"valence_server_times": {"infer": [[15, 1]]}}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [
        "texts: 16",
        "a worker's exit code: None",
        f"sent: {{'a': {times}, 'b': {times}}}",
        "one of two: 1",
        "both: 0",
        "merged: {'infer': [[15, 2]]}",
    ], done.stderr
