"""Watches of this server's own connections.

Never replicated: the tree reports what changed, and this table knows who asked.
Two tables, as in ZooKeeper, since one path can be watched for its data and for
its children; a recursive watch stands apart, because it looks at a whole subtree.

| change  | data table  | child table | parent's child table | recursive, path or above |
|---------|-------------|-------------|----------------------|--------------------------|
| create  | Created     |             | ChildrenChanged      | Created                  |
| setData | DataChanged |             |                      | DataChanged              |
| delete  | Deleted     | Deleted     | ChildrenChanged      | Deleted                  |

One connection is told once per row of that table, however many ways it watches.
A one-shot watch is gone once it fired, a persistent or recursive one stays.
"""

from collections.abc import Iterator
from enum import IntEnum

from wire.codes import EventType, WatcherType
from zkpy.state import paths
from zkpy.state import znode as zn
from zkpy.state.digest import Change
from zkpy.summary import Summary

Firing = tuple[int, EventType, str]
"""(connection, event, path).  Who may read the path is the caller's to check."""


class Kind(IntEnum):
    """The tables."""

    DATA = 0
    CHILD = 1
    PERSISTENT_DATA = 2
    PERSISTENT_CHILD = 3
    RECURSIVE = 4


_WATCHER_KINDS: dict[int, tuple[Kind, ...]] = {
    WatcherType.CHILDREN: (Kind.CHILD,),
    WatcherType.DATA: (Kind.DATA,),
    WatcherType.ANY: tuple(Kind),
    WatcherType.PERSISTENT: (Kind.PERSISTENT_DATA, Kind.PERSISTENT_CHILD),
    WatcherType.PERSISTENT_RECURSIVE: (Kind.RECURSIVE,),
}

_BEFORE = tuple(tuple(Kind)[:kind] for kind in Kind)

_DATA_TABLE = (Kind.DATA, Kind.PERSISTENT_DATA)
_CHILD_TABLE = (Kind.CHILD, Kind.PERSISTENT_CHILD)
_EVENTS = (
    EventType.NODE_CREATED,
    EventType.NODE_DELETED,
    EventType.NODE_DATA_CHANGED,
    EventType.NODE_CHILDREN_CHANGED,
)
_Fires = tuple[tuple[tuple[Kind, ...], EventType], ...]
_CREATED: _Fires = ((_DATA_TABLE, EventType.NODE_CREATED),)
_DELETED: _Fires = (((*_DATA_TABLE, *_CHILD_TABLE), EventType.NODE_DELETED),)
_CHANGED: _Fires = ((_DATA_TABLE, EventType.NODE_DATA_CHANGED),)
_CHILDREN: _Fires = ((_CHILD_TABLE, EventType.NODE_CHILDREN_CHANGED),)


def _what_fires(before: bytes | None, after: bytes | None) -> _Fires:
    """The row of the table above; a parent's own change follows its child's."""
    if before is None:
        return _CREATED
    if after is None:
        return _DELETED
    if zn.data_changed(before, after):
        return _CHANGED
    if zn.children_changed(before, after):
        return _CHILDREN
    return ()  # an ACL, say: nobody is told


