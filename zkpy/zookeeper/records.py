"""The records of ZooKeeper's files, in jute: those of `zookeeper.jute` that a server stores.

Transactions have types of their own here: what ZooKeeper writes differs from `wire.txn`.
"""

from typing import Final

from wire.codes import OpCode
from wire.jute import Record, boolean, buffer, int32, int64, record, ustring, vector
from wire.records import ACL, OPEN_ACL

SNAPSHOT_MAGIC: Final = int.from_bytes(b"ZKSN", "big")
LOG_MAGIC: Final = int.from_bytes(b"ZKLG", "big")
FILE_VERSION: Final = 2


@record
class FileHeader(Record):
    """At the start of every file."""

    magic: int32
    version: int32
    dbid: int64


@record
class StoredEntry(Record):
    """Of an access list.  The id as bytes: Java writes what is outside the BMP as two surrogates of
    three bytes each, which is not UTF-8."""

    perms: int32
    scheme: ustring
    id: buffer


OPEN_ENTRIES: Final = [StoredEntry(OPEN_ACL[0].perms, "world", b"anyone")]


def acl_of(entries: list[StoredEntry]) -> tuple[ACL, ...]:
    if entries == OPEN_ENTRIES:
        return OPEN_ACL
    return tuple([ACL(each.perms, each.scheme, _text(each.id or b"")) for each in entries])


def _text(data: bytes) -> str:
    paired = data.decode("utf-8", "surrogatepass").encode("utf-16-le", "surrogatepass")
    return paired.decode("utf-16-le", "replace")


def entries_of(acl: tuple[ACL, ...]) -> list[StoredEntry]:
    return [StoredEntry(each.perms, each.scheme, each.id.encode()) for each in acl]


@record
class StoredStat(Record):
    """A Stat as it is stored: `counter` counts the creates below (clients see another cversion),
    and what follows from the tree is missing."""

    czxid: int64
    mzxid: int64
    ctime: int64
    mtime: int64
    version: int32
    counter: int32
    aversion: int32
    owner: int64
    pzxid: int64


@record
class StoredNode(Record):
    """`path` is empty for the root; `acl` names a list that stands before all nodes."""

    path: ustring
    data: buffer
    acl: int64
    stat: StoredStat


@record
class StoredAcl(Record):
    number: int64
    acl: vector[StoredEntry]


@record
class StoredSession(Record):
    session: int64
    timeout_ms: int32


@record
class LogHeader(Record):
    """Before each transaction of the log."""

    session: int64
    cxid: int32
    zxid: int64
    time_ms: int64
    kind: int32
    """An OpCode."""


@record
class Create(Record):
    path: ustring
    data: buffer
    acl: vector[StoredEntry]
    ephemeral: boolean
    parent_counter: int32


@record
class OldCreate(Record):
    """As ZooKeeper wrote it before 3.4."""

    path: ustring
    data: buffer
    acl: vector[StoredEntry]
    ephemeral: boolean


@record
class CreateContainer(Record):
    path: ustring
    data: buffer
    acl: vector[StoredEntry]
    parent_counter: int32


@record
class CreateTtl(Record):
    path: ustring
    data: buffer
    acl: vector[StoredEntry]
    parent_counter: int32
    ttl_ms: int64


@record
class Delete(Record):
    path: ustring


@record
class SetData(Record):
    path: ustring
    data: buffer
    version: int32


@record
class SetAcl(Record):
    path: ustring
    acl: vector[StoredEntry]
    version: int32


@record
class Check(Record):
    path: ustring
    version: int32


@record
class CreateSession(Record):
    timeout_ms: int32


@record
class CloseSession(Record):
    paths: vector[ustring]


@record
class Error(Record):
    code: int32


@record
class Part(Record):
    """One operation of a multi."""

    kind: int32
    data: buffer


@record
class Multi(Record):
    parts: vector[Part]


RECORDS: Final[dict[int, type[Record]]] = {
    OpCode.CREATE: Create,
    OpCode.CREATE2: Create,
    OpCode.CREATE_CONTAINER: CreateContainer,
    OpCode.CREATE_TTL: CreateTtl,
    OpCode.DELETE: Delete,
    OpCode.DELETE_CONTAINER: Delete,
    OpCode.SET_DATA: SetData,
    OpCode.RECONFIG: SetData,
    OpCode.SET_ACL: SetAcl,
    OpCode.CHECK: Check,
    OpCode.CREATE_SESSION: CreateSession,
    OpCode.CLOSE_SESSION: CloseSession,
    OpCode.ERROR: Error,
    OpCode.MULTI: Multi,
}
"""Kind of a transaction -> its record."""
PARTS: Final = frozenset(RECORDS) - {
    *(OpCode.MULTI, OpCode.CREATE_SESSION, OpCode.CLOSE_SESSION, OpCode.SET_ACL, OpCode.RECONFIG)
}
"""Kinds that a multi may hold."""
