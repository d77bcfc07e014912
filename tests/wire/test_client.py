"""ClientConnection: both ends joined, the table of moves, hostile bytes."""

import gc
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wire import naive
from tests.wire.kazoo_samples import SAMPLES, serialize
from wire import client
from wire.client import (
    FOUR_LETTER_WORDS,
    SENDERS,
    TRANSITIONS,
    AdminText,
    ClientConnection,
    Event,
    FourLetterWord,
    Move,
    Reply,
    Request,
    Role,
    State,
    WatchEvent,
    encode_event,
    encode_frame,
    encode_reply,
)
from wire.codes import XID_AUTH, XID_PING, XID_SET_WATCHES, ErrorCode, EventType, OpCode
from wire.errors import LocalProtocolError, RemoteProtocolError
from wire.jute import Record
from wire.records import (
    REPLIES,
    REQUESTS,
    AuthPacket,
    ConnectRequest,
    ConnectResponse,
    GetDataRequest,
    GetDataResponse,
    MultiRequest,
    MultiResponse,
    SetDataRequest,
    SetWatches,
    Stat,
    WatcherEvent,
)

QUICK = settings(max_examples=60)
LIMIT = 1000
PASSWORD = bytes(range(16))
HELLO = ConnectRequest(0, 0, 10000, 0, PASSWORD, False)
OLD_HELLO = ConnectRequest(0, 0, 10000, 0, PASSWORD, None)
WELCOME = ConnectResponse(0, 10000, 77, PASSWORD, False)
REFUSAL = ConnectResponse(0, 0, 0, bytes(16), False)
GET = Request(1, OpCode.GET_DATA, GetDataRequest("/a", True))
SET = Request(2, OpCode.SET_DATA, SetDataRequest("/a", b"x", -1))
PING = Request(XID_PING, OpCode.PING, None)
CLOSE = Request(9, OpCode.CLOSE_SESSION, None)
STAT = Stat(*range(11))
GOT = Reply(1, 5, 0, GetDataResponse(b"d", STAT))
CHANGED = WatchEvent(6, WatcherEvent(EventType.NODE_DATA_CHANGED, 3, "/a"))


class Pair:
    """Both ends, joined: what one sends the other receives, in one piece."""

    def __init__(self, hello: ConnectRequest = HELLO) -> None:
        self.client = ClientConnection(Role.CLIENT, LIMIT)
        self.server = ClientConnection(Role.SERVER, LIMIT)
        assert self.ask(hello) == [hello]
        self.welcomed = self.answer(WELCOME)

    def ask(self, *events: Event) -> list[Event]:
        return self.server.receive_data(b"".join(map(self.client.send, events)))

    def answer(self, *events: Event) -> list[Event]:
        return self.client.receive_data(b"".join(map(self.server.send, events)))


def request_frame(xid: int, opcode: int, body: bytes = b"") -> bytes:
    return encode_frame(struct.pack(">ii", xid, opcode) + body)


def encode_requests(requests: Iterable[Request]) -> bytes:
    return b"".join(
        request_frame(r.xid, r.opcode, r.body.encode() if r.body else b"") for r in requests
    )


# --- the handshake


def test_a_session_from_first_to_last() -> None:
    pair = Pair()
    assert pair.welcomed == [WELCOME]
    assert pair.ask(GET, PING, SET) == [GET, PING, SET]
    pong = Reply(XID_PING, 5, 0, None)
    assert pair.answer(CHANGED, pong, GOT, Reply(2, 7, -101, None)) == [
        *(CHANGED, pong, GOT, Reply(2, 7, -101, None))
    ]
    assert pair.ask(CLOSE) == [CLOSE]
    assert (pair.client.state, pair.server.state) == (State.CLOSING, State.CLOSING)
    assert pair.answer(Reply(9, 8, 0, None)) == [Reply(9, 8, 0, None)]
    assert (pair.client.state, pair.server.state) == (State.CLOSED, State.CLOSED)
    assert pair.server.receive_data(b"more") == pair.client.receive_data(b"more") == []
    assert pair.server.error is None and pair.client.error is None


