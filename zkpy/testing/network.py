"""The simulated network: byte streams and datagrams between hosts, and what befalls them.

A *host* is a number: positive for members, negative for clients.  A `Socket` is one end of
a connection; what is sent arrives whole, in order, after a delay, or not at all:

    blocked direction   data waits, as TCP's retransmissions do, and arrives late after healing
    cut                 a prefix of what was under way arrives, down to the byte, then a reset
    half-open           one end learns of the cut, the other one does not
    stall               one direction stands still for a while
    host off            nothing arrives, nothing is answered; once it is on again, a reset
    process dead        the other ends see the end of the stream, unless it is `silent`

Partitions are sets of blocked directions, counted, so that they may overlap.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from zkpy.testing.world import MS, SECOND, World

Direction = tuple[int, int]
"""From host, to host."""
Port = str
PEER: Final = "peer"
CLIENT: Final = "client"
CONNECT_TIMEOUT: Final = 1 * SECOND


@attrs.define(frozen=True)
class Conditions:
    """How the network behaves while nothing is broken.  Times in microseconds."""

    delay: int = 200
    jitter: int = 300
    spike_chance: float = 0.0
    """Of one piece of data to be late by up to `spike`."""
    spike: int = 50 * MS
    loss: float = 0.0
    """Datagrams only, as the next two."""
    copies: float = 0.0
    reordering: float = 0.0


def _ignore(*_arguments: object) -> None:
    """What a socket does before anybody listens to it."""


class Socket:
    """One end of a connection.

    `on_open()` when the other end accepted (dialling end only), `on_data(bytes)`,
    `on_close()` once, when the connection ended from the other side or by the network;
    never after `close` or `abort` of this end.
    """

    __slots__ = (
        "_held",
        "_last_at",
        "_network",
        "_order",
        "black",
        "doomed",
        "host",
        "on_close",
        "on_data",
        "on_open",
        "open",
        "other",
        "remote",
    )

    def __init__(self, network: "Network", host: int, remote: int, order: int) -> None:
        self.host = host
        self.remote = remote
        self.other: Socket | None = None
        self.open = True
        self.doomed = False
        """Cut: what is still under way to this end ends in a reset."""
        self.black = False
        """Cut without word: nothing that this end sends arrives."""
        self.on_open: Callable[[], None] = _ignore
        self.on_data: Callable[[bytes], None] = _ignore
        self.on_close: Callable[[], None] = _ignore
        self._network = network
        self._order = order
        self._last_at = 0
        self._held: deque[bytes | None] = deque()
        """What came to this end's door while its direction was blocked; None: end of stream."""

    def send(self, data: bytes) -> None:
        if self.open:
            self._network.carry(self, data)

    def close(self) -> None:
        """End the stream behind what was sent."""
        if self.open:
            self._network.forget(self)
            self._network.carry(self, None)

    def stall(self, duration: int) -> None:
        """What is sent from now on arrives no earlier than in `duration`."""
        self._last_at = max(self._last_at, self._network.world.now + duration)


