"""What clients saw, and whether it is what C1-C14 of docs/guarantees.md allow.

In: connections with their requests, replies and events, each with virtual times, and the
committed log.  Every reply carries a zxid, so the order is known and nothing has to be
searched: the log is replayed through an independent model (`zkpy.testing.model`), and each
reply, read and event is compared with what the model says at exactly that zxid.

    C1   zxids of writes respect real time          C8   a request is in the log at most once
    C2   a connection's writes are in its order      C9   watch events: exact, in order, in time
    C3   a session never sees an older state         C10  ephemerals end with their session
    C4   a read is the state at its zxid             C12  one connection per session at a time
    C5   sync + read sees all acknowledged before    C14  sequence numbers grow
    C6   a multi is all or nothing (by C4)           C7   what was acknowledged is in the log

C11 (expiry) and C13 (staleness) need the members' clocks: `zkpy.testing.invariants`.
`linearizable` at the end needs no zxids: a search, for small histories, that checks these.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterable
from typing import Any, Final

import attrs

from wire import records
from wire.codes import CreateMode, ErrorCode, EventType, OpCode, WatchMode
from wire.txn import (
    CloseSessionTxn,
    CreateSessionTxn,
    ErrorTxn,
    MultiTxn,
    SetDataTxn,
    Txn,
    TxnHeader,
)
from zkpy.testing.model import CONFIG, Happening, Model, Outcome, normalized
from zkpy.testing.world import Violation
from zkpy.zxid import show

UNKNOWN: Final = -1
LOCAL: Final = 0
"""The time-out of a local session, as far as the log knows."""
READS: Final = (OpCode.GET_DATA, OpCode.EXISTS, OpCode.GET_CHILDREN, OpCode.GET_CHILDREN2)
WRITES: Final = (
    *(OpCode.CREATE, OpCode.CREATE2, OpCode.CREATE_CONTAINER, OpCode.DELETE),
    *(OpCode.SET_DATA, OpCode.MULTI, OpCode.CLOSE_SESSION, OpCode.RECONFIG),
)
_REFUSED_RECONFIG: Final = (
    *(ErrorCode.NEW_CONFIG_NO_QUORUM, ErrorCode.RECONFIG_IN_PROGRESS),
    *(ErrorCode.BAD_VERSION, ErrorCode.BAD_ARGUMENTS, ErrorCode.NO_AUTH),
)
"""What only the leader can know: who was there, and what was on its way."""
_SET_WATCHES: Final = (OpCode.SET_WATCHES, OpCode.SET_WATCHES2)


@attrs.define(eq=False)
class Op:
    """One request and what came of it.  Times in microseconds of virtual time."""

    xid: int
    opcode: int
    body: Any
    invoked: int
    returned: int = UNKNOWN
    zxid: int = 0
    """Of the reply's header."""
    error: int = 0
    reply: Any = None
    committed: int = 0
    """Of a write: its zxid in the log, known to its client or not; 0 if it is not there."""
    missed: list[Happening] = attrs.Factory(list)
    """Of a setWatches: what it must report at once, found by the replay."""

    @property
    def is_known(self) -> bool:
        return self.returned != UNKNOWN


@attrs.define
class Event:
    """A watch event as it came in."""

    zxid: int
    type: int
    path: str


@attrs.define(eq=False)
class Connection:
    """One connection of a session, or an attempt at one."""

    session: int
    server: int
    opened: int
    """When the ConnectRequest went out."""
    last_zxid_seen: int
    ops: list[Op] = attrs.Factory(list)
    """In the order of sending."""
    stream: list[Op | Event] = attrs.Factory(list)
    """Replies and events in the order of arrival."""


@attrs.define
class Commit:
    """One committed entry; header and txn are None unless it is a transaction."""

    zxid: int
    at: int
    """When a member first applied it."""
    header: TxnHeader | None = None
    txn: Txn | None = None


@attrs.define
class History:
    connections: list[Connection]
    """In the order of opening; those of one session are in its order."""
    commits: list[Commit]
    """The whole log, in order."""


@attrs.define
class Summary:
    """What was looked at."""

    commits: int = 0
    acknowledged: int = 0
    unknown_found: int = 0
    """Writes that were never answered, but are in the log."""
    reads: int = 0
    syncs: int = 0
    events: int = 0
    expired: int = 0
    model: Model = attrs.Factory(Model)
    """The tree after the whole log."""


