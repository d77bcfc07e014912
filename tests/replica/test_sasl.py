"""SASL from the clients' side of one member: exchanges, failures, what is sent around them."""

from typing import Final

import pytest

from tests.pipeline.digest_client import respond
from tests.replica.harness import Client, World
from wire import records
from wire.client import Reply, encode_frame, encode_reply
from wire.codes import XID_AUTH, XID_PING, ErrorCode, OpCode
from wire.jute import Record
from wire.records import ACL
from zkpy.pipeline.auth import Authenticator
from zkpy.pipeline.digest_md5 import SaslUsers, secret_of
from zkpy.pipeline.prepare import Rules
from zkpy.testing.hostile import CONNECT, packet

PASSWORD: Final = "open-sesame"
SECRETS: Final = {user: secret_of(user, PASSWORD) for user in ("bob", "jane", "root", "super")}
BOBS: Final = ACL(31, "sasl", "bob")
OWN: Final = ACL(31, "auth", "")


def build(
    *, off: tuple[str, ...] = (), required: tuple[str, ...] = (), keeps_failed: bool = False
) -> World:
    users = SaslUsers(SECRETS, ("root",), keeps_failed)
    return World(
        authenticator=Authenticator(sasl=users, required=required), rules=Rules(schemes_off=off)
    )


@pytest.fixture
def world() -> World:
    return build()


@pytest.fixture
def client(world: World) -> Client:
    return world.connect()


def token_of(reply: Reply) -> bytes:
    assert reply.error == 0 and isinstance(reply.body, records.SaslResponse)
    assert reply.zxid == 0
    return reply.body.token or b""


def challenge(client: Client) -> bytes:
    return token_of(client.ask(OpCode.SASL, records.SaslRequest(b"")))


def log_in(client: Client, user: str = "bob") -> None:
    token = respond(challenge(client), user, PASSWORD)
    answer = token_of(client.ask(OpCode.SASL, records.SaslRequest(token)))
    assert answer.startswith(b"rspauth=")


def create(path: str, *acl: ACL) -> records.CreateRequest:
    return records.CreateRequest(path, b"", list(acl), 0)


def identities(client: Client) -> list[tuple[str, str]]:
    body = client.ask(OpCode.WHO_AM_I).body
    assert isinstance(body, records.WhoAmIResponse)
    return [(each.auth_scheme, each.user) for each in body.client_info]


def errors(client: Client, count: int) -> list[int]:
    return [reply.error for reply in client.replies[-count:]]


def test_a_user_is_who_it_says(client: Client) -> None:
    log_in(client)
    assert identities(client) == [("ip", "127.0.0.1"), ("sasl", "bob")]
    assert client.ask(OpCode.CREATE, create("/a", BOBS)).error == 0
    assert client.ask(OpCode.CREATE, create("/b", OWN)).error == 0
    acl = client.ask(OpCode.GET_ACL, records.GetACLRequest("/b")).body
    assert isinstance(acl, records.GetACLResponse) and acl.acl == [BOBS]


def test_others_may_not(world: World, client: Client) -> None:
    log_in(client)
    assert client.ask(OpCode.CREATE, create("/a", BOBS)).error == 0
    stranger, jane = world.connect(), world.connect()
    log_in(jane, "jane")
    digest = world.connect()
    digest.send(OpCode.AUTH, records.AuthPacket(0, "digest", b"bob:open-sesame"), xid=XID_AUTH)
    for each in (stranger, jane, digest):
        assert each.get("/a").error == ErrorCode.NO_AUTH


@pytest.mark.parametrize("user", ["root", "super"])
def test_super_users_may(world: World, client: Client, user: str) -> None:
    log_in(client)
    assert client.ask(OpCode.CREATE, create("/a", BOBS)).error == 0
    other = world.connect()
    log_in(other, user)
    assert other.get("/a").error == 0


def test_the_user_super_is_no_superuser_of_other_schemes(world: World, client: Client) -> None:
    owner = ACL(31, "digest", "ann:hash")
    assert client.ask(OpCode.CREATE, create("/a", owner)).error == 0
    other, root = world.connect(), world.connect()
    log_in(other, "super")
    log_in(root, "root")
    assert other.get("/a").error == ErrorCode.NO_AUTH
    assert root.get("/a").error == 0


def test_nonces_differ_between_connections_and_not_between_runs(world: World) -> None:
    seen = [challenge(world.connect()) for _ in range(3)]
    assert len(set(seen)) == 3
    again = build()
    assert [challenge(again.connect()) for _ in range(3)] == seen


@pytest.mark.parametrize("token", [b"", b"garbage", b"username=bob", b"x" * 5000])
def test_a_failed_exchange_ends_the_connection(client: Client, token: bytes) -> None:
    challenge(client)
    reply = client.ask(OpCode.SASL, records.SaslRequest(token))
    assert (reply.error, reply.zxid, reply.body) == (ErrorCode.AUTH_FAILED, 0, None)
    assert client.closed


