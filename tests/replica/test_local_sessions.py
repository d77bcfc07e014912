"""Local sessions on one member, which is its own leader: what leaves no trace in the log."""

import struct

import pytest

from tests.replica.harness import Client, World
from wire import records, txn, upper
from wire.codes import CreateMode, ErrorCode, OpCode
from wire.jute import Record
from wire.records import OPEN_ACL
from wire.txn import CloseSessionTxn, CreateSessionTxn, CreateTxn, Txn, TxnHeader
from zkpy.effects import EntryKind
from zkpy.membership import Configuration, parse_server
from zkpy.replica.core import READ_ONLY_AFTER_MS
from zkpy.replica.local import LocalSessionRules
from zkpy.replica.reading import Reading
from zkpy.replica.status import details_of

EPHEMERAL = int(CreateMode.EPHEMERAL)
TICK_MS = 2000


@pytest.fixture
def world() -> World:
    return World(local_sessions=LocalSessionRules(upgrading=True))


def logged(world: World) -> list[tuple[TxnHeader, Txn]]:
    return [txn.decode(entry.data) for entry in world.log if entry.kind == EntryKind.TXN]


def local_sessions(world: World) -> int:
    return world.replica.clients.local_sessions


def again(world: World, client: Client, password: bytes | None = None) -> Client:
    granted = client.granted
    return world.connect(
        session_id=granted.session_id, password=password or granted.password, timeout_ms=10_000
    )


def create(path: str, flags: int = 0) -> tuple[OpCode, Record]:
    return OpCode.CREATE, records.CreateRequest(path, b"", list(OPEN_ACL), flags)


def close(client: Client) -> None:
    client.ask(OpCode.CLOSE_SESSION)


def test_a_session_begins_and_ends_without_the_log(world: World, client: Client) -> None:
    before = len(world.log)
    assert client.granted.session_id >> 56 == 1
    assert client.granted.timeout_ms == 10_000
    assert local_sessions(world) == 1
    assert client.get("/").error == 0
    close(client)
    assert client.replies[-1].error == 0 and client.closed
    assert (local_sessions(world), len(world.log)) == (0, before)
    assert logged(world) == []
    assert len(world.replica.state.sessions) == 0


def test_details_have_them_apart(world: World, client: Client) -> None:
    details = details_of(world.replica)
    assert details.local_deadlines is not None
    assert list(details.local_deadlines.values()) == [[client.granted.session_id]]
    assert (details.deadlines, details.timeouts) == ({}, {})


def test_passwords_are_not_alike(world: World) -> None:
    first, second = world.connect().granted, world.connect().granted
    assert first.password != second.password
    assert first.password is not None and len(first.password) == 16


def test_its_writes_are_those_of_any_session(world: World, client: Client) -> None:
    assert client.create("/a", b"one").body == records.CreateResponse("/a")
    assert client.create("/a").error == ErrorCode.NODE_EXISTS
    reply = client.ask(OpCode.SET_DATA, records.SetDataRequest("/a", b"two", 0))
    assert reply.error == 0
    ((header, _), *_) = logged(world)
    assert header.session == client.granted.session_id
    assert header.number < 0, "the log says that the session is a local one"
    assert local_sessions(world) == 1


def test_replies_keep_their_order(world: World, client: Client) -> None:
    world.disk_works = False
    client.send(*create("/a"))
    client.send(OpCode.GET_DATA, records.GetDataRequest("/a", False))
    client.send(OpCode.CLOSE_SESSION)
    world.run()
    assert client.replies == []
    world.disk_works = True
    world.save()
    world.run()
    assert [(reply.xid, reply.error) for reply in client.replies] == [(1, 0), (2, 0), (3, 0)]
    assert client.closed and local_sessions(world) == 0


def test_nothing_behind_its_close_is_done(world: World, client: Client) -> None:
    world.disk_works = False
    client.send(*create("/a"))
    closing = client.send(OpCode.CLOSE_SESSION)
    body = create("/behind", EPHEMERAL)[1].encode()
    frame = struct.pack(">iii", 8 + len(body), 3, OpCode.CREATE) + body
    world.replica.receive_client(client.link, frame, world.now)  # no client of ours says more
    world.run()
    world.disk_works = True
    world.save()
    world.run()
    assert client.reply(closing).error == 0
    assert [type(each) for _, each in logged(world)] == [CreateTxn]