def check(history: History) -> Summary:
    """Raises Violation for the first thing that must not be."""
    replay = _Replay(history)
    replay.run()
    _count_acknowledged(history, replay.summary, replay.opened)
    _check_real_time(history)
    for connections in sessions_of(history).values():
        _check_session(connections)
    _check_moves(history, replay.found)
    for connection in history.connections:
        replay.summary.events += _check_watches(connection, replay.happenings)
    return replay.summary


def sessions_of(history: History) -> dict[int, list[Connection]]:
    sessions: dict[int, list[Connection]] = {}
    for connection in history.connections:
        if connection.session:
            sessions.setdefault(connection.session, []).append(connection)
    return sessions


# --- the replay: C4, C6, C7, C8, C10, C14


class _Replay:
    """Walks the log once; compares everything that carries a zxid with the model there."""

    def __init__(self, history: History) -> None:
        self.summary = Summary()
        self.model = self.summary.model
        self.found: list[tuple[Connection, Op]] = []
        """Client writes, in log order."""
        self.opened: dict[int, None] = {}
        """Sessions of which the log tells."""
        self.happenings: dict[int, list[Happening]] = {}
        self._commits = history.commits
        self._requests: dict[tuple[int, int], tuple[Connection, Op]] = {}
        self._looks: dict[int, list[Op]] = {}
        self._sequences: dict[tuple[str, int], int] = {}
        for connection in history.connections:
            for op in connection.ops:
                self._enlist(connection, op)

    def _enlist(self, connection: Connection, op: Op) -> None:
        if op.opcode in WRITES:
            key = connection.session, op.xid
            assert key not in self._requests, "clients number their requests per session"
            self._requests[key] = connection, op
        elif op.is_known and op.zxid and op.opcode != OpCode.AUTH:
            self._looks.setdefault(op.zxid, []).append(op)

    def run(self) -> None:
        for commit in self._commits:
            if commit.header is not None:
                self._commit(commit, commit.header, commit.txn)
            self.summary.commits += 1
            for op in self._looks.pop(commit.zxid, ()):
                self._look(op)
        for zxid, ops in self._looks.items():
            raise Violation("C4", f"{_name(ops[0])} shows {show(zxid)}, which was never committed")

    def _commit(self, commit: Commit, header: TxnHeader, txn: Txn | None) -> None:
        if header.number < 0:
            self._commit_of_a_local_session(header.session)
        if isinstance(txn, CreateSessionTxn):
            self._open(header.session, txn.timeout_ms)
            return
        match = self._requests.get((header.session, header.cxid))
        if match is None:
            self._commit_of_the_house(commit, header, txn)
            return
        connection, op = match
        if op.committed:
            raise Violation("C8", f"{_name(op)} was committed twice, at {show(commit.zxid)} again")
        op.committed = commit.zxid
        refused = txn.code if isinstance(txn, ErrorTxn) else 0
        if refused == ErrorCode.SESSION_MOVED:
            return
        if refused != ErrorCode.SESSION_EXPIRED:
            self.found.append(match)
        if op.opcode == OpCode.RECONFIG and refused in _REFUSED_RECONFIG:
            outcome = Outcome(error=refused)
        else:
            outcome = self.model.execute(
                commit.zxid, header.time_ms, header.session, op.opcode, op.body
            )
        self._note(commit.zxid, outcome)
        _compare_with_log(commit, op, txn, outcome)
        _compare_with_reply(op, outcome)
        self._check_sequences(op, outcome)

    def _commit_of_a_local_session(self, session: int) -> None:
        """Of such a session the log tells nothing but this: its server vouches for a write.  It
        may become a global one, but never goes back."""
        if session in self.opened:
            raise Violation("C10", f"session {session:#x} is global, and yet vouched for")
        if session not in self.model.sessions:
            self.model.open_session(session, LOCAL)

    def _open(self, session: int, timeout_ms: int) -> None:
        self.opened[session] = None
        if self.model.sessions.get(session) == LOCAL:
            self.model.sessions[session] = timeout_ms
        else:
            self.model.open_session(session, timeout_ms)

    def _commit_of_the_house(self, commit: Commit, header: TxnHeader, txn: Txn | None) -> None:
        """No client asked for it: an expiry, the refusal of a session, or the founding."""
        if isinstance(txn, ErrorTxn):
            return
        if isinstance(txn, SetDataTxn) and txn.path == CONFIG and not header.session:
            text = (txn.data or b"").decode().rpartition("\n")[0]
            self._note(commit.zxid, self.model.found(commit.zxid, header.time_ms, text))
            return
        if not isinstance(txn, CloseSessionTxn):
            raise Violation("C8", f"nobody asked for {txn} of {header} at {show(commit.zxid)}")
        if header.session not in self.model.sessions:
            raise Violation("C10", f"session {header.session:#x} is closed twice")
        self.summary.expired += 1
        self._note(commit.zxid, self.model.close_session(commit.zxid, header.session))

    def _note(self, zxid: int, outcome: Outcome) -> None:
        if outcome.happenings:
            self.happenings[zxid] = outcome.happenings

    def _look(self, op: Op) -> None:
        if op.opcode in READS:
            self.summary.reads += 1
            error, expected = self.model.read(op.opcode, op.body)
            if (error, expected) != (op.error, normalized(op.reply)):
                raise Violation(
                    "C4",
                    f"{_name(op)} at {show(op.zxid)} gave {op.error} {op.reply}, "
                    f"the state there is {error} {expected}",
                )
        elif op.opcode in _SET_WATCHES:
            op.missed = _missed(self.model, op.body)

    def _check_sequences(self, op: Op, outcome: Outcome) -> None:
        """By what the client was told, not by the model's name."""
        if op.opcode not in (OpCode.CREATE, OpCode.CREATE2) or op.reply is None:
            return
        if op.body.flags not in (
            CreateMode.PERSISTENT_SEQUENTIAL,
            CreateMode.EPHEMERAL_SEQUENTIAL,
        ):
            return
        parent = op.reply.path.rpartition("/")[0] or "/"
        key = parent, self.model.nodes[parent].czxid
        number = int(op.reply.path[len(op.body.path) :])
        if number <= self._sequences.get(key, -1):
            raise Violation("C14", f"{op.reply.path} after number {self._sequences[key]}")
        self._sequences[key] = number


