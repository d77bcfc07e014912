"""`Queue`: items that many put and many take, each done once.

    queue = Queue(client, "/mail")
    queue.put(b"to a@example.org")
    with queue.take(timeout=60) as item:
        send(item.value)                  # done at the end of the block, free again if it raises

In the layout of kazoo's LockingQueue, and three directories more:

    PATH/entries/entry-PPP-<number>   the value; PPP is the priority, the smallest first. Its
                                      version counts how often it was claimed
    PATH/taken/<the same>             ephemeral: who has it. At version 1, kazoo's stay at 0
    PATH/takers/<32 hex>__lock__<number>   ephemeral: the line of those who found nothing free
    PATH/notes/<32 hex>               ephemeral: see `once.py`
    PATH/dead/<the same>              the value of an item that was claimed in vain too often

A claim is one multi: make the node in `taken`, and write the value once more on condition of its
version; the version that it then has is the item's *token*. `done` is one multi too: away
with claim and entry at exactly these versions. So one whose session ended, and whose item
another one has by now, is refused, however late and convinced it comes.
"""

import contextlib
import logging
import re
import uuid
from collections.abc import Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Final

from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import BadVersionError, NodeExistsError, NoNodeError

from recipes.base import NUMBER, TimeUp, UnknownOutcomeError, Wait, raise_first, session_of
from recipes.giveback import OURS, GiveBack
from recipes.locks.hold import Hold, HoldState, News, OnChange
from recipes.locks.lock import Lock
from recipes.locks.turn import distance
from recipes.once import Fill, Once, is_too_large

log = logging.getLogger(__name__)

ENTRY: Final = re.compile(rf"entry-(\d{{3}})-({NUMBER.pattern})")
PRIORITIES: Final = range(1000)
MOST_BYTES: Final = 1_000_000
"""Of one put; a claim of the value takes a larger request, which has to go through as well."""
OVERHEAD: Final = 200
"""Of each value, besides its path."""
NOT_MINE: Final = (BadVersionError, NoNodeError, NodeExistsError)


class ItemLostError(Exception):
    """The item is not this one's any more: it was not done by it, and somebody else may have it."""


# --- decisions (pure) ------------------------------------------------------------------------


def free_entries(entries: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Names that nobody has, the first first: by priority, then in the order of arrival.

    Numbers are compared as a server counts them, in 32 bits that overflow (see `locks/turn.py`).
    Names of another form are nobody's."""
    not_free = set(taken)
    found = [
        (int(match[1]), int(match[2]), name)
        for name in entries
        if name not in not_free and (match := ENTRY.fullmatch(name))
    ]
    origin = found[0][1] if found else 0
    return [name for _, _, name in sorted(found, key=lambda its: place_of(its[0], its[1], origin))]


def place_of(priority: int, number: int, origin: int) -> tuple[int, int]:
    return priority, distance(origin, number)


def priority_of(name: str) -> int:
    return int(name.split("-")[1])


def check_put(values: Sequence[bytes], priority: int, path: str) -> None:
    """Raises TypeError, ValueError."""
    if not all(isinstance(value, bytes) for value in values):
        raise TypeError("a value must be bytes")
    if priority not in PRIORITIES:
        raise ValueError("a priority is a number from 0 to 999")
    each_besides = OVERHEAD + len(path.encode())
    if sum(len(value) + each_besides for value in values) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} bytes do not fit into one request")


def nothing(*ignored: object) -> None:
    """Nothing more to do."""


# --- the loop ----------------------------------------------------------------------------------


