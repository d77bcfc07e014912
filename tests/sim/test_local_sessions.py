"""T-ses-3 (2725, 3471): local sessions in an ensemble, above all those that become global."""

import itertools
from typing import Any

import cbor2
import pytest

from tests.sim.raw import TICK_MS, Raw
from tests.sim.stages import begin, followers_of, leader_of, play, run, settle
from tests.sim.test_sessions import (
    SHORT_MS,
    assert_nothing_is_left,
    back,
    create,
    errors,
    everywhere,
    opened,
    set_data,
)
from wire import records
from wire.codes import CreateMode, ErrorCode, OpCode
from wire.peer import Upper
from zkpy.replica.local import LocalClients
from zkpy.testing.script import Stage
from zkpy.testing.setup import SUPERUSER, line_of
from zkpy.testing.world import MS, SECOND

EPHEMERAL = create("/e", CreateMode.EPHEMERAL)
CLOSE: tuple[int, Any] = (OpCode.CLOSE_SESSION, None)


def local(stage: Stage) -> list[int]:
    members = stage.ensemble.members.values()
    return [member.replica.clients.local_sessions for member in members if member.alive]


def assert_all_is_gone(stage: Stage) -> None:
    assert_nothing_is_left(stage)
    assert local(stage) == [0] * len(stage.ensemble.alive)


@pytest.mark.parametrize("server", [1, 2, 3, 4])
def test_only_its_server_knows_a_local_session(server: int) -> None:
    """On leader, follower and observer alike; neither the log nor the pings tell of it."""
    stage = begin(voters=3, observers=1, local_sessions=1)
    last = leader_of(stage).replica.state.zxid
    raw = opened(stage, server)
    member = stage.ensemble.members[server]
    assert local(stage) == [int(each == server) for each in stage.ensemble.members]
    assert member.replica.office.ping_payload() == b""
    run(stage, SECOND)
    assert leader_of(stage).replica.state.zxid == last
    raw.ask(1, *create("/x"))
    run(stage, 200 * MS)
    raw.ask(2, *CLOSE)
    run(stage, 10 * MS)  # before the next ping
    assert errors(raw) == [0, 0]
    del raw.record.stream[-1], raw.record.ops[-1]  # the checkers look for each write in the log
    assert member.replica.office.ping_payload() == b""
    assert_all_is_gone(stage)
    settle(stage)


def test_it_cannot_move_but_comes_back() -> None:
    stage = begin(voters=3, local_sessions=1)
    here, there = followers_of(stage)
    raw = opened(stage, here)
    raw.ask(1, *create("/x"))
    run(stage, 100 * MS)
    refused = back(stage, raw, there)
    assert refused.granted is not None and refused.granted.timeout_ms == 0
    again = back(stage, raw, here)
    assert again.granted is not None and again.granted.timeout_ms == 20 * TICK_MS
    again.ask(2, *set_data("/x", b"two"))
    run(stage, 100 * MS)
    assert errors(again) == [0]
    again.socket.close()
    run(stage, 6 * SECOND)
    assert_all_is_gone(stage)


def test_it_moves_once_it_is_global() -> None:
    stage = begin(voters=3, local_sessions=1)
    here, there = followers_of(stage)
    raw = opened(stage, here)
    raw.ask(1, *EPHEMERAL)
    run(stage, 100 * MS)
    assert local(stage) == [0, 0, 0]
    moved = back(stage, raw, there)
    moved.ask(2, *set_data("/e", b"two"))
    raw.ask(3, *set_data("/e", b"left behind"))
    run(stage, 100 * MS)
    assert errors(moved) == [0]
    moved.ask(4, *CLOSE)
    run(stage, 200 * MS)
    assert_all_is_gone(stage)
    settle(stage)


def test_it_outlives_a_change_of_leader() -> None:
    stage = begin(voters=3, local_sessions=1)
    here, _ = followers_of(stage)
    raw = opened(stage, here)
    play(stage, "kill leader", "until leader", "run 300ms")
    again = back(stage, raw, here)
    again.ask(1, *EPHEMERAL)
    again.ask(2, OpCode.GET_DATA, records.GetDataRequest("/e", False))
    run(stage, 200 * MS)
    assert errors(again) == [0, 0]
    settle(stage)


