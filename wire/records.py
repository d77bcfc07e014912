"""The records of ZooKeeper's client protocol: requests, replies, events.

In and out: bytes of one frame's body, through `encode`, `decode` and `parse` (wire.jute).
The layout of each record is its annotations, in order.  Two tables say which record
belongs to which operation: `REQUESTS` and `REPLIES`; None stands for "no body".

Source: zookeeper.jute and ZooDefs of ZooKeeper 3.9; multi as MultiOperationRecord and
MultiResponse write it:

    multi = (MultiHeader(type, done=0, err) + record of that type)* MultiHeader(-1, 1, -1)
"""

import struct
from collections.abc import Iterable
from typing import Final, Self, TypeVar

import attrs

from wire.codes import OpCode, Perm
from wire.errors import RemoteProtocolError
from wire.jute import (
    Record,
    boolean,
    buffer,
    hashable_record,
    int32,
    int64,
    optional_boolean,
    record,
    ustring,
    vector,
)

T = TypeVar("T")

STAT: Final = struct.Struct(">qqqqiiiqiiq")
"""The layout of `Stat`, for those who keep it packed: 68 bytes."""


@record
class Stat(Record):
    """What a znode tells of itself. Times in ms since 1970, zxids as in zkpy.zxid."""

    czxid: int64
    mzxid: int64
    ctime: int64
    mtime: int64
    version: int32
    cversion: int32
    aversion: int32
    ephemeral_owner: int64
    data_length: int32
    num_children: int32
    pzxid: int64


@hashable_record
class ACL(Record):
    """One entry of an access list: `perms` (bits of Perm) for the identity scheme:id."""

    perms: int32
    scheme: ustring
    id: ustring


OPEN_ACL: Final[tuple[ACL, ...]] = (ACL(int(Perm.ALL), "world", "anyone"),)
"""Everything for everyone: the list of nearly every znode."""


# --- handshake


@record
class ConnectRequest(Record):
    """First packet of a connection. `read_only` is None when the client is too old to send it."""

    protocol_version: int32
    last_zxid_seen: int64
    timeout_ms: int32
    session_id: int64
    password: buffer = attrs.field(repr=False)
    read_only: optional_boolean

    @property
    def has_read_only(self) -> bool:
        return self.read_only is not None


@record
class ConnectResponse(Record):
    """Answer to it. A `timeout_ms` of 0 says that the session is gone."""

    protocol_version: int32
    timeout_ms: int32
    session_id: int64
    password: buffer = attrs.field(repr=False)
    read_only: optional_boolean

    @property
    def has_read_only(self) -> bool:
        return self.read_only is not None


# --- requests


@record
class CreateRequest(Record):
    """create, create2 and createContainer; `flags` is a CreateMode."""

    path: ustring
    data: buffer
    acl: vector[ACL]
    flags: int32


@record
class CreateTTLRequest(Record):
    path: ustring
    data: buffer
    acl: vector[ACL]
    flags: int32
    ttl_ms: int64


@record
class DeleteRequest(Record):
    path: ustring
    version: int32


@record
class ExistsRequest(Record):
    path: ustring
    watch: boolean


@record
class GetDataRequest(Record):
    path: ustring
    watch: boolean


@record
class SetDataRequest(Record):
    path: ustring
    data: buffer
    version: int32


@record
class GetACLRequest(Record):
    path: ustring


@record
class SetACLRequest(Record):
    """`version` is compared with the znode's aversion."""

    path: ustring
    acl: vector[ACL]
    version: int32


@record
class GetChildrenRequest(Record):
    path: ustring
    watch: boolean


@record
class GetChildren2Request(Record):
    path: ustring
    watch: boolean


@record
class SyncRequest(Record):
    path: ustring


@record
class CheckVersionRequest(Record):
    path: ustring
    version: int32


@record
class ReconfigRequest(Record):
    """Changes of membership: two lists, or all members; null lists read as ""."""

    joining_servers: ustring
    leaving_servers: ustring
    new_members: ustring
    config_id: int64


