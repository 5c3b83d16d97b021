"""The performance goals of the service."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from load_tests.bench.figures import ModelFigures, Scenario, ServiceFigures, median

ENGINE: Final = "onnx"
BUSY: Final = Scenario(1, 64)
ALONE: Final = Scenario(1, 1)
MANY: Final = Scenario(256, 4)
"""Four connections, because with one nothing is computed while a request is tokenized."""
FLOOR: Final = "starlette"
V2_JSON: Final = Scenario(1, 64, "/v2 in JSON")
V2_BINARY: Final = Scenario(1, 64, "/v2 in binary")
V1: Final = Scenario(1, 64, "/v1 in rows")
INPUTS: Final = Scenario(1, 64, "inputs")
DOORS: Final = (V2_JSON, V2_BINARY, V1, INPUTS)
"""The other protocols."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A measured value and its bound.

    Attributes:
        name: What is measured.
        value: The measurement, or None if there is none.
        bound: The bound.
        side: Whether the bound is a minimum or a maximum.
        unit: The unit of both; empty for ratios.
    """

    name: str
    value: float | None
    bound: float
    side: Literal["at least", "at most"]
    unit: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the bound holds; None without a measurement."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.side == "at least" else self.value <= self.bound


def judge(services: Sequence[ServiceFigures]) -> list[Goal]:
    """Evaluate every goal, for the models on ONNX Runtime."""
    service = next((one for one in services if one.engine == ENGINE), ServiceFigures(ENGINE))
    models = {figures.model: figures for figures in service.models}
    lstm = models.get("lstm") or ModelFigures("lstm", 0, ENGINE, "")
    bow = models.get("bow") or ModelFigures("bow", 0, ENGINE, "")
    busy = lstm.sample(BUSY)
    resident = service.resident_bytes
    return [
        Goal("lstm, 64 connections: texts/s / ceiling", lstm.of_ceiling(BUSY), 0.60, "at least"),
        Goal("lstm, 64 connections: p99 / p50", lstm.tail(BUSY), 2.5, "at most"),
        Goal(
            "lstm, 1 connection: p50 - in-process tokenize and infer",
            *(lstm.added_ms(ALONE), 0.35, "at most", "ms"),
        ),
        Goal(
            f"lstm, {MANY}: texts/s / ceiling",
            *(lstm.of_ceiling(MANY), 0.85, "at least"),
        ),
        Goal(
            f"bow, 64 connections: requests/s / bare {FLOOR.capitalize()} route",
            *(bow.of_floor(FLOOR, BUSY.connections), 0.45, "at least"),
        ),
        Goal(
            "lstm, 64 connections: share of real tokens",
            *(busy.real_share if busy else None, 0.85, "at least"),
        ),
        *(
            Goal(f"{figures.model}, 64 connections: {name}", value, bound, "at least")
            for figures in (lstm, bow)
            for name, value, bound in (
                ("/v2 in JSON / native", figures.of_other(V2_JSON, BUSY), 0.85),
                ("/v2 in binary / in JSON", figures.of_other(V2_BINARY, V2_JSON), 1.0),
            )
        ),
        Goal("start to ready, all models", median(service.ready_s), 1.5, "at most", "s"),
        Goal(
            "resident memory under load, all models",
            *(None if resident is None else resident / 2**20, 250, "at most", "MiB"),
        ),
    ]
