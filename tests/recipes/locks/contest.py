"""Two clients, one lock, and a fault at one request of one of them.

Every write that a holder makes goes into a log in the server, marked with the number of the
holder's node.  Mutual exclusion is read from the log afterwards: once a later holder has
written, nothing of an earlier one may follow.  The same contest is played by zkpy's `Lock`
and by kazoo's, which has no guarded writes and makes plain ones.

    turns     the rival holds; the victim queues behind it; the rival releases and queues again;
              the victim writes twice and releases; the rival writes
    give up   the rival holds; the victim waits, and is cancelled; the rival releases
    alone     the victim makes the path, holds, writes and releases
"""

import contextlib
import enum
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar, Final, Generic, Protocol, TypeVar

import attrs
from kazoo.client import KazooClient
from kazoo.exceptions import CancelledError, ConnectionLoss, KazooException, NoNodeError
from kazoo.recipe.lock import Lock as KazoosLock
from kazoo.retry import KazooRetry

from recipes.locks import (
    HoldState,
    Lock,
    LockError,
    LockSuspendedError,
    ReadLock,
    Semaphore,
    WriteLock,
)
from recipes.locks.claim import Claim
from tests.recipes.faults import Fault, FaultProxy, Link, until

surely: Final = KazooRetry(max_tries=-1, delay=0.01, backoff=1, max_jitter=0)
"""Calls again what lost its connection or its session."""
HANGS_S = 25.0
WRITES = 2


class Contestant(Protocol):
    """A lock, however made."""

    directory: str
    """Where contenders stand."""
    waits_at: int
    """After the answer to which of its requests it waits, if others are before it."""
    antechamber: str
    """Where contenders stand before they stand in `directory`, if anywhere."""

    def acquire(self) -> bool: ...
    def cancel(self) -> None: ...
    def release(self) -> None: ...
    def write(self, log: str) -> None: ...
    def believes(self) -> bool: ...


MakeContestant = Callable[[KazooClient, str], Contestant]


class Ours:
    waits_at = 4
    antechamber = ""
    kind: ClassVar[Callable[..., Claim]] = Lock

    def __init__(self, client: KazooClient, path: str) -> None:
        self.lock, self.directory = type(self).kind(client, path), path

    def acquire(self) -> bool:
        return self.lock.acquire()

    def cancel(self) -> None:
        self.lock.cancel()

    def release(self) -> None:
        self.lock.release()

    def write(self, log: str) -> None:
        """As eagerly as kazoo's: again, as long as the lock may be held."""
        guard = self.lock.guard()
        while True:
            try:
                guard.create(log, str(guard.token).encode(), sequence=True)
            except (ConnectionLoss, LockSuspendedError):
                until(lambda: guard.state is not HoldState.SUSPENDED)
            else:
                return

    def believes(self) -> bool:
        return self.lock.held


class Writer(Ours):
    kind = WriteLock


class Reader(Ours):
    """To be put against a writer."""

    kind = ReadLock


class Leaseholder(Ours):
    """Of the only lease."""

    waits_at = 6
    kind = partial(Semaphore, leases=1)

    def __init__(self, client: KazooClient, path: str) -> None:
        super().__init__(client, path)
        self.directory, self.antechamber = f"{path}/leases", f"{path}/locks"


class Kazoos:
    """As its documentation shows it; writes are retried as client.retry does."""

    waits_at = 4
    antechamber = ""

    def __init__(self, client: KazooClient, path: str) -> None:
        self.client, self.directory = client, path
        self.lock = KazoosLock(client, path)

    def acquire(self) -> bool:
        return bool(self.lock.acquire())

    def cancel(self) -> None:
        self.lock.cancel()

    def release(self) -> None:
        self.lock.release()

    def write(self, log: str) -> None:
        number = int(self.lock.node[-10:])
        surely(self.client.create, log, str(number).encode(), sequence=True)

    def believes(self) -> bool:
        return bool(self.lock.is_acquired)


class Harm(enum.Enum):
    STALE = "a write of one who no longer held it"
    TWO = "two who believe that they hold it"
    ORPHAN = "a node left behind"
    HANGS = "hangs"


HarmT = TypeVar("HarmT", bound=enum.Enum)


@attrs.define
class Outcome(Generic[HarmT]):
    harms: list[HarmT]
    requests: int
    """That the victim made."""
    operation: str = ""
    """Which the fault met."""


