"""The audit log: a line for each change that was asked for here, whatever came of it."""

import pytest

from tests.replica.harness import Client, World
from wire import records
from wire.codes import CreateMode, OpCode
from wire.jute import Record
from wire.records import ACL, OPEN_ACL
from zkpy.membership import Configuration, parse_server
from zkpy.pipeline.auth import digest_id
from zkpy.pipeline.prepare import Rules
from zkpy.replica.local import LocalSessionRules

ANN = digest_id(b"ann:secret")


@pytest.fixture
def world() -> World:
    return World(audited=True)


@pytest.fixture
def client(world: World) -> Client:
    return world.connect()


def create(path: str, flags: int = 0) -> records.CreateRequest:
    return records.CreateRequest(path, b"secret data", list(OPEN_ACL), flags)


def lines(world: World) -> list[str]:
    return world.replica.take_audit()


def session(client: Client) -> str:
    return f"{client.granted.session_id:#x}"


def test_each_change_has_a_line(world: World, client: Client) -> None:
    client.ask(OpCode.AUTH, records.AuthPacket(0, "digest", b"ann:secret"))
    client.ask(OpCode.CREATE, create("/a", CreateMode.PERSISTENT_SEQUENTIAL))
    client.ask(OpCode.CREATE_CONTAINER, create("/c"))
    client.ask(OpCode.SET_DATA, records.SetDataRequest("/c", b"secret data", 7))
    acl = [ACL(31, "digest", ANN), ACL(1, "world", "anyone")]
    client.ask(OpCode.SET_ACL, records.SetACLRequest("/c", acl, -1))
    client.ask(OpCode.GET_DATA, records.GetDataRequest("/c", False))
    client.ask(OpCode.DELETE, records.DeleteRequest("/none", -1))
    who = f"session={session(client)}\tuser=127.0.0.1,digest:ann\tip=127.0.0.1\t"
    assert lines(world) == [
        who + "operation=create\tznode=/a0000000000\tznode_type=persistent_sequential\t"
        "result=success",
        who + "operation=create\tznode=/c\tznode_type=container\tresult=success",
        who + "operation=setData\tznode=/c\tresult=failure",
        who + "operation=setAcl\tznode=/c\tacl=digest:ann:cdrwa,world:anyone:r\tresult=success",
        who + "operation=delete\tznode=/none\tresult=failure",
    ]
    assert lines(world) == []


def test_a_multi_has_a_line_for_each_operation_or_one_for_all(world: World, client: Client) -> None:
    made: list[tuple[int, Record]] = [
        (OpCode.CREATE, create("/a", CreateMode.EPHEMERAL)),
        (OpCode.CHECK, records.CheckVersionRequest("/a", 0)),
        (OpCode.DELETE, records.DeleteRequest("/a", -1)),
    ]
    client.ask(OpCode.MULTI, records.MultiRequest(made))
    client.ask(OpCode.MULTI, records.MultiRequest([*made, made[2]]))
    told = [line.split("\t", 3)[3] for line in lines(world)]
    assert told == [
        "operation=create\tznode=/a\tznode_type=ephemeral\tresult=success",
        "operation=delete\tznode=/a\tresult=success",
        "operation=multiOperation\tresult=failure",
    ]


def test_who_leaves_at_once_is_named_all_the_same(world: World, client: Client) -> None:
    world.disk_works = False
    client.send(OpCode.CREATE, create("/a"))
    world.run()
    world.replica.client_down(client.link, world.now)
    assert lines(world) == []
    world.disk_works = True
    world.save()
    world.run()
    (line,) = lines(world)
    assert line.startswith(f"session={session(client)}\t") and line.endswith("result=success")


def test_ephemerals_that_end_with_their_session(world: World, client: Client) -> None:
    client.ask(OpCode.CREATE, create("/e", CreateMode.EPHEMERAL))
    client.ask(OpCode.CREATE, create("/kept"))
    lines(world)
    client.ask(OpCode.CLOSE_SESSION)
    assert lines(world) == [
        f"session={session(client)}\toperation=ephemeralZNodeDeletionOnSessionCloseOrExpire\t"
        "znode=/e\tresult=success"
    ]


