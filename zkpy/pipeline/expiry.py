"""When sessions are due: the leader's view of who was heard from.

Existence of a session is replicated (`state.sessions`); this is not.  A new
leader starts with a full time-out for everybody (C11), and a role change throws
the whole object away.

Deadlines are rounded up to the next tick, as ZooKeeper's ExpiryQueue does, so
one bucket holds all that falls due together and a touch costs one dict write:
nothing moves between buckets until a bucket comes due, and whoever was heard
from meanwhile is put into a later one then.  Who is forgotten leaves its bucket at once:
time-outs may be of days, and sessions come and go by the second.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class _Tracked:
    timeout_ms: int
    heard_ms: int
    owner: int
    """Server id of the member whose connection carries the session."""
    bucket: int = 0
    """Where it is scheduled."""


class SessionExpiry:
    """Deadlines of all sessions, in buckets of one tick."""

    def __init__(self, tick_ms: int) -> None:
        self._tick_ms = tick_ms
        self._tracked: dict[int, _Tracked] = {}
        self._buckets: dict[int, dict[int, None]] = {}
        self._next: int | None = None

    def __contains__(self, session: int) -> bool:
        return session in self._tracked

    def track(self, session: int, timeout_ms: int, owner: int, now: int) -> None:
        """Follow a session from now on; an old entry of it is replaced."""
        self.forget(session)
        self._tracked[session] = tracked = _Tracked(timeout_ms, now, owner)
        self._schedule(session, tracked)

    def touch(self, session: int, now: int) -> None:
        """The session was heard from at `now`, which may lie in the past."""
        tracked = self._tracked.get(session)
        if tracked is not None and now > tracked.heard_ms:
            tracked.heard_ms = now

    def move(self, session: int, owner: int) -> None:
        """The session's connection is on another server now."""
        self._tracked[session].owner = owner

    def owner_of(self, session: int) -> int | None:
        tracked = self._tracked.get(session)
        return tracked.owner if tracked is not None else None

    def forget(self, session: int) -> None:
        tracked = self._tracked.pop(session, None)
        if tracked is not None:
            bucket = self._buckets[tracked.bucket]
            del bucket[session]
            if not bucket:
                del self._buckets[tracked.bucket]

    def extend(self, pause_ms: int, heard: Callable[[int], int]) -> None:
        """We ourselves stood still for so long: what was sent to us meanwhile is still unread.

        `heard` as for `due`: what connections here said before must be known first, or it
        would take the place of a longer ago that was extended.
        """
        for session, tracked in self._tracked.items():
            tracked.heard_ms = max(tracked.heard_ms, heard(session)) + pause_ms

    def deadline(self) -> int | None:
        """When `due` should be called next."""
        return self._next

    def due(self, now: int, heard: Callable[[int], int]) -> list[int]:
        """Sessions whose time-out has passed, each once; they are no longer tracked.

        `heard(session)` is when this server's own connection of it last said
        something (0: it has none here): asked only when a bucket comes due, so
        that a request costs nothing here.
        """
        expired: list[int] = []
        for bucket in sorted(at for at in self._buckets if at <= now):
            for session in self._buckets.pop(bucket):
                self._settle(session, now, heard(session), expired)
        self._next = min(self._buckets, default=None)
        return expired

    def by_deadline(self) -> dict[int, list[int]]:
        """Deadline -> sessions, as last scheduled; for the word `dump`."""
        return {at: list(self._buckets[at]) for at in sorted(self._buckets)}

    def _settle(self, session: int, now: int, heard_ms: int, expired: list[int]) -> None:
        tracked = self._tracked[session]
        tracked.heard_ms = max(tracked.heard_ms, heard_ms)
        if tracked.heard_ms + tracked.timeout_ms > now:
            self._schedule(session, tracked)
        else:
            del self._tracked[session]
            expired.append(session)

    def _schedule(self, session: int, tracked: _Tracked) -> None:
        deadline = tracked.heard_ms + tracked.timeout_ms
        tracked.bucket = bucket = (deadline // self._tick_ms + 1) * self._tick_ms
        self._buckets.setdefault(bucket, {})[session] = None
        if self._next is None or bucket < self._next:
            self._next = bucket
