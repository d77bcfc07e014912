"""A standalone member from its clients' side: bytes in, bytes out."""

from typing import Final

import pytest

from tests.replica.harness import Client, World
from wire import records
from wire.client import ClientConnection, Request, Role, WatchEvent
from wire.codes import XID_AUTH, XID_PING, XID_SET_WATCHES, ErrorCode, OpCode
from wire.jute import Record
from wire.records import ACL, OPEN_ACL
from zkpy.effects import Ready
from zkpy.pipeline.auth import Authenticator, digest_id
from zkpy.pipeline.prepare import Rules
from zkpy.replica.core import READ_ONLY_AFTER_MS
from zkpy.replica.status import status_of

CREATED, DELETED, CHANGED, CHILDREN = 1, 2, 3, 4


def test_a_fresh_member_serves_without_any_timer(world: World) -> None:
    assert world.replica.zab.serving
    assert world.connect().granted.timeout_ms == 10_000


@pytest.mark.parametrize(
    ("asked", "granted"), [(0, 4000), (800, 4000), (15_000, 15_000), (80_000, 40_000)]
)
def test_the_session_timeout_is_negotiated_within_bounds(
    world: World, asked: int, granted: int
) -> None:
    assert world.connect(timeout_ms=asked).granted.timeout_ms == granted


def test_session_ids_carry_the_server_and_passwords_are_not_alike(world: World) -> None:
    first, second = world.connect().granted, world.connect().granted
    assert first.session_id >> 56 == second.session_id >> 56 == 1
    assert second.session_id == first.session_id + 1
    assert first.password != second.password
    assert first.password is not None and len(first.password) == 16


def test_create_get_set_delete(client: Client) -> None:
    assert client.create("/a", b"one").body == records.CreateResponse("/a")
    got = client.get("/a")
    assert isinstance(got.body, records.GetDataResponse)
    assert got.body.data == b"one"
    assert got.body.stat.czxid == got.body.stat.mzxid == got.zxid
    changed = client.ask(OpCode.SET_DATA, records.SetDataRequest("/a", b"two", 0))
    assert isinstance(changed.body, records.SetDataResponse)
    assert changed.body.stat.version == 1
    assert changed.body.stat.mzxid == changed.zxid
    assert client.ask(OpCode.DELETE, records.DeleteRequest("/a", 0)).error == ErrorCode.BAD_VERSION
    assert client.ask(OpCode.DELETE, records.DeleteRequest("/a", 1)).error == 0
    assert client.get("/a").error == ErrorCode.NO_NODE


def test_a_write_is_answered_only_once_it_is_durable(world: World, client: Client) -> None:
    world.disk_works = False
    xid = client.send(OpCode.CREATE, records.CreateRequest("/a", b"", list(OPEN_ACL), 0))
    world.run()
    assert client.replies == []
    assert world.replica.state.tree.nodes.get("/a") is None
    world.save()
    world.run()
    assert client.reply(xid).error == 0


def test_what_arrives_while_the_disk_works_is_one_batch(world: World, client: Client) -> None:
    world.disk_works = False
    for name in "abcd":
        client.send(OpCode.CREATE, records.CreateRequest(f"/{name}", b"", list(OPEN_ACL), 0))
        world.step()
    assert len(world.pending) == 1, "a batch is written only after the one before it"
    world.save()
    world.step()
    (batch,) = world.pending
    assert [len(step.entries) for step in batch.steps] == [3]  # type: ignore[union-attr]


def test_replies_keep_the_order_of_requests(world: World, client: Client) -> None:
    """A read behind a write waits for exactly it, and does not see the write behind (C2, C4)."""
    client.create("/a", b"0")
    xids = []
    for value in (b"1", b"2"):
        xids.append(client.send(OpCode.SET_DATA, records.SetDataRequest("/a", value, -1)))
        xids.append(client.send(OpCode.GET_DATA, records.GetDataRequest("/a", False)))
    world.run()
    replies = client.replies[1:]
    assert [reply.xid for reply in replies] == xids
    assert [r.body.data for r in replies[1::2]] == [b"1", b"2"]  # type: ignore[union-attr]
    assert [reply.zxid for reply in replies] == sorted(reply.zxid for reply in replies)
    assert replies[1].zxid == replies[0].zxid
    assert replies[2].zxid == replies[0].zxid + 1


def test_a_read_alone_does_not_wait_for_writes_of_others(world: World, client: Client) -> None:
    other = world.connect()
    world.disk_works = False
    other.send(OpCode.CREATE, records.CreateRequest("/a", b"", list(OPEN_ACL), 0))
    assert client.get("/a").error == ErrorCode.NO_NODE


