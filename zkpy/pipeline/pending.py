"""What the leader has prepared but not yet applied.

The tree holds committed transactions only.  A request is judged against the tree
*plus* everything proposed before it, and this overlay is that plus: for each
path that an outstanding transaction touches, the facts a later check needs.
ZooKeeper's name for a record here is ChangeRecord.

A record lives until the last transaction that touched its path was applied.
A multi that fails half-way is undone here, and nowhere else.
"""

from collections import deque
from typing import Final

import attrs

from wire.records import ACL, OPEN_ACL
from wire.txn import CreateSessionTxn
from zkpy.state.tree import DataTree
from zkpy.state.znode import facts_of


@attrs.define(eq=False)
class NodeView:
    """The facts of one znode that checks look at.  Replaced, never mutated."""

    version: int
    aversion: int
    created: int
    """Internal cversion: children ever created; the next sequence number."""
    children: int
    data_bytes: int
    owner: int
    """Real ephemeralOwner: 0, a session id, or the code of a container or TTL node."""
    acl: tuple[ACL, ...]

    # Constructors rather than attrs.evolve, which costs seven times as much.

    def with_child(self, created: int) -> "NodeView":
        """After a create below it that leaves its counter at `created`."""
        return NodeView(
            self.version,
            self.aversion,
            created,
            self.children + 1,
            self.data_bytes,
            self.owner,
            self.acl,
        )

    def without_child(self) -> "NodeView":
        """After a delete below it."""
        return NodeView(
            self.version,
            self.aversion,
            self.created,
            self.children - 1,
            self.data_bytes,
            self.owner,
            self.acl,
        )

    def with_data(self, version: int, data_bytes: int) -> "NodeView":
        """After a setData."""
        return NodeView(
            version,
            self.aversion,
            self.created,
            self.children,
            data_bytes,
            self.owner,
            self.acl,
        )

    def with_acl(self, acl: tuple[ACL, ...], aversion: int) -> "NodeView":
        """After a setACL."""
        return NodeView(
            self.version,
            aversion,
            self.created,
            self.children,
            self.data_bytes,
            self.owner,
            acl,
        )


_ABSENT: Final = object()


class Pending:
    """Overlay of prepared changes on a tree.

    `view` reads through it; `put` adds to the transaction being prepared; `seal`
    says which zxid that transaction got, `undo` that it gets none; `applied` forgets.
    """

    def __init__(self, tree: DataTree) -> None:
        self._tree = tree
        self._views: dict[str, NodeView | None] = {}
        self._latest: dict[str, int] = {}
        """Path -> zxid of the last transaction that touched it."""
        self._changes: list[tuple[str, object]] = []
        """(path, what the overlay had there before), by the transaction being prepared."""
        self._outstanding: deque[tuple[int, list[tuple[str, object]]]] = deque()
        self.opening: dict[int, CreateSessionTxn] = {}
        """Sessions whose createSession is proposed: on a member with a quicker disk such a
        one may be open already, and its requests come here before it is in the tree."""
        self.closing: dict[int, None] = {}
        """Sessions whose closeSession is proposed: nothing of theirs may follow it (1208)."""

    def __len__(self) -> int:
        return len(self._outstanding)

    def view(self, path: str) -> NodeView | None:
        """The znode as it will be once all that is outstanding is applied; None if absent."""
        found = self._views.get(path, _ABSENT)
        if found is not _ABSENT:
            return found  # type: ignore[return-value]
        return self._from_tree(path)

    def put(self, path: str, view: NodeView | None) -> None:
        """The znode will be so; None: it will be gone."""
        self._changes.append((path, self._views.get(path, _ABSENT)))
        self._views[path] = view

    def untouched(self, path: str) -> bool:
        """Whether the tree tells all there is to know of the path."""
        return path not in self._views

    def owned_by(self, session: int) -> list[str]:
        """Paths with an outstanding change whose znode belongs to `session`."""
        return [path for path, view in self._views.items() if view and view.owner == session]

    def undo(self) -> None:
        """Take back everything put since the last `seal`."""
        for path, before in reversed(self._changes):
            if before is _ABSENT:
                del self._views[path]
            else:
                self._views[path] = before  # type: ignore[assignment]
        self._changes = []

    def seal(self, zxid: int) -> None:
        """Everything put since the last call belongs to `zxid`."""
        changes = self._changes
        if changes:
            latest = self._latest
            for path, _ in changes:
                latest[path] = zxid
            self._outstanding.append((zxid, changes))
            self._changes = []

    def applied(self, zxid: int) -> None:
        """The tree now shows everything up to `zxid`."""
        outstanding, latest = self._outstanding, self._latest
        while outstanding and outstanding[0][0] <= zxid:
            done, changes = outstanding.popleft()
            for path, _ in changes:
                if latest.get(path) == done:
                    del latest[path], self._views[path]

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
