"""Bounds on clients: handshakes in time and in number, identities, a disk without room."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.replica.harness import Client, Raw, World
from wire import records, upper
from wire.client import Request, encode_frame
from wire.codes import XID_AUTH, ErrorCode, OpCode
from wire.records import OPEN_ACL
from wire.txn import TxnHeader
from zkpy.limits import Limits
from zkpy.replica.learning import FORWARD_BYTES_MAX, Learning
from zkpy.replica.status import Tables, details_of, status_of
from zkpy.replica.throttle import TokenBucket

HANDSHAKE = Limits().handshake_ms
CONNECT = records.ConnectRequest(0, 0, 10_000, 0, bytes(16), False)
OK = ErrorCode.OK
THROTTLED = ErrorCode.THROTTLED_OP


# --- handshakes -------------------------------------------------------------------------


def test_a_connection_that_asks_for_nothing_is_closed() -> None:
    world = World()
    idle = world.raw()
    world.advance(HANDSHAKE - 1)
    assert not idle.closed
    world.advance(2)
    assert idle.closed
    assert any("it asks for nothing" in notice for notice in world.replica.take_notices())  # type: ignore[unreachable]


def test_a_handshake_byte_by_byte_is_not_waited_for() -> None:
    world = World()
    slow = world.raw()
    for byte in encode_frame(CONNECT.encode())[:-1]:
        world.replica.receive_client(slow.link, bytes((byte,)), world.now)
        world.advance(HANDSHAKE // 40)
        if slow.closed:
            break
    assert slow.closed


def test_each_connection_has_the_whole_time() -> None:
    world = World()
    first = world.raw()
    world.advance(HANDSHAKE // 2)
    second = world.raw()
    world.advance(HANDSHAKE // 2 + 1)
    assert (first.closed, second.closed) == (True, False)
    world.advance(HANDSHAKE // 2)
    assert second.closed


def test_a_session_outlives_the_time_for_handshakes() -> None:
    world = World(handshake_ms=500)
    client = world.connect()
    world.advance(5000)
    assert not client.closed


def test_handshakes_beyond_the_tokens_are_turned_away() -> None:
    world = World(connect_tokens_max=2, connect_fill_ms=100)
    world.advance(1000)
    clients = [world.connect() for _ in range(3)]
    assert [client.closed for client in clients] == [False, False, True]
    assert clients[2].events == []
    world.advance(100)
    assert not world.connect().closed


def test_tokens_come_back_up_to_their_number() -> None:
    bucket = TokenBucket(3, 10, 2)
    taken = [bucket.take(at) for at in (1000, 1000, 1000, 1000, 1009, 1010, 1011, 1019, 5000)]
    assert taken == [True, True, True, False, False, True, True, False, True]


def test_without_tokens_there_is_no_bound() -> None:
    bucket = TokenBucket(0, 1, 1)
    assert all(bucket.take(0) for _ in range(1000))


# --- identities -------------------------------------------------------------------------


def authenticate(client: Client, name: str) -> None:
    body = records.AuthPacket(0, "digest", f"{name}:x".encode())
    client.send(OpCode.AUTH, body, XID_AUTH)
    client.world.run()


def test_identities_of_a_connection_are_bounded() -> None:
    world = World(identities_max=4)
    client = world.connect()
    for name in ("a", "b", "b", "c"):  # with the address that is four
        authenticate(client, name)
    assert not client.closed
    authenticate(client, "d")
    assert client.replies[-1].error == ErrorCode.AUTH_FAILED
    assert client.closed


def test_long_identities_are_refused_too() -> None:
    """Each write of the connection carries them all to the leader."""
    world = World(identity_bytes_max=1000)
    client = world.connect()
    authenticate(client, "a" * 400)
    authenticate(client, "b" * 400)
    assert not client.closed
    authenticate(client, "c" * 400)
    assert client.closed


# --- large writes -------------------------------------------------------------------------


def test_large_writes_go_on_their_way_a_few_at_a_time() -> None:
    world = World(outstanding_bytes_max=10_000)
    clients = [world.connect() for _ in range(5)]
    reader = world.connect()
    for number, client in enumerate(clients):
        client.create(f"/{number}")
    world.disk_works = False
    sent = [
        [
            client.send(OpCode.SET_DATA, records.SetDataRequest(f"/{n}", bytes(4_000), -1))
            for _ in range(3)
        ]
        for n, client in enumerate(clients)
    ]
    waiting = reader.send(OpCode.EXISTS, records.ExistsRequest("/0", False))
    world.run()
    assert world.replica.clients.gate.bytes < 15_000
    assert all(world.replica.overloaded(client.link) for client in clients)
    deadline = world.replica.deadline()
    assert deadline is not None and deadline > world.now, "nobody waits for it in a loop"
    world.disk_works = True
    world.run()
    for client, xids in zip(clients, sent, strict=True):
        assert [client.reply(xid).error for xid in xids] == [OK] * 3
    assert reader.reply(waiting).error == OK
    assert world.replica.clients.gate.bytes == 0
    assert not any(world.replica.overloaded(client.link) for client in clients)


def test_who_is_not_listened_to_does_not_expire() -> None:
    world = World(outstanding_max=2)
    held, silent = world.connect(), world.connect()
    held.create("/x")
    world.disk_works = False
    for _ in range(3):
        held.send(OpCode.SET_DATA, records.SetDataRequest("/x", b"", -1))
    for _ in range(40):
        assert world.replica.overloaded(held.link)
        world.advance(1_000)
    world.disk_works = True
    world.run()
    assert not world.replica.overloaded(held.link)
    world.advance(2_000)
    assert (held.closed, silent.closed) == (False, True)


def test_who_does_not_listen_either_expires() -> None:
    world = World(outstanding_per_connection_max=10, share_bytes_max=1_000)
    client = world.connect()
    client.create("/big", bytes(4_000))
    body = records.GetDataRequest("/big", False)
    data = b"".join(
        client.connection.send(Request(100 + n, OpCode.GET_DATA, body)) for n in range(100)
    )
    assert world.replica.receive_client(client.link, data, world.now)
    world.replica.choke_client(client.link, True, world.now)
    for _ in range(20):
        world.replica.overloaded(client.link)
        world.advance(1_000)
    assert client.closed


@pytest.mark.patches
def test_a_long_pass_is_forwarded_in_pieces() -> None:
    sent: list[bytes] = []
    nobody: Any = None
    zab: Any = SimpleNamespace(send=lambda sid, data: sent.append(data))
    office = Learning(3, 1, zab, nobody, nobody, 0)
    body = records.SetDataRequest("/x", bytes(FORWARD_BYTES_MAX // 3), -1)
    for number in range(10):
        office.submit(TxnHeader(1, 1, 2, 1, number, 0), OpCode.SET_DATA, body, ())
    office.flush()
    office.flush()
    messages = [upper.decode(data) for data in sent]
    assert max(map(len, sent)) <= FORWARD_BYTES_MAX
    writes = [write for m in messages if isinstance(m, upper.Forward) for write in m.writes]
    assert [write.number for write in writes] == list(range(10))
    assert len(messages) > 3


# --- a disk without room ----------------------------------------------------------------


def set_low(world: World, low: bool) -> None:
    world.replica.set_low_space(low, world.now)
    world.run()


def set_data(client: Client, path: str) -> int:
    return client.ask(OpCode.SET_DATA, records.SetDataRequest(path, b"x", -1)).error


def test_writes_are_refused_while_there_is_no_room_and_taken_again_after() -> None:
    world = World()
    client = world.connect()
    assert client.create("/a").error == OK
    written = len(world.log)
    set_low(world, True)
    assert client.create("/b").error == THROTTLED
    assert set_data(client, "/a") == THROTTLED
    assert len(world.log) == written, "a refusal takes no room"
    assert client.get("/a").error == OK
    assert status_of(world.replica).low_space
    set_low(world, False)
    assert client.create("/b").error == OK
    assert not status_of(world.replica).low_space


def test_what_frees_room_and_sessions_go_on_without_it() -> None:
    world = World()
    client = world.connect()
    client.create("/a")
    set_low(world, True)
    assert world.connect().granted.timeout_ms == 10_000
    assert client.ask(OpCode.DELETE, records.DeleteRequest("/a", -1)).error == OK
    client.ask(OpCode.CLOSE_SESSION)
    assert client.closed


def test_a_refusal_keeps_the_order_of_replies() -> None:
    world = World()
    client = world.connect()
    client.create("/a")
    world.disk_works = False
    first = client.send(OpCode.SET_DATA, records.SetDataRequest("/a", b"1", -1))
    world.run()
    set_low(world, True)
    second = client.send(OpCode.SET_DATA, records.SetDataRequest("/a", b"2", -1))
    third = client.send(OpCode.GET_DATA, records.GetDataRequest("/a", False))
    world.run()
    assert [reply.xid for reply in client.replies] == [first - 1]
    world.disk_works = True
    world.run()
    assert [reply.xid for reply in client.replies][-3:] == [first, second, third]
    assert [reply.error for reply in client.replies][-3:] == [OK, THROTTLED, OK]


def test_a_new_leadership_knows_of_the_disk() -> None:
    world = World()
    set_low(world, True)
    client = world.connect()
    world.replica._enter_office()
    world.run()
    assert client.closed
    assert world.connect().create("/a").error == THROTTLED


@pytest.mark.patches
def test_a_learner_passes_the_refusal_on() -> None:
    """A leader without room answers writes of other members' clients past the log."""
    told: list[tuple[int, int]] = []
    side: Any = SimpleNamespace(refused=lambda number, code: told.append((number, code)))
    zab: Any = None
    links: Any = None
    office = Learning(3, 1, zab, side, links, 0)
    office.receive(2, upper.Refused(7, THROTTLED))
    assert told == [], "it is not the leader's"
    office.receive(3, upper.Refused(7, THROTTLED))
    assert told == [(7, THROTTLED)]


