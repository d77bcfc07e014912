"""Transactions: the vocabulary of leader, log and tree, as packed bytes.

In and out: `encode(header, txn)` and `decode(bytes)`.  The leader encodes once; those
bytes are proposed, logged, resent and applied by every server.  Big-endian throughout:

    transaction = int64 session, int32 cxid, int64 origin, uint64 incarnation,
                  int64 number, int64 time_ms, body
    body        = uint8 kind, the kind's numbers, the kind's bytes

    kind              numbers (int32, q: int64)                          bytes
    1 create          path, data, entries, q owner, parent_cversion      path, data, entries
    2 delete          path                                               path
    3 set data        path, data, version                                path, data
    4 set acl         path, entries, aversion                            path, entries
    5 check           path, version                                      path
    6 create session  password, timeout_ms                               password
    7 close session
    8 error           code
    9 multi           count                                              count x (int32 size, body)

`path`, `data` and `password` among the numbers are byte counts, `entries` is the number of
entries in the access list: int32 perms and two byte counts each, then scheme and id.  -1
stands for no data, and for the access list that nearly all znodes have, OPEN_ACL.

One `struct` call per half and record: CBOR took three times as long to write, and twice
as long to read.  A kind is never renumbered and a field never moves: logs outlive programs.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from wire.errors import RemoteProtocolError
from wire.records import ACL, OPEN_ACL


@dataclass(init=False, slots=True)
class TxnHeader:
    """Who asked, and when. (origin, incarnation, number) names the waiting request.

    `origin` is the server that took it from its client, -1 for the leader's own;
    `incarnation` (0 to 2^64 - 1) tells that server's lives apart; `number` counts what it
    forwarded, 0 for none, negative if only that server knows the session (a local
    session).  `time_ms` is the leader's wall clock, ms since 1970.
    """

    session: int
    cxid: int
    origin: int
    incarnation: int
    number: int
    time_ms: int

    # Written out, as of all that each request makes: see scripts/compile_tree.py.
    def __init__(
        self, session: int, cxid: int, origin: int, incarnation: int, number: int, time_ms: int
    ) -> None:
        self.session = session
        self.cxid = cxid
        self.origin = origin
        self.incarnation = incarnation
        self.number = number
        self.time_ms = time_ms


@dataclass(init=False, slots=True)
class CreateTxn:
    """`owner` is an ephemeralOwner; `parent_cversion` the parent's internal
    cversion, which counts creates only, once this one is done."""

    path: str
    data: bytes | None
    acl: tuple[ACL, ...]
    owner: int
    parent_cversion: int

    # Written out, as of all that each request makes: see scripts/compile_tree.py.
    def __init__(
        self, path: str, data: bytes | None, acl: tuple[ACL, ...], owner: int, parent_cversion: int
    ) -> None:
        self.path = path
        self.data = data
        self.acl = acl
        self.owner = owner
        self.parent_cversion = parent_cversion


@dataclass(init=False, slots=True)
class DeleteTxn:
    path: str

    # Written out, as of all that each request makes: see scripts/compile_tree.py.
    def __init__(self, path: str) -> None:
        self.path = path


@dataclass(init=False, slots=True)
class SetDataTxn:
    """`version` is the new one, not a step."""

    path: str
    data: bytes | None
    version: int

    # Written out, as of all that each request makes: see scripts/compile_tree.py.
    def __init__(self, path: str, data: bytes | None, version: int) -> None:
        self.path = path
        self.data = data
        self.version = version


@dataclass(slots=True)
class SetACLTxn:
    """`aversion` is the new one."""

    path: str
    acl: tuple[ACL, ...]
    aversion: int


@dataclass(slots=True)
class CheckTxn:
    """`version` is the one that was compared; nothing to apply."""

    path: str
    version: int


@dataclass(slots=True)
class CreateSessionTxn:
    timeout_ms: int
    password: bytes = field(repr=False)


@dataclass(slots=True)
class CloseSessionTxn:
    """The session is the header's; its ephemerals are what the tree holds at that zxid."""


@dataclass(init=False, slots=True)
class ErrorTxn:
    """A refusal, through the quorum like the rest, so that no deposed leader can answer."""

    code: int

    # Written out, as of all that each request makes: see scripts/compile_tree.py.
    def __init__(self, code: int) -> None:
        self.code = code


@dataclass(slots=True)
class MultiTxn:
    """All of them under one zxid; or ErrorTxn for each, when one of them was refused."""

    txns: "tuple[Txn, ...]"


Txn: TypeAlias = (
    CreateTxn
    | DeleteTxn
    | SetDataTxn
    | SetACLTxn
    | CheckTxn
    | CreateSessionTxn
    | CloseSessionTxn
    | ErrorTxn
    | MultiTxn
)

_HEADER: Final = struct.Struct(">qiqQqq")
_HEADER_BYTES: Final = _HEADER.size
_pack_header: Final = _HEADER.pack
_unpack_header: Final = _HEADER.unpack_from