def _compare_with_log(commit: Commit, op: Op, txn: Txn | None, outcome: Outcome) -> None:
    """The leader's judgement against the model's."""
    logged = _codes(txn)
    expected = [outcome.error] if outcome.results is None else [r.error for r in outcome.results]
    if logged != expected:
        raise Violation(
            "C1",
            f"{_name(op)} at {show(commit.zxid)} was judged {logged}, the model says {expected}",
        )


def _codes(txn: Txn | None) -> list[int]:
    if isinstance(txn, MultiTxn):
        return [each.code if isinstance(each, ErrorTxn) else 0 for each in txn.txns]
    return [txn.code if isinstance(txn, ErrorTxn) else 0]


def _compare_with_reply(op: Op, outcome: Outcome) -> None:
    if not op.is_known:
        return
    expected: object = None
    if not outcome.error:
        expected = _reply_of(op.opcode, op.body, outcome)
    shown = None if op.error else _as_told(op.reply)
    if (op.error, shown) != (outcome.error, expected):
        raise Violation(
            "C1",
            f"{_name(op)} was answered {op.error} {shown}, "
            f"the model says {outcome.error} {expected}",
        )


def _reply_of(opcode: int, body: Any, outcome: Outcome) -> object:
    if opcode == OpCode.MULTI:
        assert outcome.results is not None
        failed = any(each.error for each in outcome.results)
        return [
            (each.error, None if failed else _reply_of(op, part, each))
            for (op, part), each in zip(body.ops, outcome.results, strict=True)
        ]
    if opcode == OpCode.CREATE:
        return outcome.path
    if opcode in (OpCode.CREATE2, OpCode.CREATE_CONTAINER):
        return outcome.path, outcome.stat
    if opcode == OpCode.RECONFIG:
        return outcome.data, outcome.stat
    return outcome.stat if opcode == OpCode.SET_DATA else None


def _as_told(reply: Any) -> object:
    """A write's reply in the form of `_reply_of`."""
    if isinstance(reply, records.MultiResponse):
        return [(each.error, None if each.error else _part(each.body)) for each in reply.results]
    return _part(reply)


def _part(reply: Any) -> object:
    if isinstance(reply, records.Create2Response):
        return reply.path, reply.stat
    if isinstance(reply, records.ReconfigResponse):
        return reply.data, reply.stat
    if isinstance(reply, records.CreateResponse):
        return reply.path
    return reply.stat if isinstance(reply, records.SetDataResponse) else None