# --- the upgrade beside the end of its session

ENDS = ["close", "cut", "cut and back", "silence"]


def end(stage: Stage, raw: Raw, how: str) -> None:
    if how == "close":
        raw.ask(9, *CLOSE)
    elif how != "silence":
        raw.socket.close()
    if how == "cut and back":
        again = back(stage, raw, raw.record.server)
        if again.granted is not None and again.granted.timeout_ms:
            again.ask(9, *CLOSE)


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("after_ms", [0, 1, 5, 40])
@pytest.mark.parametrize("slow", [1, 100])
def test_t_ses_3_an_upgrade_beside_the_end_of_its_session(
    how: str, after_ms: int, slow: int
) -> None:
    """Whichever comes first, no ephemeral is left without a session, and no session for ever."""
    stage = begin(voters=3, local_sessions=1)
    server, _ = followers_of(stage)
    raw = opened(stage, server, timeout_ms=SHORT_MS)
    for member in stage.ensemble.members.values():
        member.slow_disk = slow
    raw.ask(1, *create("/before"))
    raw.ask(2, *EPHEMERAL)
    run(stage, after_ms * MS)
    end(stage, raw, how)
    run(stage, 4 * SECOND)
    assert_all_is_gone(stage)
    settle(stage)


@pytest.mark.parametrize("after", range(590, 730, 20))
def test_t_ses_3_an_upgrade_beside_the_expiry_of_its_session(after: int) -> None:
    """As `test_t_ses_1_a_write_beside_the_expiry_of_its_session`, by its own server."""
    stage = begin(voters=3, local_sessions=1)
    server, _ = followers_of(stage)
    raw = opened(stage, server, timeout_ms=SHORT_MS)
    run(stage, after * MS)
    raw.ask(1, *EPHEMERAL)
    run(stage, 3 * SECOND)
    assert_all_is_gone(stage)


@pytest.mark.parametrize(("stall_ms", "kill_ms"), list(itertools.product([0, 300], [0, 2, 10, 60])))
def test_t_ses_3_an_upgrade_whose_leader_is_lost(stall_ms: int, kill_ms: int) -> None:
    """The follower cannot know whether the session is global now; the next leader does."""
    stage = begin(voters=3, local_sessions=1)
    server, _ = followers_of(stage)
    leader = leader_of(stage)
    raw = opened(stage, server, timeout_ms=SHORT_MS)
    (socket,) = [s for s in stage.ensemble.network.sockets_of(server) if s.remote == leader.sid]
    socket.stall(stall_ms * MS)
    raw.ask(1, *EPHEMERAL)
    run(stage, kill_ms * MS)
    play(stage, f"kill {leader.sid}", "until leader", f"boot {leader.sid}", "until serving")
    again = back(stage, raw, server)
    assert again.granted is not None
    if again.granted.timeout_ms:
        again.ask(2, *create("/e2", CreateMode.EPHEMERAL))
        run(stage, 100 * MS)
        assert errors(again) == [0]
    run(stage, 4 * SECOND)
    assert_all_is_gone(stage)
    settle(stage)


def test_t_ses_3_what_is_left_behind_in_an_upgrade_is_void() -> None:
    """C12: its connection is closed when the client is here again, before the leader is asked."""
    stage = begin(voters=3, local_sessions=1)
    server, _ = followers_of(stage)
    leader = leader_of(stage)
    raw = opened(stage, server)
    (socket,) = [s for s in stage.ensemble.network.sockets_of(server) if s.remote == leader.sid]
    socket.stall(300 * MS)
    raw.ask(1, *EPHEMERAL)
    run(stage, 20 * MS)
    again = back(stage, raw, server)
    assert not again.events, "the leader has not been heard yet"
    raw.ask(2, *set_data("/e", b"left behind"))
    run(stage, 500 * MS)
    assert again.granted is not None and again.granted.timeout_ms
    again.ask(3, OpCode.GET_DATA, records.GetDataRequest("/e", False))
    run(stage, 100 * MS)
    assert errors(again) == [0]
    assert b"left behind" not in leader.replica.state.tree.nodes["/e"]
    settle(stage)


