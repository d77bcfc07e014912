"""Peer messages there and back, the handshake, and what hostile bytes may not do."""

import random
from collections.abc import Callable

import attrs
import cbor2
import pytest

from wire.errors import LocalProtocolError, RemoteProtocolError
from wire.link import PeerConnection, Side
from wire.peer import (
    LEADER_SAYS,
    LEARNER_SAYS,
    NO_CLUSTER,
    NOTIFICATION_BYTES,
    PROTOCOL_VERSION,
    TYPES,
    Ack,
    AckEpoch,
    Commit,
    Diff,
    FollowerInfo,
    Hello,
    Joined,
    LeaderInfo,
    Notification,
    Ping,
    Propose,
    Role,
    SnapAck,
    SnapBegin,
    SnapChunk,
    SnapEnd,
    Standing,
    Trunc,
    Upper,
    UpToDate,
    decode_notification,
    encode_message,
    encode_notification,
)

CLUSTER = bytes(range(16))
BIG = (1 << 63) - 1
HELLO = Hello(PROTOCOL_VERSION, CLUSTER, 3, BIG)
FROM_LEARNER: list[object] = [
    FollowerInfo(7, Standing.FOUNDING, CLUSTER),
    AckEpoch(True, [(0x700000009, 0xFFFFFFFF), (0, 0)], 0x700000009),
    AckEpoch(False, [], 0),
    SnapAck(3, 0x700000002),
    Joined(),
    Ack(0x700000009),
    Ping(12, b"touched"),
    Upper(b"\x00forward"),
]
FROM_LEADER: list[object] = [
    LeaderInfo(8, CLUSTER, False),
    Diff(0x700000009, 0xDEADBEEF, 0x800000001),
    Trunc(0x700000008, 5, 0x800000001),
    SnapBegin(0x700000008, 5, 0x800000001, b"voters"),
    SnapChunk(b"columns" * 100),
    SnapChunk(b""),
    SnapEnd((1 << 64) - 1),
    UpToDate(0x800000001),
    Propose(1, 1, (1 << 64) - 1, 9, [(0x800000001, 2, b""), (0x800000002, 0, b"x" * 300)]),
    Propose(0, 0, 0, 0, []),
    Commit(0x800000001, 0, 0),
    Ping(13, b""),
    Upper(b""),
]
CASES = [(Side.LEADER, m) for m in FROM_LEARNER] + [(Side.LEARNER, m) for m in FROM_LEADER]


def opened(side: Side) -> PeerConnection:
    connection = PeerConnection(side)
    assert connection.receive_data(encode_message(HELLO)) == [HELLO]
    return connection


def test_every_message_has_a_case() -> None:
    covered = {type(message) for _, message in CASES} | {Hello}
    assert covered == set(TYPES.values()) == LEADER_SAYS | LEARNER_SAYS | {Hello}


@pytest.mark.parametrize(("side", "message"), CASES)
def test_there_and_back(side: Side, message: object) -> None:
    assert opened(side).receive_data(encode_message(message)) == [message]


@pytest.mark.parametrize("step", [1, 2, 5, 64, 10_000])
def test_frames_in_any_pieces(step: int) -> None:
    data = b"".join(encode_message(m) for m in [HELLO, *FROM_LEADER])
    connection = PeerConnection(Side.LEARNER)
    received = []
    for pos in range(0, len(data), step):
        received += connection.receive_data(data[pos : pos + step])
    assert received == [HELLO, *FROM_LEADER]


@pytest.mark.parametrize("step", [1, 5, 64, 10_000])
def test_a_hello_by_itself(step: int) -> None:
    """What follows, whole or in part, waits."""
    data = b"".join(encode_message(m) for m in [HELLO, *FROM_LEADER])
    connection = PeerConnection(Side.LEARNER)
    pos, hello = 0, None
    while hello is None:
        hello = connection.receive_hello(data[pos : pos + step])
        pos += step
    assert hello == HELLO
    received = connection.receive_data(b"")
    assert received + connection.receive_data(data[pos:]) == FROM_LEADER


def test_only_a_hello_is_a_hello() -> None:
    with pytest.raises(RemoteProtocolError, match="Ack to the leader in hello"):
        PeerConnection(Side.LEADER).receive_hello(encode_message(Ack(1)))


@pytest.mark.parametrize(("side", "message"), CASES)
def test_the_other_side_may_not_say_it(side: Side, message: object) -> None:
    other = Side.LEARNER if side is Side.LEADER else Side.LEADER
    connection = opened(other)
    if isinstance(message, Ping | Upper):
        assert connection.receive_data(encode_message(message)) == [message]
        return
    with pytest.raises(RemoteProtocolError, match=type(message).__name__):
        connection.receive_data(encode_message(message))
    with pytest.raises(RemoteProtocolError, match="dead"):
        connection.receive_data(b"")


def test_hello_comes_first_and_once() -> None:
    with pytest.raises(RemoteProtocolError, match="Ack to the leader in hello"):
        PeerConnection(Side.LEADER).receive_data(encode_message(Ack(1)))
    with pytest.raises(RemoteProtocolError, match="Hello to the leader in open"):
        opened(Side.LEADER).receive_data(encode_message(HELLO))