def _missed(model: Model, body: Any) -> list[Happening]:
    """What a reconnecting client's watches missed, as the tree is now."""
    nodes, since = model.nodes, body.relative_zxid
    missed: list[Happening] = []
    for path in body.data_watches:
        if path not in nodes:
            missed.append((EventType.NODE_DELETED, path))
        elif nodes[path].mzxid > since:
            missed.append((EventType.NODE_DATA_CHANGED, path))
    missed += [(EventType.NODE_CREATED, path) for path in body.exist_watches if path in nodes]
    for path in body.child_watches:
        if path not in nodes:
            missed.append((EventType.NODE_DELETED, path))
        elif nodes[path].pzxid > since:
            missed.append((EventType.NODE_CHILDREN_CHANGED, path))
    return missed


def _count_acknowledged(history: History, summary: Summary, opened: Container[int]) -> None:
    """C7: whatever was answered with a zxid is in the log under that zxid; but for the end of a
    session that was never more than a local one."""
    for connection in history.connections:
        for op in connection.ops:
            if op.opcode == OpCode.CLOSE_SESSION and connection.session not in opened:
                continue
            if op.opcode not in WRITES:
                summary.syncs += op.is_known and op.opcode == OpCode.SYNC
                continue
            summary.acknowledged += op.is_known
            summary.unknown_found += not op.is_known and bool(op.committed)
            if op.is_known and op.committed != op.zxid:
                raise Violation(
                    "C7",
                    f"{_name(op)} of session {connection.session:#x} was acknowledged as "
                    f"{show(op.zxid)}, the log has it at {show(op.committed)}",
                )


# --- order in time: C1, C5


def _check_real_time(history: History) -> None:
    """Everything told to anybody before a write or sync was sent lies before it."""
    ops = [op for connection in history.connections for op in connection.ops]
    told = sorted((op.returned, op.zxid) for op in ops if op.is_known)
    times = [at for at, _ in told]
    highest: list[int] = [0]
    for _, zxid in told:
        highest.append(max(highest[-1], zxid))
    for op in ops:
        zxid, rule = (op.zxid, "C5") if op.opcode == OpCode.SYNC else (op.committed, "C1")
        if not zxid:
            continue
        before = highest[bisect_left(times, op.invoked)]
        if zxid < before or (zxid == before and rule == "C1"):
            raise Violation(
                rule,
                f"{_name(op)}, sent at {op.invoked} us, has {show(zxid)}, "
                f"but {show(before)} had been told before",
            )


# --- one session: C2, C3, C12


def _check_session(connections: list[Connection]) -> None:
    seen = 0
    for connection in connections:
        if connection.last_zxid_seen < seen:
            raise Violation("C3", "the simulated client forgot what it had seen")
        last = connection.last_zxid_seen
        for op in connection.stream:
            if isinstance(op, Event) or op.opcode == OpCode.AUTH:
                continue
            if op.zxid < last:
                raise Violation(
                    "C3",
                    f"session {connection.session:#x}: {_name(op)} shows {show(op.zxid)} "
                    f"after {show(last)}",
                )
            last = op.zxid
        seen = max(seen, last)
        _check_sending_order(connection)


def _check_sending_order(connection: Connection) -> None:
    """Requests take effect and are answered as they were sent; pings may overtake."""
    xids = [op.xid for op in connection.stream if isinstance(op, Op) and op.xid > 0]
    if xids != sorted(xids):
        raise Violation("C2", f"replies of session {connection.session:#x} in order {xids}")
    last = 0
    for op in connection.ops:
        if op.committed:
            if op.committed < last:
                raise Violation("C2", f"{_name(op)} overtook a write sent before it")
            last = op.committed


def _check_moves(history: History, found: Iterable[tuple[Connection, Op]]) -> None:
    """In the log, a session's connections follow each other and never mix."""
    index = {id(connection): i for i, connection in enumerate(history.connections)}
    latest: dict[int, int] = {}
    for connection, op in found:
        place = index[id(connection)]
        if place < latest.get(connection.session, -1):
            raise Violation("C12", f"{_name(op)} took effect after its session had moved on")
        latest[connection.session] = place


# --- watches: C9