@pytest.mark.parametrize("password", ["its own", "another"])
def test_t_ses_3_a_member_without_a_quorum_does_not_end_an_upgrade(password: str) -> None:
    """The leader has the session, and its ephemeral; the member has not heard of that yet."""
    stage = begin(voters=3, local_sessions=1, read_only=1)
    server, _ = followers_of(stage)
    member = stage.ensemble.members[server]
    raw = opened(stage, server)
    run(stage, 500 * MS)
    for each in stage.ensemble.members.values():
        each.slow_disk = 100
    raw.ask(1, *EPHEMERAL)
    run(stage, 5 * MS)
    play(stage, f"isolate {server}", "run 3s")
    session, secret = known(raw)
    assert session in leader_of(stage).replica.state.sessions
    assert session not in member.replica.state.sessions
    secret = secret if password == "its own" else bytes(16)
    again = Raw(stage, -9, server, lambda new: new.connect(session, secret, 0, read_only=True))
    run(stage, 100 * MS)
    assert again.granted is not None
    granted = password == "its own"
    assert (again.granted.session_id == session, again.granted.read_only) == (granted, granted)
    if granted:
        again.ask(2, OpCode.GET_DATA, records.GetDataRequest("/", False))
        run(stage, 100 * MS)
        assert errors(again) == [0]
    assert session in leader_of(stage).replica.state.sessions
    stage.connections.remove(again.record)  # it reads what is old
    play(stage, "heal", "until equal")
    settle(stage)


def test_an_upgrade_is_remembered_until_its_outcome_is_known() -> None:
    stage = begin(voters=3, local_sessions=1)
    server, _ = followers_of(stage)
    clients = stage.ensemble.members[server].replica.clients
    assert isinstance(clients, LocalClients)
    raw = opened(stage, server)
    raw.ask(1, *EPHEMERAL)
    run(stage, 200 * MS)
    assert errors(raw) == [0] and clients._upgrading == {}
    lost = opened(stage, server)
    leader = leader_of(stage)
    (socket,) = [s for s in stage.ensemble.network.sockets_of(server) if s.remote == leader.sid]
    socket.stall(300 * MS)
    lost.ask(1, *create("/lost", CreateMode.EPHEMERAL))
    run(stage, 20 * MS)
    assert list(clients._upgrading) == [known(lost)[0]]
    play(stage, f"kill {leader.sid}", "until leader", f"boot {leader.sid}", "until serving")
    assert clients._upgrading == {}
    settle(stage)


BODY = create("/x")[1].encode()


@pytest.mark.parametrize(
    "writes",
    [
        [[1, OpCode.CREATE, 5, 1, BODY[:-1], []]],
        [[1, OpCode.CREATE, 5, 1, BODY + b"x", []]],
        [[1, OpCode.CREATE_SESSION, 5, 1, b"\0\0\x0f", []]],
        [[-1, OpCode.CREATE, 1 << 63, 1, BODY, []]],
        [[-1, OpCode.CREATE, 5, 1, BODY]],
    ],
)
def test_a_malformed_write_of_a_peer_ends_its_link_and_no_process(writes: list[Any]) -> None:
    stage = begin(voters=3)
    server, _ = followers_of(stage)
    raw = opened(stage, server)
    member, leader = stage.ensemble.members[server].replica, leader_of(stage)
    behind = [[-2, OpCode.CREATE, 6, 1, create("/behind")[1].encode(), []]]
    for each in (writes, behind):
        assert member.zab.send(leader.sid, cbor2.dumps([1, 9, each]))
    member.handle_timer(stage.ensemble.members[server].clock.now_ms())
    run(stage, 400 * MS)
    assert not raw.socket.open, "the member had to begin anew"
    assert "/behind" not in leader.replica.state.tree.nodes
    assert leader_of(stage) is leader
    settle(stage)


def test_a_leader_that_is_not_understood_is_left() -> None:
    stage = begin(voters=3)
    server, _ = followers_of(stage)
    raw = opened(stage, server)
    member = stage.ensemble.members[server]
    member.replica.receive_peer(leader_of(stage).sid, Upper(b"\xff"), member.clock.now_ms())
    assert not member.replica.clients.links.by_id, "it does not follow any more, and serves nobody"
    run(stage, 400 * MS)
    assert not raw.socket.open
    settle(stage)