@pytest.mark.parametrize(
    ("hello", "read_only", "expected"),
    [
        *((HELLO, False, False), (HELLO, True, True), (HELLO, None, False)),
        *((OLD_HELLO, False, None), (OLD_HELLO, True, None), (OLD_HELLO, None, None)),
    ],
)
def test_the_read_only_byte_is_answered_in_kind(
    hello: ConnectRequest, read_only: bool | None, expected: bool | None
) -> None:
    server = ClientConnection(Role.SERVER, LIMIT)
    assert server.receive_data(encode_frame(hello.encode())) == [hello]
    sent = server.send(ConnectResponse(0, 10000, 77, PASSWORD, read_only))
    assert sent == encode_frame(ConnectResponse(0, 10000, 77, PASSWORD, expected).encode())


def test_kazoos_handshake_is_understood() -> None:
    theirs, ours = SAMPLES["connect"]
    server = ClientConnection(Role.SERVER, LIMIT)
    assert server.receive_data(encode_frame(serialize(theirs))) == [ours]


def test_a_refusal_ends_both_ends() -> None:
    client, server = ClientConnection(Role.CLIENT, LIMIT), ClientConnection(Role.SERVER, LIMIT)
    server.receive_data(client.send(HELLO))
    assert client.receive_data(server.send(REFUSAL)) == [REFUSAL]
    assert (client.state, server.state) == (State.CLOSED, State.CLOSED)


def test_requests_before_the_welcome_wait_for_it() -> None:
    server = ClientConnection(Role.SERVER, LIMIT)
    early = encode_requests([GET, SET])
    assert server.receive_data(encode_frame(HELLO.encode()) + early[:5]) == [HELLO]
    assert server.receive_data(early[5:-3]) == []
    server.send(WELCOME)
    assert server.receive_data(b"") == [GET]
    assert server.receive_data(early[-3:]) == [SET]


def test_what_may_wait_for_the_welcome_is_bounded() -> None:
    server = ClientConnection(Role.SERVER, LIMIT)
    assert server.receive_data(encode_frame(HELLO.encode()) + bytes(LIMIT)) == [HELLO]
    assert server.error is None
    assert server.receive_data(bytes(5)) == []
    assert server.error is not None


def test_a_reply_right_behind_the_welcome_is_read() -> None:
    client = ClientConnection(Role.CLIENT, LIMIT)
    client.send(HELLO)
    event = encode_event(6, EventType.NODE_DATA_CHANGED, "/a")
    assert client.receive_data(encode_frame(WELCOME.encode()) + event) == [WELCOME, CHANGED]


# --- four-letter words


@pytest.mark.parametrize("word", FOUR_LETTER_WORDS)
def test_four_letter_words(word: str) -> None:
    client, server = ClientConnection(Role.CLIENT, LIMIT), ClientConnection(Role.SERVER, LIMIT)
    asked = client.send(FourLetterWord(word))
    assert server.receive_data(asked[:3]) == []
    assert server.receive_data(asked[3:] + b"\n") == [FourLetterWord(word)]
    assert server.receive_data(b"whatever") == []
    assert client.receive_data(server.send(AdminText(b"imok"))) == [AdminText(b"imok")]
    assert client.receive_data(b"") == []
    assert server.state is client.state is State.ADMIN


def test_an_unknown_word_is_a_frame_of_an_absurd_size() -> None:
    server = ClientConnection(Role.SERVER, LIMIT)
    assert server.receive_data(b"HEAD / HTTP/1.1\r\n") == []
    assert "frame of 1212498244 bytes" in str(server.error)


def test_a_word_is_a_word_only_at_the_start() -> None:
    pair = Pair()
    assert pair.server.receive_data(b"ruok") == []
    assert pair.server.error is not None


# --- requests and replies, every operation


def bodies(table: dict[int, type[Record] | None], opcode: int) -> st.SearchStrategy[Record | None]:
    cls = table[opcode]
    if cls is MultiRequest:
        return st.just(MultiRequest([(5, SetDataRequest("/a", b"x", 1))]))
    if cls is MultiResponse:
        return st.just(MultiResponse([]))
    return st.none() if cls is None else naive.records(cls)


