"""What all members serve, decided without processes: messages in, messages out, a manual clock."""

import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from app.serving.agreement import Agreement
from app.serving.plan import Plan, Sight

START = {"lstm/1": "a", "lstm/2": "b", "bow/1": "c"}
POLL_S = 10.0


class Group:
    """Some members that do what they are told, and the host between them and the agreement.

    Attributes:
        generation: What every member reads before each answer.
        files: The digests of the versions in the repository.
        sight: The other parts of what a look finds.
        refusing: What a member cannot load, with the reason: `refusing[member][key]`.
        silent: Members that do not answer.
        deadly: Versions that no member survives or finishes to load.
        asked: The members that were asked to look.
        held: The generations that each member can serve.
        failure: Why the service can never become ready.
    """

    def __init__(
        self,
        *members: int,
        poll_s: float = POLL_S,
        refusing: dict[int, dict[str, str]] | None = None,
        silent: set[int] | None = None,
    ) -> None:
        self.generation = 0
        self.files = dict(START)
        self.sight = Sight()
        self.refusing = refusing or {}
        self.silent = silent or set()
        self.deadly: set[str] = set()
        self.asked: list[int] = []
        self.held: dict[int, dict[int, Plan]] = {}
        self.prepared: list[int] = []  # who prepared, in order
        self.failure = ""
        self.differed: list[dict[int, str]] = []
        self._now = 0.0
        self._order = itertools.count()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self.agreement = Agreement(self, members=len(members), poll_s=poll_s)
        for member in members:
            self.join(member)
        for member in members:
            if member not in self.silent:
                self.offer(member)

    def join(self, member: int) -> None:
        self.held[member] = {}
        self.agreement.join(member)

    def offer(self, member: int) -> None:
        """A member reports what it could load at the first start."""
        refusing = self.refusing.get(member, {})
        offer = {
            "sight": self.look().to_message(),
            "loaded": {key: digest for key, digest in self.files.items() if key not in refusing},
            "rejected": refusing,
            "default": "lstm",
            "failure": None,
        }
        self.agreement.receive(member, {"offer": offer})

    def restart(self, member: int) -> None:
        """A member dies and is replaced; the new one loads what is in effect."""
        self.agreement.leave(member)
        self.join(member)
        assert self.agreement.agreed is not None
        self.tell(member, {"prepare": self.agreement.agreed})

    def look(self) -> Sight:
        return replace(self.sight, stamps=dict(self.files), digests=dict(self.files))

    def pass_time(self, seconds: float) -> None:
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            self._now, _, action = heapq.heappop(self._timers)
            action()
        self._now = end

    @property
    def serving(self) -> dict[str, str]:
        """The versions that every member that can serve does serve."""
        plans = [held[self.generation] for held in self.held.values() if self.generation in held]
        assert all(plan == plans[0] for plan in plans)
        return dict(plans[0].digests)

    def answering(self, name: str) -> int | None:
        return self.plan.answering(name)

    @property
    def plan(self) -> Plan:
        assert self.agreement.plan is not None
        return self.agreement.plan

    # --- the host

    def tell(self, member: int, message: Mapping[str, Any]) -> None:
        if "look" in message:
            self.asked.append(member)
        plan = Plan.from_message(message["prepare"]) if "prepare" in message else None
        if plan is not None:
            self.prepared.append(member)
        if member in self.silent or (plan and self.deadly & plan.digests.keys()):
            return
        if "look" in message:
            sight = self.look().to_message()
            self.call_later(0, lambda: self.agreement.receive(member, {"sight": sight}))
        elif plan is not None:
            self.call_later(0, lambda: self.prepare(member, plan))

    def prepare(self, member: int, plan: Plan) -> None:
        has = {key for held in self.held[member].values() for key in held.digests.items()}
        missing = {
            key: self.refusing.get(member, {}).get(key, "its folder is not there")
            for key, digest in plan.digests.items()
            if (key, digest) not in has
            and (key in self.refusing.get(member, {}) or self.files.get(key) != digest)
        }
        if not missing:
            self.held[member][plan.generation] = plan
        report = {"prepared": plan.generation, "reasons": missing}
        self.agreement.receive(member, report)

    def commit(self, generation: int) -> None:
        self.generation = generation

    def call_later(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self._now + delay_s, next(self._order), action))

    def fail(self, reason: str) -> None:
        self.failure = reason

    def report_differing(self) -> None:
        self.differed.append(dict(self.agreement.differing))


