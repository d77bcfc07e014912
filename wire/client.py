"""The client protocol as a connection object without IO, for both of its ends.

In: `receive_data(bytes)` gives the events in them, all at once, since the batch is the
unit of work.  Out: `send(event)` gives bytes.  Formats:

    frame     = int32 count, body
    first     = ConnectRequest, answered by ConnectResponse; neither has a header
    request   = int32 xid, int32 opcode, record
    reply     = int32 xid, int64 zxid, int32 error, record unless error
    event     = int32 -1, int64 zxid, int32 0, WatcherEvent
    admin     = four letters and no frame at all; the answer is text

Theory of operation.  Both ends keep the same state by one table, `TRANSITIONS`, in the
manner of h11; a move that the table does not have is an error of the side that made it.

- What our own side may not send raises LocalProtocolError.
- What the other side may not send, or cannot be understood, ends the connection: `error`
  is set, the events in front of it are returned, and every later `receive_data` raises.
  So no caller loses good requests to the bad one behind them: act on the events, then
  look at `error`, then close.  After either error the state is ERROR for good.

A server sees no request before it sent its ConnectResponse: what a hasty client sends
earlier is held, up to the size of one frame, and comes out of the next `receive_data`;
`receive_data(b"")` will do.  Behind a closeSession nothing is read.

The `encode_*` functions are the server's short way past `send`; they neither check nor
change the state.
"""

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, TypeAlias

from wire.buffers import FrameBuffer
from wire.codes import XID_AUTH, XID_NOTIFICATION, XID_PING, KeeperState, OpCode
from wire.errors import LocalProtocolError, RemoteProtocolError
from wire.jute import Record
from wire.records import REPLIES, REQUESTS, ConnectRequest, ConnectResponse, WatcherEvent

FOUR_LETTER_WORDS: Final = (
    *("conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro"),
    *("mntr", "ruok", "srst", "srvr", "stat", "stmk", "wchc", "wchp", "wchs"),
)
"""FourLetterCommands of ZooKeeper 3.9. Any other word is a frame of an absurd size."""


class _Name(Enum):
    """Members are hashed as the objects that they are: Enum's own way is a call in Python,
    and each connection looks up a dozen."""

    __hash__ = object.__hash__


class Role(_Name):
    CLIENT = auto()
    SERVER = auto()


class State(_Name):
    """Where a connection is; the same at both ends, but for what is on its way."""

    IDLE = auto()
    CONNECTING = auto()
    ESTABLISHED = auto()
    CLOSING = auto()
    """closeSession was sent, its reply was not."""
    CLOSED = auto()
    ADMIN = auto()
    ERROR = auto()


class Move(_Name):
    """What an event does to the state."""

    CONNECT = auto()
    ACCEPT = auto()
    REFUSE = auto()
    ASK = auto()
    TELL = auto()
    REQUEST = auto()
    CLOSE = auto()
    REPLY = auto()
    LAST_REPLY = auto()
    NOTIFY = auto()


TRANSITIONS: Final[dict[State, dict[Move, State]]] = {
    State.IDLE: {Move.CONNECT: State.CONNECTING, Move.ASK: State.ADMIN},
    State.CONNECTING: {Move.ACCEPT: State.ESTABLISHED, Move.REFUSE: State.CLOSED},
    State.ESTABLISHED: {
        Move.REQUEST: State.ESTABLISHED,
        Move.REPLY: State.ESTABLISHED,
        Move.NOTIFY: State.ESTABLISHED,
        Move.CLOSE: State.CLOSING,
    },
    State.CLOSING: {
        Move.REPLY: State.CLOSING,
        Move.NOTIFY: State.CLOSING,
        Move.LAST_REPLY: State.CLOSED,
    },
    State.CLOSED: {},
    State.ADMIN: {Move.TELL: State.ADMIN},
    State.ERROR: {},
}

