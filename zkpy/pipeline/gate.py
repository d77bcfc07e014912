"""Order per connection, and the way back from a commit to who waits for it.

A connection's requests take effect and are answered in the order in which they
were sent (C2).  Writes travel through the log; a read that was sent behind a
write waits here until that write was applied, and is then answered from exactly
that state, before the next entry is applied.

Commits are matched by (server id, incarnation, forward number), never by session
and xid: clients start their xids again on every connection.
"""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from wire.client import Request
from wire.txn import TxnHeader
from zkpy.pipeline.request import NO_NUMBER


class Queued(Protocol):
    """What the gate needs of a connection."""

    queue: deque["Waiting"]
    identity_bytes: int
    """What its identities come to, which each write carries."""


@dataclass(eq=False, init=False, slots=True)
class Waiting:
    """A request that is not answered yet."""

    link: Queued
    request: Request
    number: int
    """Forward number of a write, negative for one of a local session; 0 for a read that
    waits behind one."""
    size: int
    """Bytes of a write that is on its way, with its connection's identities."""
    refusal: int
    """The error code of a write that never went into the log, to be told in its turn; 0 while
    there is none."""

    # Written out, as of all that each request makes: see scripts/compile_tree.py.
    def __init__(self, link: Queued, request: Request, number: int, size: int) -> None:
        self.link = link
        self.request = request
        self.number = number
        self.size = size
        self.refusal = 0


class Gate:
    """Writes on their way, by forward number."""

    def __init__(self, server: int, incarnation: int, last_number: int = 0) -> None:
        """`last_number`: that of the gate before, in the same life of the server.

        Numbers never start again: what was forwarded through that gate may still be
        committed, by a later leader, and must not be taken for a write of this one.
        """
        self.server = server
        self.incarnation = incarnation
        self.last_number = last_number
        self.bytes = 0
        """Of all writes on their way, those of connections that are gone included:
        they still take room between here and the leader."""
        self._writes: dict[int, Waiting] = {}
        self._orphans: dict[int, int] = {}
        """Writes of connections that are gone: number -> bytes."""

    def __len__(self) -> int:
        """Writes on their way."""
        return len(self._writes)

    def admit_write(self, link: Queued, request: Request) -> int:
        """Queue a write; its forward number."""
        self.last_number += 1
        return self._admit(link, request, self.last_number)

    def admit_local_write(self, link: Queued, request: Request) -> int:
        """Likewise, of a session that this server alone knows: its number is negative."""
        self.last_number += 1
        return self._admit(link, request, -self.last_number)

    def _admit(self, link: Queued, request: Request, number: int) -> int:
        size = request.size + link.identity_bytes
        waiting = Waiting(link, request, number, size)
        self._writes[number] = waiting
        self.bytes += size
        link.queue.append(waiting)
        return number

    def admit_read(self, link: Queued, request: Request) -> None:
        """Queue a read behind the connection's unanswered writes."""
        link.queue.append(Waiting(link, request, NO_NUMBER, 0))

    def match(self, header: TxnHeader) -> Waiting | None:
        """Who waits for this transaction on this server, if anybody does."""
        if header.origin != self.server or header.incarnation != self.incarnation:
            return None
        return self.take(header.number)

    def take(self, number: int) -> Waiting | None:
        """Who waits under this forward number; None if the connection is gone."""
        waiting = self._writes.pop(number, None)
        if waiting is None:
            self.bytes -= self._orphans.pop(number, 0)
        else:
            self.bytes -= waiting.size
        return waiting

    def forget(self, link: Queued) -> None:
        """The connection is gone: its writes may still commit, nobody is answered."""
        for waiting in link.queue:
            if self._writes.pop(waiting.number, None) is not None:
                self._orphans[waiting.number] = waiting.size
        link.queue.clear()
