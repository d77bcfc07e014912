"""Malformed input of clients, by the hundred thousand, and a server to throw it at.

`cases(seed)` yields them for ever: first every systematic one - each sample of the
protocol with each 4 bytes of it replaced by each bad length, cut at each byte, and
with one byte too many; then four-letter look-alikes, unknown opcodes, vectors and
paths that are too long; then random damage.  All of it is drawn from the seed.

`Arena` drives one standalone replica, in process and in virtual time, and looks after
what must not suffer: another client's session, reads, writes and watches; and that
nothing of a hostile connection is left once it is gone.
"""

import random
import struct
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final

import attrs

from wire.client import ClientConnection, Reply, Request, Role, WatchEvent, encode_frame
from wire.codes import XID_AUTH, XID_PING, XID_SET_WATCHES, OpCode
from wire.jute import Record
from wire.records import (
    ACL,
    OPEN_ACL,
    REQUESTS,
    AddWatchRequest,
    AuthPacket,
    CheckVersionRequest,
    CheckWatchesRequest,
    ConnectRequest,
    ConnectResponse,
    CreateRequest,
    CreateTTLRequest,
    DeleteContainerRequest,
    DeleteRequest,
    ExistsRequest,
    GetACLRequest,
    GetAllChildrenNumberRequest,
    GetChildren2Request,
    GetChildrenRequest,
    GetDataRequest,
    GetEphemeralsRequest,
    MultiRequest,
    ReconfigRequest,
    RemoveWatchesRequest,
    SaslRequest,
    SetACLRequest,
    SetDataRequest,
    SetWatches,
    SetWatches2,
    SyncRequest,
)
from zkpy.effects import Recovered
from zkpy.limits import Limits
from zkpy.pipeline.auth import Authenticator
from zkpy.pipeline.digest_md5 import SaslUsers, secret_of
from zkpy.pipeline.prepare import Rules
from zkpy.replica.core import Replica, ReplicaOptions
from zkpy.zab.member import ZabOptions
from zkpy.zab.quorum import VoterSet

PLAYGROUND: Final = "/h"
"""Below this znode hostile clients may do what they like; elsewhere they may only read."""
BAD_LENGTHS: Final = (-1, 0, 1, -2, 0x7FFFFFFF, -0x80000000, 0x100000, 0x00FFFFFF)
_INT: Final = struct.Struct(">i")
_HEADER: Final = struct.Struct(">ii")
FRAME_BYTES_MAX: Final = 0xFFFFF


@attrs.define(frozen=True)
class Case:
    """What one hostile connection sends."""

    name: str
    pieces: tuple[bytes, ...]
    """As they arrive, one by one."""
    connected: bool
    """Whether it has a session before it sends them."""


# --- samples ---------------------------------------------------------------------------