@pytest.fixture
def group() -> Group:
    """Two members that serve what there was at the start."""
    group = Group(1, 2)
    group.pass_time(0)
    assert group.serving == START
    return group


def settle(group: Group) -> None:
    """Let two looks pass, and what follows from them."""
    group.pass_time(2 * POLL_S + 5)


# --- the first start


def test_first_start_serves_what_all_can_load() -> None:
    """A version that one member rejects serves nowhere, with the reason of that member."""
    group = Group(1, 2, refusing={2: {"lstm/2": "it is broken"}})
    group.pass_time(0)
    assert group.serving == {"lstm/1": "a", "bow/1": "c"}
    assert group.agreement.notes["lstm/2"] == {"state": "rejected", "reason": "it is broken"}


def test_first_start_waits_for_all() -> None:
    """Nothing serves before the last member has reported."""
    group = Group(1, 2, silent={2})
    group.pass_time(100)
    assert group.generation == 0
    group.silent.clear()
    group.offer(2)
    group.pass_time(0)
    assert group.serving == START


def test_default_without_a_common_version() -> None:
    """The start fails if no version of the default model can be loaded by all."""
    group = Group(1, 2, refusing={1: {"lstm/1": "broken"}, 2: {"lstm/2": "damaged"}})
    assert group.failure == (
        "the default model lstm has no version that every worker can load: "
        "version 1: broken; version 2: damaged"
    )


# --- replacements


def test_replacement(group: Group) -> None:
    """A replacement that can load what is in effect serves it."""
    group.restart(2)
    group.pass_time(0)
    assert group.generation in group.held[2]
    assert group.agreement.differing == {}


def test_replacement_that_differs(group: Group) -> None:
    """A replacement that cannot load it serves nothing, has a reason, and tries again."""
    file = group.files.pop("lstm/2")
    group.restart(2)
    group.pass_time(0)
    assert group.generation not in group.held[2]
    assert group.agreement.differing == {2: "lstm/2: its folder is not there"}
    group.files["lstm/2"] = file
    group.pass_time(30)
    assert group.generation in group.held[2]
    assert group.differed[-1] == {}


def test_replacement_during_a_reload(group: Group) -> None:
    """A member that is started while a new version is prepared serves it, too, or not at all."""
    group.files["lstm/3"] = "d"
    group.pass_time(POLL_S + 1)
    group.restart(2)
    settle(group)
    assert group.serving == {**START, "lstm/3": "d"}
    assert all(group.generation in held for held in group.held.values())


# --- new versions


def test_new_version(group: Group) -> None:
    """A new version is prepared by one member after the other, then all switch in one step."""
    group.prepared.clear()
    group.files["lstm/3"] = "d"
    settle(group)
    assert group.prepared == [1, 2]
    assert (group.serving, group.answering("lstm")) == ({**START, "lstm/3": "d"}, 3)


def test_version_that_is_being_copied(group: Group) -> None:
    """A version whose files still change is not taken; nor is one without a manifest."""
    before = group.generation
    for size in range(100):
        group.files["lstm/3"] = f"{size} bytes"
        group.pass_time(1)
    assert group.generation == before
    settle(group)
    assert group.answering("lstm") == 3


def test_replaced_version(group: Group) -> None:
    """A version whose files are replaced is loaded anew."""
    group.files["lstm/2"] = "other"
    settle(group)
    assert group.serving == {**START, "lstm/2": "other"}


@pytest.mark.parametrize("member", [1, 2])
def test_version_that_one_cannot_prepare(group: Group, member: int) -> None:
    """All stay on the old version, with the reason; the files are not tried again."""
    before = group.generation
    group.refusing[member] = {"lstm/3": "it is broken"}
    group.files |= {"lstm/3": "d", "bow/2": "e"}
    settle(group)
    assert group.serving == {**START, "bow/2": "e"}
    assert group.agreement.notes["lstm/3"] == {"state": "rejected", "reason": "it is broken"}
    group.prepared.clear()
    group.pass_time(100)
    assert (group.prepared, group.generation) == ([], before + 2)
    group.refusing.clear()
    group.files["lstm/3"] = "mended"
    settle(group)
    assert (group.answering("lstm"), group.agreement.notes) == (3, {})


