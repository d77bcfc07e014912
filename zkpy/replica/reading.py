"""The office of a member without a quorum that still serves reads (`readonlymode.enabled`).

Only clients that asked for it come here.  Nothing is written: no transaction, no
zxid, no log (ZOOKEEPER-3526), and a session that begins here is this connection's
alone.
"""

from hmac import compare_digest
from typing import Any

from wire import txn as txns
from wire.codes import ErrorCode, OpCode
from wire.records import OpenSession
from wire.txn import Txn, TxnHeader
from zkpy.effects import Entry
from zkpy.pipeline.request import Identities
from zkpy.replica.links import ClientLink
from zkpy.replica.office import ClientSide
from zkpy.state.apply import ReplicatedState
from zkpy.state.digest import Change


class Reading:
    """Reads for those who do not mind that they are old."""

    def __init__(self, state: ReplicatedState, clients: ClientSide, now: int) -> None:
        self.now = now
        self._state = state
        self._clients = clients

    def submit(self, header: TxnHeader, opcode: int, body: object, identities: Identities) -> None:
        """Sessions open and close here, unwritten; everything else is refused."""
        if opcode == OpCode.CREATE_SESSION:
            assert isinstance(body, OpenSession)
            self._clients.opened(header.number, body.timeout_ms)
        elif opcode == OpCode.CLOSE_SESSION:
            self._clients.closed(header.number)
        else:
            self._clients.refused(header.number, ErrorCode.NOT_READ_ONLY)

    def claim(self, link: ClientLink, session: int, password: bytes) -> None:
        """A session of the ensemble may be read with, as long as its client knows it."""
        held = self._state.sessions.get(session)
        if held is None:
            self._clients.unheard_of(link.id, session)
        else:
            known = compare_digest(held.password, password)
            self._clients.claimed(link.id, session, held.timeout_ms if known else 0)

    def sync(self, number: int) -> None:
        self._clients.refused(number, ErrorCode.NOT_READ_ONLY)

    def receive(self, sid: int, message: Any) -> None:
        """Meant for an office that is gone."""

    def gone(self, sid: int) -> None:
        """Nobody's questions wait here."""

    def touched(self, sid: int, payload: bytes) -> None:
        """Likewise."""

    def left(self, session: int, heard_ms: int) -> None:
        """Likewise."""

    def ping_payload(self) -> bytes:
        return b""

    def decoded(self, entry: Entry) -> tuple[TxnHeader, Txn]:
        return txns.decode(entry.data)

    def applied(self, zxid: int, header: TxnHeader, txn: Txn, changes: list[Change]) -> None:
        """Nothing is pending here, and no session is tracked."""

    def progress(self) -> None:
        """Nothing waits for zab."""

    def handle_timer(self) -> None:
        """Nothing here has a time: a session ends with its connection."""

    def paused(self, pause_ms: int) -> None:
        """Likewise."""

    def deadline(self) -> int | None:
        return None

    def set_low_space(self, low: bool) -> None:
        """Nothing is written here."""

    def with_room(self) -> int | None:
        return None

    def session_deadlines(self) -> None:
        return None

    def proposal_sizes(self) -> tuple[int, int, int] | None:
        return None

    def flush(self) -> None:
        """Nothing is collected."""
