"""What replicas tell each other about clients: bytes and back, and nothing else."""

from typing import Any

import cbor2
import pytest

from wire import upper
from wire.codes import OpCode
from wire.errors import RemoteProtocolError
from wire.records import DeleteRequest, OpenSession

WRITE = upper.ForwardedWrite(3, OpCode.DELETE, -5, 7, DeleteRequest("/a", 1), (("ip", "10.0.0.1"),))
MESSAGES: tuple[upper.Message, ...] = (
    upper.Forward(1 << 62, [WRITE]),
    upper.Claim(4, -5, bytes(16)),
    upper.Claimed(4, -5, 10_000),
    upper.Sync(9),
    upper.Synced(9, 1 << 33),
    upper.Refused(9, -127),
    upper.Room(True),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_come_back(message: upper.Message) -> None:
    assert upper.decode(upper.encode(message)) == message


def forward(opcode: int, body: Any, session: int = -5, cxid: int = 7, number: int = 3) -> bytes:
    return cbor2.dumps([1, 9, [[number, opcode, session, cxid, body, []]]])


def body_of(data: bytes) -> bytes:
    (write,) = cbor2.loads(data)[2]
    found: bytes = write[4]
    return found


def test_a_write_without_a_body() -> None:
    write = upper.ForwardedWrite(3, OpCode.CLOSE_SESSION, -5, 7, None, ())
    assert upper.decode(upper.encode(upper.Forward(9, [write]))) == upper.Forward(9, [write])


@pytest.mark.parametrize(
    ("opened", "body"),
    [
        (OpenSession(4000), b"\0\0\x0f\xa0"),
        (OpenSession(4000, b"word"), b"\0\0\x0f\xa0\0\0\0\4word"),
    ],
    ids=["as before there were local sessions", "of one that was local"],
)
def test_both_forms_of_a_create_session(opened: OpenSession, body: bytes) -> None:
    """A server of an earlier version knows the first alone, and says no other."""
    data = forward(OpCode.CREATE_SESSION, body)
    message = upper.decode(data)
    assert isinstance(message, upper.Forward) and message.writes[0].body == opened
    assert upper.encode(message) == data


@pytest.mark.parametrize(
    "data",
    [
        forward(OpCode.DELETE, b""),
        forward(OpCode.DELETE, DeleteRequest("/a", 1).encode() + b"x"),
        forward(OpCode.DELETE, None),
        forward(OpCode.CREATE_SESSION, b"\0\0\x0f"),
        forward(OpCode.CREATE_SESSION, b"\0\0\x0f\xa0\0"),
        forward(OpCode.CLOSE_SESSION, b"", session=1 << 63),
        forward(OpCode.CLOSE_SESSION, b"", cxid=1 << 31),
        forward(OpCode.CLOSE_SESSION, b"", number=1 << 63),
        forward(OpCode.CLOSE_SESSION, b"", number="3"),  # type: ignore[arg-type]
        cbor2.dumps([1, -1, []]),
    ],
)
def test_a_write_that_no_server_forwards_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        upper.decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        cbor2.dumps([6]),
        cbor2.dumps([6, 1]),
        cbor2.dumps([6, 1, "code"]),
        cbor2.dumps([6, 1, 2, 3]),
        cbor2.dumps([99, 1]),
        cbor2.dumps({"kind": 6}),
        cbor2.dumps([1, 1, [[1, 2, 3]]]),
        cbor2.dumps([2, 1, 2, "text"]),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        upper.decode(data)
