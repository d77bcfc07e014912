"""Whose turn it is: the decision of every lock, from the children of its path alone (pure).

Who came first is first.  A writer waits for the contender right before it, a reader for the
nearest writer before it: so the end of one node wakes one waiter, or the readers that
stand behind one writer, and never the whole queue.

Numbers are compared as a server counts them, in 32 bits that overflow: a is before b if b - a,
in 32 bits, is positive.  Compared as plain integers (or, as by kazoo, as text) the
contender behind 2147483647, which is -2147483648, would stand before all others, and hold
the lock beside its holder.  Contenders that stand at one time are never 2^31 numbers apart.
"""

from collections.abc import Iterable

import attrs

from recipes.locks.names import Contender, Family, Role, contenders_of

_BITS = 1 << 32
_HALF = 1 << 31


@attrs.frozen
class Mine:
    """It is my turn."""


@attrs.frozen
class Behind:
    """Not before that node has gone."""

    name: str


@attrs.frozen
class Gone:
    """My own node is not there."""


Turn = Mine | Behind | Gone


def distance(first: int, second: int) -> int:
    """How far `second` stands behind `first`, negative if before it."""
    return (second - first + _HALF) % _BITS - _HALF


def whose_turn(children: Iterable[str], own: str, family: Family) -> Turn:
    """For a lock.  Raises MixedContendersError."""
    contenders = contenders_of(children, family)
    me = next((each for each in contenders if each.name == own), None)
    if me is None:
        return Gone()
    blocking = [each for each in ahead_of(me, contenders) if is_blocked(me, each)]
    return Behind(blocking[-1].name) if blocking else Mine()


def ahead_of(me: Contender, contenders: Iterable[Contender]) -> list[Contender]:
    """The nearest last."""
    ahead = [each for each in contenders if distance(each.number, me.number) > 0]
    return sorted(ahead, key=lambda each: -distance(each.number, me.number))


def is_blocked(me: Contender, other: Contender) -> bool:
    return Role.WRITE in (me.role, other.role)


def has_lease(children: Iterable[str], own: str, leases: int, family: Family) -> bool | None:
    """For a semaphore: whether mine is among the first `leases` nodes; None if it is not there."""
    contenders = contenders_of(children, family)
    me = next((each for each in contenders if each.name == own), None)
    if me is None:
        return None
    return len(ahead_of(me, contenders)) < leases


def in_order(contenders: Iterable[Contender]) -> list[Contender]:
    """The first first."""
    known = list(contenders)
    if not known:
        return []
    return sorted(known, key=lambda each: distance(known[0].number, each.number))