def test_the_event_comes_before_the_reply_that_shows_the_change(
    world: World, client: Client
) -> None:
    writer = world.connect()
    client.ask(OpCode.EXISTS, records.ExistsRequest("/a", True))
    writer.create("/a")
    client.get("/a", watch=True)
    writer.ask(OpCode.SET_DATA, records.SetDataRequest("/a", b"x", -1))
    writer.ask(OpCode.DELETE, records.DeleteRequest("/a", -1))
    assert client.watch_events == [(CREATED, "/a"), (CHANGED, "/a")]
    kinds = [type(event).__name__ for event in client.events]
    assert kinds[-3:] == ["WatchEvent", "Reply", "WatchEvent"]


def test_an_event_carries_the_zxid_of_its_change(world: World, client: Client) -> None:
    client.ask(OpCode.EXISTS, records.ExistsRequest("/a", True))
    created = client.create("/a")
    (event,) = [event for event in client.events if isinstance(event, WatchEvent)]
    assert event.zxid == created.zxid


def test_a_delete_tells_every_kind_of_watcher(world: World, client: Client) -> None:
    client.create("/p")
    client.create("/p/a")
    client.get("/p/a", watch=True)
    client.ask(OpCode.GET_CHILDREN, records.GetChildrenRequest("/p/a", True))
    client.ask(OpCode.GET_CHILDREN, records.GetChildrenRequest("/p", True))
    client.ask(OpCode.DELETE, records.DeleteRequest("/p/a", -1))
    assert client.watch_events == [(DELETED, "/p/a"), (CHILDREN, "/p")]


def test_events_are_for_those_who_may_read(world: World, client: Client) -> None:
    """CVE-2024-23944: the ACL is checked when the event is delivered."""
    client.ask(OpCode.AUTH, records.AuthPacket(0, "digest", b"ann:secret"))
    mine = [ACL(31, "digest", digest_id(b"ann:secret"))]
    stranger = world.connect()
    stranger.ask(OpCode.ADD_WATCH, records.AddWatchRequest("/s", 1))
    client.ask(OpCode.ADD_WATCH, records.AddWatchRequest("/s", 1))
    client.ask(OpCode.CREATE, records.CreateRequest("/s", b"", mine, 0))
    client.ask(OpCode.DELETE, records.DeleteRequest("/s", -1))
    assert client.watch_events == [(CREATED, "/s"), (DELETED, "/s")]
    assert stranger.watch_events == []


def test_a_znode_made_anew_in_a_multi_is_told_by_both_its_lists(
    world: World, client: Client
) -> None:
    """The end of the old one by the old list, the new one by its own."""
    secret = [ACL(31, "digest", "ann:hash")]
    open_ = [ACL(31, "world", "anyone")]
    client.ask(OpCode.CREATE, records.CreateRequest("/closed", b"", secret, 0))
    client.ask(OpCode.CREATE, records.CreateRequest("/open", b"", open_, 0))
    client.ask(OpCode.ADD_WATCH, records.AddWatchRequest("/", 1))
    for path, acl in (("/closed", open_), ("/open", secret)):
        delete = (int(OpCode.DELETE), records.DeleteRequest(path, -1))
        create = (int(OpCode.CREATE), records.CreateRequest(path, b"", acl, 0))
        client.ask(OpCode.MULTI, records.MultiRequest([delete, create]))
    assert client.watch_events == [(CREATED, "/closed"), (DELETED, "/open")]


def test_set_watches_on_reconnect(world: World, client: Client) -> None:
    client.create("/kept")
    client.create("/gone")
    since = client.create("/changed").zxid
    client.ask(OpCode.DELETE, records.DeleteRequest("/gone", -1))
    client.ask(OpCode.SET_DATA, records.SetDataRequest("/changed", b"", -1))
    body = records.SetWatches(since, ["/kept", "/gone", "/changed"], ["/new", "/kept"], ["/"])
    client.send(OpCode.SET_WATCHES, body, xid=XID_SET_WATCHES)
    world.run()
    assert client.watch_events == [
        (DELETED, "/gone"),
        (CHANGED, "/changed"),
        (CREATED, "/kept"),
        (CHILDREN, "/"),
    ]
    assert {e.zxid for e in client.events if isinstance(e, WatchEvent)} == {-1}
    client.create("/new")
    assert client.watch_events[-1] == (CREATED, "/new")


def test_close_session_removes_ephemerals_then_answers_then_closes(
    world: World, client: Client
) -> None:
    other = world.connect()
    client.create("/e", flags=1)
    other.ask(OpCode.EXISTS, records.ExistsRequest("/e", True))
    reply = client.ask(OpCode.CLOSE_SESSION)
    assert (reply.error, client.closed) == (0, True)
    assert other.watch_events == [(DELETED, "/e")]
    assert other.get("/e").error == ErrorCode.NO_NODE


