"""Learner links over TCP, on the quorum port: dialled to the leader, accepted from learners.

In: bytes of other members, to the core as messages with their server id.  Out: the
core's messages, all that one pass has for a member in one write.

Which links there are is the core's to say, and these rules hold in the simulator too:

- `dial()` names the member to which a link is kept, and dialled again until it stands.  One
  attempt at a time; when the name changes the old attempt is given up.
- Both sides say Hello.  No Hello for `GREETING_S`: closed (the other end may be half gone).
- A link that comes up is kept only if (we dialled it) == (`dial()` is that member), or two
  members would each take the other for the leader.  Otherwise it is closed, and the core never
  hears of it.  The newest link per server id wins.
- Each `link_up` is followed by exactly one `link_down`, whoever ends the link.

Silence of a link that stands is the core's affair (pings, syncLimit).  A member that
takes nothing is dropped here: when too much waits for it, or nothing of that moves.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, Protocol, cast

from wire.errors import RemoteProtocolError
from wire.link import PeerConnection, Phase, Side
from wire.peer import Hello
from zkpy.limits import Limits
from zkpy.server.addresses import Directory
from zkpy.server.clock import monotonic_ms
from zkpy.server.complaints import Complaints
from zkpy.server.sockets import Place, keep_alive, plain_host

log = logging.getLogger("zkpy.server")

CONNECT_S: Final = 1.0
"""For each address of the leader."""
GREETING_S: Final = 2.0
REDIAL_MIN_S: Final = 0.05
REDIAL_MAX_S: Final = 1.0
STRANGERS_MAX: Final = 64
"""Accepted connections that have not said Hello."""


class Inputs(Protocol):
    """Where all goes that comes in: a `Driver`."""

    def link_up(self, sid: int) -> None: ...
    def link_down(self, sid: int) -> None: ...
    def receive_peer(self, sid: int, messages: list[object]) -> None: ...
    def halt(self, why: str) -> None: ...


class Peers:
    """All learner links of one server."""

    def __init__(
        self,
        driver: Inputs,
        directory: Directory,
        limits: Limits,
        *,
        dial: Callable[[], int | None],
        greeting: Callable[[], Hello],
        enter: Callable[["Peers", "PeerLink"], asyncio.Protocol] | None = None,
    ) -> None:
        """`enter` gives what the connection of a new link meets first: the link, without it."""
        self.driver = driver
        self.directory = directory
        self.limits = limits
        self.greeting = greeting
        self.up: dict[int, PeerLink] = {}
        """Links that the core knows of, by server id."""
        self.strangers: dict[PeerLink, None] = {}
        """Accepted, but without a Hello yet."""
        self.entering: set[asyncio.Transport] = set()
        """Connections of links that speak of TLS first."""
        self._enter = enter or (lambda peers, link: link)
        self._dial = dial
        self._target: int | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._servers: list[asyncio.Server] = []
        self.complain = Complaints().add
        self.stopped = False

    async def listen(self, sockets: Iterable[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        for each in sockets:
            server = await loop.create_server(
                lambda: self._enter(self, PeerLink(self, Side.LEADER)), sock=each
            )
            self._servers.append(server)

    def stop(self) -> None:
        """Cut off all links; the core hears no more of them."""
        self.stopped = True
        self._aim(None)
        for server in self._servers:
            server.close()
        for link in (*self.up.values(), *self.strangers):
            link.abort()
        for connection in list(self.entering):
            connection.abort()

    # --- from the driver --------------------------------------------------------

    def send(self, messages: Sequence[tuple[int, object]]) -> None:
        """One write per link.  What several links get is encoded once."""
        frames: dict[int, list[bytes]] = {}
        made: dict[int, bytes] = {}
        for sid, message in messages:
            link = self.up.get(sid)
            if link is None:
                continue
            frame = made.get(id(message))
            if frame is None:
                frame = made[id(message)] = link.wire.send(message)
            frames.setdefault(sid, []).append(frame)
        for sid, parts in frames.items():
            self.up[sid].write(parts[0] if len(parts) == 1 else b"".join(parts))

    def close(self, sid: int) -> None:
        """The core is done with that link: the last word about it is `link_down`."""
        link = self.up.get(sid)
        if link is not None:
            self.drop(link)

    def keep(self) -> None:
        """After each pass: the member to dial may be another one."""
        target = self._dial()
        if target != self._target:
            self._aim(target)

    # --- dialling ---------------------------------------------------------------

    def _aim(self, target: int | None) -> None:
        self._target = target
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
        if target is not None:
            self._dialling = asyncio.get_running_loop().create_task(self._keep_link(target))
            self._dialling.add_done_callback(self._dialling_ended)

    def _dialling_ended(self, task: asyncio.Task[None]) -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            log.critical("dialling failed", exc_info=failure)
            self.driver.halt("an internal error")

    async def _keep_link(self, sid: int) -> None:
        """Until it is cancelled: connect, stay while the link stands, try again."""
        delay = REDIAL_MIN_S
        while True:
            link = await self._connect(sid)
            if link is not None and await link.settle():
                delay = REDIAL_MIN_S
                await link.gone.wait()
            await asyncio.sleep(delay)
            delay = min(2 * delay, REDIAL_MAX_S)

    async def _connect(self, sid: int) -> "PeerLink | None":
        loop = asyncio.get_running_loop()
        for place in self.directory.quorum(sid):
            opened = await self._open(place)
            if opened is not None:
                link = PeerLink(self, Side.LEARNER, sid)
                await loop.create_connection(partial(self._enter, self, link), sock=opened)
                return link
        self.directory.look_again()
        return None

    async def _open(self, place: Place) -> socket.socket | None:
        """A connected socket, None if that address does not answer."""
        family, address = place
        try:
            opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        except OSError as why:  # no descriptor is left, or the kernel has no such family
            self.complain(f"{address[0]} cannot be dialled: {why}")
            return None
        done = False
        try:
            opened.setblocking(False)
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().sock_connect(opened, address)
            done = True
        except OSError:  # of which TimeoutError is one
            return None
        finally:
            if not done:
                opened.close()
        return opened

    # --- from the links ---------------------------------------------------------

    def greeted(self, link: "PeerLink", hello: Hello) -> None:
        """The other side has said who it is."""
        self.strangers.pop(link, None)
        why = self._refusal(link, hello)
        if why is not None:
            self.complain(f"closing a link with {link.host}: {why}")
            link.abort()
            return
        link.sid = hello.sid
        if (link.wire.side is Side.LEARNER) != (self._dial() == link.sid):
            link.abort()
            return
        old = self.up.get(link.sid)
        if old is not None:
            self.drop(old)
        self.up[link.sid] = link
        link.come_up()
        self.driver.link_up(link.sid)

    def _refusal(self, link: "PeerLink", hello: Hello) -> str | None:
        if link.sid not in (None, hello.sid):
            return f"server {hello.sid} answers where server {link.sid} should be"
        if hello.sid == self.directory.me:
            return f"it says that it is server {hello.sid}, which is this one; is a myid wrong?"
        if not self.directory.admits(hello.sid):
            return f"there is no server.{hello.sid} in the configuration"
        if link.proves is not None and not link.proves(hello.sid):
            return f"its certificate names no host of server {hello.sid}"
        return None

    def drop(self, link: "PeerLink") -> None:
        """End a link, for whatever reason.  The core is told once, if it knew of it."""
        link.abort()
        self.strangers.pop(link, None)
        if link.sid is not None and self.up.get(link.sid) is link:
            del self.up[link.sid]
            if not self.stopped:
                self.driver.link_down(link.sid)


class PeerLink(asyncio.Protocol):
    """One connection to another member."""

    __slots__ = (
        "_deadline",
        "_moved_ms",
        "_peers",
        "_settled",
        "_transport",
        "_waited",
        "gone",
        "host",
        "proves",
        "sid",
        "wire",
    )

    def __init__(self, peers: Peers, side: Side, sid: int | None = None) -> None:
        self._peers = peers
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._settled = asyncio.Event()
        self._waited = self._moved_ms = 0
        self.gone = asyncio.Event()
        self.wire = PeerConnection(side)
        self.sid = sid
        """Of the other side; None until an accepted link has said so."""
        self.host = ""
        self.proves: Callable[[int], bool] | None = None
        """Whether its certificate may be that server's; None without one."""

    def await_transport(self, transport: asyncio.Transport) -> None:
        """There will be a connection once that one is secured; it can be given up before."""
        self._transport = transport

    async def settle(self) -> bool:
        """Wait for the greeting; whether the link came up.  Given up, it is closed."""
        try:
            await self._settled.wait()
        except asyncio.CancelledError:
            if not self._is_up:
                self.abort()
            raise
        return self._is_up

    @property
    def _is_up(self) -> bool:
        return self.sid is not None and self._peers.up.get(self.sid) is self

    # --- from the event loop ----------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peers, peer = self._peers, transport.get_extra_info("peername")
        full = len(peers.strangers) >= STRANGERS_MAX
        if peers.stopped or not peer or full:
            self._transport.abort()
            return
        self.host = plain_host(peer[0])
        self._moved_ms = monotonic_ms()
        set_up(transport.get_extra_info("socket"), peers.limits)
        if self.sid is None:
            peers.strangers[self] = None
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(GREETING_S, self._give_up)
        self._transport.write(self.wire.send(peers.greeting()))

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._receive(data)
        except RemoteProtocolError as why:
            self._peers.complain(f"closing the link with {self.name}: {why}")
            self._peers.drop(self)
            return
        if messages and self._is_up:
            assert self.sid is not None
            self._peers.driver.receive_peer(self.sid, messages)

    def _receive(self, data: bytes) -> list[object]:
        """What is behind the Hello is not looked at unless who says it is let in.

        Raises RemoteProtocolError."""
        if self.wire.phase is not Phase.HELLO:
            return self.wire.receive_data(data)
        hello = self.wire.receive_hello(data)
        if hello is not None:
            self._peers.greeted(self, hello)
        return self.wire.receive_data(b"") if hello is not None and self._is_up else []

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._end_deadline()
        self._peers.drop(self)
        self._settled.set()
        self.gone.set()

    def _give_up(self) -> None:
        self._peers.complain(f"no greeting from {self.name} in {GREETING_S:g} s")
        self._peers.drop(self)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    @property
    def name(self) -> str:
        return self.host if self.sid is None else f"server {self.sid} ({self.host})"

    # --- from the peers ---------------------------------------------------------

    def come_up(self) -> None:
        self._end_deadline()
        self._settled.set()

    def write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None:
            return
        before = transport.get_write_buffer_size()
        transport.write(data)
        waiting = transport.get_write_buffer_size()
        if waiting:
            self._check_output(before, waiting)

    def _check_output(self, before: int, waiting: int) -> None:
        """Something waits: has any of it moved since the last time?  Sizes are those of the socket,
        before a write and after it, which are not those of what was written, over TLS."""
        limits, now = self._peers.limits, monotonic_ms()
        if not before or before < self._waited:
            self._moved_ms = now
        self._waited = waiting
        stuck = now - self._moved_ms > limits.tick_ms * limits.sync_ticks
        if stuck or waiting > limits.output_bytes_max:
            log.warning("dropping the link with %s: %d bytes wait for it", self.name, waiting)
            # Not from within a pass that still sends on it.
            asyncio.get_running_loop().call_soon(self._peers.drop, self)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def set_up(opened: Any, limits: Limits) -> None:
    """No delay for small frames, and an end for a line that is cut.

    The kernel gives up data that nobody acknowledged within syncLimit."""
    if opened is None:
        return
    with contextlib.suppress(OSError):  # it is closed already
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(opened)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            user_ms = limits.tick_ms * limits.sync_ticks
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, user_ms)
