"""Images: the whole state at one exact zxid, as chunks of bytes, out and in.

No files and no checksums here: storage and peers frame the chunks, and the digest
in the header is compared with that of the state that was loaded.

    header chunk   B kind 0 | 4s "zkpI" | H format 1 | q zxid | Q digest | Q znodes
    other chunks   B kind | I rows | I runs | I bytes of parents | I bytes of names
                   runs * I rows in each run | rows * I length of each value
                   parents, joined by NUL | names, joined by NUL | values

All big-endian.  A row is a path and a value; rows with the same parent in a row form
a run, so a million znodes below one parent name it a few thousand times and load in
about a second, column by column.  NUL is in no path.

    kind 1  sessions   /<id in decimal>      i timeout ms | password
    kind 2  ACLs       path                  packed ACL
    kind 3  owners     path                  q owner of a container or TTL znode
    kind 4  znodes     path                  znode (see `znode`)

Rows stand in order of creation, so that a loaded state lists its tables in the same
order as one that replayed every transaction, and writes the same bytes.

Theory of operation.  An ImageWriter copies the tables (10-20 ms a million znodes);
the state can then change while the chunks are made, since znodes are replaced, never
changed.  What follows from the tree (children, indexes, counts) is not in an image.
"""

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate, groupby, islice, pairwise
from typing import Final

from wire.errors import RemoteProtocolError
from zkpy.errors import CorruptionError
from zkpy.state import acl as acls_of
from zkpy.state import paths
from zkpy.state.acl import AclList
from zkpy.state.apply import ReplicatedState
from zkpy.state.sessions import Session
from zkpy.state.tree import DataTree

Row = tuple[str, bytes]

CHUNK_BYTES_MAX: Final = 1 << 20
"""A chunk ends with the row that reaches this many bytes of values."""

_HEADER: Final = struct.Struct(">B4sHqQQ")
_COLUMNS: Final = struct.Struct(">BIIII")
_OWNER: Final = struct.Struct(">q")
_TIMEOUT: Final = struct.Struct(">i")
_MAGIC: Final = b"zkpI"
_FORMAT: Final = 1
_KIND_HEADER: Final = 0
_KIND_SESSIONS: Final = 1
_KIND_ACLS: Final = 2
_KIND_OWNERS: Final = 3
_KIND_NODES: Final = 4


class ImageWriter:
    """The image of a state as it was when this was made."""

    def __init__(self, state: ReplicatedState) -> None:
        tree = state.tree
        self.zxid: int = state.zxid
        self.digest: int = state.digest
        self.nodes: int = len(tree.nodes)
        sessions, acls, owners = dict(state.sessions.sessions), dict(tree.acls), dict(tree.owners)
        # Encoded a slice at a time, by functions: mypyc makes lists of generator expressions.
        self._sections: deque[tuple[int, Iterator[Row]]] = deque(
            [
                (_KIND_SESSIONS, _session_rows(sessions)),
                (_KIND_ACLS, _acl_rows(acls)),
                (_KIND_OWNERS, _owner_rows(owners)),
                (_KIND_NODES, iter(tree.nodes.copy().items())),
            ]
        )
        self._begun = False

    def next_chunk(self, nodes: int) -> bytes | None:
        """The next chunk, of at most `nodes` rows; None when the image is complete."""
        if not self._begun:
            self._begun = True
            return self._header()
        while self._sections:
            kind, rows = self._sections[0]
            taken = _take(rows, nodes)
            if taken:
                return _encode(kind, taken)
            self._sections.popleft()
        return None

    def _header(self) -> bytes:
        return _HEADER.pack(
            _KIND_HEADER, _MAGIC, _FORMAT, self.zxid, self.digest, self.nodes
        )  # fmt: skip


def _session_rows(sessions: dict[int, Session]) -> Iterator[Row]:
    for number, session in sessions.items():
        yield f"/{number}", _pack_session(session)


def _acl_rows(acls: dict[str, AclList]) -> Iterator[Row]:
    for path, acl in acls.items():
        yield path, acls_of.pack(acl)


def _owner_rows(owners: dict[str, int]) -> Iterator[Row]:
    for path, owner in owners.items():
        yield path, _OWNER.pack(owner)