CONNECT: Final = ConnectRequest(0, 0, 10_000, 0, bytes(16), False)
_A: Final = PLAYGROUND + "/a"
_CREATE: Final = CreateRequest(PLAYGROUND + "/n-", b"data", list(OPEN_ACL), 2)
_MULTI: Final[list[tuple[int, Record]]] = [
    (OpCode.CHECK, CheckVersionRequest(_A, -1)),
    (OpCode.CREATE, _CREATE),
    (OpCode.SET_DATA, SetDataRequest(_A, b"x", -1)),
    (OpCode.DELETE, DeleteRequest(PLAYGROUND + "/gone", 3)),
]
_MULTI_READ: Final[list[tuple[int, Record]]] = [
    (OpCode.GET_DATA, GetDataRequest(_A, False)),
    (OpCode.GET_CHILDREN, GetChildrenRequest("/", False)),
]
_PATHS: Final = [_A, PLAYGROUND + "/b"]
_TOKEN: Final = (
    b'charset=utf-8,username="bob",realm="zk-sasl-md5",nonce="OA6MG9tEQGm2hh",nc=00000001,'
    b'cnonce="OA6MHXh6VqTrRk",digest-uri="zookeeper/zk-sasl-md5",'
    b"response=d388dad90d4bbd760a152321f2143af7,qop=auth"
)
"""An answer of SASL's DIGEST-MD5, to another challenge."""
SAMPLES: Final[tuple[tuple[OpCode, Record | None], ...]] = (
    (OpCode.CREATE, _CREATE),
    (OpCode.CREATE, CreateRequest(PLAYGROUND + "/e-", None, [ACL(31, "auth", "")], 3)),
    (OpCode.CREATE2, _CREATE),
    (OpCode.CREATE_CONTAINER, CreateRequest(PLAYGROUND + "/c", b"", list(OPEN_ACL), 4)),
    (OpCode.CREATE_TTL, CreateTTLRequest(PLAYGROUND + "/t-", b"", list(OPEN_ACL), 6, 1000)),
    (OpCode.DELETE, DeleteRequest(_A, 7)),
    (OpCode.DELETE_CONTAINER, DeleteContainerRequest(_A)),
    (OpCode.EXISTS, ExistsRequest(PLAYGROUND + "/nothing", True)),
    (OpCode.GET_DATA, GetDataRequest(_A, True)),
    (OpCode.SET_DATA, SetDataRequest(_A, b"payload", -1)),
    (OpCode.GET_ACL, GetACLRequest(_A)),
    (OpCode.SET_ACL, SetACLRequest(_A, [ACL(31, "digest", "u:p"), ACL(1, "ip", "10.0.0.0/8")], 9)),
    (OpCode.GET_CHILDREN, GetChildrenRequest("/", True)),
    (OpCode.GET_CHILDREN2, GetChildren2Request("/", True)),
    (OpCode.SYNC, SyncRequest("/")),
    (OpCode.PING, None),
    (OpCode.CHECK, CheckVersionRequest(_A, 0)),
    (OpCode.MULTI, MultiRequest(_MULTI)),
    (OpCode.MULTI_READ, MultiRequest(_MULTI_READ)),
    (OpCode.RECONFIG, ReconfigRequest("server.2=a:1:2;3", "", "", -1)),
    (OpCode.CHECK_WATCHES, CheckWatchesRequest(_A, 3)),
    (OpCode.REMOVE_WATCHES, RemoveWatchesRequest(_A, 3)),
    (OpCode.AUTH, AuthPacket(0, "digest", b"user:password")),
    (OpCode.SET_WATCHES, SetWatches(0, _PATHS, _PATHS, _PATHS)),
    (OpCode.SET_WATCHES2, SetWatches2(1 << 40, _PATHS, _PATHS, _PATHS, _PATHS, _PATHS)),
    (OpCode.SASL, SaslRequest(_TOKEN)),
    (OpCode.GET_EPHEMERALS, GetEphemeralsRequest("/")),
    (OpCode.GET_ALL_CHILDREN_NUMBER, GetAllChildrenNumberRequest("/")),
    (OpCode.ADD_WATCH, AddWatchRequest(PLAYGROUND, 1)),
    (OpCode.WHO_AM_I, None),
    (OpCode.CLOSE_SESSION, None),
)
_XIDS: Final = {
    OpCode.PING: XID_PING,
    OpCode.AUTH: XID_AUTH,
    OpCode.SET_WATCHES: XID_SET_WATCHES,
    OpCode.SET_WATCHES2: XID_SET_WATCHES,
}
LOOK_ALIKES: Final = (
    *(b"ruok\n", b"ruo", b"RUOK", b"ruok" * 100, b"stmk", b"stmk\0\0\0\0\0\0\0\1", b"mntrmntr"),
    *(b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"srv\xff"),
    *(b"xyzz", b"dump", b"kill", b"    ", b"\0\0\0", b"\0", b"wchpwchc", b"con"),
)


def packet(opcode: int, body: Record | None, xid: int = 1) -> bytes:
    """A request without its frame."""
    return _HEADER.pack(xid, opcode) + (b"" if body is None else body.encode())


def _samples() -> list[tuple[str, bytes, bool]]:
    """(name, packet without frame, whether it belongs behind the handshake)."""
    assert {opcode for opcode, _ in SAMPLES} == set(REQUESTS), "a sample of each operation"
    found = [("connect", CONNECT.encode(), False)]
    for opcode, body in SAMPLES:
        data = packet(opcode, body, _XIDS.get(opcode, 1))
        found.append((opcode.name.lower(), data, True))
    return found