def test_nobody_makes_up_lines(world: World, client: Client) -> None:
    name = "eve\tresult=success\nsession=0x1\\\u2028".encode()
    client.ask(OpCode.AUTH, records.AuthPacket(0, "digest", name + b":x"))
    client.ask(OpCode.DELETE, records.DeleteRequest("/none\tx", -1))
    (line,) = lines(world)
    user = "127.0.0.1,digest:eve\\tresult=success\\nsession=0x1\\\\\\\\\\u2028"
    assert line.split("\t")[1] == f"user={user}"
    assert line.split("\t")[4:] == ["znode=/none\\tx", "result=failure"]


def test_what_became_of_a_write_is_not_made_up_when_its_role_ends(
    world: World, client: Client
) -> None:
    world.disk_works = False
    client.send(OpCode.CREATE, create("/a"))
    world.run()
    world.replica.clients.enter(world.replica.office, False)
    (line,) = lines(world)
    assert line.endswith("znode=/a\tznode_type=persistent\tresult=unknown")


def test_local_sessions_are_named_too() -> None:
    world = World(audited=True, local_sessions=LocalSessionRules())
    client = world.connect()
    client.ask(OpCode.CREATE, create("/a"))
    client.ask(OpCode.CREATE, create("/e", CreateMode.EPHEMERAL))
    made, refused = lines(world)
    assert made.startswith(f"session={session(client)}\t") and made.endswith("result=success")
    assert refused.endswith("znode=/e\tznode_type=ephemeral\tresult=failure")


def test_a_reconfig_has_a_line() -> None:
    membership = Configuration.of([parse_server(1, "10.0.0.1:2888:3888;10.0.0.1:2181")])
    world = World(audited=True, membership=membership)
    client = world.connect()
    client.ask(
        OpCode.RECONFIG,
        records.ReconfigRequest("server.2=10.0.0.2:2888:3888;10.0.0.2:2181", "", "", -1),
    )
    (line,) = lines(world)
    assert line.split("\t")[3:] == ["operation=reconfig", "result=failure"]


def test_without_the_key_there_is_none() -> None:
    world = World()
    world.connect().ask(OpCode.CREATE, create("/a"))
    assert lines(world) == []


def test_nobody_has_another_ones_name(world: World, client: Client) -> None:
    client.ask(OpCode.AUTH, records.AuthPacket(0, "digest", b"super:x"))
    client.ask(OpCode.AUTH, records.AuthPacket(0, "digest", b"10.0.0.9,sasl:bob:x"))
    client.ask(OpCode.DELETE, records.DeleteRequest("/none", -1))
    (line,) = lines(world)
    assert line.split("\t")[1] == "user=127.0.0.1,digest:super,digest:10.0.0.9\\\\,sasl"


def test_what_the_leader_deletes_by_itself() -> None:
    world = World(audited=True, rules=Rules(extended_types=True))
    client = world.connect()
    client.ask(OpCode.CREATE_CONTAINER, create("/c"))
    client.ask(OpCode.CREATE, create("/c/a"))
    client.ask(OpCode.DELETE, records.DeleteRequest("/c/a", -1))
    ttl = records.CreateTTLRequest("/t", b"", list(OPEN_ACL), CreateMode.PERSISTENT_WITH_TTL, 500)
    client.ask(OpCode.CREATE_TTL, ttl)
    lines(world)
    world.wall += 10_000
    world.advance(200_000)
    told = [line for line in lines(world) if line.startswith("operation=delete")]
    assert told == [f"operation=delete\tznode={path}\tresult=success" for path in ("/c", "/t")]


def test_what_is_under_way_at_the_end_is_told(world: World, client: Client) -> None:
    world.disk_works = False
    client.send(OpCode.CREATE, create("/a"))
    world.run()
    (line,) = world.replica.take_audit(ending=True)
    assert line.endswith("znode=/a\tznode_type=persistent\tresult=unknown")
    assert world.replica.take_audit(ending=True) == []