def encode(header: TxnHeader, txn: Txn) -> bytes:
    """The transaction's bytes; struct.error for a number that does not fit its field."""
    h = header
    head = _pack_header(h.session, h.cxid, h.origin, h.incarnation, h.number, h.time_ms)
    return head + _ENCODERS[type(txn)](txn)


def decode(data: bytes) -> tuple[TxnHeader, Txn]:
    """Header and record; RemoteProtocolError for anything that `encode` cannot have made."""
    try:
        header = TxnHeader(*_unpack_header(data))
        return header, _decode_body(data, _HEADER_BYTES, len(data), _DECODERS)
    except _MALFORMED as error:
        raise RemoteProtocolError(f"malformed transaction: {error!r}") from None


_MALFORMED: Final = (struct.error, IndexError, KeyError, ValueError)
"""ValueError: counts that do not add up, and text that is no UTF-8."""

_CREATE, _DELETE, _SET_DATA, _SET_ACL, _CHECK, _CREATE_SESSION = 1, 2, 3, 4, 5, 6
_CLOSE_SESSION, _ERROR, _MULTI = 7, 8, 9
_NONE: Final = -1
_COUNT: Final = struct.Struct(">i")
_ENTRY: Final = struct.Struct(">iii")


class _Numbers:
    """The numbers of one kind; written with the kind in front of them."""

    def __init__(self, layout: str) -> None:
        self.pack = struct.Struct(">B" + layout).pack
        self.unpack = struct.Struct(">" + layout).unpack_from
        self.size = struct.calcsize(">" + layout)


_ONE: Final = _Numbers("i")
_TWO: Final = _Numbers("ii")
_THREE: Final = _Numbers("iii")
_OF_CREATE: Final = _Numbers("iiiqi")


# --- records to bytes


def _encode_create(t: CreateTxn) -> bytes:
    path, data = t.path.encode(), t.data
    entries, acl = _encode_acl(t.acl)
    size = _NONE if data is None else len(data)
    numbers = _OF_CREATE.pack(_CREATE, len(path), size, entries, t.owner, t.parent_cversion)
    return b"".join((numbers, path, data or b"", acl))


def _encode_delete(t: DeleteTxn) -> bytes:
    path = t.path.encode()
    return _ONE.pack(_DELETE, len(path)) + path


def _encode_set_data(t: SetDataTxn) -> bytes:
    path, data = t.path.encode(), t.data
    if data is None:
        return _THREE.pack(_SET_DATA, len(path), _NONE, t.version) + path
    return _THREE.pack(_SET_DATA, len(path), len(data), t.version) + path + data


def _encode_set_acl(t: SetACLTxn) -> bytes:
    path = t.path.encode()
    entries, acl = _encode_acl(t.acl)
    return _THREE.pack(_SET_ACL, len(path), entries, t.aversion) + path + acl


def _encode_check(t: CheckTxn) -> bytes:
    path = t.path.encode()
    return _TWO.pack(_CHECK, len(path), t.version) + path


def _encode_create_session(t: CreateSessionTxn) -> bytes:
    return _TWO.pack(_CREATE_SESSION, len(t.password), t.timeout_ms) + t.password


def _encode_close_session(t: CloseSessionTxn) -> bytes:
    return bytes((_CLOSE_SESSION,))


def _encode_error(t: ErrorTxn) -> bytes:
    return _ONE.pack(_ERROR, t.code)


def _encode_multi(t: MultiTxn) -> bytes:
    bodies = [_ENCODERS[type(txn)](txn) for txn in t.txns]
    sized = [_COUNT.pack(len(body)) + body for body in bodies]
    return _ONE.pack(_MULTI, len(bodies)) + b"".join(sized)


def _encode_acl(acl: tuple[ACL, ...]) -> tuple[int, bytes]:
    """Number of entries, and entries."""
    if acl is OPEN_ACL or acl == OPEN_ACL:
        return _NONE, b""
    return len(acl), b"".join(map(_encode_entry, acl))


def _encode_entry(entry: ACL) -> bytes:
    scheme, name = entry.scheme.encode(), entry.id.encode()
    return _ENTRY.pack(entry.perms, len(scheme), len(name)) + scheme + name


_ENCODERS: Final[dict[type[Txn], Callable[[Any], bytes]]] = {
    CreateTxn: _encode_create,
    DeleteTxn: _encode_delete,
    SetDataTxn: _encode_set_data,
    SetACLTxn: _encode_set_acl,
    CheckTxn: _encode_check,
    CreateSessionTxn: _encode_create_session,
    CloseSessionTxn: _encode_close_session,
    ErrorTxn: _encode_error,
    MultiTxn: _encode_multi,
}


# --- bytes to records; each has to fill `data[pos:end]` to the last byte


_Decoder: TypeAlias = Callable[[bytes, int, int], "Txn"]


def _decode_body(data: bytes, pos: int, end: int, decoders: dict[int, _Decoder]) -> Txn:
    return decoders[data[pos]](data, pos + 1, end)


