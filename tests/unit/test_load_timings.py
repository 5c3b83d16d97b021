"""Durations that processes count and send."""

from load_tests.timings import Timings


def test_two_processes_are_one_histogram() -> None:
    """What two processes took, merged, has the quantiles of all durations."""
    workers = [Timings(), Timings()]
    for value in range(1, 101):
        workers[value % 2].add("queue", value / 10)
    both = Timings()
    for worker in workers:
        both.merge(worker.take())
    assert both.names() == ["queue"]
    assert both.quantiles("queue", (0.5, 0.95, 1.0)) == [5.0, 9.5, 10.0]


def test_what_was_taken_is_not_taken_again() -> None:
    """Each duration is sent once."""
    timings = Timings()
    timings.add("infer", 1.25)
    assert timings.take() == {"infer": [[12, 1]]}
    assert timings.take() == {}
