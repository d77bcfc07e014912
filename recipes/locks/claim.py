"""What locks and semaphores have in common: take a seat, wait for one's turn, hold, release.

The thin loop around the pure decision of `turn.py`.  Each step may be interrupted by a lost
connection or session, a timeout or `cancel`; the loop then begins again at the first step
that is not certain, and a seat that is given up is taken away, in the background if need be.
"""

import threading
import uuid
from abc import abstractmethod
from types import TracebackType
from typing import Any, Literal

import attrs
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from recipes.alarm import Alarm
from recipes.base import Seat, TimeUp, Wait
from recipes.locks.guard import Guard, LockLostError, NotHeldError, guard_of
from recipes.locks.hold import Hold, HoldState, News, OnChange
from recipes.locks.names import (
    CURATOR_MUTEX,
    CURATOR_READ_WRITE,
    KAZOO,
    Contender,
    Family,
    LockError,
    Role,
    contenders_of,
)
from recipes.locks.turn import in_order

Format = Literal["kazoo", "curator"]
MUTEX_FAMILIES = {"kazoo": KAZOO, "curator": CURATOR_MUTEX}
READ_WRITE_FAMILIES = {"kazoo": KAZOO, "curator": CURATOR_READ_WRITE}


class Gate:
    """Who of this process's threads uses the lock object: one at a time, or one again and again."""

    def __init__(self, reentrant: bool) -> None:
        self._reentrant = reentrant
        self._owner = 0
        self.depth = 0
        self._mutex = threading.Lock()

    def enter(self) -> bool:
        """Whether the calling thread is in now."""
        me = threading.get_ident()
        with self._mutex:
            if self.depth and not (self._reentrant and self._owner == me):
                return False
            self._owner, self.depth = me, self.depth + 1
            return True

    def leave(self) -> int:
        """How deep it is in still."""
        with self._mutex:
            self.depth -= 1
            return self.depth


@attrs.frozen
class Queued:
    """A contender as others see it."""

    node: str
    identifier: str
    token: int


