"""Space: which fields of a recipe `tune` may change, and to what. A small TOML file.

    batch_size = [10, 20, 40]                               # one of these
    units = { low = 64, high = 256, step = 64 }             # 64, 128, 192 or 256
    learning_rate = { low = 1e-4, high = 1e-2, log = true } # any, as likely from 1e-4 to 1e-3

A field is one of `training.config.Config`, and every value has to be one it takes. Widths of
several layers are lists: `hidden = [[16], [16, 16]]`.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from app.errors import InvalidInput
from training.config import Config, field_types, find_field

SPACES: Final = Path(__file__).parents[1] / "spaces"


Setting = dict[str, Any]
"""A value for each field of a space; widths of layers are joined by commas."""


_COMPARABLE: Final = ("name", "seed", "validation_share")
"""Fields that stay: with another split, figures of two trials do not compare."""


_NO_RANGE: Final = ("ngram_logits_buckets",)
"""Fields that take not every number between two that they take."""


_BOUND_BY_TWO: Final = ("truncation", "max_length", "head_tokens")
"""Fields of the one rule of `Config` that is about three."""


_DIGITS: Final = 6


_MAX_CHOICES: Final = 100


_MAX_VALUES: Final = 1_000


_RANGE: Final = {"low", "high", "step", "log"}


@dataclass(frozen=True, slots=True)
class Space:
    """Where a search may go.

    Attributes:
        name: For titles.
        fields: Per field what it may be, in the order of the file.
    """

    name: str
    fields: Mapping[str, BaseDistribution]

    def setting(self, values: Mapping[str, Any]) -> Setting:
        """What Optuna drew, in the order of the file and in figures that can be written down."""
        return {field: _readable(values[field], of) for field, of in self.fields.items()}

    def cells(self) -> Iterator[Setting]:
        """Every setting there is, the last field changing fastest.

        Raises:
            InvalidInput: A field is a range without steps, so there is no end of them.
        """
        values = [_values(field, of) for field, of in self.fields.items()]
        return (dict(zip(self.fields, cell, strict=True)) for cell in itertools.product(*values))

    def count(self) -> int:
        """How many cells there are; raises as `cells` does."""
        return math.prod(len(_values(field, of)) for field, of in self.fields.items())

    def ends(self) -> dict[str, list[Any]]:
        """Per field its choices, or the ends of its range."""
        return {field: _ends(of) for field, of in self.fields.items()}


def load_space(name: str, config: Config) -> Space:
    """Read a shipped space or a file, and hold every value to the recipe.

    Args:
        name: One of `space_names()`, or the path of a file.
        config: The recipe whose fields are to change.

    Raises:
        InvalidInput: There is no such space, it is not in the form above, or `Config` refuses a
            value; the message names file, field and rule.
    """
    path = SPACES / f"{name}.toml" if name in space_names() else Path(name)
    if not path.is_file():
        known = ", ".join(space_names())
        raise InvalidInput(f"a space must be one of {known}, or a TOML file. Received: {name!r}")
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except ValueError as error:  # tomllib's own, and UnicodeDecodeError
        raise InvalidInput(f"{path}: a space must be TOML: {error}") from error
    try:
        space = Space(path.stem, {field: _field(field, value) for field, value in content.items()})
        _hold_to(config, space)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error
    return space


def space_names() -> list[str]:
    """The shipped spaces, sorted."""
    return sorted(path.stem for path in SPACES.glob("*.toml"))


def assignments(setting: Mapping[str, Any]) -> list[str]:
    """A setting as `--set` takes it."""
    return [f"{field}={_written(value)}" for field, value in setting.items()]


def _field(field: str, value: Any) -> BaseDistribution:
    """What one line of the file means; its values are not yet held to `Config`."""
    if find_field(field) in _COMPARABLE:
        raise InvalidInput(
            f"{field} must be the same in all trials, or their figures do not compare"
        )
    if isinstance(value, list):
        return _choices(field, value)
    if isinstance(value, dict) and {"low", "high"} <= set(value) <= _RANGE:
        return _range(field, field_types()[field], **value)
    raise InvalidInput(
        f"{field} must be a list of choices, or low and high, with step or log if wanted. "
        f"Received: {value!r}"
    )


def _choices(field: str, values: list[Any]) -> BaseDistribution:
    # Optuna keeps what is a plain value of JSON; a list of widths is one as it is written.
    plain = [_written(value) if isinstance(value, list) else value for value in values]
    if not all(isinstance(value, bool | int | float | str) for value in plain):
        raise InvalidInput(f"{field} must have plain values as choices. Received: {values!r}")
    if not plain or len(set(plain)) < len(plain):
        raise InvalidInput(f"{field} must have choices, each once. Received: {values!r}")
    if len(plain) > _MAX_CHOICES:
        raise InvalidInput(
            f"{field} must have at most {_MAX_CHOICES} choices. Received: {len(plain):,}"
        )
    return CategoricalDistribution(plain)


def _range(
    field: str, kind: Any, low: Any, high: Any, step: Any = None, log: Any = False
) -> BaseDistribution:
    if field in _NO_RANGE:
        raise InvalidInput(f"{field} must be a list of choices. Received: low and high")
    numbers = [low, high] if step is None else [low, high, step]
    wanted = {int: (int,), float: (int, float)}.get(kind, ())
    if not all(type(number) in wanted for number in numbers):
        rule = "whole numbers" if kind is int else "numbers"
        raise InvalidInput(
            f"low, high and step of {field} must be {rule}, of a field that is one. "
            f"Received: {numbers}"
        )
    if not low < high or not math.isfinite(high - low):
        raise InvalidInput(f"low of {field} must be below high. Received: {low} and {high}")
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise InvalidInput(
            f"log of {field} must be true or false; true goes with a low above 0 and no step. "
            f"Received: log {log!r}, low {low}, step {step}"
        )
    steps = 0.0 if step is None else (high - low) / step if step > 0 else math.nan
    if not math.isclose(steps, round(steps) if math.isfinite(steps) else math.inf, abs_tol=1e-9):
        raise InvalidInput(
            f"step of {field} must be above 0 and lead from low to high. "
            f"Received: {step} from {low} to {high}"
        )
    if kind is int:
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(low, high, log=log, step=step)


def _hold_to(config: Config, space: Space) -> None:
    """Let `Config` see the ends of each field, and those of all that are bound by each other.

    Its rules are about one field or two, but for one, so no setting in between is refused later.
    """
    if not space.fields:
        raise InvalidInput("a space must have at least one field. Received: none")
    ends = space.ends()
    first = {field: values[0] for field, values in ends.items()}
    three = tuple(field for field in _BOUND_BY_TWO if field in ends)
    for together in (*itertools.combinations(ends, min(2, len(ends))), three):
        for values in itertools.product(*(ends[field] for field in together)):
            config.with_assignments(assignments(first | dict(zip(together, values, strict=True))))


def _ends(of: BaseDistribution) -> list[Any]:
    if isinstance(of, IntDistribution | FloatDistribution):
        return [of.low, of.high]
    assert isinstance(of, CategoricalDistribution)  # noqa: S101 - there are three kinds
    return list(of.choices)


def _values(field: str, of: BaseDistribution) -> Sequence[Any]:
    """All values of a field."""
    if isinstance(of, CategoricalDistribution):
        return of.choices
    assert isinstance(of, IntDistribution | FloatDistribution)  # noqa: S101 - there are three kinds
    if of.log or of.step is None:
        raise InvalidInput(f"a grid needs choices or a step. Received: {field} without")
    count = round((of.high - of.low) / of.step) + 1
    if count > _MAX_VALUES:
        raise InvalidInput(
            f"a field of a grid must have at most {_MAX_VALUES:,} values. "
            f"Received: {field} with {count:,}"
        )
    return [min(of.low + k * of.step, of.high) for k in range(count)]


def _readable(value: Any, of: BaseDistribution) -> Any:
    """A drawn number rounded to its leading digits, which is what is trained with."""
    if not isinstance(of, FloatDistribution):
        return value
    return min(max(float(f"{value:.{_DIGITS}g}"), of.low), of.high)


def _written(value: Any) -> str:
    """A value as the command line gives it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)
