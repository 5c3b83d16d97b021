import os
import time
from pathlib import Path

import pytest

from load_tests.bench.machine import busy_cores, describe_machine
from load_tests.bench.processes import read_usage
from load_tests.bench.scrape import Counted, parse

PAGE = """\
# HELP valence_batch_items Items in one run
# TYPE valence_batch_items histogram
valence_batch_items_bucket{le="1.0",model="lstm"} 1.0
valence_batch_items_count{model="lstm"} 4.0
valence_batch_items_sum{model="lstm"} 30.0
valence_batch_items_sum{model="bow"} 1000.0
valence_batch_tokens_total{kind="real",model="lstm"} 900.0
valence_batch_tokens_total{model="lstm",kind="padded"} 1.0e+02
valence_batch_tokens_total{kind="real",model="bow"} 7.0
valence_batch_tokens_total_other{kind="real",model="lstm"} 5.0
valence_up 1
"""


def test_metrics_page() -> None:
    """The counters of one model are read, whatever the order of labels."""
    counted = parse(PAGE, "lstm")
    assert counted == Counted(real_tokens=900, filler_tokens=100, batches=4, items=30)
    assert (counted.real_share, counted.batch_size) == (0.9, 7.5)


def test_metrics_of_several_processes() -> None:
    """Series that differ in another label are summed."""
    lines = [f'valence_batch_items_sum{{model="a",pid="{pid}"}} {pid}' for pid in (2, 3)]
    assert parse("\n".join(lines), "a").items == 5


def test_counts_since() -> None:
    """The increase between two scrapes is their difference; without items there are no ratios."""
    before, after = Counted(100, 10, 1, 8), Counted(400, 20, 3, 24)
    assert after.since(before) == Counted(300, 10, 2, 16)
    assert (before.since(before).real_share, before.since(before).batch_size) == (None, None)


def write_stat(
    proc: Path, pid: int, parent: int, *, user: int = 0, waited: int = 0, pages: int = 0
) -> None:
    """Write a /proc/<pid>/stat whose process name looks like further fields."""
    (proc / str(pid)).mkdir()
    times = f"{user} 1 {waited} 0"
    rest = f"S {parent} 1 1 0 -1 0 0 0 0 0 {times} 20 0 1 0 12345 999999 {pages} 18446744073709"
    (proc / str(pid) / "stat").write_text(f"{pid} (a) S 1 (b) {rest}\n")


def test_usage_of_a_family(tmp_path: Path) -> None:
    """Processor time and memory are summed over a process and its descendants.

    Shared pages count by proportional set size where the system reports it.
    """
    write_stat(tmp_path, 10, 1, user=200, waited=50, pages=3)
    write_stat(tmp_path, 11, 10, user=100, pages=4)
    write_stat(tmp_path, 12, 11, pages=5)
    write_stat(tmp_path, 13, 1, user=9999, pages=9999)
    (tmp_path / "14").mkdir()  # has just exited
    for number in range(3):
        (tmp_path / "11" / "fd" / str(number)).mkdir(parents=True)
    (tmp_path / "12" / "smaps_rollup").write_text("00-ff ---p [rollup]\nRss: 9 kB\nPss: 2 kB\n")
    usage = read_usage(10, tmp_path)
    assert usage is not None
    assert usage.cpu_s * os.sysconf("SC_CLK_TCK") == pytest.approx(200 + 50 + 100 + 3)
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    assert usage.resident_sum_bytes == 12 * page_bytes
    assert usage.resident_bytes == 7 * page_bytes + 2048
    assert (usage.processes, usage.threads, usage.descriptors) == (3, 3, 3)


def test_usage_of_a_missing_process(tmp_path: Path) -> None:
    """Without such a process, or without /proc, there is no usage."""
    assert read_usage(10, tmp_path) is None
    assert read_usage(10, tmp_path / "none") is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system has no /proc")
def test_usage_of_this_process() -> None:
    """The usage of this process is plausible."""
    usage = read_usage(os.getpid())
    assert usage is not None
    assert usage.resident_sum_bytes >= usage.resident_bytes > 2**20
    assert 0 < usage.cpu_s < time.time()


def test_machine() -> None:
    """The facts of a machine contain neither host name nor home folder."""
    facts = describe_machine()
    assert facts["cores"] >= 1
    assert facts["packages"]["numpy"]
    assert str(Path.home()) not in str(facts)
    assert busy_cores() is None or busy_cores() >= 0  # type: ignore[operator]
