"""Applies single transactions with the zxid, header and counter that prepare would give."""

from wire.records import ACL, OPEN_ACL, Stat
from wire.txn import CreateSessionTxn, CreateTxn, Txn, TxnHeader
from zkpy.state import paths
from zkpy.state import znode as zn
from zkpy.state.apply import Applied, ReplicatedState


def next_counter(znode: bytes) -> int:
    """The parent's counter after one more create."""
    return min(zn.child_counter(znode) + 1, zn.COUNTER_MAX)


class Driver:
    acl = OPEN_ACL

    def __init__(self) -> None:
        self.state = ReplicatedState.founded()

    def apply(self, txn: Txn, session: int = 1) -> Applied:
        return self.state.apply(self.state.zxid + 1, self.header(session), txn)

    def header(self, session: int) -> TxnHeader:
        return TxnHeader(session, 1, 1, 1, 1, time_ms=(self.state.zxid + 1) * 1000)

    def create_txn(
        self, path: str, data: bytes | None = b"", owner: int = 0, acl: tuple[ACL, ...] = OPEN_ACL
    ) -> CreateTxn:
        counter = next_counter(self.state.tree.nodes[paths.parent(path)])
        return CreateTxn(path, data, acl, owner, counter)

    def create(
        self, path: str, data: bytes | None = b"", owner: int = 0, acl: tuple[ACL, ...] = OPEN_ACL
    ) -> Applied:
        return self.apply(self.create_txn(path, data, owner, acl))

    def open_session(self, session: int) -> Applied:
        return self.apply(CreateSessionTxn(30_000, bytes(16)), session)

    def stat(self, path: str) -> Stat:
        return Stat.parse(zn.stat_of(self.state.tree.nodes[path]), 0, 68)
