"""How all workers come to serve the same versions: the one place that decides it.

A plan names the versions that serve. It takes effect in two phases. First every worker prepares
it: it loads and checks what it does not hold yet, beside the traffic, one worker after the other.
When all have prepared, the host stores the plan's number where every worker looks before each
answer: that one store is the switch. A plan that one worker cannot prepare is dropped everywhere.

A worker is a member of the agreement; a process on its own is the only member. The module knows
neither processes nor sockets: the host delivers messages, which are JSON objects.

To a member: `prepare` (a plan), `serving` and `discard` (the number of one), `look` and `notes`.
From a member: `offer` (what it could load at the first start), `prepared` and `sight`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from app.serving.plan import (
    ALIASES,
    CANARY_SHARE,
    Aliases,
    Plan,
    Sight,
    key_of,
    split_key,
)

logger = logging.getLogger(__name__)

REJECTED: Final = "rejected"
WAITING: Final = "waiting"
REMOVED: Final = "removed"

_SETTLE_S: Final = 1.0
"""Between two looks, so that files which are being copied differ between them."""
_PREPARE_TIMEOUT_S: Final = 300.0
_FIRST_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 30.0
_MAX_DEATHS: Final = 2
"""A worker may die for other reasons while it loads a version; twice is no coincidence."""

Message = Mapping[str, Any]


class Member(Protocol):
    """The agreement as a member sees it."""

    @property
    def generation(self) -> Sequence[int]:
        """One number: the generation of the plan in effect. 0: there is none yet."""
        ...

    @property
    def agreed(self) -> Message | None:
        """The plan in effect when the member was started, as a message."""
        ...

    def report(self, message: Message) -> None:
        """Send a message to the agreement."""
        ...


class Host(Protocol):
    """What runs the members and carries their messages."""

    def tell(self, member: int, message: Message) -> None:
        """Send a message to a member."""
        ...

    def commit(self, generation: int) -> None:
        """Put a plan into effect, for all members at once."""
        ...

    def call_later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Call `action` after a delay."""
        ...

    def fail(self, reason: str) -> None:
        """The service can never become ready."""
        ...

    def report_differing(self) -> None:
        """`Agreement.differing` has changed."""
        ...


@dataclass(eq=False)
class _Member:
    """What is known of one member.

    Attributes:
        offer: What it could load at the first start: digests and reasons, by version.
        prepared: The generations that it can serve.
        asked: The generation that it prepares now; None if it has answered.
        next: What it is asked to prepare afterwards.
        retried: The generation that it cannot prepare, and will be asked for again in a while.
        problem: Why it cannot prepare the plan in effect.
        retry_s: The delay before it tries again.
    """

    offer: Message | None = None
    prepared: set[int] = field(default_factory=set)
    asked: int | None = None
    next: Plan | None = None
    retried: set[int] = field(default_factory=set)
    problem: str = ""
    retry_s: float = _FIRST_RETRY_S


@dataclass(eq=False)
class _Proposal:
    """A plan that is being prepared.

    Attributes:
        plan: The plan.
        candidates: The versions that are new in it.
        stamps: Of all versions, at the look that led to it.
        preparing: The member whose turn it is.
        excluded: Members that cannot prepare what is already in effect.
    """

    plan: Plan
    candidates: frozenset[str]
    stamps: Mapping[str, str]
    preparing: int | None = None
    excluded: set[int] = field(default_factory=set)


