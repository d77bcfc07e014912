"""Client connections over TCP: who may connect, and how much may wait for whom.

In: bytes from a socket, to `Driver.receive` as they are.  Out: what the driver
sends, one write per pass.

Back-pressure works in both directions.  A client that does not read is not read from
either, what it asked for already has to wait, and it is dropped when more than
`output_bytes_max` waits for it (watch events come without being asked for).  A server
with too much outstanding stops reading from those who send, through `hold` and
`release`.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final, cast

from zkpy.admin.metrics import Metrics
from zkpy.limits import Limits
from zkpy.server.driver import Driver
from zkpy.server.sockets import keep_alive, plain_host
from zkpy.summary import Summary

log = logging.getLogger("zkpy.server")

WRITE_HIGH_BYTES: Final = 1024 * 1024
"""Unsent bytes at which a client counts as not reading: more than the largest usual reply."""
WRITE_LOW_BYTES: Final = 256 * 1024
CLOSE_LINGER_S: Final = 5.0
"""How long a closed connection may take to accept its last bytes."""


class Clients:
    """All client connections of one server."""

    def __init__(
        self, driver: Driver, limits: Limits, metrics: Metrics, *, keepalive: bool = False
    ) -> None:
        self.driver = driver
        self.limits = limits
        self.metrics = metrics
        self.keepalive = keepalive
        self.links: dict[int, ClientLink] = {}
        self._by_host: dict[str, int] = {}
        self._warned: dict[str | None, None] = {}
        """Addresses that have all they may; None: there is no room for anybody."""
        self.entering: set[asyncio.Transport] = set()
        """Connections that are admitted, and not yet among `links`: they speak of TLS first."""
        self._servers: list[asyncio.Server] = []

    async def listen(
        self,
        sockets: list[socket.socket],
        backlog: int,
        enter: Callable[[], asyncio.Protocol] | None = None,
    ) -> None:
        """`enter` makes what a new connection meets; a `ClientLink`, if it is not given."""
        loop = asyncio.get_running_loop()
        factory = enter or (lambda: ClientLink(self))
        for each in sockets:
            # Two may be bound to one port; here the second fails, which uvloop keeps to itself.
            each.listen(backlog)
            server = await loop.create_server(factory, sock=each, backlog=backlog)
            self._servers.append(server)

    def stop_listening(self) -> None:
        for server in self._servers:
            server.close()
        for connection in list(self.entering):
            connection.abort()

    def admit(self, host: str) -> bool:
        """Whether one more connection from `host` fits; it counts if so."""
        limits = self.limits
        if 0 < limits.connections_max <= len(self.links) + len(self.entering):
            self._refuse(None, f"refusing connections: maxCnxns is {limits.connections_max}")
            return False
        if 0 < limits.connections_per_address_max <= self._by_host.get(host, 0):
            bound = f"maxClientCnxns is {limits.connections_per_address_max} for one address"
            self._refuse(host, f"refusing connections from {host}: {bound}")
            return False
        self._by_host[host] = self._by_host.get(host, 0) + 1
        return True

    def _refuse(self, host: str | None, text: str) -> None:
        """Told once, until there is room again: refusals come in floods."""
        self.metrics.connections_rejected += 1
        if host not in self._warned:
            self._warned[host] = None
            log.warning("%s", text)

    def leave(self, host: str) -> None:
        self._by_host[host] -= 1
        if not self._by_host[host]:
            del self._by_host[host]
        self._warned.pop(host, None)
        self._warned.pop(None, None)

    def latency(self) -> Summary:
        """Of all connections, those that are gone included."""
        total = Summary()
        for each in (self.metrics.latency, *(link.latency for link in self.links.values())):
            total.merge(each)
        return total

    def fold_latency(self) -> None:
        """Let the connections begin anew; the server's figure stays."""
        for link in self.links.values():
            self.metrics.latency.merge(link.latency)
            link.latency.reset()


class ClientLink(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_choked",
        "_clients",
        "_driver",
        "_held",
        "_linger",
        "_transport",
        "address",
        "answered_ns",
        "host",
        "latency",
        "number",
        "reading",
        "received_before",
        "secure",
        "sent_before",
        "subject",
        "waiting_since",
    )

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._driver = clients.driver
        self._transport: asyncio.Transport | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._choked = False
        self._held = False
        self.number = 0
        """0 if it was not admitted."""
        self.host = ""
        self.address = ""
        """`host:port`"""
        self.secure = False
        """Whether it speaks over TLS."""
        self.subject: str | None = None
        self.reading = True
        self.waiting_since = 0
        self.answered_ns = 0
        self.latency = Summary()
        self.received_before = self.sent_before = 0
        """Packets counted when `crst` was last given: they count no more."""

    # --- from the event loop ----------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if self._driver.stopped or not peer:  # peer: it left before it was looked at
            self._transport.abort()
            return
        host = plain_host(peer[0])
        if not self._clients.admit(host):
            self._transport.abort()
            return
        self.begin(self._transport, host, peer[1])

    def begin(
        self, transport: asyncio.Transport, host: str, port: int, subject: str | None = None
    ) -> None:
        """Of a connection that is admitted."""
        self._transport = transport
        self.host = host
        self.address = f"{host}:{port}"
        self.subject = subject
        transport.set_write_buffer_limits(WRITE_HIGH_BYTES, WRITE_LOW_BYTES)
        if self._clients.keepalive:
            keep_alive(transport.get_extra_info("socket"))
        self.number = self._driver.up(self)
        self._clients.links[self.number] = self

    def data_received(self, data: bytes) -> None:
        self._driver.receive(self, data)

    def eof_received(self) -> None:
        """Not where this server closed: a client that ends its session waits for that."""
        self._clients.metrics.connections_lost += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self.number:
            del self._clients.links[self.number]
            self._clients.leave(self.host)
            self._clients.metrics.latency.merge(self.latency)
            self._driver.down(self)

    def pause_writing(self) -> None:
        self._choke(True)

    def resume_writing(self) -> None:
        self._choke(False)

    def _choke(self, choked: bool) -> None:
        self._choked = choked
        self._update_reading()
        self._driver.choke(self, choked)

    # --- from the driver --------------------------------------------------------

    def send(self, data: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        transport.write(data)
        if self._choked:
            self._check_output(transport)

    def close(self) -> None:
        transport = self._transport
        if transport is None:
            return
        transport.close()
        if transport.get_write_buffer_size():
            loop = asyncio.get_running_loop()
            self._linger = loop.call_later(CLOSE_LINGER_S, transport.abort)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def hold(self) -> None:
        self._held = True
        self._update_reading()

    def release(self) -> None:
        self._held = False
        self._update_reading()

    def _update_reading(self) -> None:
        wanted = not (self._choked or self._held)
        transport = self._transport
        if wanted == self.reading or transport is None or transport.is_closing():
            return
        self.reading = wanted
        if wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def _check_output(self, transport: asyncio.Transport) -> None:
        waiting = transport.get_write_buffer_size()
        if waiting > self._clients.limits.output_bytes_max:
            self._clients.metrics.connections_dropped += 1
            log.warning("dropping %s: it left %d bytes unread", self.address, waiting)
            self._transport = None  # what is still sent in this turn of the loop is nobody's
            transport.abort()