def _check_watches(connection: Connection, happenings: dict[int, list[Happening]]) -> int:
    """Walk what arrived; how many events were compared."""
    table = _Watches()
    zxids = list(happenings)
    walk = _Walk(table, happenings, zxids, connection)
    compared = 0
    for item in connection.stream:
        if isinstance(item, Event):
            walk.arrived.append(item)
            compared += 1
        elif item.zxid and item.opcode != OpCode.AUTH:
            walk.advance(item.zxid)
            walk.after_reply(item)
    walk.finish()
    return compared


@attrs.define
class _Watches:
    """What one connection watches, as the server should know it."""

    data: dict[str, None] = attrs.Factory(dict)
    child: dict[str, None] = attrs.Factory(dict)
    persistent: dict[str, None] = attrs.Factory(dict)
    recursive: dict[str, None] = attrs.Factory(dict)

    @property
    def empty(self) -> bool:
        return not (self.data or self.child or self.persistent or self.recursive)

    def fires(self, kind: int, path: str) -> bool:
        """Whether a change is told; one-shots go."""
        told = path in self.persistent
        if kind != EventType.NODE_CHILDREN_CHANGED:
            told |= self.data.pop(path, _ABSENT) is None
            told |= any(_is_within(path, top) for top in self.recursive)
        if kind in (EventType.NODE_CHILDREN_CHANGED, EventType.NODE_DELETED):
            told |= self.child.pop(path, _ABSENT) is None
        return told

    def register(self, op: Op) -> None:
        """What a reply left behind on the server."""
        body = op.body
        if op.opcode in _SET_WATCHES:
            self._register_again(body, op.missed)
        elif op.opcode == OpCode.ADD_WATCH and not op.error:
            recursive = body.mode == WatchMode.PERSISTENT_RECURSIVE
            (self.recursive if recursive else self.persistent)[body.path] = None
        elif op.opcode in READS and body.watch:
            if op.opcode == OpCode.EXISTS or (op.opcode == OpCode.GET_DATA and not op.error):
                self.data[body.path] = None
            elif not op.error:
                self.child[body.path] = None

    def _register_again(self, body: Any, missed: list[Happening]) -> None:
        fired = dict.fromkeys(missed)
        for path in body.data_watches:
            if not _told(fired, path, EventType.NODE_DELETED, EventType.NODE_DATA_CHANGED):
                self.data[path] = None
        for path in body.exist_watches:
            if not _told(fired, path, EventType.NODE_CREATED):
                self.data[path] = None
        for path in body.child_watches:
            if not _told(fired, path, EventType.NODE_DELETED, EventType.NODE_CHILDREN_CHANGED):
                self.child[path] = None
        self.persistent.update(dict.fromkeys(getattr(body, "persistent_watches", ())))
        self.recursive.update(dict.fromkeys(getattr(body, "persistent_recursive_watches", ())))


_ABSENT: Final = object()


def _told(fired: dict[Happening, None], path: str, *kinds: int) -> bool:
    return any((kind, path) in fired for kind in kinds)


def _is_within(path: str, top: str) -> bool:
    return path == top or top == "/" or path.startswith(top + "/")


class _Walk:
    """Events that must have come, against those that did."""

    def __init__(
        self,
        table: _Watches,
        happenings: dict[int, list[Happening]],
        zxids: list[int],
        connection: Connection,
    ) -> None:
        self.arrived: list[Event] = []
        """Not compared yet."""
        self._table = table
        self._happenings = happenings
        self._zxids = zxids
        self._connection = connection
        self._position = 0

    def advance(self, zxid: int) -> None:
        """Up to here every event must have arrived, in this order."""
        upto = bisect_right(self._zxids, zxid)
        if self._table.empty:
            self._position = max(self._position, upto)
        while self._position < upto:
            self._expect(self._zxids[self._position])
            self._position += 1

    def after_reply(self, op: Op) -> None:
        if op.opcode in _SET_WATCHES:
            self._compare([(-1, kind, path) for kind, path in op.missed])
        if self.arrived and self.arrived[0].zxid <= op.zxid:
            raise self._violation(f"{self.arrived[0]} came though nothing of it was watched")
        self._table.register(op)

    def finish(self) -> None:
        """What came behind the last reply is what the next changes bring, as far as it goes."""
        while self.arrived and self._position < len(self._zxids):
            zxid = self._zxids[self._position]
            self._position += 1
            if self.arrived[-1].zxid > zxid:
                self._expect(zxid)
            else:
                self._compare_last(zxid)
        if self.arrived and self.arrived[0].zxid != -1:
            raise self._violation(f"{self.arrived[0]} came though nothing of it was watched")

    def _expected(self, zxid: int) -> list[tuple[int, int, str]]:
        fires = self._table.fires
        return [(zxid, kind, path) for kind, path in self._happenings[zxid] if fires(kind, path)]

    def _expect(self, zxid: int) -> None:
        expected = self._expected(zxid)
        if expected:
            self._compare(expected)

    def _compare(self, expected: list[tuple[int, int, str]]) -> None:
        """Within one transaction any order will do."""
        count = len(expected)
        came = [(each.zxid, each.type, each.path) for each in self.arrived[:count]]
        if sorted(came) != sorted(expected):
            raise self._violation(f"events {expected} must be next, but {came} came")
        del self.arrived[:count]

    def _compare_last(self, zxid: int) -> None:
        """The connection may have ended in the middle of one transaction's events."""
        expected = self._expected(zxid)
        for each in self.arrived:
            if (each.zxid, each.type, each.path) not in expected:
                raise self._violation(f"{each} came, but {expected} must be next")
        self.arrived.clear()

    def _violation(self, what: str) -> Violation:
        return Violation("C9", f"session {self._connection.session:#x}: {what}")