# --- the cases -------------------------------------------------------------------------


def cases(seed: int) -> Iterator[Case]:
    """Without end."""
    yield from systematic()
    yield from _unusual()
    dice = random.Random(f"{seed} hostile")
    while True:
        yield _random_case(dice)


def systematic() -> Iterator[Case]:
    """Every sample: bad lengths, cuts, surplus; in frames that tell the truth and that lie."""
    for name, data, connected in _samples():
        for damage, broken in _damaged(data):
            yield Case(f"{name} {damage}", (encode_frame(broken),), connected)
        framed = encode_frame(data)
        for bad in BAD_LENGTHS:
            yield Case(f"{name} in a frame of {bad}", (_INT.pack(bad) + data,), connected)
        for at in range(1, len(framed)):
            yield Case(f"{name} torn at {at}", (framed[:at],), connected)
            yield Case(f"{name} in pieces at {at}", (framed[:at], framed[at:]), connected)
        yield Case(f"{name} at the wrong time", (framed,), not connected)


def _damaged(data: bytes) -> Iterator[tuple[str, bytes]]:
    for at in range(len(data) - 3):
        beyond = len(data) - at - 3
        for bad in (*BAD_LENGTHS, beyond):
            yield f"{bad} at {at}", data[:at] + _INT.pack(bad) + data[at + 4 :]
    for at in range(len(data)):
        yield f"cut at {at}", data[:at]
    yield "with a byte too many", data + b"\0"


def _unusual() -> Iterator[Case]:
    for text in LOOK_ALIKES:
        yield Case(f"{text!r}", (text,), False)
        yield Case(f"{text!r} byte by byte", tuple(bytes((each,)) for each in text), False)
        yield Case(f"{text!r} in a session", (text,), True)
    for opcode in (*range(-20, 130), *range(500, 510), 1 << 30, -(1 << 31)):
        yield Case(f"opcode {opcode}", (encode_frame(_HEADER.pack(1, opcode)),), True)
        yield Case(f"opcode {opcode} with a body", (encode_frame(packet(opcode, _CREATE)),), True)
    for name, body in _huge():
        yield Case(name, (encode_frame(body),), True)
    for size in (0, 1, 4, 7, 8, FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1):
        yield Case(f"a frame of {size} zeros", (encode_frame(bytes(size)),), True)
        yield Case(f"a first frame of {size} zeros", (encode_frame(bytes(size)),), False)
    early = encode_frame(packet(OpCode.GET_DATA, GetDataRequest("/", False)))
    hasty = encode_frame(CONNECT.encode()) + early
    yield Case("requests behind the ConnectRequest", (hasty,), False)
    yield Case("more requests than may wait", (hasty, early * 40_000), False)
    yield Case("two handshakes", (encode_frame(CONNECT.encode()),) * 2, False)
    yield Case("a flood of pings", (encode_frame(packet(OpCode.PING, None, -2)) * 5000,), True)
    yield Case("a flood of words", (b"ruok" * 5000,), False)
    data = encode_frame(packet(OpCode.SET_DATA, SetDataRequest(_A, bytes(1_000_000), -1)))
    many = encode_frame(packet(OpCode.MULTI_READ, MultiRequest(_MULTI_READ[:1] * 20_000)))
    again = encode_frame(packet(OpCode.GET_DATA, GetDataRequest(_A, False)))
    yield Case("a multiRead of gigabytes", (data, many), True)
    yield Case("many reads of gigabytes", (data, again * 10_000), True)
    yield from _sasl()
    yield Case("many identities", tuple(_auth(number) for number in range(300)), True)


