"""Random valid histories of transactions, and a plain model of what they must lead to.

The model keeps every field of a Stat by name and knows nothing of packed znodes,
digests or images; what prepare would compute for a transaction comes from it.
"""

import random
from collections.abc import Iterator

import attrs

from wire.codes import ErrorCode
from wire.records import ACL, OPEN_ACL, Stat
from wire.txn import (
    CheckTxn,
    CloseSessionTxn,
    CreateSessionTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    MultiTxn,
    SetACLTxn,
    SetDataTxn,
    Txn,
    TxnHeader,
)
from zkpy.state.lifetimes import CONTAINER_OWNER, owner_of_ttl

Step = tuple[int, TxnHeader, Txn]

NAMES = [f"n{i}" for i in range(12)] + ["é", "日本", "a b", "zookeeper_limits"]
ACLS = [
    OPEN_ACL,
    OPEN_ACL,
    (ACL(1, "world", "anyone"),),
    (ACL(31, "digest", "ann:hash"), ACL(1, "ip", "10.0.0.0/8")),
]
SYSTEM = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"]


def int32(value: int) -> int:
    return (value + 0x80000000) % 0x100000000 - 0x80000000


def parent_of(path: str) -> str:
    return path[: path.rindex("/")] or "/"


@attrs.define
class Node:
    data: bytes | None
    acl: tuple[ACL, ...] = OPEN_ACL
    owner: int = 0
    czxid: int = 0
    mzxid: int = 0
    pzxid: int = 0
    ctime: int = 0
    mtime: int = 0
    version: int = 0
    aversion: int = 0
    creates: int = 0


class Model:
    """Path -> Node; children are found by looking at every path."""

    def __init__(self) -> None:
        self.nodes = {path: Node(b"") for path in SYSTEM}
        self.nodes["/zookeeper/config"].acl = ACLS[2]
        self.nodes["/zookeeper/config"].aversion = -1
        self.sessions: dict[int, CreateSessionTxn] = {}

    def children(self, path: str) -> list[str]:
        prefix = path.rstrip("/") + "/"
        return [
            p[len(prefix) :]
            for p in self.nodes
            if p != "/" and p.startswith(prefix) and "/" not in p[len(prefix) :]
        ]

    def stat(self, path: str) -> Stat:
        node, children = self.nodes[path], len(self.children(path))
        return Stat(
            node.czxid,
            node.mzxid,
            node.ctime,
            node.mtime,
            node.version,
            int32(2 * node.creates - children),
            node.aversion,
            node.owner if node.owner in self.sessions else 0,
            len(node.data or b""),
            children,
            node.pzxid,
        )

    def apply(self, zxid: int, header: TxnHeader, txn: Txn) -> None:
        match txn:
            case CreateTxn(path, data, acl, owner, creates):
                time = header.time_ms
                self.nodes[path] = Node(data, acl, owner, zxid, zxid, zxid, time, time)
                self.nodes[parent_of(path)].creates = creates
                self.nodes[parent_of(path)].pzxid = zxid
            case DeleteTxn(path):
                del self.nodes[path]
                self.nodes[parent_of(path)].pzxid = zxid
            case SetDataTxn(path, data, version):
                node = self.nodes[path]
                node.data, node.version, node.mzxid = data, version, zxid
                node.mtime = header.time_ms
            case SetACLTxn(path, acl, aversion):
                self.nodes[path].acl, self.nodes[path].aversion = acl, aversion
            case MultiTxn(txns):
                for part in txns:
                    self.apply(zxid, header, part)
            case CreateSessionTxn():
                self.sessions[header.session] = txn
            case CloseSessionTxn():
                for path in [p for p, n in self.nodes.items() if n.owner == header.session]:
                    self.apply(zxid, header, DeleteTxn(path))
                del self.sessions[header.session]


