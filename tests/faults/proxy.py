"""What lies between the members: TCP and UDP relays, one pair for each way from one to another.

Member i knows member j under the ports of `Relay(i, j)`, so that all that i dials or sends
passes there.  A blocked direction holds what comes, end of stream included, and lets it
through when it is free again, as TCP does behind a hole in the network; datagrams are lost.
Directions are (from, to); a connection carries both.
"""

import asyncio
import contextlib
from typing import Any, Final, cast

HOST: Final = "127.0.0.1"
PIECE_BYTES: Final = 1 << 16
Direction = tuple[int, int]


class Proxy:
    """All relays of one ensemble, and which directions are open."""

    def __init__(self, sids: list[int]) -> None:
        self._gates = {(a, b): _open_gate() for a in sids for b in sids if a != b}
        self.relays: dict[Direction, Relay] = {}
        self.held = 0
        """Pieces of streams that had to wait."""
        self.lost = 0
        """Datagrams."""

    async def start(self, quorum_ports: dict[int, int], election_ports: dict[int, int]) -> None:
        for way in self._gates:
            relay = Relay(self, way)
            await relay.start(quorum_ports[way[1]], election_ports[way[1]])
            self.relays[way] = relay

    async def stop(self) -> None:
        self.heal()
        for relay in self.relays.values():
            await relay.stop()
        await asyncio.sleep(0)  # what was closed is gone at the next turn

    def block(self, directions: list[Direction]) -> None:
        for way in directions:
            self._gates[way].clear()

    def heal(self) -> None:
        for gate in self._gates.values():
            gate.set()

    def is_open(self, way: Direction) -> bool:
        return self._gates[way].is_set()

    async def pass_through(self, way: Direction) -> None:
        if not self.is_open(way):
            self.held += 1
            await self._gates[way].wait()


def _open_gate() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


class Relay:
    """One member's way to another; `tcp_port` and `udp_port` are what it is told."""

    def __init__(self, proxy: Proxy, way: Direction) -> None:
        self.way = way
        self.tcp_port = self.udp_port = 0
        self._proxy = proxy
        self._server: asyncio.Server | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self._links: dict[asyncio.Task[None], None] = {}

    async def start(self, quorum_port: int, election_port: int) -> None:
        loop = asyncio.get_running_loop()
        self._target = quorum_port
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.tcp_port = self._server.sockets[0].getsockname()[1]
        self._udp, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self._proxy, self.way, election_port), (HOST, 0)
        )
        self.udp_port = self._udp.get_extra_info("sockname")[1]

    async def stop(self) -> None:
        assert self._server is not None and self._udp is not None
        self._server.close()
        self._udp.close()
        links = list(self._links)
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links[task] = None
        # Whoever ends it: a reset, a member that does not listen, or the end of the test.
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._carry(reader, writer)
        writer.close()
        self._links.pop(task, None)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = self.way, self.way[::-1]
        await self._proxy.pass_through(there)
        far_reader, far_writer = await asyncio.open_connection(HOST, self._target)
        pumps = [
            asyncio.create_task(self._pump(there, reader, far_writer)),
            asyncio.create_task(self._pump(back, far_reader, writer)),
        ]
        try:
            # A link of members that one side has ended is at its end.
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            far_writer.close()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self, way: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        data = b"to begin with"
        while data:
            try:
                data = await reader.read(PIECE_BYTES)
            except OSError:
                data = b""
            await self._proxy.pass_through(way)
            writer.write(data)
            await writer.drain()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, proxy: Proxy, way: Direction, port: int) -> None:
        self._proxy = proxy
        self._way = way
        self._port = port
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, sender: tuple[str | Any, int]) -> None:
        assert self._transport is not None
        if self._proxy.is_open(self._way):
            self._transport.sendto(data, (HOST, self._port))
        else:
            self._proxy.lost += 1

    def error_received(self, error: Exception) -> None:
        """Nobody is there just now: as good as lost on the way."""
