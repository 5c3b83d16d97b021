"""The requests of a capacity run, and who runs where."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from load_tests.bench.errors import BenchError, WrongCall
from load_tests.capacity.balancer import BALANCERS, balancing, find_balancer, write_config
from load_tests.capacity.data import read_texts
from load_tests.capacity.generator import Generators
from load_tests.capacity.measure import choose_layout
from load_tests.capacity.pair import Places, choose_places
from load_tests.capacity.workload import (
    Mix,
    make_bodies,
    read_requests,
    request_file,
    texts_per_request,
)
from tests.answering import answering

TEXTS = [f"text {number}" for number in range(2000)]


def test_the_mix() -> None:
    """Each text is sent once, in lists of one size with the wanted share, the same every time."""
    mix = Mix(list_share=0.1, list_size=8)
    made = make_bodies(TEXTS, "lstm", mix, seed=1)
    bodies = [json.loads(body) for body in made]
    lists = [body["texts"] for body in bodies if "texts" in body]
    sent = [text for body in bodies for text in body.get("texts", [body.get("text")])]
    assert {len(texts) for texts in lists} == {8}
    assert len(lists) / len(bodies) == pytest.approx(0.1, abs=0.03)
    assert sent == TEXTS[: len(sent)]
    assert len(sent) > 1990
    assert texts_per_request(made) == len(sent) / len(bodies)


def test_generators_share_a_load() -> None:
    """Two generators together offer the rate; what comes before the load is not counted."""
    with (
        answering() as server,
        request_file(make_bodies(TEXTS, "m", Mix(0, 1), seed=1)) as path,
        Generators(path, [(), ()]) as generators,
    ):
        assert len(read_requests(path)) == 2000
        seen = generators.run(server.port, 200, 0.5, 0.25)
        received = len(server.bodies)
    assert seen.sent == len(seen.latencies_ms) == len(seen.lags_ms)
    assert seen.sent == pytest.approx(100, rel=0.5)
    assert received > seen.sent
    assert seen.failed == {}


def test_every_load_has_an_order_of_its_own() -> None:
    """Two loads do not send the same texts at the same time, and nor do two generators.

    The service computes equal texts in flight once: two replicas would seem to do more than twice
    what one does.
    """
    with (
        answering() as server,
        request_file(make_bodies(TEXTS, "m", Mix(0, 1), seed=1)) as path,
        Generators(path, [()]) as generators,
    ):
        orders = []
        for _ in range(2):
            before = len(server.bodies)
            generators.run(server.port, 200, 0.3, 0)
            orders.append(server.bodies[before:][:20])
    assert len({*orders[0]} & {*orders[1]}) < 5


def test_a_generator_says_what_went_wrong() -> None:
    """A port that nobody listens on ends the run with a reason."""
    with answering() as server:
        port = server.port
    with (
        request_file([b"{}"]) as path,
        Generators(path, [()]) as generators,
        pytest.raises(BenchError, match="cannot connect"),
    ):
        generators.run(port, 10, 0.1, 0)


def test_texts_of_a_table(tmp_path: Path) -> None:
    """Texts come from any table that training reads, each once; bad rows are left out."""
    path = tmp_path / "reviews.csv"
    rows = [f'{number % 2},"review, number {number % 700}"' for number in range(900)]
    path.write_text("\n".join(["label,review", *rows, "1,too,many"]))
    texts = read_texts(path, None, 600, seed=1)
    assert len(set(texts)) == len(texts) == 600
    assert all(text.startswith("review, number") for text in texts)
    with pytest.raises(WrongCall, match="at least 512 texts"):
        read_texts(path, "label", 600, seed=1)


@pytest.mark.parametrize(
    ("cores", "available", "generator"),
    [(1, [0, 1], (1,)), (2, [0, 1], (0, 1)), (2, [4, 5, 6, 7], (6, 7))],
)
def test_layout(cores: int, available: list[int], generator: tuple[int, ...]) -> None:
    """The generator has the cores that the service leaves, and shares them only where none is."""
    layout = choose_layout(cores, available)
    assert layout.server == tuple(available[:cores])
    assert layout.generator == generator
    assert layout.apart == (len(available) > cores)


def test_layout_has_a_limit() -> None:
    """A service cannot have more cores than there are."""
    with pytest.raises(BenchError, match="at most 2"):
        choose_layout(3, [0, 1])


def test_places_of_two_replicas() -> None:
    """On few cores each carries a replica and its share of the rest; on many it is alone."""
    assert choose_places(1, [0, 1]) == Places((0,), (0,), ((0,),))
    assert choose_places(2, [0, 1]) == Places((0, 1), (0, 1), ((0,), (1,)))
    assert choose_places(1, [0, 1, 2, 3]) == Places((0,), (2,), ((3,),))
    assert choose_places(2, [0, 1, 2, 3]) == Places((0, 1), (2,), ((3,),))
    assert not choose_places(2, [0, 1, 2]).apart
    assert choose_places(2, [0, 1, 2, 3]).apart
    with pytest.raises(BenchError, match="at least 2 cores"):
        choose_places(2, [0])


@pytest.mark.slow
@pytest.mark.parametrize("name", BALANCERS)
@pytest.mark.parametrize("method", ["random", "round-robin", "least-requests"])
def test_a_real_balancer(name: str, method: str) -> None:
    """A balancer sends each request of a load to one of two replicas, and both get a fair share."""
    try:
        find_balancer(name)
    except BenchError:
        pytest.skip(f"{name} is not installed")
    bodies = make_bodies(TEXTS, "m", Mix(0, 1), seed=1)
    with ExitStack() as stack:
        replicas = [stack.enter_context(answering()) for _ in range(2)]
        ports = [replica.port for replica in replicas]
        port = stack.enter_context(balancing(name, ports, (), method=method))
        requests = stack.enter_context(request_file(bodies))
        generators = stack.enter_context(Generators(requests, [()]))
        seen = generators.run(port, 200, 1.0, 0.2)
        shares = [len(replica.bodies) for replica in replicas]
    assert seen.failed == {}
    assert seen.sent == len(seen.latencies_ms) > 100
    assert sum(shares) >= seen.sent
    assert min(shares) > 0.3 * sum(shares)


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_balancer_configuration(name: str, tmp_path: Path) -> None:
    """A configuration names every replica and the port, and leaves no field open."""
    text = write_config(
        name, tmp_path, 8080, [9001, 9002], method="least-requests", cores=[0, 3], user=""
    )
    placed = {"nginx": "worker_cpu_affinity 1 1000;", "haproxy": "cpu-map 1/2 3"}
    assert placed[name] in text  # a worker on each core, as the layout says
    assert all(f"127.0.0.1:{port}" in text for port in (8080, 9001, 9002))
    assert ("least_conn" in text) or ("leastconn" in text)
    assert "{" not in text.replace(" {\n", "").replace("events { ", "")