SENDERS: Final[dict[Move, Role]] = {
    Move.CONNECT: Role.CLIENT,
    Move.ASK: Role.CLIENT,
    Move.REQUEST: Role.CLIENT,
    Move.CLOSE: Role.CLIENT,
    Move.ACCEPT: Role.SERVER,
    Move.REFUSE: Role.SERVER,
    Move.TELL: Role.SERVER,
    Move.REPLY: Role.SERVER,
    Move.LAST_REPLY: Role.SERVER,
    Move.NOTIFY: Role.SERVER,
}


@dataclass(slots=True)
class FourLetterWord:
    """An admin client's question; no session, no frames."""

    word: str


@dataclass(slots=True)
class AdminText:
    """A piece of the answer to a four-letter word; it ends with the connection."""

    text: bytes


@dataclass(init=False, slots=True)
class Request:
    """`body` is None for operations without one, and for opcodes that REQUESTS lacks."""

    xid: int
    opcode: int
    body: Record | None
    size: int = field(compare=False, repr=False)
    """Bytes of its frame, where it came in one; 0 else."""

    # Written out, as of all that each request makes: see scripts/compile_tree.py.
    def __init__(self, xid: int, opcode: int, body: Record | None, size: int = 0) -> None:
        self.xid = xid
        self.opcode = opcode
        self.body = body
        self.size = size


@dataclass(slots=True)
class Reply:
    """`body` is None for operations without one, and whenever `error` is not 0."""

    xid: int
    zxid: int
    error: int
    body: Record | None


@dataclass(slots=True)
class WatchEvent:
    """`zxid` is that of the change, -1 in events that setWatches made."""

    zxid: int
    event: WatcherEvent


Event: TypeAlias = (
    ConnectRequest | ConnectResponse | FourLetterWord | AdminText | Request | Reply | WatchEvent
)

_COUNT: Final = struct.Struct(">i")
_REQUEST: Final = struct.Struct(">iii")
_REPLY: Final = struct.Struct(">iiqi")
_EVENT: Final = struct.Struct(">iiqiiii")
_pack_reply: Final = _REPLY.pack
_unpack_reply: Final = _REPLY.unpack_from
_unpack_request: Final = _REQUEST.unpack_from

_SYNC_CONNECTED: Final = int(KeeperState.SYNC_CONNECTED)
_CLOSE: Final = int(OpCode.CLOSE_SESSION)
_HEADER_BYTES: Final = {Role.SERVER: 8, Role.CLIENT: 16}
"""Of what each role receives; the handshake's two packets are longer than that too."""
_OUT_OF_BAND: Final = {XID_PING: int(OpCode.PING), XID_AUTH: int(OpCode.AUTH)}
"""Replies that may overtake others, known by their xid alone (as in ZooKeeper's ClientCnxn)."""


def encode_reply(xid: int, zxid: int, error: int, body: bytes = b"") -> bytes:
    """A whole reply frame; `body` is a reply record's bytes, empty when `error` is not 0 (but in
    replies to SASL tokens)."""
    return _pack_reply(16 + len(body), xid, zxid, error) + body


def encode_event(zxid: int, type: int, path: str) -> bytes:
    """A whole notification frame; `type` is an EventType."""
    text = path.encode()
    size = len(text)
    return _EVENT.pack(28 + size, XID_NOTIFICATION, zxid, 0, type, _SYNC_CONNECTED, size) + text


def encode_frame(body: bytes) -> bytes:
    """A frame of anything: the handshake's packets."""
    return _COUNT.pack(len(body)) + body


