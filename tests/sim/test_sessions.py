"""Sessions, watches, what is logged: scenarios of docs/reliability.md."""

import struct
from collections.abc import Sequence
from typing import Any

import pytest

from tests.sim.raw import TICK_MS, Raw
from tests.sim.stages import begin, followers_of, leader_of, play, run, settle
from wire import records
from wire.client import WatchEvent
from wire.codes import CreateMode, ErrorCode, EventType, OpCode
from wire.records import OPEN_ACL
from zkpy.testing.histories import Op
from zkpy.testing.script import Stage
from zkpy.testing.world import MS, SECOND

SHORT_MS = 2 * TICK_MS
"""The shortest session time-out."""


def opened(
    stage: Stage, server: int, host: int = -9, timeout_ms: int = 20 * TICK_MS, **options: Any
) -> Raw:
    raw = Raw(stage, host, server, lambda raw: raw.connect(timeout_ms=timeout_ms, **options))
    for _ in range(500):
        if raw.granted is not None:
            break
        run(stage, MS)
    assert raw.granted is not None
    raw.record.session = raw.granted.session_id
    return raw


def back(stage: Stage, raw: Raw, server: int) -> Raw:
    """Another connection of the same session, which has seen everything."""
    seen = leader_of(stage).replica.state.zxid
    granted = raw.granted
    assert granted is not None
    assert granted.password is not None
    session, password = granted.session_id, granted.password
    new = Raw(stage, raw.socket.host, server, lambda new: new.connect(session, password, seen))
    run(stage, 100 * MS)
    return new


def create(path: str, flags: int = 0) -> tuple[int, records.CreateRequest]:
    return OpCode.CREATE, records.CreateRequest(path, b"", list(OPEN_ACL), flags)


def set_data(path: str, data: bytes) -> tuple[int, records.SetDataRequest]:
    return OpCode.SET_DATA, records.SetDataRequest(path, data, -1)


def errors(raw: Raw) -> list[int]:
    return [item.error for item in raw.record.stream if isinstance(item, Op)]


def everywhere(stage: Stage) -> list[tuple[int, int, int, int]]:
    """What clients left behind: sessions, ephemerals, watches, requests, of each member."""
    return [
        (
            len(member.replica.state.sessions),
            member.replica.state.lifetimes.ephemeral_count,
            member.replica.clients.watches.count,
            len(member.replica.clients.gate),
        )
        for member in stage.ensemble.alive
    ]


def assert_nothing_is_left(stage: Stage) -> None:
    play(stage, "until equal")
    assert everywhere(stage) == [(0, 0, 0, 0)] * len(stage.ensemble.alive)


# --- the end of a session


@pytest.mark.parametrize(
    "last",
    [create("/e", CreateMode.EPHEMERAL), (OpCode.CLOSE_SESSION, None)],
    ids=["create", "close"],
)
@pytest.mark.parametrize("after", range(590, 730, 10))
def test_t_ses_1_a_write_beside_the_expiry_of_its_session(
    after: int, last: tuple[int, Any]
) -> None:
    """1208: one end of the session is proposed, within these times, and on its way to slow disks
    for 50 ms; the create, or another end, arrives."""
    stage = begin(voters=3)
    server, _ = followers_of(stage)
    raw = opened(stage, server, timeout_ms=SHORT_MS)
    for member in stage.ensemble.members.values():
        member.slow_disk = 100
    run(stage, after * MS)
    raw.ask(1, *last)
    run(stage, 3 * SECOND)
    assert_nothing_is_left(stage)


def test_t_ses_1_writes_pipelined_around_close() -> None:
    """1208: what is sent before the close takes effect and goes with it; what is sent behind it
    does not."""
    stage = begin(voters=3)
    server, _ = followers_of(stage)
    raw = opened(stage, server)
    raw.ask(1, *create("/before", CreateMode.EPHEMERAL))
    raw.ask(2, OpCode.CLOSE_SESSION, None)
    body = create("/behind", CreateMode.EPHEMERAL)[1].encode()
    raw.socket.send(struct.pack(">iii", 8 + len(body), 3, OpCode.CREATE) + body)
    run(stage, SECOND)
    assert errors(raw) == [0, 0]
    assert_nothing_is_left(stage)
    settle(stage)