XIDS = st.integers(1, (1 << 31) - 1)
requests = st.sampled_from(sorted(map(int, REQUESTS))).flatmap(
    lambda opcode: st.builds(Request, XIDS, st.just(opcode), bodies(REQUESTS, opcode))
)
requests_but_close = requests.filter(lambda request: request.opcode != OpCode.CLOSE_SESSION)


@QUICK
@given(st.lists(requests_but_close, max_size=5), st.lists(st.integers(0, 300), max_size=5))
def test_requests_do_not_depend_on_how_the_bytes_arrive(
    sent: list[Request], cuts: list[int]
) -> None:
    pair = Pair()
    stream = b"".join(map(pair.client.send, sent))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    got: list[Event] = []
    for start, stop in zip(edges, edges[1:], strict=False):
        got += pair.server.receive_data(stream[start:stop])
    assert got == sent
    assert pair.server.error is None


@QUICK
@given(st.data())
def test_replies_are_read_by_what_was_asked(data: st.DataObject) -> None:
    opcode = data.draw(st.sampled_from(sorted(map(int, REQUESTS))))
    pair = Pair()
    pair.ask(Request(3, opcode, data.draw(bodies(REQUESTS, opcode))))
    answer = Reply(3, 9, 0, data.draw(bodies(REPLIES, opcode)))
    sent = pair.server.send(answer)
    got = [pair.client.receive_data(sent[i : i + 1]) for i in range(len(sent))]
    assert [event for events in got for event in events] == [answer]


@pytest.mark.parametrize("cut", range(len(encode_reply(1, 5, 0, bytes(73)))))
def test_a_reply_in_two_pieces(cut: int) -> None:
    pair = Pair()
    pair.ask(GET)
    sent = pair.server.send(GOT)
    assert pair.client.receive_data(sent[:cut]) == []
    assert pair.client.receive_data(sent[cut:]) == [GOT]


def test_an_opcode_that_nobody_knows_is_delivered_without_its_body() -> None:
    pair = Pair()
    for opcode in (10, 99, 500, -10, 0):
        data = request_frame(4, opcode, b"what is this") + encode_requests([GET])
        assert pair.server.receive_data(data) == [Request(4, opcode, None), GET]
    assert pair.server.error is None


def test_pings_and_auth_may_overtake() -> None:
    pair = Pair()
    auth = Request(XID_AUTH, OpCode.AUTH, AuthPacket(0, "digest", b"a:b"))
    watches = Request(XID_SET_WATCHES, OpCode.SET_WATCHES, SetWatches(0, ["/a"], [], []))
    assert pair.ask(auth, GET, watches, PING) == [auth, GET, watches, PING]
    answers = [
        Reply(XID_PING, 1, 0, None),
        GOT,
        Reply(XID_AUTH, 0, ErrorCode.AUTH_FAILED, None),
        Reply(XID_SET_WATCHES, 1, 0, None),
    ]
    assert pair.answer(*answers) == answers


@pytest.mark.parametrize("xid", [2, 3, 0, -8])
def test_a_reply_out_of_order_is_refused(xid: int) -> None:
    pair = Pair()
    pair.ask(GET, SET)
    assert pair.answer(CHANGED, Reply(xid, 5, -101, None)) == [CHANGED]
    assert pair.client.error is not None
    assert pair.client.state is State.ERROR


def test_nothing_is_read_behind_a_close() -> None:
    pair = Pair()
    assert pair.server.receive_data(encode_requests([GET, CLOSE, SET]) + b"junk") == [GET, CLOSE]
    assert pair.server.error is None
    assert pair.server.receive_data(encode_requests([SET])) == []


def test_nothing_is_read_behind_the_reply_to_a_close() -> None:
    pair = Pair()
    pair.ask(CLOSE)
    last = Reply(9, 8, 0, None)
    assert pair.client.receive_data(encode_reply(9, 8, 0) + bytes(40)) == [last]
    assert pair.client.error is None


def test_the_short_way_is_the_long_way() -> None:
    pair = Pair()
    assert GOT.body is not None
    assert encode_reply(1, 5, 0, GOT.body.encode()) == pair.server.send(GOT)
    assert encode_reply(1, 5, -101) == pair.server.send(Reply(1, 5, -101, None))
    assert encode_event(6, EventType.NODE_DATA_CHANGED, "/a") == pair.server.send(CHANGED)


