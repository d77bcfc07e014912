"""ZooKeeper's tree as its files tell of it, and how a log is replayed on it.

A snapshot is *fuzzy*: written while the tree went on changing, so that it holds some of
what came after the zxid in its name.  Replaying the log from that zxid on mends it, if
every transaction is carried out as ZooKeeper does it at a restart: what is there already is left,
what is gone already is passed over, and counters and zxids only grow (`DataTree` and its
`processTxn` there; tickets 1269 and 3249 have the reasons).
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wire.codes import OpCode
from wire.errors import RemoteProtocolError
from wire.jute import Record
from wire.records import ACL
from zkpy.errors import CorruptionError
from zkpy.state.lifetimes import CONTAINER_OWNER, TTL_MS_MAX, is_session, owner_of_ttl
from zkpy.zookeeper.records import (
    PARTS,
    RECORDS,
    Check,
    CloseSession,
    Create,
    CreateContainer,
    CreateSession,
    CreateTtl,
    Delete,
    Error,
    LogHeader,
    Multi,
    OldCreate,
    SetAcl,
    SetData,
    acl_of,
)

NEXT_COUNTER: Final = -1
"""As a parent's counter: one more than it was (of creates before 3.4)."""


@dataclass(eq=False, slots=True)
class Node:
    data: bytes | None
    acl: tuple[ACL, ...] | None
    """None until the log tells: the list came into use while the snapshot was written, whose
    table of lists comes first."""
    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    counter: int
    """Of creates below it."""
    aversion: int
    owner: int
    """See `state.lifetimes`."""
    pzxid: int


@dataclass(eq=False, repr=False, slots=True)
class Tree:
    """All znodes by path (`/` the root), and the sessions: id -> time-out in ms."""

    nodes: dict[str, Node] = field(default_factory=dict)
    sessions: dict[int, int] = field(default_factory=dict)
    zxid: int = 0
    reaches: int = 0
    """Of a fuzzy snapshot: the zxid of the last transaction of which it may hold something; 0 if
    that is not known."""
    logged_digest: int | None = None
    """What the log says of the tree behind the last transaction, if it does (see `digest_of`)."""
    _ephemerals: dict[int, dict[str, None]] = field(default_factory=dict)

    def add(self, path: str, node: Node) -> None:
        self.nodes[path] = node
        if is_session(node.owner):
            self._ephemerals.setdefault(node.owner, {})[path] = None

    def replay(self, header: LogHeader, body: bytes) -> None:
        """Carry out one transaction of the log; CorruptionError if it cannot be read."""
        record, rest = _read(header.kind, body)
        self._carry_out(header, record)
        if type(record) is not Error:  # which has none, and changes nothing
            self.logged_digest = _take_digest(record, rest)
        self.zxid = header.zxid

    def close_session(self, session: int, zxid: int) -> None:
        """End a session, and its ephemerals with it."""
        for path in list(self._ephemerals.get(session, ())):
            self.delete(path, zxid)
        self.sessions.pop(session, None)

    def create(self, path: str, node: Node, parent_counter: int) -> None:
        parent = self.nodes.get(_parent(path))
        if parent is None:
            return
        if parent_counter == NEXT_COUNTER:
            parent_counter = parent.counter + 1
        if parent_counter > parent.counter:
            parent.counter, parent.pzxid = parent_counter, node.czxid
        there = self.nodes.get(path)
        if there is None:
            self.add(path, node)
        else:
            there.acl = node.acl

    def delete(self, path: str, zxid: int) -> None:
        parent = self.nodes.get(_parent(path))
        if parent is None:
            return
        parent.pzxid = max(parent.pzxid, zxid)
        gone = self.nodes.pop(path, None)
        if gone is not None and is_session(gone.owner):
            self._ephemerals[gone.owner].pop(path, None)

    def end_sessions(self, keep: bool) -> int:
        """End those that own znodes and are not there, as a restart does; all, unless `keep`.

        The number of znodes that went with them."""
        before = len(self.nodes)
        for session in [*self._ephemerals, *self.sessions]:
            if not (keep and session in self.sessions):
                self.close_session(session, self.zxid)
        return before - len(self.nodes)

    def check(self) -> None:
        """CorruptionError if a znode lacks its parent or its ACL."""
        if "/" not in self.nodes:
            raise CorruptionError("there is no root")
        for path, node in self.nodes.items():
            if path != "/" and _parent(path) not in self.nodes:
                raise CorruptionError(f"{path} has no parent")
            if node.acl is None:
                raise CorruptionError(f"{path} has an ACL that is nowhere")

    def _carry_out(self, header: LogHeader, record: Record) -> None:
        _HANDLERS[type(record)](self, header, record)


_LOGGED: Final = struct.Struct(">iq")
"""Version and digest, behind a record of the log."""


def _take_digest(record: Record, rest: bytes) -> int | None:
    """ZooKeeper 3.9.5's own are wrong behind some multis that change a znode and its child."""
    if type(record) is Multi or len(rest) != _LOGGED.size:
        return None
    digest: int = _LOGGED.unpack(rest)[1]
    return digest