@dataclass(eq=False, repr=False, slots=True)
class ImageReader:
    """Takes the chunks of an image in order; `finish` gives the state.

    Anything wrong with them is a CorruptionError: they passed a checksum before, so
    what was written was wrong, or the state that wrote them.
    """

    _state: ReplicatedState = field(default_factory=lambda: ReplicatedState(DataTree()))
    _digest: int = 0
    _nodes: int = 0
    _packed_acls: dict[bytes, AclList] = field(default_factory=dict)

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk: about a microsecond per znode."""
        try:
            take = _TAKE[chunk[0]] if self._nodes else ImageReader._take_header
            take(self, chunk)
        except (struct.error, ValueError, LookupError, RemoteProtocolError) as error:
            raise CorruptionError(f"an image that cannot be read: {error}") from error

    def finish(self) -> ReplicatedState:
        """The state, if every znode has come and the digest is that of the header."""
        state = self._state
        if not self._nodes or state.node_count != self._nodes:
            raise CorruptionError(f"an image of {self._nodes} znodes has {state.node_count}")
        if state.digest != self._digest:
            raise CorruptionError(
                f"an image at {state.zxid:#x} has digest {state.digest:#x}, not {self._digest:#x}"
            )
        state.quota.rebuild(state.tree)
        return state

    def _take_header(self, chunk: bytes) -> None:
        kind, magic, version, zxid, self._digest, self._nodes = _HEADER.unpack(chunk)
        if (kind, magic, version) != (_KIND_HEADER, _MAGIC, _FORMAT):
            raise ValueError(f"header {kind} {magic!r} format {version}")
        self._state.zxid = zxid

    def _take_sessions(self, chunk: bytes) -> None:
        for path, value in _rows(chunk):
            (timeout_ms,) = _TIMEOUT.unpack_from(value)
            self._state.open_session(int(path[1:]), timeout_ms, value[_TIMEOUT.size :])

    def _take_acls(self, chunk: bytes) -> None:
        self._state.restore({path: self._unpack_acl(value) for path, value in _rows(chunk)}, {})

    def _unpack_acl(self, packed: bytes) -> AclList:
        acl = self._packed_acls.get(packed)
        if acl is None:
            self._packed_acls[packed] = acl = acls_of.unpack(packed)
        return acl

    def _take_owners(self, chunk: bytes) -> None:
        self._state.restore({}, {path: _OWNER.unpack(value)[0] for path, value in _rows(chunk)})

    def _take_nodes(self, chunk: bytes) -> None:
        runs, znodes = _decode(chunk)
        tree = self._state.tree
        for parent, names in runs:
            if not names[0]:  # The root: it has no parent to be linked to.
                names = names[1:]
            if names:
                tree.children.setdefault(parent or paths.ROOT, {}).update(dict.fromkeys(names))
        all_paths = _paths_of(runs)
        tree.nodes.update(zip(all_paths, znodes, strict=True))
        self._state.count_nodes(all_paths, znodes)


_TAKE: Final[Mapping[int, Callable[[ImageReader, bytes], None]]] = {
    _KIND_SESSIONS: ImageReader._take_sessions,
    _KIND_ACLS: ImageReader._take_acls,
    _KIND_OWNERS: ImageReader._take_owners,
    _KIND_NODES: ImageReader._take_nodes,
}


def load(chunks: Iterable[bytes]) -> ReplicatedState:
    """The state that an image holds; CorruptionError if it holds none."""
    reader = ImageReader()
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()


def _take(rows: Iterator[Row], limit: int) -> list[Row]:
    taken: list[Row] = []
    size = 0
    for row in islice(rows, limit):
        taken.append(row)
        size += len(row[1])
        if size >= CHUNK_BYTES_MAX:
            break
    return taken


def _encode(kind: int, rows: list[Row]) -> bytes:
    split = [path.rpartition("/") for path, _ in rows]
    runs = [(parent, sum(1 for _ in run)) for parent, run in groupby(split, lambda s: s[0])]
    parents = "\0".join([parent for parent, _ in runs]).encode()
    names = "\0".join([name for _, _, name in split]).encode()
    values = [value for _, value in rows]
    return b"".join(
        [
            _COLUMNS.pack(kind, len(rows), len(runs), len(parents), len(names)),
            struct.pack(f">{len(runs)}I", *[count for _, count in runs]),
            struct.pack(f">{len(rows)}I", *map(len, values)),
            parents,
            names,
            *values,
        ]
    )


def _decode(chunk: bytes) -> tuple[list[tuple[str, list[str]]], list[bytes]]:
    """The runs (parent, names) and the values of a chunk."""
    _, rows, run_count, parents_size, names_size = _COLUMNS.unpack_from(chunk)
    counts = struct.unpack_from(f">{run_count}I", chunk, _COLUMNS.size)
    at = _COLUMNS.size + 4 * run_count
    lengths = struct.unpack_from(f">{rows}I", chunk, at)
    at += 4 * rows
    names_at, values_at = at + parents_size, at + parents_size + names_size
    parents = chunk[at:names_at].decode().split("\0")
    names = chunk[names_at:values_at].decode().split("\0")
    if values_at + sum(lengths) != len(chunk) or sum(counts) != rows or len(names) != rows:
        raise ValueError("columns of unequal length")
    values = [chunk[a:b] for a, b in pairwise(accumulate(lengths, initial=values_at))]
    bounds = pairwise(accumulate(counts, initial=0))
    runs = [(parent, names[a:b]) for parent, (a, b) in zip(parents, bounds, strict=True)]
    return runs, values


def _paths_of(runs: list[tuple[str, list[str]]]) -> list[str]:
    all_paths: list[str] = []
    for parent, names in runs:
        prefix = parent + "/"
        all_paths += [prefix + name for name in names]
    return all_paths


def _rows(chunk: bytes) -> Iterator[Row]:
    runs, values = _decode(chunk)
    return zip(_paths_of(runs), values, strict=True)


def _pack_session(session: Session) -> bytes:
    return _TIMEOUT.pack(session.timeout_ms) + session.password