# --- the table of moves

EVENTS: dict[Move, Event] = {
    Move.CONNECT: HELLO,
    Move.ACCEPT: WELCOME,
    Move.REFUSE: REFUSAL,
    Move.ASK: FourLetterWord("ruok"),
    Move.TELL: AdminText(b"imok"),
    Move.REQUEST: GET,
    Move.CLOSE: CLOSE,
    Move.REPLY: GOT,
    Move.LAST_REPLY: Reply(9, 5, 0, None),
    Move.NOTIFY: CHANGED,
}
PATHS: dict[State, list[Move]] = {
    State.IDLE: [],
    State.CONNECTING: [Move.CONNECT],
    State.ESTABLISHED: [Move.CONNECT, Move.ACCEPT],
    State.CLOSING: [Move.CONNECT, Move.ACCEPT, Move.CLOSE],
    State.CLOSED: [Move.CONNECT, Move.REFUSE],
    State.ADMIN: [Move.ASK],
}


def reach(state: State) -> tuple[ClientConnection, ClientConnection]:
    client, server = ClientConnection(Role.CLIENT, LIMIT), ClientConnection(Role.SERVER, LIMIT)
    for move in PATHS[state]:
        first, second = (client, server) if SENDERS[move] is Role.CLIENT else (server, client)
        second.receive_data(first.send(EVENTS[move]))
    assert client.state is server.state is state
    return client, server


def test_the_table_is_whole() -> None:
    assert set(TRANSITIONS) == set(State) == {*PATHS, State.ERROR}
    assert set(SENDERS) == set(Move) == set(EVENTS)
    assert {(role, state) for role in Role for state in State} == set(client._RECEIVERS)


@pytest.mark.parametrize("state", PATHS)
@pytest.mark.parametrize("move", Move)
@pytest.mark.parametrize("role", Role)
def test_each_end_sends_what_the_table_allows(state: State, move: Move, role: Role) -> None:
    conn = reach(state)[0 if role is Role.CLIENT else 1]
    # Outside CLOSING no reply is the last: the event is an ordinary one.
    move = Move.REPLY if move is Move.LAST_REPLY and state is not State.CLOSING else move
    event = Reply(9, 5, 0, None) if move is Move.LAST_REPLY else EVENTS[move]
    if SENDERS[move] is role and move in TRANSITIONS[state]:
        assert conn.send(event)
        assert conn.state is TRANSITIONS[state][move]
    else:
        with pytest.raises(LocalProtocolError, match=f"{role.name} sends {move.name}"):
            conn.send(event)
        assert conn.state is State.ERROR


def test_what_lies_behind_an_error_is_not_looked_at() -> None:
    """ZooKeeper may leave there what it had of a reply."""
    client, _ = reach(State.ESTABLISHED)
    client.send(GET)
    answer = encode_reply(GET.xid, 5, -5, b"half of a rep")
    assert client.receive_data(answer) == [Reply(GET.xid, 5, -5, None)]
    assert client.error is None


def test_an_error_of_ours_is_for_good() -> None:
    client, _ = reach(State.IDLE)
    with pytest.raises(LocalProtocolError):
        client.send(GET)
    for event in EVENTS.values():
        with pytest.raises(LocalProtocolError):
            client.send(event)
    with pytest.raises(LocalProtocolError):
        client.receive_data(b"")


@pytest.mark.parametrize(
    "event",
    [
        Request(1 << 31, OpCode.PING, None),
        Request(1, OpCode.GET_DATA, GetDataRequest("\ud800", False)),
    ],
)
def test_what_cannot_be_encoded_is_an_error_of_ours(event: Request) -> None:
    client, _ = reach(State.ESTABLISHED)
    with pytest.raises(LocalProtocolError, match="cannot be encoded"):
        client.send(event)
    assert client.state is State.ERROR


def test_a_server_that_speaks_first_is_refused() -> None:
    client = ClientConnection(Role.CLIENT, LIMIT)
    assert client.receive_data(b"") == []
    assert client.receive_data(b"x") == []
    assert client.error is not None


# --- hostile bytes

