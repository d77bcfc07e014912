"""T-ses-3 (2725, 3471): local sessions in an ensemble, above all those that become global."""

import itertools
from typing import Any

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
from zkpy.testing.script import Stage
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
