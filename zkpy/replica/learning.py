"""The office of those who do not lead: pass everything on to whoever does."""

from collections.abc import Callable
from typing import Any, Final

from wire import upper
from wire.txn import TxnHeader
from zkpy.pipeline.request import Identities
from zkpy.replica.links import ClientLink, LinkTable
from zkpy.replica.office import SESSION, Bystander, ClientSide
from zkpy.zab.zab import Zab

FORWARD_BYTES_MAX: Final = 1 << 20
"""Of a message with several writes."""


class Learning(Bystander):
    """Follower and observer: the leader judges, owns sessions and answers syncs.

    Also a member that looks for a leader: `leader` is None then, no client is
    served, and so nothing is asked of it.
    """

    def __init__(
        self,
        leader: int | None,
        incarnation: int,
        zab: Zab,
        clients: ClientSide,
        links: LinkTable,
        now: int,
    ) -> None:
        super().__init__(now)
        self._leader = leader
        self._incarnation = incarnation
        self._zab = zab
        self._clients = clients
        self._links = links
        self._low_space = False
        """As the leader was told."""
        self._writes: list[upper.ForwardedWrite] = []
        self._left: dict[int, None] = {}
        """Sessions heard from since the last ping whose connection is gone."""

    def submit(self, header: TxnHeader, opcode: int, body: Any, identities: Identities) -> None:
        self._writes.append(
            upper.ForwardedWrite(
                header.number,
                opcode,
                header.session,
                header.cxid,
                body,
                identities,
            )
        )

    def flush(self) -> None:
        """All writes of the pass as one message, unless that is a long one."""
        if self._writes:
            writes, self._writes = self._writes, []
            self._forward(writes)

    def _forward(self, writes: list[upper.ForwardedWrite]) -> None:
        assert self._leader is not None, "no client is served without a leader"
        data = upper.encode(upper.Forward(self._incarnation, writes))
        if len(data) > FORWARD_BYTES_MAX and len(writes) > 1:
            middle = len(writes) // 2
            self._forward(writes[:middle])
            self._forward(writes[middle:])
        else:
            self._zab.send(self._leader, data)

    def claim(self, link: ClientLink, session: int, password: bytes) -> None:
        self._send(upper.Claim(link.id, session, password))

    def sync(self, number: int) -> None:
        self._send(upper.Sync(number))

    def _send(self, message: upper.Message) -> None:
        """Behind the writes that came before it: the leader must see them in this order."""
        self.flush()
        assert self._leader is not None, "no client is served without a leader"
        self._zab.send(self._leader, upper.encode(message))

    def ping_payload(self) -> bytes:
        """Sessions heard from since the last ping; the leader alone expires them."""
        heard, self._left = self._left, {}
        for link in self._links.by_session.values():
            if link.heard_ms != link.relayed_ms:
                link.relayed_ms = link.heard_ms
                heard[link.session] = None
        return b"".join(map(SESSION.pack, heard))

    def left(self, session: int, heard_ms: int) -> None:
        self._left[session] = None

    def set_low_space(self, low: bool) -> None:
        """The leader's disk decides, but who leads next?  So it is told."""
        if self._leader is not None and low is not self._low_space:
            self._low_space = low
            self._send(upper.Room(low))

    def receive(self, sid: int, message: Any) -> None:
        if sid == self._leader:
            handler = _HANDLERS.get(type(message))
            if handler is not None:
                handler(self, message)

    def _on_claimed(self, message: upper.Claimed) -> None:
        self._clients.claimed(message.link, message.session, message.timeout_ms)

    def _on_synced(self, message: upper.Synced) -> None:
        self._clients.synced(message.number, message.zxid)

    def _on_refused(self, message: upper.Refused) -> None:
        self._clients.refused(message.number, message.code)


_HANDLERS: Final[dict[type, Callable[[Learning, Any], None]]] = {
    upper.Claimed: Learning._on_claimed,
    upper.Synced: Learning._on_synced,
    upper.Refused: Learning._on_refused,
}