class Claim:
    """One client's claim on one path.  Not to be used from kazoo's own threads."""

    def __init__(
        self,
        client: KazooClient,
        path: str,
        identifier: str,
        *,
        family: Family,
        role: Role = Role.WRITE,
        reentrant: bool = False,
    ) -> None:
        self.client, self.path, self.identifier = client, path.rstrip("/"), identifier
        self._family, self._marker = family, family.marker_of(role)
        self._gate = Gate(reentrant)
        self._waits: dict[Wait, None] = {}
        self._hold: Hold | None = None
        self._listeners: list[OnChange] = []

    # --- what a holder may know ----------------------------------------------------------

    @property
    def held(self) -> bool:
        """Whether it is held, for all that is known here."""
        return self._hold is not None and self._hold.state is HoldState.HELD

    @property
    def token(self) -> int:
        """The fencing token.  Raises NotHeldError."""
        return self.guard().token

    def guard(self) -> Guard:
        """For writes that only a holder can do.  Raises NotHeldError."""
        return guard_of(self._hold, self.path)

    def add_listener(self, told: OnChange) -> None:
        """Call with each HoldState of each hold at once: HELD first in the thread that acquires,
        RELEASED in that which releases, others in kazoo's.  It must not block, and may not call
        this client."""
        self._listeners.append(told)

    def remove_listener(self, told: OnChange) -> None:
        self._listeners.remove(told)

    def _on_change(self, state: HoldState) -> None:
        for told in list(self._listeners):
            told(state)

    # --- acquire and release ----------------------------------------------------------------

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Whether it is held now; False if others are before it: at once without blocking or with a
        timeout of 0, else after `timeout` seconds.  At once means: after the server's answer.

        Raises CancelledError after `cancel`, MixedContendersError, and kazoo's errors that
        trying again does not help (NoAuthError, ConnectionClosedError ...)."""
        blocking = blocking and timeout != 0
        with Wait(self.client, timeout if blocking else None) as wait:
            self._waits[wait] = None
            try:
                return self._enter(wait, blocking) and self._take(wait, blocking)
            except TimeUp:
                return False
            finally:
                del self._waits[wait]

    def _enter(self, wait: Wait, blocking: bool) -> bool:
        if not blocking:
            return self._gate.enter()
        wait.until(self._gate.enter)
        return True

    def _take(self, wait: Wait, blocking: bool) -> bool:
        """In the gate; out of it again unless it is held in the end."""
        if self._gate.depth > 1:
            return self._again()
        try:
            self._hold = self._contend(wait, blocking)
        finally:
            if self._hold is None:
                self._leave()
        return self._hold is not None

    def _again(self) -> bool:
        """Raises LockLostError, LockSuspendedError."""
        try:
            self.guard().check()
        except LockError:
            self._leave()
            raise
        return True

    def _leave(self) -> int:
        depth = self._gate.leave()
        for wait in list(self._waits):
            wait.wake()
        return depth

    def release(self) -> None:
        """Give it up.  Comes back when the node has gone, or at once without a connection; the node
        goes then by itself, with the next connection or with the session.  Raises NotHeldError."""
        if self._hold is None:
            raise NotHeldError(f"{self.path} is not held")
        if self._gate.depth == 1:
            self._give_up()
        self._leave()

    def _give_up(self) -> None:
        hold, self._hold = self._hold, None
        assert hold is not None
        hold.release()
        removal = self._seat.leave()
        with Wait(self.client) as wait:
            removal.link(wait.wake)
            wait.until(lambda: removal.is_done or not self.client.connected)

    def cancel(self) -> None:
        """End the calls of `acquire` that wait now, in other threads, with CancelledError."""
        for wait in list(self._waits):
            wait.cancel()

    def __enter__(self) -> Guard:
        self.acquire()
        return self.guard()

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        lost = self._hold is not None and self._hold.state is HoldState.LOST
        self.release()
        if lost and kind is None:
            raise LockLostError(f"{self.path} was lost before it was released")

    # --- the loop ---------------------------------------------------------------------------

    def _contend(self, wait: Wait, blocking: bool) -> Hold | None:
        self._seat = self._new_seat()
        self._begun: Hold | None = None
        hold: Hold | None = None
        try:
            hold = wait.persist(lambda: self._attempt(wait, blocking))
        finally:
            if hold is None:
                self._stand_up()
        return hold

    def _stand_up(self) -> None:
        """From a seat that has gone, or is made to go."""
        if self._begun is not None:
            self._begun.release()
        self._seat.leave()

    def _new_seat(self) -> Seat:
        def prefix(unique: uuid.UUID) -> str:
            return self._family.prefix(unique) + self._marker

        return Seat(self.client, self._directory(), prefix, self.identifier.encode())

    def _attempt(self, wait: Wait, blocking: bool) -> Hold | None:
        """From the first step that is not certain to a hold; None if it would have to wait."""
        while True:
            if self._seat.outlived() or not self._seat.occupy(wait):
                self._move()
                continue
            hold = self._begun = self._begun or self._begin(wait)
            if not self._await_turn(wait, hold, blocking):
                return None
            wait.until(lambda: hold.state is not HoldState.SUSPENDED)  # noqa: B023
            if hold.announce(self._on_change):
                return hold
            if hold.is_final():
                self._move()

    def _begin(self, wait: Wait) -> Hold:
        hold = Hold(self.client, self._seat.path, wait.wake)
        hold.begin()
        return hold

    def _move(self) -> None:
        """To a new seat."""
        self._stand_up()
        self._seat, self._begun = self._new_seat(), None

    def _await_turn(self, wait: Wait, hold: Hold, blocking: bool) -> bool:
        """Whether the turn has come, or the seat has gone."""
        while not hold.is_final():
            alarm = Alarm(wait)
            turn = self._is_my_turn(wait, alarm if blocking else None)
            if turn is None:
                # kazoo gives answers and watches to different threads: the one that says so may
                # come later, and a hold without a node would be announced before it.
                hold.take(News.GONE)
            elif turn or not blocking:
                return turn
            else:
                wait.until(lambda: alarm.rings() or hold.is_final())  # noqa: B023
        return True

    def _children(self, wait: Wait, watch: Alarm | None = None) -> list[str]:
        directory = self._directory()
        bell = None if watch is None else watch.at(directory)
        asked = self.client.get_children_async(directory, watch=bell)
        try:
            found: list[str] = wait.result(asked)
        except NoNodeError:
            return []
        return found

    # --- what differs -------------------------------------------------------------------------

    def _directory(self) -> str:
        """Where the contenders' nodes are."""
        return self.path

    @abstractmethod
    def _is_my_turn(self, wait: Wait, alarm: Alarm | None) -> bool | None:
        """None if my node is not there.  If it is not my turn, `alarm`, if any, rings when to look
        again."""

    # --- what others see --------------------------------------------------------------------

    def contenders(self) -> list[Queued]:
        """All that stand in line now, the first first; a moment later it may be different."""
        with Wait(self.client) as wait:
            found: list[Queued] = wait.persist(lambda: self._read_contenders(wait))
        return found

    def _read_contenders(self, wait: Wait) -> list[Queued]:
        asked = [(each, self._read(each)) for each in self._read_names(wait)]
        return [queued for each, answer in asked if (queued := read_one(wait, each, answer))]

    def _read_names(self, wait: Wait) -> list[Contender]:
        return in_order(contenders_of(self._children(wait), self._family))

    def _read(self, contender: Contender) -> Any:
        return self.client.get_async(f"{self._directory()}/{contender.name}")


def read_one(wait: Wait, contender: Contender, answer: Any) -> Queued | None:
    """None if it has gone meanwhile."""
    try:
        data, stat = wait.result(answer)
    except NoNodeError:
        return None
    return Queued(contender.name, data.decode(errors="replace"), int(stat.czxid))
