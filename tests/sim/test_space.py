"""D11 in an ensemble: a leader whose disk is nearly full, beside others with room or without."""

from tests.sim.raw import Raw
from tests.sim.stages import begin, leader_of, play, run, settle
from wire import records
from wire.codes import ErrorCode, OpCode
from wire.records import OPEN_ACL
from zkpy.testing.script import Stage
from zkpy.testing.world import MS, SECOND


def set_low(stage: Stage, sid: int, low: bool) -> None:
    member = stage.ensemble.members[sid]
    member.replica.set_low_space(low, member.clock.now_ms())
    member._request_pass()


def create(stage: Stage, path: str, server: int) -> int | None:
    """Its error, if it is answered within a second."""
    client = Raw(stage, -9, server, lambda raw: raw.connect())
    run(stage, 300 * MS)
    assert client.granted is not None
    client.record.session = client.granted.session_id
    client.ask(1, OpCode.CREATE, records.CreateRequest(path, b"", list(OPEN_ACL), 0))
    run(stage, SECOND)
    return client.record.ops[0].error


def test_a_leader_without_room_makes_way_for_one_that_has_some() -> None:
    stage = begin(voters=3)
    full = leader_of(stage).sid
    set_low(stage, full, True)
    run(stage, 2 * SECOND)
    play(stage, "until leader", "until serving")
    assert leader_of(stage).sid != full
    assert create(stage, "/x", full) == 0
    run(stage, 10 * SECOND)
    assert leader_of(stage).sid != full, "and keeps out of it"
    settle(stage)


def test_where_nobody_has_room_the_leader_stays_and_refuses() -> None:
    stage = begin(voters=3)
    leader = leader_of(stage).sid
    for sid in sorted(stage.ensemble.members, key=lambda sid: sid == leader):
        set_low(stage, sid, True)
        run(stage, 200 * MS)
    run(stage, 5 * SECOND)
    assert leader_of(stage).sid == leader
    assert create(stage, "/x", leader) == ErrorCode.THROTTLED_OP
    follower = next(sid for sid in stage.ensemble.members if sid != leader)
    set_low(stage, follower, False)
    run(stage, 2 * SECOND)
    play(stage, "until leader", "until serving")
    assert leader_of(stage).sid == follower
    assert create(stage, "/x", leader) == 0
