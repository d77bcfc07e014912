"""The watching of members: each rule is broken on purpose, from outside, and must be noticed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from wire.peer import Ack, AckEpoch, LeaderInfo
from zkpy.effects import (
    Append,
    DiskBatch,
    Entry,
    Ready,
    Recovered,
    Truncate,
    WriteIdentity,
    chain_next,
)
from zkpy.testing.ensemble import Member
from zkpy.testing.invariants import Invariants, is_quorum
from zkpy.testing.script import Stage
from zkpy.testing.world import Violation
from zkpy.zab.quorum import Members, Voter, VoterSet


class Scene:
    """Three members that serve and hold a few entries, all equal."""

    def __init__(self) -> None:
        self.stage = Stage()
        lines = ("start voters=3", "until leader", "until serving", "client a leader")
        for line in (*lines, "ask a create /x one", "ask a set /x two", "run 1s", "until equal"):
            self.stage.play(line)
        self.watch: Invariants = self.stage.invariants
        leader = self.stage.ensemble.leader()
        assert leader is not None
        self.leader = leader
        self.follower = next(m for m in self.stage.ensemble.alive if m is not leader)

    @property
    def last(self) -> Entry:
        return self.leader.replica.zab.member.window.entries[-1]

    @property
    def next(self) -> Entry:
        """One that could follow the last."""
        zxid, data = self.last.zxid + 1, b"next"
        return Entry(zxid, 0, data, chain_next(self.last.chain, zxid, 0, data))

    def recovered(self, member: Member, keep: int) -> Recovered:
        """What a boot would find if only the first `keep` entries were there."""
        window = member.replica.zab.member.window
        entries = window.entries[:keep]
        return Recovered(member.replica.zab.identity, entries=entries)


def other_tree(scene: Scene) -> None:
    replica = scene.follower.replica
    scene.watch.seen[scene.follower.sid].applied = 0
    replica.state._sum += 1
    scene.watch.stepped(scene.follower)


def applied_goes_back(scene: Scene) -> None:
    scene.follower.replica.state.zxid -= 1
    scene.watch.stepped(scene.follower)


def applied_but_not_durable(scene: Scene) -> None:
    scene.watch.disks[scene.follower.sid].log.truncate(scene.last.zxid - 1)
    scene.watch.seen[scene.follower.sid].applied = 0
    scene.watch.stepped(scene.follower)


def committed_without_a_quorum(scene: Scene) -> None:
    """As if this were the first member to apply it, with nobody else's disk behind it."""
    zxid = scene.last.zxid
    scene.watch._order.remove(zxid)
    for member in scene.stage.ensemble.alive:
        if member is not scene.leader:
            scene.watch.disks[member.sid].log.truncate(zxid - 1)
    scene.watch.seen[scene.leader.sid].applied = 0
    scene.watch.stepped(scene.leader)


def another_entry_under_the_same_zxid(scene: Scene) -> None:
    entry = replace(scene.last, chain=scene.last.chain ^ 1)
    batch = DiskBatch(99, [Append([entry], 0, 0, 0)])
    scene.watch.asked(scene.follower, Ready(disk=batch))


def entry_that_nobody_proposed(scene: Scene) -> None:
    batch = DiskBatch(99, [Append([scene.next], 0, 0, 0)])
    scene.watch.asked(scene.follower, Ready(disk=batch))


def hole_in_a_log(scene: Scene) -> None:
    entry = replace(scene.last, zxid=scene.last.zxid + 2)
    scene.watch.made_durable(scene.follower, DiskBatch(99, [Append([entry], 0, 0, 0)]))


def entry_on_another_log(scene: Scene) -> None:
    entry = replace(scene.next, data=b"not what its chain value says")
    scene.watch.made_durable(scene.follower, DiskBatch(99, [Append([entry], 0, 0, 0)]))


