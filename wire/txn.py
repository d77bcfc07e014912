"""Transactions: the vocabulary of leader, log and tree, in CBOR.

In and out: `encode(header, txn)` and `decode(bytes)`.  The leader encodes once; those
bytes are proposed, logged, resent and applied by every server.  One CBOR array:

    [header, kind, field, field ...]

`header` is a byte string of 44 bytes, TxnHeader as int64 session, int32 cxid, int64 origin,
uint64 incarnation, int64 number, int64 time_ms, big-endian: as six CBOR integers it
would take as long as all the rest.  `kind` is the number of the record, the fields are
the record's in order.  An access list is an array of [perms, scheme, id], or null for
the one that nearly all znodes have, OPEN_ACL.  A multi has one field: an array of
[kind, field ...], one for each of its transactions.

A kind is never renumbered and a field never moves: logs outlive programs.
"""

import struct
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs
import cbor2

from wire.errors import RemoteProtocolError
from wire.records import ACL, OPEN_ACL


@attrs.define(eq=True, weakref_slot=False)
class TxnHeader:
    """Who asked, and when. (origin, incarnation, number) names the waiting request.

    `origin` is the server that took it from its client, -1 for the leader's own;
    `incarnation` (0 to 2^64 - 1) tells that server's lives apart; `number` counts what it
    forwarded, 0 for none.  `time_ms` is the leader's wall clock, ms since 1970.
    """

    session: int
    cxid: int
    origin: int
    incarnation: int
    number: int
    time_ms: int


@attrs.define(eq=True, weakref_slot=False)
class CreateTxn:
    """`owner` is an ephemeralOwner (PROTOCOL A6); `parent_cversion` the parent's internal
    cversion, which counts creates only, once this one is done."""

    path: str
    data: bytes | None
    acl: tuple[ACL, ...]
    owner: int
    parent_cversion: int


@attrs.define(eq=True, weakref_slot=False)
class DeleteTxn:
    path: str


@attrs.define(eq=True, weakref_slot=False)
class SetDataTxn:
    """`version` is the new one, not a step."""

    path: str
    data: bytes | None
    version: int


@attrs.define(eq=True, weakref_slot=False)
class SetACLTxn:
    """`aversion` is the new one."""

    path: str
    acl: tuple[ACL, ...]
    aversion: int


@attrs.define(eq=True, weakref_slot=False)
class CheckTxn:
    """`version` is the one that was compared; nothing to apply."""

    path: str
    version: int


@attrs.define(eq=True, weakref_slot=False)
class CreateSessionTxn:
    timeout_ms: int
    password: bytes


@attrs.define(eq=True, weakref_slot=False)
class CloseSessionTxn:
    """The session is the header's; its ephemerals are what the tree holds at that zxid."""


@attrs.define(eq=True, weakref_slot=False)
class ErrorTxn:
    """A refusal, through the quorum like the rest, so that no deposed leader can answer."""

    code: int


@attrs.define(eq=True, weakref_slot=False)
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
_pack_header: Final = _HEADER.pack
_unpack_header: Final = _HEADER.unpack


def encode(header: TxnHeader, txn: Txn) -> bytes:
    """The transaction's bytes.

    The fields are ours and only `decode` checks them, but struct.error comes from a
    header that does not fit.
    """
    h = header
    head = _pack_header(h.session, h.cxid, h.origin, h.incarnation, h.number, h.time_ms)
    return cbor2.dumps((head, *_DISMANTLERS[type(txn)](txn)))


def decode(data: bytes) -> tuple[TxnHeader, Txn]:
    """Header and record; RemoteProtocolError for anything that `encode` cannot have made."""
    items = _load(data)
    try:
        head, kind, *fields = items
        return TxnHeader(*_unpack_header(head)), _ASSEMBLERS[kind](*fields)
    except _MALFORMED as error:
        raise RemoteProtocolError(f"malformed transaction: {error!r}") from None


# --- CBOR that holds one item and nothing behind it

_OPEN: Final = b"\x82"
_MARK: Final = 0x7A6B7079
_CLOSE: Final = cbor2.dumps(_MARK)


def _load(data: bytes) -> Any:
    """The item that fills `data`.

    cbor2.loads ignores what follows the first item.  So it gets an array of two, whose
    second is a mark that we put behind `data`: with anything in between, that is not read.
    """
    try:
        item, mark = cbor2.loads(_OPEN + data + _CLOSE)
    except Exception as error:  # cbor2 5 lets TypeError and ValueError through
        raise RemoteProtocolError(f"malformed CBOR: {error!r}") from None
    if mark != _MARK:
        raise RemoteProtocolError("bytes behind a transaction")
    return item


# --- records to arrays

_CREATE, _DELETE, _SET_DATA, _SET_ACL, _CHECK, _CREATE_SESSION = 1, 2, 3, 4, 5, 6
_CLOSE_SESSION, _ERROR, _MULTI = 7, 8, 9

_Array: TypeAlias = tuple[Any, ...]


def _dismantle_acl(acl: tuple[ACL, ...]) -> _Array | None:
    if acl == OPEN_ACL:
        return None
    return tuple([(entry.perms, entry.scheme, entry.id) for entry in acl])


