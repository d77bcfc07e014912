"""Simulated clients: sessions, reconnects, pipelining, watches - and a record of what they saw.

A `Client` speaks the real protocol through `wire.ClientConnection` over the simulated
network, as kazoo would: it keeps one session over many connections, remembers the last
zxid seen, sets its watches again, pings, gives a silent connection up, and moves to
another server now and then.  What it asks is drawn from a `Mix`.

Every connection, request, reply and event goes into a `History` (see `histories`).
"""

import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import attrs

from wire import records
from wire.client import ClientConnection, Reply, Request, Role, WatchEvent
from wire.codes import XID_AUTH, XID_PING, XID_SET_WATCHES, CreateMode, EventType, OpCode, WatchMode
from wire.errors import RemoteProtocolError
from wire.records import OPEN_ACL, ConnectRequest, ConnectResponse
from zkpy.testing.histories import Connection, Event, Op
from zkpy.testing.network import CLIENT, Network, Socket
from zkpy.testing.world import MS, Violation, World, exponential

FRAME_BYTES_MAX: Final = 1 << 24
REGISTER: Final = "/register"
QUEUE: Final = "/queue"
PATHS: Final = ("/a", "/b", "/a/x", "/a/y", "/b/x")
SETUP: Final = (REGISTER, QUEUE, "/a")


@attrs.define(frozen=True)
class Mix:
    """What clients do, as weights, and how busily."""

    weights: dict[str, int]
    think: int = 50 * MS
    """Mean time between requests of one client, in microseconds."""
    window: int = 4
    """Requests in flight per client."""
    timeout_ms: int = 2000
    """Session time-out asked for."""
    data_bytes: int = 20
    watch_chance: float = 0.2
    move_chance: float = 0.01
    """Per request: drop the connection and go to another server."""


def draw_mix(rng: random.Random, timeout_ms: int) -> Mix:
    """Swarm: any operation may be missing, but some write always is there."""
    weights = {name: rng.choice((0, 1, 1, 2, 5)) for name in _OPERATIONS}
    weights["set"] += 1
    thinks = (20, 50, 50, 100, 300)
    if rng.random() < 0.2:
        # Busy with little: what needs two clients at one znode within milliseconds.
        weights = dict.fromkeys(rng.sample(_FOCUSED, 2), 1)
        thinks = (3, 10, 20, 20, 50)
    return Mix(
        weights=weights,
        think=rng.choice(thinks) * MS,
        window=rng.choice((1, 1, 2, 4, 8)),
        timeout_ms=timeout_ms * rng.choice((1, 1, 2, 4)),
        data_bytes=rng.choice((0, 10, 10, 100, 2000)),
        watch_chance=rng.choice((0.0, 0.1, 0.3, 0.6)),
        move_chance=rng.choice((0.0, 0.0, 0.01, 0.03)),
    )


class Watching:
    """What a client believes to be watching, to be set again after a reconnect."""

    def __init__(self) -> None:
        self.data: dict[str, None] = {}
        self.exist: dict[str, None] = {}
        self.child: dict[str, None] = {}
        self.persistent: dict[str, None] = {}
        self.recursive: dict[str, None] = {}

    def __bool__(self) -> bool:
        one_shot = self.data or self.exist or self.child
        return bool(one_shot or self.persistent or self.recursive)

    def replied(self, op: Op) -> None:
        body = op.body
        if op.opcode == OpCode.ADD_WATCH and not op.error:
            recursive = body.mode == WatchMode.PERSISTENT_RECURSIVE
            (self.recursive if recursive else self.persistent)[body.path] = None
        elif getattr(body, "watch", False):
            self._one_shot(op, body.path)

    def _one_shot(self, op: Op, path: str) -> None:
        if op.opcode == OpCode.EXISTS and op.error:
            self.exist[path] = None
        elif not op.error:
            child = op.opcode in (OpCode.GET_CHILDREN, OpCode.GET_CHILDREN2)
            (self.child if child else self.data)[path] = None

    def fired(self, event: WatchEvent) -> None:
        for table in _ONE_SHOTS[event.event.type]:
            getattr(self, table).pop(event.event.path, None)

    def request(self, last_zxid: int) -> tuple[int, Any]:
        lists = (list(self.data), list(self.exist), list(self.child))
        if not (self.persistent or self.recursive):
            return OpCode.SET_WATCHES, records.SetWatches(last_zxid, *lists)
        more = (list(self.persistent), list(self.recursive))
        return OpCode.SET_WATCHES2, records.SetWatches2(last_zxid, *lists, *more)


