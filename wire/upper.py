"""What the replicas of an ensemble tell each other about clients, over zab's links.

In and out: `encode(message)` and `decode(bytes)`, one CBOR array each:

    [kind, field, field ...]

    1 Forward   learner -> leader   writes of the learner's clients, in order
    2 Claim     learner -> leader   a client came back with this session: is it still good?
    3 Claimed   leader -> learner   its time-out, 0 if it is not
    4 Sync      learner -> leader   when is all done that was proposed before you read this?
    5 Synced    leader -> learner   once you have applied this zxid
    6 Refused   leader -> learner   that write is not done, and will not be: its error code
    7 Room      learner -> leader   whether my disk is nearly full; false is not said at first

The body of a forwarded write is the request's record in jute.  That of a createSession is
the time-out alone unless a password goes with it: so it was before there were local
sessions, and so servers of both kinds understand each other while they are restarted in turn.

zab carries them as opaque bytes; they die with the leadership that they were sent under.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, TypeAlias

import cbor2

from wire.codes import OpCode
from wire.errors import RemoteProtocolError
from wire.records import REQUESTS, OpenSession

_CREATE_SESSION: Final = int(OpCode.CREATE_SESSION)
_TIMEOUT_BYTES: Final = 4
_NO_PASSWORD: Final = b"\xff\xff\xff\xff"
_NAME: Final = struct.Struct(">qiq")
"""Session, cxid and number, as a transaction holds them."""
_INCARNATION: Final = struct.Struct(">Q")


@dataclass(init=False, slots=True)
class ForwardedWrite:
    """One write: `number` names it on its server, `body` is the request's record if it has one."""

    number: int
    opcode: int
    session: int
    cxid: int
    body: Any
    identities: tuple[tuple[str, str], ...]

    # Written out, as of all that each request makes: see scripts/compile_tree.py.
    def __init__(
        self,
        number: int,
        opcode: int,
        session: int,
        cxid: int,
        body: Any,
        identities: tuple[tuple[str, str], ...],
    ) -> None:
        self.number = number
        self.opcode = opcode
        self.session = session
        self.cxid = cxid
        self.body = body
        self.identities = identities


@dataclass(slots=True)
class Forward:
    """`incarnation` tells the lives of the sending server apart."""

    incarnation: int
    writes: list[ForwardedWrite]


@dataclass(slots=True)
class Claim:
    """`link` is the learner's name for the client's connection."""

    link: int
    session: int
    password: bytes = field(repr=False)


@dataclass(slots=True)
class Claimed:
    link: int
    session: int
    timeout_ms: int


@dataclass(slots=True)
class Sync:
    number: int


@dataclass(slots=True)
class Synced:
    number: int
    zxid: int


@dataclass(slots=True)
class Refused:
    """The answer to a write that never went into the log."""

    number: int
    code: int


@dataclass(slots=True)
class Room:
    """A leader without room gives its office to a voter that has some."""

    low: bool


Message: TypeAlias = Forward | Claim | Claimed | Sync | Synced | Refused | Room


def encode(message: Message) -> bytes:
    kind, fields_of = _ENCODERS[type(message)]
    return cbor2.dumps([kind, *fields_of(message)])


def decode(data: bytes) -> Message:
    """RemoteProtocolError for anything that `encode` does not make."""
    try:
        kind, *fields = cbor2.loads(data)
        message = _DECODERS[kind](*fields)
    except (cbor2.CBORDecodeError, KeyError, TypeError, ValueError, struct.error) as error:
        raise RemoteProtocolError(f"unreadable message of a peer: {error}") from error
    if not all(isinstance(value, _TYPES[type(message)]) for value in fields):
        raise RemoteProtocolError(f"wrong types in {type(message).__name__}")
    return message


def _encode_body(body: Any) -> bytes:
    if body is None:
        return b""
    data: bytes = body.encode()
    short = type(body) is OpenSession and body.password is None
    return data[:_TIMEOUT_BYTES] if short else data


def _parse_body(opcode: int, body: bytes) -> Any:
    if opcode != _CREATE_SESSION:
        shape = REQUESTS.get(opcode)
        return shape.parse(body, 0, len(body)) if shape is not None else None
    if len(body) == _TIMEOUT_BYTES:
        body += _NO_PASSWORD
    return OpenSession.parse(body, 0, len(body))


def _forward_fields(message: Forward) -> tuple[object, ...]:
    return message.incarnation, [
        (
            each.number,
            each.opcode,
            each.session,
            each.cxid,
            _encode_body(each.body),
            each.identities,
        )
        for each in message.writes
    ]


def _make_forward(incarnation: int, writes: list[Any]) -> Forward:
    _INCARNATION.pack(incarnation)
    return Forward(incarnation, [_make_write(*write) for write in writes])


def _make_write(
    number: int, opcode: int, session: int, cxid: int, body: bytes, identities: Any
) -> ForwardedWrite:
    named = tuple((str(scheme), str(name)) for scheme, name in identities)
    if not isinstance(body, bytes) or not isinstance(opcode, int):
        raise ValueError("wrong types in a forwarded write")
    _NAME.pack(session, cxid, number)  # else the transaction could not be written
    return ForwardedWrite(number, opcode, session, cxid, _parse_body(opcode, body), named)


_ENCODERS: Final[dict[type, tuple[int, Callable[[Any], tuple[object, ...]]]]] = {
    Forward: (1, _forward_fields),
    Claim: (2, attrgetter("link", "session", "password")),
    Claimed: (3, attrgetter("link", "session", "timeout_ms")),
    Sync: (4, lambda message: (message.number,)),
    Synced: (5, attrgetter("number", "zxid")),
    Refused: (6, attrgetter("number", "code")),
    Room: (7, lambda message: (message.low,)),
}
_DECODERS: Final[dict[int, Callable[..., Message]]] = {
    1: _make_forward,
    2: Claim,
    3: Claimed,
    4: Sync,
    5: Synced,
    6: Refused,
    7: Room,
}
_TYPES: Final[dict[type, tuple[type, ...]]] = {
    Forward: (int, list),
    Claim: (int, bytes),
    Claimed: (int,),
    Sync: (int,),
    Synced: (int,),
    Refused: (int,),
    Room: (bool,),
}
