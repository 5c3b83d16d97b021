"""The metrics registry: updates, snapshots, merging and the text format."""

import json
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.telemetry.tally import Snapshot, Tally

BOUNDS = (0.5, 1.0, 2.5)


def read(page: bytes) -> dict[tuple[str, str], float]:
    """The value of each series: by its name and the values of its labels."""
    return {
        (series.name, " ".join(series.labels.values())): series.value
        for family in text_string_to_metric_families(page.decode())
        for series in family.samples
    }


@dataclass
class Worker:
    """A process with metrics; all of them declare the same ones."""

    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self.answers = self.tally.counter("answers_total", "Answers given", "model", "status")
        self.waiting = self.tally.gauge("waiting", "Items waiting").labels()
        self.ready = self.tally.gauge("ready", "1 when ready", "model", combine=max)
        self.seconds = self.tally.histogram("seconds", "Time taken", BOUNDS, "model")

    def work(self, waiting: int, *seconds: float) -> Snapshot:
        """Update all metrics."""
        self.ready.labels("lstm").set(1)
        self.waiting.inc(waiting)
        for value in seconds:
            self.answers.labels("lstm", "200").inc()
            self.seconds.labels("lstm").observe(value)
        return self.tally.snapshot()

    def page(self, *snapshots: Snapshot) -> dict[tuple[str, str], float]:
        """The series of all snapshots together."""
        return read(self.tally.render(self.tally.merge(snapshots)))


def test_pages_one_after_another() -> None:
    """Each page has the numbers of its snapshot, and no series that is gone."""
    worker = Worker()
    pages = []
    for snapshot in (worker.work(3, 0.2), worker.work(1, 0.7, 9e9)):
        pages.append(worker.tally.render(snapshot))
        assert pages[-1] == Worker().tally.render(snapshot)
    assert pages[0] != pages[1]
    worker.answers.remove(lambda labels: labels["model"] == "lstm")
    worker.answers.labels("bow", "200")
    page = read(worker.tally.render(worker.tally.snapshot()))
    assert [labels for name, labels in page if name == "answers_total"] == ["bow 200"]


def test_text_format() -> None:
    """Each type of metric has its lines, with HELP, TYPE and labels."""
    worker = Worker()
    page = worker.tally.render(worker.work(3, 0.2, 2.0)).decode()
    ours = page[page.index("# HELP answers_total") :]
    assert ours == (
        "# HELP answers_total Answers given\n"
        "# TYPE answers_total counter\n"
        'answers_total{model="lstm",status="200"} 2.0\n'
        "# HELP waiting Items waiting\n"
        "# TYPE waiting gauge\n"
        "waiting 3.0\n"
        "# HELP ready 1 when ready\n"
        "# TYPE ready gauge\n"
        'ready{model="lstm"} 1.0\n'
        "# HELP seconds Time taken\n"
        "# TYPE seconds histogram\n"
        'seconds_bucket{le="0.5",model="lstm"} 1.0\n'
        'seconds_bucket{le="1.0",model="lstm"} 1.0\n'
        'seconds_bucket{le="2.5",model="lstm"} 2.0\n'
        'seconds_bucket{le="+Inf",model="lstm"} 2.0\n'
        'seconds_count{model="lstm"} 2.0\n'
        'seconds_sum{model="lstm"} 2.2\n'
    )


@given(
    st.lists(
        st.one_of(st.sampled_from([*BOUNDS, 0.0]), st.floats(allow_nan=False, allow_infinity=False))
    )
)
def test_histogram_agrees_with_the_library(values: list[float]) -> None:
    """Buckets are rendered as those of prometheus_client: cumulative, with inclusive bounds."""
    registry = CollectorRegistry()
    theirs = Histogram("seconds", "Time taken", buckets=BOUNDS, registry=registry)
    tally = Tally()
    ours = tally.histogram("seconds", "Time taken", BOUNDS).labels()
    for value in values:
        theirs.observe(value)
        ours.observe(value)
    expected = {k: v for k, v in read(generate_latest(registry)).items() if "created" not in k[0]}
    found = {k: v for k, v in read(tally.render(tally.snapshot())).items() if "process" not in k[0]}
    assert found == expected


def test_gauge() -> None:
    """A gauge can be increased, decreased and set."""
    tally = Tally()
    gauge = tally.gauge("waiting", "Items waiting").labels()
    gauge.inc(5)
    gauge.dec()
    moved = tally.snapshot()
    gauge.set(9)
    pages = [read(tally.render(snapshot)) for snapshot in (moved, tally.snapshot())]
    assert [page["waiting", ""] for page in pages] == [4, 9]