def test_refused_files_that_have_changed_meanwhile(group: Group) -> None:
    """A version is refused as it was tried; files that came while it was tried are tried too."""
    group.deadly.add("lstm/3")  # nobody finishes to load it
    group.files["lstm/3"] = "half"
    settle(group)
    group.files["lstm/3"] = "whole"
    settle(group)
    group.deadly.clear()
    report = {"prepared": group.generation + 1, "reasons": {"lstm/3": "it is broken"}}
    group.agreement.receive(1, report)
    settle(group)
    assert group.serving == {**START, "lstm/3": "whole"}


def test_death_while_it_prepares(group: Group) -> None:
    """A version while whose loading a worker died is tried again once all are back."""
    group.deadly.add("lstm/3")
    group.files["lstm/3"] = "d"
    settle(group)
    group.agreement.leave(1)
    settle(group)
    assert (group.answering("lstm"), group.agreement.notes) == (2, {})
    group.deadly.clear()
    group.restart(1)
    settle(group)
    assert group.answering("lstm") == 3


def test_two_deaths_while_it_prepares(group: Group) -> None:
    """A version while whose loading a worker died twice is refused."""
    group.deadly.add("lstm/3")
    group.files["lstm/3"] = "d"
    for _ in range(2):
        settle(group)
        group.restart(group.prepared[-1])
    settle(group)
    assert group.serving == START
    assert "a worker died" in group.agreement.notes["lstm/3"]["reason"]


def test_member_that_hangs(group: Group) -> None:
    """A version that is not loaded in time is refused."""
    group.silent.add(2)
    group.files["lstm/3"] = "d"
    settle(group)
    group.pass_time(400)
    assert group.answering("lstm") == 2
    assert "within 300 s" in group.agreement.notes["lstm/3"]["reason"]


def test_look_on_demand() -> None:
    """Without polling, a look on demand takes a new version once it has stopped changing."""
    group = Group(1, 2, poll_s=0)
    group.pass_time(1000)
    group.files["lstm/3"] = "d"
    group.pass_time(1000)
    assert group.answering("lstm") == 2
    group.agreement.look()
    group.pass_time(2)
    assert group.answering("lstm") == 3


def test_two_demands_at_once() -> None:
    """Two looks in a moment do not show that files have stopped changing."""
    group = Group(1, 2, poll_s=0)
    group.pass_time(0)
    group.files["lstm/3"] = "half"
    group.agreement.look()
    group.agreement.look()
    group.pass_time(0.5)
    group.files["lstm/3"] = "whole"
    group.pass_time(0.6)
    assert (group.answering("lstm"), group.agreement.notes) == (2, {})
    group.pass_time(2)
    assert group.serving == {**START, "lstm/3": "whole"}


def test_looker_that_dies() -> None:
    """A look whose member dies before it answers is done by another: the demand may be the only."""
    group = Group(1, 2, poll_s=0)
    group.pass_time(0)
    group.files["lstm/3"] = "d"
    group.silent.add(1)
    group.agreement.look()
    group.silent.clear()
    group.restart(1)
    group.pass_time(5)
    assert group.answering("lstm") == 3


def test_looker_that_is_silent(group: Group) -> None:
    """If a member does not answer a look, the next is asked."""
    group.silent.add(1)
    group.pass_time(2 * POLL_S)
    assert group.asked == [1, 2]


# --- removed versions


def test_removed_version_that_answers(group: Group) -> None:
    """A version that answers is kept in memory until a newer one has taken over."""
    del group.files["lstm/2"]
    settle(group)
    assert group.serving == START
    assert group.agreement.notes["lstm/2"]["state"] == "removed"
    group.files["lstm/3"] = "d"
    settle(group)
    assert (group.serving, group.agreement.notes) == (
        {"lstm/1": "a", "bow/1": "c", "lstm/3": "d"},
        {},
    )


