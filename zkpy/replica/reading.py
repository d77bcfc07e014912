"""The office of a member without a quorum that still serves reads (`readonlymode.enabled`).

Only clients that asked for it come here.  Nothing is written: no transaction, no
zxid, no log (ZOOKEEPER-3526), and a session that begins here is this connection's
alone.
"""

from hmac import compare_digest

from wire.codes import ErrorCode, OpCode
from wire.records import OpenSession
from wire.txn import TxnHeader
from zkpy.pipeline.request import Identities
from zkpy.replica.links import ClientLink
from zkpy.replica.office import Bystander, ClientSide
from zkpy.state.apply import ReplicatedState


class Reading(Bystander):
    """Reads for those who do not mind that they are old."""

    def __init__(self, state: ReplicatedState, clients: ClientSide, now: int) -> None:
        super().__init__(now)
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
