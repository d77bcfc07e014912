"""One connection of a client, byte by byte: for what no sound client would do."""

from collections.abc import Callable
from typing import Any

from wire.client import ClientConnection, Event, Reply, Request, Role
from wire.records import ConnectRequest, ConnectResponse
from zkpy.testing.histories import Connection, Op
from zkpy.testing.network import CLIENT, Socket
from zkpy.testing.script import Stage
from zkpy.testing.setup import Setup

TICK_MS = Setup().tick_ms


class Raw:
    """One connection of a client, byte by byte."""

    def __init__(self, stage: Stage, host: int, server: int, then: Callable[["Raw"], None]) -> None:
        self.stage = stage
        self.wire = ClientConnection(Role.CLIENT, 1 << 20)
        self.events: list[Event] = []
        self.record = Connection(0, server, stage.world.now, 0)
        self.socket: Socket = stage.ensemble.network.dial(host, server, CLIENT)
        self.socket.on_open = lambda: then(self)
        self.socket.on_data = self._take

    def _take(self, data: bytes) -> None:
        for event in self.wire.receive_data(data):
            self.events.append(event)
            if isinstance(event, Reply):
                op = next(op for op in self.record.ops if op.xid == event.xid)
                op.returned, op.zxid, op.error = self.stage.world.now, event.zxid, event.error
                op.reply = event.body
                self.record.stream.append(op)

    def connect(
        self,
        session: int = 0,
        password: bytes = bytes(16),
        seen: int = 0,
        *,
        timeout_ms: int = 20 * TICK_MS,
        read_only: bool = False,
    ) -> None:
        self.record.session, self.record.last_zxid_seen = session, seen
        self.stage.connections.append(self.record)
        request = ConnectRequest(0, seen, timeout_ms, session, password, read_only)
        self.socket.send(self.wire.send(request))

    def ask(self, xid: int, opcode: int, body: Any) -> None:
        self.record.ops.append(Op(xid, opcode, body, self.stage.world.now))
        self.socket.send(self.wire.send(Request(xid, opcode, body)))

    @property
    def granted(self) -> ConnectResponse | None:
        found = [event for event in self.events if isinstance(event, ConnectResponse)]
        return found[0] if found else None
