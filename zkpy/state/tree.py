"""The tree of znodes: committed transactions only, so it is never rolled back.

Owns four tables and the only functions that change them.  The functions are called
by `apply` alone, cannot refuse, and append what they did to a list of changes
(path, before, after), the child before its parent.

    nodes     path -> znode (see `znode`), in order of creation
    children  path -> names below it, in order of creation; only where there are any
    acls      path -> ACL, only where it is not open to the world
    owners    path -> owner of a container or TTL znode (its Stat shows 0)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from wire.records import ACL, OPEN_ACL
from wire.txn import CreateTxn, SetACLTxn, SetDataTxn
from zkpy.state import acl as acls_of
from zkpy.state import digest, lifetimes, paths
from zkpy.state import znode as zn
from zkpy.state.acl import READ_ONLY_ACL, AclList, AclPool
from zkpy.state.digest import Change

_NO_CHILDREN: Final[dict[str, None]] = {}


@dataclass(eq=False, repr=False, slots=True)
class DataTree:
    """Reads go straight to the tables; `facts` sums the digest terms of the side tables."""

    nodes: dict[str, bytes] = field(default_factory=dict)
    children: dict[str, dict[str, None]] = field(default_factory=dict)
    acls: dict[str, AclList] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=dict)
    facts: int = 0
    """Sum of the digest terms of `acls` and `owners`, not reduced modulo 2^64."""
    _pool: AclPool = field(default_factory=AclPool)

    @classmethod
    def founded(cls) -> "DataTree":
        """The tree before the first transaction: the system znodes, born at zxid 0.

        They are linked without counting as creates, as in ZooKeeper, whose fresh
        root shows cversion -1.
        """
        tree = cls()
        for path in paths.SYSTEM_PATHS:
            tree.nodes[path] = zn.new(b"", 0, 0, 0)
        for path in paths.SYSTEM_PATHS[1:]:
            parent = paths.parent(path)
            tree._link(parent, paths.name(path))
            tree.nodes[parent] = zn.with_child_created(tree.nodes[parent], 0, 0)
        tree._set_config_acl()
        return tree

    def _set_config_acl(self) -> None:
        """Everyone reads the configuration; only reconfig writes it."""
        self.nodes[paths.CONFIG] = zn.with_aversion(self.nodes[paths.CONFIG], -1)
        self._note_acl(paths.CONFIG, READ_ONLY_ACL)

    # Reads.

    def children_of(self, path: str) -> dict[str, None]:
        """The names below `path`, oldest first; not to be changed by the caller."""
        return self.children.get(path, _NO_CHILDREN)

    def acl_of(self, path: str) -> AclList:
        return self.acls.get(path, OPEN_ACL)

    def owner_of(self, path: str) -> int:
        """The real owner, of containers and TTL znodes too (see `lifetimes`)."""
        return self.owners.get(path) or zn.ephemeral_owner(self.nodes[path])

    def walk(self, path: str) -> Iterator[str]:
        """`path`, if it exists, and everything below it, parents first."""
        pending = [path] if path in self.nodes else []
        while pending:
            path = pending.pop()
            yield path
            names = self.children.get(path)
            if names:
                prefix = paths.prefix_of(path)
                pending.extend([prefix + name for name in names])

    def count_descendants(self, path: str) -> int:
        """How many znodes lie below `path`, itself excluded: costs a walk of the branch."""
        if path == paths.ROOT:
            return len(self.nodes) - 1
        return max(sum(1 for _ in self.walk(path)) - 1, 0)

    # Changes.

    def create(self, txn: CreateTxn, zxid: int, time_ms: int, changes: list[Change]) -> bytes:
        """Add a znode; returns it."""
        nodes, path = self.nodes, txn.path
        parent, _, name = path.rpartition("/")
        parent = parent or paths.ROOT
        before = nodes.get(parent)
        assert before is not None and path not in nodes, f"cannot create {path}"
        shown = self._note_owner(path, txn.owner) if txn.owner else 0
        nodes[path] = znode = zn.new(txn.data, shown, zxid, time_ms)
        nodes[parent] = after = zn.with_child_created(before, txn.parent_cversion, zxid)
        self._link(parent, name)
        if txn.acl != OPEN_ACL:
            self._note_acl(path, txn.acl)
        changes += (path, None, znode), (parent, before, after)
        return znode

    def delete(self, path: str, zxid: int, changes: list[Change]) -> bytes:
        """Remove a znode without children, and what the side tables say of it; returns it."""
        gone = self.nodes.get(path)
        assert gone is not None and path not in self.children, f"cannot delete {path}"
        del self.nodes[path]
        parent, _, name = path.rpartition("/")
        parent = parent or paths.ROOT
        before = self.nodes[parent]
        self.nodes[parent] = after = zn.with_child_deleted(before, zxid)
        self._unlink(parent, name)
        self._forget_acl(path)
        self._forget_owner(path)
        changes += (path, gone, None), (parent, before, after)
        return gone

    def set_usage(self, path: str, text: bytes, changes: list[Change]) -> int:
        """Let a quota's stats znode hold `text`; by how many bytes it grew.

        No client did this: neither version nor times change, and no watch fires.
        """
        before = self.nodes[path]
        self.nodes[path] = after = zn.with_data_alone(before, text)
        if after != before:
            changes.append((path, before, after))
        return len(after) - len(before)

    def set_data(
        self, txn: SetDataTxn, zxid: int, time_ms: int, changes: list[Change]
    ) -> tuple[bytes, bytes]:
        """Replace the data of a znode; returns it as it was and as it is."""
        path = txn.path
        before = self.nodes.get(path)
        assert before is not None, f"cannot set {path}"
        self.nodes[path] = after = zn.with_data(before, txn.data, txn.version, zxid, time_ms)
        changes.append((path, before, after))
        return before, after

    def set_acl(self, txn: SetACLTxn, changes: list[Change]) -> bytes:
        """Replace the ACL of a znode; returns the znode."""
        path = txn.path
        before = self.nodes.get(path)
        assert before is not None, f"cannot set the ACL of {path}"
        self.nodes[path] = after = zn.with_aversion(before, txn.aversion)
        self._forget_acl(path)
        if txn.acl != OPEN_ACL:
            self._note_acl(path, txn.acl)
        changes.append((path, before, after))
        return after

    def _link(self, parent: str, name: str) -> None:
        siblings = self.children.get(parent)
        if siblings is None:
            self.children[parent] = {name: None}
        else:
            siblings[name] = None

    def _unlink(self, parent: str, name: str) -> None:
        siblings = self.children[parent]
        del siblings[name]
        if not siblings:
            del self.children[parent]

    # The side tables, each with its digest terms.

    def restore(self, acls: Mapping[str, AclList], owners: Mapping[str, int]) -> None:
        """Fill the side tables of a tree that comes from an image."""
        for path, acl in acls.items():
            self._note_acl(path, acl)
        for path, owner in owners.items():
            self._note_owner(path, owner)

    def _note_acl(self, path: str, acl: Sequence[ACL]) -> None:
        packed = acls_of.pack(acl)
        self.acls[path] = self._pool.take(packed, acl)
        self.facts += digest.term_of_acl(path, packed)

    def _forget_acl(self, path: str) -> None:
        acl = self.acls.pop(path, None)
        if acl is not None:
            packed = acls_of.pack(acl)
            self._pool.drop(packed)
            self.facts -= digest.term_of_acl(path, packed)

    def _note_owner(self, path: str, owner: int) -> int:
        """The owner to show: a session, else 0 and a note of the real one."""
        if lifetimes.is_session(owner):
            return owner
        self.owners[path] = owner
        self.facts += digest.term_of_owner(path, owner)
        return 0

    def _forget_owner(self, path: str) -> None:
        owner = self.owners.pop(path, None)
        if owner is not None:
            self.facts -= digest.term_of_owner(path, owner)
