"""Random histories as ZooKeeper's log holds them, and its fuzzy snapshots of a moving tree."""

import copy
import random
from collections.abc import Sequence
from typing import Final

from wire.codes import OpCode
from wire.jute import Record
from wire.records import OPEN_ACL
from zkpy.zookeeper.records import (
    OPEN_ENTRIES,
    PARTS,
    Check,
    CloseSession,
    Create,
    CreateContainer,
    CreateSession,
    CreateTtl,
    Delete,
    Error,
    LogHeader,
    Multi,
    Part,
    SetAcl,
    SetData,
    StoredEntry,
)
from zkpy.zookeeper.tree import Node, Tree

Logged = tuple[LogHeader, bytes]
ACLS: Final = (
    OPEN_ENTRIES,
    [StoredEntry(31, "digest", b"ann:x")],
    [StoredEntry(1, "world", b"anyone")],
    [StoredEntry(31, "digest", b"bob:x")],
    [StoredEntry(31, "ip", b"10.0.0.0/8")],
)
NAMES: Final = "abcd"


def founded() -> Tree:
    tree = Tree()
    for path in ("/", "/zookeeper", "/zookeeper/quota"):
        tree.add(path, Node(b"", OPEN_ACL, 0, 0, 0, 0, 0, 0, 0, 0, 0))
    return tree


class History:
    """Draws transactions that fit the tree as it is, and keeps that tree."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.tree = founded()
        self.logged: list[Logged] = []
        self.next_session = 1

    def grow(self, count: int) -> None:
        for _ in range(count):
            kind, record, session = self._draw()
            self.log(kind, record, session)

    def log(self, kind: int, record: Record, session: int) -> None:
        zxid = self.tree.zxid + 1
        header = LogHeader(session, zxid, zxid, 1_000 + zxid, kind)
        self.logged.append((header, record.encode()))
        self.tree.replay(*self.logged[-1])

    def _draw(self) -> tuple[int, Record, int]:
        if not self.tree.sessions or self.rng.random() < 0.05:
            self.next_session += 1
            return OpCode.CREATE_SESSION, CreateSession(4_000), self.next_session
        session = self.rng.choice(list(self.tree.sessions))
        if self.rng.random() < 0.06:
            return OpCode.CLOSE_SESSION, self._closing(session), session
        if self.rng.random() < 0.15:
            return OpCode.MULTI, self._multi(session), session
        kind, record = self._operation(self.tree)
        return kind, record, session

    def _closing(self, session: int) -> CloseSession:
        return CloseSession([p for p, node in self.tree.nodes.items() if node.owner == session])

    def _multi(self, session: int) -> Multi:
        """Each part fits what those before it leave; one in three fails, and does nothing."""
        scratch, parts = copy.deepcopy(self.tree), []
        for _ in range(self.rng.randrange(1, 4)):
            kind, record = self._operation(scratch)
            if kind not in PARTS:
                continue
            header = LogHeader(session, 0, scratch.zxid + 1, 0, kind)
            scratch.replay(header, record.encode())
            parts.append(Part(kind, record.encode()))
        if not self.rng.randrange(3):
            parts.append(Part(OpCode.ERROR, Error(-101).encode()))
        return Multi(parts)

    def _operation(self, tree: Tree) -> tuple[int, Record]:
        rng = self.rng
        path = rng.choice(list(tree.nodes))
        below = f"{path.rstrip('/')}/{rng.choice(NAMES)}"
        draw = rng.random()
        if draw < 0.5 and below not in tree.nodes and not tree.nodes[path].owner > 0:
            return self._create(tree, path, below)
        leaf = path.count("/") > 1 and not any(each.startswith(path + "/") for each in tree.nodes)
        if draw < 0.75 and leaf and not path.startswith("/zookeeper"):
            return OpCode.DELETE, Delete(path)
        node = tree.nodes[path]
        if draw < 0.9:
            return OpCode.SET_DATA, SetData(path, rng.randbytes(3), node.version + 1)
        if draw < 0.95:
            return OpCode.SET_ACL, SetAcl(path, rng.choice(ACLS), node.aversion + 1)
        return OpCode.CHECK, Check(path, node.version)

    def _create(self, tree: Tree, parent: str, path: str) -> tuple[int, Record]:
        rng, counter = self.rng, tree.nodes[parent].counter + 1
        data, acl = rng.choice((None, b"", rng.randbytes(4))), rng.choice(ACLS)
        draw = rng.random()
        if draw < 0.1:
            return OpCode.CREATE_CONTAINER, CreateContainer(path, data, acl, counter)
        if draw < 0.2:
            return OpCode.CREATE_TTL, CreateTtl(path, data, acl, counter, 5_000)
        kind = rng.choice((OpCode.CREATE, OpCode.CREATE2))
        return kind, Create(path, data, acl, rng.random() < 0.3, counter)


def fuzzy_snapshot(logged: Sequence[Logged], begun: int, rng: random.Random) -> Tree:
    """What a snapshot holds that is begun behind `begun` transactions, while the others come in.

    As ZooKeeper writes it: the sessions first, and the access lists that are in use; then each
    znode with the names below it, parents first.  A name whose znode is gone by then is passed
    over, and a list that came into use meanwhile is missing.
    """
    live = founded()
    replay(live, logged[:begun])
    snapshot = Tree(sessions=dict(live.sessions), zxid=live.zxid)
    known = {OPEN_ACL, *(node.acl for node in live.nodes.values())}
    rest = list(logged[begun:])

    def pass_time() -> None:
        count = rng.choice((0, 0, 0, 1, 2, 5))
        replay(live, rest[:count])
        del rest[:count]

    def serialise(path: str) -> None:
        node = live.nodes.get(path)
        if node is None:
            return
        written = copy.copy(node)
        written.acl = node.acl if node.acl in known else None
        snapshot.add(path, written)
        names = [p for p in live.nodes if p != "/" and (p.rpartition("/")[0] or "/") == path]
        for name in names:
            pass_time()
            serialise(name)

    pass_time()
    serialise("/")
    return snapshot


def replay(tree: Tree, logged: Sequence[Logged]) -> None:
    for header, body in logged:
        tree.replay(header, body)