class Agreement:
    """Decides what all members serve.

    Args:
        host: Carries the messages.
        members: How many there are when all are alive.
        poll_s: Seconds between two looks at the repository; 0 for none.

    Attributes:
        plan: The plan in effect; None before the first.
        notes: Versions that do not serve, or should not, with `state` and `reason`; and models
            whose `aliases.json` is refused, with `reason`.
    """

    def __init__(self, host: Host, *, members: int, poll_s: float) -> None:
        self.plan: Plan | None = None
        self.notes: dict[str, dict[str, str]] = {}
        self._host = host
        self._count = members
        self._poll_s = poll_s
        self._members: dict[int, _Member] = {}
        self._proposal: _Proposal | None = None
        self._generation = 0
        self._sight = self._previous = Sight()
        self._refusals: dict[str, tuple[str, str]] = {}  # stamp and reason, by version
        self._deaths: Counter[tuple[str, str]] = Counter()  # by version and stamp
        self._looker = 0
        self._looking = False
        self._resting = self._look_again = False
        self._failure = ""

    @property
    def differing(self) -> dict[int, str]:
        """The members that cannot serve what the others serve, each with the reason."""
        return {n: member.problem for n, member in self._members.items() if member.problem}

    @property
    def agreed(self) -> Message | None:
        """The plan in effect, for a member that is being started."""
        return self.plan.to_message() if self.plan is not None else None

    def join(self, number: int) -> None:
        """A member was started; it knows the plan in effect, and prepares it."""
        asked = self.plan.generation if self.plan is not None else None
        self._members[number] = _Member(asked=asked)

    def leave(self, number: int) -> None:
        """A member has ended."""
        member = self._members.pop(number, None)
        if member is None:
            return
        if self._looking and self._looker == number:
            self._looking = False
            self.look()  # nobody else may ask again
        if self._proposal is not None and self._proposal.preparing == number:
            self._count_death(self._proposal)
        self._advance()
        if member.problem:
            self._host.report_differing()

    def receive(self, number: int, message: Message) -> None:
        """Handle a message of a member."""
        member = self._members.get(number)
        if member is None:
            return
        if "offer" in message:
            member.offer = message["offer"]
            self._found()
        elif "prepared" in message:
            self._handle_prepared(number, member, message["prepared"], message["reasons"])
        elif "sight" in message:
            self._looking = False
            if self._resting:  # a second answer, as after two signals: it says nothing of time
                self._look_again = True
            else:
                self._handle_sight(Sight.from_message(message["sight"]))

    def look(self) -> None:
        """Look at the repository now; what is new takes effect once it has stopped changing."""
        if self.plan is None or not self._members:
            return
        if self._resting:
            self._look_again = True
            return
        holders = self._holders() or list(self._members)
        if self._looking:  # the last one has not answered: ask the next
            later = [number for number in holders if number > self._looker]
            holders = later or holders
        self._looker = holders[0]
        self._looking = True
        self._host.tell(self._looker, {"look": True})

    # --- the first plan

    def _found(self) -> None:
        """Agree on what all members could load, once all of them have reported."""
        offers = [member.offer for member in self._members.values() if member.offer is not None]
        if self.plan is not None or self._proposal is not None:
            self._catch_up()
            return
        if len(offers) < self._count:
            return
        first = offers[0]
        self._sight = self._previous = Sight.from_message(first["sight"])
        digests = {
            key: digest
            for key, digest in first["loaded"].items()
            if all(offer["loaded"].get(key) == digest for offer in offers)
        }
        offered = {key for offer in offers for key in (*offer["loaded"], *offer["rejected"])}
        for key in sorted(offered):
            if key not in digests:
                reasons = [o["rejected"][key] for o in offers if key in o["rejected"]]
                self._refuse(
                    key,
                    next(iter(reasons), "the workers have read different files of it"),
                    self._sight.stamps,
                )
        default = first["default"]
        if not any(split_key(key)[0] == default for key in digests):
            self._host.fail(first["failure"] or self._explain_default(default))
        plan = Plan(0, default, digests)
        self._propose(digests, self._choose_aliases(plan), default, frozenset())

    def _explain_default(self, default: str | None) -> str:
        """Why the default model has no version that all members can serve."""
        reasons = "; ".join(
            f"version {split_key(key)[1]}: {note['reason']}"
            for key, note in self.notes.items()
            if note.get("state") == REJECTED and split_key(key)[0] == default
        )
        return f"the default model {default} has no version that every worker can load: {reasons}"

    # --- two phases

    def _propose(
        self,
        digests: Mapping[str, str],
        aliases: Mapping[str, Aliases],
        default: str | None,
        candidates: frozenset[str],
    ) -> None:
        self._generation += 1
        plan = Plan(self._generation, default, digests, aliases)
        self._proposal = _Proposal(plan, candidates, self._sight.stamps)
        self._advance()

    def _holders(self) -> list[int]:
        """The members that can serve the plan in effect."""
        if self.plan is None:
            return [n for n, member in self._members.items() if member.offer is not None]
        generation = self.plan.generation
        return [n for n, member in self._members.items() if generation in member.prepared]

    def _advance(self) -> None:
        """Let the next member prepare the proposal; when all have, put it into effect.

        All that serve now must prepare it. If none does, those that can are enough: it is the way
        out when what serves can no longer be loaded.
        """
        proposal = self._proposal
        if proposal is None or proposal.preparing is not None:
            return
        generation = proposal.plan.generation
        members = [n for n in self._holders() or self._members if n not in proposal.excluded]
        waiting = [n for n in members if generation not in self._members[n].prepared]
        if waiting:
            proposal.preparing = waiting[0]
            self._host.call_later(_PREPARE_TIMEOUT_S, partial(self._expire, proposal, waiting[0]))
            self._ask(waiting[0], proposal.plan)
        elif members:
            self._commit(proposal)
        elif proposal.excluded:
            self._drop_proposal()

    def _commit(self, proposal: _Proposal) -> None:
        plan, before = proposal.plan, self.plan
        self._proposal = None
        self.plan = plan
        self._tell_all({"notes": self.notes})
        self._host.commit(plan.generation)
        if before is not None:
            old, new = before.digests, plan.digests
            logger.info(
                "versions switched",
                extra={
                    "generation": plan.generation,
                    "added": sorted(key for key in new if old.get(key) != new[key]),
                    "removed": sorted(old.keys() - new.keys()),
                    "answering": {name: plan.answering(name) for name in plan.names()},
                },
            )
        for member in self._members.values():
            member.prepared &= {plan.generation}
        self._tell_all({"serving": plan.generation})
        if before is None and self._poll_s:
            self._host.call_later(self._poll_s, self._poll)
        self._catch_up()
        self._consider()

    def _catch_up(self) -> None:
        """Let the members that cannot serve the plan in effect prepare it."""
        if self.plan is None:
            return
        for number, member in list(self._members.items()):
            if self.plan.generation not in member.prepared:
                self._ask(number, self.plan)

    def _ask(self, number: int, plan: Plan) -> None:
        """Ask a member to prepare a plan, once it has answered for the one before.

        Plans may change faster than a newcomer loads one, so only the latest waits for it. A
        proposal is not replaced by the plan in effect, which comes next in any case.
        """
        member = self._members[number]
        if member.asked is None:
            member.asked = plan.generation
            self._host.tell(number, {"prepare": plan.to_message()})
        elif member.next is None or plan.generation > member.next.generation:
            member.next = plan

    def _ask_next(self, number: int, member: _Member) -> None:
        """Ask a member that has answered for what it still has to prepare."""
        proposed = self._proposal.plan if self._proposal is not None else None
        waiting, member.next = member.next, None
        if self._members.get(number) is not member or member.asked is not None:
            return
        if waiting is not None and waiting is proposed:
            self._ask(number, waiting)
        elif self.plan is not None and self.plan.generation not in member.prepared | member.retried:
            self._ask(number, self.plan)

    def _handle_prepared(
        self, number: int, member: _Member, generation: int, reasons: Mapping[str, str]
    ) -> None:
        member.asked = None
        if not reasons:
            member.prepared.add(generation)
        proposal = self._proposal
        if proposal is not None and generation == proposal.plan.generation:
            if proposal.preparing == number:
                proposal.preparing = None
            if reasons:
                self._handle_failure(proposal, number, reasons)
            else:
                self._advance()
        elif self.plan is not None and generation == self.plan.generation:
            self._handle_newcomer(number, member, generation, reasons)
        self._ask_next(number, member)

    def _handle_newcomer(
        self, number: int, member: _Member, generation: int, reasons: Mapping[str, str]
    ) -> None:
        """A member has tried to prepare the plan in effect."""
        before = member.problem
        member.problem = "; ".join(f"{key}: {reason}" for key, reason in reasons.items())
        if reasons:
            member.retried = {generation}
            self._host.call_later(member.retry_s, partial(self._retry, number, member, generation))
            member.retry_s = min(2 * member.retry_s, _MAX_RETRY_S)
        else:
            member.retry_s = _FIRST_RETRY_S
            self._host.tell(number, {"notes": self.notes})
            self._advance()
            self._consider()
        if member.problem != before:
            self._host.report_differing()
            event = "worker differs" if member.problem else "worker differs no longer"
            level = logging.ERROR if member.problem else logging.INFO
            logger.log(level, event, extra={"worker": number, "reason": member.problem})

    def _retry(self, number: int, member: _Member, generation: int) -> None:
        if member.retried != {generation}:  # another plan has failed since
            return
        member.retried.clear()
        if self._members.get(number) is member and member.problem and self.plan is not None:
            self._ask(number, self.plan)

    def _handle_failure(self, proposal: _Proposal, number: int, reasons: Mapping[str, str]) -> None:
        """A member cannot prepare a proposal: refuse the versions that are to blame."""
        to_blame = proposal.candidates & reasons.keys()
        for key in to_blame:
            self._refuse(key, reasons[key], proposal.stamps)
        if to_blame:
            self._drop_proposal()
            self._consider()
        else:  # what it lacks was there before
            proposal.excluded.add(number)
            self._advance()

    def _expire(self, proposal: _Proposal, number: int) -> None:
        if self._proposal is proposal and proposal.preparing == number:
            proposal.preparing = self._members[number].asked = None
            reason = f"it was not loaded within {_PREPARE_TIMEOUT_S:.0f} s"
            self._handle_failure(proposal, number, dict.fromkeys(proposal.candidates, reason))

    def _count_death(self, proposal: _Proposal) -> None:
        """A member has died while it prepared a proposal."""
        for key in proposal.candidates:
            death = (key, proposal.stamps.get(key, ""))
            self._deaths[death] += 1
            if self._deaths[death] >= _MAX_DEATHS:
                reason = "a worker died while it loaded this version, twice"
                self._refuse(key, reason, proposal.stamps)
        self._drop_proposal()

    def _drop_proposal(self) -> None:
        """Keep what is in effect."""
        if self._proposal is not None:
            generation = self._proposal.plan.generation
            self._proposal = None
            self._tell_all({"discard": generation})
            self._tell_all({"notes": self.notes})

    def _refuse(self, key: str, reason: str, stamps: Mapping[str, str]) -> None:
        """Do not try a version again until its files are no longer those that were tried.

        They may have changed while they were tried, and the last look may have seen that.
        """
        self._refusals[key] = (stamps.get(key, ""), reason)
        self.notes[key] = {"state": REJECTED, "reason": reason}

    def _tell_all(self, message: Message) -> None:
        for number in list(self._members):
            self._host.tell(number, message)

    # --- looks

    def _poll(self) -> None:
        self.look()
        self._host.call_later(self._poll_s, self._poll)

    def _handle_sight(self, sight: Sight) -> None:
        if sight.failure:
            if sight.failure != self._failure:
                logger.error("the models cannot be read", extra={"reason": sight.failure})
            self._failure = sight.failure
            return
        self._failure = ""
        self._look_again = sight != self._sight
        self._resting = True
        self._host.call_later(_SETTLE_S, self._end_rest)
        self._previous, self._sight = self._sight, sight
        self._consider()

    def _end_rest(self) -> None:
        self._resting = False
        if self._look_again:
            self.look()

    def _is_settled(self, key: str) -> bool:
        """Whether the files of a version, or their absence, were the same at the last look."""
        return self._previous.stamps.get(key) == self._sight.stamps.get(key)

    def _consider(self) -> None:
        """Compare what is there with what serves, and propose what should serve."""
        if self.plan is None or self._proposal is not None:
            return
        notes = dict(self.notes)
        candidates = self._candidates(self.plan)
        digests = {**self.plan.digests, **candidates}
        target = Plan(0, self.plan.default, digests, self._choose_aliases(Plan(0, None, digests)))
        gone = {key for key in self.plan.digests if self._is_gone(key)}
        kept = {key for key in gone if target.is_needed(key)}
        for key in gone - kept:
            del digests[key]
        self._note(self.plan, kept)
        if self.notes != notes:
            self._tell_all({"notes": self.notes})
        if digests != self.plan.digests or target.aliases != self.plan.aliases:
            self._propose(digests, target.aliases, self.plan.default, frozenset(candidates))

    def _candidates(self, plan: Plan) -> dict[str, str]:
        """The complete versions that do not serve yet and may be tried now, with their digests."""
        everyone = len(self._holders()) >= self._count
        return {
            key: digest
            for key, digest in self._sight.digests.items()
            if plan.digests.get(key) != digest
            and self._is_settled(key)
            and self._refusals.get(key, ("", ""))[0] != self._sight.stamps[key]
            and (everyone or not self._deaths[key, self._sight.stamps[key]])
        }

    def _is_gone(self, key: str) -> bool:
        """Whether the folder of a version that serves is no longer there."""
        is_read = split_key(key)[0] not in self._sight.unreadable
        return is_read and key not in self._sight.stamps and self._is_settled(key)

    def _choose_aliases(self, plan: Plan) -> dict[str, Aliases]:
        """The aliases of each model: as its file says, else as before, with a note why."""
        chosen: dict[str, Aliases] = {}
        for name in plan.names():
            before = self.plan.aliases.get(name, {}) if self.plan is not None else {}
            aliases, reason = self._read_aliases(name, plan, before)
            if aliases:
                chosen[name] = aliases
            self._note_aliases(name, reason)
        return chosen

    def _read_aliases(self, name: str, plan: Plan, before: Aliases) -> tuple[Aliases, str]:
        """The aliases of one model, and why its file is refused."""
        if name in self._sight.refused_aliases:
            return before, self._sight.refused_aliases[name]
        wanted = self._sight.aliases.get(name)
        if wanted is None:
            was_there = name in self._previous.aliases or name in self._sight.unreadable
            return (before if was_there else {}), ""
        for alias, number in wanted.items():
            if alias != CANARY_SHARE and int(number) not in plan.numbers(name):
                key = key_of(name, int(number))
                is_coming = key in self._sight.digests and not self._is_settled(key)
                rule = f"{ALIASES}: {alias} must be a version that is ready. Received: {number}"
                return before, "" if is_coming else rule
        return wanted, ""

    def _note_aliases(self, name: str, reason: str) -> None:
        before = self.notes.pop(name, None)
        if reason:
            self.notes[name] = {"reason": reason}
            if self.notes[name] != before:
                logger.error("aliases refused", extra={"model": name, "reason": reason})

    def _note(self, plan: Plan, kept: set[str]) -> None:
        """Note why a version does not serve, and which serve although their folder is gone."""
        before = self.notes
        self.notes = {key: note for key, note in before.items() if "state" not in note}
        for key, (stamp, reason) in list(self._refusals.items()):
            if self._sight.stamps.get(key) != stamp and self._is_settled(key):
                del self._refusals[key]
            else:
                self.notes[key] = {"state": REJECTED, "reason": reason}
        for key in self._sight.stamps.keys() - self._sight.digests.keys() - plan.digests.keys():
            self.notes[key] = {"state": WAITING, "reason": "manifest.json is not there yet"}
        for key in kept:
            self.notes[key] = {
                "state": REMOVED,
                "reason": "its folder was removed; it serves until an alias or a newer version "
                "takes over",
            }
            if before.get(key) != self.notes[key]:
                name, number = split_key(key)
                logger.error("a version was removed", extra={"model": name, "version": number})
