"""How the clients of each protocol read errors."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import Scope


@dataclass(frozen=True, slots=True)
class Dialect:
    """The errors of one protocol. Without one they are problem details (RFC 9457).

    Attributes:
        describe: Makes the JSON object of the response from the ASGI scope, the slug of the problem
            type, and the detail.
        statuses: By slug, where the protocol has another status than the table of the service.
    """

    describe: Callable[[Scope, str, str], dict[str, Any]]
    statuses: Mapping[str, int]
