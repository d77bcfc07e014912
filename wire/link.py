"""One link between two members, without IO: bytes in, messages out, and who may say what.

In: `receive_data(bytes)` gives the messages that are complete with them; `receive_hello(bytes)` the
Hello alone, for those who judge it before they read on.  Out: `send(message)`
gives a frame.  Messages and frames are those of `wire.peer`.
"""

from enum import Enum
from typing import Final

from wire.buffers import FrameBuffer
from wire.errors import LocalProtocolError, RemoteProtocolError
from wire.peer import (
    DECODERS,
    FRAME,
    LEADER_SAYS,
    LEARNER_SAYS,
    NO_CLUSTER,
    PROTOCOL_VERSION,
    TYPES,
    Hello,
    encode_message,
)


class Side(Enum):
    LEARNER = "learner"
    LEADER = "leader"


class Phase(Enum):
    HELLO = "hello"
    OPEN = "open"
    ERROR = "error"


_HEARS: Final = {Side.LEARNER: LEADER_SAYS, Side.LEADER: LEARNER_SAYS}
_SAYS: Final = {Side.LEARNER: LEARNER_SAYS, Side.LEADER: LEADER_SAYS}
LEGAL: Final[dict[tuple[Side, Phase], frozenset[type]]] = {
    **{(side, Phase.HELLO): frozenset({Hello}) for side in Side},
    **{(side, Phase.OPEN): _HEARS[side] for side in Side},
    **{(side, Phase.ERROR): frozenset() for side in Side},
}
"""(which side we are, phase) -> what may arrive."""


_HELLO_FIRST: Final[frozenset[type]] = frozenset({Hello})
FRAME_BYTES_MAX: Final = 64 * 1024 * 1024


class PeerConnection:
    """Bytes in, messages out, for one link; knows the order of the handshake."""

    __slots__ = ("_buffer", "_hears", "_says", "phase", "side")

    def __init__(self, side: Side, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self.side = side
        self.phase = Phase.HELLO
        self._hears = LEGAL[side, Phase.HELLO]
        self._says = _HELLO_FIRST
        self._buffer = FrameBuffer(frame_bytes_max, 1)

    def send(self, message: object) -> bytes:
        """The frame of a message; Hello first."""
        if self.phase is Phase.ERROR or type(message) not in self._says:
            raise LocalProtocolError(f"{type(message).__name__} from the {self.side.value}")
        if self._says is _HELLO_FIRST:
            self._says = _SAYS[self.side]
        return encode_message(message)

    def receive_data(self, data: bytes) -> list[object]:
        """All messages that are complete with these bytes, the other side's Hello first."""
        return self._receive(data, False)

    def receive_hello(self, data: bytes) -> Hello | None:
        """The other side's Hello, once it is complete.

        What is behind it waits as it is, until `receive_data`, be it with no bytes, asks for it."""
        messages = self._receive(data, True)
        hello = messages[0] if messages else None
        assert hello is None or isinstance(hello, Hello), "nothing else may come first"
        return hello

    def _receive(self, data: bytes, one: bool) -> list[object]:
        if self.phase is Phase.ERROR:
            raise RemoteProtocolError("the link is dead")
        try:
            return self._take_messages(self._buffer.join(data), one)
        except RemoteProtocolError:
            self._enter(Phase.ERROR)
            self._buffer = FrameBuffer(1, 1)
            raise

    def _take_messages(self, data: bytes, one: bool) -> list[object]:
        messages: list[object] = []
        pos, size, limit = 0, len(data), self._buffer.frame_bytes_max
        while size - pos >= FRAME.size:
            length, number = FRAME.unpack_from(data, pos)
            end = pos + 4 + length
            if end > size or not 0 < length <= limit:
                self._buffer.check(length)
                break
            messages.append(self._decode(number, data[pos + FRAME.size : end]))
            pos = end
            if one:
                break
        self._buffer.keep(data, pos)
        return messages

    def _decode(self, number: int, body: bytes) -> object:
        cls = TYPES.get(number)
        if cls not in self._hears:
            name = cls.__name__ if cls else f"message {number}"
            raise RemoteProtocolError(f"{name} to the {self.side.value} in {self.phase.value}")
        message = DECODERS[cls](body)
        if isinstance(message, Hello):
            self._accept(message)
        return message

    def _accept(self, hello: Hello) -> None:
        if hello.version != PROTOCOL_VERSION:
            raise RemoteProtocolError(f"protocol version {hello.version}")
        if len(hello.cluster_id) != len(NO_CLUSTER):
            raise RemoteProtocolError("cluster id of the wrong length")
        self._enter(Phase.OPEN)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._hears = LEGAL[self.side, phase]
