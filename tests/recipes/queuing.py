"""One queue, two clients, and a fault at one request of one of them.

Whoever takes an item makes an entry in a log in the server, under a name of this taking's own,
and then is done with the item. So the log shows what became of each value: nothing, once, twice.
The same is played by zkpy's `Queue`, which makes the entry in the multi that ends the item, and
by kazoo's queues, whose users have to make it before the end (LockingQueue) or after it (Queue);
kazoo's calls are made again when connection or session were lost.

    put     the victim puts three values, two of them together; the rival takes
    take    the victim waits at an empty queue; the rival puts two values; from the fault on the
            rival takes too
"""

import contextlib
import enum
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

from kazoo.client import KazooClient
from kazoo.exceptions import CancelledError, KazooException, NodeExistsError, NoNodeError
from kazoo.recipe.queue import LockingQueue
from kazoo.recipe.queue import Queue as KazoosQueue

from recipes.queue import ItemLostError, Queue, UnknownOutcomeError
from tests.recipes.faults import Fault, FaultProxy, until
from tests.recipes.locks.contest import Outcome, surely

HANGS_S: Final = 25.0
PATIENCE_S: Final = 0.2


class Contestant(Protocol):
    """A queue and its user, however made."""

    waits_at: int
    """After the answer to which of its requests it waits at an empty queue."""
    directories: tuple[str, ...]
    """Which are empty in the end."""

    def put(self, values: list[bytes]) -> bool:
        """False if nobody can tell whether they were put."""
        ...

    def take(self, log: str) -> None:
        """One item, if there is one before the patience ends."""
        ...

    def end(self) -> None:
        """Of what waits, and of what is left behind."""
        ...


MakeContestant = Callable[[KazooClient, str], Contestant]


def entry_of(log: str, value: bytes) -> str:
    return f"{log}/{value.decode()}-{uuid.uuid4().hex}"


class Ours:
    waits_at = 21
    directories: tuple[str, ...] = ("entries", "taken", "takers", "notes")

    def __init__(self, client: KazooClient, path: str) -> None:
        self.queue = Queue(client, path)

    def put(self, values: list[bytes]) -> bool:
        try:
            self.queue.put_all(values)
        except UnknownOutcomeError:
            return False
        return True

    def take(self, log: str) -> None:
        with (
            contextlib.suppress(ItemLostError, UnknownOutcomeError, CancelledError),
            self.queue.take() as item,
        ):
            entry = entry_of(log, item.value)
            item.done(lambda writes: writes.create(entry))

    def end(self) -> None:
        self.queue.cancel()
        self.queue.close()


class KazoosLocking:
    waits_at = 10
    directories: tuple[str, ...] = ("entries", "taken")

    def __init__(self, client: KazooClient, path: str) -> None:
        self.client, self.queue = client, LockingQueue(client, path)

    def put(self, values: list[bytes]) -> bool:
        surely(self.queue.put_all, values)
        return True

    def take(self, log: str) -> None:
        value = surely(self.queue.get, PATIENCE_S)
        if value is not None:
            note(self.client, log, value)
            try:
                if surely(self.queue.consume):
                    return
            except NoNodeError:
                pass
            # It says that it does not hold it any more, and would return it for ever.
            self.queue.processing_element = None

    def end(self) -> None: ...


class Kazoos:
    waits_at = 4
    directories: tuple[str, ...] = ("",)

    def __init__(self, client: KazooClient, path: str) -> None:
        self.client, self.queue = client, KazoosQueue(client, path)

    def put(self, values: list[bytes]) -> bool:
        for value in values:
            surely(self.queue.put, value)
        return True

    def take(self, log: str) -> None:
        value = surely(self.queue.get)
        if value is None:
            threading.Event().wait(PATIENCE_S / 10)
        else:
            note(self.client, log, value)

    def end(self) -> None: ...


def note(client: KazooClient, log: str, value: bytes) -> None:
    with contextlib.suppress(NodeExistsError):
        surely(client.create, entry_of(log, value))


class Harm(enum.Enum):
    LOST = "an item lost"
    TWICE = "an item done twice"
    HANGS = "an item that nobody gets"
    ORPHAN = "a node left behind"