def test_what_is_pipelined_behind_close_session_is_not_done(world: World, client: Client) -> None:
    """ZOOKEEPER-1208: such a create used to leave an ephemeral that nobody deletes."""
    close = client.connection.send(Request(1, OpCode.CLOSE_SESSION, None))
    late = world.connect()
    late_create = late.connection.send(
        Request(2, OpCode.CREATE, records.CreateRequest("/e", b"", list(OPEN_ACL), 1))
    )
    world.replica.receive_client(client.link, close + late_create, world.now)
    world.run()
    assert world.connect().get("/e").error == ErrorCode.NO_NODE


def test_a_failed_multi_does_not_hide_an_ephemeral_from_the_close_behind_it(
    world: World, client: Client
) -> None:
    """What was written to it afterwards could not be applied, here or anywhere, ever."""
    other = world.connect()
    world.disk_works = False
    client.send(OpCode.CREATE, records.CreateRequest("/e", b"", list(OPEN_ACL), 1))
    delete = (OpCode.DELETE, records.DeleteRequest("/e", -1))
    failing = (OpCode.CHECK, records.CheckVersionRequest("/nowhere", -1))
    client.send(OpCode.MULTI, records.MultiRequest([delete, failing]))
    client.send(OpCode.CLOSE_SESSION)
    late = other.send(OpCode.SET_DATA, records.SetDataRequest("/e", b"x", -1))
    world.run()
    world.disk_works = True
    world.run()
    assert other.reply(late).error == ErrorCode.NO_NODE
    assert World(world.recovered()).replica.state.digest == world.replica.state.digest


def test_a_session_outlives_its_connection_and_moves(world: World, client: Client) -> None:
    client.create("/e", flags=1)
    granted = client.granted
    world.replica.client_down(client.link, world.now)
    again = world.connect(
        session_id=granted.session_id, password=granted.password, last_zxid_seen=3
    )
    assert again.granted == granted
    assert again.get("/e").error == 0


def test_a_second_connection_takes_the_session_over(world: World, client: Client) -> None:
    granted = client.granted
    again = world.connect(session_id=granted.session_id, password=granted.password)
    assert again.granted.session_id == granted.session_id
    assert client.closed and not again.closed


@pytest.mark.parametrize("wrong", ["password", "session_id"])
def test_a_session_is_denied_to_whoever_does_not_know_it(
    world: World, client: Client, wrong: str
) -> None:
    granted = client.granted
    claim = {"session_id": granted.session_id, "password": granted.password}
    claim[wrong] = bytes(16) if wrong == "password" else granted.session_id + 1
    denied = world.connect(**claim)
    assert (denied.granted.timeout_ms, denied.granted.session_id) == (0, 0)
    assert denied.granted.password == bytes(16)
    assert denied.closed and not client.closed


def test_a_client_that_has_seen_more_is_sent_away_without_an_answer(world: World) -> None:
    ahead = world.connect(last_zxid_seen=1 << 40)
    assert ahead.closed and ahead.events == []
    assert "has seen zxid 0x10000000000" in world.replica.take_notices()[0]


def test_an_old_client_is_answered_without_the_read_only_byte(world: World) -> None:
    old = world.connect(read_only=None)
    assert old.granted.read_only is None
    assert world.connect().granted.read_only is False


def test_silence_ends_a_session_and_a_ping_keeps_it(world: World, client: Client) -> None:
    lively = world.connect()
    client.create("/e", flags=1)
    for _ in range(6):
        world.advance(2_000)
        lively.send(OpCode.PING, xid=XID_PING)
        world.run()
    assert client.closed and not lively.closed
    assert lively.get("/e").error == ErrorCode.NO_NODE


def test_expiry_is_never_early(world: World, client: Client) -> None:
    world.advance(10_000)
    assert not client.closed
    world.advance(2_000)
    assert client.closed


def test_a_pause_of_the_server_itself_expires_nobody(world: World, client: Client) -> None:
    world.now += 60_000
    world.replica.handle_timer(world.now)
    world.run()
    assert not client.closed
    assert client.create("/still").error == 0


def test_a_second_pause_before_the_first_pass_expires_nobody_either(
    world: World, client: Client
) -> None:
    """What was noticed at one input was forgotten until the pass behind it."""
    other = world.connect()
    for _ in range(2):
        world.now += 60_000
        world.replica.receive_client(other.link, b"", world.now)
    world.replica.handle_timer(world.now)
    world.run()
    assert not client.closed and not other.closed


def test_a_lone_silent_session_expires_on_an_idle_server(world: World, client: Client) -> None:
    """Waiting for a deadline is no standstill, however long it takes."""
    world.advance(14_000)
    assert client.closed
    assert len(world.replica.state.sessions) == 0


