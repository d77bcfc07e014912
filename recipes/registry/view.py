"""What a consumer makes of the znodes of one service: who is there, and what happens (pure).

An instance goes when its znode does, at once.  But two things must not empty the view, for they say
more of the consumer, or of the servers, than of the instances; while they last it is *stale*:

- the consumer has no connection: nothing changes;
- too many have gone without a word within `window` ms (more than `share` of all, and at least two):
  all of these are there again, until enough of them are, or `accept` says that they have gone.

It is membership's view: those that are suspect there are not shown here, unless they are too many.
"""

import enum
from collections.abc import Collection, Mapping
from typing import Final

import attrs

from recipes.membership.view import GRACE_MS, SHARE, Member, Status, View
from recipes.registry.instance import ServiceInstance


class Kind(enum.Enum):
    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    STALE = "stale"
    """The view is not to be trusted to be up to date, and is kept."""
    FRESH = "fresh"
    """It is again."""


@attrs.frozen
class Event:
    kind: Kind
    instance: ServiceInstance | None = None
    """As it is now, or was last; None for STALE and FRESH."""


INSTANCE: Final = "instance"


@attrs.define
class Instances:
    """`observe` what is there, `disconnect`, `accept`; each returns what has happened."""

    window_ms: int = GRACE_MS
    share: float = SHARE
    by_id: dict[str, ServiceInstance] = attrs.field(factory=dict, init=False)
    is_stale: bool = attrs.field(default=True, init=False)
    _view: View = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._view = View(self.window_ms, self.share)

    def observe(
        self,
        now: int,
        present: Mapping[str, ServiceInstance | None],
        born: Mapping[str, int] | None = None,
        departed: frozenset[str] = frozenset(),
    ) -> list[Event]:
        """All znodes, by id, and their czxids; None for one that cannot be read: that one stays as
        it was last.  `departed`: czxids of those that were deregistered."""
        known = {name: instance_of(seat.member) for name, seat in self._view.seats.items()}
        shown = {name: found or known.get(name) for name, found in present.items()}
        czxids = born or {}
        members = {
            name: member_of(found, czxids.get(name, 0))
            for name, found in shown.items()
            if found is not None
        }
        # Who went before the window does not count among those who go now.
        self._view.pass_time(now)
        self._view.observe(now, members, departed)
        return self._show()

    def misses(self, present: Collection[str]) -> bool:
        """Whether one is not there that was, or is kept."""
        return any(name not in present for name in self._view.seats)

    def disconnect(self) -> list[Event]:
        self._view.disconnect()
        return self._show()

    def accept(self) -> list[Event]:
        """Those that are kept have gone: somebody has looked."""
        self._view.accept()
        return self._show()

    def deadline(self) -> int | None:
        """When to observe again at the latest."""
        return self._view.deadline()

    def _show(self) -> list[Event]:
        before, was_stale = self.by_id, self.is_stale
        self.is_stale = self._view.is_stale
        if self._view.is_connected:
            self.by_id = self._usable()
        events = differences(before, self.by_id)
        if self.is_stale != was_stale:
            events.append(Event(Kind.STALE if self.is_stale else Kind.FRESH))
        return events

    def _usable(self) -> dict[str, ServiceInstance]:
        everyone, view = self._view.seats.values(), self._view
        shown = [e for e in everyone if view.is_protected or e.status is Status.ALIVE]
        return {each.member.name: instance_of(each.member) for each in shown}


def member_of(instance: ServiceInstance, czxid: int) -> Member:
    return Member(instance.id, str(czxid), czxid, {INSTANCE: instance})


def instance_of(member: Member) -> ServiceInstance:
    found: ServiceInstance = member.metadata[INSTANCE]
    return found


def differences(
    before: Mapping[str, ServiceInstance], now: Mapping[str, ServiceInstance]
) -> list[Event]:
    removed = [Event(Kind.REMOVED, before[name]) for name in before if name not in now]
    added = [Event(Kind.ADDED, now[name]) for name in now if name not in before]
    both = [name for name in now if name in before]
    changed = [Event(Kind.CHANGED, now[name]) for name in both if now[name] != before[name]]
    return removed + added + changed
