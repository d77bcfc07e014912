"""What members of an ensemble say about themselves and each other."""

from tests.sim.raw import Raw
from tests.sim.stages import begin, followers_of, leader_of, play, run
from tests.sim.test_leader_serves import reconfig
from tests.sim.test_sessions import create, opened
from tests.sim.test_synchronisation import FOREVER
from tests.zab.scripted import vote_from
from wire import records
from wire.codes import OpCode
from wire.peer import Role
from zkpy.replica.status import Status, status_of
from zkpy.testing.script import Stage
from zkpy.testing.setup import SUPERUSER
from zkpy.testing.world import MS, SECOND


def status(stage: Stage, sid: int) -> Status:
    return status_of(stage.ensemble.members[sid].replica)


def write(raw: Raw, count: int) -> None:
    for xid in range(1, count + 1):
        raw.ask(xid, *create(f"/{raw.stage.world.now}-{xid}"))
    run(raw.stage, SECOND)


def test_what_was_proposed_here_was_received_there() -> None:
    stage = begin(voters=3, observers=1)
    leader, learners = leader_of(stage).sid, [*followers_of(stage), 4]
    before = {sid: status(stage, sid).counts for sid in stage.ensemble.members}
    assert all(counts.looked == 1 for counts in before.values())
    write(opened(stage, leader), 10)
    here, was = status(stage, leader).counts, before[leader]
    assert (here.proposed - was.proposed, here.committed - was.committed) == (11, 11)
    assert (here.received, here.diffs + here.snaps) == (0, 3)
    for sid in learners:
        there, was = status(stage, sid).counts, before[sid]
        assert (there.received - was.received, there.told - was.told) == (11, 11)
        assert (there.proposed, there.diffs, there.snaps) == (0, 0, 0)
        assert status(stage, sid).epoch == 1


def test_everybody_knows_the_leader_and_how_far_he_is() -> None:
    stage = begin(voters=3, observers=1)
    leader = leader_of(stage).sid
    for sid in stage.ensemble.members:
        there = status(stage, sid)
        assert (there.leader, there.phase) == (leader, "broadcast")
        assert there.observers == ((4,) if sid == leader else ())
    play(stage, f"kill {leader}", "run 10ms")
    left = [sid for sid in stage.ensemble.members if sid != leader]
    assert {(status(stage, sid).leader, status(stage, sid).phase) for sid in left} == {
        (None, "election")
    }


def test_counts_outlive_a_leadership() -> None:
    stage = begin(voters=3)
    old = leader_of(stage).sid
    write(opened(stage, old), 10)
    others = followers_of(stage)
    before = {sid: status(stage, sid).counts for sid in others}
    play(stage, f"kill {old}", "until leader", f"boot {old}", "until serving")
    new = leader_of(stage).sid
    write(opened(stage, new), 5)
    for sid in others:
        counts, was = status(stage, sid).counts, before[sid]
        assert (counts.looked, was.looked) == (2, 1)
        assert counts.received - was.received == (0 if sid == new else counts.told - was.told)
        assert (counts.proposed >= 6) == (sid == new)
        assert status(stage, sid).epoch == 2


def test_who_is_behind() -> None:
    stage = begin(voters=3)
    leader, slow = leader_of(stage), followers_of(stage)[0]
    assert leader.replica.zab.lag == 0
    raw = opened(stage, leader.sid)
    stage.ensemble.members[slow].slow_disk = 10_000
    for xid in range(1, 8):
        raw.ask(xid, *create(f"/{xid}"))
    run(stage, 500 * MS)
    assert status(stage, leader.sid).lag == 7
    assert status(stage, slow).lag == 7, "committed by the other two, and not on its own disk"
    assert status(stage, followers_of(stage)[1]).lag == 0


def test_observers_are_those_who_serve() -> None:
    """One that was removed learns on, and serves nobody."""
    stage = begin(voters=3, observers=1, reconfig=1)
    leader, removed = leader_of(stage).sid, followers_of(stage)[0]
    said = status(stage, leader)
    assert (said.learners, said.synced_followers, said.synced_observers) == (3, 2, 1)
    raw = opened(stage, leader)
    raw.ask(1, OpCode.AUTH, records.AuthPacket(0, "digest", SUPERUSER))
    reconfig(raw, 2, leaving=str(removed))
    said = status(stage, leader)
    assert (said.learners, said.synced_followers, said.synced_observers) == (3, 1, 1)
    assert [status(stage, sid).votes for sid in (leader, removed, 4)] == [True, False, False]


def test_a_leader_knows_since_when_it_leads() -> None:
    stage = begin(voters=3)
    begun = status(stage, leader_of(stage).sid).leading_since_ms
    assert begun is not None
    run(stage, SECOND)
    assert status(stage, leader_of(stage).sid).leading_since_ms == begun
    assert status(stage, followers_of(stage)[0]).leading_since_ms is None