def _end_of(pos: int, size: int, end: int) -> int:
    """Where a field of `size` bytes ends; ValueError if that cannot be."""
    if size < 0 or pos + size > end:
        raise ValueError(f"a count of {size} where {end - pos} bytes are left")
    return pos + size


def _expect_end(pos: int, end: int) -> None:
    if pos != end:
        raise ValueError(f"it ends at {pos}, its bytes at {end}")


def _decode_path(data: bytes, pos: int, size: int, end: int) -> str:
    """A path that fills the rest."""
    _expect_end(_end_of(pos, size, end), end)
    return data[pos:end].decode()


def _decode_create(data: bytes, pos: int, end: int) -> CreateTxn:
    path_size, data_size, entries, owner, cversion = _OF_CREATE.unpack(data, pos)
    pos += _OF_CREATE.size
    middle = _end_of(pos, path_size, end)
    stop = middle if data_size == _NONE else _end_of(middle, data_size, end)
    return CreateTxn(
        data[pos:middle].decode(),
        None if data_size == _NONE else data[middle:stop],
        _decode_acl(data, stop, entries, end),
        owner,
        cversion,
    )


def _decode_delete(data: bytes, pos: int, end: int) -> DeleteTxn:
    (size,) = _ONE.unpack(data, pos)
    return DeleteTxn(_decode_path(data, pos + _ONE.size, size, end))


def _decode_set_data(data: bytes, pos: int, end: int) -> SetDataTxn:
    path_size, data_size, version = _THREE.unpack(data, pos)
    pos += _THREE.size
    middle = _end_of(pos, path_size, end)
    if data_size == _NONE:
        _expect_end(middle, end)
        return SetDataTxn(data[pos:middle].decode(), None, version)
    _expect_end(middle + data_size, end)
    return SetDataTxn(data[pos:middle].decode(), data[middle:end], version)


def _decode_set_acl(data: bytes, pos: int, end: int) -> SetACLTxn:
    path_size, entries, aversion = _THREE.unpack(data, pos)
    pos += _THREE.size
    middle = _end_of(pos, path_size, end)
    acl = _decode_acl(data, middle, entries, end)
    return SetACLTxn(data[pos:middle].decode(), acl, aversion)


def _decode_check(data: bytes, pos: int, end: int) -> CheckTxn:
    size, version = _TWO.unpack(data, pos)
    return CheckTxn(_decode_path(data, pos + _TWO.size, size, end), version)


def _decode_create_session(data: bytes, pos: int, end: int) -> CreateSessionTxn:
    size, timeout_ms = _TWO.unpack(data, pos)
    pos += _TWO.size
    _expect_end(_end_of(pos, size, end), end)
    return CreateSessionTxn(timeout_ms, data[pos:end])


def _decode_close_session(data: bytes, pos: int, end: int) -> CloseSessionTxn:
    _expect_end(pos, end)
    return CloseSessionTxn()


def _decode_error(data: bytes, pos: int, end: int) -> ErrorTxn:
    (code,) = _ONE.unpack(data, pos)
    _expect_end(pos + _ONE.size, end)
    return ErrorTxn(code)


def _decode_multi(data: bytes, pos: int, end: int) -> MultiTxn:
    (count,) = _ONE.unpack(data, pos)
    pos += _ONE.size
    txns = []
    while pos < end:
        (size,) = _COUNT.unpack_from(data, pos)
        pos += _COUNT.size
        stop = _end_of(pos, size, end)
        txns.append(_decode_body(data, pos, stop, _PART_DECODERS))
        pos = stop
    if count != len(txns):
        raise ValueError(f"{len(txns)} parts, not {count}")
    return MultiTxn(tuple(txns))


def _decode_acl(data: bytes, pos: int, entries: int, end: int) -> tuple[ACL, ...]:
    """An access list that fills the rest."""
    acl = []
    for _ in range(entries):  # its first step fails where the count is a lie
        perms, scheme_size, name_size = _ENTRY.unpack_from(data, pos)
        pos += _ENTRY.size
        middle = _end_of(pos, scheme_size, end)
        stop = _end_of(middle, name_size, end)
        acl.append(ACL(perms, data[pos:middle].decode(), data[middle:stop].decode()))
        pos = stop
    _expect_end(pos, end)
    if entries < _NONE:
        raise ValueError(f"{entries} entries")
    return OPEN_ACL if entries == _NONE else tuple(acl)


_PART_DECODERS: Final[dict[int, _Decoder]] = {
    _CREATE: _decode_create,
    _DELETE: _decode_delete,
    _SET_DATA: _decode_set_data,
    _CHECK: _decode_check,
    _ERROR: _decode_error,
}
"""What a multi may hold: no multi again, so no depth to bound."""

_DECODERS: Final[dict[int, _Decoder]] = {
    **_PART_DECODERS,
    _SET_ACL: _decode_set_acl,
    _CREATE_SESSION: _decode_create_session,
    _CLOSE_SESSION: _decode_close_session,
    _MULTI: _decode_multi,
}
