"""Client connections over TLS: who may have one, until a `ClientLink` speaks over it.

A plain connection never comes here, unless its port takes both.

A connection counts (`maxClientCnxns`, `maxCnxns`) from its first packet on, while its handshake is
still under way.  How many handshakes there may be, and how long one may take, is bounded:
they cost more than anything else that a stranger can ask for.

A session of TLS 1.2 can be resumed while a connection of it is there (see `sealed`).  The
certificate is not shown again then, so its end is looked at here.

With `client.portUnification` a port serves both, and the first byte tells: 0x16 begins a TLS
handshake, and neither a ConnectRequest of less than 352 MiB nor a four-letter word.  A plain
connection is then given to its link for good.
"""

import asyncio
import ssl
from datetime import UTC, datetime
from typing import cast

from zkpy.server import certificates
from zkpy.server.clients import ClientLink, Clients
from zkpy.server.complaints import FailureLog
from zkpy.server.sealed import TLS_HANDSHAKE, Sealed
from zkpy.server.sockets import plain_host
from zkpy.server.tls import Certificates


def now() -> datetime:
    return datetime.now(UTC)


class Gate:
    """What connections of one port, or two, have in common."""

    def __init__(self, clients: Clients, certificates: Certificates) -> None:
        self.clients = clients
        self.certificates = certificates
        self.failures = FailureLog()
        self.handshakes = 0
        """Under way."""

    def enter(self, *, may_be_plain: bool) -> "TlsConnection":
        """What a new connection meets."""
        return TlsConnection(self, may_be_plain=may_be_plain)

    def fail(self, address: str, why: str) -> None:
        self.clients.metrics.handshakes_failed += 1
        self.failures.tell(f"TLS handshake with {address} failed: {why}")

    def has_room(self) -> bool:
        """Whether one more handshake may begin."""
        bound = self.clients.limits.tls_handshakes_max
        if 0 < bound <= self.handshakes:
            self.clients.metrics.handshakes_exceeded += 1
            self.failures.tell(f"closing a connection: {bound} TLS handshakes are under way")
            return False
        return True


class TlsConnection(Sealed):
    """One connection that speaks TLS, or, where it `may_be_plain`, is not known to yet."""

    __slots__ = ("_address", "_gate", "_host", "_may_be_plain", "_timer")

    def __init__(self, gate: Gate, *, may_be_plain: bool) -> None:
        super().__init__()
        self._gate = gate
        self._may_be_plain = may_be_plain
        self._host = ""
        """Empty unless it is admitted, and not yet its link's."""
        self._address = ("", 0)
        self._timer: asyncio.TimerHandle | None = None

    # --- from the event loop -------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        clients = self._gate.clients
        peer = transport.get_extra_info("peername")
        if clients.driver.stopped or not peer:  # peer: it left before it was looked at
            self._socket.abort()
            return
        host = plain_host(peer[0])
        if not clients.admit(host):
            self._socket.abort()
            return
        self._address = (host, peer[1])
        self._host = host
        clients.entering.add(self)
        limits = clients.limits
        bound_ms = limits.tls_detection_ms if self._may_be_plain else limits.handshake_ms
        self._wait(bound_ms, "it said nothing")

    def data_received(self, data: bytes) -> None:
        if self._tls is None and self._host:
            if data[0] == TLS_HANDSHAKE:
                self._begin()
            elif self._may_be_plain:
                self._be_plain(data)
            else:
                self.refused("it does not speak TLS")
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()
        super().connection_lost(exc)

    # --- before there is a link -----------------------------------------------------

    def _wait(self, bound_ms: int, what: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(bound_ms / 1000, self._expire, f"{what} for {bound_ms} ms")

    def _expire(self, why: str) -> None:
        self._timer = None
        self.refused(why)

    def _begin(self) -> None:
        if not self._gate.has_room():
            self._abort_entry()
            return
        self._gate.handshakes += 1
        self.begin(self._gate.certificates.context, server_side=True)
        self._wait(self._gate.clients.limits.handshake_ms, "it has been going on")

    def secured(self, tls: ssl.SSLObject) -> None:
        """From now on there is a link."""
        certificate = tls.getpeercert(True)
        bound = self._gate.clients.limits.identity_bytes_max // 2
        try:
            shown = None if certificate is None else certificates.read(certificate)
        except certificates.CertificateError as why:
            self.refused(f"the client's certificate cannot be read: {why}")
            return
        if shown is not None and tls.session_reused and shown.ends < now():
            # OpenSSL has looked at it only when the session began.
            self.refused("the certificate of the session that it resumes has expired")
            return
        subject = None if shown is None else shown.subject
        if subject is not None and len(subject.encode()) > bound:
            self.refused(f"the subject of the client's certificate is longer than {bound} bytes")
            return
        self._enter()
        link = self._above = ClientLink(self._gate.clients)
        link.secure = True
        link.begin(self, *self._address, subject)

    def _be_plain(self, data: bytes) -> None:
        assert self._socket is not None
        self._enter()
        link = ClientLink(self._gate.clients)
        self._socket.set_protocol(link)
        link.begin(self._socket, *self._address)
        self._socket = None
        link.data_received(data)

    def _enter(self) -> None:
        """Its place is the link's now, which gives it back."""
        self._host = ""
        self._gate.clients.entering.discard(self)
        self._end_handshake()

    def _leave(self) -> None:
        """Its place is free, if it still has one."""
        if self._host:
            host = self._host
            self._enter()
            self._gate.clients.leave(host)

    def _end_handshake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._tls is not None:
            self._gate.handshakes -= 1

    def refused(self, why: str) -> None:
        if not self._host:
            return
        host, port = self._address
        self._gate.fail(f"{host}:{port}", why)
        self._abort_entry()

    def tell(self, text: str) -> None:
        self._gate.failures.tell(text)

    def _abort_entry(self) -> None:
        self._leave()
        self._tls = None
        if self._socket is not None:
            self._socket.close()
