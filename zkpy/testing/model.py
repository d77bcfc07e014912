"""What ZooKeeper's tree does, once more, straight and dumb: the oracle of the checkers.

Nothing here is shared with zkpy.state or zkpy.pipeline; only the wire's records are.
A request is judged and carried out in one go against the tree as it is, which is
right when requests come in zxid order.  Every operation copies what it may have to undo.

Covers what simulated clients do: create (plain, sequential, ephemeral, container), delete,
setData, multi of these with check, reconfig (that was let through), sessions; reads of data,
Stat and children.
"""

from collections.abc import Callable
from typing import Any, Final

import attrs

from wire import records
from wire.codes import CreateMode, ErrorCode, EventType, OpCode

Happening = tuple[int, str]
"""(EventType, path) of a watch that would fire: a child event names the parent."""

CONFIG: Final = "/zookeeper/config"
_SYSTEM: Final = ("/zookeeper", "/zookeeper/quota", CONFIG)
_SEQUENTIAL: Final = (CreateMode.PERSISTENT_SEQUENTIAL, CreateMode.EPHEMERAL_SEQUENTIAL)
_EPHEMERAL: Final = (CreateMode.EPHEMERAL, CreateMode.EPHEMERAL_SEQUENTIAL)


@attrs.define
class Node:
    data: bytes | None
    owner: int
    czxid: int
    ctime: int
    mzxid: int = 0
    mtime: int = 0
    pzxid: int = 0
    version: int = 0
    aversion: int = 0
    creates: int = 0
    """Children ever created below."""
    children: dict[str, None] = attrs.Factory(dict)

    def stat(self) -> records.Stat:
        count = len(self.children)
        return records.Stat(
            czxid=self.czxid,
            mzxid=self.mzxid,
            ctime=self.ctime,
            mtime=self.mtime,
            version=self.version,
            cversion=2 * self.creates - count,
            aversion=self.aversion,
            ephemeral_owner=self.owner,
            data_length=len(self.data or b""),
            num_children=count,
            pzxid=self.pzxid,
        )


class Refused(Exception):
    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code)
        self.code = code


@attrs.define
class Outcome:
    """What one request did."""

    error: int = 0
    path: str | None = None
    stat: records.Stat | None = None
    data: bytes | None = None
    """Of a reconfig."""
    results: "list[Outcome] | None" = None
    """Of a multi; its own error is 0 in any case."""
    happenings: list[Happening] = attrs.Factory(list)