class Queue:
    """One object per process will do; its threads may share it.

    Not to be used from kazoo's own threads."""

    def __init__(self, client: KazooClient, path: str, *, attempts: int | None = None) -> None:
        """`attempts`: an item that was claimed so often, and is free again, goes to PATH/dead
        instead of to this object's takers.  Also a claim counts whose taker had given up by
        the time that it was made. None: it is handed out again and again."""
        if attempts is not None and attempts < 1:
            raise ValueError("an item is claimed once at least")
        self.client, self.path = client, path.rstrip("/")
        self._attempts = attempts
        self._once = Once(client, f"{self.path}/notes")
        self._waits: dict[Wait, None] = {}
        self._changes = 0
        """That watches on the queue have told of."""
        self._too_large: set[str] = set()
        """Names that the log was told of."""

    # --- put ----------------------------------------------------------------------------------

    def put(self, value: bytes, priority: int = 100, *, timeout: float | None = None) -> None:
        """As `put_all` of one."""
        self.put_all([value], priority, timeout=timeout)

    def put_all(
        self, values: Iterable[bytes], priority: int = 100, *, timeout: float | None = None
    ) -> None:
        """All or none, in this order, each once: also when answers are lost.  One request, of a
        million bytes at most.

        Raises UnknownOutcomeError when the session ended just then, and TimeUp: both may have
        been put, or not."""
        kept = list(values)
        check_put(kept, priority, self.path)

        def fill(request: TransactionRequest) -> None:
            for value in kept:
                request.create(f"{self.path}/entries/entry-{priority:03d}-", value, sequence=True)

        with Wait(self.client, timeout) as wait:
            while not self._try_put(wait, fill):
                wait.persist(lambda: self._prepare(wait))

    def _try_put(self, wait: Wait, fill: Fill) -> bool:
        """False if there is no place to put it yet."""
        try:
            raise_first(self._once.commit(wait, fill))
        except NoNodeError:
            return False
        return True

    def _prepare(self, wait: Wait) -> None:
        for each in ("entries", "taken"):
            wait.result(self.client.ensure_path_async(f"{self.path}/{each}"))

    # --- take ---------------------------------------------------------------------------------

    def take(self, timeout: float | None = None, *, on_change: OnChange = nothing) -> "Item":
        """The first item that is free, as its only owner.  Waits for one; with a timeout of 0, for
        the server's answers only.

        `on_change` gets each HoldState of the item: HELD in this thread before it comes back,
        RELEASED in that which is done with it or releases it, the others in kazoo's, at once; it
        must not block. Raises TimeUp, and CancelledError after `cancel`."""
        blocking = timeout != 0
        with Wait(self.client, timeout if blocking else None) as wait:
            self._waits[wait] = None
            try:
                tries = 1 if blocking else None
                item = wait.persist(lambda: self._take_free(wait, on_change, tries))
                if item is None and blocking:
                    item = self._take_in_line(wait, on_change)
            finally:
                del self._waits[wait]
        if item is None:
            raise TimeUp
        taken: Item = item
        return taken

    def cancel(self) -> None:
        """End the calls of `take` that wait now, in other threads, with CancelledError."""
        for wait in list(self._waits):
            wait.cancel()

    def size(self) -> int:
        """Of what is not done: free or taken."""
        with Wait(self.client) as wait:
            free_or_taken: int = wait.persist(lambda: len(self._children(wait, "entries")))
        return free_or_taken

    def close(self) -> None:
        """Leave nothing behind in a session that goes on; the object may be used again.  Waits
        for a `put` or `done` that is under way."""
        self._once.close()

    def _take_in_line(self, wait: Wait, on_change: OnChange) -> "Item":
        """Only the first in line watches; the others wait for the one before them."""
        line = Lock(self.client, f"{self.path}/takers")
        line.add_listener(wait.wake)
        item: Item | None = None
        while item is None:
            turn = line._contend(wait, True)
            assert turn is not None
            try:
                item = wait.persist(partial(self._await_free, wait, on_change, turn))
            finally:
                turn.release()
                line._seat.leave()
        return item

    def _await_free(self, wait: Wait, on_change: OnChange, turn: Hold) -> "Item | None":
        """None if the place in line has gone, with its session or otherwise."""
        while not turn.is_final():
            seen = self._changes
            item = self._take_free(wait, on_change, None, watch=True)
            if item is not None:
                return item
            wait.until(lambda: self._changes != seen or turn.is_final())  # noqa: B023
        return None

    def _ring(self, event: object) -> None:
        """The one watch of this object, of which kazoo keeps one, however often it is set: takers
        whose time is up leave nothing behind.  It rings too when the connection breaks."""
        self._changes += 1
        for wait in list(self._waits):
            wait.wake()

    def _take_free(
        self, wait: Wait, on_change: OnChange, most: int | None, watch: bool = False
    ) -> "Item | None":
        """None if there is none, or if others are faster at so many."""
        for name in self._free(wait, watch)[:most]:
            item = self._take(wait, name, on_change)
            if item is not None:
                return item
        return None

    def _free(self, wait: Wait, watch: bool) -> list[str]:
        """Both lists are asked for at once.  What changes behind either rings, if so wanted."""
        while True:
            asked = [self._ask_children(place, watch) for place in ("entries", "taken")]
            try:
                entries, taken = [wait.result(each) for each in asked]
            except NoNodeError:
                self._prepare(wait)
            else:
                return free_entries(entries, taken)

    def _ask_children(self, place: str, watch: bool = False) -> Any:
        ring = self._ring if watch else None
        return self.client.get_children_async(f"{self.path}/{place}", watch=ring)

    def _children(self, wait: Wait, place: str) -> list[str]:
        try:
            found: list[str] = wait.result(self._ask_children(place))
        except NoNodeError:
            return []
        return found

    def _take(self, wait: Wait, name: str, on_change: OnChange) -> "Item | None":
        try:
            value, stat = wait.result(self.client.get_async(f"{self.path}/entries/{name}"))
        except NoNodeError:
            return None
        if self._attempts is not None and stat.version >= self._attempts:
            self._bury(wait, name, value, stat.version)
            return None
        item = Item(self, name, value, stat.version + 1)
        return (
            self._claim(wait, item, on_change) if self._fits(item._request_claim(), name) else None
        )

    def _fits(self, request: TransactionRequest, name: str) -> bool:
        """Somebody else's value may be too large to be written once more."""
        if not is_too_large(request):
            return True
        if name not in self._too_large:
            self._too_large.add(name)
            log.warning("%s/entries/%s is too large to be taken", self.path, name)
        return False

    def _claim(self, wait: Wait, item: "Item", on_change: OnChange) -> "Item | None":
        held = False
        try:
            held = wait.persist(lambda: item._claim(wait)) and item._hold_on(wait, on_change)
        finally:
            if not held:
                item._give_back()
        return item if held else None

    def _bury(self, wait: Wait, name: str, value: bytes, version: int) -> None:
        """Move it to the dead, if nobody has it.  Nothing if that was done, by whomever."""
        wait.result(self.client.ensure_path_async(f"{self.path}/dead"))
        for grave, sequence in ((name, False), (f"{name}-", True)):
            request = self._burial(name, version)
            request.create(f"{self.path}/dead/{grave}", value, sequence=sequence)
            if not self._fits(request, name):
                return
            results = wait.result(request.commit_async())
            if not isinstance(results[-1], NodeExistsError):
                break
            # An earlier one of that name: numbers begin anew with the directory.
        with contextlib.suppress(*NOT_MINE):
            raise_first(results)

    def _burial(self, name: str, version: int) -> TransactionRequest:
        request = TransactionRequest(self.client)
        taken = f"{self.path}/taken/{name}"
        request.create(taken, ephemeral=True)
        request.delete(taken)
        request.delete(f"{self.path}/entries/{name}", version)
        return request


