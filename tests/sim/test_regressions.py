"""What the simulator found in zkpy itself: each bug as a scene of its own.

The seeds that found them are in docs/reliability.md; a seed is another run whenever the
simulator learns something new, so it is the scene that stays.
"""

import attrs

from tests.sim.raw import TICK_MS, Raw
from tests.sim.stages import begin, run
from wire import records
from wire.codes import OpCode
from wire.records import OPEN_ACL
from zkpy.testing.histories import Op, check
from zkpy.testing.script import Stage
from zkpy.testing.world import MS, SECOND

TIMEOUT = 20 * TICK_MS * MS
"""Of sessions of scripted clients, in microseconds."""


def sessions(stage: Stage) -> int:
    leader = stage.ensemble.leader()
    assert leader is not None
    return len(leader.replica.state.sessions)


def leave(stage: Stage, name: str) -> None:
    """Drop the connection for good; the session lives on for its time-out."""
    stage.clients[name].connects = False
    stage.clients[name].drop()


def lives_a_full_timeout_after_its_last_word(stage: Stage) -> None:
    run(stage, TIMEOUT * 3 // 4)
    stage.play("ask a get /")
    leave(stage, "a")
    run(stage, TIMEOUT - 50 * MS)
    assert sessions(stage) == 1, "expired too early"
    run(stage, 3 * TICK_MS * MS)
    assert sessions(stage) == 0, "not expired at all"


def test_what_a_client_said_before_its_connection_went_counts() -> None:
    """C11: the leader asked live connections only when a time-out came due."""
    lives_a_full_timeout_after_its_last_word(begin("client a leader", voters=1))


def test_what_it_said_to_a_follower_counts_too() -> None:
    stage = begin("client a 1", voters=3)
    lives_a_full_timeout_after_its_last_word(stage)


def test_a_silent_connection_does_not_keep_its_session_alive() -> None:
    """The newest touch that was relayed to the leader was relayed again with every ping."""
    stage = begin("client a 1", voters=3)
    client = stage.clients["a"]
    (socket,) = stage.ensemble.network.sockets_of(client.host)
    client.connects = False
    stage.ensemble.network.cut(socket, half_open=True)
    run(stage, TIMEOUT + 4 * TICK_MS * MS)
    assert sessions(stage) == 0


def test_a_session_is_known_before_the_leader_itself_has_it_on_disk() -> None:
    """Two quick followers commit createSession; the leader's own disk is slow, so it has not
    applied it when the first write, or the session on another server, arrives."""
    stage = begin(voters=3)
    leader = stage.ensemble.leader()
    assert leader is not None
    first, second = [sid for sid in stage.ensemble.members if sid != leader.sid]
    leader.slow_disk = 1000
    stage.play("logs")
    assert stage.play(f"client a {first}")[-1] == f"a is connected to {first}"
    assert stage.play("ask a create /x")[-1].endswith("/x")
    stage.clients["a"]._servers = [second]
    session = stage.clients["a"].session
    stage.clients["a"].drop()
    run(stage, SECOND // 5)
    assert stage.clients["a"].session == session
    assert stage.play("ask a get /x")[-1].endswith("version 0")


def test_a_leader_serves_only_from_its_whole_log() -> None:
    """Its followers' disks were quicker with (e,1) than its own: judging requests then would
    be judging them by a tree without the history."""
    stage = begin("client a leader", "ask a create /x", voters=5)
    old = stage.ensemble.leader()
    assert old is not None
    heir = max(sid for sid in stage.ensemble.members if sid != old.sid)
    stage.ensemble.members[heir].slow_disk = 1000
    for i in range(5):
        stage.play(f"send a set /x {i}")
    run(stage, 20 * MS)
    stage.play(f"kill {old.sid}")
    for _ in range(2000):
        run(stage, 2 * MS)
        leader = stage.ensemble.leader()
        if leader is not None:
            zab = leader.replica.zab
            assert leader.replica.state.zxid >> 32 == zab.epoch
    assert stage.ensemble.leader() is not None


def test_a_write_left_behind_never_overtakes_later_ones() -> None:
    """C12: a late attempt to come back to a server made that server the owner again, and a
    write still waiting in the old connection there was let through."""
    stage = begin(voters=3)
    leader = stage.ensemble.leader()
    assert leader is not None
    there, elsewhere = [sid for sid in stage.ensemble.members if sid != leader.sid]

    old = Raw(stage, -9, there, lambda raw: raw.connect())
    run(stage, 100 * MS)
    assert old.granted is not None
    session, password = old.granted.session_id, old.granted.password
    assert password is not None
    old.record.session = session
    old.ask(1, OpCode.CREATE, records.CreateRequest("/x", b"", list(OPEN_ACL), 0))
    run(stage, 100 * MS)
    seen = old.record.ops[0].zxid

    # The write is stuck, and so is, a moment ahead of it, an attempt to come back.
    late = Raw(stage, -9, there, lambda raw: None)
    run(stage, 10 * MS)
    late.socket.stall(500 * MS)
    late.connect(session, password, seen)
    old.socket.stall(500 * MS + 200)
    old.ask(2, OpCode.SET_DATA, records.SetDataRequest("/x", b"early", -1))

    new = Raw(stage, -9, elsewhere, lambda raw: raw.connect(session, password, seen))
    run(stage, 100 * MS)
    assert new.granted is not None
    assert new.granted.timeout_ms > 0
    new.ask(3, OpCode.SET_DATA, records.SetDataRequest("/x", b"later", -1))
    run(stage, 2 * SECOND)

    assert [op.error for op in new.record.stream if isinstance(op, Op)] == [0]
    check(stage.history)
    node = leader.replica.state.tree.nodes["/x"]
    assert b"later" in node


def test_forward_numbers_go_on_through_a_change_of_role() -> None:
    """A write of the role before is committed when the follower serves anew: it must not be
    taken for that of whoever was given the same number since."""
    stage = begin(voters=3)
    leader = stage.ensemble.leader()
    assert leader is not None
    gone, server = [sid for sid in stage.ensemble.members if sid != leader.sid]
    stage.play(f"kill {gone}")
    first = Raw(stage, -9, server, lambda raw: raw.connect())
    run(stage, 100 * MS)
    assert first.granted is not None
    first.record.session = first.granted.session_id
    leader.slow_disk = 1000
    first.ask(1, OpCode.CREATE, records.CreateRequest("/x", b"", list(OPEN_ACL), 0))
    run(stage, 5 * MS)
    for socket in stage.ensemble.network.sockets_of(server):
        if socket.remote == leader.sid:
            stage.ensemble.network.cut(socket)
    run(stage, 10 * MS)
    follower = stage.ensemble.members[server].replica
    while not follower.zab.serving:
        run(stage, MS)
    assert follower.state.zxid < follower.zab.log.last, "its write is not committed yet"
    others = [Raw(stage, -10 - n, server, lambda raw: raw.connect()) for n in range(3)]
    for _ in range(2000):
        run(stage, MS)
        granted = [raw.granted.session_id for raw in others if raw.granted is not None]
        assert all(session in follower.state.sessions for session in granted)
    assert len(granted) == len(others)
    for raw, session in zip(others, granted, strict=True):
        raw.record.session = session
    assert "/x" in follower.state.tree.nodes
    check(stage.history)


def test_a_damaged_member_makes_no_image_of_what_is_left() -> None:
    """The sound beginning of its log, replayed, made an image due: the refusal of that ended the
    process, at each start anew, before any leader could mend it."""
    stage = begin("client a 1", voters=3)
    for number in range(8):
        stage.play(f"ask a create /{number} x")
    stage.play("run 1s")
    stage.play("kill 3")
    member = stage.member("3")
    path, offset, _ = member.places_to_rot()[-1]
    member.fs.flip(path, offset)
    stage.invariants.rotted(member)
    member.setup = attrs.evolve(member.setup, snap_entries=2)
    stage.play("boot 3")
    assert member.replica.zab.suspect
    stage.play("until serving")
    assert not member.replica.zab.suspect


def test_a_sync_is_not_answered_to_whoever_has_its_number_next() -> None:
    """C5: a server's new process numbers from the same start as the one that asked."""
    stage = begin(voters=3, observers=1, sync_ticks=20)
    observer = stage.ensemble.members[4]
    leader = stage.ensemble.leader()
    assert leader is not None
    followers = [sid for sid in stage.ensemble.setup.voters if sid != leader.sid]
    first = Raw(stage, -9, observer.sid, lambda raw: raw.connect())
    run(stage, 200 * MS)
    assert first.granted is not None
    session, password = first.granted.session_id, first.granted.password
    assert password is not None
    first.record.session = session
    for sid in followers:
        stage.play(f"pause {sid}")
    first.ask(1, OpCode.SYNC, records.SyncRequest("/"))
    run(stage, 200 * MS)
    assert not first.record.ops[0].is_known, "no quorum, no answer"
    stage.play(f"kill {observer.sid}")
    run(stage, 50 * MS)
    stage.play(f"boot {observer.sid}")
    run(stage, SECOND)
    assert observer.replica.zab.serving
    again = Raw(stage, -9, observer.sid, lambda raw: raw.connect(session, password))
    run(stage, 200 * MS)
    assert again.granted is not None
    again.record.session = session
    for xid in (1, 2, 3):
        body = records.CreateRequest(f"/x{xid}", b"", list(OPEN_ACL), 0)
        again.ask(xid, OpCode.CREATE, body)
    run(stage, 100 * MS)
    for sid in followers:
        stage.play(f"resume {sid}")
    run(stage, 2 * SECOND)
    assert [(op.xid, op.error) for op in again.record.ops] == [(1, 0), (2, 0), (3, 0)]
    check(stage.history)
