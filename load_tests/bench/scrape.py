"""Read the service's own counters from `/metrics`, in Prometheus' text format."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_SAMPLE: Final = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Counted:
    """Counters of one model since the service started.

    Attributes:
        real_tokens: Tokens of texts.
        filler_tokens: Padding tokens.
        batches: Model runs.
        items: Texts in all model runs.
        run_s: The duration of all model runs, in seconds.
    """

    real_tokens: float = 0
    filler_tokens: float = 0
    batches: float = 0
    items: float = 0
    run_s: float = 0

    def since(self, before: "Counted") -> "Counted":
        """The increase since `before`."""
        return Counted(
            self.real_tokens - before.real_tokens,
            self.filler_tokens - before.filler_tokens,
            self.batches - before.batches,
            self.items - before.items,
            self.run_s - before.run_s,
        )

    @property
    def real_share(self) -> float | None:
        """The share of real tokens in all computed tokens; None without any."""
        tokens = self.real_tokens + self.filler_tokens
        return self.real_tokens / tokens if tokens else None

    @property
    def batch_size(self) -> float | None:
        """The mean number of texts per model run; None without any."""
        return self.items / self.batches if self.batches else None


def parse(page: str, model: str) -> Counted:
    """Read the counters of `model`, summed over all processes."""

    def total(name: str, **labels: str) -> float:
        wanted = {"model": model, **labels}.items()
        return sum(value for found, value in _samples(page, name) if wanted <= found.items())

    return Counted(
        real_tokens=total("valence_batch_tokens_total", kind="real"),
        filler_tokens=total("valence_batch_tokens_total", kind="padded"),
        batches=total("valence_batch_items_count"),
        items=total("valence_batch_items_sum"),
        run_s=total("valence_inference_duration_seconds_sum"),
    )


def _samples(page: str, name: str) -> list[tuple[Mapping[str, str], float]]:
    matches = (_SAMPLE.match(line) for line in page.splitlines() if line.startswith(name))
    return [
        (dict(_LABEL.findall(match["labels"] or "")), float(match["value"]))
        for match in matches
        if match and match["name"] == name
    ]
