"""`Lock`, `ReadLock`, `WriteLock`: one after the other, in the order of arrival.

    lock = Lock(client, "/locks/reports", "worker-7")
    with lock as guard:
        report = make_report()
        store.write(report, token=guard.token)     # a store that refuses smaller tokens
        guard.set("/reports/last", report.name)    # goes through only while it is held

Each contender has an ephemeral sequential node (`names.py`), and waits for the one before it
(`turn.py`).  docs/recipes/locks.md says what is guaranteed and what is not.
"""

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from recipes.alarm import Alarm
from recipes.base import Wait
from recipes.locks.claim import MUTEX_FAMILIES, READ_WRITE_FAMILIES, Claim, Format
from recipes.locks.names import Role
from recipes.locks.turn import Behind, Gone, whose_turn


class _Queue(Claim):
    def _is_my_turn(self, wait: Wait, alarm: Alarm | None) -> bool | None:
        turn = whose_turn(self._children(wait), self._seat.name, self._family)
        if not isinstance(turn, Behind):
            return None if isinstance(turn, Gone) else True
        if alarm is not None:
            self._watch(wait, f"{self.path}/{turn.name}", alarm)
        return False

    def _watch(self, wait: Wait, node: str, alarm: Alarm) -> None:
        """By get, which leaves no watch where there is no node; exists would."""
        try:
            wait.result(self.client.get_async(node, watch=alarm.at(node)))
        except NoNodeError:
            alarm.ring()


class Lock(_Queue):
    """Held by one at a time."""

    def __init__(
        self,
        client: KazooClient,
        path: str,
        identifier: str = "",
        *,
        reentrant: bool = False,
        format: Format = "kazoo",
    ) -> None:
        """`identifier` is for people, who see it with `contenders`.

        `reentrant`: the thread that holds it may acquire it again, and releases as often.
        `format`: whose nodes to write, to share the path with kazoo's Lock or with Curator's
        InterProcessMutex, but never with both."""
        super().__init__(
            client, path, identifier, family=MUTEX_FAMILIES[format], reentrant=reentrant
        )


class WriteLock(_Queue):
    """Held by one writer, without readers."""

    def __init__(
        self,
        client: KazooClient,
        path: str,
        identifier: str = "",
        *,
        reentrant: bool = False,
        format: Format = "kazoo",
    ) -> None:
        """As of Lock; `format` for kazoo's WriteLock, or Curator's InterProcessReadWriteLock."""
        family = READ_WRITE_FAMILIES[format]
        super().__init__(client, path, identifier, family=family, reentrant=reentrant)


class ReadLock(_Queue):
    """Held by any number of readers, without a writer."""

    def __init__(
        self,
        client: KazooClient,
        path: str,
        identifier: str = "",
        *,
        reentrant: bool = False,
        format: Format = "kazoo",
    ) -> None:
        """As of WriteLock, with which it shares a path."""
        family = READ_WRITE_FAMILIES[format]
        super().__init__(
            client, path, identifier, family=family, role=Role.READ, reentrant=reentrant
        )
