"""ZooKeeper's snapshot and log files: bytes in, bytes out.

    snapshot   FileHeader | int32 sessions | StoredSession ... | int32 lists | StoredAcl ...
               | StoredNode ... parents first, the root's path empty | ustring "/" | seal
    seal       int64 Adler-32 of all bytes before it | ustring "/"
    log        FileHeader | entries | zeros, up to the size that was reserved
    entry      int64 Adler-32 of the bytes | int32 length | bytes: LogHeader, record | "B"

    digest     int64 zxid | int32 version 2 | int64 digest (see `digest`) | seal

All big-endian.  Behind a snapshot's seal ZooKeeper 3.6 and later put the digest of the tree at the
zxid up to which the snapshot holds something, and 3.9 one more zxid, which is not needed.
"""

import gzip
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from wire.errors import RemoteProtocolError
from wire.records import ACL, OPEN_ACL
from zkpy.errors import CorruptionError
from zkpy.zookeeper.records import (
    FILE_VERSION,
    LOG_MAGIC,
    SNAPSHOT_MAGIC,
    FileHeader,
    LogHeader,
    StoredAcl,
    StoredNode,
    StoredSession,
    StoredStat,
    acl_of,
    entries_of,
)
from zkpy.zookeeper.tree import Node, Tree, digest_of

OPEN_ACL_NUMBER: Final = -1
"""Of the list that allows everything to everyone, which is not stored."""

_COUNT: Final = struct.Struct(">i")
_SEAL: Final = struct.Struct(">qi1s")
_DIGEST: Final = struct.Struct(">qiq")
DIGEST_VERSION: Final = 2
_ENTRY: Final = struct.Struct(">qi")
_ENTRY_END: Final = b"B"
_HEADER_BYTES: Final = 16
_LAST_PATH: Final = b"\0\0\0\1/"
_CHUNK_NODES: Final = 4096
ENTRY_BYTES_MAX: Final = 64 << 20
"""More than any `jute.maxbuffer`: a greater length is damage, not an entry that was cut off."""


# --- snapshots, in


def read_snapshot(data: bytes) -> Tree:
    """The tree of a snapshot, fuzzy as it may be; CorruptionError if its bytes are not whole."""
    try:
        return _Snapshot(data).read()
    except (RemoteProtocolError, struct.error, UnicodeDecodeError) as error:
        raise CorruptionError(f"a snapshot that cannot be read: {error}") from error