@pytest.mark.parametrize("served", [True, False])
def test_a_refusal_carries_a_null_token(served: bool) -> None:
    """ZooKeeper's Java client reads a token before it looks at the error: without one it saw a
    broken connection instead of a refusal, and came back for ever."""
    world = build() if served else World()
    raw = world.raw()
    world.replica.receive_client(raw.link, encode_frame(CONNECT.encode()), world.now)
    world.run()
    token = packet(OpCode.SASL, records.SaslRequest(b"no answer"), 7)
    for _ in range(2 if served else 1):
        world.replica.receive_client(raw.link, encode_frame(token), world.now)
    world.run()
    refusal = encode_reply(7, 0, ErrorCode.AUTH_FAILED, records.SaslResponse(None).encode())
    assert raw.data.endswith(refusal)
    assert raw.closed == served


@pytest.mark.parametrize("keeps_failed", [False, True])
def test_a_user_with_too_many_identities_is_told_by_a_null_token_too(keeps_failed: bool) -> None:
    users = SaslUsers(SECRETS, (), keeps_failed)
    world = World(authenticator=Authenticator(sasl=users), identities_max=2)
    client = world.connect()
    client.send(OpCode.AUTH, records.AuthPacket(0, "digest", b"ann:pw"), xid=XID_AUTH)
    token = respond(challenge(client), "bob", PASSWORD)
    sent = packet(OpCode.SASL, records.SaslRequest(token), 7)
    before = world.replica.clients.links.by_id[client.link].identities
    world.replica.receive_client(client.link, encode_frame(sent), world.now)
    ready = world.replica.ready()
    (written,) = [data for _, data in ready.clients]
    error = 0 if keeps_failed else ErrorCode.AUTH_FAILED
    assert written == encode_reply(7, 0, error, records.SaslResponse(None).encode())
    (said,) = ready.failures
    assert "it has 3 identities" in said
    if keeps_failed:
        assert world.replica.clients.links.by_id[client.link].identities == before


def test_a_wrong_password_ends_the_connection_and_what_was_sent_behind_it(
    world: World, client: Client
) -> None:
    token = respond(challenge(client), "bob", "wrong")
    client.send(OpCode.SASL, records.SaslRequest(token))
    client.send(OpCode.CREATE, create("/a", *records.OPEN_ACL))
    world.run()
    assert errors(client, 1) == [ErrorCode.AUTH_FAILED] and len(client.replies) == 2
    assert client.closed
    assert world.connect().get("/a").error == ErrorCode.NO_NODE
    (said,) = world.failures
    assert "failed to authenticate by SASL" in said
    assert world.replica.take_notices() == []  # told once
    assert world.replica.clients.counts.auths_failed == 1


def test_a_connection_has_one_exchange(client: Client) -> None:
    """As ZooKeeper: a token after success is refused, and the connection closed."""
    log_in(client)
    reply = client.ask(OpCode.SASL, records.SaslRequest(b""))
    assert reply.error == ErrorCode.AUTH_FAILED and client.closed


def test_an_answer_to_another_connections_challenge_is_refused(world: World) -> None:
    first, second = world.connect(), world.connect()
    token = respond(challenge(first))
    challenge(second)
    assert second.ask(OpCode.SASL, records.SaslRequest(token)).error == ErrorCode.AUTH_FAILED


def test_what_is_sent_behind_the_exchange_is_done_by_the_user(world: World, client: Client) -> None:
    """All in one piece; and what is sent before it is not."""
    token = respond(challenge(client))
    world.disk_works = False
    client.send(OpCode.CREATE, create("/before", OWN))
    client.send(OpCode.CREATE, create("/open", *records.OPEN_ACL))
    client.send(OpCode.SASL, records.SaslRequest(token))
    client.send(OpCode.CREATE, create("/a", OWN))
    client.send(OpCode.GET_DATA, records.GetDataRequest("/a", False))
    world.run()
    assert len(client.replies) == 1  # of the challenge: the exchange waits for the write
    world.disk_works = True
    while world.save():
        world.run()
    assert errors(client, 5) == [ErrorCode.INVALID_ACL, 0, 0, 0, 0]
    assert world.connect().get("/a").error == ErrorCode.NO_AUTH


def test_a_token_right_behind_the_handshake(world: World) -> None:
    """Held until the session is there."""
    raw = world.raw()
    token = encode_frame(packet(OpCode.SASL, records.SaslRequest(b"")))
    world.replica.receive_client(raw.link, encode_frame(CONNECT.encode()) + token, world.now)
    world.run()
    assert raw.data.count(b"realm=") == 1