class ClientConnection:
    """One end of a client connection; `frame_bytes_max` bounds the frames that it receives.

    `error` is None until the other end broke the rules; then the connection is dead.
    """

    __slots__ = (
        "_awaited",
        "_buffer",
        "_close_xid",
        "_has_read_only",
        "_receive",
        "error",
        "role",
        "state",
    )

    def __init__(self, role: Role, frame_bytes_max: int) -> None:
        self.role = role
        self.state = State.IDLE
        self.error: RemoteProtocolError | None = None
        self._buffer = FrameBuffer(frame_bytes_max, _HEADER_BYTES[role])
        self._has_read_only = True
        self._close_xid = 0
        self._awaited: deque[tuple[int, int]] = deque()  # client: (xid, opcode) without a reply
        self._receive = _RECEIVERS[role, self.state]

    def receive_data(self, data: bytes) -> list[Event]:
        """The events that `data` completes; afterwards look at `error`.

        Raises RemoteProtocolError if `error` was set before the call, LocalProtocolError
        if a `send` failed before it.
        """
        return self._receive(self, data)

    def send(self, event: Event) -> bytes:
        """The bytes of `event`; LocalProtocolError if it is not ours to send, or not now."""
        move = self._move_of(event)
        if SENDERS[move] is not self.role or move not in TRANSITIONS[self.state]:
            raise self._blame_us(f"{self.role.name} sends {move.name} while {self.state.name}")
        try:
            encoded = _ENCODERS[type(event)](self, event)
        except (struct.error, UnicodeEncodeError) as error:
            raise self._blame_us(f"{type(event).__name__} cannot be encoded: {error}") from error
        self._make(move)
        return encoded

    def _move_of(self, event: Event) -> Move:
        if isinstance(event, Request):
            return Move.CLOSE if event.opcode == _CLOSE else Move.REQUEST
        if isinstance(event, Reply):
            closing = self.state is State.CLOSING and event.xid == self._close_xid
            return Move.LAST_REPLY if closing else Move.REPLY
        if isinstance(event, ConnectResponse):
            return Move.ACCEPT if event.timeout_ms > 0 else Move.REFUSE
        return _MOVES[type(event)]

    def _take(self, event: Event) -> None:
        """Follow the table for what the other end sent: each state has a receiver that
        reads no other events than the table has moves."""
        move = self._move_of(event)
        assert SENDERS[move] is not self.role and move in TRANSITIONS[self.state]
        self._make(move)

    def _make(self, move: Move) -> None:
        self._enter(TRANSITIONS[self.state][move])

    def _enter(self, state: State) -> None:
        self.state = state
        self._receive = _RECEIVERS[self.role, state]

    def _blame_us(self, what: str) -> LocalProtocolError:
        self._enter(State.ERROR)
        return LocalProtocolError(what)

    def _blame_them(self, error: RemoteProtocolError) -> list[Event]:
        """Remember what went wrong, but not its traceback: that would refer to us, a cycle."""
        self.error = RemoteProtocolError(*error.args)
        self._enter(State.ERROR)
        return []


# --- receiving: one function per role and state


def _receive_first(conn: ClientConnection, data: bytes) -> list[Event]:
    """Server, IDLE: a four-letter word or the ConnectRequest."""
    data = conn._buffer.join(data)
    word = data[:4].decode("latin-1")
    if word not in FOUR_LETTER_WORDS:
        return _receive_packet(conn, data, ConnectRequest)
    asked = FourLetterWord(word)
    conn._take(asked)
    return [asked]


def _receive_answer(conn: ClientConnection, data: bytes) -> list[Event]:
    """Client, CONNECTING: the ConnectResponse."""
    return _receive_packet(conn, conn._buffer.join(data), ConnectResponse)


def _receive_packet(
    conn: ClientConnection, data: bytes, record: type[ConnectRequest] | type[ConnectResponse]
) -> list[Event]:
    """The one frame without a header, and what follows it."""
    try:
        end = 4 + conn._buffer.check(_COUNT.unpack_from(data)[0]) if len(data) >= 4 else 4
        if len(data) < end:
            conn._buffer.keep(data, 0)
            return []
        packet = record.parse(data, 4, end)
        conn._take(packet)
    except RemoteProtocolError as error:
        return conn._blame_them(error)
    conn._has_read_only = packet.has_read_only
    rest = data[end:]
    return [packet, *conn._receive(conn, rest)] if rest else [packet]