def test_a_client_with_too_much_unanswered_is_not_read(world: World, client: Client) -> None:
    world = World(outstanding_per_connection_max=3)
    client, other = world.connect(), world.connect()
    world.disk_works = False
    for _ in range(2):
        client.send(OpCode.SET_DATA, records.SetDataRequest("/", b"", -1))
        client.send(OpCode.GET_DATA, records.GetDataRequest("/", False))
    assert world.replica.overloaded(client.link)
    assert not world.replica.overloaded(other.link)
    world.disk_works = True
    world.run()
    assert not world.replica.overloaded(client.link)


def test_ping(client: Client) -> None:
    assert client.send(OpCode.PING, xid=XID_PING) == XID_PING
    client.world.run()
    assert client.replies[-1].xid == XID_PING


def test_a_refused_auth_packet_ends_the_connection(world: World, client: Client) -> None:
    client.send(OpCode.AUTH, records.AuthPacket(0, "unknown-scheme", b""), xid=XID_AUTH)
    world.run()
    assert client.replies[-1].error == ErrorCode.AUTH_FAILED
    assert client.closed


GUARDED: Final = Authenticator(required=("digest",))
AS_JANE: Final = records.AuthPacket(0, "digest", b"jane:secret")


@pytest.mark.parametrize(
    ("opcode", "body", "xid"),
    [
        (OpCode.GET_DATA, records.GetDataRequest("/", False), 1),
        (OpCode.SET_DATA, records.SetDataRequest("/", b"", -1), 1),
        (OpCode.SYNC, records.SyncRequest("/"), 1),
        (OpCode.PING, None, XID_PING),
    ],
)
def test_nobody_is_answered_once(opcode: OpCode, body: Record | None, xid: int) -> None:
    """And nothing is done for it; its session goes as if it had said nothing more."""
    world = World(authenticator=GUARDED)
    client = world.connect()
    zxid = world.replica.state.zxid
    client.send(opcode, body, xid=xid)
    client.send(OpCode.AUTH, AS_JANE, xid=XID_AUTH)
    world.run()
    (reply,) = client.replies
    refused = ErrorCode.SESSION_CLOSED_REQUIRE_SASL_AUTH
    assert (reply.xid, reply.zxid, reply.error) == (xid, 0, refused)
    assert client.closed
    assert world.replica.state.zxid == zxid


def test_nobody_ends_no_session() -> None:
    world = World(authenticator=GUARDED)
    client = world.connect()
    client.send(OpCode.CLOSE_SESSION, xid=1)
    world.run()
    (reply,) = client.replies
    assert reply.error == ErrorCode.SESSION_CLOSED_REQUIRE_SASL_AUTH
    assert client.closed and len(world.replica.state.sessions) == 1


def test_whoever_has_authenticated_is_served() -> None:
    """What it sends right behind the packet, too."""
    world = World(authenticator=GUARDED)
    client = world.connect()
    client.send(OpCode.AUTH, AS_JANE, xid=XID_AUTH)
    client.send(OpCode.GET_DATA, records.GetDataRequest("/", False))
    world.run()
    assert [reply.error for reply in client.replies] == [0, 0]


def test_a_refused_credential_leaves_nobody() -> None:
    world = World(authenticator=GUARDED)
    client = world.connect()
    client.send(OpCode.AUTH, records.AuthPacket(0, "ip", b""), xid=XID_AUTH)
    client.send(OpCode.GET_DATA, records.GetDataRequest("/", False))
    world.run()
    refused = ErrorCode.SESSION_CLOSED_REQUIRE_SASL_AUTH
    assert [reply.error for reply in client.replies] == [0, refused]


def test_whoever_looks_for_another_ensemble_hears_nothing() -> None:
    """An answer would end the client's search."""
    world = World(authenticator=Authenticator(ensembles=("blue",)))
    client = world.connect()
    client.send(OpCode.AUTH, records.AuthPacket(0, "ensemble", b"blue"), xid=XID_AUTH)
    world.run()
    assert (client.replies[-1].xid, client.replies[-1].error) == (XID_AUTH, 0)
    client.send(OpCode.AUTH, records.AuthPacket(0, "ensemble", b"green"), xid=XID_AUTH)
    world.run()
    assert len(client.replies) == 1 and client.closed


def test_an_auth_packet_without_a_credential_ends_the_connection(client: Client) -> None:
    client.send(OpCode.AUTH, records.AuthPacket(0, "digest", None), xid=XID_AUTH)
    client.world.run()
    assert client.replies[-1].error == ErrorCode.AUTH_FAILED
    assert client.closed


