"""`leaderServes=no`: the leader leaves clients to the others, while there are any that vote."""

import pytest

from tests.sim.raw import Raw
from tests.sim.stages import begin, followers_of, leader_of, play, run
from tests.sim.test_sessions import create, errors, opened
from wire import records
from wire.codes import OpCode
from zkpy.testing.script import Stage
from zkpy.testing.setup import SUPERUSER
from zkpy.testing.world import MS, SECOND


def try_to_open(stage: Stage, server: int) -> Raw:
    raw = Raw(stage, -9, server, lambda raw: raw.connect())
    run(stage, 100 * MS)
    return raw


@pytest.mark.parametrize("local", [0, 1])
def test_followers_serve_and_the_leader_does_not(local: int) -> None:
    stage = begin(voters=3, observers=1, leader_serves=0, local_sessions=local)
    leader = leader_of(stage).sid
    refused = try_to_open(stage, leader)
    assert refused.events == [] and not refused.socket.open
    for server in (each for each in stage.ensemble.members if each != leader):
        raw = opened(stage, server)
        raw.ask(1, *create(f"/from-{server}"))
        run(stage, 100 * MS)
        assert errors(raw) == [0]


def test_who_becomes_leader_sends_its_clients_away() -> None:
    stage = begin(voters=3, leader_serves=0)
    raws = {server: opened(stage, server) for server in followers_of(stage)}
    before = leader_of(stage).sid
    play(stage, f"kill {before}", "until leader", f"boot {before}", "until serving")
    leader = leader_of(stage).sid
    assert not raws[leader].socket.open
    assert try_to_open(stage, leader).events == []
    assert try_to_open(stage, before).granted is not None


def reconfig(raw: Raw, xid: int, joining: str = "", leaving: str = "") -> None:
    raw.ask(xid, OpCode.RECONFIG, records.ReconfigRequest(joining, leaving, "", -1))
    run(raw.stage, SECOND)


def test_the_last_voter_serves_until_there_is_another() -> None:
    """Else nobody could ever tell it to take one in."""
    stage = begin(voters=2, reconfig=1, leader_serves=0)
    (other,) = followers_of(stage)
    leader = leader_of(stage)
    raw = opened(stage, other)
    raw.ask(1, OpCode.AUTH, records.AuthPacket(0, "digest", SUPERUSER))
    assert try_to_open(stage, leader.sid).events == []
    line = str(stage.ensemble.setup.configuration.servers[other])
    raw.ask(2, *create("/x"))
    reconfig(raw, 3, leaving=str(other))
    epoch = leader.replica.zab.epoch
    alone = opened(stage, leader.sid)
    alone.ask(1, OpCode.AUTH, records.AuthPacket(0, "digest", SUPERUSER))
    alone.ask(2, *create("/y"))
    reconfig(alone, 3, joining=f"server.{other}={line}")
    assert errors(alone) == [0, 0, 0] and not alone.socket.open
    assert leader.replica.zab.epoch == epoch, "it leads on"
    play(stage, "until serving")
    assert try_to_open(stage, leader.sid).events == []
    last = opened(stage, other)
    last.ask(1, *create("/z"))
    run(stage, 100 * MS)
    assert errors(last) == [0]