@pytest.mark.patches
def test_the_refusal_goes_to_the_member_that_forwarded_the_write() -> None:
    world = World()
    set_low(world, True)
    sent: list[tuple[int, upper.Message]] = []
    office: Any = world.replica.office
    office._zab = SimpleNamespace(
        serving=True, send=lambda sid, data: sent.append((sid, upper.decode(data)))
    )
    body = records.SetDataRequest("/zookeeper", b"", -1)
    forwarded = upper.ForwardedWrite(7, OpCode.SET_DATA, 1, 1, body, ())
    office.receive(2, upper.Forward(5, [forwarded]))
    assert sent == [(2, upper.Refused(7, THROTTLED))]


def test_a_refusal_for_a_client_that_left_is_nobodys() -> None:
    world = World()
    world.replica.clients.refused(12345, THROTTLED)
    world.run()
    assert world.connect().get("/").error == OK


# --- what the words show ----------------------------------------------------------------


@pytest.fixture(name="pair")
def make_pair() -> tuple[World, Client, Raw]:
    world = World()
    client = world.connect()
    client.create("/e", flags=1)
    client.get("/e", watch=True)
    client.ask(OpCode.GET_CHILDREN, records.GetChildrenRequest("/", True))
    client.ask(OpCode.ADD_WATCH, records.AddWatchRequest("/e", 0))
    return world, client, world.raw()


