"""How an ensemble comes to be, once, and who counts in it."""

from dataclasses import replace

import pytest

from tests.zab.network import World
from wire.peer import NO_CLUSTER
from zkpy.effects import EntryKind
from zkpy.zab.quorum import VoterSet
from zkpy.zab.zab import Zab

THREE = VoterSet.of([1, 2, 3])


def clusters(world: World) -> list[bytes]:
    """Ensembles of which there are full members."""
    identities = [disk.identity for disk in world.disks.values()]
    return sorted({i.cluster_id for i in identities if i is not None and not i.founding})


def change(zab: Zab, voters: VoterSet) -> None:
    zab.propose_voters(voters.members)


def founded(world: World, *sids: int) -> World:
    world.start(*sids)
    world.run_until(lambda: world.has_leader() and world.all_equal(), 5_000)
    leader = world.leader()
    assert leader is not None
    world.propose(leader, 3)
    world.run(1_000)
    assert world.all_equal() and len(world.history) >= 5
    return world


def test_three_fresh_members_serve_at_once() -> None:
    world = World(1, THREE, tick_ms=2000)
    began = world.now
    world.start()
    world.run_until(world.has_leader, 5_000)
    assert world.now - began < 1_500
    world.run(2_000)
    assert len(clusters(world)) == 1 and world.all_equal()
    kinds = [entry.kind for entry in world.nodes[1].zab.log.entries]
    assert kinds == [EntryKind.EPOCH, EntryKind.CONFIG]


def test_nobody_is_served_before_full_members_are_a_quorum() -> None:
    for seed in range(20):
        world = World(seed, THREE)
        world.start()
        world.run_until(world.has_leader, 5_000)
        identities = [disk.identity for disk in world.disks.values()]
        assert sum(i is not None and not i.founding for i in identities) >= 2


def test_two_of_three_wait_for_the_third_a_moment() -> None:
    world = World(2, THREE)
    world.start(1, 2)
    world.run(world.options.founding_wait_ms - 1)
    assert not world.has_leader() and not clusters(world)
    world.run_until(world.has_leader, 2_000)
    world.start(3)
    world.run_until(world.all_equal, 3_000)
    world.run(500)
    assert len(clusters(world)) == 1


def test_one_of_three_founds_nothing() -> None:
    world = World(3, THREE)
    world.start(1)
    world.run(60_000)
    assert not world.has_leader() and world.disks[1].identity is None


def test_founding_can_be_forbidden() -> None:
    world = World(4, THREE, autocreate=False)
    world.start()
    world.run(30_000)
    assert not world.has_leader() and not clusters(world)


@pytest.mark.parametrize("after", range(0, 700, 9))
def test_a_crash_half_way(after: int) -> None:
    """Of everybody, at any moment; also if one of them stays away when the others return."""
    world = World(after, THREE)
    world.start()
    world.run(after)
    for sid in world.sids:
        world.crash(sid)
    absent = after % 4
    world.start(*(sid for sid in world.sids if sid != absent))
    world.run(10_000)
    world.start()
    world.run_until(lambda: world.has_leader() and world.all_equal(), 20_000)
    assert len(clusters(world)) == 1


def test_a_seeded_server_grows() -> None:
    """A server with data, alone in its set, and two empty ones that are configured as three."""
    world = World(5, THREE)
    world.configured[1] = VoterSet.of([1])
    founded(world, 1)
    cluster = clusters(world)
    world.start(2, 3)
    world.run_until(world.all_equal, 10_000)
    assert clusters(world) == cluster
    seed = world.nodes[1]
    assert world.leader() is seed and seed.zab.voters.voters() == [1]
    assert not seed.zab.may_change_voters(VoterSet.of([4, 5]).members)
    world.run_until(lambda: seed.zab.may_change_voters(THREE.members), 1_000)
    seed.input(lambda: change(seed.zab, THREE))
    world.run(2_000)
    assert [node.zab.voters.voters() for node in world.up()] == [[1, 2, 3]] * 3
    world.crash(1)
    world.run_until(world.has_leader, 10_000)
    world.propose(world.leader() or seed)
    world.run(1_000)
    assert world.all_equal()