class Historian:
    """Draws one valid transaction after another; `model` is the state after the last."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.model = Model()
        self.zxid = 1 << 32
        self.time_ms = 1_700_000_000_000

    def steps(self, count: int) -> Iterator[Step]:
        for _ in range(count):
            yield self.step()

    def step(self) -> Step:
        self.zxid += 1
        self.time_ms += self.rng.randrange(50)
        draw = self.rng.choices(
            [self.operation, self.multi, self.open, self.close, self.refusal], [80, 8, 5, 3, 4]
        )[0]
        session, txn = draw()
        return self.zxid, self.header(session), txn

    def header(self, session: int) -> TxnHeader:
        return TxnHeader(session, 1, 1, 1, 1, self.time_ms)

    def open(self) -> tuple[int, Txn]:
        session = self.rng.choice([1, -2]) << 56 | self.zxid
        return self.done(session, CreateSessionTxn(30_000, self.rng.randbytes(16)))

    def close(self) -> tuple[int, Txn]:
        if not self.model.sessions:
            return self.open()
        return self.done(self.rng.choice(list(self.model.sessions)), CloseSessionTxn())

    def refusal(self) -> tuple[int, Txn]:
        error = ErrorTxn(int(ErrorCode.NO_NODE))
        return self.done(1, MultiTxn((error, error)) if self.rng.random() < 0.5 else error)

    def operation(self) -> tuple[int, Txn]:
        return self.done(1, self.draw())

    def multi(self) -> tuple[int, Txn]:
        parts: list[Txn] = []
        for _ in range(self.rng.randrange(1, 6)):
            parts.append(self.draw(in_multi=True))
            self.done(1, parts[-1])
        return 1, MultiTxn(tuple(parts))

    def done(self, session: int, txn: Txn) -> tuple[int, Txn]:
        self.model.apply(self.zxid, self.header(session), txn)
        return session, txn

    def draw(self, in_multi: bool = False) -> Txn:
        draws = [self.create, self.delete, self.set_data, self.check if in_multi else self.set_acl]
        return self.rng.choices(draws, [45, 20, 25, 10])[0]()

    def create(self) -> Txn:
        parents = [p for p, n in self.model.nodes.items() if n.owner not in self.model.sessions]
        parent = self.rng.choice(parents)
        name = self.rng.choice(NAMES)
        creates = self.model.nodes[parent].creates
        if self.rng.random() < 0.3:
            name = f"{name}{creates:010d}"
        path = parent.rstrip("/") + "/" + name
        if path in self.model.nodes or path.count("/") > 6:
            return self.set_data()
        return CreateTxn(path, self.data(), self.rng.choice(ACLS), self.owner(), creates + 1)

    def owner(self) -> int:
        owners = [0, 0, 0, 0, CONTAINER_OWNER, owner_of_ttl(self.rng.randrange(1, 10**6))]
        return self.rng.choice(owners + list(self.model.sessions)[-3:])

    def data(self) -> bytes | None:
        size = self.rng.choice([None, 0, 1, 30, 300])
        if size == 30:
            return b"count=5,bytes=100=;countHardLimit=9"
        return None if size is None else self.rng.randbytes(size)

    def delete(self) -> Txn:
        childless = [p for p in self.model.nodes if p not in SYSTEM and not self.model.children(p)]
        return DeleteTxn(self.rng.choice(childless)) if childless else self.create()

    def set_data(self) -> Txn:
        path = self.rng.choice(list(self.model.nodes))
        return SetDataTxn(path, self.data(), self.model.nodes[path].version + 1)

    def set_acl(self) -> Txn:
        path = self.rng.choice(list(self.model.nodes))
        return SetACLTxn(path, self.rng.choice(ACLS), self.model.nodes[path].aversion + 1)

    def check(self) -> Txn:
        path = self.rng.choice(list(self.model.nodes))
        return CheckTxn(path, self.model.nodes[path].version)


def history(seed: int, count: int) -> list[Step]:
    return list(Historian(seed).steps(count))