class Contest:
    """The clients, the proxy in front of the victim, and a place of its own."""

    def __init__(
        self,
        make: tuple[MakeContestant, MakeContestant],
        rival: KazooClient,
        victim: KazooClient,
        proxy: FaultProxy,
        root: str,
        fault: Fault | None = None,
    ) -> None:
        """`make` the rival, and the victim."""
        self._fault = fault
        self.witness, self.victims_client, self.proxy = rival, victim, proxy
        self.path, self.log = f"{root}/locks/a", f"{root}/log"
        surely(rival.ensure_path, self.log)
        self.rival, self.victim = make[0](rival, self.path), make[1](victim, self.path)
        self.harms: dict[Harm, None] = {}
        self._first_session = self._session()
        self._inside = False
        self._rival_is_done = False
        self._writes = False

    # --- the scenarios --------------------------------------------------------------------

    def turns(self) -> None:
        self._let_the_rival_hold()
        with self._in_thread(self._work):
            until(lambda: self._victim_waits() and self._queued() > 1)
            self.rival.release()
            self.rival.acquire()
            surely(self.rival.write, f"{self.log}/w-")
            self._compare_beliefs()
            self.rival.release()
            self._rival_is_done = True

    def give_up(self) -> None:
        self._let_the_rival_hold()
        with self._in_thread(self._try):
            until(lambda: self._victim_waits() and self._queued() > 1)
            self.victim.cancel()
        self.rival.release()

    def _let_the_rival_hold(self) -> None:
        """And nothing else: it leaves the antechamber in the background, and a victim that meets it
        there makes other requests."""
        self.rival.acquire()
        until(lambda: not self.rival.antechamber or not self._children(self.rival.antechamber))

    def alone(self) -> None:
        self._rival_is_done = True
        with self._in_thread(self._work):
            pass

    # --- the victim -----------------------------------------------------------------------

    @contextlib.contextmanager
    def _in_thread(self, part: Callable[[], None]) -> Iterator[None]:
        thread = threading.Thread(target=part, daemon=True)
        thread.start()
        yield
        thread.join(HANGS_S)
        if thread.is_alive():
            self._note(Harm.HANGS)

    def _try(self) -> None:
        with contextlib.suppress(CancelledError, ConnectionLoss):
            self.victim.acquire()

    def _work(self) -> None:
        deadline = time.monotonic() + HANGS_S
        while time.monotonic() < deadline:
            with contextlib.suppress(LockError, KazooException):
                self._work_once()
                return

    def _work_once(self) -> None:
        self.victim.acquire()
        try:
            self._inside = True
            # The rival stands behind by now: if the victim's session ends, it holds at once.
            until(lambda: self._rival_is_done or self._queued() > 1 or not self.victim.believes())
            for _ in range(WRITES):
                self.victim.write(f"{self.log}/w-")
                self._writes = True
        finally:
            self._inside = False
            self.victim.release()

    # --- what is looked at ------------------------------------------------------------------

    def _victim_waits(self) -> bool:
        """Whether it has its watch, or has met its fault on the way there.  That it has asked is
        not enough: its question could come after what is done next."""
        met = self._fault is not None and self._fault.met.is_set()
        return met or self.proxy.answered >= self.victim.waits_at

    def _queued(self) -> int:
        return len(self._children(self.victim.directory))

    def _children(self, path: str) -> list[str]:
        try:
            found: list[str] = surely(self.witness.get_children, path)
        except NoNodeError:
            return []
        return found

    def _compare_beliefs(self) -> None:
        """Once the victim's client knows that its session has ended, if that is how the rival came
        to hold: until then it has no way to know better."""
        if self._fault is not None and self._fault.do is Link.expire:
            until(lambda: not self._inside or self._session() not in (None, self._first_session))
        if self._inside and self.victim.believes():
            self._note(Harm.TWO)

    def _session(self) -> int | None:
        identity = self.victims_client.client_id
        return None if identity is None else int(identity[0])

    def _note(self, harm: Harm) -> None:
        self.harms[harm] = None

    def play(self, scenario: str) -> Outcome[Harm]:
        """The fault is counted from here on."""
        if self._fault is not None:
            self.proxy.arm(self._fault)
        SCENARIOS[scenario](self)
        return self._judge()

    def _judge(self) -> Outcome[Harm]:
        self._judge_log()
        try:
            until(lambda: not self._queued(), HANGS_S if Harm.HANGS not in self.harms else 0)
        except AssertionError:
            self._note(Harm.ORPHAN)
        seen = self._fault and self._fault.seen
        return Outcome(list(self.harms), len(self.proxy.seen), seen.operation if seen else "")

    def _judge_log(self) -> None:
        names = sorted(surely(self.witness.get_children, self.log))
        assert names or not self._writes, "nothing was written"
        numbers = [int(surely(self.witness.get, f"{self.log}/{name}")[0]) for name in names]
        if numbers != sorted(numbers):
            self._note(Harm.STALE)


SCENARIOS: dict[str, Callable[[Contest], None]] = {
    "turns": Contest.turns,
    "give up": Contest.give_up,
    "alone": Contest.alone,
}
