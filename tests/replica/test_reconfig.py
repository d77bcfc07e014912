"""Changes of membership from a client's side; the only voter is this member."""

import pytest

from tests.replica.harness import Client, World
from wire import records
from wire.client import Reply
from wire.codes import ErrorCode, OpCode
from wire.records import OPEN_ACL
from zkpy.membership import parse_configuration
from zkpy.pipeline.prepare import Rules
from zkpy.zab.quorum import VoterSet

CONFIG = "/zookeeper/config"
ONE = "server.1=a:1:2:participant;a:3"
TWO = "server.2=b:1:2:observer;b:3"
CHANGED = 3


@pytest.fixture
def world() -> World:
    return World(membership=parse_configuration(ONE))


@pytest.fixture
def client(world: World) -> Client:
    client = world.connect()
    client.ask(OpCode.AUTH, records.AuthPacket(0, "digest", b"super:test"))
    return client


def reconfig(joining: str = "", leaving: str = "", version: int = -1) -> records.ReconfigRequest:
    return records.ReconfigRequest(joining, leaving, "", version)


def text_of(reply: Reply) -> str:
    body = reply.body
    assert isinstance(body, (records.ReconfigResponse, records.GetDataResponse)), reply
    assert body.data is not None
    return body.data.decode()


def test_a_founding_shows_who_founded(world: World, client: Client) -> None:
    shown = client.get(CONFIG)
    assert isinstance(shown.body, records.GetDataResponse)
    stat, version = shown.body.stat, shown.body.stat.mzxid
    assert text_of(shown) == f"{ONE}\nversion={version:x}"
    assert (stat.version, stat.mtime, stat.czxid) == (-1, 5, 0)
    assert world.replica.zab.voters.version == version


def test_the_answer_is_what_a_read_shows(world: World, client: Client) -> None:
    watching = world.connect()
    watching.get(CONFIG, watch=True)
    changed = client.ask(OpCode.RECONFIG, reconfig(TWO))
    assert text_of(changed) == f"{ONE}\n{TWO}\nversion={changed.zxid:x}"
    assert isinstance(changed.body, records.ReconfigResponse)
    assert changed.body.stat.mzxid == changed.zxid
    assert changed.body.stat.mtime == world.wall
    assert client.get(CONFIG).body == records.GetDataResponse(changed.body.data, changed.body.stat)
    assert watching.watch_events == [(CHANGED, CONFIG)]
    assert not world.replica.zab.voters.joint
    assert world.replica.zab.voters.everyone() == [1, 2]


def test_every_change_is_told_though_the_dataversion_stays(world: World, client: Client) -> None:
    watching = world.connect()
    for _ in range(2):
        watching.get(CONFIG, watch=True)
        client.ask(OpCode.RECONFIG, reconfig(TWO))
    assert watching.watch_events == [(CHANGED, CONFIG)] * 2


def test_one_after_the_other_without_a_pause(client: Client) -> None:
    """The second waits until the first is all through the log; it is told of no progress."""
    first = client.send(OpCode.RECONFIG, reconfig(TWO))
    second = client.send(OpCode.RECONFIG, reconfig(leaving="2"))
    client.world.run()
    assert text_of(client.reply(first)).count("server.") == 2
    assert text_of(client.reply(second)).count("server.") == 1


def test_changes_of_two_clients_at_once(world: World, client: Client) -> None:
    """The second meets the first where nothing is decided yet."""
    other = world.connect()
    other.ask(OpCode.AUTH, records.AuthPacket(0, "digest", b"super:test"))
    world.disk_works = False
    xids = client.send(OpCode.RECONFIG, reconfig(TWO)), other.send(OpCode.RECONFIG, reconfig(TWO))
    world.disk_works = True
    world.run()
    assert client.reply(xids[0]).error == 0
    assert other.reply(xids[1]).error == ErrorCode.RECONFIG_IN_PROGRESS


def test_one_that_comes_between_decided_and_done_waits(world: World, client: Client) -> None:
    other = world.connect()
    other.ask(OpCode.AUTH, records.AuthPacket(0, "digest", b"super:test"))
    world.disk_works = False
    first = client.send(OpCode.RECONFIG, reconfig(TWO))
    world.step()
    world.save()
    world.step()
    assert client.reply(first).error == 0 and world.replica.zab.changing_voters
    second = other.send(OpCode.RECONFIG, reconfig(leaving="2", version=client.reply(first).zxid))
    world.step()
    assert len(other.replies) == 1, "that to its auth packet"
    world.disk_works = True
    world.run()
    assert text_of(other.reply(second)).count("server.") == 1


