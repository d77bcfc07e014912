"""Whole ensembles of Zabs under seeded faults: nothing diverges, nothing is lost, all comes back."""

import random

import pytest

from tests.zab.network import World
from zkpy.zab.quorum import VoterSet

LIVENESS_MS = 60_000


def fault(world: World, rng: random.Random) -> None:
    """One thing goes wrong, or is put right."""
    sid = rng.choice(world.sids)
    kind = rng.randrange(10)
    if kind < 3:
        world.crash(sid)
    elif kind < 6:
        world.start(sid)
    elif kind == 6:
        world.isolate(rng.sample(world.sids, rng.randrange(1, len(world.sids))))
    elif kind == 7:
        world.block((sid, rng.choice(world.sids)))
    elif kind == 8:
        links = [link for node in world.nodes.values() if node.alive for link in node.links.values()]
        if links:
            world.cut(rng.choice(links))
    else:
        world.heal()
        world.loss = rng.choice([0.0, 0.1, 0.3])


def shake(world: World, rng: random.Random, rounds: int) -> None:
    for _ in range(rounds):
        world.run(rng.choice([5, 50, 400, 2000]))
        leader = world.leader()
        if leader and rng.random() < 0.8:
            world.propose(leader, rng.randrange(1, 6))
        if rng.random() < 0.5:
            fault(world, rng)


def come_back(world: World) -> None:
    world.heal()
    world.start()
    world.run_until(lambda: world.leader() is not None, LIVENESS_MS)
    leader = world.leader()
    assert leader is not None
    before = len(world.history)
    world.propose(leader, 3)
    world.run_until(lambda: world.all_equal() and len(world.history) >= before, LIVENESS_MS)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("number", range(12))
def test_faults_then_liveness(seed: int, size: int, number: int) -> None:
    rng = random.Random(f"{seed} {size} {number}")
    options = {"window_bytes_max": rng.choice([2_000, 1 << 20])}
    world = World(rng.getrandbits(32), VoterSet.of(range(1, size + 1)), **options)
    world.start()
    shake(world, rng, 80)
    come_back(world)
