"""Persistent watches of a kazoo client, which has none of its own: AddWatch and RemoveWatches.

kazoo drops an event that no watcher of its own waits for, and sets nothing again after a
reconnection; both are done here.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss
from kazoo.protocol.serialization import Watch
from kazoo.protocol.states import EVENT_TYPE_MAP, Callback, KazooState, WatchedEvent

from wire.codes import EventType, OpCode, WatcherType, WatchMode
from wire.records import AddWatchRequest, ErrorResponse, RemoveWatchesRequest
from zkpy.cli import requests

_DATA: Final = (WatcherType.DATA, WatcherType.ANY)
_CHILDREN: Final = (WatcherType.CHILDREN, WatcherType.ANY)


@attrs.define(eq=False)
class PersistentWatches:
    client: KazooClient
    on_event: Callable[[WatchedEvent], None]
    """Called in kazoo's thread for callbacks."""
    _modes: dict[str, WatchMode] = attrs.Factory(dict)
    """By path, as the server knows it."""

    @classmethod
    def of(
        cls, client: KazooClient, on_event: Callable[[WatchedEvent], None]
    ) -> "PersistentWatches":
        watches, connection = cls(client, on_event), client._connection
        read = connection._read_watch_event

        def read_both(buffer: Any, offset: int) -> None:
            watches._dispatch(*Watch.deserialize(buffer, offset)[0])
            read(buffer, offset)

        connection._read_watch_event = read_both
        client.add_listener(watches._on_state)
        return watches

    def add(self, path: str, mode: WatchMode) -> None:
        rooted = requests.rooted(self.client, path)
        body, before = AddWatchRequest(rooted, mode), self._modes.get(rooted)
        self._modes[rooted] = mode  # first: an event may overtake the answer's way to us
        try:
            requests.ask(self.client, OpCode.ADD_WATCH, body, ErrorResponse)
        except Exception:
            self._modes.pop(rooted)
            self._modes |= {} if before is None else {rooted: before}
            raise

    def remove(self, path: str, kind: WatcherType, local: bool) -> None:
        """NoWatcherError if the server knows of none; `local`: its connection may be lost."""
        rooted = requests.rooted(self.client, path)
        body = RemoveWatchesRequest(rooted, kind)
        try:
            requests.ask(self.client, OpCode.REMOVE_WATCHES, body, None)
        except ConnectionLoss:
            if not local:
                raise
        if kind == WatcherType.ANY:
            self._modes.pop(rooted, None)
        if kind in _DATA:
            self.client._data_watchers.pop(rooted, None)
        if kind in _CHILDREN:
            self.client._child_watchers.pop(rooted, None)

    def _dispatch(self, number: int, _state: int, path: str) -> None:
        if number in EVENT_TYPE_MAP and self._covers(path, number):
            kind, state = EVENT_TYPE_MAP[number], self.client.client_state
            event = WatchedEvent(kind, state, self.client.unchroot(path))
            self.client.handler.dispatch_callback(Callback("watch", self.on_event, (event,)))

    def _covers(self, path: str, number: int) -> bool:
        """A recursive watch tells of all below it, but not that names came or went."""
        if number == EventType.NODE_CHILDREN_CHANGED:
            return self._modes.get(path) == WatchMode.PERSISTENT
        recursive = WatchMode.PERSISTENT_RECURSIVE
        return path in self._modes or any(self._modes.get(at) == recursive for at in _above(path))

    def _on_state(self, state: str) -> None:
        """Nobody waits here for the answers: kazoo's connection waits for us."""
        if state != KazooState.CONNECTED:
            return
        for rooted, mode in list(self._modes.items()):
            body = AddWatchRequest(rooted, mode)
            requests.send(self.client, OpCode.ADD_WATCH, body, ErrorResponse)


def _above(path: str) -> Iterable[str]:
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path
