"""What members say to each other: link messages, their frames, election datagrams.

A link is opened by a learner to its leader.

    frame      >IB length of what follows the length, type; body
    body       a CBOR array of the message's fields in order, except:
      Propose  >qqQI committed, digest zxid, digest, chain behind the last entry;
               per entry >qBI zxid, kind, length; data
      Commit   >qqQ committed, digest zxid, digest
      Ack      >q zxid
      SnapChunk, Upper: the bytes themselves

Both sides begin with Hello.  Then the learner may send what `LEARNER_SAYS` lists, the leader
what `LEADER_SAYS` does; anything else is a RemoteProtocolError, and the link is dead: see
`wire.link`, which cuts the frames.

    datagram   >4sBBB16sqQQQqqqq magic "zkE1", version, role, standing, cluster id, sender,
               its incarnation, its sequence number, echo of the receiver's incarnation,
               round, vote: server id, vote: zxid, epoch; 32 bytes of HMAC-SHA-256 over all
               that precedes (zeros if there is no key)
"""

import hmac
import struct
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Final, get_type_hints

import attrs
import cbor2

from wire.entries import decode_entries, encode_entries
from wire.errors import RemoteProtocolError

PROTOCOL_VERSION: Final = 1
NO_CLUSTER: Final = bytes(16)
NO_VOTE: Final = -1
Mark = tuple[int, int]
"""zxid and chain value there."""


class Role(IntEnum):
    """What a member is just now."""

    LOOKING = 0
    FOLLOWING = 1
    LEADING = 2
    OBSERVING = 3


class Standing(IntEnum):
    """Whether a member's word may count."""

    MEMBER = 0
    FOUNDING = 1
    """Has promised a founding that it has not yet seen complete."""
    BLANK = 2
    """Knows of no ensemble: a new member, or one that lost its directory."""
    SUSPECT = 3
    """Its log is damaged in the middle (rule D5)."""


@attrs.define
class Hello:
    version: int
    cluster_id: bytes
    """NO_CLUSTER for a blank member."""
    sid: int
    incarnation: int


# --- discovery


@attrs.define
class FollowerInfo:
    accepted_epoch: int
    standing: int
    cluster_id: bytes


@attrs.define
class LeaderInfo:
    epoch: int
    cluster_id: bytes
    founding: bool
    """A new ensemble is being founded, by members that are all blank."""


@attrs.define
class AckEpoch:
    fresh: bool
    """The epoch was not promised before: only such an answer is a promise that counts."""
    marks: list[Mark]
    """Last entry of each epoch in the learner's log, newest first, down to where it cannot be
    cut; empty: nothing in common is claimed, send a SNAP."""
    last: int
    """zxid of the last entry, 0 if there is none."""


# --- synchronisation


@attrs.define
class Diff:
    """The learner's log is a beginning of the leader's: entries follow."""

    zxid: int
    chain: int
    target: int
    """The synchronisation is complete with this entry; that of the epoch, or a later one."""


@attrs.define
class Trunc:
    """Cut the log behind `zxid`; entries follow."""

    zxid: int
    chain: int
    target: int


@attrs.define
class SnapBegin:
    """An image at `zxid` follows in chunks, then the entries behind it."""

    zxid: int
    chain: int
    target: int
    voters: bytes
    """The voter set in force at `zxid`."""


@attrs.define
class SnapChunk:
    data: bytes


@attrs.define
class SnapEnd:
    digest: int


@attrs.define
class SnapAck:
    """So much of a SNAP is durable: flow control, and no ACK of the entries.

    They count for nothing before the new generation is adopted."""

    chunks: int
    zxid: int
    """Of the tail behind the image."""


@attrs.define
class UpToDate:
    """The leader is established and has this learner's ACK of its target."""

    committed: int


@attrs.define
class Joined:
    """The record that makes the sender a full member is durable: count it."""


# --- broadcast


@attrs.define
class Propose:
    committed: int
    digest_zxid: int
    """0: no digest in this frame."""
    digest: int
    chain: int
    """Chain value behind the last entry."""
    entries: Sequence[tuple[int, int, bytes]]
    """(zxid, kind, data), contiguous."""


@attrs.define
class Commit:
    """To followers and observers alike: both have the entries already."""

    committed: int
    digest_zxid: int
    digest: int


