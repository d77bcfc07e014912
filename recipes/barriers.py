"""`Barrier`: closed until somebody lifts it; `DoubleBarrier`: begin together, end together.

kazoo's were not taken over.  Its `Barrier.wait` and `DoubleBarrier` wait for one event, and for
ever when the connection breaks and with it the watch; `DoubleBarrier.enter` takes errors for
success.  The nodes of `Barrier` are the same, those of `DoubleBarrier` are not.
"""

import uuid

from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss, NodeExistsError, NoNodeError

from recipes.alarm import Alarm
from recipes.base import Removal, TimeUp, Wait, session_of

READY = "ready"


class Barrier:
    """Closed while the node at its path exists, which outlives whoever made it."""

    def __init__(self, client: KazooClient, path: str) -> None:
        self._client, self._path = client, path

    def put(self) -> None:
        """Close it; nothing if it is closed."""
        with Wait(self._client) as wait:
            wait.persist(lambda: wait.result(self._client.ensure_path_async(self._path)))

    def lift(self) -> None:
        """Let all go on; nothing if it is open."""
        with Wait(self._client) as wait:
            wait.persist(lambda: delete(wait, self._path))

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is open, after at most so many seconds."""
        with Wait(self._client, timeout) as wait:
            try:
                wait.persist(lambda: self._await(wait))
            except TimeUp:
                return False
        return True

    def _await(self, wait: Wait) -> None:
        # A server that is behind may not know yet that it was closed: one that a new session came
        # to, or another process that heard of it.
        wait.result(self._client.sync_async(self._path))
        while True:
            alarm = Alarm(wait)
            try:
                # get leaves no watch where there is no node.
                wait.result(self._client.get_async(self._path, watch=alarm.at(self._path)))
            except NoNodeError:
                return
            wait.until(alarm.rings)


class DoubleBarrier:
    """For `size` members, each with an object of its own; may be used again and again.

    A member whose session ends while it waits to enter comes back by itself.  One that has entered
    and whose session ends has left, as far as the others can see.  Who comes while others are still
    in waits for them to leave, and enters with the next round.

        PATH/<uuid>   one per member, ephemeral
        PATH/ready    made by the one that completes the number, removed by the last to leave, or,
                      if the session of that one has ended, by who comes next
    """

    def __init__(self, client: KazooClient, path: str, size: int, identifier: str = "") -> None:
        if size < 1:
            raise ValueError("a barrier has at least one member")
        self._client, self._path, self._size = client, path.rstrip("/"), size
        self._data = identifier.encode()
        self._name, self._session = "", 0
        self._has_come = False
        """Whether its node may have been made, since `enter` was called."""

    def enter(self, timeout: float | None = None) -> bool:
        """Whether all are there; after `timeout` seconds without that, this one has left again,
        or, without a connection, leaves as soon as there is one."""
        self._name, self._session, self._has_come = uuid.uuid4().hex, 0, False
        entered = False
        with Wait(self._client, timeout) as wait:
            try:
                wait.persist(lambda: self._enter(wait))
                entered = True
            except TimeUp:
                pass
            finally:
                if not entered:
                    self._withdraw()
        return entered

    def _enter(self, wait: Wait) -> None:
        if not self._has_come:
            # A server that is behind may not show what the last round has left.
            wait.result(self._client.sync_async(self._path))
            self._await_end(wait)
        while True:
            self._stand(wait)
            alarm = Alarm(wait)
            ready = f"{self._path}/{READY}"
            if wait.result(self._client.exists_async(ready, watch=alarm.at(ready))):
                return
            members = self._members(wait)
            if self._name in members and len(members) >= self._size:
                create(wait, self._client.create_async(ready))
                return
            wait.until(alarm.rings)

    def _stand(self, wait: Wait) -> None:
        """Make this member's node, once in each session."""
        session = session_of(self._client)
        if session is None:
            # What is asked for now is kept by kazoo, and answered with the next connection: who has
            # no node yet would wait for a number in which it does not count.
            raise ConnectionLoss
        if session == self._session:
            return
        wait.result(self._client.ensure_path_async(self._path))
        self._has_come = True
        create(wait, self._client.create_async(self._own(), self._data, ephemeral=True))
        self._session = session

    def _own(self) -> str:
        return f"{self._path}/{self._name}"

    def _members(self, wait: Wait) -> list[str]:
        children = wait.result(self._client.get_children_async(self._path))
        return sorted(name for name in children if name != READY)

    def _withdraw(self) -> Removal:
        """Its own node goes; if there is no connection, with the next one, or with the session."""
        removal = Removal(self._client, self._path, "", self._name, bool(self._name))
        with Wait(self._client) as wait:
            removal.link(wait.wake)
            wait.until(lambda: removal.is_done or not self._client.connected)
        return removal

    def leave(self, timeout: float | None = None) -> bool:
        """Whether all have left.  This one has in any case, or does as soon as there is a
        connection; it may enter again only if all have."""
        removal = self._withdraw()
        with Wait(self._client, timeout) as wait:
            removal.link(wait.wake)
            try:
                wait.until(lambda: removal.is_done)
                wait.persist(lambda: self._await_end(wait))
            except TimeUp:
                return False
        return True

    def _await_end(self, wait: Wait) -> None:
        """Of the last round: until all have left."""
        while True:
            children = self._children(wait)
            if READY not in children:
                # All have left: whoever stands here has come for the next round.
                return
            if len(children) == 1:
                delete(wait, f"{self._path}/{READY}")
                return
            self._await_first(wait, sorted(name for name in children if name != READY)[0])

    def _children(self, wait: Wait) -> list[str]:
        try:
            found: list[str] = wait.result(self._client.get_children_async(self._path))
        except NoNodeError:
            return []
        return found

    def _await_first(self, wait: Wait, name: str) -> None:
        alarm = Alarm(wait)
        try:
            path = f"{self._path}/{name}"
            wait.result(self._client.get_async(path, watch=alarm.at(path)))
        except NoNodeError:
            return
        wait.until(alarm.rings)


def delete(wait: Wait, path: str) -> None:
    try:
        wait.result(wait.client.delete_async(path))
    except NoNodeError:
        return


def create(wait: Wait, asked: object) -> None:
    try:
        wait.result(asked)
    except NodeExistsError:
        return
