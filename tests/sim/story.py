"""Histories made by hand: sound ones, told through the model, to be broken by tests."""

from typing import Any

from wire import records
from wire.codes import CreateMode, ErrorCode, OpCode
from wire.records import OPEN_ACL
from wire.txn import (
    CloseSessionTxn,
    CreateSessionTxn,
    ErrorTxn,
    MultiTxn,
    SetDataTxn,
    Txn,
    TxnHeader,
)
from zkpy.testing.histories import Commit, Connection, Event, History, Op, Summary, check
from zkpy.testing.model import Model, Outcome

FIRST = 1 << 32


class Story:
    """Everything that happens is right; time passes with each call."""

    def __init__(self) -> None:
        self.model = Model()
        self.connections: list[Connection] = []
        self.commits: list[Commit] = []
        self.zxid = FIRST
        self.now = 0
        self._xids: dict[int, int] = {}

    def check(self) -> Summary:
        return check(History(self.connections, self.commits))

    def session(self, session: int = 7) -> Connection:
        self.model.open_session(session, 4000)
        self.commit(TxnHeader(session, 0, 1, 1, 1, self.now), CreateSessionTxn(4000, bytes(16)))
        return self.reconnect(session)

    def reconnect(self, session: int = 7, server: int = 1) -> Connection:
        seen = [
            op.zxid
            for c in self.connections
            if c.session == session
            for op in c.stream
            if isinstance(op, Op)
        ]
        connection = Connection(session, server, self._tick(), max(seen, default=0))
        self.connections.append(connection)
        return connection

    def commit(self, header: TxnHeader, txn: Txn) -> int:
        self.zxid += 1
        self.commits.append(Commit(self.zxid, self._tick(), header, txn))
        return self.zxid

    def ask(self, connection: Connection, opcode: int, body: Any) -> Op:
        xid = self._xids[connection.session] = self._xids.get(connection.session, 0) + 1
        op = Op(xid, opcode, body, self._tick())
        connection.ops.append(op)
        return op

    def answer(self, connection: Connection, op: Op, zxid: int, error: int, reply: Any) -> Op:
        op.returned, op.zxid, op.error, op.reply = self._tick(), zxid, error, reply
        connection.stream.append(op)
        return op

    def write(self, connection: Connection, opcode: int, body: Any, *, known: bool = True) -> Op:
        op = self.ask(connection, opcode, body)
        self.take_effect(connection, op)
        if known:
            reply = None if self.outcome.error else _reply(opcode, body, self.outcome)
            self.answer(connection, op, self.zxid, self.outcome.error, reply)
        return op

    def take_effect(self, connection: Connection, op: Op) -> None:
        header = TxnHeader(connection.session, op.xid, 1, 1, op.xid, self.now)
        self.outcome = self.model.execute(
            self.zxid + 1, self.now, connection.session, op.opcode, op.body
        )
        self.commit(header, _txn(op.opcode, self.outcome))

    def read(self, connection: Connection, opcode: int, body: Any) -> Op:
        op = self.ask(connection, opcode, body)
        error, _ = self.model.read(opcode, body)
        return self.answer(connection, op, self.zxid, error, self._read_reply(opcode, body))

    def sync(self, connection: Connection) -> Op:
        op = self.ask(connection, OpCode.SYNC, records.SyncRequest("/"))
        return self.answer(connection, op, self.zxid, 0, records.SyncResponse("/"))

    def event(self, connection: Connection, zxid: int, kind: int, path: str) -> Event:
        event = Event(zxid, kind, path)
        connection.stream.append(event)
        return event

    def create(self, connection: Connection, path: str, data: bytes = b"", flags: int = 0) -> Op:
        body = records.CreateRequest(path, data, list(OPEN_ACL), flags)
        return self.write(connection, OpCode.CREATE, body)

    def ephemeral(self, connection: Connection, path: str) -> Op:
        return self.create(connection, path, flags=CreateMode.EPHEMERAL)

    def set(self, connection: Connection, path: str, data: bytes) -> Op:
        body = records.SetDataRequest(path, data, -1)
        return self.write(connection, OpCode.SET_DATA, body)

    def get(self, connection: Connection, path: str, watch: bool = False) -> Op:
        return self.read(connection, OpCode.GET_DATA, records.GetDataRequest(path, watch))

    def close(self, connection: Connection) -> Op:
        return self.write(connection, OpCode.CLOSE_SESSION, None)

    def expire(self, session: int) -> None:
        self.model.close_session(self.zxid + 1, session)
        self.commit(TxnHeader(session, 0, -1, 0, 0, self.now), CloseSessionTxn())

    def _tick(self) -> int:
        self.now += 1000
        return self.now

    def _read_reply(self, opcode: int, body: Any) -> Any:
        node = self.model.nodes.get(body.path)
        if node is None:
            return None
        if opcode == OpCode.GET_DATA:
            return records.GetDataResponse(node.data, node.stat())
        if opcode == OpCode.EXISTS:
            return records.ExistsResponse(node.stat())
        return records.GetChildrenResponse(list(node.children))


def _txn(opcode: int, outcome: Outcome) -> Txn:
    """Only what the checker looks at: kind and error codes."""
    if outcome.error:
        return ErrorTxn(outcome.error)
    if outcome.results is not None:
        return MultiTxn(
            tuple(
                ErrorTxn(r.error)
                if any(each.error for each in outcome.results or ())
                else SetDataTxn("/", b"", 0)
                for r in outcome.results
            )
        )
    return CloseSessionTxn() if opcode == OpCode.CLOSE_SESSION else SetDataTxn("/", b"", 0)


def _reply(opcode: int, body: Any, outcome: Outcome) -> Any:
    if opcode == OpCode.CREATE:
        assert outcome.path is not None
        return records.CreateResponse(outcome.path)
    if opcode == OpCode.SET_DATA:
        assert outcome.stat is not None
        return records.SetDataResponse(outcome.stat)
    if opcode == OpCode.MULTI:
        assert outcome.results is not None
        failed = any(each.error for each in outcome.results)
        return records.MultiResponse(
            [
                records.MultiResult(-1, each.error, None)
                if failed
                else records.MultiResult(op, ErrorCode.OK, _reply(op, part, each))
                for (op, part), each in zip(body.ops, outcome.results, strict=True)
            ]
        )
    return None