@attrs.define
class Ack:
    """Everything up to `zxid` is durable at the sender."""

    zxid: int


# --- at any time


@attrs.define
class Ping:
    """Leader to learner, and back with the same round: the answer confirms the leadership."""

    round: int
    payload: bytes


@attrs.define
class Upper:
    """Between the replicas: opaque here."""

    data: bytes


Message = (
    Hello
    | FollowerInfo
    | LeaderInfo
    | AckEpoch
    | Diff
    | Trunc
    | SnapBegin
    | SnapChunk
    | SnapEnd
    | SnapAck
    | UpToDate
    | Joined
    | Propose
    | Commit
    | Ack
    | Ping
    | Upper
)

TYPES: Final[dict[int, type]] = {
    1: Hello,
    2: FollowerInfo,
    3: LeaderInfo,
    4: AckEpoch,
    5: Diff,
    6: Trunc,
    7: SnapBegin,
    8: SnapChunk,
    9: SnapEnd,
    10: SnapAck,
    11: UpToDate,
    12: Joined,
    13: Propose,
    14: Commit,
    15: Ack,
    16: Ping,
    17: Upper,
}
LEARNER_SAYS: Final = frozenset({FollowerInfo, AckEpoch, SnapAck, Joined, Ack, Ping, Upper})
LEADER_SAYS: Final = frozenset(
    {LeaderInfo, Diff, Trunc, SnapBegin, SnapChunk, SnapEnd, UpToDate}
    | {Propose, Commit, Ping, Upper}
)

FRAME: Final = struct.Struct(">IB")
"""Length of what follows the length, and type."""
_PROPOSE: Final = struct.Struct(">qqQI")
_COMMIT: Final = struct.Struct(">qqQ")
_ZXID: Final = struct.Struct(">q")


# --- bodies


def _is_int(value: object) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 64


def _is_marks(value: object) -> bool:
    return type(value) is list and all(
        type(mark) is list and len(mark) == 2 and all(map(_is_int, mark)) for mark in value
    )


CHECKS: Final[dict[object, Callable[[object], bool]]] = {
    int: _is_int,
    bytes: lambda value: type(value) is bytes,
    bool: lambda value: type(value) is bool,
    list[Mark]: _is_marks,
}
"""Annotation of a field -> whether a decoded value will do."""


def _checks_of(cls: type) -> list[Callable[[object], bool]]:
    hints = get_type_hints(cls)
    return [CHECKS[hints[field.name]] for field in attrs.fields(cls)]


def _encode_fields(message: Any) -> bytes:
    # Not attrs.astuple: it copies what is nested.
    values = [getattr(message, field.name) for field in attrs.fields(type(message))]
    return cbor2.dumps(values)


def _fields_decoder(cls: type) -> Callable[[bytes], object]:
    checks = _checks_of(cls)

    def decode(body: bytes) -> object:
        try:
            values = cbor2.loads(body)
        except (cbor2.CBORDecodeError, ValueError, OverflowError, RecursionError) as error:
            raise RemoteProtocolError(f"{cls.__name__} that is not CBOR") from error
        if type(values) is not list or len(values) != len(checks):
            raise RemoteProtocolError(f"{cls.__name__} with wrong fields")
        if not all(check(value) for check, value in zip(checks, values, strict=True)):
            raise RemoteProtocolError(f"{cls.__name__} with a field of a wrong type")
        return cls(*values)

    return decode


def _decode_ack_epoch(body: bytes) -> object:
    message = _DECODE_ACK_EPOCH(body)
    assert isinstance(message, AckEpoch)
    message.marks = [(zxid, chain) for zxid, chain in message.marks]
    return message


def _encode_propose(message: Propose) -> bytes:
    head = _PROPOSE.pack(message.committed, message.digest_zxid, message.digest, message.chain)
    return encode_entries(head, message.entries)


def _decode_propose(body: bytes) -> object:
    if len(body) < _PROPOSE.size:
        raise RemoteProtocolError("Propose cut short")
    committed, digest_zxid, digest, chain = _PROPOSE.unpack_from(body)
    return Propose(committed, digest_zxid, digest, chain, decode_entries(body, _PROPOSE.size))


