"""The simulator's clients on real sockets and real time, so that its checkers judge real runs.

`LiveWorld` is a `World` whose clock is the machine's and whose heap is the event loop's;
`LiveNetwork` dials the members' client ports.  Whatever `zkpy.testing.workload.Client` does
in a simulation it does here, and what it records is a `History` like any other.

Times are those of one process and one clock.  `now` stands still within one callback: a
request counts as sent no later than it was, a reply as come no earlier.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from zkpy.testing.network import Conditions, Network, Port, Socket
from zkpy.testing.world import Action, Violation, World

MICROSECOND: Final = 1e-6
HOST: Final = "127.0.0.1"


class LiveWorld(World):
    """Made inside a running event loop."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.violation: Violation | None = None
        """The first one that a client met while it ran."""
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic_ns()

    def look(self) -> int:
        """The clock, read anew."""
        self.now = (time.monotonic_ns() - self._began) // 1000
        return self.now

    def at(self, when: int, action: Action, *arguments: Any) -> None:
        delay = max(0, when - self.now) * MICROSECOND
        self._loop.call_later(delay, self.enter, action, *arguments)

    def enter(self, action: Callable[..., object], *arguments: Any) -> None:
        """Carry out an action as of now; nothing more once a client met a violation."""
        self.look()
        if self.violation is None:
            try:
                action(*arguments)
            except Violation as violation:
                self.violation = violation


class LiveNetwork(Network):
    """Connections to servers by their number."""

    def __init__(self, world: LiveWorld, ports: dict[int, int]) -> None:
        super().__init__(world, Conditions())
        self.live = world
        self.ports = ports

    def dial(self, source: int, target: int, port: Port) -> Socket:
        line = Line(self, source, target)
        line.start(self.ports[target])
        return line


class Line(Socket):
    """The client's end of a TCP connection."""

    __slots__ = ("_dialling", "_live", "_transport")

    def __init__(self, network: LiveNetwork, host: int, remote: int) -> None:
        super().__init__(network, host, remote, 0)
        self._live = network.live
        self._transport: asyncio.Transport | None = None

    def start(self, port: int) -> None:
        self._dialling = asyncio.get_running_loop().create_task(self._dial(port))

    async def _dial(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Ends(self), HOST, port)
        except OSError:
            self.ended()

    def opened(self, transport: asyncio.Transport) -> None:
        if not self.open:
            transport.abort()
            return
        self._transport = transport
        self._live.enter(self.on_open)

    def came(self, data: bytes) -> None:
        if self.open:
            self._live.enter(self.on_data, data)

    def ended(self) -> None:
        if self.open:
            self.open = False
            self._live.enter(self.on_close)

    def send(self, data: bytes) -> None:
        if self.open and self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.close()


class _Ends(asyncio.Protocol):
    def __init__(self, line: Line) -> None:
        self._line = line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._line.opened(transport)

    def data_received(self, data: bytes) -> None:
        self._line.came(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._line.ended()