class Network:
    """All hosts and what is between them."""

    def __init__(self, world: World, conditions: Conditions) -> None:
        self.world = world
        self.conditions = conditions
        self._rng = world.stream("network")
        self._blocked: dict[Direction, int] = {}
        self._off: dict[int, None] = {}
        self._listeners: dict[tuple[int, Port], Callable[[Socket], None]] = {}
        self._sockets: dict[int, dict[Socket, None]] = {}
        self._waiting: dict[Direction, dict[Socket, None]] = {}
        """Direction -> sockets at whose door something waits for it to be free."""
        self._datagrams: dict[int, Callable[[int, bytes], None]] = {}
        self._order = 0

    # --- hosts

    def listen(self, host: int, port: Port, accept: Callable[[Socket], None]) -> None:
        self._listeners[host, port] = accept

    def listen_datagrams(self, host: int, receive: Callable[[int, bytes], None]) -> None:
        self._datagrams[host] = receive

    def process_ends(self, host: int, *, silent: bool) -> None:
        """Its sockets are gone; the other ends are told, unless the whole machine died."""
        for port in (PEER, CLIENT):
            self._listeners.pop((host, port), None)
        self._datagrams.pop(host, None)
        for socket in list(self._sockets.pop(host, ())):
            socket.open = False
            if not silent:
                self.carry(socket, None)

    def switch(self, host: int, *, on: bool) -> None:
        """A machine without power answers nothing, not even that nobody listens."""
        if on:
            self._off.pop(host, None)
            self._free([pair for pair in self._waiting if host in pair])
        else:
            self._off[host] = None

    # --- partitions

    def block(self, directions: Iterable[Direction]) -> None:
        for direction in directions:
            self._blocked[direction] = self._blocked.get(direction, 0) + 1

    def unblock(self, directions: Iterable[Direction]) -> None:
        freed = []
        for direction in directions:
            left = self._blocked[direction] - 1
            if left:
                self._blocked[direction] = left
            else:
                del self._blocked[direction]
                freed.append(direction)
        self._free(freed)

    def is_blocked(self, source: int, target: int) -> bool:
        if self._off and (source in self._off or target in self._off):
            return True
        return (source, target) in self._blocked

    def _free(self, directions: Iterable[Direction]) -> None:
        for direction in directions:
            for socket in self._waiting.pop(direction, {}):
                self.world.after(self._rng.randrange(1, 200 * MS), self._release, socket)

    # --- streams

    def dial(self, source: int, target: int, port: Port) -> Socket:
        """Connect; the result's `on_open` or `on_close` tells how that went."""
        near = self._make(source, target)
        if self.is_blocked(source, target) or self.is_blocked(target, source):
            self.world.after(CONNECT_TIMEOUT, self._end, near)
        else:
            self.world.after(self._delay(), self._knock, near, port)
        return near

    def _knock(self, near: Socket, port: Port) -> None:
        accept = self._listeners.get((near.remote, port))
        if not near.open or near.doomed:
            return
        if accept is None:
            self.world.after(self._delay(), self._end, near)
            return
        far = self._make(near.remote, near.host)
        near.other, far.other = far, near
        far._last_at = self.world.now + self._delay()
        self.world.at(far._last_at, self._opened, near)
        accept(far)

    def _opened(self, near: Socket) -> None:
        if near.open:
            near.on_open()

    def _make(self, host: int, remote: int) -> Socket:
        self._order += 1
        socket = Socket(self, host, remote, self._order)
        self._sockets.setdefault(host, {})[socket] = None
        return socket

    def carry(self, source: Socket, data: bytes | None) -> None:
        """Send to the other end; FIFO."""
        target = source.other
        if target is None or source.black:
            return
        world = self.world
        if data is not None:
            world.mix(data)
        at = world.now + self._delay()
        if at <= source._last_at:
            at = source._last_at
        source._last_at = at
        world.at(at, self._arrive, target, data)

    def _arrive(self, target: Socket, data: bytes | None) -> None:
        if target._held or self.is_blocked(target.remote, target.host):
            target._held.append(data)
            self._waiting.setdefault((target.remote, target.host), {})[target] = None
        elif target.open:
            self._deliver(target, data)
        elif data is not None and target.other is not None and target.other.open:
            # Nobody is there any more: a reset goes back.
            self.world.after(self._delay(), self._reset, target.other)

    def _reset(self, socket: Socket) -> None:
        if self.is_blocked(socket.remote, socket.host):
            return
        self._end(socket)

    def _release(self, target: Socket) -> None:
        """What waited at the door comes in."""
        if self.is_blocked(target.remote, target.host):
            self._waiting.setdefault((target.remote, target.host), {})[target] = None
            return
        held, target._held = target._held, deque()
        for data in held:
            self._arrive(target, data)

    def _deliver(self, target: Socket, data: bytes | None) -> None:
        if target.doomed and data is not None and self._rng.random() < 0.6:
            data = data[: self._rng.randrange(len(data) + 1)]
            if data:
                target.on_data(data)
            data = None
        if data is None:
            self._end(target)
        else:
            target.on_data(data)

    def _end(self, socket: Socket) -> None:
        """The connection is over, and this end learns it."""
        if socket.open:
            self.forget(socket)
            socket.on_close()

    def forget(self, socket: Socket) -> None:
        socket.open = False
        self._sockets.get(socket.host, {}).pop(socket, None)

    # --- faults on one connection

    def sockets_of(self, host: int) -> list[Socket]:
        return list(self._sockets.get(host, ()))

    def cut(self, socket: Socket, *, half_open: bool = False) -> None:
        """End a connection somewhere within what is under way.

        Half-open: this end learns it, the other one does not, and hears nothing more.
        """
        other = socket.other
        socket.doomed = True
        self.world.after(self._delay(), self._end, socket)
        if other is None:
            return
        if half_open:
            socket.black = other.black = True
        else:
            other.doomed = True
            self.world.after(self._delay(), self._end, other)

    # --- datagrams

    def send_datagram(self, source: int, target: int, data: bytes) -> None:
        self.world.mix(data)
        rng, conditions = self._rng, self.conditions
        if self.is_blocked(source, target) or rng.random() < conditions.loss:
            return
        self._launch(source, target, data)
        while rng.random() < conditions.copies:
            self._launch(source, target, data)

    def _launch(self, source: int, target: int, data: bytes) -> None:
        delay = self._delay()
        if self._rng.random() < self.conditions.reordering:
            delay += self._rng.randrange(500 * MS)
        self.world.after(delay, self._land, source, target, data)

    def _land(self, source: int, target: int, data: bytes) -> None:
        receive = self._datagrams.get(target)
        if receive is not None and not self.is_blocked(source, target):
            receive(source, data)

    # --- delays

    def _delay(self) -> int:
        conditions, rng = self.conditions, self._rng
        delay = conditions.delay + int(rng.random() * conditions.jitter)
        if conditions.spike_chance and rng.random() < conditions.spike_chance:
            delay += int(rng.random() * conditions.spike)
        return delay


