"""A znode as one immutable `bytes`, in the form in which clients read it.

Owns the representation: nothing outside this module knows an offset.

    int32 length | data | Stat (68 bytes)
    Stat: czxid mzxid ctime mtime (int64) | version cversion aversion (int32)
          | ephemeralOwner (int64) | dataLength numChildren (int32) | pzxid (int64)

All big-endian.  This is the body of a getData reply as it stands, and its last 68
bytes are the body of an exists reply; length -1 marks null data, whose dataLength
is 0.  A million such values cost about 420 bytes each with paths and tables, a
third less than records, and hold nothing that a garbage collector visits.

Theory of operation.  Clients are shown `cversion = 2 * counter - numChildren`,
where the counter numbers the creates under this znode and names its sequential
children (creates and deletes then both add one).  The counter is not stored: it is
half of `cversion + numChildren`, exact for 31 bits.  At 2^31 - 1 it stays, as
ZooKeeper's does: later sequential names collide (NODE_EXISTS), none goes back.

A znode is replaced, never changed: an image is a copy of the table of paths.
The price is that a create or delete below copies the parent's data once.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final

COUNTER_MAX: Final = 0x7FFFFFFF
"""Where the counter of creates stays."""
OVERHEAD_BYTES: Final = 72
"""Bytes of a znode that are not data."""
STAT_BYTES: Final = 68

_INT: Final = Struct(">i")
_LONG: Final = Struct(">q")
_STAT: Final = Struct(">qqqqiiiqiiq")
# czxid | mzxid | ctime | mtime | version | cversion aversion owner | dataLength | numChildren pzxid
_DATA_CHANGE: Final = Struct(">8sq8sqi16si12s")
_KEPT: Final = Struct(">8s8x8s12x16s4x12s")
"""What a data change leaves of that."""
# cversion | aversion owner dataLength | numChildren | pzxid
_CHILD_CHANGE: Final = Struct(">I16sIq")
# version cversion aversion | ephemeralOwner | dataLength numChildren
_FACTS: Final = Struct(">iiiqii")
_NULL: Final = _INT.pack(-1)
_NO_OWNER: Final = bytes(8)

_INT32_MASK: Final = 0xFFFFFFFF
_INT32_MIN: Final = -0x80000000


def new(data: bytes | None, ephemeral_owner: int, zxid: int, time_ms: int) -> bytes:
    """A znode as its create leaves it."""
    length = 0 if data is None else len(data)
    stat = _STAT.pack(
        zxid, zxid, time_ms, time_ms, 0, 0, 0, ephemeral_owner, length, 0, zxid
    )  # fmt: skip
    return _NULL + stat if data is None else _INT.pack(length) + data + stat


def restored(data: bytes | None, stat: bytes) -> bytes:
    """A znode of which another server told: its data, and its packed Stat."""
    assert len(stat) == STAT_BYTES, "a packed Stat has 68 bytes"
    return (_NULL if data is None else _INT.pack(len(data)) + data) + stat


def with_data(znode: bytes, data: bytes | None, version: int, zxid: int, time_ms: int) -> bytes:
    """The znode after a setData that leaves it at `version`."""
    length = 0 if data is None else len(data)
    czxid, ctime, middle, end = _KEPT.unpack(znode[-68:])
    stat = _DATA_CHANGE.pack(czxid, zxid, ctime, time_ms, version, middle, length, end)
    return _NULL + stat if data is None else _INT.pack(length) + data + stat


def with_data_alone(znode: bytes, data: bytes) -> bytes:
    """The znode with other data and its length: no setData, so all else stays."""
    length = _INT.pack(len(data))
    return length + data + znode[-68:-16] + length + znode[-12:]


def with_aversion(znode: bytes, aversion: int) -> bytes:
    """The znode after a setACL: neither mzxid nor mtime moves."""
    return znode[:-28] + _INT.pack(aversion) + znode[-24:]


def with_child_created(znode: bytes, counter: int, zxid: int) -> bytes:
    """The znode after a create below it that leaves its counter at `counter`."""
    _, middle, children, _ = _CHILD_CHANGE.unpack(znode[-32:])
    children += 1
    cversion = (2 * counter - children) & _INT32_MASK
    return znode[:-32] + _CHILD_CHANGE.pack(cversion, middle, children, zxid)


def with_child_deleted(znode: bytes, zxid: int) -> bytes:
    """The znode after a delete below it: the counter stays, so cversion grows by one."""
    cversion, middle, children, _ = _CHILD_CHANGE.unpack(znode[-32:])
    return znode[:-32] + _CHILD_CHANGE.pack(
        (cversion + 1) & _INT32_MASK, middle, children - 1, zxid
    )


def stat_of(znode: bytes) -> bytes:
    """The packed Stat, 68 bytes."""
    return znode[-68:]


def data_of(znode: bytes) -> bytes | None:
    return None if znode.startswith(_NULL) else znode[4:-68]


def data_length(znode: bytes) -> int:
    """Bytes of data; 0 for null."""
    return len(znode) - OVERHEAD_BYTES


def czxid(znode: bytes) -> int:
    return _long_at(znode, 68)


def mzxid(znode: bytes) -> int:
    return _long_at(znode, 60)


def mtime(znode: bytes) -> int:
    """Wall-clock ms of the last setData, by the clock of the leader of that time."""
    return _long_at(znode, 44)


def version(znode: bytes) -> int:
    return _int_at(znode, 36)


def cversion(znode: bytes) -> int:
    """As clients see it; see `child_counter`."""
    return _int_at(znode, 32)


def aversion(znode: bytes) -> int:
    return _int_at(znode, 28)


def ephemeral_owner(znode: bytes) -> int:
    """The owning session, or 0.  0 for containers and TTL znodes too, as clients are shown."""
    return _long_at(znode, 24)


def child_count(znode: bytes) -> int:
    return _int_at(znode, 12)


def pzxid(znode: bytes) -> int:
    return _long_at(znode, 8)


def child_counter(znode: bytes) -> int:
    """How many creates happened below: names the next sequential child."""
    return ((_int_at(znode, 32) + _int_at(znode, 12)) & _INT32_MASK) >> 1


def facts_of(znode: bytes) -> tuple[int, int, int, int, int, int]:
    """What checks look at, in one go: (version, aversion, child counter, child count,
    data length, ephemeral owner)."""
    version, cversion, aversion, owner, length, children = _FACTS.unpack_from(
        znode, len(znode) - 36
    )
    return version, aversion, ((cversion + children) & _INT32_MASK) >> 1, children, length, owner


def next_version(value: int) -> int:
    """One more, as a Java int: a version that overflows starts at the negative end."""
    return _INT32_MIN if value == COUNTER_MAX else value + 1


def data_changed(before: bytes, after: bytes) -> bool:
    """Whether a setData lies between two states of a znode.

    By version, since two operations of one multi share their mzxid; or by that, since
    `/zookeeper/config` keeps its version, -1, through all changes.
    """
    return before[-36:-32] != after[-36:-32] or before[-60:-52] != after[-60:-52]


def children_changed(before: bytes, after: bytes) -> bool:
    """Whether a create or delete below lies between two states of a znode."""
    return before[-32:-28] != after[-32:-28]


def ephemerals_among(paths: Iterable[str], znodes: Iterable[bytes]) -> list[tuple[str, int]]:
    """(path, session) of every ephemeral in two columns of equal length."""
    return [
        (path, ephemeral_owner(znode))
        for path, znode in zip(paths, znodes, strict=True)
        if znode[-24:-16] != _NO_OWNER
    ]


def _int_at(znode: bytes, from_end: int) -> int:
    value: int = _INT.unpack_from(znode, len(znode) - from_end)[0]
    return value


def _long_at(znode: bytes, from_end: int) -> int:
    value: int = _LONG.unpack_from(znode, len(znode) - from_end)[0]
    return value
