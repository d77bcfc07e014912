"""ZooKeeper's tree as its files tell of it, and how a log is replayed on it.

A snapshot is *fuzzy*: written while the tree went on changing, so that it holds some of
what came after the zxid in its name.  Replaying the log from that zxid on mends it, if
every transaction is carried out as ZooKeeper does it at a restart: what is there already is left,
what is gone already is passed over, and counters and zxids only grow (`DataTree` and its
`processTxn` there; tickets 1269 and 3249 have the reasons).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wire.codes import OpCode
from wire.errors import RemoteProtocolError
from wire.jute import Record
from wire.records import ACL, OPEN_ACL
from zkpy.errors import CorruptionError
from zkpy.state.lifetimes import CONTAINER_OWNER, is_session, owner_of_ttl
from zkpy.zookeeper.records import (
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
)

NEXT_COUNTER: Final = -1
"""As a parent's counter: one more than it was (of creates before 3.4)."""


@dataclass(eq=False, slots=True)
class Node:
    data: bytes | None
    acl: tuple[ACL, ...]
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
    _ephemerals: dict[int, dict[str, None]] = field(default_factory=dict)

    def add(self, path: str, node: Node) -> None:
        self.nodes[path] = node
        if is_session(node.owner):
            self._ephemerals.setdefault(node.owner, {})[path] = None

    def replay(self, header: LogHeader, body: bytes) -> None:
        """Carry out one transaction of the log; CorruptionError if it cannot be read."""
        self._carry_out(header, header.kind, body)
        if header.kind == OpCode.CREATE_SESSION:
            self.sessions[header.session] = _decode(CreateSession, body).timeout_ms
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
        if path not in self.nodes:
            self.add(path, node)

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
        """CorruptionError if a znode lacks its parent."""
        if "/" not in self.nodes:
            raise CorruptionError("there is no root")
        for path in self.nodes:
            if path != "/" and _parent(path) not in self.nodes:
                raise CorruptionError(f"{path} has no parent")

    def _carry_out(self, header: LogHeader, kind: int, body: bytes) -> None:
        if kind == OpCode.MULTI:
            self._carry_out_parts(header, _decode(Multi, body))
            return
        found = RECORDS.get(kind)
        if found is None:
            raise CorruptionError(f"a transaction of the unknown type {kind}")
        if kind == OpCode.CLOSE_SESSION:
            self._end_session(header, body)
        else:
            record = _decode_create(body) if found is Create else _decode(found, body)
            _HANDLERS[found](self, header, record)

    def _carry_out_parts(self, header: LogHeader, multi: Multi) -> None:
        """All, or none if one of them is an error."""
        if any(part.kind == OpCode.ERROR for part in multi.parts):
            return
        for part in multi.parts:
            self._carry_out(header, part.kind, part.data or b"")

    def _end_session(self, header: LogHeader, body: bytes) -> None:
        """ZooKeeper 3.6 and later name the znodes to be deleted.  What is a record of another
        time is none: there was nothing but the header then."""
        try:
            paths = _decode(CloseSession, body).paths
        except CorruptionError:
            paths = []
        for path in paths:
            self.delete(path, header.zxid)
        self.close_session(header.session, header.zxid)


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _decode(kind: Any, body: bytes) -> Any:
    """The record at the start of `body`: a digest of the tree may follow."""
    try:
        return kind.decode(body, 0, len(body))[0]
    except RemoteProtocolError as error:
        raise CorruptionError(f"a transaction that cannot be read: {error}") from error


def _decode_create(body: bytes) -> Create:
    try:
        return Create.decode(body, 0, len(body))[0]
    except RemoteProtocolError:
        old = _decode(OldCreate, body)
        return Create(old.path, old.data, old.acl, old.ephemeral, NEXT_COUNTER)


def _fresh(header: LogHeader, record: Any, owner: int) -> Node:
    zxid, time_ms = header.zxid, header.time_ms
    acl = tuple(record.acl)
    shared = OPEN_ACL if acl == OPEN_ACL else acl
    return Node(record.data, shared, zxid, zxid, time_ms, time_ms, 0, 0, 0, owner, zxid)


def _create(tree: Tree, header: LogHeader, record: Create) -> None:
    node = _fresh(header, record, header.session if record.ephemeral else 0)
    tree.create(record.path, node, record.parent_counter)


def _create_container(tree: Tree, header: LogHeader, record: CreateContainer) -> None:
    tree.create(record.path, _fresh(header, record, CONTAINER_OWNER), record.parent_counter)


def _create_ttl(tree: Tree, header: LogHeader, record: CreateTtl) -> None:
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
        node.acl, node.aversion = tuple(record.acl), record.version


def _nothing(tree: Tree, header: LogHeader, record: Record) -> None:
    """It changes no znode."""


_HANDLERS: Final[Mapping[type[Record], Callable[[Tree, LogHeader, Any], None]]] = {
    Create: _create,
    CreateContainer: _create_container,
    CreateTtl: _create_ttl,
    Delete: _delete,
    SetData: _set_data,
    SetAcl: _set_acl,
    Check: _nothing,
    CreateSession: _nothing,
    Error: _nothing,
}
