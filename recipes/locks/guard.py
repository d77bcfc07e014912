"""Writes that go through only while a lock is held.

A guarded write is one multi with a check that the holder's own node is there.  The server
does all of it or nothing, in one place of the order of all writes: after the node has gone, which
is before anybody else holds the lock, it cannot happen any more, whatever the holder believes.

What a guard cannot do: protect what is not in ZooKeeper (hand `token` to such a store, which must
refuse tokens smaller than the largest that it has seen); and say whether a write happened
whose answer was lost.  That is kazoo's ConnectionLoss, and it is for the caller to look; a
write with a version may simply be tried again.
"""

from typing import Any

from kazoo.client import TransactionRequest
from kazoo.exceptions import ConnectionClosedError, NoNodeError, SessionExpiredError

from recipes.base import raise_first
from recipes.locks.hold import Hold, HoldState, News
from recipes.locks.names import LockError


class LockLostError(LockError):
    """The lock is not held any more: session or node have gone."""


class LockSuspendedError(LockError):
    """There is no connection: nobody knows whether the lock is still held."""


class NotHeldError(LockError):
    """Asked for what only a holder has."""


REFUSALS = {
    HoldState.SUSPENDED: LockSuspendedError,
    HoldState.LOST: LockLostError,
    HoldState.RELEASED: NotHeldError,
}


class Guard:
    """Of one hold.  As a context manager it raises LockLostError in the end if the hold was lost in
    the block, unless another exception is on its way."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    @property
    def token(self) -> int:
        """The fencing token: larger for each later holder."""
        return self._hold.token

    @property
    def state(self) -> HoldState:
        return self._hold.state

    def check(self) -> None:
        """Raise if this hold is known to be over, or suspended.  What was true a moment ago may
        not be now: only a guarded write, or a store that knows tokens, is proof."""
        refusal = REFUSALS.get(self._hold.state)
        if refusal is not None:
            raise refusal(f"{self._hold.path} is {self._hold.state.value}")

    def transaction(self) -> "GuardedTransaction":
        """Any number of writes, all or none."""
        return GuardedTransaction(self._hold, self)

    def create(self, path: str, value: bytes = b"", **options: Any) -> str:
        """The path that was created.  `options` as of kazoo's TransactionRequest.create."""
        with self.transaction() as writes:
            writes.create(path, value, **options)
        return str(writes.results[0])

    def set(self, path: str, value: bytes, version: int = -1) -> Any:
        """The ZnodeStat after it."""
        with self.transaction() as writes:
            writes.set_data(path, value, version)
        return writes.results[0]

    def delete(self, path: str, version: int = -1) -> None:
        with self.transaction() as writes:
            writes.delete(path, version)

    def __enter__(self) -> "Guard":
        self.check()
        return self

    def __exit__(self, kind: object, *failure: object) -> None:
        if kind is None and self._hold.state is HoldState.LOST:
            self.check()


class GuardedTransaction:
    """A block of writes, sent at its end; `results` then has one per write.

    Raises LockLostError, LockSuspendedError, or what kazoo has for the first write that failed
    (NoNodeError, BadVersionError ...): nothing was written then.  ConnectionLoss: the outcome
    is unknown."""

    def __init__(self, hold: Hold, guard: Guard) -> None:
        self._hold, self._guard = hold, guard
        self._request = TransactionRequest(hold.client)
        self._request.check(hold.path, -1)
        self.results: list[Any] = []

    def create(self, path: str, value: bytes = b"", **options: Any) -> None:
        if path.endswith("/"):
            # kazoo would drop the slash here, and number a sibling of the parent.
            raise ValueError(f"{path!r}: a name is needed, also of a sequential node")
        self._request.create(path, value, **options)

    def set_data(self, path: str, value: bytes, version: int = -1) -> None:
        self._request.set_data(path, value, version)

    def delete(self, path: str, version: int = -1) -> None:
        self._request.delete(path, version)

    def check(self, path: str, version: int) -> None:
        self._request.check(path, version)

    def commit(self) -> list[Any]:
        self._guard.check()
        try:
            held, *self.results = self._request.commit()
        except ConnectionClosedError:
            raise
        except SessionExpiredError as why:
            raise self._lost() from why
        if isinstance(held, NoNodeError):
            raise self._lost() from held
        raise_first([held, *self.results])
        return self.results

    def _lost(self) -> LockLostError:
        self._hold.take(News.GONE)
        return LockLostError(f"{self._hold.path} has gone")

    def __enter__(self) -> "GuardedTransaction":
        return self

    def __exit__(self, kind: object, *failure: object) -> None:
        if kind is None:
            self.commit()


def guard_of(hold: Hold | None, path: str) -> Guard:
    if hold is None:
        raise NotHeldError(f"{path} is not held")
    return Guard(hold)


__all__ = [
    "Guard",
    "GuardedTransaction",
    "LockLostError",
    "LockSuspendedError",
    "NotHeldError",
]
