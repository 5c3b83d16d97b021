"""What the benchmark sends through the other protocols is answered, and checked."""

import pytest

from load_tests.bench.doors import check_door, through_door
from load_tests.bench.figures import Scenario
from load_tests.bench.goals import DOORS, V1, V2_BINARY
from load_tests.bench.load import Load
from tests.fakes import Running

pytestmark = pytest.mark.anyio

TEXTS = ("a good film", "naïve, bad")


@pytest.mark.parametrize("scenario", DOORS, ids=str)
async def test_answers(running: Running, scenario: Scenario) -> None:
    """Every request of a protocol gets an answer that has what the protocol says."""
    load = through_door(Load(8000, [], 64, 1.0), scenario, TEXTS, "lstm")
    assert len(load.bodies) == len(load.requests()) == 2
    for request in load.requests():
        head, _, body = request.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")[1:]
        headers = dict(line.split(": ") for line in lines)
        response = await running.client.post(load.path, content=body, headers=headers)
        assert response.status_code == 200
        assert check_door(scenario, response.content) is None


def test_wrong_answers() -> None:
    """An answer without predictions, or without binary tensors, is wrong."""
    assert check_door(V1, b'{"predictions": []}') is not None
    assert check_door(V2_BINARY, b'{"model_name": "lstm", "outputs": []}') is not None