class Model:
    """The tree and the live sessions, after the requests carried out so far."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {"/": Node(b"", 0, 0, 0)}
        self.sessions: dict[int, int] = {}
        """Session -> negotiated time-out in ms."""
        self._zxid = 0
        self._time_ms = 0
        self._session = 0
        for path in _SYSTEM:  # linked, but never created: a fresh root shows cversion -1
            self.nodes[path] = Node(b"", 0, 0, 0)
            self._parent_of(path).children[path.rpartition("/")[2]] = None
        self.nodes[CONFIG].aversion = -1  # its ACL was set

    # --- writes

    def execute(self, zxid: int, time_ms: int, session: int, opcode: int, body: Any) -> Outcome:
        """Carry out a client's write as `zxid`; a refusal is an outcome too."""
        self._zxid, self._time_ms, self._session = zxid, time_ms, session
        if session not in self.sessions:
            return Outcome(error=ErrorCode.SESSION_EXPIRED)
        if opcode == OpCode.CLOSE_SESSION:
            return self.close_session(zxid, session)
        if opcode == OpCode.MULTI:
            return self._multi(body)
        try:
            return self._one(opcode, body)
        except Refused as refusal:
            return Outcome(error=refusal.code)

    def found(self, zxid: int, time_ms: int, text: str) -> Outcome:
        """The configuration is this, without its version."""
        node = self.nodes[CONFIG]
        node.data = f"{text}\nversion={zxid:x}".encode()
        node.version, node.mzxid, node.mtime = -1, zxid, time_ms
        happenings = [(int(EventType.NODE_DATA_CHANGED), CONFIG)]
        return Outcome(stat=node.stat(), data=node.data, happenings=happenings)

    @property
    def configuration(self) -> dict[int, str]:
        """Server id -> line, as the configuration has it."""
        lines = (self.nodes[CONFIG].data or b"").decode().split("\n")[:-1]
        return {int(line[7:].partition("=")[0]): line for line in lines}

    def _reconfig(self, body: records.ReconfigRequest) -> Outcome:
        """Of lines in the form in which they are shown."""
        lines = {} if body.new_members else self.configuration
        for number in filter(None, body.leaving_servers.split(",")):
            lines.pop(int(number), None)
        for line in filter(None, (body.new_members or body.joining_servers).split(",")):
            lines[int(line[7:].partition("=")[0])] = line
        text = "\n".join(line for _, line in sorted(lines.items()))
        return self.found(self._zxid, self._time_ms, text)

    def open_session(self, session: int, timeout_ms: int) -> None:
        assert session not in self.sessions, "a session id was used twice"
        self.sessions[session] = timeout_ms

    def close_session(self, zxid: int, session: int) -> Outcome:
        """With all its ephemerals, in one transaction."""
        self._zxid = zxid
        outcome = Outcome()
        del self.sessions[session]
        owned = [path for path, node in self.nodes.items() if node.owner == session]
        for path in owned:
            self._remove(path, outcome.happenings)
        return outcome

    def _one(self, opcode: int, body: Any) -> Outcome:
        return _WRITES[opcode](self, body)

    def _multi(self, body: records.MultiRequest) -> Outcome:
        before = {
            path: attrs.evolve(n, children=dict(n.children)) for path, n in self.nodes.items()
        }
        outcome = Outcome(results=[])
        assert outcome.results is not None
        for opcode, operation in body.ops:
            try:
                done = self._one(opcode, operation)
            except Refused as refusal:
                self.nodes = before
                return _failed_multi(len(outcome.results), refusal.code, len(body.ops))
            outcome.results.append(done)
            outcome.happenings += done.happenings
        return outcome

    def _create(self, body: records.CreateRequest) -> Outcome:
        parent_path = body.path.rpartition("/")[0] or "/"
        parent = self.nodes.get(parent_path)
        if parent is None:
            raise Refused(ErrorCode.NO_NODE)
        path = body.path
        if body.flags in _SEQUENTIAL:
            path += f"{parent.creates:010d}"
        if path in self.nodes:
            raise Refused(ErrorCode.NODE_EXISTS)
        if parent.owner:
            raise Refused(ErrorCode.NO_CHILDREN_FOR_EPHEMERALS)
        owner = self._session if body.flags in _EPHEMERAL else 0
        zxid, time_ms = self._zxid, self._time_ms
        node = Node(body.data, owner, zxid, time_ms, zxid, time_ms, zxid)
        self.nodes[path] = node
        parent.children[path.rpartition("/")[2]] = None
        parent.creates += 1
        parent.pzxid = zxid
        happenings = [
            (int(EventType.NODE_CREATED), path),
            (int(EventType.NODE_CHILDREN_CHANGED), parent_path),
        ]
        return Outcome(path=path, stat=node.stat(), happenings=happenings)

    def _delete(self, body: records.DeleteRequest) -> Outcome:
        if body.path in ("/", *_SYSTEM):
            raise Refused(ErrorCode.BAD_ARGUMENTS)
        if (body.path.rpartition("/")[0] or "/") not in self.nodes:
            raise Refused(ErrorCode.NO_NODE)
        node = self._existing(body.path)
        self._check_version(node, body.version)
        if node.children:
            raise Refused(ErrorCode.NOT_EMPTY)
        outcome = Outcome()
        self._remove(body.path, outcome.happenings)
        return outcome

    def _remove(self, path: str, happenings: list[Happening]) -> None:
        del self.nodes[path]
        parent = self._parent_of(path)
        del parent.children[path.rpartition("/")[2]]
        parent.pzxid = self._zxid
        happenings.append((int(EventType.NODE_DELETED), path))
        parent_path = path.rpartition("/")[0] or "/"
        happenings.append((int(EventType.NODE_CHILDREN_CHANGED), parent_path))

    def _set_data(self, body: records.SetDataRequest) -> Outcome:
        node = self._existing(body.path)
        self._check_version(node, body.version)
        node.data = body.data
        node.version += 1
        node.mzxid, node.mtime = self._zxid, self._time_ms
        happenings = [(int(EventType.NODE_DATA_CHANGED), body.path)]
        return Outcome(stat=node.stat(), happenings=happenings)

    def _check(self, body: records.CheckVersionRequest) -> Outcome:
        self._check_version(self._existing(body.path), body.version)
        return Outcome()

    def _existing(self, path: str) -> Node:
        node = self.nodes.get(path)
        if node is None:
            raise Refused(ErrorCode.NO_NODE)
        return node

    def _check_version(self, node: Node, expected: int) -> None:
        if expected not in (-1, node.version):
            raise Refused(ErrorCode.BAD_VERSION)

    def _parent_of(self, path: str) -> Node:
        return self.nodes[path.rpartition("/")[0] or "/"]

    # --- reads

    def read(self, opcode: int, body: Any) -> tuple[int, object]:
        """(error, what the reply must say) of a read of the tree as it is now.

        Children come as a sorted list: their order is no one's promise.
        """
        node = self.nodes.get(body.path)
        if node is None:
            return ErrorCode.NO_NODE, None
        return 0, _READS[opcode](node)


def normalized(reply: Any) -> object:
    """A reply's record in the form in which `Model.read` answers."""
    if isinstance(reply, records.GetDataResponse):
        return reply.data, reply.stat
    if isinstance(reply, records.ExistsResponse):
        return reply.stat
    if isinstance(reply, records.GetChildrenResponse):
        return sorted(reply.children)
    if isinstance(reply, records.GetChildren2Response):
        return sorted(reply.children), reply.stat
    return reply


def _failed_multi(done: int, code: ErrorCode, count: int) -> Outcome:
    after = count - done - 1
    codes = [0] * done + [int(code)] + [int(ErrorCode.RUNTIME_INCONSISTENCY)] * after
    return Outcome(results=[Outcome(error=each) for each in codes])


_WRITES: Final[dict[int, Callable[[Model, Any], Outcome]]] = {
    OpCode.CREATE: Model._create,
    OpCode.CREATE2: Model._create,
    OpCode.CREATE_CONTAINER: Model._create,
    OpCode.DELETE: Model._delete,
    OpCode.SET_DATA: Model._set_data,
    OpCode.CHECK: Model._check,
    OpCode.RECONFIG: Model._reconfig,
}
_READS: Final[dict[int, Callable[[Node], object]]] = {
    OpCode.GET_DATA: lambda node: (node.data, node.stat()),
    OpCode.EXISTS: lambda node: node.stat(),
    OpCode.GET_CHILDREN: lambda node: sorted(node.children),
    OpCode.GET_CHILDREN2: lambda node: (sorted(node.children), node.stat()),
}