class Shift:
    """The clients, the proxy in front of the victim, and a place of its own."""

    def __init__(
        self,
        make: MakeContestant,
        rival: KazooClient,
        victim: KazooClient,
        proxy: FaultProxy,
        root: str,
        fault: Fault | None = None,
    ) -> None:
        self._fault, self.proxy, self.witness = fault, proxy, rival
        self.path, self.log = f"{root}/queue", f"{root}/log"
        surely(rival.ensure_path, self.log)
        self.rival, self.victim = make(rival, self.path), make(victim, self.path)
        self.expected: list[bytes] = []
        self.unsure: list[bytes] = []
        self.harms: dict[Harm, None] = {}
        self.failures: list[BaseException] = []
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    # --- the scenarios --------------------------------------------------------------------

    def put(self) -> None:
        """The rival comes after the first: it would make the directories, and how many requests
        are left to the victim would be chance."""
        self._puts([b"1"])
        self._begin(self._takes, self.rival)
        self._puts([b"2", b"3"])

    def _puts(self, values: list[bytes]) -> None:
        (self.expected if self.victim.put(values) else self.unsure).extend(values)

    def take(self) -> None:
        self._begin(self._takes, self.victim)
        self._begin(self._takes_from_the_fault, self.rival)
        until(lambda: self._met() or self.proxy.answered >= self.victim.waits_at)
        for value in (b"1", b"2"):
            assert self.rival.put([value])
            self.expected.append(value)

    def _met(self) -> bool:
        return self._fault is not None and self._fault.met.is_set()

    def _begin(self, part: Callable[[Contestant], None], who: Contestant) -> None:
        thread = threading.Thread(target=self._run, args=(part, who), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, part: Callable[[Contestant], None], who: Contestant) -> None:
        try:
            part(who)
        except BaseException as failure:
            self.failures.append(failure)

    def _takes_from_the_fault(self, who: Contestant) -> None:
        until(lambda: self._met() or self._over.is_set())
        self._takes(who)

    def _takes(self, who: Contestant) -> None:
        while not self._over.is_set():
            who.take(self.log)

    # --- what is looked at ------------------------------------------------------------------

    def _children(self, path: str) -> list[str]:
        try:
            found: list[str] = surely(self.witness.get_children, path.rstrip("/"))
        except NoNodeError:
            return []
        return found

    def done(self) -> Counter[bytes]:
        return Counter(name.split("-")[0].encode() for name in self._children(self.log))

    def _left(self, *directories: str) -> list[str]:
        return [each for place in directories for each in self._children(f"{self.path}/{place}")]

    def play(self, scenario: str) -> Outcome[Harm]:
        """The fault is counted from here on."""
        if self._fault is not None:
            self.proxy.arm(self._fault)
        SCENARIOS[scenario](self)
        self._await(Harm.HANGS, lambda: not self._left(self.victim.directories[0]))
        self._over.set()
        self._await(Harm.HANGS, self._have_ended)
        return self._judge()

    def _have_ended(self) -> bool:
        """Asked to again and again: one may be just about to wait."""
        ended = not any(thread.is_alive() for thread in self._threads)
        for each in (self.victim, self.rival):
            each.end()
        return ended

    def _await(self, harm: Harm, condition: Callable[[], object]) -> None:
        try:
            until(condition, HANGS_S)
        except AssertionError:
            self.harms[harm] = None

    def _judge(self) -> Outcome[Harm]:
        if Harm.HANGS not in self.harms:
            self._await(Harm.ORPHAN, lambda: not self._left(*self.victim.directories))
        for failure in self.failures:
            if not isinstance(failure, KazooException):
                raise failure
            self.harms[Harm.HANGS] = None
        done = self.done()
        if any(times > 1 for times in done.values()):
            self.harms[Harm.TWICE] = None
        if Harm.HANGS not in self.harms and any(not done[each] for each in self.expected):
            self.harms[Harm.LOST] = None
        assert set(done) <= {*self.expected, *self.unsure}
        seen = self._fault and self._fault.seen
        return Outcome(list(self.harms), len(self.proxy.seen), seen.operation if seen else "")


SCENARIOS: dict[str, Callable[[Shift], None]] = {"put": Shift.put, "take": Shift.take}
