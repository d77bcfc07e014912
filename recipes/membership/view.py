"""What an observer makes of the nodes it sees: who is a member, and what has happened (pure).

    not there --seen--> ALIVE --its node has gone--> SUSPECT --`grace` ms later--> left
                          ^-------- seen again --------'

A node goes when its session ends, and a session ends for reasons that are not the end of a
member: it was cut off, or paused. So a member that has gone is suspect first, unless it said
that it leaves.

Two things must not empty the view, for they say more of the observer, or of the servers, than
of the members; while they last the view is *stale*, and nobody is declared to have left:

- the observer has no connection: grace begins anew when it has one again;
- too many are suspect at the same time (more than `share` of all, and at least two): until enough
  of them are back (grace begins anew for the others), or `accept` says that they have left.
"""

import enum
from collections.abc import Mapping
from typing import Any, Final

import attrs

GRACE_MS: Final = 10_000
SHARE: Final = 0.5
CROWD: Final = 2
"""So many at least are a mass of members: one alone may always leave."""


@attrs.frozen
class Member:
    """A member as its node tells of it."""

    name: str
    incarnation: str
    """One for each start of its program: another means that it was restarted."""
    joined: int
    """czxid of its node: grows with each that joins."""
    metadata: dict[str, Any]


class Status(enum.Enum):
    ALIVE = "alive"
    SUSPECT = "suspect"


class Kind(enum.Enum):
    JOINED = "joined"
    CHANGED = "changed"
    """Its metadata."""
    SUSPECT = "suspect"
    RETURNED = "returned"
    """A suspect member of the same incarnation is there again, perhaps with a new session."""
    LEFT = "left"
    STALE = "stale"
    """The view is not to be trusted to be up to date, and is kept."""
    FRESH = "fresh"
    """It is again."""


@attrs.frozen
class Event:
    kind: Kind
    member: Member | None = None
    """None for STALE and FRESH."""


@attrs.frozen
class Seat:
    """A member's place in the view."""

    member: Member
    gone_at: int | None = None
    """When its node was first missed, ms; None while it is there."""

    @property
    def status(self) -> Status:
        return Status.ALIVE if self.gone_at is None else Status.SUSPECT


@attrs.define
class View:
    """`observe` what is there, `disconnect`, `pass_time`; each returns what has happened."""

    grace_ms: int = GRACE_MS
    share: float = SHARE
    seats: dict[str, Seat] = attrs.field(factory=dict)
    """By name."""
    is_connected: bool = False
    is_protected: bool = False
    """Too many are suspect."""
    _was_stale: bool = True

    @property
    def is_stale(self) -> bool:
        return not self.is_connected or self.is_protected

    def observe(
        self, now: int, present: Mapping[str, Member], departed: frozenset[str] = frozenset()
    ) -> list[Event]:
        """All members whose node is there, by name, and incarnations that said that they leave."""
        if not self.is_connected:
            self._begin_grace_anew(now)
        self.is_connected = True
        events = [event for name in present for event in self._on_present(present[name])]
        for name in [each for each in self.seats if each not in present]:
            events += self._on_absent(name, now, departed)
        return events + self.pass_time(now)

    def disconnect(self) -> list[Event]:
        self.is_connected = False
        return self._tell_staleness()

    def pass_time(self, now: int) -> list[Event]:
        """Let those leave whose grace is over."""
        was_protected = self.is_protected
        self._protect()
        if was_protected and not self.is_protected:
            # Others are on their way back, too.
            self._begin_grace_anew(now)
        events = self._tell_staleness()
        if not self.is_stale:
            events += [self._leave(name) for name in self._overdue(now)]
        return events

    def accept(self) -> list[Event]:
        """Those that are suspect have left: somebody has looked."""
        events = [self._leave(name) for name in self._suspects()]
        self._protect()
        return events + self._tell_staleness()

    def deadline(self) -> int | None:
        """When time has to pass next."""
        gone = [each.gone_at for each in self.seats.values() if each.gone_at is not None]
        return min(gone) + self.grace_ms if gone and not self.is_stale else None

    # --- steps ------------------------------------------------------------------------------

    def _begin_grace_anew(self, now: int) -> None:
        for name in self._suspects():
            self.seats[name] = attrs.evolve(self.seats[name], gone_at=now)

    def _on_present(self, member: Member) -> list[Event]:
        before = self.seats.get(member.name)
        self.seats[member.name] = Seat(member)
        if before is None:
            return [Event(Kind.JOINED, member)]
        if before.member.incarnation != member.incarnation:
            return [Event(Kind.LEFT, before.member), Event(Kind.JOINED, member)]
        events = [Event(Kind.RETURNED, member)] if before.status is Status.SUSPECT else []
        if before.member.metadata != member.metadata:
            events.append(Event(Kind.CHANGED, member))
        return events

    def _on_absent(self, name: str, now: int, departed: frozenset[str]) -> list[Event]:
        seat = self.seats[name]
        if seat.member.incarnation in departed:
            return [self._leave(name)]
        if seat.status is Status.SUSPECT:
            return []
        self.seats[name] = attrs.evolve(seat, gone_at=now)
        return [Event(Kind.SUSPECT, seat.member)]

    def _leave(self, name: str) -> Event:
        return Event(Kind.LEFT, self.seats.pop(name).member)

    def _suspects(self) -> list[str]:
        return [name for name, seat in self.seats.items() if seat.status is Status.SUSPECT]

    def _overdue(self, now: int) -> list[str]:
        seats = self.seats
        return [name for name in self._suspects() if now - gone(seats[name]) >= self.grace_ms]

    def _protect(self) -> None:
        suspects = len(self._suspects())
        self.is_protected = suspects >= CROWD and suspects > self.share * len(self.seats)

    def _tell_staleness(self) -> list[Event]:
        if self.is_stale == self._was_stale:
            return []
        self._was_stale = self.is_stale
        return [Event(Kind.STALE if self.is_stale else Kind.FRESH)]


def gone(seat: Seat) -> int:
    assert seat.gone_at is not None
    return seat.gone_at


def choose_master(seats: Mapping[str, Seat]) -> Member | None:
    """The member that has been here longest without a break, of those that are alive.

    Whoever joins later has a larger czxid, so the choice changes only when the master's node
    goes; and all who see the same nodes choose alike."""
    alive = [each.member for each in seats.values() if each.status is Status.ALIVE]
    return min(alive, key=lambda member: member.joined, default=None)
