"""Answers from the tree, and the watches that reading leaves behind.

Each handler takes the reader (a connection) and the request's record, and returns
the body of the reply: znodes are kept as such bodies, so most of it is a slice.
READ is checked against the ACL in force now.
"""

from struct import Struct
from typing import Final, Protocol

from wire import records
from wire.codes import ErrorCode, EventType, OpCode, Perm, WatcherType, WatchMode
from wire.jute import Record, encode_ustrings
from zkpy.errors import ZkError
from zkpy.pipeline.request import Identities
from zkpy.pipeline.watches import Firing, Kind, WatchTable
from zkpy.state import paths
from zkpy.state import znode as zn
from zkpy.state.acl import allowed, visible
from zkpy.state.apply import ReplicatedState

_LENGTH: Final = Struct(">i")
_NO_BODY: Final = b""
MULTI_READ_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of a reply to multiRead: one request of a megabyte could ask for tens of gigabytes."""


class Reader(Protocol):
    """What a read needs of the connection it is for."""

    id: int
    session: int
    identities: Identities


class Reads:
    """Reads on the committed tree of this server."""

    def __init__(self, state: ReplicatedState, watches: WatchTable) -> None:
        self._state = state
        self._tree = state.tree
        self._nodes = state.tree.nodes
        self._acls = state.tree.acls
        self._watches = watches

    def get_data(self, reader: Reader, body: records.GetDataRequest) -> bytes:
        path = body.path
        znode = self._nodes.get(path)
        if znode is None:
            raise ZkError(ErrorCode.NO_NODE)
        if path in self._acls:
            self._check(path, reader)
        if body.watch:
            self._watches.add(Kind.DATA, path, reader.id)
        return znode

    def exists(self, reader: Reader, body: records.ExistsRequest) -> bytes:
        """A watch is left on a missing znode too: it fires when the znode is created."""
        path = body.path
        znode = self._nodes.get(path)
        if znode is None and "\0" in path:
            raise ZkError(ErrorCode.BAD_ARGUMENTS)
        if znode is not None and path in self._acls:
            self._check(path, reader)
        if body.watch:
            self._watches.add(Kind.DATA, path, reader.id)
        if znode is None:
            raise ZkError(ErrorCode.NO_NODE)
        return zn.stat_of(znode)

    def get_children(self, reader: Reader, body: records.GetChildrenRequest) -> bytes:
        self._readable(body.path, reader)
        if body.watch:
            self._watches.add(Kind.CHILD, body.path, reader.id)
        return _vector(list(self._tree.children_of(body.path)))

    def get_children2(self, reader: Reader, body: records.GetChildren2Request) -> bytes:
        znode = self._readable(body.path, reader)
        if body.watch:
            self._watches.add(Kind.CHILD, body.path, reader.id)
        return _vector(list(self._tree.children_of(body.path))) + zn.stat_of(znode)

    def get_acl(self, reader: Reader, body: records.GetACLRequest) -> bytes:
        """READ or ADMIN is enough; without ADMIN the hashes of digest ids are masked."""
        path = body.path
        znode = self._existing(path)
        acl = self._tree.acl_of(path)
        if not allowed(acl, Perm.READ | Perm.ADMIN, reader.identities):
            raise ZkError(ErrorCode.NO_AUTH)
        entries = [entry.encode() for entry in visible(acl, reader.identities)]
        return _LENGTH.pack(len(entries)) + b"".join(entries) + zn.stat_of(znode)

    def get_all_children_number(
        self, reader: Reader, body: records.GetAllChildrenNumberRequest
    ) -> bytes:
        self._readable(body.path, reader)
        return _LENGTH.pack(self._tree.count_descendants(body.path))

    def get_ephemerals(self, reader: Reader, body: records.GetEphemeralsRequest) -> bytes:
        """Of the own session; by plain prefix of text, as ZooKeeper compares.

        To it a prefix of blanks is no prefix; anything else counts blanks and all.
        """
        owned = self._state.lifetimes.ephemerals_of(reader.session)
        prefix = body.prefix_path
        if prefix.strip(_BLANKS) in ("", paths.ROOT):
            return _vector(owned)
        return _vector([path for path in owned if path.startswith(prefix)])

    def multi_read(self, reader: Reader, body: records.MultiRequest) -> bytes:
        """Each item fares by itself; watch flags are ignored."""
        if any(opcode not in _MULTI_READ for opcode, _ in body.ops):
            raise ZkError(ErrorCode.MARSHALLING_ERROR)
        items: list[tuple[int, int, bytes]] = []
        room = MULTI_READ_BYTES_MAX
        for opcode, operation in body.ops:
            items.append(self._read_item(reader, opcode, operation))
            room -= len(items[-1][2])
            if room < 0:
                raise ZkError(ErrorCode.MARSHALLING_ERROR)
        return records.encode_multi(items)

    def _read_item(self, reader: Reader, opcode: int, operation: Record) -> tuple[int, int, bytes]:
        assert isinstance(operation, records.GetDataRequest | records.GetChildrenRequest)
        try:
            znode = self._readable(operation.path, reader)
        except ZkError as refusal:
            return records.encode_multi_error(refusal.code)
        if opcode == OpCode.GET_DATA:
            return opcode, 0, znode
        return opcode, 0, _vector(list(self._tree.children_of(operation.path)))

    def who_am_i(self, reader: Reader, body: None) -> bytes:
        """The identities of the connection, without what is secret about them."""
        entries = [
            records.ClientInfo(scheme, name.partition(":")[0] if scheme == "digest" else name)
            for scheme, name in reader.identities
        ]
        return _LENGTH.pack(len(entries)) + b"".join(entry.encode() for entry in entries)

    # --- watches as requests ---

    def add_watch(self, reader: Reader, body: records.AddWatchRequest) -> bytes:
        if body.mode == WatchMode.PERSISTENT:
            self._watches.add_persistent(body.path, reader.id)
        elif body.mode == WatchMode.PERSISTENT_RECURSIVE:
            self._watches.add(Kind.RECURSIVE, body.path, reader.id)
        else:
            raise ZkError(ErrorCode.MARSHALLING_ERROR)
        return records.ErrorResponse(0).encode()

    def remove_watches(self, reader: Reader, body: records.RemoveWatchesRequest) -> bytes:
        if body.type not in _WATCHER_TYPES:
            raise ZkError(ErrorCode.MARSHALLING_ERROR)
        if not self._watches.remove(body.type, body.path, reader.id):
            raise ZkError(ErrorCode.NO_WATCHER)
        return _NO_BODY

    def check_watches(self, reader: Reader, body: records.CheckWatchesRequest) -> bytes:
        if body.type not in _WATCHER_TYPES:
            raise ZkError(ErrorCode.MARSHALLING_ERROR)
        if not self._watches.contains(body.type, body.path, reader.id):
            raise ZkError(ErrorCode.NO_WATCHER)
        return _NO_BODY

    def set_watches(
        self, reader: Reader, body: records.SetWatches | records.SetWatches2
    ) -> list[Firing]:
        """Watches of a client that reconnected: set again, or fired if it missed the change.

        The result is what fired at once.  It has to pass the READ check of every
        event, as `trigger`'s does: ZooKeeper lets it pass unchecked, and so tells
        anybody what exists and when it changed.
        """
        since = body.relative_zxid
        missed: list[Firing] = []
        for path in body.data_watches:
            self._again(reader, missed, Kind.DATA, path, self._data_event(path, since))
        for path in body.exist_watches:
            found = EventType.NODE_CREATED if path in self._nodes else None
            self._again(reader, missed, Kind.DATA, path, found)
        for path in body.child_watches:
            self._again(reader, missed, Kind.CHILD, path, self._child_event(path, since))
        if isinstance(body, records.SetWatches2):
            self._set_persistent(reader, body)
        return missed

    def _set_persistent(self, reader: Reader, body: records.SetWatches2) -> None:
        for path in body.persistent_watches:
            self._watches.add_persistent(path, reader.id)
        for path in body.persistent_recursive_watches:
            self._watches.add(Kind.RECURSIVE, path, reader.id)

    def _again(
        self, reader: Reader, missed: list[Firing], kind: Kind, path: str, event: EventType | None
    ) -> None:
        if event is None:
            self._watches.add(kind, path, reader.id)
        else:
            missed.append((reader.id, event, path))

    def _data_event(self, path: str, since: int) -> EventType | None:
        znode = self._nodes.get(path)
        if znode is None:
            return EventType.NODE_DELETED
        return EventType.NODE_DATA_CHANGED if zn.mzxid(znode) > since else None

    def _child_event(self, path: str, since: int) -> EventType | None:
        znode = self._nodes.get(path)
        if znode is None:
            return EventType.NODE_DELETED
        return EventType.NODE_CHILDREN_CHANGED if zn.pzxid(znode) > since else None

    # --- parts ---

    def _existing(self, path: str) -> bytes:
        znode = self._nodes.get(path)
        if znode is None:
            raise ZkError(ErrorCode.NO_NODE)
        return znode

    def _readable(self, path: str, reader: Reader) -> bytes:
        znode = self._existing(path)
        if path in self._acls:
            self._check(path, reader)
        return znode

    def _check(self, path: str, reader: Reader) -> None:
        if not allowed(self._acls[path], Perm.READ, reader.identities):
            raise ZkError(ErrorCode.NO_AUTH)


def _vector(names: list[str]) -> bytes:
    """A jute vector of strings."""
    return _LENGTH.pack(len(names)) + encode_ustrings(names)


_BLANKS: Final = "".join(map(chr, range(0x21)))
"""What Java's `String.trim` takes away."""
_WATCHER_TYPES: Final = frozenset(int(each) for each in WatcherType)
_MULTI_READ: Final = (OpCode.GET_DATA, OpCode.GET_CHILDREN)