def test_who_is_left_alone_among_strangers_says_so() -> None:
    """Behind `not currently serving requests`, where an operator looks first."""
    stage = begin(voters=3)
    left, other = followers_of(stage)
    stage.ensemble.restart_mean = FOREVER
    play(stage, f"kill {leader_of(stage).sid}", f"kill {other}", "run 30s")
    replica = stage.ensemble.members[left].replica
    assert status(stage, left).mode == "" and status(stage, left).why_idle is None
    vote = vote_from(
        replica.zab, other, cluster_id=b"another ensemble", role=Role.LEADING, leader=other
    )
    replica.receive_vote(other, vote, replica.office.now)
    why = status(stage, left).why_idle
    assert why is not None and f"server {other} belongs to another ensemble" in why


def test_how_long_there_was_no_leader() -> None:
    """Each member's own time, from the loss to the service; the election is a part of it."""
    stage = begin(voters=3, observers=1)
    old = leader_of(stage).sid
    others = [*followers_of(stage), 4]
    for sid in (old, *others):
        timings = status(stage, sid).timings
        assert timings.election.count == timings.unavailable.count == 1
        assert timings.leader_unavailable.count == (sid == old)
        assert timings.follower_sync.count == (sid not in (old, 4))
        assert timings.observer_sync.count == (sid == 4)
    stage.ensemble.restart_mean = FOREVER
    lost = stage.world.now
    play(stage, f"kill {old}", "until leader", "until serving")
    took_ms = (stage.world.now - lost) // MS
    new = leader_of(stage).sid
    for sid in others:
        timings = status(stage, sid).timings
        assert timings.unavailable.count == 2
        assert 0 < timings.election.last <= timings.unavailable.last <= took_ms
        assert timings.leader_unavailable.count == (sid == new)
    assert status(stage, new).timings.leader_unavailable.last > 0


def test_elections_that_lead_nowhere_are_one_time_without_service() -> None:
    stage = begin(voters=3)
    left, other = followers_of(stage)
    stage.ensemble.restart_mean = FOREVER
    play(stage, f"kill {leader_of(stage).sid}", f"kill {other}", "run 60s", f"boot {other}")
    play(stage, "until leader", "until serving")
    timings = status(stage, left).timings
    assert timings.unavailable.count == 2
    assert timings.unavailable.last >= 50_000


def test_how_late_members_acknowledge() -> None:
    stage = begin(voters=3, observers=1)
    leader, slow = leader_of(stage).sid, followers_of(stage)[0]
    run(stage, 30 * SECOND)
    raw = opened(stage, leader)
    stage.ensemble.members[slow].slow_disk = 100
    for xid in range(1, 6):
        raw.ask(xid, *create(f"/{xid}"))
        run(stage, SECOND)
    timings = status(stage, leader).timings
    acks = {sid: timings.acks_of(sid).summary() for sid in stage.ensemble.members}
    assert all(5 <= each.count <= 7 for each in (*acks.values(), timings.quorum_ack.summary()))
    quick = max(each.greatest for sid, each in acks.items() if sid != slow)
    assert timings.quorum_ack.summary().greatest < SECOND // MS, "nobody waits where nobody writes"
    assert quick < acks[slow].greatest
    assert not any(status(stage, sid).timings.acks_of(leader).summary().count for sid in (slow, 4))


def test_what_was_counted_before_a_reset_counts_no_more() -> None:
    stage = begin(voters=3)
    leader = leader_of(stage)
    raw = opened(stage, leader.sid)
    for member in stage.ensemble.members.values():
        member.replica.reset_counts()
    counts, timings = status(stage, leader.sid).counts, status(stage, leader.sid).timings
    assert counts.looked == counts.proposed == counts.committed == counts.diffs == 0
    assert (timings.election.count, timings.quorum_ack.summary().count) == (0, 0)
    raw.ask(1, *create("/a"))
    run(stage, SECOND)
    assert (status(stage, leader.sid).counts.proposed, timings.quorum_ack.summary().count) == (1, 1)
    follower = status(stage, followers_of(stage)[0])
    assert (follower.counts.received, follower.counts.told, follower.counts.looked) == (1, 1, 0)


def test_the_leader_counts_who_expires() -> None:
    stage = begin(voters=3)
    leader, other = leader_of(stage).sid, followers_of(stage)[0]
    raw = opened(stage, other)
    raw.socket.close()
    run(stage, 120 * SECOND)
    assert status(stage, leader).served.sessions_expired == 1
    assert status(stage, other).served.sessions_expired == 0