def _sasl() -> Iterator[Case]:
    """Second tokens of an exchange."""
    begun = encode_frame(packet(OpCode.SASL, SaslRequest(b"")))
    tokens = [_TOKEN[:at] for at in range(len(_TOKEN))]
    tokens += [_TOKEN.replace(each, b"") for each in (b'"', b",", b"=", b"0")]
    tokens += [
        (part * 5000)[:size] for part in (b"\\", b'a="', b", ", b"\xff") for size in (99, 4095)
    ]
    tokens += [_TOKEN * 2, bytes(4096), bytes(900_000), b"username=" + b"\xed\xa0\x80" * 1000]
    for number, token in enumerate(tokens):
        second = encode_frame(packet(OpCode.SASL, SaslRequest(token), 2))
        yield Case(f"sasl token {number}", (begun, second), True)
        yield Case(f"sasl token {number} in one piece", (begun + second * 2,), True)


def _auth(number: int) -> bytes:
    body = AuthPacket(0, "digest", b"user%d:x" % number)
    return encode_frame(packet(OpCode.AUTH, body, XID_AUTH))


def _huge() -> Iterator[tuple[str, bytes]]:
    deep, wide = PLAYGROUND + "/x" * 400_000, PLAYGROUND + "/" + "y" * 900_000
    for name, path in (("deep", deep), ("wide", wide), ("slashes", "/" * 900_000)):
        yield f"exists {name}", packet(OpCode.EXISTS, ExistsRequest(path, True))
        yield f"create {name}", packet(OpCode.CREATE, CreateRequest(path, b"", list(OPEN_ACL), 0))
        yield f"delete {name}", packet(OpCode.DELETE, DeleteRequest(path, -1))
        yield f"recursive watch {name}", packet(OpCode.ADD_WATCH, AddWatchRequest(path, 1))
    many = [f"{PLAYGROUND}/{number}" for number in range(60_000)]
    yield "many watches", packet(OpCode.SET_WATCHES, SetWatches(0, [], many, []), -8)
    acl = [ACL(31, "ip", f"10.{n >> 8}.{n & 255}.1") for n in range(30_000)]
    yield "a long ACL", packet(OpCode.CREATE, CreateRequest(PLAYGROUND + "/l-", b"", acl, 2))
    yield "much data", packet(OpCode.SET_DATA, SetDataRequest(_A, bytes(FRAME_BYTES_MAX - 50), -1))
    sub: list[tuple[int, Record]] = [(OpCode.CHECK, CheckVersionRequest("/", -1))] * 40_000
    yield "a long multi", packet(OpCode.MULTI, MultiRequest(sub))
    for count in (1 << 16, 1 << 20, 0x7FFFFFFF):
        begun = _HEADER.pack(-8, OpCode.SET_WATCHES) + bytes(8) + _INT.pack(count)
        yield f"a vector of {count}", begun
        yield f"{count} empty strings", begun + bytes(80_000)


def _random_case(dice: random.Random) -> Case:
    """Some of several requests, with some damage, in some pieces."""
    name, data, connected = dice.choice(_SAMPLES)
    stream = b"".join(_random_frame(dice, data) for _ in range(dice.randint(1, 4)))
    at = sorted(dice.randrange(len(stream) + 1) for _ in range(dice.randint(0, 3)))
    pieces = [stream[a:b] for a, b in zip([0, *at], [*at, len(stream)], strict=True)]
    return Case(f"random {name}", tuple(pieces), connected ^ (dice.random() < 0.05))


def _random_frame(dice: random.Random, data: bytes) -> bytes:
    broken = bytearray(data)
    for _ in range(dice.randint(0, 3)):
        _DAMAGE[dice.randrange(len(_DAMAGE))](dice, broken)
    size = len(broken) if dice.random() < 0.95 else dice.choice((*BAD_LENGTHS, len(broken) + 1))
    return _INT.pack(size) + broken


def _flip(dice: random.Random, data: bytearray) -> None:
    if data:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _resize(dice: random.Random, data: bytearray) -> None:
    if len(data) >= 4:
        at = dice.randrange(len(data) - 3)
        data[at : at + 4] = _INT.pack(dice.choice((*BAD_LENGTHS, len(data) - at)))


def _insert(dice: random.Random, data: bytearray) -> None:
    at = dice.randrange(len(data) + 1)
    data[at:at] = dice.randbytes(dice.randint(1, 8))


def _remove(dice: random.Random, data: bytearray) -> None:
    at = dice.randrange(len(data) + 1)
    del data[at : at + dice.randint(1, 8)]