@record
class CheckWatchesRequest(Record):
    """`type` is a WatcherType."""

    path: ustring
    type: int32


@record
class RemoveWatchesRequest(Record):
    """`type` is a WatcherType."""

    path: ustring
    type: int32


@record
class DeleteContainerRequest(Record):
    path: ustring


@record
class AuthPacket(Record):
    type: int32
    scheme: ustring
    auth: buffer = attrs.field(repr=False)


@record
class SetWatches(Record):
    relative_zxid: int64
    data_watches: vector[ustring]
    exist_watches: vector[ustring]
    child_watches: vector[ustring]


@record
class SetWatches2(Record):
    relative_zxid: int64
    data_watches: vector[ustring]
    exist_watches: vector[ustring]
    child_watches: vector[ustring]
    persistent_watches: vector[ustring]
    persistent_recursive_watches: vector[ustring]


@record
class SaslRequest(Record):
    token: buffer


@record
class GetEphemeralsRequest(Record):
    prefix_path: ustring


@record
class GetAllChildrenNumberRequest(Record):
    path: ustring


@record
class AddWatchRequest(Record):
    """`mode` is a WatchMode."""

    path: ustring
    mode: int32


# --- requests between servers


@record
class OpenSession(Record):
    """Body of createSession, which no client sends as a request: the time-out negotiated.

    A local session that becomes a global one has its password already; else it is null.
    """

    timeout_ms: int32
    password: buffer = attrs.field(default=None, repr=False)


# --- replies


@record
class CreateResponse(Record):
    path: ustring


@record
class Create2Response(Record):
    path: ustring
    stat: Stat


@record
class ExistsResponse(Record):
    stat: Stat


@record
class GetDataResponse(Record):
    data: buffer
    stat: Stat


@record
class SetDataResponse(Record):
    stat: Stat


@record
class GetACLResponse(Record):
    acl: vector[ACL]
    stat: Stat


@record
class SetACLResponse(Record):
    stat: Stat


@record
class GetChildrenResponse(Record):
    children: vector[ustring]


@record
class GetChildren2Response(Record):
    children: vector[ustring]
    stat: Stat


@record
class SyncResponse(Record):
    path: ustring


@record
class ReconfigResponse(Record):
    data: buffer
    stat: Stat


@record
class SaslResponse(Record):
    token: buffer


@record
class GetEphemeralsResponse(Record):
    ephemerals: vector[ustring]


@record
class GetAllChildrenNumberResponse(Record):
    total_number: int32


@record
class ErrorResponse(Record):
    error: int32


@record
class ClientInfo(Record):
    auth_scheme: ustring
    user: ustring


@record
class WhoAmIResponse(Record):
    client_info: vector[ClientInfo]


@record
class WatcherEvent(Record):
    """`type` is an EventType, `state` a KeeperState; on the wire always SYNC_CONNECTED."""

    type: int32
    state: int32
    path: ustring


# --- multi and multiRead


@record
class MultiHeader(Record):
    type: int32
    done: boolean
    error: int32


_MULTI_HEADER: Final = struct.Struct(">i?i")
_MULTI_END: Final = MultiHeader(-1, True, -1).encode()

MULTI_REQUESTS: Final[dict[int, type[Record]]] = {
    OpCode.CREATE: CreateRequest,
    OpCode.DELETE: DeleteRequest,
    OpCode.GET_DATA: GetDataRequest,
    OpCode.SET_DATA: SetDataRequest,
    OpCode.GET_CHILDREN: GetChildrenRequest,
    OpCode.CHECK: CheckVersionRequest,
    OpCode.CREATE2: CreateRequest,
    OpCode.CREATE_CONTAINER: CreateRequest,
    OpCode.CREATE_TTL: CreateTTLRequest,
}
"""What a multi or multiRead may hold; mixing reads and writes is the pipeline's to refuse, and
so is an `UnreadOperation`."""

