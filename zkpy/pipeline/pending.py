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


_ABSENT: Final = object()


class Pending:
    """Overlay of prepared changes on a tree.

    `view` reads through it; `put` and `remove` add to the transaction being
    prepared; `seal` says which zxid that transaction got; `applied` forgets.
    """

    def __init__(self, tree: DataTree) -> None:
        self._tree = tree
        self._views: dict[str, NodeView | None] = {}
        self._latest: dict[str, int] = {}
        self._touched: list[str] = []
        self._outstanding: deque[tuple[int, list[str]]] = deque()
        self._undo: list[tuple[str, object]] | None = None
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

    def put(self, path: str, view: NodeView) -> None:
        self._set(path, view)

    def remove(self, path: str) -> None:
        self._set(path, None)

    def owned_by(self, session: int) -> list[str]:
        """Paths with an outstanding change whose znode belongs to `session`."""
        return [path for path, view in self._views.items() if view and view.owner == session]

    def begin(self) -> None:
        """Start a transaction of several operations that may have to be undone."""
        self._undo = []

    def keep(self) -> None:
        self._undo = None

    def undo(self) -> None:
        """Take back everything since `begin`."""
        assert self._undo is not None, "undo without begin"
        for path, before in reversed(self._undo):
            if before is _ABSENT:
                del self._views[path]
            else:
                self._views[path] = before  # type: ignore[assignment]
        self._undo = None
        self._touched = []

    def seal(self, zxid: int) -> None:
        """Everything put or removed since the last call belongs to `zxid`."""
        touched = self._touched
        if not touched:
            return
        for path in touched:
            self._latest[path] = zxid
        self._outstanding.append((zxid, touched))
        self._touched = []

    def applied(self, zxid: int) -> None:
        """The tree now shows everything up to `zxid`."""
        outstanding = self._outstanding
        while outstanding and outstanding[0][0] <= zxid:
            done, touched = outstanding.popleft()
            for path in touched:
                if self._latest.get(path) == done:
                    del self._latest[path]
                    del self._views[path]

    def _set(self, path: str, view: NodeView | None) -> None:
        if self._undo is not None:
            self._undo.append((path, self._views.get(path, _ABSENT)))
        self._views[path] = view
        self._touched.append(path)

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
