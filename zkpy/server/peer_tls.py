"""Links between members over TLS: whose certificate proves to be which member.

Both ends show a certificate of an authority that the other trusts (`ssl.quorum.trustStore`).  With
`ssl.quorum.hostnameVerification` it must name a host of the `server.N` line of the member that
it claims to be; so one member cannot pose as another.  Nothing is looked up for that, forwards or
backwards: names are compared as they are written.  Who is dialled has to prove who it is before a
byte of it is read; who calls must be one of the members at least, and its Hello then says which.

A guest (see `addresses`) has no line yet that could name a host: any certificate of that authority
will do for it.

With `portUnification` those who call may speak without TLS: its first byte, 0x16, begins no
Hello.  Whether TLS is spoken to those who are called is `sslQuorum`'s to say.
"""

import asyncio
import ssl
from functools import partial
from typing import Final, cast

from wire.link import Side
from zkpy.server.addresses import Directory
from zkpy.server.certificates import CertificateError, Host, host_of, hosts_of
from zkpy.server.peers import GREETING_S, STRANGERS_MAX, PeerLink, Peers
from zkpy.server.sealed import TLS_HANDSHAKE, Sealed
from zkpy.server.sockets import plain_host
from zkpy.server.tls import Certificates

SHOWN_MAX: Final = 200
"""Letters of a certificate's names in a log line."""


class PeerSecurity:
    """How one server speaks TLS with the others."""

    def __init__(
        self,
        certificates: Certificates,
        directory: Directory,
        *,
        dials_tls: bool,
        takes_plain: bool,
    ) -> None:
        self.certificates = certificates
        self.directory = directory
        self.takes_plain = takes_plain
        self._dials_tls = dials_tls

    def enter(self, peers: Peers, link: PeerLink) -> asyncio.Protocol:
        """What a new connection meets first."""
        if link.wire.side is Side.LEARNER and not self._dials_tls:
            return link
        return PeerEntrance(self, peers, link)

    def proves(self, names: frozenset[Host], sid: int) -> bool:
        """Whether a certificate with these names may be that server's."""
        if not self.certificates.tls.hostnames:
            return True
        spec = self.directory.specs.get(sid)
        if spec is None:
            return self.directory.hosts_guests
        return any(host_of(address.host) in names for address in spec.addresses)

    def is_welcome(self, names: frozenset[Host]) -> bool:
        """Whether there is anybody whom such a certificate may belong to."""
        if self.directory.hosts_guests:
            return True
        return any(self.proves(names, sid) for sid in self.directory.specs)


class PeerEntrance(Sealed):
    """One connection until it is secured; then it is the transport of its link."""

    __slots__ = ("_dialled", "_host", "_link", "_peers", "_security", "_timer")

    def __init__(self, security: PeerSecurity, peers: Peers, link: PeerLink) -> None:
        super().__init__()
        self._security = security
        self._peers = peers
        self._link: PeerLink | None = link
        """None once it goes by itself, or is refused."""
        self._dialled = link.wire.side is Side.LEARNER
        self._host = ""
        self._timer: asyncio.TimerHandle | None = None

    # --- from the event loop ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        peers, peer = self._peers, transport.get_extra_info("peername")
        full = len(peers.strangers) + len(peers.entering) >= STRANGERS_MAX and not self._dialled
        if peers.stopped or not peer or full:
            self._socket.abort()
            return
        self._host = plain_host(peer[0])
        peers.entering.add(self)
        self._timer = asyncio.get_running_loop().call_later(GREETING_S, self._give_up)
        if self._dialled and self._link is not None:
            self._link.await_transport(self)
            context = self._security.certificates.dialling
            assert context is not None, "members' certificates are for both sides"
            self.begin(context, server_side=False)
            self.shake_hands()

    def data_received(self, data: bytes) -> None:
        if self._tls is None and self._link is not None:
            if data[0] == TLS_HANDSHAKE:
                self.begin(self._security.certificates.context, server_side=True)
            elif self._security.takes_plain:
                self._be_plain(self._link, data)
            else:
                self.refused("it does not speak TLS")
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        link = self._leave()
        super().connection_lost(exc)
        if link is not None and self._dialled:  # somebody waits for it
            link.connection_lost(exc)

    # --- before the link ----------------------------------------------------------------

    def _give_up(self) -> None:
        self.refused(f"it was not secured in {GREETING_S:g} s")

    def secured(self, tls: ssl.SSLObject) -> None:
        security, link = self._security, self._link
        if link is None:
            return
        if tls.session_reused:  # no member of ours asks for that
            self.refused("it resumes a session, instead of showing its certificate")
            return
        try:
            names = hosts_of(tls.getpeercert(True) or b"")
        except CertificateError as why:
            self.refused(f"its certificate cannot be read: {why}")
            return
        if link.sid is not None and not security.proves(names, link.sid):
            self.refused(f"its certificate, of {show(names)}, names no host of server {link.sid}")
        elif not security.is_welcome(names):
            self.refused(f"its certificate, of {show(names)}, names no host of any server")
        else:
            link.proves = partial(security.proves, names)
            self._leave()
            self._above = link
            link.connection_made(self)

    def _be_plain(self, link: PeerLink, data: bytes) -> None:
        assert self._socket is not None
        self._leave()
        self._socket.set_protocol(link)
        link.connection_made(self._socket)
        self._socket = None
        link.data_received(data)

    def _leave(self) -> PeerLink | None:
        """The link, unless it goes by itself already."""
        self._peers.entering.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        link, self._link = self._link, None
        return link

    def tell(self, text: str) -> None:
        self._peers.complain(text)

    def refused(self, why: str) -> None:
        link = self._leave()
        if link is None:
            return
        if self._dialled:  # told once it is closed
            self._link = link
        whom = f"server {link.sid} ({self._host})" if link.sid is not None else self._host
        self._peers.complain(f"no link with {whom}, over TLS: {why}")
        self._tls = None
        if self._socket is not None:
            self._socket.close()


def show(names: frozenset[Host]) -> str:
    """For the log: in one line, which is not too long, whatever is in the certificate."""
    text = ", ".join(sorted(map(str, names))) or "nobody"
    plain = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    return plain if len(plain) <= SHOWN_MAX else f"{plain[:SHOWN_MAX]}..."