MULTI_REPLIES: Final[dict[int, type[Record] | None]] = {
    OpCode.ERROR: ErrorResponse,
    OpCode.CREATE: CreateResponse,
    OpCode.DELETE: None,
    OpCode.GET_DATA: GetDataResponse,
    OpCode.SET_DATA: SetDataResponse,
    OpCode.GET_CHILDREN: GetChildrenResponse,
    OpCode.CHECK: None,
    OpCode.CREATE2: Create2Response,
}


@attrs.define(eq=True, weakref_slot=False)
class UnreadOperation(Record):
    """An operation that no multi may hold, and all behind it but the end.

    Whatever it says, the whole is refused: so nobody has to know where it ends.
    """

    data: bytes

    def encode(self) -> bytes:
        return self.data

    @classmethod
    def decode(cls, data: bytes, pos: int, end: int) -> tuple[Self, int]:
        last = end - _MULTI_HEADER.size
        if pos > last or data[last:end] != _MULTI_END:
            raise RemoteProtocolError("a multi without an end")
        return cls(data[pos:last]), last


@attrs.define(eq=True, weakref_slot=False)
class MultiRequest(Record):
    """Body of multi and multiRead: (opcode, record of that operation), in order."""

    ops: list[tuple[int, Record]]

    def encode(self) -> bytes:
        return encode_multi([(opcode, -1, body.encode()) for opcode, body in self.ops])

    @classmethod
    def decode(cls, data: bytes, pos: int, end: int) -> tuple[Self, int]:
        ops: list[tuple[int, Record]] = []
        while True:
            opcode, done, _, pos = _decode_multi_header(data, pos, end)
            if done:
                return cls(ops), pos
            body, pos = MULTI_REQUESTS.get(opcode, UnreadOperation).decode(data, pos, end)
            ops.append((opcode, body))

    @classmethod
    def parse(cls, data: bytes, pos: int, end: int) -> Self:
        return _expect_end(*cls.decode(data, pos, end), end)


@attrs.define(eq=True, weakref_slot=False)
class MultiResult:
    """One item of a multi's reply; `opcode` is ERROR (-1) exactly when `body` is ErrorResponse."""

    opcode: int
    error: int
    body: Record | None


@attrs.define(eq=True, weakref_slot=False)
class MultiResponse(Record):
    """Body of the reply to multi and multiRead."""

    results: list[MultiResult]

    def encode(self) -> bytes:
        return encode_multi(
            [(r.opcode, r.error, b"" if r.body is None else r.body.encode()) for r in self.results]
        )

    @classmethod
    def decode(cls, data: bytes, pos: int, end: int) -> tuple[Self, int]:
        results: list[MultiResult] = []
        while True:
            opcode, done, error, pos = _decode_multi_header(data, pos, end)
            if done:
                return cls(results), pos
            if opcode not in MULTI_REPLIES:
                raise RemoteProtocolError(f"result of operation {opcode} in a multi")
            body_class = MULTI_REPLIES[opcode]
            body = None
            if body_class is not None:
                body, pos = body_class.decode(data, pos, end)
            results.append(MultiResult(opcode, error, body))

    @classmethod
    def parse(cls, data: bytes, pos: int, end: int) -> Self:
        return _expect_end(*cls.decode(data, pos, end), end)


def encode_multi(items: Iterable[tuple[int, int, bytes]]) -> bytes:
    """A multi's body from (opcode, error, encoded record) each, for those who hold bytes."""
    parts: list[bytes] = []
    for opcode, error, body in items:
        parts += (_MULTI_HEADER.pack(opcode, False, error), body)
    parts.append(_MULTI_END)
    return b"".join(parts)


def encode_multi_error(error: int) -> tuple[int, int, bytes]:
    """The item of `encode_multi` that says how one operation failed (0: it would have worked)."""
    return OpCode.ERROR, error, ErrorResponse(error).encode()


