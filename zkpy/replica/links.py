"""The client connections of this server: what each has said and is owed.

A link is one TCP connection, named by a number that the shell chooses.  Bytes for
it collect in `out` during a pass and leave as one write.
"""

from collections import deque

from wire.client import ClientConnection, Request, Role
from zkpy.pipeline.auth import identities_of_address
from zkpy.pipeline.digest_md5 import Exchange
from zkpy.pipeline.gate import Waiting
from zkpy.pipeline.request import Identities
from zkpy.replica.counts import ResponseSizes


class ClientLink:
    """One connection, from accept to close."""

    __slots__ = (
        "address",
        "barred",
        "closed",
        "connection",
        "heard_ms",
        "held",
        "host",
        "id",
        "identities",
        "identity_bytes",
        "last_head",
        "last_opcode",
        "last_xid",
        "nobody",
        "opened_ms",
        "out",
        "password",
        "queue",
        "received",
        "relayed_ms",
        "resuming",
        "sasl",
        "sent",
        "session",
        "timeout_ms",
        "wrote",
    )

    def __init__(self, link: int, address: str, frame_bytes_max: int, now: int) -> None:
        self.id = link
        self.address = address
        """`host:port` of the other end."""
        self.connection = ClientConnection(Role.SERVER, frame_bytes_max)
        self.session = 0
        """0 until the handshake is answered."""
        self.timeout_ms = 0
        self.password = b""
        """What the client claims its session with, while the claim is under way."""
        self.host = address.rpartition(":")[0]
        self.identities: Identities = identities_of_address(self.host)
        self.identity_bytes = 0
        """Of those that it was given by an auth."""
        self.sasl: Exchange | None = None
        """Its attempt to authenticate by SASL: a connection has one."""
        self.nobody = False
        """It has still to authenticate itself: whatever else it asks ends it."""
        self.queue: deque[Waiting] = deque()
        """Unanswered requests, oldest first; empty means that a read may be answered at once."""
        self.held: deque[Request] = deque()
        """Requests not even looked at yet: behind a barrier, or beyond the link's share."""
        self.barred = False
        """A barrier is in the queue: a sync, an auth behind a write (see `Clients._go_on`)."""
        self.resuming = False
        """What was held back is being served."""
        self.out: list[bytes] = []
        self.opened_ms = now
        self.heard_ms = now
        self.relayed_ms = -1
        """The value of `heard_ms` that the leader was told of."""
        self.closed = False
        self.last_opcode = 0
        self.last_xid = -1
        self.last_head = b""
        """Of the last frame sent: size, xid, zxid (the handshake's answer has none)."""
        self.received = 0
        self.sent = 0
        self.wrote = False
        """A write is answered by what is in `out`."""


class LinkTable:
    """All links, by number and by session; what is to be written and closed in this pass."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self.by_id: dict[int, ClientLink] = {}
        self.by_session: dict[int, ClientLink] = {}
        self._dirty: list[ClientLink] = []
        self._closes: list[int] = []
        self.sizes = ResponseSizes()
        self.sent_by_closed = 0
        """Packets sent on connections that are gone."""

    def __len__(self) -> int:
        return len(self.by_id)

    def open(self, link: int, address: str, now: int) -> ClientLink:
        assert link not in self.by_id, "a link number is used once"
        opened = ClientLink(link, address, self._frame_bytes_max, now)
        self.by_id[link] = opened
        return opened

    def attach(self, link: ClientLink, session: int, timeout_ms: int) -> ClientLink | None:
        """The session is on this link from now on; the link that it leaves, if it was here."""
        before = self.by_session.get(session)
        self.by_session[session] = link
        link.session = session
        link.timeout_ms = timeout_ms
        return before if before is not link else None

    def emit(self, link: ClientLink, data: bytes) -> None:
        """Bytes for a client, after all that was emitted to it before."""
        if not link.out:
            self._dirty.append(link)
        link.out.append(data)

    def close(self, link: ClientLink) -> None:
        """Close from our side, once what was emitted is written."""
        if not link.closed:
            self._closes.append(link.id)
            self.drop(link)

    def drop(self, link: ClientLink) -> None:
        """The link is gone."""
        link.closed = True
        self.sent_by_closed += link.sent
        self.by_id.pop(link.id, None)
        if self.by_session.get(link.session) is link:
            del self.by_session[link.session]

    def heard_ms(self, session: int) -> int:
        """When the session's link here last said something; 0 if it has none here."""
        link = self.by_session.get(session)
        return link.heard_ms if link is not None else 0

    def discard_output(self) -> None:
        """What was to be written is not to be said any more; closes stay."""
        for link in self._dirty:
            link.out.clear()
            link.wrote = False
        self._dirty = []

    def take_output(self) -> tuple[list[tuple[int, bytes]], list[int], list[int]]:
        """(bytes per link, those of these links to which a write was answered, links to close),
        since the last call."""
        clients: list[tuple[int, bytes]] = []
        updated: list[int] = []
        for link in self._dirty:
            out = link.out
            clients.append((link.id, out[0] if len(out) == 1 else b"".join(out)))
            if link.wrote:
                updated.append(link.id)
                link.wrote = False
            self.sizes.add(out, 0 if link.sent else 1)
            link.sent += len(out)
            link.last_head = out[-1][:16]
            if link.closed:
                self.sent_by_closed += len(out)
            out.clear()
        closes = self._closes
        self._dirty, self._closes = [], []
        return clients, updated, closes
