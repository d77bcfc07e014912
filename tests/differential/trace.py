"""What a trace is made of: the steps that both servers are put through.

A step belongs to one of a few sessions, which are named by a small number; paths are
as they go over the wire.  What differs between the servers by nature stands as a
symbol: a `relative_zxid` of setWatches is one of `Since`.
"""

from collections.abc import Sequence
from enum import IntEnum

import attrs

from wire.codes import OpCode
from wire.jute import Record
from wire.records import MultiRequest


class How(IntEnum):
    """How a session comes by a connection."""

    FRESH = 0
    """A new session."""
    AGAIN = 1
    """The session goes on, over a new connection; an old one, if there is one, is left open."""
    FORGED = 2
    """The session's id with another password, once it has no connection."""


class Since(IntEnum):
    """What stands for a zxid in a trace."""

    EVER = 0
    CONNECT = 1
    """The last that the session had seen when it connected."""
    NOW = 2
    """The last that it has seen."""


@attrs.frozen
class Ask:
    """One request."""

    opcode: int
    body: Record | None = None

    @property
    def name(self) -> str:
        return OpCode(self.opcode).name if self.opcode in OPCODES else f"opcode {self.opcode}"

    def __str__(self) -> str:
        if isinstance(self.body, MultiRequest):
            parts = "; ".join(str(Ask(opcode, body)) for opcode, body in self.body.ops)
            return f"{self.name} [{parts}]"
        return self.name if self.body is None else f"{self.name} {self.body!r}"


@attrs.frozen
class Connect:
    session: int
    how: How

    def __str__(self) -> str:
        return f"session {self.session}: connect {self.how.name}"


@attrs.frozen
class Drop:
    """The connection goes, the session stays."""

    session: int

    def __str__(self) -> str:
        return f"session {self.session}: disconnect"


@attrs.frozen
class Batch:
    """Requests sent in one go; what one of them answers can only depend on those before it."""

    session: int
    asks: tuple[Ask, ...]

    def __str__(self) -> str:
        return "\n".join(f"session {self.session}: {ask}" for ask in self.asks)


Step = Connect | Drop | Batch
OPCODES = frozenset(int(each) for each in OpCode)


def size_of(steps: Sequence[Step]) -> int:
    """How many requests there are in a trace."""
    return sum(len(step.asks) for step in steps if isinstance(step, Batch))