@pytest.mark.parametrize(
    "hello", [attrs.evolve(HELLO, version=2), attrs.evolve(HELLO, cluster_id=b"short")]
)
def test_a_hello_that_does_not_fit(hello: Hello) -> None:
    with pytest.raises(RemoteProtocolError):
        PeerConnection(Side.LEADER).receive_data(encode_message(hello))


def test_send_keeps_the_same_order() -> None:
    connection = PeerConnection(Side.LEARNER)
    with pytest.raises(LocalProtocolError):
        connection.send(Ack(1))
    assert connection.send(HELLO) == encode_message(HELLO)
    assert connection.send(Ack(1)) == encode_message(Ack(1))
    with pytest.raises(LocalProtocolError):
        connection.send(UpToDate(1))


def frame(number: int, body: bytes) -> bytes:
    return (len(body) + 1).to_bytes(4, "big") + bytes([number]) + body


HOSTILE = [
    frame(99, b""),
    (0).to_bytes(4, "big") + b"\x01",
    (1 << 31).to_bytes(4, "big") + b"\x01",
    frame(2, b"\xff\xff"),
    frame(2, b""),
    frame(2, cbor2.dumps([1, 2])),
    frame(2, cbor2.dumps({"accepted_epoch": 1})),
    frame(2, cbor2.dumps(["1", 0, CLUSTER])),
    frame(2, cbor2.dumps([True, 0, CLUSTER])),
    frame(2, cbor2.dumps([1 << 70, 0, CLUSTER])),
    frame(2, b"\x83\x9a\xff\xff\xff\xff"),
    frame(4, cbor2.dumps([True, [[1]], 1])),
    frame(4, cbor2.dumps([True, [[1, b""]], 1])),
    frame(4, cbor2.dumps([1, [], 1])),
    frame(10, b"\x81" * 5000),
    frame(15, b"\x00" * 7),
]


@pytest.mark.parametrize("data", HOSTILE)
def test_hostile_frames_end_the_link(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        opened(Side.LEADER).receive_data(data)


def test_propose_with_a_lying_length() -> None:
    whole = encode_message(Propose(0, 0, 0, 0, [(1, 0, b"data")]))[5:]
    for body in (whole[:10], whole[:-1], whole + b"\x00", whole[:-4] + b"\xff" * 3):
        with pytest.raises(RemoteProtocolError):
            opened(Side.LEARNER).receive_data(frame(13, body))


def test_garbage_never_raises_anything_else(rng: random.Random) -> None:
    valid = [encode_message(message) for message in FROM_LEARNER]
    for _ in range(3000):
        data = bytearray(rng.choice(valid))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            opened(Side.LEADER).receive_data(bytes(data))
        except RemoteProtocolError:
            continue


# --- datagrams

NOTE = Notification(
    Role.LOOKING, Standing.MEMBER, CLUSTER, 2, BIG, 5, BIG - 1, 9, 3, 0x700000009, 0
)


def test_notification_there_and_back() -> None:
    data = encode_notification(NOTE)
    assert len(data) == NOTIFICATION_BYTES <= 512
    assert decode_notification(data) == NOTE
    blank = attrs.evolve(NOTE, cluster_id=NO_CLUSTER, leader=-1, zxid=-1, echo=0)
    assert decode_notification(encode_notification(blank)) == blank


def test_notification_is_signed() -> None:
    data = encode_notification(NOTE, b"new")
    assert decode_notification(data, [b"old", b"new"]) == NOTE
    for keys in ([b"old"], [b"newer", b"old"]):
        with pytest.raises(RemoteProtocolError, match="signature"):
            decode_notification(data, keys)
    with pytest.raises(RemoteProtocolError, match="signature"):
        decode_notification(encode_notification(NOTE), [b"new"])


def flip(pos: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:pos] + bytes([data[pos] ^ 0x40]) + data[pos + 1 :]


@pytest.mark.parametrize("pos", range(NOTIFICATION_BYTES))
def test_a_changed_notification_is_refused(pos: int) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_notification(flip(pos)(encode_notification(NOTE, b"key")), [b"key"])


@pytest.mark.parametrize("data", [b"", b"x" * 512, encode_notification(NOTE)[:-1]])
def test_other_datagrams_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_notification(data)


@pytest.mark.parametrize("pos", [0, 4, 5, 6])
def test_unknown_versions_roles_and_standings(pos: int) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_notification(flip(pos)(encode_notification(NOTE)))


@pytest.mark.parametrize("cut", [4, 5, 10_000])
@pytest.mark.parametrize("length", [0, 101, 1 << 31, (1 << 32) - 1])
def test_a_length_that_no_frame_has_is_refused(length: int, cut: int) -> None:
    connection = PeerConnection(Side.LEADER, 100)
    data = length.to_bytes(4, "big") + bytes(200)
    with pytest.raises(RemoteProtocolError, match="frame of"):
        connection.receive_data(data[:cut])
    with pytest.raises(RemoteProtocolError, match="dead"):
        connection.receive_data(b"")