def _dismantle_create(t: CreateTxn) -> _Array:
    return _CREATE, t.path, t.data, _dismantle_acl(t.acl), t.owner, t.parent_cversion


def _dismantle_delete(t: DeleteTxn) -> _Array:
    return _DELETE, t.path


def _dismantle_set_data(t: SetDataTxn) -> _Array:
    return _SET_DATA, t.path, t.data, t.version


def _dismantle_set_acl(t: SetACLTxn) -> _Array:
    return _SET_ACL, t.path, _dismantle_acl(t.acl), t.aversion


def _dismantle_check(t: CheckTxn) -> _Array:
    return _CHECK, t.path, t.version


def _dismantle_create_session(t: CreateSessionTxn) -> _Array:
    return _CREATE_SESSION, t.timeout_ms, t.password


def _dismantle_close_session(t: CloseSessionTxn) -> _Array:
    return (_CLOSE_SESSION,)


def _dismantle_error(t: ErrorTxn) -> _Array:
    return _ERROR, int(t.code)


def _dismantle_multi(t: MultiTxn) -> _Array:
    return _MULTI, [_DISMANTLERS[type(txn)](txn) for txn in t.txns]


_DISMANTLERS: Final[dict[type[Txn], Callable[[Any], _Array]]] = {
    CreateTxn: _dismantle_create,
    DeleteTxn: _dismantle_delete,
    SetDataTxn: _dismantle_set_data,
    SetACLTxn: _dismantle_set_acl,
    CheckTxn: _dismantle_check,
    CreateSessionTxn: _dismantle_create_session,
    CloseSessionTxn: _dismantle_close_session,
    ErrorTxn: _dismantle_error,
    MultiTxn: _dismantle_multi,
}


# --- arrays to records; a wrong number of fields is a TypeError

_MALFORMED: Final = (TypeError, ValueError, KeyError, struct.error)
_check_int32: Final = struct.Struct(">i").pack
_check_owner_and_cversion: Final = struct.Struct(">qi").pack
"""Packing is the cheapest way to check that values are integers, and in range."""


def _check_text(value: Any) -> None:
    if type(value) is not str:
        raise TypeError(f"{value!r} is no text")


def _check_data(value: Any) -> None:
    if value is not None and type(value) is not bytes:
        raise TypeError(f"{value!r} is no data")


def _assemble_acl(entries: Any) -> tuple[ACL, ...]:
    if entries is None:
        return OPEN_ACL
    if type(entries) is not list:
        raise TypeError(f"{entries!r} is no access list")
    return tuple([_assemble_entry(*entry) for entry in entries])


def _assemble_entry(perms: Any, scheme: Any, id: Any) -> ACL:
    _check_int32(perms)
    _check_text(scheme)
    _check_text(id)
    return ACL(perms, scheme, id)


def _assemble_create(path: Any, data: Any, acl: Any, owner: Any, cversion: Any) -> CreateTxn:
    _check_text(path)
    _check_data(data)
    _check_owner_and_cversion(owner, cversion)
    return CreateTxn(path, data, _assemble_acl(acl), owner, cversion)


def _assemble_delete(path: Any) -> DeleteTxn:
    _check_text(path)
    return DeleteTxn(path)


def _assemble_set_data(path: Any, data: Any, version: Any) -> SetDataTxn:
    _check_text(path)
    _check_data(data)
    _check_int32(version)
    return SetDataTxn(path, data, version)


def _assemble_set_acl(path: Any, acl: Any, aversion: Any) -> SetACLTxn:
    _check_text(path)
    _check_int32(aversion)
    return SetACLTxn(path, _assemble_acl(acl), aversion)


def _assemble_check(path: Any, version: Any) -> CheckTxn:
    _check_text(path)
    _check_int32(version)
    return CheckTxn(path, version)


def _assemble_create_session(timeout_ms: Any, password: Any) -> CreateSessionTxn:
    _check_int32(timeout_ms)
    if type(password) is not bytes:
        raise TypeError(f"{password!r} is no password")
    return CreateSessionTxn(timeout_ms, password)


def _assemble_close_session() -> CloseSessionTxn:
    return CloseSessionTxn()


def _assemble_error(code: Any) -> ErrorTxn:
    _check_int32(code)
    return ErrorTxn(code)


def _assemble_multi(arrays: Any) -> MultiTxn:
    if type(arrays) is not list:
        raise TypeError(f"{arrays!r} holds no transactions")
    return MultiTxn(tuple([_assemble_part(*array) for array in arrays]))


def _assemble_part(kind: Any, *fields: Any) -> Txn:
    return _PART_ASSEMBLERS[kind](*fields)


_PART_ASSEMBLERS: Final[dict[int, Callable[..., Txn]]] = {
    _CREATE: _assemble_create,
    _DELETE: _assemble_delete,
    _SET_DATA: _assemble_set_data,
    _CHECK: _assemble_check,
    _ERROR: _assemble_error,
}
"""What a multi may hold: no multi again, so no depth to bound."""

_ASSEMBLERS: Final[dict[int, Callable[..., Txn]]] = {
    **_PART_ASSEMBLERS,
    _SET_ACL: _assemble_set_acl,
    _CREATE_SESSION: _assemble_create_session,
    _CLOSE_SESSION: _assemble_close_session,
    _MULTI: _assemble_multi,
}
