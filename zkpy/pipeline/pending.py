"""What the leader has prepared but not yet applied.

The tree holds committed transactions only.  A request is judged against the tree
*plus* everything proposed before it, and this overlay is that plus: for each
path that an outstanding transaction touches, the facts a later check needs.
ZooKeeper's name for a record here is ChangeRecord.

A record lives until the last transaction that touched its path was applied.
A multi that fails half-way is undone here, and nowhere else.
"""

from dataclasses import dataclass
from typing import Final

from wire.records import ACL, OPEN_ACL
from wire.txn import CreateSessionTxn
from zkpy.state.digest import Change
from zkpy.state.paths import is_within
from zkpy.state.tree import DataTree
from zkpy.state.znode import data_length, facts_of


@dataclass(eq=False, init=False, slots=True)
class NodeView:
    """The facts of one znode that checks look at.  Not to be changed any more once it was put."""

    version: int
    aversion: int
    created: int
    """Internal cversion: children ever created; the next sequence number."""
    children: int
    data_bytes: int
    owner: int
    """Real ephemeralOwner: 0, a session id, or the code of a container or TTL node."""
    acl: tuple[ACL, ...]

    # Written out, as of all that each request makes: see scripts/compile_tree.py.
    def __init__(
        self,
        version: int,
        aversion: int,
        created: int,
        children: int,
        data_bytes: int,
        owner: int,
        acl: tuple[ACL, ...],
    ) -> None:
        self.version = version
        self.aversion = aversion
        self.created = created
        self.children = children
        self.data_bytes = data_bytes
        self.owner = owner
        self.acl = acl

    def copy(self) -> "NodeView":
        """Spelled out: dataclasses.replace costs seven times as much."""
        return NodeView(
            self.version,
            self.aversion,
            self.created,
            self.children,
            self.data_bytes,
            self.owner,
            self.acl,
        )


_ABSENT: Final = object()


class Pending:
    """Overlay of prepared changes on a tree.

    `view` and `draft` read through it; `put` adds to the transaction being prepared;
    `seal` says which zxid that transaction got, `undo` that it gets none; `applied`
    forgets.
    """

    def __init__(self, tree: DataTree) -> None:
        self._tree = tree
        self._views: dict[str, NodeView | None] = {}
        self._latest: dict[str, int] = {}
        """Path -> zxid of the last transaction that touched it."""
        self._changes: list[tuple[str, object]] = []
        """(path, what the overlay had there before), by the transaction being prepared."""
        self._owned: dict[int, dict[str, None]] = {}
        """Owner -> paths of its in the overlay."""
        self.opening: dict[int, CreateSessionTxn] = {}
        """Sessions whose createSession is proposed: on a member with a quicker disk such a
        one may be open already, and its requests come here before it is in the tree."""
        self.closing: dict[int, None] = {}
        """Sessions whose closeSession is proposed: nothing of theirs may follow it
        (ZOOKEEPER-1208)."""

    def view(self, path: str) -> NodeView | None:
        """The znode as it will be once all that is outstanding is applied; None if absent."""
        found = self._views.get(path, _ABSENT)
        if found is not _ABSENT:
            return found  # type: ignore[return-value]
        return self._from_tree(path)

    def draft(self, path: str) -> NodeView | None:
        """Likewise, and the caller's own: to be changed and put, or dropped."""
        found = self._views.get(path, _ABSENT)
        if found is _ABSENT:
            return self._from_tree(path)
        return found.copy() if found else None  # type: ignore[attr-defined]

    def put(self, path: str, view: NodeView | None) -> None:
        """The znode will be so; None: it will be gone."""
        before = self._views.get(path, _ABSENT)
        self._changes.append((path, before))
        self._show(path, before, view)

    def _show(self, path: str, before: object, after: object) -> None:
        """What the overlay has for a path, and with it whose it is; `_ABSENT`: nothing any more."""
        if isinstance(before, NodeView) and before.owner:
            self._disown(path, before.owner)
        if after is _ABSENT:
            del self._views[path]
            return
        self._views[path] = after  # type: ignore[assignment]
        if isinstance(after, NodeView) and after.owner:
            self._owned.setdefault(after.owner, {})[path] = None

    def untouched(self, path: str) -> bool:
        """Whether the tree tells all there is to know of the path."""
        return path not in self._views

    def owned_by(self, session: int) -> list[str]:
        """Paths with an outstanding change that may belong to `session`, as `view` will tell.

        Kept as an index: when many sessions end at once, each asks.
        """
        return list(self._owned.get(session, ()))

    def _disown(self, path: str, owner: int) -> None:
        owned = self._owned[owner]
        del owned[path]
        if not owned:
            del self._owned[owner]

    def growth(self, root: str) -> tuple[int, int]:
        """Znodes and bytes that what is outstanding adds at `root` and below it."""
        count = size = 0
        for path, view in self._views.items():
            if is_within(path, root):
                before = self._tree.nodes.get(path)
                count += (view is not None) - (before is not None)
                size += view.data_bytes if view is not None else 0
                size -= data_length(before) if before is not None else 0
        return count, size

    def undo(self) -> None:
        """Take back everything put since the last `seal`."""
        for path, before in reversed(self._changes):
            self._show(path, self._views[path], before)
        self._changes.clear()

    def seal(self, zxid: int) -> None:
        """Everything put since the last call belongs to `zxid`."""
        for path, _ in self._changes:
            self._latest[path] = zxid
        self._changes.clear()

    def applied(self, zxid: int, changes: list[Change]) -> None:
        """The tree now shows everything up to `zxid`, whose changes these are.

        They touch the paths that were put for it: prepare and apply mean the same.
        """
        latest = self._latest
        for path, _, _ in changes:
            if latest.get(path) == zxid:
                del latest[path]
                self._show(path, self._views[path], _ABSENT)

    def _from_tree(self, path: str) -> NodeView | None:
        tree = self._tree
        znode = tree.nodes.get(path)
        if znode is None:
            return None
        version, aversion, created, children, data_bytes, owner = facts_of(znode)
        return NodeView(
            version,
            aversion,
            created,
            children,
            data_bytes,
            owner or tree.owners.get(path, 0),
            tree.acls.get(path, OPEN_ACL),
        )
