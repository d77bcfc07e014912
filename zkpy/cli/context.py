"""What the commands of `zkpy shell` have in common: their context, and the walk over a tree."""

from collections.abc import Callable, Iterator

import attrs
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import WatchedEvent

from zkpy.cli.link import Client, Link
from zkpy.cli.watches import PersistentWatches


class Leave(Exception):
    """The user wants to go."""


@attrs.define
class Redo(Exception):
    """`line` is wanted once more."""

    line: str


@attrs.define
class Context:
    """What a command works with."""

    link: Link
    tell: Callable[[str | bytes], None]
    """Prints a line; bytes as they are, with nothing after them."""

    history: list[str] = attrs.Factory(list)
    """All lines there were; with one command, none."""
    tells_watches: bool = True
    _watches: PersistentWatches | None = None

    @property
    def client(self) -> Client:
        return self.link.client

    @property
    def watches(self) -> PersistentWatches:
        """Of this connection: they end with it."""
        client = self.client
        if self._watches is None or self._watches.client is not client:
            self._watches = PersistentWatches.of(client, self.on_event)
        return self._watches

    def on_event(self, event: WatchedEvent) -> None:
        if self.tells_watches:
            self.tell(f"WATCHER:: {event.type} {event.path}")


def walk(
    client: KazooClient, path: str, watch: Callable[[WatchedEvent], None] | None = None
) -> Iterator[str]:
    """A path and all below it, parents first; what goes away meanwhile is left out.

    NoNodeError if there was no such path to begin with.
    """
    waiting = [path]
    while waiting:
        at = waiting.pop()
        try:
            names = client.get_children(at, watch=watch)
        except NoNodeError:
            if at == path:
                raise
            continue
        yield at
        waiting += [join(at, name) for name in sorted(names, reverse=True)]


def join(path: str, name: str) -> str:
    return f"{path.rstrip('/')}/{name}"