def test_nothing_overtakes_on_its_connection(client: Client) -> None:
    create = records.CreateRequest("/a", b"", list(OPEN_ACL), 0)
    xids = [
        client.send(OpCode.CREATE, create),
        client.send(OpCode.RECONFIG, reconfig(TWO)),
        client.send(OpCode.SET_DATA, records.SetDataRequest("/a", b"x", -1)),
        client.send(OpCode.GET_DATA, records.GetDataRequest(CONFIG, False)),
    ]
    client.world.run()
    answered = [reply for reply in client.replies if reply.xid in xids]
    assert [reply.xid for reply in answered] == xids
    zxids = [reply.zxid for reply in answered]
    assert zxids == sorted(zxids)
    assert text_of(answered[3]).endswith(f"version={zxids[1]:x}")


def test_conditional_on_the_version(client: Client) -> None:
    version = client.get(CONFIG).body.stat.mzxid  # type: ignore[union-attr]
    refused = client.ask(OpCode.RECONFIG, reconfig(TWO, version=version + 1))
    assert refused.error == ErrorCode.BAD_VERSION
    changed = client.ask(OpCode.RECONFIG, reconfig(TWO, version=version))
    assert client.ask(OpCode.RECONFIG, reconfig(leaving="2", version=version)).error
    again = client.ask(OpCode.RECONFIG, reconfig(leaving="2", version=changed.zxid))
    assert again.error == 0


def test_a_voter_that_is_not_there_is_refused(client: Client) -> None:
    joining = TWO.replace("observer", "participant")
    refused = client.ask(OpCode.RECONFIG, reconfig(joining))
    assert refused.error == ErrorCode.NEW_CONFIG_NO_QUORUM
    assert client.create("/a").error == 0


def test_whoever_may_not_and_where_it_is_off(world: World) -> None:
    assert world.connect().ask(OpCode.RECONFIG, reconfig(TWO)).error == ErrorCode.NO_AUTH
    alone = World().connect()
    assert alone.ask(OpCode.RECONFIG, reconfig(TWO)).error == ErrorCode.RECONFIG_DISABLED


def test_a_server_that_stays_alone_knows_no_reconfig() -> None:
    client = World(rules=Rules(reconfig_enabled=True)).connect()
    assert client.ask(OpCode.RECONFIG, reconfig(TWO)).error == ErrorCode.UNIMPLEMENTED
    assert client.create("/a").error == 0, "the connection goes on"


def test_a_restart_has_it_still(world: World, client: Client) -> None:
    changed = client.ask(OpCode.RECONFIG, reconfig(TWO))
    again = World(world.recovered(), membership=parse_configuration(ONE))
    assert text_of(again.connect().get(CONFIG)) == text_of(changed)
    assert again.replica.zab.voters.everyone() == [1, 2]
    client = again.connect()
    client.ask(OpCode.AUTH, records.AuthPacket(0, "digest", b"super:test"))
    assert client.ask(OpCode.RECONFIG, reconfig(leaving="2", version=changed.zxid)).error == 0


def alone_before(text: str) -> World:
    """A server that began alone, and is to grow."""
    before = World()
    before.connect().create("/a")
    return World(before.recovered(), membership=parse_configuration(text))


@pytest.mark.parametrize("role", ["participant", "observer"])
def test_a_log_without_addresses_takes_them_from_the_files(role: str) -> None:
    """By itself: a reconfig is planned from what clients see.  Who votes, the log says."""
    world = alone_before(ONE.replace("participant", role))
    client = world.connect()
    client.ask(OpCode.AUTH, records.AuthPacket(0, "digest", b"super:test"))
    version = world.replica.zab.voters.decided
    assert text_of(client.get(CONFIG)) == f"{ONE}\nversion={version:x}"
    assert world.replica.zab.voters.members == VoterSet.of([1]).members
    changed = client.ask(OpCode.RECONFIG, reconfig(TWO, version=version))
    assert text_of(changed) == f"{ONE}\n{TWO}\nversion={changed.zxid:x}"


def test_a_log_whose_members_the_files_do_not_name_stays_without_addresses() -> None:
    world = alone_before(TWO)
    assert world.connect().get(CONFIG).body.data == b""  # type: ignore[union-attr]
    assert not world.replica.zab.voters.note


def test_the_log_holds_a_joint_set_and_what_follows(world: World, client: Client) -> None:
    client.ask(OpCode.RECONFIG, reconfig(TWO))
    sets = [VoterSet.decode(entry.data) for entry in world.log if entry.kind == 1]
    assert [each.joint for each in sets] == [False, True, False]
    joint = [entry.zxid for entry in world.log if entry.kind == 1][1]
    assert [each.decided for each in sets] == [0, 0, joint]