def _receive_early(conn: ClientConnection, data: bytes) -> list[Event]:
    """Server, CONNECTING: requests are none before there is a session."""
    try:
        conn._buffer.hold(data)
    except RemoteProtocolError as error:
        conn._blame_them(error)
    return []


def _receive_requests(conn: ClientConnection, data: bytes) -> list[Event]:
    """Server, ESTABLISHED: the hot path, one loop without calls that could be spared."""
    buffer = conn._buffer
    if buffer.held:
        data = buffer.join(data)
    events: list[Event] = []
    pos, total, limit = 0, len(data), buffer.frame_bytes_max
    try:
        while total - pos >= 12:
            size, xid, opcode = _unpack_request(data, pos)
            end = pos + 4 + size
            if end > total or not 8 <= size <= limit:
                buffer.check(size)
                break
            body = _parser_of(opcode, _skip)(data, pos + 12, end)
            events.append(Request(xid, opcode, body, size))
            pos = end
            if opcode == _CLOSE:
                return _receive_close(conn, events)
        if pos < total:
            buffer.keep(data, pos)
    except RemoteProtocolError as error:
        conn._blame_them(error)
    return events


def _receive_close(conn: ClientConnection, events: list[Event]) -> list[Event]:
    """Nothing is read behind a closeSession: the session that it would belong to is gone."""
    close = events[-1]
    assert isinstance(close, Request)
    conn._close_xid = close.xid
    conn._take(close)
    return events


def _receive_replies(conn: ClientConnection, data: bytes) -> list[Event]:
    """Client, ESTABLISHED and CLOSING: replies and notifications."""
    buffer = conn._buffer
    data = buffer.join(data)
    events: list[Event] = []
    pos, total = 0, len(data)
    try:
        while total - pos >= 20:
            size, xid, zxid, error = _unpack_reply(data, pos)
            end = pos + 4 + buffer.check(size)
            if end > total:
                break
            event = _parse_answer(conn, xid, zxid, error, data[pos + 20 : end])
            conn._take(event)
            events.append(event)
            pos = end
            if conn.state is State.CLOSED:
                return events
        buffer.keep(data, pos)
    except RemoteProtocolError as failure:
        conn._blame_them(failure)
    return events


def _parse_answer(
    conn: ClientConnection, xid: int, zxid: int, error: int, body: bytes
) -> Reply | WatchEvent:
    if xid == XID_NOTIFICATION:
        return WatchEvent(zxid, WatcherEvent.parse(body, 0, len(body)))
    opcode = _OUT_OF_BAND.get(xid) or _awaited_opcode(conn, xid)
    # ZooKeeper may put a half-made body behind an error; like its own client we do not look.
    parse = _skip if error else _reply_parser_of(opcode, _skip)
    return Reply(xid, zxid, error, parse(body, 0, len(body)))


def _awaited_opcode(conn: ClientConnection, xid: int) -> int:
    """What the oldest unanswered request asked for; its xid has to be the reply's."""
    awaited, opcode = conn._awaited.popleft() if conn._awaited else (None, 0)
    if xid != awaited:
        raise RemoteProtocolError(f"reply with xid {xid}, awaited {awaited}")
    return opcode


def _receive_text(conn: ClientConnection, data: bytes) -> list[Event]:
    """Client, ADMIN."""
    return [AdminText(data)] if data else []


def _receive_nothing(conn: ClientConnection, data: bytes) -> list[Event]:
    """Where the other end has no more to say (or, as `stmk`, its argument) it is not read."""
    return []


def _receive_surprise(conn: ClientConnection, data: bytes) -> list[Event]:
    """Client, IDLE: the server speaks first."""
    if data:
        conn._blame_them(RemoteProtocolError("the server spoke before it was asked"))
    return []


def _receive_dead(conn: ClientConnection, data: bytes) -> list[Event]:
    """ERROR is for good. A fresh exception each time: its traceback is the caller's."""
    if conn.error is None:
        raise LocalProtocolError("the connection failed on this side")
    raise RemoteProtocolError(*conn.error.args)


