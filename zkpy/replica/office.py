"""What a member does for writes and sessions, which differs by role: its office.

An office is made when zab's role, leader or epoch changes and thrown away at the
next change, with everything that was under way in it; nothing is reset field by
field.  `replica.core` has the one table of which role has which.

`Bystander` is what the offices of those who do not lead have in common.
"""

import struct
from typing import Any, Final, Protocol

from wire import txn as txns
from wire.txn import Txn, TxnHeader
from zkpy.effects import Entry
from zkpy.pipeline.request import Identities
from zkpy.replica.links import ClientLink
from zkpy.state.digest import Change

SESSION: Final = struct.Struct(">q")
"""What a ping payload is made of: ids of sessions heard from."""


class ClientSide(Protocol):
    """What an office tells the clients of this server (see `replica.clients`)."""

    def claimed(self, link_id: int, session: int, timeout_ms: int) -> None:
        """The session may go on here; time-out 0: it may not."""

    def unheard_of(self, link_id: int, session: int) -> None:
        """No quorum is asked, and the session is not known here: it may live or not."""

    def synced(self, number: int, barrier: int) -> None:
        """The sync of that number is done once `barrier` is applied here."""

    def opened(self, number: int, timeout_ms: int) -> None:
        """The session asked for under that number is open, on this connection alone."""

    def closed(self, number: int) -> None:
        """The session whose end was asked for under that number is gone."""

    def refused(self, number: int, code: int) -> None:
        """The write or sync of that number is not for this member."""


class Office(Protocol):
    """The behaviour of one role."""

    now: int
    """Set by the owner before any input."""

    def submit(self, header: TxnHeader, opcode: int, body: object, identities: Identities) -> None:
        """A write of a client of this server; the header has no time yet."""

    def claim(self, link: ClientLink, session: int, password: bytes) -> None:
        """A client of this server came back with a session."""

    def sync(self, number: int) -> None:
        """A client of this server asked for a sync."""

    def receive(self, sid: int, message: Any) -> None:
        """A message of another replica."""

    def gone(self, sid: int) -> None:
        """The link with that server is down: what it asked for is not to be answered any more,
        since whoever is there next may mean something else by the same number."""

    def touched(self, sid: int, payload: bytes) -> None:
        """What came with a ping of another replica."""

    def left(self, session: int, heard_ms: int) -> None:
        """A client's connection is gone; it was last heard from then."""

    def ping_payload(self) -> bytes:
        """What goes with the next ping to the leader."""

    def decoded(self, entry: Entry) -> tuple[TxnHeader, Txn]:
        """The transaction in a committed entry."""

    def applied(self, zxid: int, header: TxnHeader, txn: Txn, changes: list[Change]) -> None:
        """It is in the tree; its reply, if it was asked for here, is out."""

    def progress(self) -> None:
        """zab may have moved on: what waited for it may be done."""

    def handle_timer(self) -> None: ...

    def paused(self, pause_ms: int) -> None:
        """This process stood still for so long."""

    def deadline(self) -> int | None: ...

    def set_low_space(self, low: bool) -> None:
        """Whether this member's disk is nearly full."""

    def with_room(self) -> int | None:
        """Of a leader: a voter that could lead in its place, and has room on its disk."""

    def session_deadlines(self) -> dict[int, list[int]] | None:
        """ms -> sessions that are to expire then; None where they are not tracked."""

    def proposal_sizes(self) -> tuple[int, int, int] | None:
        """Bytes of the last, least and greatest proposal, where there are any to be made."""

    def flush(self) -> None:
        """The pass ends: what was collected goes to zab now."""


class Bystander:
    """Who does not lead decides nothing: nothing is pending here, and nobody is waited for."""

    def __init__(self, now: int) -> None:
        self.now = now

    def receive(self, sid: int, message: Any) -> None:
        """Meant for an office that is gone."""

    def gone(self, sid: int) -> None:
        """Nobody's questions wait here."""

    def touched(self, sid: int, payload: bytes) -> None:
        """Touches are the leader's to know; an office that is gone may have been meant."""

    def left(self, session: int, heard_ms: int) -> None:
        """No session's time is counted here."""

    def ping_payload(self) -> bytes:
        return b""

    def decoded(self, entry: Entry) -> tuple[TxnHeader, Txn]:
        return txns.decode(entry.data)

    def applied(self, zxid: int, header: TxnHeader, txn: Txn, changes: list[Change]) -> None:
        """No overlay is to be cleared, and no session to be tracked."""

    def progress(self) -> None:
        """Nothing waits for zab."""

    def handle_timer(self) -> None:
        """Nothing here has a time."""

    def paused(self, pause_ms: int) -> None:
        """Nobody expires by this member's clock."""

    def deadline(self) -> int | None:
        return None

    def set_low_space(self, low: bool) -> None:
        """Only a leader refuses writes for that."""

    def with_room(self) -> int | None:
        return None

    def session_deadlines(self) -> dict[int, list[int]] | None:
        return None

    def proposal_sizes(self) -> tuple[int, int, int] | None:
        return None

    def flush(self) -> None:
        """Nothing is collected."""
