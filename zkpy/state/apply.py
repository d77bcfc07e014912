"""ReplicatedState: everything members agree on, and `apply`, the only way into it.

In: a transaction that the leader prepared, with its zxid and header.  Out: what the
origin of the request is answered, and one list of changes (path, before, after)
that everything which follows state reads: digest, quota counts, watches.

Theory of operation.  Prepare may refuse; apply may not.  It is total and has no
clock, so that broadcast, synchronisation and replay, which all come through here,
end in the same state.  A transaction that does not fit is
a bug of prepare, or a log that is not this tree's: an assertion, and the server
stops (with half of it applied in memory, which nothing reads any more).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

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
from zkpy.state import digest
from zkpy.state import znode as zn
from zkpy.state.acl import AclList
from zkpy.state.digest import Change
from zkpy.state.lifetimes import Lifetimes, is_session
from zkpy.state.quota import QuotaTable
from zkpy.state.sessions import SessionTable
from zkpy.state.tree import DataTree


@dataclass(eq=False, init=False, slots=True)
class Applied:
    """What one transaction did.

    The results of a multi share `changes` and `lost_acls` with the multi's own.
    """

    changes: list[Change]
    """In the order in which they happened; a create or delete is followed by the
    change of its parent's Stat."""
    error: int = 0
    """An ErrorCode, not 0 only if the transaction is a refusal.  A failed multi has 0
    and its results carry the errors."""
    path: str | None = None
    """Of a create: the path made, sequence number included."""
    stat: bytes | None = None
    """Of a create, setData or setACL: the packed Stat, 68 bytes."""
    results: "list[Applied] | None" = None
    """Of a multi: one per operation."""
    lost_acls: dict[str, AclList] | None = None
    """ACLs, where not open to the world, of the znodes that were deleted: who may see
    the event is decided by the ACL at that time.  None if there are none."""

    # Written out, as of all that each request makes: see scripts/compile_tree.py.
    def __init__(
        self,
        changes: list[Change],
        error: int = 0,
        path: str | None = None,
        stat: bytes | None = None,
        results: "list[Applied] | None" = None,
        lost_acls: dict[str, AclList] | None = None,
    ) -> None:
        self.changes = changes
        self.error = error
        self.path = path
        self.stat = stat
        self.results = results
        self.lost_acls = lost_acls


@dataclass(eq=False, repr=False, slots=True)
class ReplicatedState:
    """The tree, the sessions, and what follows from them, as of `zxid`.

    Made by `founded` or by `image`; changed by `apply` alone.
    """

    tree: DataTree
    zxid: int = 0
    """The last applied; 0 before the first transaction."""
    sessions: SessionTable = field(default_factory=SessionTable)
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    quota: QuotaTable = field(default_factory=QuotaTable)
    data_bytes: int = 0
    """Data and paths of all znodes: ZooKeeper's approximate data size."""
    _sum: int = 0
    """Digest terms of znodes and sessions.  Not reduced: exact, so it stays small."""

    @classmethod
    def founded(cls) -> "ReplicatedState":
        """The state before the first transaction, the same on every member."""
        state = cls(DataTree.founded())
        state.count_nodes(list(state.tree.nodes), list(state.tree.nodes.values()))
        return state

    @property
    def digest(self) -> int:
        """Of everything replicated, as of `zxid`; 64 bits."""
        return (self._sum + self.tree.facts) & digest.MASK

    @property
    def node_count(self) -> int:
        """Znodes, the system's own included."""
        return len(self.tree.nodes)

    def apply(self, zxid: int, header: TxnHeader, txn: Txn) -> Applied:
        """Carry out a committed transaction; the state is then that of `zxid`."""
        assert zxid > self.zxid, f"{zxid:#x} applied after {self.zxid:#x}"
        applied = Applied([])
        _HANDLERS[type(txn)](self, zxid, header, txn, applied)
        if applied.changes:
            self.data_bytes += self.quota.follow(applied.changes, self.tree)
            self._sum += digest.delta_of(applied.changes)
        self.zxid = zxid
        return applied

    def apply_other(self, zxid: int) -> None:
        """Note a committed entry that holds no transaction (EPOCH, CONFIG)."""
        assert zxid > self.zxid, f"{zxid:#x} applied after {self.zxid:#x}"
        self.zxid = zxid

    # For images: what follows from tree and sessions, counted anew.

    def count_nodes(self, paths: Sequence[str], znodes: Sequence[bytes]) -> None:
        """Count znodes that are in the tree but came by no transaction."""
        self._sum += digest.sum_of_nodes(paths, znodes)
        self.data_bytes += sum(map(len, paths)) + sum(map(len, znodes))
        self.data_bytes -= zn.OVERHEAD_BYTES * len(znodes)
        for path, owner in zn.ephemerals_among(paths, znodes):
            self.lifetimes.add(path, owner)

    def open_session(self, session: int, timeout_ms: int, password: bytes) -> None:
        self._sum += self.sessions.add(session, timeout_ms, password)

    def close_session(self, session: int) -> None:
        """Only for apply: its ephemerals are gone already."""
        self._sum -= self.sessions.remove(session)

    def restore(self, acls: Mapping[str, AclList], owners: Mapping[str, int]) -> None:
        """Note ACLs, containers and TTL znodes that came by no transaction."""
        self.tree.restore(acls, owners)
        for path, owner in owners.items():
            self.lifetimes.add(path, owner)