_STAT: Final = struct.Struct(">qqqqqiiiq")
_SYSTEM: Final = "/zookeeper/"


def digest_of(tree: Tree) -> int:
    """What ZooKeeper 3.6 and later log behind each transaction (its DigestCalculator, version 2):
    the sum of one CRC-32 per znode, without what is below /zookeeper."""
    return sum([_digest_of_node(path, node) for path, node in tree.nodes.items()])


def _digest_of_node(path: str, node: Node) -> int:
    if path.startswith(_SYSTEM):
        return 0
    stat = _STAT.pack(
        node.czxid,
        node.mzxid,
        node.pzxid,
        node.ctime,
        node.mtime,
        node.version,
        node.counter,
        node.aversion,
        node.owner,
    )
    return zlib.crc32(b"".join((b"" if path == "/" else path.encode(), node.data or b"", stat)))


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _read(kind: int, body: bytes) -> tuple[Record, bytes]:
    """The record at the start of `body`, and what is behind it."""
    found = RECORDS.get(kind)
    if found is None:
        raise CorruptionError(f"a transaction of the unknown type {kind}")
    try:
        record, at = found.decode(body, 0, len(body))
    except RemoteProtocolError as error:
        older = _OLDER.get(found)
        if older is None:
            raise CorruptionError(f"a transaction that cannot be read: {error}") from error
        return older(body)
    return record, body[at:]


def _read_old_create(body: bytes) -> tuple[Record, bytes]:
    """As ZooKeeper wrote it before 3.4."""
    try:
        old, at = OldCreate.decode(body, 0, len(body))
    except RemoteProtocolError as error:
        raise CorruptionError(f"a transaction that cannot be read: {error}") from error
    return Create(old.path, old.data, old.acl, old.ephemeral, NEXT_COUNTER), body[at:]


def _read_old_close(body: bytes) -> tuple[Record, bytes]:
    """Before 3.6 there was no record, and the znodes to be deleted were not named."""
    return CloseSession([]), body


_OLDER: Final[dict[type[Record], Callable[[bytes], tuple[Record, bytes]]]] = {
    Create: _read_old_create,
    CloseSession: _read_old_close,
}


def _fresh(header: LogHeader, record: Any, owner: int) -> Node:
    zxid, time_ms = header.zxid, header.time_ms
    return Node(record.data, acl_of(record.acl), zxid, zxid, time_ms, time_ms, 0, 0, 0, owner, zxid)


def _create(tree: Tree, header: LogHeader, record: Create) -> None:
    node = _fresh(header, record, header.session if record.ephemeral else 0)
    tree.create(record.path, node, record.parent_counter)


def _create_container(tree: Tree, header: LogHeader, record: CreateContainer) -> None:
    tree.create(record.path, _fresh(header, record, CONTAINER_OWNER), record.parent_counter)


def _create_ttl(tree: Tree, header: LogHeader, record: CreateTtl) -> None:
    if not 0 < record.ttl_ms <= TTL_MS_MAX:
        raise CorruptionError(f"{record.path} with a TTL of {record.ttl_ms} ms")
    node = _fresh(header, record, owner_of_ttl(record.ttl_ms))
    tree.create(record.path, node, record.parent_counter)


def _delete(tree: Tree, header: LogHeader, record: Delete) -> None:
    tree.delete(record.path, header.zxid)


def _set_data(tree: Tree, header: LogHeader, record: SetData) -> None:
    node = tree.nodes.get(record.path)
    if node is not None:
        node.data, node.version = record.data, record.version
        node.mzxid, node.mtime = header.zxid, header.time_ms


def _set_acl(tree: Tree, header: LogHeader, record: SetAcl) -> None:
    node = tree.nodes.get(record.path)
    if node is not None:
        node.acl, node.aversion = acl_of(record.acl), record.version


def _multi(tree: Tree, header: LogHeader, record: Multi) -> None:
    """All, or none if one of them is an error."""
    if any(part.kind == OpCode.ERROR for part in record.parts):
        return
    for part in record.parts:
        if part.kind not in PARTS:
            raise CorruptionError(f"a multi with a part of the type {part.kind}")
        tree._carry_out(header, _read(part.kind, part.data or b"")[0])


def _create_session(tree: Tree, header: LogHeader, record: CreateSession) -> None:
    tree.sessions[header.session] = record.timeout_ms


def _close_session(tree: Tree, header: LogHeader, record: CloseSession) -> None:
    for path in record.paths:
        tree.delete(path, header.zxid)
    tree.close_session(header.session, header.zxid)


def _nothing(tree: Tree, header: LogHeader, record: Record) -> None:
    """It changes no znode."""


_HANDLERS: Final[Mapping[type[Record], Callable[[Tree, LogHeader, Any], None]]] = {
    Create: _create,
    CreateContainer: _create_container,
    CreateTtl: _create_ttl,
    Delete: _delete,
    SetData: _set_data,
    SetAcl: _set_acl,
    Multi: _multi,
    CreateSession: _create_session,
    CloseSession: _close_session,
    Check: _nothing,
    Error: _nothing,
}