def _decode_multi_header(data: bytes, pos: int, end: int) -> tuple[int, bool, int, int]:
    """Type, done, error, and the position behind."""
    if end - pos < _MULTI_HEADER.size:
        raise RemoteProtocolError("a multi without an end")
    opcode, done, error = _MULTI_HEADER.unpack_from(data, pos)
    return opcode, done, error, pos + _MULTI_HEADER.size


def _expect_end(made: T, pos: int, end: int) -> T:
    if pos != end:
        raise RemoteProtocolError(f"multi ends at {pos}, its frame at {end}")
    return made


# --- which record belongs to which operation

REQUESTS: Final[dict[int, type[Record] | None]] = {
    OpCode.CREATE: CreateRequest,
    OpCode.DELETE: DeleteRequest,
    OpCode.EXISTS: ExistsRequest,
    OpCode.GET_DATA: GetDataRequest,
    OpCode.SET_DATA: SetDataRequest,
    OpCode.GET_ACL: GetACLRequest,
    OpCode.SET_ACL: SetACLRequest,
    OpCode.GET_CHILDREN: GetChildrenRequest,
    OpCode.SYNC: SyncRequest,
    OpCode.PING: None,
    OpCode.GET_CHILDREN2: GetChildren2Request,
    OpCode.CHECK: CheckVersionRequest,
    OpCode.MULTI: MultiRequest,
    OpCode.CREATE2: CreateRequest,
    OpCode.RECONFIG: ReconfigRequest,
    OpCode.CHECK_WATCHES: CheckWatchesRequest,
    OpCode.REMOVE_WATCHES: RemoveWatchesRequest,
    OpCode.CREATE_CONTAINER: CreateRequest,
    OpCode.DELETE_CONTAINER: DeleteContainerRequest,
    OpCode.CREATE_TTL: CreateTTLRequest,
    OpCode.MULTI_READ: MultiRequest,
    OpCode.AUTH: AuthPacket,
    OpCode.SET_WATCHES: SetWatches,
    OpCode.SASL: SaslRequest,
    OpCode.GET_EPHEMERALS: GetEphemeralsRequest,
    OpCode.GET_ALL_CHILDREN_NUMBER: GetAllChildrenNumberRequest,
    OpCode.SET_WATCHES2: SetWatches2,
    OpCode.ADD_WATCH: AddWatchRequest,
    OpCode.WHO_AM_I: None,
    OpCode.CLOSE_SESSION: None,
}

REPLIES: Final[dict[int, type[Record] | None]] = {
    OpCode.CREATE: CreateResponse,
    OpCode.DELETE: None,
    OpCode.EXISTS: ExistsResponse,
    OpCode.GET_DATA: GetDataResponse,
    OpCode.SET_DATA: SetDataResponse,
    OpCode.GET_ACL: GetACLResponse,
    OpCode.SET_ACL: SetACLResponse,
    OpCode.GET_CHILDREN: GetChildrenResponse,
    OpCode.SYNC: SyncResponse,
    OpCode.PING: None,
    OpCode.GET_CHILDREN2: GetChildren2Response,
    OpCode.CHECK: None,
    OpCode.MULTI: MultiResponse,
    OpCode.CREATE2: Create2Response,
    OpCode.RECONFIG: ReconfigResponse,
    OpCode.CHECK_WATCHES: None,
    OpCode.REMOVE_WATCHES: None,
    OpCode.CREATE_CONTAINER: Create2Response,
    OpCode.DELETE_CONTAINER: None,
    OpCode.CREATE_TTL: Create2Response,
    OpCode.MULTI_READ: MultiResponse,
    OpCode.AUTH: None,
    OpCode.SET_WATCHES: None,
    OpCode.SASL: SaslResponse,
    OpCode.GET_EPHEMERALS: GetEphemeralsResponse,
    OpCode.GET_ALL_CHILDREN_NUMBER: GetAllChildrenNumberResponse,
    OpCode.SET_WATCHES2: None,
    OpCode.ADD_WATCH: ErrorResponse,
    OpCode.WHO_AM_I: WhoAmIResponse,
    OpCode.CLOSE_SESSION: None,
}