@pytest.mark.parametrize("slow", [1, 900])
@pytest.mark.parametrize("stall_ms", [0, 300, 900])
def test_t_ses_2_a_session_that_opens_later_than_it_would_expire(stall_ms: int, slow: int) -> None:
    """1496: createSession is on its way longer than the session's time-out, and its client has
    given up; it is not there for ever, nor does it come back."""
    stage = begin(voters=3)
    server, _ = followers_of(stage)
    leader = leader_of(stage)
    (socket,) = [s for s in stage.ensemble.network.sockets_of(server) if s.remote == leader.sid]
    raw = Raw(stage, -9, server, lambda raw: raw.connect(timeout_ms=SHORT_MS))
    leader.slow_disk = slow
    socket.stall(stall_ms * MS)
    run(stage, 50 * MS)
    raw.socket.close()
    run(stage, 2 * SECOND)
    leader.slow_disk = 1
    run(stage, SECOND)
    assert_nothing_is_left(stage)
    settle(stage)


def test_t_watch_2_watches_and_ephemerals_end_with_their_sessions() -> None:
    """1382: whatever ends a session, close or expiry, by whatever member."""
    stage = begin(voters=3, observers=1)
    raws = [opened(stage, 1 + n % 4, -20 - n, SHORT_MS if n % 2 else 4000) for n in range(8)]
    for n, raw in enumerate(raws):
        raw.ask(1, *create(f"/e{n}", CreateMode.EPHEMERAL))
        raw.ask(7, *create(f"/e{n}more", CreateMode.EPHEMERAL))
        raw.ask(2, OpCode.GET_DATA, records.GetDataRequest(f"/e{n}", True))
        raw.ask(3, OpCode.EXISTS, records.ExistsRequest("/none", True))
        raw.ask(4, OpCode.GET_CHILDREN, records.GetChildrenRequest("/", True))
        raw.ask(5, OpCode.ADD_WATCH, records.AddWatchRequest("/", n % 2))
    run(stage, 300 * MS)
    for raw in raws[::2]:
        raw.ask(6, OpCode.CLOSE_SESSION, None)
    run(stage, 3 * SECOND)
    assert_nothing_is_left(stage)


# --- a session that moves


def test_t_ses_4_a_session_that_moves_is_not_moved_for_good() -> None:
    """484, 710, 2886: with nothing but multis, there and back; the connection that it left is
    served no more."""
    stage = begin("client z leader", "ask z create /x one", voters=3)
    here, there = followers_of(stage)
    multi = OpCode.MULTI, records.MultiRequest([set_data("/x", b"m")])
    first = opened(stage, here)
    first.ask(1, *multi)
    run(stage, 100 * MS)
    second = back(stage, first, there)
    second.ask(2, *multi)
    first.ask(3, *set_data("/x", b"from the connection left behind"))
    run(stage, 100 * MS)
    third = back(stage, first, here)
    third.ask(4, *multi)
    run(stage, 100 * MS)
    assert errors(first)[:1] == [0]
    assert errors(first)[1:] in ([], [ErrorCode.SESSION_MOVED])
    assert (errors(second), errors(third)) == ([0], [0])
    assert b"left behind" not in leader_of(stage).replica.state.tree.nodes["/x"]
    settle(stage)


# --- clocks and ids


@pytest.mark.parametrize("day", [86_400_000, -86_400_000])
def test_t_clk_1_a_jump_of_the_wall_clock_ends_no_session(day: int) -> None:
    """2774: nor does it keep one that is over."""
    stage = begin("client a leader", "ask a ephemeral /e", voters=3)
    run(stage, 300 * MS)
    for member in stage.ensemble.members.values():
        member.clock.wall_jump_ms += day
    printed = play(stage, "run 3s", "ask a get /e")
    assert "version 0" in printed[-1]
    stage.clients["a"].stop()
    run(stage, 5 * SECOND)
    assert_nothing_is_left(stage)


def test_t_clk_1_session_ids_are_given_once() -> None:
    """1622: over members, epochs, restarts, and clocks that were set back."""
    stage = begin(voters=3)
    seen: list[int] = []
    for turn in range(4):
        for server in stage.ensemble.members:
            for n in range(3):
                raw = opened(stage, server, -50 - turn * 10 - n, SHORT_MS)
                seen.append(raw.record.session)
        leader = leader_of(stage)
        leader.clock.wall_jump_ms -= 3_600_000
        run(stage, SECOND)  # they have expired: an id is not used again even then
        play(stage, "kill leader", f"boot {leader.sid}", "until leader", "until serving")
    assert len(set(seen)) == len(seen) == 36
    assert all(0 < session < 1 << 63 for session in seen)


# --- watches


CHANGES = (
    set_data("/x", b"1"),
    create("/x/child"),
    create("/y"),
    (OpCode.DELETE, records.DeleteRequest("/x/child", -1)),
    set_data("/y", b"2"),
    (OpCode.DELETE, records.DeleteRequest("/x", -1)),
)


