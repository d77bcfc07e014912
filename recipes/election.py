"""`Election`: one of many leads; `LeaderWatch`: everybody else knows who.

    def lead(leadership):
        while not leadership.wait(1.0):                # until lost, or asked to resign
            leadership.guard.set("/jobs/state", next_state())

    Election(client, "/election", "host-3").run(lead)

An election is a lock on PATH that is held as long as one leads; the epoch is its fencing token,
the czxid of the leader's node, which grows with each leader. Candidates wait each for the one
before; observers watch the leader's node alone, so that candidates who come and go behind it
wake nobody.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.protocol.states import EventType, KazooState

from recipes.locks.claim import MUTEX_FAMILIES, Format, Queued
from recipes.locks.guard import Guard
from recipes.locks.hold import HoldState
from recipes.locks.lock import Lock
from recipes.locks.names import Contender, LockError, contenders_of
from recipes.locks.turn import in_order

log = logging.getLogger(__name__)
T = TypeVar("T")


@attrs.frozen
class Leader:
    identifier: str
    epoch: int


@attrs.define(eq=False)
class Leadership:
    """One time of leading."""

    guard: Guard
    """For writes that only the leader can do."""
    _over: threading.Event

    @property
    def epoch(self) -> int:
        return self.guard.token

    def wait(self, timeout: float | None = None) -> bool:
        """Up to so many seconds; whether it is over: lost, or to be resigned.

        While the connection is gone it is not over, but nothing may be done: `check`."""
        return self._over.wait(timeout)

    def check(self) -> None:
        """Raises LockLostError, or LockSuspendedError."""
        self.guard.check()


class Election:
    def __init__(
        self, client: KazooClient, path: str, identifier: str = "", *, format: Format = "kazoo"
    ) -> None:
        """`identifier` is what observers are told; `format` as of Lock."""
        self._lock = Lock(client, path, identifier, format=format)
        self._lock.add_listener(self._on_change)
        self._runs: dict[threading.Event, None] = {}
        """One per call of `run` that goes on now: set when it is over, or to be."""
        self._leading: threading.Event | None = None

    def run(self, lead: Callable[[Leadership], T]) -> T:
        """Wait to be elected, and call `lead`; the leadership ends with it.  What it returns.

        Raises CancelledError after `cancel`; LockLostError when the leadership was lost meanwhile,
        unless `lead` raises something itself."""
        over = threading.Event()
        self._runs[over] = None
        try:
            with self._lock as guard:
                self._leading = over
                if guard.state is HoldState.LOST:
                    # That was told before somebody listened for this time.
                    over.set()
                return lead(Leadership(guard, over))
        finally:
            del self._runs[over]

    def resign(self) -> None:
        """Ask the leadership of this candidate to end, or not to last once it begins: its `wait`
        says so.  Of every `run` that goes on now, if there are several, and of no later one."""
        for over in list(self._runs):
            over.set()

    def cancel(self) -> None:
        """Be no candidate any more, if not elected yet."""
        self._lock.cancel()

    @property
    def leads(self) -> bool:
        return self._lock.held

    def leader(self) -> Leader | None:
        """Who leads, or is about to; a moment later it may be another."""
        candidates = self.candidates()
        return Leader(candidates[0].identifier, candidates[0].token) if candidates else None

    def candidates(self) -> list[Queued]:
        """In the order in which they will lead."""
        return self._lock.contenders()

    def _on_change(self, state: HoldState) -> None:
        if state is HoldState.LOST and self._leading is not None:
            self._leading.set()


class LeaderWatch:
    """Tells who leads, each time that it is another; None if nobody does.

    Works in kazoo's threads, where `told` is called too: it must not block.  Without a connection
    the last word stands, and `certain` is false; who came and went meanwhile is not told.  So it is
    while there are nodes on the path of which nobody could say who is first."""

    def __init__(
        self,
        client: KazooClient,
        path: str,
        told: Callable[[Leader | None], object],
        *,
        format: Format = "kazoo",
    ) -> None:
        self._client, self._path, self._told = client, path.rstrip("/"), told
        self._family = MUTEX_FAMILIES[format]
        self.leader: Leader | None = None
        self.certain = False
        self._knows = False
        self._doubts = False
        """Whether the log was told that nobody could say who is first."""
        self._look_number = 0
        """Of the present look: what earlier ones hear is out of date."""
        self._mutex = threading.RLock()
        client.add_listener(self._on_connection)
        if client.connected:
            self._look()

    def close(self) -> None:
        """Tell nothing more."""
        self._client.remove_listener(self._on_connection)
        with self._mutex:
            self._look_number += 1

    def _on_connection(self, state: str) -> None:
        with self._mutex:
            self.certain = False
            self._look_number += 1
        if state == KazooState.CONNECTED:
            self._look()

    def _look(self) -> None:
        with self._mutex:
            self._look_number += 1
            number = self._look_number
        self._then(self._client.get_children_async(self._path), number, self._on_children)

    def _then(self, asked: Any, number: int, step: Callable[[Any, int], None]) -> None:
        """Go on with the answer, unless another look has begun."""

        def go_on(answer: Any) -> None:
            with self._mutex:
                if number == self._look_number:
                    step(answer, number)

        asked.rawlink(go_on)

    def _watch(self, number: int) -> Callable[[Any], None]:
        def on_event(event: Any) -> None:
            with self._mutex:
                if number == self._look_number and event.type != EventType.NONE:
                    self._look()

        return on_event

    def _on_children(self, answer: Any, number: int) -> None:
        if isinstance(answer.exception, NoNodeError):
            watch = self._watch(number)
            self._then(self._client.exists_async(self._path, watch), number, self._on_path)
        elif answer.exception is None:
            self._go_on(answer.value, number, self._await_candidates)
        # Otherwise the connection is gone; the next one looks again.

    def _on_path(self, answer: Any, number: int) -> None:
        """There was no path; and the watch tells when there is one."""
        if answer.exception is None:
            if answer.value is None:
                self._say(None)
            else:
                self._look()

    def _await_candidates(self, number: int) -> None:
        """Nobody yet, or nobody knows: only now every child counts, and only on the list that
        leaves the watch."""
        watch = self._watch(number)
        asked = self._client.get_children_async(self._path, watch)
        self._then(asked, number, self._on_no_candidates)

    def _on_no_candidates(self, answer: Any, number: int) -> None:
        if isinstance(answer.exception, NoNodeError):
            self._look()
        elif answer.exception is None:
            self._go_on(answer.value, number, self._say_nobody)

    def _go_on(self, children: list[str], number: int, nobody: Callable[[int], None]) -> None:
        try:
            first = next(iter(in_order(contenders_of(children, self._family))), None)
        except LockError as why:
            if self.certain or not self._doubts:
                log.warning("%s: %s", self._path, why)
            self.certain, self._doubts = False, True
            if nobody == self._await_candidates:
                self._await_candidates(number)
            return
        self._doubts = False
        if first is None:
            nobody(number)
        else:
            self._read(first, number)

    def _say_nobody(self, number: int) -> None:
        self._say(None)

    def _read(self, first: Contender, number: int) -> None:
        asked = self._client.get_async(f"{self._path}/{first.name}", self._watch(number))
        self._then(asked, number, self._on_leader)

    def _on_leader(self, answer: Any, number: int) -> None:
        if isinstance(answer.exception, NoNodeError):
            self._look()
        elif answer.exception is None:
            data, stat = answer.value
            self._say(Leader(data.decode(errors="replace"), int(stat.czxid)))

    def _say(self, leader: Leader | None) -> None:
        self.certain = True
        if self._knows and leader == self.leader:
            return
        self.leader, self._knows = leader, True
        try:
            self._told(leader)
        except Exception:
            log.exception("a listener of %s failed", self._path)