_ONE_SHOTS: Final[dict[int, tuple[str, ...]]] = {
    EventType.NODE_CREATED: ("data", "exist"),
    EventType.NODE_DATA_CHANGED: ("data", "exist"),
    EventType.NODE_DELETED: ("data", "exist", "child"),
    EventType.NODE_CHILDREN_CHANGED: ("child",),
}


class Client:
    """One client of the ensemble, from its first connection until `stop`."""

    def __init__(
        self,
        number: int,
        world: World,
        network: Network,
        servers: list[int],
        mix: Mix,
        record: Callable[[Connection], None],
    ) -> None:
        self.number = number
        self.host = -number
        self.mix = mix
        self.credential: bytes | None = None
        """Sent on every connection, by scheme digest."""
        self.connects = True
        self.asks = True
        """False: no more requests of its own, only what `request` is called for."""
        self.session = 0
        self.timeout_ms = 0
        self.last_zxid = 0
        self.acknowledged = 0
        """Writes answered without an error, over all sessions."""
        self.server: int | None = None
        """Of the established connection."""
        self.watching = Watching()
        self._world = world
        self._network = network
        self._servers = servers
        self._record = record
        self._rng = world.stream(f"client {number}")
        self._operations = [name for name, weight in mix.weights.items() for _ in range(weight)]
        self._password = bytes(16)
        self._xid = 0
        self._values = 0
        self._socket: Socket | None = None
        self._wire: ClientConnection | None = None
        self._connection: Connection | None = None
        self._outstanding: deque[Op] = deque()
        self._heard = 0
        self._thinking = False
        self._naps_until = 0
        self._lives = 0
        """Counts connections, so that timers of an earlier one are known."""

    # --- the connection

    def start(self) -> None:
        self._connect()

    def stop(self) -> None:
        self.asks = self.connects = False
        self.drop()

    def _connect(self) -> None:
        if not self.connects or self._socket is not None:
            return
        self._lives += 1
        server = self._rng.choice(self._servers)
        self._wire = ClientConnection(Role.CLIENT, FRAME_BYTES_MAX)
        self._connection = Connection(self.session, server, self._world.now, self.last_zxid)
        socket = self._network.dial(self.host, server, CLIENT)
        self._socket = socket
        self._heard = self._world.now
        socket.on_open = self._opened
        socket.on_data = self._receive
        socket.on_close = self._closed
        self._world.after(self._patience(), self._watchdog, self._lives)

    def _patience(self) -> int:
        """As clients do it: two thirds of the session's time-out."""
        return (self.timeout_ms or self.mix.timeout_ms) * MS * 2 // 3

    def _opened(self) -> None:
        assert self._wire and self._connection and self._socket
        self._connection.opened = self._world.now
        if self.session:
            self._record(self._connection)
        self._send_packet(
            ConnectRequest(
                0, self.last_zxid, self.mix.timeout_ms, self.session, self._password, False
            )
        )

    def _send_packet(self, packet: Any) -> None:
        assert self._wire and self._socket
        self._socket.send(self._wire.send(packet))

    def drop(self) -> None:
        """Leave the connection as if the network had taken it; the session goes on."""
        if self._socket is not None:
            self._socket.close()
            self._lost()

    def _closed(self) -> None:
        self._lost()

    def _lost(self) -> None:
        self._socket = self._wire = self._connection = self.server = None
        self._outstanding.clear()
        pause = exponential(self._rng, 30 * MS)
        self._world.after(pause, self._connect)

    def _watchdog(self, life: int) -> None:
        """Give a silent connection up; ping one on which nothing else is said."""
        if life != self._lives or self._socket is None:
            return
        if self._world.now < self._naps_until:
            self._world.at(self._naps_until, self._watchdog, life)
            return
        patience = self._patience()
        quiet = self._world.now - self._heard
        if quiet >= patience:
            self.drop()
            return
        if self.server is not None and quiet * 2 >= patience:
            self._ping()
        wait = patience // 2 if quiet * 2 >= patience else patience // 2 - quiet
        self._world.after(max(wait, MS), self._watchdog, life)

    def _ping(self) -> None:
        if not any(op.xid == XID_PING or op.opcode == _CLOSE for op in self._outstanding):
            self._send(Op(XID_PING, OpCode.PING, None, self._world.now))

    # --- arrivals

    def _receive(self, data: bytes) -> None:
        assert self._wire is not None
        self._heard = self._world.now
        wire = self._wire
        try:
            events = wire.receive_data(data)
        except RemoteProtocolError as error:
            raise Violation("C2", f"client {self.number}: {error}") from error
        for event in events:
            if self._wire is not wire:
                return
            if isinstance(event, Reply):
                self._replied(event)
            elif isinstance(event, WatchEvent):
                self._saw(event)
            else:
                assert isinstance(event, ConnectResponse)
                self._accepted(event)
        if wire.error is not None:
            raise Violation("C2", f"client {self.number}: {wire.error}")

    def _accepted(self, response: ConnectResponse) -> None:
        if response.timeout_ms == 0:
            self._forget_session()
            self.drop()
            return
        connection = self._connection
        assert connection is not None and response.password is not None
        if not self.session:
            self.session = connection.session = response.session_id
            self._record(connection)
        self.timeout_ms, self._password = response.timeout_ms, response.password
        self.server = connection.server
        if self.credential is not None:
            packet = records.AuthPacket(0, "digest", self.credential)
            self._send(Op(XID_AUTH, OpCode.AUTH, packet, self._world.now))
        if self.watching:
            self._set_watches()
        self._think()

    def _forget_session(self) -> None:
        """Expired or closed: the next connection asks for a new one."""
        self.session = self.last_zxid = self._xid = 0
        self._password = bytes(16)
        self.watching = Watching()

    def _set_watches(self) -> None:
        opcode, body = self.watching.request(self.last_zxid)
        self._send(Op(XID_SET_WATCHES, opcode, body, self._world.now))

    def _replied(self, reply: Reply) -> None:
        op = self._match(reply.xid)
        op.returned = self._world.now
        op.zxid, op.error, op.reply = reply.zxid, reply.error, reply.body
        assert self._connection is not None
        self._connection.stream.append(op)
        self.last_zxid = max(self.last_zxid, reply.zxid)
        self.watching.replied(op)
        if op.opcode == OpCode.CLOSE_SESSION:
            self._forget_session()
            self.drop()
        elif op.opcode in _COUNTED:
            self.acknowledged += not op.error

    def _match(self, xid: int) -> Op:
        """Pings overtake nothing here, but are matched by their xid, as real clients do."""
        for op in self._outstanding:
            if op.xid == xid:
                self._outstanding.remove(op)
                return op
        raise Violation("C2", f"client {self.number}: a reply to {xid}, which was not asked")

    def _saw(self, event: WatchEvent) -> None:
        assert self._connection is not None
        body = event.event
        self._connection.stream.append(Event(event.zxid, body.type, body.path))
        self.watching.fired(event)

    # --- requests

    @property
    def is_busy(self) -> bool:
        return bool(self._outstanding)

    def _think(self) -> None:
        if self.asks and not self._thinking:
            self._thinking = True
            wait = exponential(self._rng, self.mix.think)
            self._world.at(max(self._world.now, self._naps_until) + wait, self._ask)

    def _ask(self) -> None:
        self._thinking = False
        if self.server is None or not self.asks:
            return
        rng, mix = self._rng, self.mix
        if len(self._outstanding) < mix.window:
            opcode = _OTHER
            for opcode, body in _OPERATIONS[rng.choice(self._operations)](self):
                self.request(opcode, body)
            # After a close too: the session may still be alive elsewhere when it comes about.
            chance = 0.5 if opcode == _CLOSE else mix.move_chance
            if chance and rng.random() < chance:
                self.drop()
                return
        self._think()

    def request(self, opcode: int, body: Any) -> Op | None:
        """Ask; None while there is no connection, or it is being closed."""
        if self.server is None or any(op.opcode == _CLOSE for op in self._outstanding):
            return None
        self._xid += 1
        op = Op(self._xid, opcode, body, self._world.now)
        self._send(op)
        return op

    def _send(self, op: Op) -> None:
        assert self._connection is not None
        self._connection.ops.append(op)
        self._outstanding.append(op)
        self._send_packet(Request(op.xid, op.opcode, op.body))

    # --- what it asks

    def _path(self) -> str:
        return self._rng.choice(PATHS)

    def _watch(self) -> bool:
        return self._rng.random() < self.mix.watch_chance

    def value(self) -> bytes:
        """Different each time, so that no mix-up goes unseen."""
        self._values += 1
        name = b"%d.%d" % (self.number, self._values)
        return name.ljust(self._rng.randrange(self.mix.data_bytes + 1), b".")

    def _version(self) -> int:
        return self._rng.choice((-1, -1, 0, 1, 2))

    def _create_at(self, path: str, flags: int) -> records.CreateRequest:
        return records.CreateRequest(path, self.value(), list(OPEN_ACL), flags)

    def _do_create(self) -> "Asked":
        opcode = self._rng.choice((OpCode.CREATE, OpCode.CREATE2))
        return [(opcode, self._create_at(self._path(), CreateMode.PERSISTENT))]

    def _do_ephemeral(self) -> "Asked":
        path = self._rng.choice(("/a/e", "/b/e", "/e", self._path()))
        return [(OpCode.CREATE, self._create_at(path, CreateMode.EPHEMERAL))]

    def _do_sequential(self) -> "Asked":
        modes = (CreateMode.PERSISTENT_SEQUENTIAL, CreateMode.EPHEMERAL_SEQUENTIAL)
        body = self._create_at(f"{QUEUE}/n-", self._rng.choice(modes))
        return [(OpCode.CREATE, body)]

    def _do_consume(self) -> "Asked":
        """Take a child that may be there off the queue."""
        number = self._rng.randrange(self._values * 3 + 3)
        return [(OpCode.DELETE, records.DeleteRequest(f"{QUEUE}/n-{number:010d}", -1))]

    def _do_set(self) -> "Asked":
        path = self._path()
        return [(OpCode.SET_DATA, records.SetDataRequest(path, self.value(), self._version()))]

    def _do_register(self) -> "Asked":
        version = -1 if self._rng.random() < 0.7 else self._rng.randrange(self._values + 1)
        return [(OpCode.SET_DATA, records.SetDataRequest(REGISTER, self.value(), version))]

    def _do_delete(self) -> "Asked":
        path = self._rng.choice((*PATHS, "/a/e", "/e"))
        return [(OpCode.DELETE, records.DeleteRequest(path, self._version()))]

    def _do_multi(self) -> "Asked":
        count = self._rng.randrange(1, 4)
        return [(OpCode.MULTI, records.MultiRequest([self._part() for _ in range(count)]))]

    def _part(self) -> tuple[int, Any]:
        kind = self._rng.randrange(4)
        if kind == 0:
            return OpCode.CREATE, self._create_at(self._path(), CreateMode.PERSISTENT)
        if kind == 1:
            return OpCode.DELETE, records.DeleteRequest(self._path(), self._version())
        if kind == 2:
            return OpCode.CHECK, records.CheckVersionRequest(self._path(), self._version())
        return OpCode.SET_DATA, records.SetDataRequest(self._path(), self.value(), -1)

    def _do_get(self) -> "Asked":
        return [(OpCode.GET_DATA, records.GetDataRequest(self._path(), self._watch()))]

    def _do_exists(self) -> "Asked":
        return [(OpCode.EXISTS, records.ExistsRequest(self._path(), self._watch()))]

    def _do_children(self) -> "Asked":
        path = self._rng.choice(("/", "/a", "/b"))
        if self._rng.random() < 0.5:
            return [(OpCode.GET_CHILDREN, records.GetChildrenRequest(path, self._watch()))]
        return [(OpCode.GET_CHILDREN2, records.GetChildren2Request(path, self._watch()))]

    def _do_sync(self) -> "Asked":
        """sync and the read that relies on it, at once."""
        return [
            (OpCode.SYNC, records.SyncRequest(REGISTER)),
            (OpCode.GET_DATA, records.GetDataRequest(REGISTER, False)),
        ]

    def _do_add_watch(self) -> "Asked":
        modes = (WatchMode.PERSISTENT, WatchMode.PERSISTENT_RECURSIVE)
        path = self._rng.choice(("/a", "/b", self._path()))
        return [(OpCode.ADD_WATCH, records.AddWatchRequest(path, self._rng.choice(modes)))]

    def _do_nap(self) -> "Asked":
        """Say nothing until the session is about to expire, then write in a hurry
        (ZOOKEEPER-1208, -1496)."""
        if self._rng.random() < 0.8:
            return []
        timeout = self.timeout_ms * MS
        wake = self._world.now + timeout + self._rng.randrange(timeout // 2)
        self._naps_until = wake
        for i in range(40):
            self._world.at(wake + i * 3 * MS, self._hurry, self._lives)
        return []

    def _hurry(self, life: int) -> None:
        if life == self._lives and self.asks and len(self._outstanding) < 20:
            flags = CreateMode.EPHEMERAL_SEQUENTIAL
            self.request(OpCode.CREATE, self._create_at(f"{QUEUE}/h-", flags))

    def _do_close(self) -> "Asked":
        """End the session, a write right in front of it and one right behind (ZOOKEEPER-1208)."""
        if self._rng.random() < 0.8:
            return []
        path = f"{QUEUE}/c-"
        body = self._create_at(path, CreateMode.EPHEMERAL_SEQUENTIAL)
        return [(OpCode.CREATE, body), (OpCode.CLOSE_SESSION, None)]


Asked = list[tuple[int, Any]]
_FOCUSED: Final = ("set", "register", "sync", "sequential", "ephemeral", "nap")
_CLOSE: Final = OpCode.CLOSE_SESSION
_OTHER: Final = 0
_COUNTED: Final = (OpCode.CREATE, OpCode.CREATE2, OpCode.SET_DATA, OpCode.DELETE)

_OPERATIONS: Final[dict[str, Callable[[Client], Asked]]] = {
    "create": Client._do_create,
    "ephemeral": Client._do_ephemeral,
    "sequential": Client._do_sequential,
    "consume": Client._do_consume,
    "set": Client._do_set,
    "register": Client._do_register,
    "delete": Client._do_delete,
    "multi": Client._do_multi,
    "get": Client._do_get,
    "exists": Client._do_exists,
    "children": Client._do_children,
    "sync": Client._do_sync,
    "add watch": Client._do_add_watch,
    "close": Client._do_close,
    "nap": Client._do_nap,
}