@pytest.mark.parametrize("step", range(len(CHANGES) + 1))
@pytest.mark.parametrize("catches_up", [True, False])
def test_t_watch_1_a_reconnect_at_every_step(step: int, catches_up: bool) -> None:
    """1667, 1412, 961, 706: watches set before it tell of each change once, and before any
    reply that shows it (C9, checked on the history)."""
    stage = begin("client a 1", "client b leader", "ask b create /x 0", "until equal", voters=3)
    play(stage, "ask a sync /", "ask a get /x watch", "ask a exists /y watch")
    play(stage, "ask a children /x watch")
    writer = stage.clients["b"]
    for n, change in enumerate(CHANGES):
        if n == step:
            stage.clients["a"].drop()
            if catches_up:
                play(stage, "run 300ms")
        writer.request(*change)
        run(stage, 30 * MS)
    play(stage, "run 500ms", "ask a sync /", "ask a exists /y", "ask a exists /x")
    told = [line.split()[0] for line in play(stage, "events a")]
    assert told.count("NODE_CREATED") == 1, "of /y"
    assert {"NODE_DATA_CHANGED", "NODE_CHILDREN_CHANGED"} & set(told) or "NODE_DELETED" in told
    settle(stage)


def test_t_watch_1_a_hundred_thousand_watches_come_back() -> None:
    """706: in as many frames as they need; those that were missed fire, the others stay."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    here, there = followers_of(stage)
    raw = opened(stage, here)
    seen = leader_of(stage).replica.state.zxid
    play(stage, "ask a create /n77777", "until equal")
    second = back(stage, raw, there)
    for frame in range(10):
        paths = [f"/n{frame * 10_000 + n}" for n in range(10_000)]
        body = records.SetWatches(seen, [], paths, [])
        second.ask(100 + frame, OpCode.SET_WATCHES, body)
    run(stage, 500 * MS)
    watches = stage.ensemble.members[there].replica.clients.watches
    assert watches.count == 99_999
    assert paths_of(second.events) == ["/n77777"]
    play(stage, "ask a create /n3", "run 100ms")
    assert watches.count == 99_998
    assert paths_of(second.events) == ["/n77777", "/n3"]
    second.socket.close()
    run(stage, 100 * MS)
    assert watches.count == 0


def paths_of(events: Sequence[object]) -> list[str]:
    """Of the znodes that were created, in the order in which that was told."""
    told = [each for each in events if isinstance(each, WatchEvent)]
    assert {each.event.type for each in told} <= {EventType.NODE_CREATED}
    return [each.event.path for each in told]


# --- what may be logged


ODD = [
    (OpCode.CHECK, records.CheckVersionRequest("/x", 0)),
    (OpCode.CREATE_CONTAINER, records.CreateRequest("/c", b"", list(OPEN_ACL), 4)),
    (OpCode.CREATE2, records.CreateRequest("/d", b"", list(OPEN_ACL), 0)),
    (OpCode.SET_ACL, records.SetACLRequest("/x", list(OPEN_ACL), -1)),
    (OpCode.MULTI, records.MultiRequest([(OpCode.CHECK, records.CheckVersionRequest("/x", 0))])),
    (OpCode.MULTI, records.MultiRequest([])),
    create("/e", CreateMode.EPHEMERAL),
    create("/s", CreateMode.EPHEMERAL_SEQUENTIAL),
    (OpCode.SYNC, records.SyncRequest("/x")),
    (OpCode.CLOSE_SESSION, None),
]


def test_t_op_1_whatever_a_client_may_send_can_be_replayed() -> None:
    """2623: `check` outside a multi is no transaction; all others come back from the log."""
    stage = begin("client a leader", "ask a create /x one", voters=3)
    raw = opened(stage, followers_of(stage)[0])
    for xid, (opcode, body) in enumerate(ODD, 1):
        if opcode == OpCode.CHECK:
            lone = opened(stage, followers_of(stage)[1], -30)
            lone.ask(1, opcode, body)
            run(stage, 100 * MS)
            assert errors(lone) in ([], [ErrorCode.UNIMPLEMENTED])
        else:
            raw.ask(xid, opcode, body)
    run(stage, 300 * MS)
    assert errors(raw) == [0] * (len(ODD) - 1)
    digest = leader_of(stage).replica.state.digest
    for sid in stage.ensemble.members:
        play(stage, f"power {sid}")
    play(stage, *(f"boot {sid}" for sid in stage.ensemble.members), "until leader", "until equal")
    assert leader_of(stage).replica.state.digest == digest
    printed = play(stage, "client z leader", "ask z set /x two", "run 300ms", "until equal")
    assert "version 1" in "".join(printed)
