"""Ensembles of Zabs under seeded faults: nothing diverges, nothing is lost, all comes back."""

import random
from collections.abc import Callable
from functools import partial

import pytest

from tests.zab.network import Node, World
from zkpy.zab.quorum import Members, VoterSet

LIVENESS_MS = 60_000


def crash(world: World, rng: random.Random) -> None:
    world.crash(rng.choice(world.sids))


def restart(world: World, rng: random.Random) -> None:
    world.start(rng.choice(world.sids))


def isolate(world: World, rng: random.Random) -> None:
    world.isolate(rng.sample(world.sids, rng.randrange(1, len(world.sids))))


def cut_one_way(world: World, rng: random.Random) -> None:
    world.block((rng.choice(world.sids), rng.choice(world.sids)))


def reset_link(world: World, rng: random.Random) -> None:
    links = [link for node in world.up() for link in node.links.values()]
    if links:
        world.cut(rng.choice(links))


def change_network(world: World, rng: random.Random) -> None:
    world.heal()
    world.loss = rng.choice([0.0, 0.1, 0.3])


def pause(world: World, rng: random.Random) -> None:
    world.pause(rng.choice(world.sids), rng.choice([50, 300, 1500, 5000]))


def damage(world: World, rng: random.Random) -> None:
    world.damage(rng)


def change_voters(world: World, rng: random.Random) -> None:
    leader = world.leader()
    if leader:
        voters = sorted(rng.sample(world.sids, rng.randrange(1, len(world.sids) + 1)))
        observers = [sid for sid in world.sids if sid not in voters]
        members = VoterSet.of(voters, observers).members
        leader.input(lambda: propose_voters(leader, members))


def propose_voters(leader: Node, members: Members) -> None:
    if leader.zab.may_change_voters(members):
        leader.zab.propose_voters(members)


def crash_amid(world: World, rng: random.Random) -> None:
    """Some crash while proposals are on their way, and others come back: a quorum changes."""
    leader = world.leader()
    if leader:
        world.propose(leader, rng.randrange(1, 4))
        world.run(rng.choice([3, 10, 30, 100, 300]))
    for sid in rng.sample(world.sids, rng.randrange(1, len(world.sids) + 1)):
        world.crash(sid)
    world.start(*rng.sample(world.sids, rng.randrange(1, len(world.sids) + 1)))


Fault = Callable[[World, random.Random], None]
PLAIN: list[Fault] = [crash, crash, restart, restart, restart, isolate, cut_one_way, reset_link]
PLAIN += [change_network, pause, crash_amid, crash_amid, crash_amid]


def shake(world: World, rng: random.Random, rounds: int, faults: list[Fault]) -> None:
    for _ in range(rounds):
        world.run(rng.choice([5, 50, 400, 2000]))
        leader = world.leader()
        if leader and rng.random() < 0.8:
            world.propose(leader, rng.randrange(1, 6))
        if rng.random() < 0.5:
            rng.choice(faults)(world, rng)


def come_back(world: World) -> None:
    """A14: everything is put right; a leader serves, a write commits, everybody catches up."""
    world.heal()
    world.start()
    for node in world.up():
        if node.backlog is not None:
            node.resume()
    world.run_until(lambda: world.leader() is not None, LIVENESS_MS)
    leader = world.leader()
    assert leader is not None
    before = len(world.history)
    world.propose(leader, 3)
    world.run_until(lambda: world.all_equal() and len(world.history) >= before, LIVENESS_MS)


def shaken_world(name: str, voters: VoterSet, faults: list[Fault], rounds: int) -> World:
    """Each seed draws its own sizes and speeds: small ones reach the rare branches."""
    rng = random.Random(name)
    world = World(
        rng.getrandbits(32),
        voters,
        window_bytes_max=rng.choice([2_000, 1 << 20]),
        inflight_bytes_max=rng.choice([1_000, 1 << 20]),
        frame_bytes_max=rng.choice([500, 1 << 20]),
    )
    world.slow_disk = rng.choice([3, 20, 200])
    world.start()
    shake(world, rng, rounds, faults)
    come_back(world)
    return world


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("number", range(10))
def test_faults_then_liveness(seed: int, size: int, number: int) -> None:
    voters = VoterSet.of(range(1, size + 1))
    shaken_world(f"{seed} {size} {number}", voters, PLAIN, 80)


@pytest.mark.parametrize("number", range(10))
def test_damage_and_observers(seed: int, number: int) -> None:
    voters = VoterSet.of([1, 2, 3], [4])
    shaken_world(f"{seed} damage {number}", voters, [*PLAIN, damage, damage], 80)


@pytest.mark.parametrize("number", range(10))
def test_changing_voters(seed: int, number: int) -> None:
    voters = VoterSet.of([1, 2, 3], [4, 5])
    faults = [*PLAIN, change_voters, change_voters, change_voters]
    shaken_world(f"{seed} voters {number}", voters, faults, 80)


def name_leaders(world: World, rng: random.Random) -> None:
    """In place of an election: any leader for any looking member, several at once."""
    for node in world.up():
        if node.backlog is None and rng.random() < 0.7:
            leader = rng.choice(world.sids)
            node.input(partial(node.zab.decide, leader, world.now))


@pytest.mark.parametrize("number", range(10))
def test_elections_are_only_a_hint(seed: int, number: int) -> None:
    rng = random.Random(f"{seed} oracle {number}")
    world = World(rng.getrandbits(32), VoterSet.of([1, 2, 3]), elects=False, init_ticks=3)
    world.start()
    shake(world, rng, 150, [*PLAIN, *[name_leaders] * 10])
    world.heal()
    world.start()
    for _ in range(20):
        world.run(3_000)
        best = world.leader() or max(world.up(), key=lambda n: (n.zab.log.last, n.sid))
        for node in world.up():
            node.input(partial(node.zab.decide, best.sid, world.now))
        world.propose(best)
    assert world.all_equal() and world.history