BAD_FRAMES = {
    "negative": struct.pack(">iii", -1, 1, 4),
    "very negative": struct.pack(">iii", -(1 << 31), 1, 4),
    "too long": struct.pack(">iii", LIMIT + 1, 1, 4),
    "as long as it gets": struct.pack(">iii", (1 << 31) - 1, 1, 4),
    "empty": struct.pack(">i", 0),
    "half a header": encode_frame(bytes(7)),
    "no body": request_frame(1, OpCode.GET_DATA),
    "trailing byte": request_frame(1, OpCode.GET_DATA, GetDataRequest("/", False).encode() + b"x"),
    "body of a ping": request_frame(XID_PING, OpCode.PING, b"x"),
    "reaches into the next": request_frame(1, OpCode.GET_DATA, struct.pack(">i", 30)) + bytes(40),
    "invalid text": request_frame(1, OpCode.SYNC, struct.pack(">i", 1) + b"\xff"),
}


@pytest.mark.parametrize("bad", BAD_FRAMES)
def test_good_requests_in_front_of_a_bad_one_are_delivered(bad: str) -> None:
    pair = Pair()
    data = encode_requests([GET, SET]) + BAD_FRAMES[bad] + encode_requests([GET])
    assert pair.server.receive_data(data) == [GET, SET]
    assert pair.server.error is not None
    assert pair.server.state is State.ERROR
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match=str(pair.server.error)[:10]):
            pair.server.receive_data(encode_requests([GET]))
    with pytest.raises(LocalProtocolError):
        pair.server.send(GOT)


def test_a_frame_of_the_limit_is_allowed() -> None:
    pair = Pair()
    most = Request(1, OpCode.SET_DATA, SetDataRequest("/", bytes(LIMIT - 8 - 13), 0))
    assert len(encode_requests([most])) == 4 + LIMIT
    assert pair.server.receive_data(encode_requests([most])) == [most]
    more = Request(1, OpCode.SET_DATA, SetDataRequest("/", bytes(LIMIT - 8 - 12), 0))
    assert pair.server.receive_data(encode_requests([more])[:12]) == []
    assert pair.server.error is not None


@pytest.mark.parametrize("cut", range(len(encode_frame(HELLO.encode()))))
def test_a_handshake_in_two_pieces(cut: int) -> None:
    server = ClientConnection(Role.SERVER, LIMIT)
    data = encode_frame(HELLO.encode())
    assert server.receive_data(data[:cut]) == []
    assert server.receive_data(data[cut:]) == [HELLO]


@pytest.mark.parametrize("size", [-1, -2, 0, 7, LIMIT + 1, (1 << 31) - 1])
def test_a_handshake_of_a_bad_size_is_refused(size: int) -> None:
    for role in Role:
        conn = ClientConnection(role, LIMIT)
        if role is Role.CLIENT:
            conn.send(HELLO)
        assert conn.receive_data(struct.pack(">i", size)) == []
        assert conn.error is not None


@QUICK
@given(st.sampled_from(Role), st.sampled_from(list(PATHS)), st.lists(st.binary(max_size=60)))
def test_garbage_never_raises_but_what_it_should(
    role: Role, state: State, pieces: list[bytes]
) -> None:
    conn = reach(state)[0 if role is Role.CLIENT else 1]
    for piece in pieces:
        if conn.error is not None:
            with pytest.raises(RemoteProtocolError):
                conn.receive_data(piece)
        else:
            assert isinstance(conn.receive_data(piece), list)


@QUICK
@given(st.lists(requests, min_size=1, max_size=4), st.data())
def test_a_changed_byte_never_raises(sent: list[Request], data: st.DataObject) -> None:
    stream = bytearray(encode_requests(sent))
    stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    pair = Pair()
    for event in pair.server.receive_data(bytes(stream)):
        assert isinstance(event, Request)


def test_a_broken_connection_leaves_no_cycle() -> None:
    gc.collect()
    gc.disable()
    try:
        for bad in BAD_FRAMES.values():
            pair = Pair()
            pair.server.receive_data(bad)
            with pytest.raises(RemoteProtocolError) as raised:
                pair.server.receive_data(bad)
            del raised, pair
        assert not [found for found in gc.get_objects() if isinstance(found, ClientConnection)]
    finally:
        gc.enable()
