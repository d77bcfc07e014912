"""Which instance gets a call: Dubbo's algorithms, by its numbers (pure).

    RandomChoice     by weight
    RoundRobin       by weight, smoothly: a, b, a for weights 2 and 1, and not a, a, b
    LeastActive      the fewest calls under way; among those of the same number by weight
    ConsistentHash   the same key always the same instance, and few move when instances come or go

Each has `choose(candidates, call)`, with one candidate at least.  A weight of 0 is no candidate.
"""

import bisect
import hashlib
import random
import struct
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import attrs

from recipes.registry.instance import ServiceInstance

WARM_UP_MS: Final = 600_000
IDLE_MS: Final = 60_000
VIRTUAL: Final = 160
PER_DIGEST: Final = 4


@attrs.frozen
class Candidate:
    instance: ServiceInstance
    weight: int

    @property
    def id(self) -> str:
        return self.instance.id


@attrs.frozen
class Call:
    """What is known of a call when an instance is chosen for it."""

    now_ms: int = 0
    """Of any clock that only goes forward."""
    key: str = ""
    """Of ConsistentHash: calls with the same one go to the same instance."""
    active: Mapping[str, int] = attrs.field(factory=dict)
    """Calls under way, by id."""


class Balancer(Protocol):
    """One object for each service; not to be used by two threads at once."""

    def choose(self, candidates: Sequence[Candidate], call: Call) -> Candidate: ...


def candidates_of(
    instances: Sequence[ServiceInstance],
    wall_ms: int,
    weights: Mapping[str, int] | None = None,
    warm_up_ms: int = WARM_UP_MS,
) -> list[Candidate]:
    """With weights: those given, by id, or their own; less while they warm up."""
    given = weights or {}
    found = [
        Candidate(each, warm(given.get(each.id, each.weight), each, wall_ms, warm_up_ms))
        for each in instances
    ]
    return [each for each in found if each.weight > 0]


def warm(weight: int, instance: ServiceInstance, wall_ms: int, warm_up_ms: int) -> int:
    """In proportion to the time since it was registered, but 1 at least; whole after `warm_up_ms`,
    and for one that does not say when it was registered."""
    uptime = wall_ms - instance.registered_at
    if not instance.registered_at or uptime >= warm_up_ms or not weight:
        return weight
    return max(1, uptime * weight // warm_up_ms)


@attrs.define
class RandomChoice:
    dice: random.Random = attrs.field(factory=random.Random)

    def choose(self, candidates: Sequence[Candidate], call: Call) -> Candidate:
        at = self.dice.randrange(sum(each.weight for each in candidates))
        for each in candidates:
            at -= each.weight
            if at < 0:
                return each
        raise AssertionError("a weight is negative")


@attrs.define
class _Turn:
    weight: int
    current: int = 0
    used_ms: int = 0


@attrs.define
class RoundRobin:
    """Each gets its weight; who has most has its turn, and pays for it with the sum of weights."""

    _turns: dict[str, _Turn] = attrs.field(factory=dict, init=False)
    """By id; what is no candidate keeps its place for a minute."""

    def choose(self, candidates: Sequence[Candidate], call: Call) -> Candidate:
        for each in candidates:
            turn = self._turn(each)
            turn.current += each.weight
            turn.used_ms = call.now_ms
        # Of several with the most the first one.
        chosen = max(candidates, key=lambda each: self._turns[each.id].current)
        self._turns[chosen.id].current -= sum(each.weight for each in candidates)
        self._recycle(call.now_ms)
        return chosen

    def _turn(self, candidate: Candidate) -> _Turn:
        turn = self._turns.get(candidate.id)
        if turn is None or turn.weight != candidate.weight:
            turn = self._turns[candidate.id] = _Turn(candidate.weight)
        return turn

    def _recycle(self, now: int) -> None:
        idle = [each for each, turn in self._turns.items() if now - turn.used_ms > IDLE_MS]
        for each in idle:
            del self._turns[each]


@attrs.define
class LeastActive:
    _among: RandomChoice = attrs.field(factory=RandomChoice)

    def choose(self, candidates: Sequence[Candidate], call: Call) -> Candidate:
        fewest = min(call.active.get(each.id, 0) for each in candidates)
        least = [each for each in candidates if call.active.get(each.id, 0) == fewest]
        return self._among.choose(least, call)


@attrs.define
class ConsistentHash:
    """By address and port, as Dubbo does; weights do not count."""

    _of: tuple[str, ...] = attrs.field(default=(), init=False)
    _ring: list[tuple[int, str]] = attrs.field(factory=list, init=False)

    def choose(self, candidates: Sequence[Candidate], call: Call) -> Candidate:
        by_endpoint = {each.instance.endpoint: each for each in candidates}
        endpoints = tuple(sorted(by_endpoint))
        if endpoints != self._of:
            self._of, self._ring = endpoints, ring_of(endpoints)
        return by_endpoint[owner_of(self._ring, positions_of(call.key)[0])]


def positions_of(text: str) -> tuple[int, ...]:
    """Four, of 32 bits each: an MD5, from its beginning, little-endian."""
    return struct.unpack(
        "<4I", hashlib.md5(text.encode(errors="surrogatepass"), usedforsecurity=False).digest()
    )


def ring_of(endpoints: Sequence[str]) -> list[tuple[int, str]]:
    """Positions and whose they are, in their order."""
    digests = VIRTUAL // PER_DIGEST
    named = [(f"{each}{number}", each) for each in endpoints for number in range(digests)]
    return sorted((at, each) for text, each in named for at in positions_of(text))


def owner_of(ring: list[tuple[int, str]], position: int) -> str:
    """Of the next position, that one included; behind the last comes the first."""
    return ring[bisect.bisect_left(ring, (position, "")) % len(ring)][1]