def test_a_wiped_member_is_synchronised_and_counts_again() -> None:
    world = founded(World(6, THREE))
    world.crash(1)
    world.wipe(1)
    world.start(1)
    world.run_until(world.all_equal, 10_000)
    world.run(500)
    assert world.nodes[1].is_member and len(clusters(world)) == 1
    world.crash(3)
    world.run_until(world.has_leader, 10_000)
    leader = world.leader()
    assert leader is not None
    world.propose(leader)
    world.run(1_000)
    assert world.all_equal()


def test_one_wiped_and_one_dead_for_good() -> None:
    """A quorum of what remains would be one member and one that knows nothing: nobody serves."""
    world = founded(World(7, THREE))
    known = list(world.history)
    world.crash(1)
    world.wipe(1)
    world.crash(2)
    world.start(1)
    world.run(60_000)
    assert not world.has_leader()
    assert world.disks[1].identity is None, "vetoed: it founds nothing"
    world.start(2)
    world.run_until(world.all_equal, 10_000)
    assert world.history[: len(known)] == known


def test_two_wiped_while_the_third_is_slow() -> None:
    """It answers within the wait: its veto keeps them from founding one without its data."""
    world = founded(World(8, THREE))
    for sid in world.sids:
        world.crash(sid)
    world.wipe(1)
    world.wipe(2)
    world.start(1, 2)
    world.run(world.options.founding_wait_ms // 2)
    world.start(3)
    world.run(60_000)
    assert not world.has_leader()
    assert world.disks[1].identity is None and world.disks[2].identity is None


def test_two_wiped_and_the_third_away_are_another_ensemble() -> None:
    """Beyond what can be known; but the third is never taken for theirs, nor its log cut."""
    world = founded(World(9, THREE))
    for sid in world.sids:
        world.crash(sid)
    world.wipe(1)
    world.wipe(2)
    world.history = []
    world.leaders = {}
    world.start(1, 2)
    world.run_until(world.has_leader, 10_000)
    identity, others = world.disks[3].identity, world.disks[1].identity
    assert identity is not None and others is not None
    assert others.cluster_id != identity.cluster_id
    kept = list(world.disks[3].current().entries)
    world.checks = False  # There are two histories now.
    world.start(3)
    world.run(30_000)
    third = world.nodes[3].zab
    assert not third.serving and third.leader in (None, 1, 2)
    assert world.disks[3].current().entries == kept
    assert world.disks[3].identity == identity


def test_a_blank_observer_joins() -> None:
    world = World(10, VoterSet.of([1, 2, 3], [4]))
    founded(world, 1, 2, 3)
    world.start(4)
    world.run_until(world.all_equal, 10_000)
    world.run(500)
    assert world.nodes[4].is_member


def test_half_a_copy_counts_as_none() -> None:
    """A wiped member that crashes while it is synchronised must not count with half a log."""
    for delay in range(0, 300, 7):
        world = founded(World(11, THREE, frame_bytes_max=1))
        leader = world.leader()
        assert leader is not None
        world.propose(leader, 20)
        world.run(1_000)
        world.crash(1)
        world.wipe(1)
        world.start(1)
        world.run(delay)
        world.crash(1)
        identity = world.disks[1].identity
        if identity is not None and identity.founding:
            assert identity.cluster_id == NO_CLUSTER
            whole = max(world.disks[sid].current().last for sid in (2, 3))
            assert world.disks[1].current().last <= whole
        elif identity is not None:
            assert world.disks[1].current().last >= world.history[-1][0]


def test_a_record_without_an_ensemble_vetoes_for_ever() -> None:
    world = founded(World(12, THREE))
    world.crash(1)
    identity = world.disks[1].identity
    assert identity is not None
    world.disks[1].identity = replace(identity, cluster_id=NO_CLUSTER, founding=True)
    world.crash(2)
    world.wipe(2)
    world.crash(3)
    world.start(1, 2)
    world.run(30_000)
    assert not world.has_leader()