def test_status_of_connections(pair: tuple[World, Client, Raw]) -> None:
    world, client, raw = pair
    first, second = status_of(world.replica).links()
    assert (first.id, first.session) == (client.link, client.granted.session_id)
    assert (first.last_opcode, first.last_xid) == (OpCode.ADD_WATCH, 4)
    assert first.last_zxid == world.replica.state.zxid
    assert (first.received, first.sent) == (5, 5)
    assert (second.id, second.session, second.last_opcode, second.last_xid) == (raw.link, 0, 0, -1)
    assert second.last_zxid == 0


def test_details(pair: tuple[World, Client, Raw]) -> None:
    world, client, _ = pair
    session = client.granted.session_id
    details = details_of(world.replica)
    assert details.ephemerals == {session: ["/e"]}
    assert sorted(details.watches) == [(session, "/"), (session, "/e")]
    assert details.deadlines is not None and details.local_deadlines is None
    (deadline,) = details.deadlines
    assert 10_000 <= deadline - world.now <= 12_000
    assert details.deadlines[deadline] == [session]


def test_tables_are_the_details_piece_by_piece(pair: tuple[World, Client, Raw]) -> None:
    world, client, _ = pair
    session = client.granted.session_id
    tables, details = Tables(world.replica), details_of(world.replica)
    assert {path: tables.watchers(path) for path in tables.watched_paths()} == {
        "/": [session],
        "/e": [session],
    }
    (link,) = tables.watching_links()
    known, paths = tables.watched_by(link)
    assert (known, next(paths)) == (session, "/e")
    assert {each: tables.owned_by(each) for each in tables.owners()} == details.ephemerals
    assert tables.deadlines() == details.deadlines
    assert tables.digests() == details.digests
    world.replica.client_down(link, world.now)
    assert list(paths) == []
    known, paths = tables.watched_by(link)
    assert (known, list(paths)) == (0, []), "gone between two pieces"
    assert tables.watchers("/e") == []


