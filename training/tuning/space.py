"""Search space: which fields of a recipe `tune` may change, and to which values.

It is a TOML file with one line per field:

    batch_size = [10, 20, 40]                               # one of these
    units = { low = 64, high = 256, step = 64 }             # 64, 128, 192 or 256
    learning_rate = { low = 1e-4, high = 1e-2, log = true } # log-uniform

Fields are those of `training.config.Config`, by their flat names. The units of several layers are a
list: `hidden = [[16], [16, 16]]`.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
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
"""Folder of the shipped spaces."""
Setting = dict[str, Any]
"""One value per field of a space. The units of several layers are a string, "16,8", since Optuna
stores plain values only."""
_FIXED: Final = ("name", "seed", "validation_share")
"""Fields that all trials share: scores on different validation texts do not compare."""
_WITHOUT_RANGE: Final = ("ngram_logits_buckets",)
"""Number fields that do not accept every number between two valid ones."""
_CHECKED_TOGETHER: Final = ("truncation", "max_length", "head_tokens")
"""Fields of the only rule of `Config` that involves three fields."""
_SIGNIFICANT_DIGITS: Final = 6
_MAX_CHOICES: Final = 100
_MAX_VALUES: Final = 1_000
_RANGE_KEYS: Final = {"low", "high", "step", "log"}


@dataclass(frozen=True, slots=True)
class Space:
    """A search space.

    Attributes:
        name: Its name in titles.
        fields: The distribution of each field, in the order of the file.
    """

    name: str
    fields: Mapping[str, BaseDistribution]

    def setting(self, values: Mapping[str, Any]) -> Setting:
        """The values that Optuna drew, in the order of the file, floats rounded to six digits."""
        return {
            field: _rounded(values[field], distribution)
            for field, distribution in self.fields.items()
        }

    def cells(self) -> Iterator[Setting]:
        """Every setting of a grid; the last field changes fastest.

        Raises:
            InvalidInput: A field has a range without step.
        """
        values = [_grid_values(field, of) for field, of in self.fields.items()]
        return (dict(zip(self.fields, cell, strict=True)) for cell in itertools.product(*values))

    def count(self) -> int:
        """Number of cells; raises as `cells` does."""
        return math.prod(len(_grid_values(field, of)) for field, of in self.fields.items())

    def only(self, fields: Collection[str]) -> Space:
        """The part of the space that is about some fields."""
        return Space(self.name, {name: of for name, of in self.fields.items() if name in fields})

    def bounds(self) -> dict[str, list[Any]]:
        """The choices of each field, or the two ends of its range."""
        return {field: _bounds(distribution) for field, distribution in self.fields.items()}


def load_space(name: str, config: Config) -> Space:
    """Read a shipped space or a file, and check every value against the recipe.

    Args:
        name: One of `space_names()`, or the path of a file.
        config: The recipe whose fields are searched.

    Raises:
        InvalidInput: There is no such space, the file is malformed, or `Config` rejects a value.
            The message names the file, the field and the rule.
    """
    path = SPACES / f"{name}.toml" if name in space_names() else Path(name)
    if not path.is_file():
        known = ", ".join(space_names())
        raise InvalidInput(f"a space must be one of {known}, or a TOML file. Received: {name!r}")
    try:
        with path.open("rb") as file:
            content = tomllib.load(file)
    except ValueError as error:  # TOMLDecodeError or UnicodeDecodeError
        raise InvalidInput(f"{path}: a space must be valid TOML: {error}") from error
    try:
        named = {find_field(name): value for name, value in content.items()}
        space = Space(
            path.stem, {field: _read_field(field, value) for field, value in named.items()}
        )
        _check_against(config, space)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from error
    return space


def space_names() -> list[str]:
    """Names of the shipped spaces, sorted."""
    return sorted(path.stem for path in SPACES.glob("*.toml"))


def assignments(setting: Mapping[str, Any]) -> list[str]:
    """A setting in the form of `--set`: `["units=64", "hidden=16,8"]`."""
    return [f"{field}={_format(value)}" for field, value in setting.items()]


def _read_field(field: str, value: Any) -> BaseDistribution:
    """The distribution that one line of the file states; `Config` has not checked it yet."""
    if field in _FIXED:
        raise InvalidInput(
            f"{field} must be the same in all trials, or their scores do not compare"
        )
    if isinstance(value, list):
        return _choices(field, value)
    if isinstance(value, dict) and {"low", "high"} <= set(value) <= _RANGE_KEYS:
        return _range(field, **value)
    raise InvalidInput(
        f"{field} must be a list of choices, or a table of low and high with optional step or log. "
        f"Received: {value!r}"
    )


def _choices(field: str, values: list[Any]) -> BaseDistribution:
    # Optuna stores plain JSON values only, so a list of units becomes a string.
    plain = [_format(value) if isinstance(value, list) else value for value in values]
    if not all(isinstance(value, bool | int | float | str) for value in plain):
        raise InvalidInput(f"{field} must have plain values as choices. Received: {values!r}")
    if not plain or len(set(plain)) < len(plain):
        raise InvalidInput(f"{field} must have at least one choice, each once. Received: {values}")
    if len(plain) > _MAX_CHOICES:
        raise InvalidInput(
            f"{field} must have at most {_MAX_CHOICES} choices. Received: {len(plain):,}"
        )
    return CategoricalDistribution(plain)


def _range(field: str, low: Any, high: Any, step: Any = None, log: Any = False) -> BaseDistribution:
    kind = field_types()[field]
    if field in _WITHOUT_RANGE:
        raise InvalidInput(f"{field} must be a list of choices. Received: low and high")
    _check_numbers(field, kind, [low, high] if step is None else [low, high, step])
    if not low < high or not math.isfinite(high - low):
        raise InvalidInput(f"low of {field} must be below high. Received: {low} and {high}")
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise InvalidInput(
            f"log of {field} must be true or false, and true needs a low above 0 and no step. "
            f"Received: log {log!r}, low {low}, step {step}"
        )
    steps = 0.0 if step is None else (high - low) / step if step > 0 else math.nan
    if not math.isclose(steps, round(steps) if math.isfinite(steps) else math.inf, abs_tol=1e-9):
        raise InvalidInput(
            f"step of {field} must be above 0 and divide the range from low to high. "
            f"Received: {step} from {low} to {high}"
        )
    if kind is int:
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(low, high, log=log, step=step)


def _check_numbers(field: str, kind: Any, numbers: Sequence[Any]) -> None:
    """Check that low, high and step are numbers of the field's own type."""
    accepted = {int: (int,), float: (int, float)}.get(kind, ())
    if not accepted:
        raise InvalidInput(f"{field} is not a number, so it must be a list of choices")
    if not all(type(number) in accepted for number in numbers):
        rule = "whole numbers" if kind is int else "numbers"
        raise InvalidInput(f"low, high and step of {field} must be {rule}. Received: {numbers}")