def committed_entries_cut_off(scene: Scene) -> None:
    scene.watch.made_durable(scene.follower, DiskBatch(99, [Truncate(scene.last.zxid - 1)]))


def promise_taken_back(scene: Scene) -> None:
    identity = scene.follower.replica.zab.identity
    assert identity is not None
    worse = replace(identity, accepted_epoch=0)
    scene.watch.made_durable(scene.follower, DiskBatch(99, [WriteIdentity(worse)]))


def promise_forgotten_in_memory(scene: Scene) -> None:
    scene.follower.replica.zab.member.accepted_epoch = 0
    scene.watch.stepped(scene.follower)


def promise_lost_in_a_crash(scene: Scene) -> None:
    found = scene.recovered(scene.follower, 100)
    assert found.identity is not None
    found.identity = replace(found.identity, accepted_epoch=0)
    scene.watch.booted(scene.follower, found)


def committed_entry_lost_in_a_crash(scene: Scene) -> None:
    scene.watch.booted(scene.follower, scene.recovered(scene.follower, 2))


def durable_entry_lost_in_a_crash(scene: Scene) -> None:
    """Not committed yet, but acknowledged it may have been."""
    scene.watch.made_durable(scene.follower, DiskBatch(99, [Append([scene.next], 0, 0, 0)]))
    scene.watch.booted(scene.follower, scene.recovered(scene.follower, 100))


def acknowledged_too_early(scene: Scene) -> None:
    ack = Ack(scene.last.zxid + 1)
    scene.watch.asked(scene.follower, Ready(peers=[(scene.leader.sid, ack)]))


def epoch_offered_too_early(scene: Scene) -> None:
    offer = LeaderInfo(99, bytes(16), False)
    scene.watch.asked(scene.leader, Ready(peers=[(scene.follower.sid, offer)]))


def two_leaders_of_one_epoch(scene: Scene) -> None:
    scene.watch.leaders[scene.leader.replica.zab.epoch] = scene.follower.sid
    scene.stage.play("send a set /x three")
    scene.stage.world.run_until(scene.stage.world.now + 1_000_000)


def answer_of_a_follower_that_is_cut_off(scene: Scene) -> None:
    scene.watch.seen[scene.follower.sid].heard[scene.leader.sid] = 0
    scene.watch.asked(scene.follower, Ready(clients=[(1, b"reply")]))


def answer_of_a_leader_that_is_cut_off(scene: Scene) -> None:
    scene.watch.seen[scene.leader.sid].heard.clear()
    scene.watch.asked(scene.leader, Ready(clients=[(1, b"reply")]))


def session_that_expires_too_early(scene: Scene) -> None:
    session = scene.stage.clients["a"].session
    scene.leader.replica._office._expiry._tracked[session].heard_ms = -100_000  # type: ignore[attr-defined]
    scene.leader.replica.clients.links.by_session.clear()
    scene.stage.world.run_until(scene.stage.world.now + 5_000_000)


def promise_given_twice(scene: Scene) -> None:
    epoch = scene.leader.replica.zab.epoch
    scene.watch.seen[scene.follower.sid].offered[9] = epoch
    scene.watch.disks[9] = scene.watch.disks[scene.leader.sid]
    promise = AckEpoch(True, [], 0)
    scene.watch.asked(scene.follower, Ready(peers=[(9, promise)]))


def epoch_opened_on_the_word_of_those_who_do_not_count(scene: Scene) -> None:
    """As if all who called were damaged."""
    for member in scene.stage.ensemble.alive:
        scene.watch.disks[member.sid].rotten = True
    scene.stage.play(f"kill {scene.leader.sid}")
    scene.stage.world.run_until(scene.stage.world.now + 1_000_000)


def answer_of_one_that_does_not_serve(scene: Scene) -> None:
    scene.follower.replica.zab.serving = False
    scene.watch.seen[scene.follower.sid].served -= 100_000
    scene.watch.asked(scene.follower, Ready(clients=[(1, b"reply")]))


