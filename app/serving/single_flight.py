"""Single flight: equal items in flight are computed once.

The first of several equal items leads: it is computed. The others follow: they share its result.
A result is forgotten at once, so this is not a cache. Measured by `load_tests.bench.single_flight`.
"""

from collections.abc import Collection, Hashable
from typing import Generic, Protocol, TypeVar


class Keyed(Protocol):
    """An item that can share a result with items of an equal key."""

    @property
    def key(self) -> Hashable:
        """Equal for items that have the same result."""
        ...


T = TypeVar("T", bound=Keyed)


class SingleFlight(Generic[T]):
    """Which items in flight lead, and which follow them. Items are compared by identity.

    An item is in flight from `join` until its flight is finished or it leaves.
    """

    def __init__(self) -> None:
        self._leaders: dict[Hashable, T] = {}
        self._followers: dict[Hashable, dict[T, None]] = {}  # oldest first; no empty ones

    def __len__(self) -> int:
        """The number of different items in flight."""
        return len(self._leaders)

    def join(self, item: T) -> bool:
        """Add an item. It follows an equal item in flight, or else leads.

        Returns:
            Whether it leads.
        """
        if self._leaders.setdefault(item.key, item) is item:
            return True
        self._followers.setdefault(item.key, {})[item] = None
        return False

    def take_over(self, item: T) -> None:
        """Add an item that leads instead of its equal in flight, which becomes its first follower.

        Raises:
            KeyError: No equal item is in flight.
        """
        key = item.key
        followers = self._followers.get(key, {})
        self._followers[key] = {self._leaders[key]: None, **followers}
        self._leaders[key] = item

    def followers(self, key: Hashable) -> Collection[T]:
        """The followers in the flight of a key, oldest first; empty if there is no such flight."""
        return self._followers.get(key, ())

    def unfollow(self, item: T) -> bool:
        """Remove an item if it follows another.

        Returns:
            Whether it did.
        """
        followers = self._followers.get(item.key)
        if followers is None or item not in followers:
            return False
        del followers[item]
        if not followers:
            del self._followers[item.key]
        return True

    def resign(self, leader: T) -> T | None:
        """Remove a leader before it is computed; its oldest follower leads from now on.

        Returns:
            The new leader; None if nobody followed, which ends the flight.

        Raises:
            KeyError: The item is not in flight.
        """
        followers = self._followers.get(leader.key)
        if followers is None:
            del self._leaders[leader.key]
            return None
        heir = next(iter(followers))
        self.unfollow(heir)
        self._leaders[leader.key] = heir
        return heir

    def finish(self, leader: T) -> list[T]:
        """End the flight of a leader whose result is known. An equal item is computed anew.

        Returns:
            The followers, which share the result.

        Raises:
            KeyError: The item is not in flight.
        """
        del self._leaders[leader.key]
        return list(self._followers.pop(leader.key, ()))