@pytest.mark.parametrize(
    ("opcode", "inner"),
    [
        (OpCode.MULTI, OpCode.SET_ACL),
        (OpCode.MULTI, OpCode.MULTI),
        (OpCode.MULTI, 99),
        (OpCode.MULTI_READ, OpCode.EXISTS),
        (OpCode.MULTI_READ, OpCode.MULTI_READ),
    ],
)
def test_a_multi_of_what_it_may_not_hold_is_refused_and_the_connection_goes_on(
    client: Client, opcode: OpCode, inner: int
) -> None:
    create = records.CreateRequest("/a", b"", list(OPEN_ACL), 0)
    unread = records.UnreadOperation(b"whatever it is")
    multi = records.MultiRequest([(OpCode.CREATE, create), (inner, unread)])
    assert client.ask(opcode, multi).error == ErrorCode.MARSHALLING_ERROR
    assert client.get("/a").error == ErrorCode.NO_NODE


def test_sync_waits_for_what_was_proposed_before(world: World, client: Client) -> None:
    other = world.connect()
    world.disk_works = False
    other.send(OpCode.CREATE, records.CreateRequest("/a", b"", list(OPEN_ACL), 0))
    sync = client.send(OpCode.SYNC, records.SyncRequest("/a"))
    read = client.send(OpCode.GET_DATA, records.GetDataRequest("/a", False))
    write = client.send(OpCode.SET_DATA, records.SetDataRequest("/a", b"x", -1))
    again = client.send(OpCode.GET_DATA, records.GetDataRequest("/a", False))
    world.run()
    assert client.replies == []
    world.disk_works = True
    world.run()
    assert [reply.xid for reply in client.replies] == [sync, read, write, again]
    assert client.reply(sync).body == records.SyncResponse("/a")
    assert client.reply(read).body.data == b""  # type: ignore[union-attr]
    assert client.reply(again).body.data == b"x"  # type: ignore[union-attr]
    zxids = [reply.zxid for reply in client.replies]
    assert zxids == sorted(zxids)


def test_multi_is_all_or_nothing(client: Client) -> None:
    create = records.CreateRequest("/a", b"", list(OPEN_ACL), 0)
    missing = records.DeleteRequest("/none", -1)
    failed = client.ask(
        OpCode.MULTI,
        records.MultiRequest(
            [(OpCode.CREATE, create), (OpCode.DELETE, missing), (OpCode.CREATE, create)]
        ),
    )
    assert failed.error == 0
    assert isinstance(failed.body, records.MultiResponse)
    assert [result.error for result in failed.body.results] == [
        0,
        ErrorCode.NO_NODE,
        ErrorCode.RUNTIME_INCONSISTENCY,
    ]
    assert client.get("/a").error == ErrorCode.NO_NODE
    done = client.ask(
        OpCode.MULTI,
        records.MultiRequest(
            [
                (OpCode.CREATE, create),
                (OpCode.CHECK, records.CheckVersionRequest("/a", 0)),
                (OpCode.SET_DATA, records.SetDataRequest("/a", b"x", 0)),
            ]
        ),
    )
    assert isinstance(done.body, records.MultiResponse)
    assert [result.opcode for result in done.body.results] == [1, 13, 5]
    got = client.get("/a").body
    assert isinstance(got, records.GetDataResponse)
    assert got.stat.czxid == got.stat.mzxid == done.zxid


@pytest.mark.parametrize("opcode", [999, OpCode.CHECK, OpCode.DELETE_CONTAINER])
def test_an_opcode_that_is_not_for_clients(world: World, client: Client, opcode: int) -> None:
    """Stand-alone check too; deleteContainer, which ZooKeeper takes unchecked, is the server's."""
    bodies = {
        OpCode.CHECK: records.CheckVersionRequest("/", 0),
        OpCode.DELETE_CONTAINER: records.DeleteContainerRequest("/"),
    }
    reply = client.ask(opcode, bodies.get(opcode))  # type: ignore[arg-type,call-overload]
    assert (reply.error, reply.zxid) == (ErrorCode.UNIMPLEMENTED, -1)
    assert client.closed


def test_a_broken_frame_closes_that_one_connection(world: World, client: Client) -> None:
    other = world.connect()
    client.create("/a")
    good = client.connection.send(Request(7, OpCode.GET_DATA, records.GetDataRequest("/a", False)))
    world.replica.receive_client(client.link, good + b"\xff\xff\xff\xff\0\0\0\0\0\0\0\0", world.now)
    world.run()
    assert client.reply(7).error == 0
    assert client.closed
    assert other.get("/a").error == 0
    assert "closing the connection of 127.0.0.1:40000" in world.replica.take_notices()[-1]


