"""What replicas tell each other about clients: bytes and back, and nothing else."""

import cbor2
import pytest

from wire import upper
from wire.codes import OpCode
from wire.errors import RemoteProtocolError
from wire.records import DeleteRequest

WRITE = upper.ForwardedWrite(
    3, OpCode.DELETE, -5, 7, DeleteRequest("/a", 1).encode(), (("ip", "10.0.0.1"),)
)
MESSAGES: tuple[upper.Message, ...] = (
    upper.Forward(1 << 62, [WRITE]),
    upper.Claim(4, -5, bytes(16)),
    upper.Claimed(4, -5, 10_000),
    upper.Sync(9),
    upper.Synced(9, 1 << 33),
    upper.Refused(9, -127),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_come_back(message: upper.Message) -> None:
    assert upper.decode(upper.encode(message)) == message


def test_the_body_of_a_forwarded_write() -> None:
    assert upper.parse_body(WRITE.opcode, WRITE.body) == DeleteRequest("/a", 1)
    opened = upper.parse_body(OpCode.CREATE_SESSION, upper.OpenSession(4000).encode())
    assert opened == upper.OpenSession(4000)


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
