"""Random rounds of faults: drawn from a seed before the run, so that they can be printed first.

A round is a kind, those whom it hits, and how long.  `LEADER` and `FOLLOWER` stand for
whoever that is when it comes to it; everything else is drawn.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs

from tests.faults.cluster import Cluster
from tests.faults.proxy import Direction

LEADER: Final = 0
TICK_MS: Final = 200


@attrs.define(frozen=True)
class Round:
    kind: str
    targets: tuple[int, ...]
    """Server ids, or LEADER."""
    seconds: float

    def __str__(self) -> str:
        names = ["the leader" if sid == LEADER else f"server {sid}" for sid in self.targets]
        return f"{self.kind} {' and '.join(names) or 'all'} for {self.seconds:.1f} s"


def draw_rounds(seed: int, count: int, size: int) -> list[Round]:
    """Each kind comes once before any comes again."""
    rng = random.Random(f"{seed} rounds")
    kinds: list[str] = []
    while len(kinds) < count:
        kinds += rng.sample(list(KINDS), len(KINDS))
    return [_draw(rng, kind, size) for kind in kinds[:count]]


def _draw(rng: random.Random, kind: str, size: int) -> Round:
    how_many = KINDS[kind].targets
    count = {"one": 1, "minority": rng.randint(1, (size - 1) // 2), "all": 0}[how_many]
    targets = rng.sample(range(1, size + 1), count)
    if targets and rng.random() < 0.5:
        targets[0] = LEADER
    return Round(kind, tuple(targets), rng.choice((0.1, 0.5, 1.0, 2.0, 3.0)))


async def carry_out(cluster: Cluster, round_: Round) -> tuple[int, ...]:
    """Break, wait, and leave it broken; who was hit in fact."""
    leader = await cluster.leader() or 1
    drawn = [leader if sid == LEADER else sid for sid in round_.targets]
    targets = tuple(dict.fromkeys(drawn)) or tuple(cluster.members)
    await KINDS[round_.kind].break_(cluster, targets)
    await asyncio.sleep(round_.seconds)
    return targets


# --- the kinds

Break = Callable[[Cluster, tuple[int, ...]], Awaitable[None]]


async def _kill(cluster: Cluster, targets: tuple[int, ...]) -> None:
    for sid in targets:
        cluster.kill(sid)


async def _end(cluster: Cluster, targets: tuple[int, ...]) -> None:
    for sid in targets:
        await cluster.end(sid)


async def _pause(cluster: Cluster, targets: tuple[int, ...]) -> None:
    for sid in targets:
        cluster.pause(sid)


async def _isolate(cluster: Cluster, targets: tuple[int, ...]) -> None:
    """From everybody else; several of them keep together: the halves of a partition."""
    cluster.proxy.block(_between(targets, _others(cluster, targets)))


async def _deafen(cluster: Cluster, targets: tuple[int, ...]) -> None:
    """They send and hear nothing."""
    cluster.proxy.block(_from_to(_others(cluster, targets), targets))


async def _mute(cluster: Cluster, targets: tuple[int, ...]) -> None:
    """They hear and cannot send."""
    cluster.proxy.block(_from_to(targets, _others(cluster, targets)))


async def _bridge(cluster: Cluster, targets: tuple[int, ...]) -> None:
    """Two halves that see each other only in one member, which sees both."""
    others = _others(cluster, targets)
    half = len(others) // 2
    cluster.proxy.block(_between(others[:half], others[half:]))


async def _kill_behind_partition(cluster: Cluster, targets: tuple[int, ...]) -> None:
    """Cut off first: what the others had from them may be all that there is."""
    await _isolate(cluster, targets)
    await asyncio.sleep(TICK_MS / 1000)
    await _kill(cluster, targets)


def _others(cluster: Cluster, targets: Sequence[int]) -> list[int]:
    return [sid for sid in cluster.members if sid not in targets]


def _from_to(senders: Sequence[int], receivers: Sequence[int]) -> list[Direction]:
    return [(a, b) for a in senders for b in receivers]


def _between(some: Sequence[int], others: Sequence[int]) -> list[Direction]:
    return _from_to(some, others) + _from_to(others, some)


@attrs.define(frozen=True)
class Kind:
    targets: str
    """one, minority or all."""
    break_: Break


KINDS: Final = {
    "kill -9": Kind("minority", _kill),
    "kill -9 of": Kind("all", _kill),
    "stop": Kind("one", _end),
    "SIGSTOP": Kind("minority", _pause),
    "cut off": Kind("minority", _isolate),
    "deafen": Kind("one", _deafen),
    "mute": Kind("one", _mute),
    "bridge by": Kind("one", _bridge),
    "cut off and kill -9": Kind("minority", _kill_behind_partition),
}