def test_digests_at_round_zxids() -> None:
    world = World()
    client = world.connect()
    for _ in range(300):
        client.send(OpCode.CREATE, records.CreateRequest("/n-", b"", list(OPEN_ACL), 2))
    world.run()
    digests = details_of(world.replica).digests
    state = world.replica.state
    assert [zxid & 0xFFFFFFFF for zxid, _ in digests[:-1]] == [128, 256]
    assert digests[-1] == (state.zxid, state.digest)


def test_sizes_of_proposals() -> None:
    world = World()
    client = world.connect()
    client.create("/a", b"x" * 500)
    sizes = status_of(world.replica).proposal_sizes
    assert sizes is not None
    last, least, greatest = sizes
    assert last == greatest > 500 > least > 0


# --- clients that do not read -----------------------------------------------------------


def test_who_does_not_read_is_not_answered_further_until_it_does() -> None:
    world = World(share_bytes_max=10_000)
    client = world.connect()
    client.create("/big", b"x" * 4_000)
    data = b"".join(
        client.connection.send(
            Request(100 + n, OpCode.GET_DATA, records.GetDataRequest("/big", False))
        )
        for n in range(100)
    )
    world.replica.receive_client(client.link, data, world.now)
    world.replica.choke_client(client.link, True, world.now)
    world.run()
    answered = len(client.replies)
    assert answered < 10
    deadline = world.replica.deadline()
    assert deadline is not None and deadline > world.now, "nobody waits for it in a loop"
    world.advance(2_000)
    assert len(client.replies) == answered
    world.replica.choke_client(client.link, False, world.now)
    world.run()
    assert [reply.xid for reply in client.replies[1:]] == list(range(100, 200))


# --- T-size-1: transactions ---------------------------------------------------------------


def create_of(size: int) -> records.CreateRequest:
    return records.CreateRequest("/y", bytes(size), list(OPEN_ACL), 0)


LONG_ACL = [records.ACL(1, "ip", f"10.0.0.{n}") for n in range(60)]
SIZED: dict[str, tuple[OpCode, Any]] = {
    "create": (OpCode.CREATE, create_of(3000)),
    "set": (OpCode.SET_DATA, records.SetDataRequest("/x", bytes(3000), -1)),
    "acl": (OpCode.SET_ACL, records.SetACLRequest("/x", LONG_ACL, -1)),
    "multi": (
        OpCode.MULTI,
        records.MultiRequest(
            [
                (OpCode.CREATE, create_of(1500)),
                (OpCode.SET_DATA, records.SetDataRequest("/x", bytes(1500), -1)),
            ]
        ),
    ),
}


def logged_under(limit: int, opcode: OpCode, body: Any) -> tuple[int, int]:
    """(error told to the client, bytes of the entry in the log) where entries have that limit."""
    world = World(entry_bytes_max=limit)
    client = world.connect()
    client.create("/x")
    error = client.ask(opcode, body).error
    return error, len(world.log[-1].data)


@pytest.mark.parametrize("name", SIZED)
def test_t_size_1_at_below_and_above_the_limit(name: str) -> None:
    """ZOOKEEPER-3496, -2101, -4306: what peers could not read back is never proposed."""
    _, size = logged_under(1 << 20, *SIZED[name])
    assert size > 1000
    assert logged_under(size + 1, *SIZED[name]) == (OK, size)
    assert logged_under(size, *SIZED[name]) == (OK, size)
    error, logged = logged_under(size - 1, *SIZED[name])
    assert error == ErrorCode.BAD_ARGUMENTS
    assert logged < 100, "the refusal is an entry, and a small one"


def test_t_size_1_the_end_of_a_session_does_not_grow_with_it() -> None:
    """ZOOKEEPER-4306: closeSession names the session, not what it owned."""
    world = World(entry_bytes_max=300)
    client = world.connect()
    for n in range(500):
        client.create(f"/ephemeral-{n}", flags=1)
    assert client.ask(OpCode.CLOSE_SESSION).error == OK
    assert len(world.log[-1].data) < 100
    assert world.replica.state.lifetimes.ephemeral_count == 0


# --- leaderServes


def test_a_leader_alone_leaves_clients_to_nobody() -> None:
    """The others: tests/sim/test_leader_serves.py."""
    world = World(leader_serves=False)
    assert world.connect().create("/a").error == OK