def test_four_letter_words_come_out_for_the_shell(world: World) -> None:
    raw = world.raw()
    world.replica.receive_client(raw.link, b"ruok", world.now)
    assert world.replica.take_admin() == [(raw.link, "ruok")]
    assert world.replica.take_admin() == []


def test_a_request_sent_before_the_session_is_there_waits_for_it(world: World) -> None:
    """Hasty clients send requests right behind the connect request."""
    raw = world.raw()
    hello = ClientConnection(Role.CLIENT, 1 << 20).send(
        records.ConnectRequest(0, 0, 10_000, 0, bytes(16), False)
    )
    exists_root = bytes.fromhex("0000000e0000000100000003000000012f00")
    world.replica.receive_client(raw.link, hello + exists_root, world.now)
    world.run()
    handshake = 4 + 37
    assert len(raw.data) == handshake + 4 + 16 + 68
    assert raw.data[handshake + 4 : handshake + 8] == bytes([0, 0, 0, 1])


def test_restart_brings_everything_back(world: World, client: Client) -> None:
    client.create("/a", b"x")
    client.create("/e", flags=1)
    client.create("/s-", flags=2)
    before = world.replica.state.digest
    again = World(world.recovered())
    assert again.replica.state.digest != before or again.replica.state.zxid > 0
    assert again.replica.state.zxid > world.replica.state.zxid, "a new epoch was opened"
    assert again.replica.state.tree.nodes == world.replica.state.tree.nodes
    back = again.connect(
        session_id=client.granted.session_id,
        password=client.granted.password,
        last_zxid_seen=world.replica.state.zxid,
    )
    assert back.get("/e").error == 0
    assert back.create("/s-", flags=2).body == records.CreateResponse("/s-0000000003")


def test_a_session_keeps_the_time_out_that_is_in_the_log(world: World, client: Client) -> None:
    """Of what it asks for when it comes back, the next leader would know nothing."""
    client.create("/e", flags=1)
    granted = client.granted
    back = world.connect(
        session_id=granted.session_id, password=granted.password, timeout_ms=40_000
    )
    assert (back.granted.timeout_ms, back.granted.session_id) == (10_000, granted.session_id)
    world.replica.client_down(back.link, world.now)
    witness = world.connect(timeout_ms=40_000)
    world.advance(9_900)
    assert witness.get("/e").error == 0
    world.advance(2_200)  # in the next tick at the latest
    assert witness.get("/e").error == ErrorCode.NO_NODE


def test_a_log_that_leads_to_another_tree_is_not_served(world: World, client: Client) -> None:
    client.create("/a")
    client.create("/b")
    recovered = world.recovered()
    recovered.digests[-1] = (recovered.digests[-1][0], recovered.digests[-1][1] ^ 1)
    again = World(recovered)
    assert again.halted is not None and "digest" in again.halted
    assert "is not what it should be" in again.replica.take_notices()[0]
    assert not again.replica.zab.serving


def test_an_image_is_made_slice_by_slice_while_requests_are_served() -> None:
    from zkpy.effects import ImageBegin, ImageChunk, ImageEnd
    from zkpy.state.image import load

    world = World(snap_entries=20, image_slice_nodes=2)
    client = world.connect()
    for number in range(25):
        client.create(f"/n{number}")
    steps = world.image_steps
    assert isinstance(steps[0], ImageBegin) and isinstance(steps[-1], ImageEnd)
    chunks = [step.data for step in steps if isinstance(step, ImageChunk)]
    assert len(chunks) > 3
    loaded = load(chunks)
    assert loaded.zxid == steps[0].zxid == steps[-1].zxid
    assert loaded.digest == steps[-1].digest


def test_a_long_workload_leaves_no_cyclic_garbage() -> None:
    """The server runs with the collector off."""
    import gc

    world = World()
    keeper = world.connect()
    gc.collect()
    gc.disable()
    try:
        for number in range(50):
            client = world.connect()
            client.create(f"/e{number}", flags=1)
            client.get(f"/e{number}", watch=True)
            keeper.get(f"/none{number}")
            keeper.ask(OpCode.EXISTS, records.ExistsRequest(f"/e{number}", True))
            client.ask(OpCode.CLOSE_SESSION)
            del world.clients[client.link]
            del client
        found = gc.collect()
    finally:
        gc.enable()
    assert found == 0
    assert world.replica.clients.watches.count == 0