def _fixed_decoder(cls: type, layout: struct.Struct) -> Callable[[bytes], object]:
    def decode(body: bytes) -> object:
        if len(body) != layout.size:
            raise RemoteProtocolError(f"{cls.__name__} of the wrong length")
        return cls(*layout.unpack(body))

    return decode


ENCODERS: Final[dict[type, Callable[[Any], bytes]]] = {
    **dict.fromkeys(TYPES.values(), _encode_fields),
    Propose: _encode_propose,
    Commit: lambda m: _COMMIT.pack(m.committed, m.digest_zxid, m.digest),
    Ack: lambda m: _ZXID.pack(m.zxid),
    SnapChunk: lambda m: m.data,
    Upper: lambda m: m.data,
}
_DECODE_ACK_EPOCH: Final = _fields_decoder(AckEpoch)
_BY_HAND: Final[dict[type, Callable[[bytes], object]]] = {
    AckEpoch: _decode_ack_epoch,
    Propose: _decode_propose,
    Commit: _fixed_decoder(Commit, _COMMIT),
    Ack: _fixed_decoder(Ack, _ZXID),
    SnapChunk: SnapChunk,
    Upper: Upper,
}
_BY_FIELDS: Final = [cls for cls in TYPES.values() if cls not in _BY_HAND]
DECODERS: Final[dict[type, Callable[[bytes], object]]] = _BY_HAND | {
    cls: _fields_decoder(cls) for cls in _BY_FIELDS
}
_NUMBERS: Final = {cls: number for number, cls in TYPES.items()}


def encode_message(message: object) -> bytes:
    """One whole frame.  The same bytes do for several links."""
    cls = type(message)
    body = ENCODERS[cls](message)
    return FRAME.pack(len(body) + 1, _NUMBERS[cls]) + body


# --- election datagrams

_NOTIFICATION: Final = struct.Struct(">4sBBB16sqQQQqqqq")
_MAGIC: Final = b"zkE1"
_MAC_BYTES: Final = 32
NOTIFICATION_BYTES: Final = _NOTIFICATION.size + _MAC_BYTES
_ROLES: Final = frozenset(int(role) for role in Role)
_STANDINGS: Final = frozenset(int(standing) for standing in Standing)


@attrs.define
class Notification:
    """One election datagram: the sender's vote, or what it already follows."""

    role: int
    standing: int
    cluster_id: bytes
    sid: int
    incarnation: int
    """Random per start of the sender's process, never 0."""
    sequence: int
    """Grows with each datagram of an incarnation: copies and stragglers are dropped by it."""
    echo: int
    """The receiver's incarnation as the sender knows it; 0 if it does not.  Only a right echo
    makes the datagram count: one from before the receiver's start cannot have it."""
    round: int
    leader: int
    """Voted for or followed; NO_VOTE for neither."""
    zxid: int
    """Last zxid in that candidate's log."""
    epoch: int
    """Of the leader that the sender leads as or follows; 0 while looking."""


def encode_notification(notification: Notification, key: bytes | None = None) -> bytes:
    n = notification
    head = _NOTIFICATION.pack(
        *(_MAGIC, PROTOCOL_VERSION, n.role, n.standing, n.cluster_id, n.sid, n.incarnation),
        *(n.sequence, n.echo, n.round, n.leader, n.zxid, n.epoch),
    )
    return head + (hmac.digest(key, head, "sha256") if key else bytes(_MAC_BYTES))


def decode_notification(data: bytes, keys: Sequence[bytes] = ()) -> Notification:
    """RemoteProtocolError for anything else.  With keys, one of them must have signed it."""
    if len(data) != NOTIFICATION_BYTES:
        raise RemoteProtocolError(f"datagram of {len(data)} bytes")
    magic, version, role, standing, *rest = _NOTIFICATION.unpack_from(data)
    if magic != _MAGIC or version != PROTOCOL_VERSION:
        raise RemoteProtocolError("datagram of another protocol")
    if role not in _ROLES or standing not in _STANDINGS:
        raise RemoteProtocolError("datagram with an unknown role or standing")
    if keys and not _is_signed(data, keys):
        raise RemoteProtocolError("datagram without a valid signature")
    return Notification(role, standing, *rest)


def _is_signed(data: bytes, keys: Sequence[bytes]) -> bool:
    head, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    return any(hmac.compare_digest(hmac.digest(key, head, "sha256"), mac) for key in keys)