class _Snapshot:
    """Walks through the bytes of one."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.tree = Tree()
        self.acls: dict[int, tuple[ACL, ...]] = {OPEN_ACL_NUMBER: OPEN_ACL}

    def read(self) -> Tree:
        self.at = check_header(self.data, SNAPSHOT_MAGIC)
        for _ in range(self._count()):
            session, self.at = StoredSession.decode(self.data, self.at, len(self.data))
            self.tree.sessions[session.session] = session.timeout_ms
        for _ in range(self._count()):
            stored, self.at = StoredAcl.decode(self.data, self.at, len(self.data))
            self.acls[stored.number] = acl_of(stored.acl)
        while not self.data.startswith(_LAST_PATH, self.at):
            self._read_node()
        self.at += len(_LAST_PATH)
        self._check_seal()
        self._read_digest()
        return self.tree

    def _count(self) -> int:
        (count,) = _COUNT.unpack_from(self.data, self.at)
        self.at += _COUNT.size
        if count < 0:
            raise CorruptionError(f"a count of {count}")
        return int(count)

    def _read_node(self) -> None:
        node, self.at = StoredNode.decode(self.data, self.at, len(self.data))
        stat = node.stat
        self.tree.add(
            node.path or "/",
            Node(
                node.data,
                self.acls.get(node.acl),
                stat.czxid,
                stat.mzxid,
                stat.ctime,
                stat.mtime,
                stat.version,
                stat.counter,
                stat.aversion,
                stat.owner,
                stat.pzxid,
            ),
        )

    def _check_seal(self) -> None:
        checksum, length, path = _SEAL.unpack_from(self.data, self.at)
        if (length, path) != (1, b"/") or checksum != zlib.adler32(self.data[: self.at]):
            raise CorruptionError("a snapshot whose checksum is wrong")
        self.at += _SEAL.size

    def _read_digest(self) -> None:
        """Only its zxid: the digest may be that of a tree that the log makes."""
        if self.at + _DIGEST.size <= len(self.data):
            self.tree.reaches, _, _ = _DIGEST.unpack_from(self.data, self.at)


def check_header(data: bytes, magic: int) -> int:
    """Where the header of a file ends; CorruptionError if it is of another kind."""
    if len(data) < _HEADER_BYTES:
        raise CorruptionError("a file without a header")
    header, at = FileHeader.decode(data, 0, len(data))
    if (header.magic, header.version) != (magic, FILE_VERSION):
        raise CorruptionError(f"a header of {header.magic:#x}, version {header.version}")
    return at


def unpack(name: str, data: bytes) -> bytes:
    """What a file holds that `snapshot.compression.method` has made smaller, by its name."""
    if name.endswith(".gz"):
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise CorruptionError(f"it cannot be decompressed: {error}") from error
    if name.endswith(".snappy"):
        raise CorruptionError(
            "it is compressed by snappy, which is not supported: let ZooKeeper write one "
            "without (remove snapshot.compression.method and restart it)"
        )
    return data


# --- snapshots, out


def write_snapshot(tree: Tree) -> Iterator[bytes]:
    """The bytes of a snapshot, in pieces."""
    checksum = 1  # zlib's value of no bytes
    for piece in _pieces(tree):
        checksum = zlib.adler32(piece, checksum)
        yield piece
    seal = _SEAL.pack(checksum, 1, b"/")
    known = _DIGEST.pack(tree.zxid, DIGEST_VERSION, _signed(digest_of(tree)))
    yield seal + known
    yield _SEAL.pack(zlib.adler32(seal + known, checksum), 1, b"/")


def _signed(number: int) -> int:
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _pieces(tree: Tree) -> Iterator[bytes]:
    yield FileHeader(SNAPSHOT_MAGIC, FILE_VERSION, -1).encode()
    yield _COUNT.pack(len(tree.sessions))
    for session, timeout_ms in tree.sessions.items():
        yield StoredSession(session, timeout_ms).encode()
    numbers = _number_acls(tree.nodes.values())
    yield _COUNT.pack(len(numbers) - 1)
    for acl, number in numbers.items():
        if number != OPEN_ACL_NUMBER:
            yield StoredAcl(number, entries_of(acl)).encode()
    paths = sorted(tree.nodes)  # which puts parents first
    for start in range(0, len(paths), _CHUNK_NODES):
        chunk = paths[start : start + _CHUNK_NODES]
        yield b"".join([_encode_node(path, tree.nodes[path], numbers) for path in chunk])
    yield _LAST_PATH


def _number_acls(nodes: Iterable[Node]) -> dict[tuple[ACL, ...], int]:
    numbers: dict[tuple[ACL, ...], int] = {OPEN_ACL: OPEN_ACL_NUMBER}
    for node in nodes:
        numbers.setdefault(node.acl or (), len(numbers))
    return numbers


def _encode_node(path: str, node: Node, numbers: dict[tuple[ACL, ...], int]) -> bytes:
    stat = StoredStat(
        node.czxid,
        node.mzxid,
        node.ctime,
        node.mtime,
        node.version,
        node.counter,
        node.aversion,
        node.owner,
        node.pzxid,
    )
    return StoredNode(
        "" if path == "/" else path, node.data, numbers[node.acl or ()], stat
    ).encode()


# --- logs, in


class LogFile:
    """The transactions of a log file in order: header, and the record's bytes.

    A last entry that was cut off while it was written ends it, as zeros do.  CorruptionError for
    anything else that is wrong, on the way.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.cut_off = 0
        """Bytes of a last entry that is not whole; known at the end."""

    def __iter__(self) -> Iterator[tuple[LogHeader, bytes]]:
        data, end = self._data, len(self._data)
        if not data.strip(b"\0"):  # it was reserved, and nothing written yet
            return
        at = check_header(data, LOG_MAGIC)
        while at + _ENTRY.size <= end:
            checksum, length = _ENTRY.unpack_from(data, at)
            start, stop = at + _ENTRY.size, at + _ENTRY.size + length
            if not length or stop >= end or data[stop : stop + 1] == b"\0":
                break
            yield _split(_take_entry(data, start, stop, checksum))
            at = stop + len(_ENTRY_END)
        self._note_cut(at)

    def _note_cut(self, at: int) -> None:
        rest = self._data[at:].rstrip(b"\0")
        if _holds_entry(rest):
            raise CorruptionError(f"an entry at byte {at} that does not end, and others behind it")
        self.cut_off = len(rest)


def _take_entry(data: bytes, start: int, stop: int, checksum: int) -> bytes:
    if not 0 < stop - start <= ENTRY_BYTES_MAX:
        raise CorruptionError(f"an entry at byte {start} of {stop - start} bytes")
    entry = data[start:stop]
    if zlib.adler32(entry) != checksum:
        raise CorruptionError(f"an entry at byte {start} whose checksum is wrong")
    if data[stop : stop + 1] != _ENTRY_END:
        raise CorruptionError(f"an entry at byte {start} that does not end")
    return entry


def _holds_entry(rest: bytes) -> bool:
    """Whether a whole entry stands anywhere in it behind the end of another."""
    at = rest.find(_ENTRY_END)
    while 0 <= at < len(rest) - _ENTRY.size:
        checksum, length = _ENTRY.unpack_from(rest, at + 1)
        start = at + 1 + _ENTRY.size
        entry = rest[start : start + max(length, 0)]
        if 0 < length == len(entry) and zlib.adler32(entry) == checksum:
            return True
        at = rest.find(_ENTRY_END, at + 1)
    return False


def _split(entry: bytes) -> tuple[LogHeader, bytes]:
    try:
        header, at = LogHeader.decode(entry, 0, len(entry))
    except RemoteProtocolError as error:
        raise CorruptionError(f"a transaction that cannot be read: {error}") from error
    return header, entry[at:]