def test_containers_and_ttl_znodes_end_by_themselves() -> None:
    world = World(rules=Rules(extended_types=True))
    client = world.connect(timeout_ms=40_000)
    client.ask(OpCode.CREATE_CONTAINER, records.CreateRequest("/c", b"", list(OPEN_ACL), 4))
    client.ask(OpCode.CREATE_TTL, records.CreateTTLRequest("/t", b"", list(OPEN_ACL), 5, 1_000))
    client.create("/c/child")
    never = records.CreateRequest("/never-used", b"", list(OPEN_ACL), 4)
    client.ask(OpCode.CREATE_CONTAINER, never)
    client.ask(OpCode.DELETE, records.DeleteRequest("/c/child", -1))
    for _ in range(7):
        client.send(OpCode.PING, xid=XID_PING)
        world.wall += 10_000
        world.advance(10_000)
    assert client.get("/c").error == ErrorCode.NO_NODE
    assert client.get("/t").error == ErrorCode.NO_NODE
    assert client.get("/never-used").error == 0


def test_a_leader_without_quorum_serves_reads_to_those_who_ask_for_no_more() -> None:
    world = World(voters=(1, 2, 3), read_only_mode=True)
    world.advance(READ_ONLY_AFTER_MS)
    assert not world.replica.zab.serving
    assert world.connect().closed, "who wants to write is sent away"
    reader = world.connect(read_only=True)
    assert reader.granted.read_only is True
    assert reader.get("/zookeeper").error == 0
    assert reader.create("/a").error == ErrorCode.NOT_READ_ONLY
    assert reader.ask(OpCode.SYNC, records.SyncRequest("/")).error == ErrorCode.NOT_READ_ONLY
    assert reader.get("/zookeeper").error == 0
    assert reader.ask(OpCode.CLOSE_SESSION).error == 0
    assert reader.closed
    assert world.log == []


@pytest.mark.parametrize(("tick_ms", "after_ms"), [(100, 2000), (3000, 3000)])
def test_reads_alone_are_served_once_an_election_takes_long(tick_ms: int, after_ms: int) -> None:
    """As in ZooKeeper: whoever came back in the midst of an ordinary one could not write."""
    world = World(voters=(1, 2, 3), read_only_mode=True, tick_ms=tick_ms)
    world.advance(after_ms - 1)
    assert world.connect(read_only=True).closed
    assert status_of(world.replica).mode == ""
    world.advance(1)
    assert world.connect(read_only=True).granted.read_only
    assert status_of(world.replica).mode == "read-only"


def test_a_thousand_pipelined_syncs(world: World, client: Client) -> None:
    """What is held behind a sync may be a sync again: served in a loop, not in itself."""
    client.send(OpCode.CREATE, records.CreateRequest("/a", b"", list(OPEN_ACL), 0))
    for _ in range(1000):
        client.send(OpCode.SYNC, records.SyncRequest("/a"))
    world.run()
    assert [reply.xid for reply in client.replies] == list(range(1, 1002))


@pytest.mark.parametrize(
    ("opcode", "body"),
    [
        (OpCode.SYNC, records.SyncRequest("/")),
        (OpCode.RECONFIG, records.ReconfigRequest("", "", "", -1)),
    ],
)
def test_a_thousand_of_what_a_read_only_server_refuses_at_once(
    opcode: OpCode, body: Record
) -> None:
    world = World(voters=(1, 2, 3), read_only_mode=True)
    world.advance(READ_ONLY_AFTER_MS)
    client = world.connect(read_only=True)
    piece = b"".join(client.connection.send(Request(xid, opcode, body)) for xid in range(1, 1001))
    world.replica.receive_client(client.link, piece, world.now)
    world.run()
    assert [reply.xid for reply in client.replies] == list(range(1, 1001))
    assert all(reply.error == ErrorCode.NOT_READ_ONLY for reply in client.replies)


def test_an_auth_behind_a_write_counts_for_what_is_sent_behind_it(
    world: World, client: Client
) -> None:
    mine = [ACL(31, "auth", "")]
    client.send(OpCode.CREATE, records.CreateRequest("/b", b"", list(OPEN_ACL), 0))
    client.send(OpCode.AUTH, records.AuthPacket(0, "digest", b"u:p"), xid=XID_AUTH)
    last = client.send(OpCode.CREATE, records.CreateRequest("/c", b"", mine, 0))
    world.run()
    assert client.reply(last).error == 0


@pytest.mark.parametrize(
    "ender", [(OpCode.AUTH, records.AuthPacket(0, "no-such-scheme", b"")), (OpCode.CHECK, None)]
)
def test_nothing_is_done_behind_what_ends_the_connection(
    world: World, client: Client, ender: tuple[OpCode, records.AuthPacket | None]
) -> None:
    opcode, body = ender
    body = body or records.CheckVersionRequest("/", 0)  # type: ignore[assignment]
    client.send(OpCode.CREATE, records.CreateRequest("/b", b"", list(OPEN_ACL), 0))
    client.send(opcode, body)
    client.send(OpCode.CREATE, records.CreateRequest("/after", b"", list(OPEN_ACL), 0))
    world.run()
    assert client.closed
    assert world.connect().get("/after").error == ErrorCode.NO_NODE