@pytest.mark.parametrize("global_by_then", [False, True])
def test_a_reconfig_that_waits_is_not_vouched_for_once_its_session_is_global(
    global_by_then: bool,
) -> None:
    """It waits for the change before it.  Both that and the close are committed at once: the
    session is unknown when its turn comes, as a local one would be."""
    stage = begin(voters=3, strangers=1, local_sessions=1)
    leader = leader_of(stage)
    zab = leader.replica.zab
    quick, slow = followers_of(stage)
    first, second = opened(stage, leader.sid), opened(stage, leader.sid)
    for raw in (first, second):
        raw.ask(1, OpCode.AUTH, records.AuthPacket(0, "digest", SUPERUSER))
    run(stage, 100 * MS)
    for server, factor in ((quick, 100), (slow, 600)):
        stage.ensemble.members[server].slow_disk = factor
    line = f"server.4={line_of(4, True)}"
    first.ask(2, OpCode.RECONFIG, records.ReconfigRequest(line, "", "", -1))
    run(stage, MS)
    while not zab.changing_voters or zab.deciding_voters:
        run(stage, MS // 20)
    (socket,) = [s for s in stage.ensemble.network.sockets_of(quick) if s.remote == leader.sid]
    socket.stall(600 * MS)  # and the other one's next batch has all that follows
    second.ask(2, OpCode.RECONFIG, records.ReconfigRequest("", "4", "", -1))
    run(stage, 10 * MS)
    assert zab.changing_voters and not errors(second)[1:]
    again = back(stage, second, leader.sid)
    if global_by_then:
        again.ask(3, *EPHEMERAL)
    again.ask(4, *CLOSE)
    run(stage, SECOND)
    assert errors(again) == [0] * (1 + global_by_then)
    assert (4 in zab.voters.everyone()) == global_by_then
    del again.record.stream[-1], again.record.ops[-1]


def test_the_log_alone_gives_the_same_state_again() -> None:
    stage = begin(voters=3, local_sessions=1)
    server, _ = followers_of(stage)
    raw = opened(stage, server)
    raw.ask(1, *create("/x"))
    raw.ask(2, *EPHEMERAL)
    run(stage, 200 * MS)
    digest = leader_of(stage).replica.state.digest
    for sid in stage.ensemble.members:
        play(stage, f"power {sid}")
    play(stage, *(f"boot {sid}" for sid in stage.ensemble.members), "until leader", "until equal")
    assert leader_of(stage).replica.state.digest == digest
    assert {each[:2] for each in everywhere(stage)} == {(1, 1)}
    settle(stage)


def test_what_is_written_before_the_leader_serves_is_not_lost() -> None:
    """Its own disk is behind that of a quorum, and nobody has to ask it whether a local session
    may begin.  Lost, the first write would be missing when the second is done (C2)."""
    stage = begin(voters=5, local_sessions=1)
    first, *_, last = followers_of(stage)
    raw = opened(stage, first)
    play(stage, "until equal", "kill leader")
    leader = stage.ensemble.members[last]
    leader.slow_disk = 1500
    follower = stage.ensemble.members[first].replica.zab
    for _ in range(3000):
        if follower.serving and follower.leader == last:
            break
        run(stage, MS)
    assert follower.serving and not leader.replica.zab.serving
    again = Raw(stage, -9, first, lambda new: new.connect(*known(raw), 0))
    run(stage, 10 * MS)
    again.ask(1, *create("/x", CreateMode.EPHEMERAL))
    again.ask(2, *create("/x/y"))
    run(stage, 10 * MS)
    assert errors(again) == [], "the leader does not serve yet"
    leader.slow_disk = 1
    run(stage, 2 * SECOND)
    again.ask(3, *set_data("/x", b"z"))
    run(stage, 100 * MS)
    assert errors(again) == [0, ErrorCode.NO_CHILDREN_FOR_EPHEMERALS, 0]
    settle(stage)


def known(raw: Raw) -> tuple[int, bytes]:
    assert raw.granted is not None
    assert raw.granted.password is not None
    return raw.granted.session_id, raw.granted.password