class WatchTable:
    """path -> connections, for each kind of watch."""

    def __init__(self) -> None:
        self._tables: tuple[dict[str, dict[int, None]], ...] = tuple({} for _ in Kind)
        self._paths: dict[int, dict[tuple[Kind, str], None]] = {}
        self.count = 0
        """Watches in all tables."""
        self.told: dict[EventType, Summary] = {event: Summary() for event in _EVENTS}
        """How many connections each event was for, of those that were for any."""

    def add(self, kind: Kind, path: str, connection: int) -> None:
        watchers = self._tables[kind].setdefault(path, {})
        if connection not in watchers:
            watchers[connection] = None
            self._paths.setdefault(connection, {})[kind, path] = None
            self.count += 1

    def add_persistent(self, path: str, connection: int) -> None:
        self.add(Kind.PERSISTENT_DATA, path, connection)
        self.add(Kind.PERSISTENT_CHILD, path, connection)

    def remove(self, watcher_type: int, path: str, connection: int) -> bool:
        """Take away watches of that type; False if there was none."""
        kinds = [kind for kind in _WATCHER_KINDS[watcher_type] if self._has(kind, path, connection)]
        for kind in kinds:
            self._drop(kind, path, connection)
        return bool(kinds)

    def contains(self, watcher_type: int, path: str, connection: int) -> bool:
        return any(self._has(kind, path, connection) for kind in _WATCHER_KINDS[watcher_type])

    def forget(self, connection: int) -> None:
        """The connection is gone, and all its watches."""
        for kind, path in list(self._paths.get(connection, ())):
            self._drop(kind, path, connection)

    def paths_watched(self) -> Iterator[tuple[Kind, str, dict[int, None]]]:
        """Everything, for the four-letter words."""
        for kind in Kind:
            for path, watchers in self._tables[kind].items():
                yield kind, path, watchers

    def watched_paths(self) -> Iterator[str]:
        """Each once, whatever kinds of watches are there.  The table may change meanwhile."""
        for kind in Kind:
            for path in list(self._tables[kind]):
                if not any(path in self._tables[before] for before in range(kind)):
                    yield path

    def watchers(self, path: str) -> list[int]:
        """Connections that watch it, each once."""
        found: dict[int, None] = {}
        for table in self._tables:
            found.update(table.get(path, {}))
        return list(found)

    def connections(self) -> list[int]:
        """Those that watch anything."""
        return list(self._paths)

    def paths_of(self, connection: int) -> Iterator[str]:
        """What it watches, each path once.  The table may change meanwhile: what is gone by then
        is left out, and a path of which one kind is may come again."""
        held = self._paths.get(connection, {})
        for kind, path in list(held):
            if (kind, path) in held and not any((before, path) in held for before in _BEFORE[kind]):
                yield path

    @property
    def connection_count(self) -> int:
        return len(self._paths)

    def trigger(self, changes: list[Change]) -> list[Firing]:
        """Who must be told of these changes, in their order; fired one-shots are removed."""
        firings: list[Firing] = []
        if self.count:
            for path, before, after in changes:
                for kinds, event in _what_fires(before, after):
                    self._fire(firings, kinds, path, event)
        return firings

    def _fire(
        self, firings: list[Firing], kinds: tuple[Kind, ...], path: str, event: EventType
    ) -> None:
        told = self._take(kinds, path)
        if self._tables[Kind.RECURSIVE] and event is not EventType.NODE_CHILDREN_CHANGED:
            self._add_recursive(told, path)
        for connection in told:
            firings.append((connection, event, path))
        if told:
            self.told[event].add(len(told))

    def _take(self, kinds: tuple[Kind, ...], path: str) -> dict[int, None]:
        """Connections with a watch of these kinds on `path`, each once; one-shots go."""
        told: dict[int, None] = {}
        for kind in kinds:
            watchers = self._tables[kind].get(path)
            if watchers:
                told.update(watchers)
                if kind <= Kind.CHILD:
                    self._clear(kind, path)
        return told

    def _add_recursive(self, told: dict[int, None], path: str) -> None:
        table = self._tables[Kind.RECURSIVE]
        while True:
            watchers = table.get(path)
            if watchers:
                told.update(watchers)
            if path == "/":
                return
            path = paths.parent(path)

    def _clear(self, kind: Kind, path: str) -> None:
        for connection in self._tables[kind].pop(path):
            self.count -= 1
            self._unlist(connection, kind, path)

    def _has(self, kind: Kind, path: str, connection: int) -> bool:
        return connection in self._tables[kind].get(path, ())

    def _drop(self, kind: Kind, path: str, connection: int) -> None:
        watchers = self._tables[kind][path]
        del watchers[connection]
        if not watchers:
            del self._tables[kind][path]
        self.count -= 1
        self._unlist(connection, kind, path)

    def _unlist(self, connection: int, kind: Kind, path: str) -> None:
        paths = self._paths[connection]
        del paths[kind, path]
        if not paths:
            del self._paths[connection]