def _check_against(config: Config, space: Space) -> None:
    """Let `Config` check the bounds of each field, and of all fields that depend on each other.

    Except for one rule, its rules are about one field or two. So checking all pairs means that no
    setting within the bounds is rejected later.
    """
    if not space.fields:
        raise InvalidInput("a space must have at least one field. Received: none")
    bounds = space.bounds()
    first = {field: values[0] for field, values in bounds.items()}
    three = tuple(field for field in _CHECKED_TOGETHER if field in bounds)
    for together in (*itertools.combinations(bounds, min(2, len(bounds))), three):
        for values in itertools.product(*(bounds[field] for field in together)):
            changed = first | dict(zip(together, values, strict=True))
            config.with_assignments(assignments(changed))


def _bounds(distribution: BaseDistribution) -> list[Any]:
    """The choices, or the two ends of the range."""
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return [distribution.low, distribution.high]
    assert isinstance(distribution, CategoricalDistribution)  # noqa: S101 - there are three kinds
    return list(distribution.choices)


def _grid_values(field: str, of: BaseDistribution) -> Sequence[Any]:
    """All values of a field.

    Raises:
        InvalidInput: There are too many, or infinitely many.
    """
    if isinstance(of, CategoricalDistribution):
        return of.choices
    assert isinstance(of, IntDistribution | FloatDistribution)  # noqa: S101 - there are three kinds
    if of.log or of.step is None:
        raise InvalidInput(f"a grid needs choices or a step. Received: {field} with neither")
    count = round((of.high - of.low) / of.step) + 1
    if count > _MAX_VALUES:
        raise InvalidInput(
            f"a field of a grid must have at most {_MAX_VALUES:,} values. "
            f"Received: {field} with {count:,}"
        )
    return [min(of.low + k * of.step, of.high) for k in range(count)]


def _rounded(value: Any, distribution: BaseDistribution) -> Any:
    """A float rounded to a few significant digits, so that what is printed is what is trained."""
    if not isinstance(distribution, FloatDistribution):
        return value
    rounded = float(f"{value:.{_SIGNIFICANT_DIGITS}g}")
    return min(max(rounded, distribution.low), distribution.high)


def _format(value: Any) -> str:
    """A value in the form of the command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)