def _name(op: Op) -> str:
    return f"request {op.xid} ({OpCode(op.opcode).name} {getattr(op.body, 'path', '')})"


# --- without zxids: a search, for small histories


@attrs.define(frozen=True)
class RegisterOp:
    """On one register: `write` None is a read, of `value`; otherwise `value` was written.

    A write at `version` succeeds only if that is the register's; `ok` tells whether it did.
    An unknown one may have happened at any time after it was invoked, or never.
    """

    invoked: int
    returned: int
    write: bytes | None
    value: bytes
    version: int
    ok: bool = True

    @property
    def is_known(self) -> bool:
        return self.returned != UNKNOWN


RegisterState = tuple[bytes, int]


def linearizable(ops: list[RegisterOp], initial: RegisterState) -> bool:
    """Wing and Gong's search, with Lowe's memory of what was tried."""
    ops = sorted(ops, key=lambda op: op.invoked)
    tried: set[tuple[int, RegisterState]] = set()
    stack: list[tuple[int, RegisterState]] = [(0, initial)]
    goal = sum(1 << i for i, op in enumerate(ops) if op.is_known)
    while stack:
        done, state = stack.pop()
        if done & goal == goal:
            return True
        if (done, state) in tried:
            continue
        tried.add((done, state))
        for i in _candidates(ops, done):
            after = _step(ops[i], state)
            if after is not None:
                stack.append((done | 1 << i, after))
    return False


def _candidates(ops: list[RegisterOp], done: int) -> list[int]:
    """Those not done that were invoked before any other one that is not done returned."""
    left = [i for i in range(len(ops)) if not done >> i & 1]
    limit = min((ops[i].returned for i in left if ops[i].is_known), default=None)
    return [i for i in left if limit is None or ops[i].invoked <= limit]


def _step(op: RegisterOp, state: RegisterState) -> RegisterState | None:
    value, version = state
    if op.write is None:
        return state if (op.value, op.version) == state else None
    if op.version not in (-1, version):
        return state if not (op.is_known and op.ok) else None
    if op.is_known and not op.ok:
        return None
    return op.write, version + 1


def register_ops(history: History, path: str) -> list[RegisterOp]:
    """setData and getData of one znode that is only ever set, the latter behind a sync."""
    found = []
    for connection in history.connections:
        synced: Op | None = None
        for op in connection.ops:
            if op.error == ErrorCode.NO_NODE:
                continue  # before there was a register
            if op.opcode == OpCode.SYNC:
                synced = op
            elif getattr(op.body, "path", None) != path:
                synced = None
            elif op.opcode == OpCode.SET_DATA:
                found.append(_write_of(op))
            elif op.opcode == OpCode.GET_DATA and synced is not None and op.is_known:
                found.append(_read_of(op, synced))
    return found


def _write_of(op: Op) -> RegisterOp:
    return RegisterOp(op.invoked, op.returned, op.body.data, b"", op.body.version, ok=op.error == 0)


def _read_of(op: Op, synced: Op) -> RegisterOp:
    data, version = op.reply.data, op.reply.stat.version
    return RegisterOp(synced.invoked, op.returned, None, data or b"", version)