def test_a_token_instead_of_the_handshake(world: World) -> None:
    raw = world.raw()
    token = encode_frame(packet(OpCode.SASL, records.SaslRequest(b"")))
    world.replica.receive_client(raw.link, token, world.now)
    world.run()
    assert raw.closed and raw.data == b""


def test_a_resumed_session_has_no_identity_of_its_old_connection(
    world: World, client: Client
) -> None:
    """Nor a half-done exchange: a login of the connection before counts for nothing (4839)."""
    old_challenge = challenge(client)
    granted = client.granted
    again = world.connect(session_id=granted.session_id, password=granted.password)
    assert again.granted.session_id == granted.session_id
    log_in(again)
    third = world.connect(session_id=granted.session_id, password=granted.password)
    assert identities(third) == [("ip", "127.0.0.1")]
    assert challenge(third) != old_challenge


def test_the_state_of_an_exchange_goes_with_its_connection(world: World, client: Client) -> None:
    challenge(client)
    table = world.replica.clients.links
    link = table.by_id[client.link]
    assert link.sasl is not None
    world.replica.client_down(client.link, world.now)
    assert client.link not in table.by_id


def test_sasl_is_no_scheme_of_an_auth_packet(world: World, client: Client) -> None:
    client.send(OpCode.AUTH, records.AuthPacket(0, "sasl", b"bob:open-sesame"), xid=XID_AUTH)
    world.run()
    assert errors(client, 1) == [ErrorCode.AUTH_FAILED] and client.closed
    (said,) = world.failures
    assert said.endswith("failed to authenticate by the scheme 'sasl'")
    assert world.replica.clients.counts.auths_failed == 1


def test_where_it_is_not_served() -> None:
    world = World()
    client = world.connect()
    reply = client.ask(OpCode.SASL, records.SaslRequest(b""))
    assert (reply.error, reply.zxid) == (ErrorCode.AUTH_FAILED, 0)
    assert client.ask(OpCode.CREATE, create("/a", BOBS)).error == ErrorCode.INVALID_ACL
    set_acl = records.SetACLRequest("/", [BOBS], -1)
    assert client.ask(OpCode.SET_ACL, set_acl).error == ErrorCode.INVALID_ACL


def test_without_its_provider_no_acl_names_a_user() -> None:
    """As ZooKeeper, which lets users in all the same."""
    world = build(off=("sasl",))
    client = world.connect()
    log_in(client)
    assert client.ask(OpCode.CREATE, create("/a", BOBS)).error == ErrorCode.INVALID_ACL
    assert client.ask(OpCode.CREATE, create("/a", OWN)).error == ErrorCode.INVALID_ACL


def test_failed_clients_may_stay() -> None:
    """`allowSaslFailedClients`: without an identity, and without another attempt."""
    world = build(keeps_failed=True)
    client = world.connect()
    token = respond(challenge(client), "bob", "wrong")
    for attempt in (token, respond(challenge(world.connect())), b""):
        reply = client.ask(OpCode.SASL, records.SaslRequest(attempt))
        assert (reply.error, reply.body) == (0, records.SaslResponse(None))
    assert len(world.failures) == world.replica.clients.counts.auths_failed == 3
    assert identities(client) == [("ip", "127.0.0.1")]


# --- where all clients have to be users ---------------------------------------------------

REFUSED: Final = ErrorCode.SESSION_CLOSED_REQUIRE_SASL_AUTH


@pytest.mark.parametrize(
    ("opcode", "body", "xid"),
    [
        (OpCode.GET_DATA, records.GetDataRequest("/", False), 1),
        (OpCode.PING, None, XID_PING),
        (OpCode.WHO_AM_I, None, 1),
        (OpCode.CLOSE_SESSION, None, 1),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_nobody_is_served(opcode: OpCode, body: Record | None, xid: int, begun: bool) -> None:
    """Nor with another identity, nor in the middle of the exchange."""
    world = build(required=("sasl",))
    client = world.connect()
    client.send(OpCode.AUTH, records.AuthPacket(0, "digest", b"bob:open-sesame"), xid=XID_AUTH)
    if begun:
        challenge(client)
    client.send(opcode, body, xid=xid)
    world.run()
    assert errors(client, 1) == [REFUSED] and client.closed


@pytest.mark.parametrize("keeps_failed", [False, True])
def test_who_fails_is_told_the_same(keeps_failed: bool) -> None:
    world = build(required=("sasl",), keeps_failed=keeps_failed)
    client = world.connect()
    token = respond(challenge(client), "bob", "wrong")
    assert client.ask(OpCode.SASL, records.SaslRequest(token)).error == REFUSED
    assert client.closed


def test_users_are_served() -> None:
    world = build(required=("sasl",))
    client = world.connect()
    log_in(client)
    assert client.get("/").error == 0
    again = world.connect(session_id=client.granted.session_id, password=client.granted.password)
    assert again.get("/").error == REFUSED