# One handler per kind of transaction, and the table that finds it.


def _create(
    state: ReplicatedState, zxid: int, header: TxnHeader, txn: CreateTxn, applied: Applied
) -> None:
    owner = txn.owner
    assert not owner or not is_session(owner) or owner in state.sessions, f"no session {owner:#x}"
    znode = state.tree.create(txn, zxid, header.time_ms, applied.changes)
    if owner:
        state.lifetimes.add(txn.path, owner)
    state.data_bytes += len(txn.path) + zn.data_length(znode)
    applied.path = txn.path
    applied.stat = zn.stat_of(znode)


def _delete(
    state: ReplicatedState, zxid: int, header: TxnHeader, txn: DeleteTxn, applied: Applied
) -> None:
    _remove(state, zxid, txn.path, applied)


def _remove(state: ReplicatedState, zxid: int, path: str, applied: Applied) -> None:
    tree = state.tree
    owner = tree.owners.get(path)
    if path in tree.acls:
        applied.lost_acls = applied.lost_acls or {}
        applied.lost_acls[path] = tree.acls[path]
    gone = tree.delete(path, zxid, applied.changes)
    if owner := owner or zn.ephemeral_owner(gone):
        state.lifetimes.remove(path, owner)
    state.data_bytes -= len(path) + zn.data_length(gone)


def _set_data(
    state: ReplicatedState, zxid: int, header: TxnHeader, txn: SetDataTxn, applied: Applied
) -> None:
    before, after = state.tree.set_data(txn, zxid, header.time_ms, applied.changes)
    state.data_bytes += len(after) - len(before)
    applied.stat = zn.stat_of(after)


def _set_acl(
    state: ReplicatedState, zxid: int, header: TxnHeader, txn: SetACLTxn, applied: Applied
) -> None:
    applied.stat = zn.stat_of(state.tree.set_acl(txn, applied.changes))


def _check(
    state: ReplicatedState, zxid: int, header: TxnHeader, txn: CheckTxn, applied: Applied
) -> None:
    """Prepare compared the version; here it stands in a multi that passed."""


def _refuse(
    state: ReplicatedState, zxid: int, header: TxnHeader, txn: ErrorTxn, applied: Applied
) -> None:
    applied.error = txn.code


def _apply_multi(
    state: ReplicatedState, zxid: int, header: TxnHeader, txn: MultiTxn, applied: Applied
) -> None:
    applied.results = results = []
    for part in txn.txns:
        result = Applied(applied.changes, lost_acls=applied.lost_acls)
        _HANDLERS[type(part)](state, zxid, header, part, result)
        applied.lost_acls = result.lost_acls
        results.append(result)


def _create_session(
    state: ReplicatedState, zxid: int, header: TxnHeader, txn: CreateSessionTxn, applied: Applied
) -> None:
    state.open_session(header.session, txn.timeout_ms, txn.password)


def _close_session(
    state: ReplicatedState, zxid: int, header: TxnHeader, txn: CloseSessionTxn, applied: Applied
) -> None:
    """The session's ephemerals, oldest first, then the session: exact images make a list
    of paths in the transaction needless."""
    for path in state.lifetimes.ephemerals_of(header.session):
        _remove(state, zxid, path, applied)
    state.close_session(header.session)


_HANDLERS: Final[Mapping[type, Callable[[ReplicatedState, int, TxnHeader, Any, Applied], None]]] = {
    CreateTxn: _create,
    DeleteTxn: _delete,
    SetDataTxn: _set_data,
    SetACLTxn: _set_acl,
    CheckTxn: _check,
    ErrorTxn: _refuse,
    MultiTxn: _apply_multi,
    CreateSessionTxn: _create_session,
    CloseSessionTxn: _close_session,
}
