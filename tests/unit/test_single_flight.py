"""Equal items in flight: who leads, who follows, and who shares a result."""

from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.single_flight import SingleFlight


@dataclass(eq=False)
class Item:
    """An item with a key; `name` is for the reader."""

    key: str
    name: str = ""


def fly(*items: Item) -> SingleFlight[Item]:
    """Items that joined in this order."""
    flights: SingleFlight[Item] = SingleFlight()
    for item in items:
        flights.join(item)
    return flights


@pytest.fixture
def equals() -> tuple[Item, Item, Item]:
    """Three items of one key."""
    return Item("a", "first"), Item("a", "second"), Item("a", "third")


def test_first_item_leads() -> None:
    """The first item of a key leads, equal ones follow, and another key is another flight."""
    flights: SingleFlight[Item] = SingleFlight()
    assert [flights.join(Item(key)) for key in "aab"] == [True, False, True]
    assert len(flights) == 2


def test_followers_share_the_result(equals: tuple[Item, Item, Item]) -> None:
    """`finish` returns the followers, oldest first, and ends the flight."""
    flights = fly(*equals, Item("b"))
    assert flights.finish(equals[0]) == [*equals[1:]]
    assert (len(flights), flights.followers("a")) == (1, ())


def test_results_are_not_kept() -> None:
    """After `finish` an equal item leads again: this is not a cache."""
    first = Item("a")
    flights = fly(first)
    flights.finish(first)
    assert flights.join(Item("a"))


def test_follower_leaves(equals: tuple[Item, Item, Item]) -> None:
    """A follower that left does not share the result; a leader cannot unfollow."""
    flights = fly(*equals)
    assert [flights.unfollow(item) for item in (equals[1], equals[1], equals[0])] == [
        *(True, False, False)
    ]
    assert flights.finish(equals[0]) == [equals[2]]


def test_equal_follower_of_another_request_stays(equals: tuple[Item, Item, Item]) -> None:
    """Items are compared by identity: an equal item that is not in flight cannot leave for one."""
    flights = fly(*equals[:2])
    assert not flights.unfollow(equals[2])
    assert list(flights.followers("a")) == [equals[1]]


def test_leader_resigns(equals: tuple[Item, Item, Item]) -> None:
    """When a leader resigns, its oldest follower leads and the others follow that one."""
    first, second, third = equals
    flights = fly(*equals)
    assert flights.resign(first) is second
    assert flights.finish(second) == [third]


def test_last_one_resigns(equals: tuple[Item, Item, Item]) -> None:
    """A flight ends when its last item leaves."""
    first, second, _ = equals
    flights = fly(first, second)
    assert [flights.resign(first), flights.resign(second)] == [second, None]
    assert len(flights) == 0


def test_take_over(equals: tuple[Item, Item, Item]) -> None:
    """An item that takes over leads; the previous leader is its first follower."""
    first, second, third = equals
    flights = fly(first, second)
    flights.take_over(third)
    assert flights.finish(third) == [first, second]


@pytest.mark.parametrize("operation", ["take_over", "resign", "finish"])
def test_no_such_flight(operation: str) -> None:
    """An operation on a flight that does not exist is an error, not ignored."""
    with pytest.raises(KeyError):
        getattr(fly(Item("b")), operation)(Item("a"))


@given(st.lists(st.tuples(st.sampled_from(["join", "finish", "resign"]), st.sampled_from("ab"))))
def test_every_item_leaves_once(operations: list[tuple[str, str]]) -> None:
    """Whatever happens, each item leaves once: with a result, by resigning, or as the last."""
    flights: SingleFlight[Item] = SingleFlight()
    leaders: dict[str, Item] = {}
    joined: list[Item] = []
    left: Counter[int] = Counter()
    for operation, key in [*operations, ("finish", "a"), ("finish", "b")]:
        if operation == "join":
            joined.append(Item(key))
            if flights.join(joined[-1]):
                leaders[key] = joined[-1]
        elif key in leaders:
            leader = leaders.pop(key)
            left[id(leader)] += 1
            if operation == "finish":
                left.update(map(id, flights.finish(leader)))
            elif heir := flights.resign(leader):
                leaders[key] = heir
    assert left == Counter(map(id, joined))
    assert len(flights) == 0
