"""`LiveView`: what the znodes under a path mean, kept up with, for programs that look and listen.

What is made of them is a `Model`, which is pure; its events go to listeners.  A view outlives
connections: the last one stays to be seen, as stale.
"""

import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from kazoo.client import KazooClient

from recipes.base import Wait
from recipes.children import Children
from recipes.listeners import Listeners
from recipes.loop import Loop

E = TypeVar("E")
T = TypeVar("T")


class Model(Protocol[E]):
    """What is made of the znodes that were read; each step returns what has happened."""

    @property
    def is_stale(self) -> bool: ...

    def disconnect(self) -> list[E]: ...

    def accept(self) -> list[E]: ...

    def deadline(self) -> int | None:
        """When to step again at the latest, in ms of `now_ms`."""


class LiveView(Generic[E, T]):
    """Of znodes that are read as T, with events E.

    Listeners run in a thread of its own, and may block."""

    def __init__(
        self,
        client: KazooClient,
        path: str,
        model: Model[E],
        *,
        name: str,
        nodes: str,
        read: Callable[[str, bytes, Any], T],
    ) -> None:
        """`name` is the thread's; `nodes` the path of the znodes, of which `read` is given name,
        data and Stat."""
        self.client, self.path = client, path
        self._model = model
        self._stale = True
        self._listeners = Listeners[E](path)
        self._mutex = threading.RLock()
        self._news = threading.Condition()
        self._loop = Loop(client, name, self._step, self._on_broken)
        self._nodes = Children(self._loop, nodes, read)

    # --- what is known ----------------------------------------------------------------------

    @property
    def stale(self) -> bool:
        """Whether this is the last view before something that does not let it be trusted: no
        connection, or too many that have gone at once."""
        return self._stale or self._loop.stopping or not self.client.connected

    def add_listener(self, told: Callable[[E], object]) -> None:
        """Call with each event from now on, in their order."""
        self._listeners.add(told)

    def accept(self) -> None:
        """Let all that are missing have gone: the way out of a stale view after a true loss."""
        # Listeners are told by the loop: they may stop it, which here could wait for itself.
        self._change(self._model.accept)
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

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _until(self, holds: Callable[[], bool], timeout: float | None) -> None:
        """Raises TimeUp, and CancelledError once it is stopped."""
        with self._news:
            self._loop.wait(self._news, holds, timeout)

    # --- the loop -----------------------------------------------------------------------------

    @abstractmethod
    def _step(self, wait: Wait) -> float | None:
        """Read, and `_deal` with what was read; then `_pause`."""

    @abstractmethod
    def _show(self) -> None:
        """Let readers see what the model has now."""

    def _on_broken(self) -> None:
        self._nodes.forget()
        self._deal(self._model.disconnect)

    def _pause(self) -> float | None:
        """Seconds until the next step, if one is needed without a cause from outside."""
        with self._mutex:
            deadline = self._model.deadline()
        return None if deadline is None else max(0, deadline - now_ms()) / 1000

    def _deal(self, step: Callable[[], list[E]]) -> None:
        self._change(step)
        self._listeners.tell()

    def _change(self, step: Callable[[], list[E]]) -> None:
        with self._mutex:
            self._listeners.note(step())
            with self._news:
                self._show()
                self._stale = self._model.is_stale
                self._news.notify_all()


def now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