_DAMAGE: Final = (_flip, _resize, _insert, _remove)
_SAMPLES: Final = _samples()


# --- the arena -------------------------------------------------------------------------

BLANK: Final = Recovered()
PACE_MS: Final = 5
"""Virtual time between two cases."""
CHECK_INTERVAL: Final = 500
"""Cases between two looks at the bystander."""
_READ_ONLY: Final = [ACL(1, "world", "anyone"), ACL(31, "auth", "")]


class Arena:
    """One standalone replica, hostile connections, and one client that must not notice."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 1_000_000
        self.replica = Replica(
            ReplicaOptions(
                1,
                # A small window: what it may keep must not look like growth.
                ZabOptions(VoterSet.of((1,)), window_bytes_max=64 * 1024),
                limits=Limits(connections_per_address_max=0),
                rules=Rules(extended_types=True),
                authenticator=Authenticator(sasl=SaslUsers({"bob": secret_of("bob", "secret")})),
            ),
            BLANK,
            rng=random.Random(f"{seed} arena"),
            wall_clock=lambda: 1_700_000_000_000 + self.now,
            now=self.now,
        )
        self._last_link = 0
        self._ping_at = 0
        self._peaceful: Bystander | None = None
        self._closed: dict[int, None] = {}
        self._answers: dict[int, bytes] = {}
        self._session = (0, bytes(16))
        self.settle()
        self._peaceful = Bystander(self, self.open_link())
        self._peaceful.begin()
        self.rest = self.replica.state.node_count

    def throw(self, case: Case) -> None:
        """One connection: handshake if the case wants one, its pieces, and the end of it."""
        link = self.open_link()
        if case.connected:
            self._shake_hands(link)
        for piece in case.pieces:
            if link in self._closed:
                break
            self.replica.receive_client(link, piece, self.now)
            self.settle()
        if link not in self._closed:
            self.replica.client_down(link, self.now)
        self.settle()
        self._closed.clear()
        self._answers.clear()
        self.wait(PACE_MS)

    def check(self) -> None:
        """The bystander is well; of all that was thrown nothing is left but what it created."""
        bystander = self._peaceful
        assert bystander is not None
        bystander.work()
        replica = self.replica
        assert list(replica.clients.links.by_id) == [bystander.link]
        assert not replica.clients.gate
        assert replica.clients.watches.connection_count <= 1
        replica.take_notices()
        self._tidy(bystander)
        assert replica.state.node_count == self.rest, "the rest of the tree was not theirs"

    def wait(self, ms: int) -> None:
        """Time passes; the bystander pings."""
        assert self._peaceful is not None
        until = self.now + ms
        while self.now < until:
            self.now = min(until, self.now + 1000)
            if self.now >= self._ping_at:
                self._ping_at = self.now + 2000
                self._peaceful.ping()
            due = self.replica.deadline()
            if due is not None and due <= self.now:
                self.replica.handle_timer(self.now)
                self.settle()

    def settle(self) -> None:
        """Pass after pass until nothing is left to do."""
        while True:
            ready = self.replica.ready()
            assert ready.halt is None, ready.halt
            self.replica.take_admin()
            for link, data in ready.clients:
                self._take(link, data)
            for link in ready.closes:
                self._closed[link] = None
            batch = ready.disk
            if batch is not None:
                while batch is not None:
                    batch = self.replica.saved(batch.number, self.now)
            elif not (ready.clients or ready.closes or ready.image):
                return

    def open_link(self) -> int:
        self._last_link += 1
        self.replica.client_up(self._last_link, "10.0.0.9:999", self.now)
        return self._last_link

    def _take(self, link: int, data: bytes) -> None:
        if self._peaceful is not None and link == self._peaceful.link:
            self._peaceful.take(data)
        else:
            self._answers[link] = data

    def _shake_hands(self, link: int) -> None:
        """One session for all of them, as long as it lasts: a case may close it."""
        session, password = self._session
        self._connect(link, ConnectRequest(0, 0, 10_000, session, password, False))
        if link in self._closed:
            self._closed.clear()
            self._session = (0, bytes(16))
            self.replica.client_up(link, "10.0.0.9:999", self.now)
            self._connect(link, CONNECT)

    def _connect(self, link: int, request: ConnectRequest) -> None:
        self.replica.receive_client(link, encode_frame(request.encode()), self.now)
        self.settle()
        answer = self._answers.pop(link)
        granted = ConnectResponse.parse(answer, 4, len(answer))
        if granted.timeout_ms:
            self._session = (granted.session_id, granted.password or b"")

    def _tidy(self, bystander: "Bystander") -> None:
        """Remove what they created: children before parents."""
        tree = self.replica.state.tree
        below = [path for path in tree.nodes if path.startswith(PLAYGROUND + "/")]
        for path in sorted(below, key=len, reverse=True):
            if path != _A:
                bystander.ask(OpCode.DELETE, DeleteRequest(path, -1))
        if _A not in tree.nodes:
            bystander.ask(OpCode.CREATE, CreateRequest(_A, b"", list(OPEN_ACL), 0))


class Bystander:
    """A client with a session, a znode and a watch of its own."""

    def __init__(self, arena: Arena, link: int) -> None:
        self.link = link
        self._arena = arena
        self._connection = ClientConnection(Role.CLIENT, 1 << 24)
        self._replies: dict[int, Reply] = {}
        self._events = 0
        self._xid = 0
        self._count = 0

    def begin(self) -> None:
        self._send(self._connection.send(CONNECT))
        self.ask(OpCode.AUTH, AuthPacket(0, "digest", b"by:stander"), XID_AUTH)
        self.create(PLAYGROUND, [*OPEN_ACL])
        self.create(_A, [*OPEN_ACL])
        self.create("/mine", _READ_ONLY)
        for path in ("/", "/zookeeper", "/zookeeper/quota"):
            assert not self.ask(OpCode.SET_ACL, SetACLRequest(path, _READ_ONLY, -1)).error

    def create(self, path: str, acl: list[ACL]) -> None:
        assert not self.ask(OpCode.CREATE, CreateRequest(path, b"", acl, 0)).error

    def work(self) -> None:
        """A watch, a write that fires it, and a read of what was written."""
        self._count += 1
        value = b"%d" % self._count
        self.ask(OpCode.GET_DATA, GetDataRequest("/mine", True))
        assert not self.ask(OpCode.SET_DATA, SetDataRequest("/mine", value, -1)).error
        found = self.ask(OpCode.GET_DATA, GetDataRequest("/mine", False)).body
        assert getattr(found, "data", None) == value
        assert self._events == self._count, "each watch fires once, and no other is its own"

    def ping(self) -> None:
        self.ask(OpCode.PING, None, XID_PING)

    def ask(self, opcode: OpCode, body: Record | None, xid: int | None = None) -> Reply:
        if xid is None:
            self._xid += 1
            xid = self._xid
        self._send(self._connection.send(Request(xid, opcode, body)))
        return self._replies.pop(xid)

    def take(self, data: bytes) -> None:
        for event in self._connection.receive_data(data):
            if isinstance(event, Reply):
                self._replies[event.xid] = event
            elif isinstance(event, WatchEvent):
                self._events += 1
        assert self._connection.error is None, self._connection.error

    def _send(self, data: bytes) -> None:
        self._arena.replica.receive_client(self.link, data, self._arena.now)
        self._arena.settle()


def assault(seed: int, count: int, on_check: Callable[[int], None] | None = None) -> None:
    """`count` cases from the seed; raises if the server or its other client suffers.

    `on_check(number)` is called each time that nothing of them should be left.
    """
    arena = Arena(seed)
    for number, case in enumerate(islice(cases(seed), count), 1):
        try:
            arena.throw(case)
            if not number % CHECK_INTERVAL:
                arena.check()
        except Exception as failure:
            raise AssertionError(f"case {number} of seed {seed}: {case.name}") from failure
        if on_check is not None and not number % CHECK_INTERVAL:
            on_check(number)
    arena.wait(60_000)
    arena.check()
    assert len(arena.replica.state.sessions) == 1, "the sessions of the others are over"