def session_that_expires_by_a_pause_of_the_leader(scene: Scene) -> None:
    scene.leader.replica._office._expiry.extend = lambda _pause_ms, _heard: None  # type: ignore[attr-defined]
    scene.stage.play("ask a get /x")
    scene.stage.clients["a"].connects = False
    scene.stage.clients["a"].drop()
    world, leader = scene.stage.world, scene.leader
    world.run_until(world.now + 3_500_000)
    leader.pause()
    world.run_until(world.now + 900_000)
    leader.resume()
    world.run_until(world.now + 100_000)


BROKEN: list[tuple[str, Callable[[Scene], None]]] = [
    ("A12", other_tree),
    ("A2", applied_goes_back),
    ("A11", applied_but_not_durable),
    ("A9", committed_without_a_quorum),
    ("A1", another_entry_under_the_same_zxid),
    ("A1", entry_that_nobody_proposed),
    ("A10", hole_in_a_log),
    ("A10", entry_on_another_log),
    ("A9", committed_entries_cut_off),
    ("A8", promise_taken_back),
    ("A8", promise_forgotten_in_memory),
    ("A8", promise_lost_in_a_crash),
    ("A9", committed_entry_lost_in_a_crash),
    ("D1", durable_entry_lost_in_a_crash),
    ("D1", acknowledged_too_early),
    ("D2", epoch_offered_too_early),
    ("A7", two_leaders_of_one_epoch),
    ("C13", answer_of_a_follower_that_is_cut_off),
    ("C13", answer_of_a_leader_that_is_cut_off),
    ("C11", session_that_expires_too_early),
    ("A7", promise_given_twice),
    ("A7", epoch_opened_on_the_word_of_those_who_do_not_count),
    ("C13", answer_of_one_that_does_not_serve),
    ("C11", session_that_expires_by_a_pause_of_the_leader),
]
PATCHING = (session_that_expires_by_a_pause_of_the_leader,)


def case(rule: str, spoil: Callable[[Scene], None]) -> Any:
    marks = [pytest.mark.patches] if spoil in PATCHING else []
    return pytest.param(rule, spoil, id=f"{rule}-{spoil.__name__}", marks=marks)


@pytest.mark.parametrize(("rule", "spoil"), [case(*each) for each in BROKEN])
def test_a_broken_rule_is_noticed(rule: str, spoil: Callable[[Scene], None]) -> None:
    scene = Scene()
    with pytest.raises(Violation) as caught:
        spoil(scene)
    assert caught.value.rule == rule, caught.value


def test_nothing_is_noticed_where_nothing_is_wrong() -> None:
    scene = Scene()
    for member in scene.stage.ensemble.alive:
        scene.watch.stepped(member)
        scene.watch.asked(member, Ready())
    assert scene.watch.acks_checked > 0
    assert scene.watch.promises_checked > 0
    scene.watch.booted(scene.follower, scene.recovered(scene.follower, 100))


def test_a_quorum_is_counted_here_as_zab_counts_it() -> None:
    """By another formula: every set of present servers, with weights and groups."""
    shapes = (
        {1: Voter(), 2: Voter(), 3: Voter()},
        {1: Voter(), 2: Voter(), 3: Voter(), 4: Voter()},
        {1: Voter(3), 2: Voter(1), 3: Voter(1)},
        {1: Voter(2), 2: Voter(0), 3: Voter(1), 4: Voter(2)},
        {1: Voter(1, 1), 2: Voter(1, 1), 3: Voter(2, 2), 4: Voter(1, 3), 5: Voter(0, 4)},
    )
    for voters in shapes:
        counting = VoterSet(Members(voters))
        for bits in range(1 << 6):
            present = [sid for sid in range(6) if bits >> sid & 1]
            assert is_quorum(present, counting) == counting.won(present), (voters, present)