def test_a_broken_frame_right_behind_the_handshake(world: World, client: Client) -> None:
    """The claim of a session is answered at once; the connection is dead by then."""
    world = World(frame_bytes_max=1024)
    raw = world.raw()
    hello = ClientConnection(Role.CLIENT, 1 << 20).send(
        records.ConnectRequest(0, 0, 10_000, 77, bytes(16), False)
    )
    world.replica.receive_client(raw.link, hello + bytes(5000), world.now)
    world.run()
    assert raw.closed
    assert world.connect().granted.timeout_ms == 10_000


def test_one_client_cannot_have_a_whole_pass_to_itself() -> None:
    world = World(share_bytes_max=10_000)
    greedy, other = world.connect(), world.connect()
    greedy.create("/big", b"x" * 4_000)
    requests = b"".join(
        greedy.connection.send(
            Request(100 + n, OpCode.GET_DATA, records.GetDataRequest("/big", False))
        )
        for n in range(100)
    )
    world.replica.receive_client(greedy.link, requests, world.now)
    ping = other.connection.send(Request(XID_PING, OpCode.PING, None))
    world.replica.receive_client(other.link, ping, world.now)
    world.step()
    assert len(greedy.replies) < 10, "its share of the first pass"
    assert len(other.replies) == 1
    assert world.replica.deadline() is not None and world.replica.deadline() <= world.now  # type: ignore[operator]
    world.run()
    assert [reply.xid for reply in greedy.replies[1:]] == list(range(100, 200))


def test_the_last_zxid_of_an_epoch_is_followed_by_a_new_epoch(world: World, client: Client) -> None:
    """ZOOKEEPER-1277: no error but a short failover, whatever is under way."""
    log = world.replica.zab.log
    log.last = log.saved = log.committed = log.applied = log.last | 0xFFFFFFF8
    world.replica.state.zxid = log.last
    log.base, log.base_chain, log.entries[:] = log.last, log.chain, []
    log._firsts[:], log._starts[:] = [], []
    log._flushed = log._dropped = 0
    data = b"".join(
        client.connection.send(
            Request(n, OpCode.CREATE, records.CreateRequest(f"/n{n}", b"", list(OPEN_ACL), 0))
        )
        for n in range(1, 20)
    ) + client.connection.send(Request(20, OpCode.SYNC, records.SyncRequest("/")))
    world.replica.receive_client(client.link, data, world.now)
    world.run()
    world.advance(100)
    assert world.halted is None
    assert client.closed
    assert world.replica.zab.serving and world.replica.zab.epoch == 2
    assert world.connect().create("/again").error == 0


def test_the_disk_gets_the_next_batch_before_what_was_saved_is_applied(world: World) -> None:
    """It works while the state catches up; the next call, whichever, sees that done first."""
    first, second = world.connect(), world.connect()
    first.create("/a")
    world.disk_works = False
    changed = first.send(OpCode.SET_DATA, records.SetDataRequest("/a", b"1", -1))
    world.run()
    behind = second.send(OpCode.SET_DATA, records.SetDataRequest("/a", b"2", -1))
    (batch,) = world.pending
    following = world.replica.saved(batch.number, world.now)
    assert following is not None and following.number == batch.number + 1
    assert world.replica.state.zxid < world.replica.zab.log.committed
    second.send(OpCode.GET_DATA, records.GetDataRequest("/a", False))
    assert world.replica.state.zxid == world.replica.zab.log.committed
    world.run()
    assert first.reply(changed).error == 0
    assert all(each.xid != behind for each in second.replies)
    assert world.replica.saved(following.number, world.now) is None
    world.run()
    assert second.reply(behind).error == 0


def test_reads_alone_ask_for_nothing_but_their_replies(world: World, client: Client) -> None:
    client.create("/a")
    client.send(OpCode.GET_DATA, records.GetDataRequest("/a", False))
    ready = world.replica.ready()
    assert [link for link, _ in ready.clients] == [client.link]
    assert ready == Ready(clients=ready.clients)


def test_no_image_is_made_of_a_state_that_is_known_to_be_wrong(
    world: World, client: Client
) -> None:
    """Its digest would fit it, and the next start would believe it."""
    client.create("/a")
    client.create("/b")
    sound = World(world.recovered(), snap_entries=2)
    assert sound.image_steps, "one is due"
    recovered = world.recovered()
    recovered.digests[-1] = (recovered.digests[-1][0], recovered.digests[-1][1] ^ 1)
    wrong = World(recovered, snap_entries=2)
    assert wrong.halted is not None
    assert not wrong.replica.images.busy
    assert not wrong.replica.ready().image