_RECEIVERS: Final[dict[tuple[Role, State], Callable[[ClientConnection, bytes], list[Event]]]] = {
    (Role.SERVER, State.IDLE): _receive_first,
    (Role.SERVER, State.CONNECTING): _receive_early,
    (Role.SERVER, State.ESTABLISHED): _receive_requests,
    (Role.SERVER, State.CLOSING): _receive_nothing,
    (Role.SERVER, State.CLOSED): _receive_nothing,
    (Role.SERVER, State.ADMIN): _receive_nothing,
    (Role.SERVER, State.ERROR): _receive_dead,
    (Role.CLIENT, State.IDLE): _receive_surprise,
    (Role.CLIENT, State.CONNECTING): _receive_answer,
    (Role.CLIENT, State.ESTABLISHED): _receive_replies,
    (Role.CLIENT, State.CLOSING): _receive_replies,
    (Role.CLIENT, State.CLOSED): _receive_nothing,
    (Role.CLIENT, State.ADMIN): _receive_text,
    (Role.CLIENT, State.ERROR): _receive_dead,
}


# --- bodies


Parser: TypeAlias = Callable[[bytes, int, int], Record | None]


def _skip(data: bytes, pos: int, end: int) -> None:
    """The body of an operation that we do not know: whatever it is."""


def _parse_nothing(data: bytes, pos: int, end: int) -> None:
    if pos != end:
        raise RemoteProtocolError(f"{end - pos} bytes where no body belongs")


def _parsers(table: dict[int, type[Record] | None]) -> dict[int, Parser]:
    """By plain int: an IntEnum key costs each look-up a comparison in Python."""
    return {int(op): record.parse if record else _parse_nothing for op, record in table.items()}


_parser_of: Final = _parsers(REQUESTS).get
_reply_parser_of: Final = _parsers(REPLIES).get


# --- sending


def _encode_request(conn: ClientConnection, event: Request) -> bytes:
    body = b"" if event.body is None else event.body.encode()
    encoded = _REQUEST.pack(8 + len(body), event.xid, event.opcode) + body
    if event.xid not in _OUT_OF_BAND:
        conn._awaited.append((event.xid, event.opcode))
    if event.opcode == _CLOSE:
        conn._close_xid = event.xid
    return encoded


def _encode_reply(conn: ClientConnection, event: Reply) -> bytes:
    body = b"" if event.body is None else event.body.encode()
    return encode_reply(event.xid, event.zxid, event.error, body)


def _encode_watch_event(conn: ClientConnection, event: WatchEvent) -> bytes:
    body = event.event.encode()
    return encode_reply(XID_NOTIFICATION, event.zxid, 0, body)


def _encode_connect_request(conn: ClientConnection, event: ConnectRequest) -> bytes:
    return encode_frame(event.encode())


def _encode_connect_response(conn: ClientConnection, event: ConnectResponse) -> bytes:
    """In kind: the readOnly byte is sent to those who sent theirs, and to no others."""
    e = event
    read_only = bool(e.read_only) if conn._has_read_only else None
    answer = ConnectResponse(e.protocol_version, e.timeout_ms, e.session_id, e.password, read_only)
    return encode_frame(answer.encode())


def _encode_word(conn: ClientConnection, event: FourLetterWord) -> bytes:
    return event.word.encode("ascii")


def _encode_text(conn: ClientConnection, event: AdminText) -> bytes:
    return event.text


_ENCODERS: Final[dict[type[Event], Callable[[ClientConnection, Any], bytes]]] = {
    ConnectRequest: _encode_connect_request,
    ConnectResponse: _encode_connect_response,
    FourLetterWord: _encode_word,
    AdminText: _encode_text,
    Request: _encode_request,
    Reply: _encode_reply,
    WatchEvent: _encode_watch_event,
}

_MOVES: Final[dict[type[Event], Move]] = {
    ConnectRequest: Move.CONNECT,
    FourLetterWord: Move.ASK,
    AdminText: Move.TELL,
    WatchEvent: Move.NOTIFY,
}