# --- coming back, and expiry


def test_its_client_may_come_back_here(world: World, client: Client) -> None:
    world.replica.client_down(client.link, world.now)
    world.advance(9_000)
    back = again(world, client)
    assert back.granted.session_id == client.granted.session_id
    assert back.granted.timeout_ms == 10_000
    assert back.create("/a").error == 0
    close(back)
    assert len(logged(world)) == 1


def test_a_second_connection_takes_it_over(world: World, client: Client) -> None:
    back = again(world, client)
    assert client.closed and not back.closed
    for n in range(4):
        world.advance(7_000)
        assert back.create(f"/a{n}").error == 0
    assert local_sessions(world) == 1


def test_a_wrong_password_is_refused_and_disturbs_nobody(world: World, client: Client) -> None:
    thief = again(world, client, b"x" * 16)
    assert (thief.granted.session_id, thief.granted.timeout_ms) == (0, 0)
    assert thief.closed and not client.closed


def test_it_is_unknown_to_any_other_server(world: World, client: Client) -> None:
    elsewhere = World()
    refused = again(elsewhere, client)
    assert refused.granted.timeout_ms == 0 and refused.closed


def test_it_expires_if_nothing_is_heard_of_it(world: World, client: Client) -> None:
    silent = world.connect()
    world.replica.client_down(silent.link, world.now)
    for _ in range(8):
        world.advance(3 * TICK_MS // 4)
        client.get("/")
    assert (local_sessions(world), client.closed) == (1, False)
    assert again(world, silent).granted.timeout_ms == 0
    world.advance(10_000 + TICK_MS)
    assert (local_sessions(world), client.closed) == (0, True)
    assert logged(world) == []
    notices = world.replica.take_notices()
    assert f"expiring local session {client.granted.session_id:#x}" in notices


def test_it_does_not_expire_before_its_time(world: World, client: Client) -> None:
    """Nor if the last word came by a connection that is gone."""
    world.advance(7_000)
    client.get("/")
    world.replica.client_down(client.link, world.now)
    world.advance(9_900)
    assert again(world, client).granted.timeout_ms == 10_000


def test_a_standstill_of_the_process_ends_no_session(world: World, client: Client) -> None:
    """It counts from what was heard last, though nobody was asked for that before."""
    world.advance(7_000)
    client.get("/")
    world.now += 60_000
    world.replica.handle_timer(world.now)
    world.run()
    world.advance(9_000)
    assert not client.closed


def test_another_role_ends_the_connections_only(world: World, client: Client) -> None:
    """All have their full time again: meanwhile they could not be heard."""
    world.advance(9_000)
    clients = world.replica.clients
    clients.enter(world.replica.office, False)
    world.run()
    assert client.closed
    world.advance(60_000)
    assert local_sessions(world) == 0, "they are kept, but none is in use"
    deadline = clients.deadline()
    assert deadline is None or deadline > world.now, "else it would be asked again and again"
    clients.enter(world.replica.office, True)
    assert local_sessions(world) == 1
    world.advance(9_000)
    assert again(world, client).granted.timeout_ms == 10_000


# --- ephemerals


@pytest.fixture
def strict() -> World:
    return World(local_sessions=LocalSessionRules(upgrading=False))


@pytest.mark.parametrize("flags", [CreateMode.EPHEMERAL, CreateMode.EPHEMERAL_SEQUENTIAL])
@pytest.mark.parametrize("opcode", [OpCode.CREATE, OpCode.CREATE2])
def test_an_ephemeral_is_refused(strict: World, opcode: OpCode, flags: int) -> None:
    client = strict.connect()
    reply = client.ask(opcode, records.CreateRequest("/e", b"", list(OPEN_ACL), flags))
    assert reply.error == ErrorCode.EPHEMERAL_ON_LOCAL_SESSION
    assert strict.replica.state.lifetimes.ephemeral_count == 0
    assert local_sessions(strict) == 1
    assert client.create("/p").error == 0


def test_an_ephemeral_in_a_multi_is_refused_with_it(strict: World) -> None:
    client = strict.connect()
    ops: list[tuple[int, Record]] = [create("/a"), create("/e", EPHEMERAL), create("/b")]
    reply = client.ask(OpCode.MULTI, records.MultiRequest(ops))
    assert isinstance(reply.body, records.MultiResponse)
    refusal, after = ErrorCode.EPHEMERAL_ON_LOCAL_SESSION, ErrorCode.RUNTIME_INCONSISTENCY
    assert [each.error for each in reply.body.results] == [0, refusal, after]
    assert client.get("/a").error == ErrorCode.NO_NODE


EPHEMERALS: dict[str, tuple[OpCode, Record]] = {
    "create": create("/e", EPHEMERAL),
    "create2": (OpCode.CREATE2, create("/e", EPHEMERAL)[1]),
    "multi": (OpCode.MULTI, records.MultiRequest([create("/a"), create("/e", EPHEMERAL)])),
}


@pytest.mark.parametrize("asked", EPHEMERALS.values(), ids=EPHEMERALS)
def test_an_ephemeral_makes_it_global_first(
    world: World, client: Client, asked: tuple[OpCode, Record]
) -> None:
    assert client.ask(*asked).error == 0
    assert [type(each) for _, each in logged(world)][0] is CreateSessionTxn
    state = world.replica.state
    session = client.granted.session_id
    assert state.sessions.get(session).password == client.granted.password  # type: ignore[union-attr]
    assert list(state.lifetimes.ephemerals) == [session]
    assert local_sessions(world) == 0
    close(client)
    assert type(logged(world)[-1][1]) is CloseSessionTxn
    assert (state.lifetimes.ephemeral_count, len(state.sessions)) == (0, 0)


def test_nothing_else_makes_it_global(world: World, client: Client) -> None:
    container = records.CreateRequest("/c", b"", list(OPEN_ACL), EPHEMERAL)
    assert client.create("/p").error == 0
    assert client.ask(OpCode.CREATE_CONTAINER, container).error == 0
    assert client.create("/x", flags=99).error == ErrorCode.BAD_ARGUMENTS
    assert client.ask(OpCode.MULTI, records.MultiRequest([create("/m")])).error == 0
    assert local_sessions(world) == 1


def test_it_moves_like_any_other_once_it_is_global(world: World, client: Client) -> None:
    client.create("/e", flags=EPHEMERAL)
    world.replica.client_down(client.link, world.now)
    back = again(world, client)
    assert back.granted.session_id == client.granted.session_id
    close(back)
    assert world.replica.state.lifetimes.ephemeral_count == 0


def test_a_write_is_global_from_the_upgrade_on(world: World, client: Client) -> None:
    """Else it could take effect behind the end of the session (C10)."""
    client.create("/p")
    client.create("/e", flags=EPHEMERAL)
    client.create("/q")
    assert [header.number < 0 for header, _ in logged(world)] == [True, False, False, False]


def test_an_upgrade_that_expires_takes_its_ephemerals_along(world: World, client: Client) -> None:
    client.create("/e", flags=EPHEMERAL)
    world.replica.client_down(client.link, world.now)
    world.advance(10_000 + 2 * TICK_MS)
    state = world.replica.state
    assert (state.lifetimes.ephemeral_count, len(state.sessions)) == (0, 0)
    assert again(world, client).granted.timeout_ms == 0


def test_3471_an_ephemeral_and_the_close_in_one_breath(world: World, client: Client) -> None:
    world.disk_works = False
    client.send(*create("/e", EPHEMERAL))
    client.send(OpCode.CLOSE_SESSION)
    world.run()
    world.disk_works = True
    world.save()
    world.run()
    kinds = [CreateSessionTxn, CreateTxn, CloseSessionTxn]
    assert [type(each) for _, each in logged(world)] == kinds
    assert [reply.error for reply in client.replies] == [0, 0]
    assert world.replica.state.lifetimes.ephemeral_count == 0


def test_an_upgrade_under_way_may_be_claimed_again(world: World, client: Client) -> None:
    """And the connection that it is left on is served no more, before the leader is asked."""
    world.disk_works = False
    client.send(*create("/e", EPHEMERAL))
    world.run()
    back = again(world, client)
    assert client.closed
    assert back.granted.session_id == client.granted.session_id
    world.disk_works = True
    world.save()
    world.run()
    assert back.get("/e").error == 0
    assert list(world.replica.state.lifetimes.ephemerals) == [client.granted.session_id]


# --- beside other things


def test_a_reconfig_is_not_overtaken() -> None:
    """As one of any other session: the leader may let it wait."""
    members = Configuration.of([parse_server(1, "10.0.0.1:2888:3888;10.0.0.1:2181")])
    world = World(membership=members, local_sessions=LocalSessionRules())
    client = world.connect()
    auth = records.AuthPacket(0, "digest", b"super:test")
    client.ask(OpCode.AUTH, auth)
    world.disk_works = False
    client.send(OpCode.RECONFIG, records.ReconfigRequest("", "9", "", -1))
    client.send(*create("/a"))
    link = world.replica.clients.links.by_id[client.link]
    assert [len(link.queue), len(link.held)] == [1, 1]


def peer_says(world: World, sid: int, epoch_behind: int, path: str) -> None:
    body = create(path)[1]
    write = upper.ForwardedWrite(-1, OpCode.CREATE, 99, 1, body, ())
    epoch = world.replica.zab.epoch - epoch_behind
    world.replica._early.append((epoch, sid, upper.Forward(7, [write])))


def test_what_was_kept_for_an_earlier_leadership_is_not_done(world: World) -> None:
    peer_says(world, 2, 1, "/of-the-one-before")
    peer_says(world, 3, 0, "/of-this-one")
    world.replica.handle_timer(world.now)
    world.run()
    assert list(world.replica.state.tree.nodes)[-1] == "/of-this-one"
    assert "/of-the-one-before" not in world.replica.state.tree.nodes


def test_what_was_kept_of_a_link_goes_with_it(world: World) -> None:
    """The answer would go to the next link, where its numbers mean something else."""
    peer_says(world, 2, 0, "/of-a-link-that-is-gone")
    peer_says(world, 3, 0, "/of-another")
    world.replica.link_down(2, world.now)
    world.run()
    assert "/of-another" in world.replica.state.tree.nodes
    assert "/of-a-link-that-is-gone" not in world.replica.state.tree.nodes


def test_read_only_nothing_becomes_global() -> None:
    world = World(
        voters=(1, 2, 3), read_only_mode=True, local_sessions=LocalSessionRules(upgrading=True)
    )
    world.advance(READ_ONLY_AFTER_MS)
    client = world.connect(read_only=True)
    assert client.granted.read_only
    assert client.create("/e", flags=EPHEMERAL).error == ErrorCode.NOT_READ_ONLY
    assert local_sessions(world) == 0
    close(client)
    assert client.closed and logged(world) == []


LOCAL, GLOBAL_ONLY = LocalSessionRules(upgrading=True), None


@pytest.mark.parametrize(
    ("rules", "password", "told"),
    [
        (GLOBAL_ONLY, b"x" * 16, []),
        (GLOBAL_ONLY, bytes(16), [0]),
        (LOCAL, b"x" * 16, [0]),
    ],
    ids=["may be too new", "was opened read-only", "is likely another server's"],
)
def test_read_only_a_session_that_is_not_known(
    rules: LocalSessionRules | None, password: bytes, told: list[int]
) -> None:
    """That a global one has expired, only a leader may say (C11)."""
    world = World(voters=(1, 2, 3), read_only_mode=True, local_sessions=rules)
    world.advance(READ_ONLY_AFTER_MS)
    claiming = world.connect(session_id=77, password=password, read_only=True)
    answers = [each for each in claiming.events if isinstance(each, records.ConnectResponse)]
    assert [each.timeout_ms for each in answers] == told
    assert claiming.closed


def test_read_only_a_local_session_may_be_read_with() -> None:
    world = World(read_only_mode=True, local_sessions=LocalSessionRules(upgrading=True))
    client = world.connect()
    replica = world.replica
    replica.clients.enter(Reading(replica.state, replica.clients, world.now), False, True)
    world.run()
    back = world.connect(
        session_id=client.granted.session_id, password=client.granted.password, read_only=True
    )
    assert back.granted.session_id == client.granted.session_id
    assert back.get("/").error == 0
    assert back.create("/p").error == ErrorCode.NOT_READ_ONLY
    assert back.create("/e", flags=EPHEMERAL).error == ErrorCode.NOT_READ_ONLY
    assert local_sessions(world) == 1
    close(back)
    assert local_sessions(world) == 0