# --- shapes of partitions: the directions to block


def halves(rng: random.Random, hosts: list[int]) -> list[Direction]:
    """Two groups that do not hear each other."""
    shuffled = rng.sample(hosts, len(hosts))
    at = rng.randrange(1, len(hosts))
    return _both_ways(shuffled[:at], shuffled[at:])


def isolate(rng: random.Random, hosts: list[int]) -> list[Direction]:
    """One that hears nobody and is not heard."""
    one = rng.choice(hosts)
    return _both_ways([one], [host for host in hosts if host != one])


def one_way(rng: random.Random, hosts: list[int]) -> list[Direction]:
    """One that is not heard, or does not hear: by one other or by all."""
    one = rng.choice(hosts)
    others = [host for host in hosts if host != one]
    if rng.random() < 0.5:
        others = [rng.choice(others)]
    out = [(one, other) for other in others]
    return out if rng.random() < 0.5 else [(b, a) for a, b in out]


def bridge(rng: random.Random, hosts: list[int]) -> list[Direction]:
    """Two groups that only one member can see both of."""
    shuffled = rng.sample(hosts, len(hosts))
    middle = 1 + (len(hosts) - 1) // 2
    return _both_ways(shuffled[1:middle], shuffled[middle:])


def swizzle(rng: random.Random, hosts: list[int]) -> list[Direction]:
    """Some links, each direction by itself."""
    pairs = [(a, b) for a in hosts for b in hosts if a != b]
    return rng.sample(pairs, rng.randrange(1, len(pairs)))


def _both_ways(left: list[int], right: list[int]) -> list[Direction]:
    return [pair for a in left for b in right for pair in ((a, b), (b, a))]


SHAPES: Final[dict[str, Callable[[random.Random, list[int]], list[Direction]]]] = {
    "halves": halves,
    "isolate": isolate,
    "one way": one_way,
    "bridge": bridge,
    "swizzle": swizzle,
}