def test_processes_add_up() -> None:
    """Counters, gauges and buckets of two processes are summed."""
    one, two = Worker(), Worker()
    two.answers.labels("bow", "429").inc(7)  # a series that the other one does not have
    page = one.page(one.work(3, 0.2, 9.0), two.work(4, 0.7))
    assert (page["answers_total", "lstm 200"], page["answers_total", "bow 429"]) == (3, 7)
    assert page["waiting", ""] == 7
    buckets = [page["seconds_bucket", f"{bound} lstm"] for bound in ("0.5", "1.0", "2.5", "+Inf")]
    assert buckets == [1, 2, 2, 3]
    assert page["seconds_sum", "lstm"] == pytest.approx(9.9)


def test_gauge_of_maximum() -> None:
    """A gauge that is 1 or 0 takes the maximum."""
    one, two = Worker(), Worker()
    assert one.page(one.work(0), two.work(0), Worker().tally.snapshot())["ready", "lstm"] == 1


def test_merged_snapshots_can_be_merged() -> None:
    """A merged snapshot is a snapshot: processes can be merged in any groups."""
    one, two, three = Worker(), Worker(), Worker()
    taken = [one.work(1, 0.5), two.work(2, 0.25, 0.25), three.work(3, 4.0)]
    together = one.tally.merge(taken[:2])
    assert one.page(together, taken[2]) == pytest.approx(one.page(*taken))


def test_snapshot_through_json() -> None:
    """A snapshot is rendered the same after a round trip through JSON."""
    worker = Worker()
    snapshot = worker.work(3, 0.1, 0.2, 7.0)
    received = json.loads(json.dumps(snapshot))
    assert worker.tally.render(received) == worker.tally.render(snapshot)
    assert worker.page(received, snapshot)["answers_total", "lstm 200"] == 6


def test_snapshot_is_a_copy() -> None:
    """Later updates do not change a snapshot."""
    worker = Worker()
    snapshot = worker.work(1, 0.5)
    worker.work(1, 0.5)
    assert worker.page(snapshot)["answers_total", "lstm 200"] == 1


def test_process_metrics() -> None:
    """The process metrics are those of prometheus_client."""
    expected = {
        series.name
        for family in ProcessCollector(registry=None).collect()
        for series in family.samples
    }
    tally = Tally()
    page = read(tally.render(tally.snapshot()))
    assert {name for name, _ in page} == expected
    assert all(page.values())


def test_merge_of_process_metrics() -> None:
    """Memory and CPU time are summed; the start time is the earliest."""
    tally = Tally()
    names = [
        f"process_{name}"
        for name in ("resident_memory_bytes", "cpu_seconds_total", "start_time_seconds")
    ]

    def figures(*numbers: float) -> Snapshot:
        return {name: [((), (number,))] for name, number in zip(names, numbers, strict=True)}

    page = read(tally.render(tally.merge([figures(5, 1, 1000), figures(6, 2, 900)])))
    assert [page[name, ""] for name in names] == [11, 3, 900]


_FORK = """
import os
from app.telemetry.tally import Tally
for _ in range(2):
    print(Tally().snapshot()["process_start_time_seconds"], flush=True)
    if os.fork():
        os.wait()
        break
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the library has process metrics on Linux only")
def test_start_time_of_a_worker() -> None:
    """It is that of the service: a worker that answers alone for once is no restart."""
    command = [sys.executable, "-c", _FORK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    supervisor, worker = done.stdout.splitlines()
    assert worker == supervisor


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example('say "no"\n\\n')
def test_label_values_are_escaped(value: str) -> None:
    """Any label value survives rendering and parsing."""
    tally = Tally()
    tally.counter("answers_total", "Answers given", "model").labels(value).inc()
    assert read(tally.render(tally.snapshot()))["answers_total", value] == 1


def test_labels_are_complete() -> None:
    """A series needs a value for each label."""
    with pytest.raises(ValueError, match=r"takes 2 label values\. Received: 1"):
        Worker().answers.labels("lstm")


def test_restore() -> None:
    """A process continues the counters of one that ended, but not its gauges."""
    left = Worker().work(3, 0.2, 2.0)
    successor = Worker()
    successor.tally.restore(json.loads(json.dumps(left)))
    page = successor.page(successor.work(1, 0.3))
    assert page["answers_total", "lstm 200"] == 3
    assert (page["seconds_count", "lstm"], page["seconds_sum", "lstm"]) == (3, pytest.approx(2.5))
    assert page["waiting", ""] == 1


def test_cpu_time_after_restore() -> None:
    """The CPU time of a process that ended is added once, in every snapshot."""
    name, spent = "process_cpu_seconds_total", 1e6
    tally = Tally()
    own = tally.snapshot()[name][0][1][0]
    tally.restore({name: [((), (spent,))]})
    tally.snapshot()
    assert spent + own <= tally.snapshot()[name][0][1][0] < 2 * spent


def test_remains() -> None:
    """Counters and histograms remain of a process that ended; gauges do not."""
    worker = Worker()
    remains = worker.tally.remains(worker.work(3, 0.2))
    assert set(remains) == {"answers_total", "seconds", "process_cpu_seconds_total"}
