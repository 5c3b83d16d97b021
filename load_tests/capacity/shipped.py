"""What the components hpa and keda of k8s are made for, until `make capacity` knows better.

`components(REPLICA, *plan_shipped())` changes nothing in an overlay that has one of them.
"""

from typing import Final

from load_tests.capacity.replicas import Capacity, Need, Scale, plan, plan_scale

REPLICA: Final = Capacity(
    cores=2,
    rate=435,
    cores_at_knee=1.6,
    latencies_ms=[(133, 7.4), (222, 8.2), (311, 11.9), (378, 14.1), (423, 20.3)],
)
"""Two cores of an EPYC, shared with the generator and with other work; p99 at most 100 ms.

Source:
    `make capacity ARGS="--rounds 1 --seconds 5"`, 29 November 2026, commit 915c4df.
"""
HIGHEST: Final = 2000.0
"""Requests per second at the busiest hour."""
LOWEST: Final = 800.0
"""Requests per second at the quietest hour."""
NODES: Final = 3
"""Nodes, of which one may be lost."""


def plan_shipped() -> tuple[Need, Scale]:
    """The replicas for the busiest hour, and the bounds and targets of the autoscalers."""
    need = plan(HIGHEST, REPLICA, NODES)
    return need, plan_scale(plan(LOWEST, REPLICA, NODES), need, REPLICA, NODES)