class Item:
    """One time of having an item.  A context manager: `done` at the end of the block, `release` if
    the block raises."""

    def __init__(self, queue: Queue, name: str, value: bytes, token: int) -> None:
        self.name, self.value, self.token = name, value, token
        """The token is 1 for the first time that it is handed out, and larger each time: hand it to
        stores that can refuse a smaller one."""
        self._queue, self._client = queue, queue.client
        self._entry = f"{queue.path}/entries/{name}"
        self._taken = f"{queue.path}/taken/{name}"
        self._id = uuid.uuid4().hex.encode()
        self._hold = Hold(queue.client, self._taken, nothing)
        self._asked = False
        """Whether the claim may have been made, or may yet be."""
        self._on_change: OnChange = nothing
        self._told: HoldState | None = None
        self._ending, self._is_done = False, False

    @property
    def priority(self) -> int:
        return priority_of(self.name)

    @property
    def state(self) -> HoldState:
        """For all that is known here.  Only `done` is proof."""
        return HoldState.RELEASED if self._is_done else self._hold.state

    # --- done, or not ---------------------------------------------------------------------------

    def done(self, also: Fill = nothing) -> None:
        """Away with it, for good.  `also` adds writes to the same multi, so that they happen once
        for the item, and only by its owner:

            item.done(lambda writes: writes.create("/sent/" + number))

        It is called again each time that the multi has to be sent again, and must not call for a
        `put` or `done` of the same queue itself (RuntimeError).

        Waits for a connection. Raises ItemLostError: not done by this one. UnknownOutcomeError: the
        item is away, the session ended just then, and whether it was this one's doing is not
        known. If a write of `also` fails, what kazoo has for it, and ValueError if all that
        is more than a request holds: nothing was done, and it is held still."""
        if self.state in (HoldState.LOST, HoldState.RELEASED):
            raise ItemLostError(f"{self._entry} is {self.state.value}")
        self._ending = True
        try:
            self._finish(also)
            self._is_done, self._asked = True, False
        finally:
            self._end_of_ending()

    def _end_of_ending(self) -> None:
        # What the connection does meanwhile is told before this, or after it.
        with self._hold._mutex:
            self._ending = False
            if self._is_done:
                self._hold.release()
            self._hold._tell(self.state)

    def _finish(self, also: Fill) -> None:
        with Wait(self._client) as wait:
            try:
                results = self._queue._once.commit(wait, partial(self._fill, also))
            except UnknownOutcomeError:
                self._hold.take(News.GONE)
                # Only the note may have gone, and the session lives on.
                self.release()
                if wait.persist(lambda: self._is_there(wait)):
                    raise ItemLostError(self._entry) from None
                raise
        self._judge(results)

    def _fill(self, also: Fill, request: TransactionRequest) -> None:
        request.delete(self._taken, OURS)
        request.delete(self._entry, self.token)
        also(request)

    def _judge(self, results: list[Any]) -> None:
        for mine in results[:2]:
            if isinstance(mine, NOT_MINE):
                self._hold.take(News.GONE)
                # It may be this one's still, if only the entry was written or deleted.
                self.release()
                raise ItemLostError(self._entry) from mine
        raise_first(results)

    def _is_there(self, wait: Wait) -> bool:
        """With a sync, as the member that we were moved to may lag behind."""
        wait.result(self._client.sync_async(self._entry))
        return wait.result(self._client.exists_async(self._entry)) is not None

    def release(self) -> None:
        """Let others have it; nothing if it is not held any more.  Comes back when it is free, or
        at once without a connection: it is free then with the next one, or when the session ends.
        """
        self._hold.release()
        giving = self._give_back()
        with Wait(self._client) as wait:
            giving.link(wait.wake)
            wait.until(lambda: giving.is_done or not self._client.connected)

    def __enter__(self) -> "Item":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.release()
        elif self.state is not HoldState.RELEASED:
            self._done_or_free()

    def _done_or_free(self) -> None:
        try:
            self.done()
        except BaseException:
            self.release()
            raise

    # --- claim, and give back -------------------------------------------------------------------

    def _request_claim(self) -> TransactionRequest:
        request = TransactionRequest(self._client)
        request.create(self._taken, self._id, ephemeral=True)
        request.set_data(self._taken, self._id, OURS - 1)
        request.set_data(self._entry, self.value, self.token - 1)
        return request

    def _claim(self, wait: Wait) -> bool:
        """Whether it is this one's.  May be called again when that is not known."""
        self._asked = True
        try:
            raise_first(wait.result(self._request_claim().commit_async()))
        except NodeExistsError:
            return self._is_mine(wait)
        except NOT_MINE:
            self._asked = False
            return False
        return True

    def _is_mine(self, wait: Wait) -> bool:
        """By a claim whose answer was lost.  No sync: this member has just refused another."""
        try:
            data, stat = wait.result(self._client.get_async(self._taken))
        except NoNodeError:
            return False
        mine = bool(data == self._id)
        self._asked = mine
        return mine and stat.ephemeralOwner == session_of(self._client)

    def _hold_on(self, wait: Wait, on_change: OnChange) -> bool:
        """Begin to be told what becomes of it; False if it has gone already."""
        hold = self._hold = Hold(self._client, self._taken, wait.wake)
        self._on_change = on_change
        hold.begin()
        while not hold.announce(self._tell):
            if hold.is_final():
                return False
            wait.until(lambda: hold.state is not HoldState.SUSPENDED)
        return True

    def _tell(self, state: HoldState) -> None:
        """Each once.  A claim that goes while `done` waits for its answer went most likely by that:
        its watch comes before the answer. That waits too; the end of the session does not."""
        is_own = self._ending and state is HoldState.LOST and session_of(self._client) is not None
        if not is_own and state is not self._told:
            self._told = state
            self._on_change(state)

    def _give_back(self) -> GiveBack:
        """If it may be this one's."""
        self._hold.release()
        giving = GiveBack(self._client, self._entry, self._taken, self._id)
        giving.run(self._asked)
        self._asked = False
        return giving


__all__ = [
    "HoldState",
    "Item",
    "ItemLostError",
    "Queue",
    "TimeUp",
    "UnknownOutcomeError",
    "free_entries",
]
