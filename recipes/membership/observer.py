"""`ClusterObserver`: who is a member now, and what happens to them."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from kazoo.client import KazooClient

from recipes.base import Wait
from recipes.children import Children
from recipes.listeners import Listeners
from recipes.loop import Loop
from recipes.membership.departures import Departures
from recipes.membership.node import DEPARTED, MEMBERS, decode_member, newest_by_name
from recipes.membership.view import SHARE, Event, Member, Seat, View, choose_master

OnEvent = Callable[[Event], object]
GRACE_S: Final = 10.0


class ClusterObserver:
    """One process's view of one cluster.  Listeners run in a thread of its own, and may block."""

    def __init__(
        self, client: KazooClient, path: str, *, grace: float = GRACE_S, share: float = SHARE
    ) -> None:
        """`grace`: seconds for which a member that has gone is suspect only. `share`: if more of
        them are suspect at the same time, nobody is declared to have left (1.0: never)."""
        self.client, self.path = client, path.rstrip("/")
        self._view = View(round(grace * 1000), share)
        self._seats: dict[str, Seat] = {}
        self._stale = True
        self._listeners = Listeners[Event](self.path)
        self._mutex = threading.RLock()
        self._news = threading.Condition()
        self._loop = Loop(client, f"cluster {self.path}", self._step, self._on_broken)
        self._departures = Departures(client, f"{self.path}/{DEPARTED}")
        self._nodes = Children(self._loop, f"{self.path}/{MEMBERS}", read_member)

    # --- what is known ----------------------------------------------------------------------

    @property
    def members(self) -> dict[str, Seat]:
        """By name: member, and whether it is alive or suspect."""
        return self._seats

    @property
    def stale(self) -> bool:
        """Whether this is the last view before something that does not let it be trusted: no
        connection, or too many that have vanished at once."""
        return self._stale or self._loop.stopping or not self.client.connected

    @property
    def master(self) -> Member | None:
        """The oldest that is alive: an opinion, which other observers share a moment sooner or
        later. Who acts on it alone wants an election, with a fencing token, instead."""
        return choose_master(self._seats)

    def add_listener(self, told: OnEvent) -> None:
        """Call with each event from now on, in their order."""
        self._listeners.add(told)

    def wait(self, condition: Callable[[dict[str, Seat]], object], timeout: float | None) -> None:
        """Until the members are such.  Raises TimeUp, and CancelledError once it is stopped."""
        with self._news:
            self._loop.wait(self._news, lambda: bool(condition(self._seats)), timeout)

    def accept(self) -> None:
        """Let all that are suspect have left: the way out of a stale view after a true loss."""
        # Listeners are told by the loop: they may stop it, which here could wait for itself.
        self._change(self._view.accept)
        self._loop.wake()

    def start(self) -> None:
        self._loop.start()

    def stop(self) -> None:
        """The last view stays, as stale."""
        self._loop.stop()
        self._nodes.close()
        with self._news:
            self._stale = True
            self._news.notify_all()

    def __enter__(self) -> "ClusterObserver":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- the loop -----------------------------------------------------------------------------

    def _on_broken(self) -> None:
        self._nodes.forget()
        self._deal(self._view.disconnect)

    def _step(self, wait: Wait) -> float | None:
        self._loop.sync(wait, self.path)
        breaks = self._loop.breaks
        nodes = self._nodes.read(wait)
        present = newest_by_name(each for each in nodes.values() if each is not None)
        gone = any(name not in present for name in self._seats)
        departed = self._departures.read(wait) if gone else frozenset()
        if breaks == self._loop.breaks:
            self._deal(lambda: self._view.observe(now_ms(), present, departed))
        return self._pause()

    def _pause(self) -> float | None:
        with self._mutex:
            deadline = self._view.deadline()
        return None if deadline is None else max(0, deadline - now_ms()) / 1000

    def _deal(self, step: Callable[[], list[Event]]) -> None:
        self._change(step)
        self._listeners.tell()

    def _change(self, step: Callable[[], list[Event]]) -> None:
        with self._mutex:
            self._listeners.note(step())
            with self._news:
                self._seats, self._stale = dict(self._view.seats), self._view.is_stale
                self._news.notify_all()


def read_member(name: str, data: bytes, stat: Any) -> Member | None:
    return decode_member(data, int(stat.czxid))


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
