"""`Semaphore`: held by so many at a time, in the layout of Curator's InterProcessSemaphoreV2.

    PATH/locks    a mutex: who holds it is the next to get a lease, and the only one that watches
    PATH/leases   one ephemeral node per lease

A lease holds if it is among the first `leases` of its directory: that is decided by the nodes
alone, so it stands even if the mutex is lost meanwhile.  The mutex makes it fair, and
keeps a lease that is given back from waking all that wait.

How many leases there are is each contender's own word; those who share a path agree on it.
"""

from kazoo.client import KazooClient

from recipes.alarm import Alarm
from recipes.base import Wait
from recipes.locks.claim import Claim
from recipes.locks.hold import Hold
from recipes.locks.lock import Lock
from recipes.locks.names import CURATOR_LEASE
from recipes.locks.turn import has_lease


class Semaphore(Claim):
    """One lease of `leases`; an object for each lease that one process wants."""

    def __init__(
        self, client: KazooClient, path: str, identifier: str = "", *, leases: int
    ) -> None:
        if leases < 1:
            raise ValueError("a semaphore has at least one lease")
        super().__init__(client, path, identifier, family=CURATOR_LEASE)
        self.leases = leases
        self._queue = Lock(client, f"{self.path}/locks", identifier, format="curator")

    def _directory(self) -> str:
        return f"{self.path}/leases"

    def _contend(self, wait: Wait, blocking: bool) -> Hold | None:
        """In the queue's turn.  One Wait for both, so that one timeout bounds both."""
        turn = self._queue._contend(wait, blocking)
        if turn is None:
            return None
        try:
            return super()._contend(wait, blocking)
        finally:
            turn.release()
            self._queue._seat.leave()

    def _is_my_turn(self, wait: Wait, alarm: Alarm | None) -> bool | None:
        """Decided on the very list that leaves the watch: what changes behind it rings."""
        children = self._children(wait, watch=alarm)
        return has_lease(children, self._seat.name, self.leases, self._family)