def test_removed_version_that_does_not_answer(group: Group) -> None:
    """A version that no request gets by default is released when its folder is removed."""
    del group.files["lstm/1"]
    settle(group)
    assert group.serving == {"lstm/2": "b", "bow/1": "c"}


def test_removed_default(group: Group) -> None:
    """The default model never changes."""
    for key in ("lstm/1", "lstm/2"):
        del group.files[key]
    group.restart(2)
    settle(group)
    assert (group.plan.default, group.answering("lstm")) == ("lstm", 2)


def test_unreadable_model(group: Group) -> None:
    """A model whose folder cannot be read for a while keeps its versions."""
    group.files = {"bow/1": "c"}
    group.sight = Sight(unreadable={"lstm": "Permission denied"})
    settle(group)
    assert (group.serving, group.agreement.notes) == (START, {})


def test_way_out(group: Group) -> None:
    """When no member can serve what is in effect, a newer version takes over from it."""
    group.files = {"bow/1": "c", "lstm/3": "d"}
    for member in (1, 2):
        group.restart(member)
    settle(group)
    group.pass_time(60)
    assert group.serving == {"bow/1": "c", "lstm/3": "d"}
    assert all(group.generation in held for held in group.held.values())


# --- aliases


def set_aliases(group: Group, **aliases: float) -> None:
    group.sight = Sight(aliases={"lstm": aliases})
    settle(group)


def test_rollback(group: Group) -> None:
    """Moving the alias `stable` moves the requests without a version, at the next look."""
    set_aliases(group, stable=1)
    assert group.answering("lstm") == 1
    set_aliases(group, stable=2)
    assert group.answering("lstm") == 2


def test_new_version_under_an_alias(group: Group) -> None:
    """While `stable` points at a version, a newer one does not take over."""
    set_aliases(group, stable=2)
    group.files["lstm/3"] = "d"
    settle(group)
    assert (group.answering("lstm"), "lstm/3" in group.serving) == (2, True)


def test_version_and_alias_at_once(group: Group) -> None:
    """An alias may come together with its version; it never answers before."""
    group.files |= {"lstm/3": "d", "lstm/4": "e"}
    set_aliases(group, stable=3, canary=4, canary_share=0.5)
    assert (group.plan.targets("lstm"), group.plan.canary_share("lstm")) == (
        {"stable": 3, "canary": 4},
        0.5,
    )


@pytest.mark.parametrize(
    ("sight", "reason"),
    [
        (
            Sight(aliases={"lstm": {"stable": 9}}),
            "aliases.json: stable must be a version that is ready. Received: 9",
        ),
        (Sight(refused_aliases={"lstm": "aliases.json must be JSON"}), "aliases.json must be JSON"),
    ],
)
def test_refused_aliases(group: Group, sight: Sight, reason: str) -> None:
    """Aliases that cannot be followed leave those before in effect, with the reason."""
    set_aliases(group, stable=1)
    group.sight = sight
    settle(group)
    assert group.answering("lstm") == 1
    assert group.agreement.notes["lstm"] == {"reason": reason}


def test_removed_aliases(group: Group) -> None:
    """Without the file, the newest version answers again."""
    set_aliases(group, stable=1)
    group.sight = Sight()
    settle(group)
    assert group.answering("lstm") == 2


def test_alias_takes_over_from_a_removed_version(group: Group) -> None:
    """A removed version that answers is released when the alias has moved away."""
    del group.files["lstm/2"]
    set_aliases(group, stable=1)
    assert group.serving == {"lstm/1": "a", "bow/1": "c"}


def test_slow_newcomer() -> None:
    """Plans that change faster than a newcomer loads them do not queue up for it."""
    group = Group(1, 2)
    group.pass_time(0)
    group.silent.add(2)
    group.restart(2)
    group.prepared.clear()
    for number in range(3, 8):
        group.files[f"lstm/{number}"] = f"file {number}"
        group.files.pop(f"lstm/{number - 1}")
        group.pass_time(4 * POLL_S)
        assert group.answering("lstm") == number
    assert 2 not in group.prepared
    group.silent.clear()
    group.agreement.receive(2, {"prepared": 1, "reasons": {"lstm/2": "its folder is not there"}})
    group.pass_time(0)
    assert group.prepared.count(2) == 1
    assert group.generation in group.held[2]
