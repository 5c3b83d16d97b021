"""What all workers serve: the agreed versions, the default model and the aliases. Plain data."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from app.errors import UnusableVersion

ALIASES: Final = "aliases.json"
STABLE: Final = "stable"
CANARY: Final = "canary"
CANARY_SHARE: Final = "canary_share"

ALIAS_PATTERN: Final = r"[a-z][a-z0-9_-]{0,31}"
_ALIAS: Final = re.compile(ALIAS_PATTERN)

Aliases = Mapping[str, float]
"""The content of `aliases.json`: numbers of versions by alias, and `canary_share`."""


def key_of(name: str, number: int) -> str:
    """The key of a version, such as `lstm/2`: its folder in the repository."""
    return f"{name}/{number}"


def split_key(key: str) -> tuple[str, int]:
    """Name and number of a version."""
    name, _, number = key.rpartition("/")
    return name, int(number)


def parse_aliases(content: bytes) -> Aliases:
    """Parse `aliases.json`.

    Raises:
        UnusableVersion: It breaks a rule. The message gives the rule.
    """
    try:
        aliases = json.loads(content)
    except (ValueError, RecursionError) as error:  # the latter: nested too deeply
        raise UnusableVersion(f"{ALIASES} must be JSON") from error
    if not isinstance(aliases, dict):
        raise UnusableVersion(f"{ALIASES} must be an object")
    for alias, value in aliases.items():
        if alias == CANARY_SHARE:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UnusableVersion(f"{ALIASES}: {CANARY_SHARE} must be a number from 0 to 1")
        elif not _ALIAS.fullmatch(alias):
            raise UnusableVersion(f"{ALIASES}: an alias must match {ALIAS_PATTERN}")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UnusableVersion(f"{ALIASES}: {alias} must be the number of a version")
    if aliases.get(CANARY_SHARE) and not {STABLE, CANARY} <= aliases.keys():
        raise UnusableVersion(f"{ALIASES}: {CANARY_SHARE} needs {STABLE} and {CANARY}")
    return aliases


def targets_of(aliases: Aliases) -> dict[str, int]:
    """The number of the version that each alias stands for."""
    return {alias: int(n) for alias, n in aliases.items() if alias != CANARY_SHARE}


@dataclass(frozen=True, slots=True)
class Plan:
    """What every worker serves, and nothing else.

    Attributes:
        generation: Counts the plans; a later plan has a higher one.
        default: The model that answers requests that name none. It never changes.
        digests: The versions that serve, by key, each with the sha256 of its manifest.
        aliases: The aliases of each model that has some.
    """

    generation: int
    default: str | None
    digests: Mapping[str, str]
    aliases: Mapping[str, Aliases] = field(default_factory=dict)

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Self:
        """The plan that `to_message` described."""
        return cls(**message)

    def to_message(self) -> dict[str, Any]:
        """The plan as a JSON object."""
        return asdict(self)

    def names(self) -> Iterable[str]:
        """The models, in alphabetical order."""
        return sorted({split_key(key)[0] for key in self.digests})

    def numbers(self, name: str) -> list[int]:
        """The versions of a model, newest first."""
        keys = map(split_key, self.digests)
        return sorted((number for model, number in keys if model == name), reverse=True)

    def targets(self, name: str) -> dict[str, int]:
        """The version that each alias of a model stands for."""
        return targets_of(self.aliases.get(name, {}))

    def canary_share(self, name: str) -> float:
        """The share of the requests without a version that `canary` answers."""
        return self.aliases.get(name, {}).get(CANARY_SHARE, 0.0)

    def answering(self, name: str) -> int | None:
        """The version that answers requests without one: `stable`, else the newest."""
        stable = self.targets(name).get(STABLE)
        return stable if stable is not None else next(iter(self.numbers(name)), None)

    def is_needed(self, key: str) -> bool:
        """Whether requests without a version, or with an alias, are answered by this version."""
        name, number = split_key(key)
        return number == self.answering(name) or number in self.targets(name).values()


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look at the repository has found, without reading the models.

    Attributes:
        stamps: Of each version a digest of the names, sizes and times of its files.
        digests: The sha256 of each manifest; a version without one is not complete.
        aliases: The content of each valid `aliases.json`, by model.
        refused_aliases: Why an `aliases.json` is invalid, by model.
        unreadable: Why the folder of a model cannot be read.
        failure: Why the repository cannot be read at all; empty if it can.
    """

    stamps: Mapping[str, str] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, Aliases] = field(default_factory=dict)
    refused_aliases: Mapping[str, str] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
    failure: str = ""

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Self:
        """The sight that `to_message` described."""
        return cls(**message)

    def to_message(self) -> dict[str, Any]:
        """The sight as a JSON object."""
        return asdict(self)
