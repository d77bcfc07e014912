"""A thread that keeps up with what a server holds: the thin loop of recipes that watch.

`step` is called at the start, with each new connection, and when something woke it (a watch, a
timer, a caller); never without a connection. Watches only say that something may have
changed, so many of them between two steps make one step, and a step reads all that it needs.

Everything runs in this one thread, which is neither of kazoo's: a step may wait for answers, and
what it calls of its user may block, or use the client.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

from kazoo.client import KazooClient
from kazoo.exceptions import CancelledError, ConnectionClosedError
from kazoo.protocol.states import KazooState

from recipes.base import UNKNOWN_OUTCOME, TimeUp, Wait

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0
"""After a step that failed by something that another connection does not mend."""

Step = Callable[[Wait], float | None]
"""Returns after how many seconds to be called again at the latest; None for no such time."""


class Loop:
    """`start` it, and `stop` it in the end."""

    def __init__(
        self, client: KazooClient, name: str, step: Step, broken: Callable[[], None]
    ) -> None:
        """`broken` is called, in the same thread, once the connection was seen to be gone."""
        self.client = client
        self.breaks = 0
        """How often a connection broke.  What was read before a break may be outdated after it."""
        self.needs_sync = True
        """Whether this client knows of no zxid, so that a member which lags behind may show it an
        older state than it has seen: at the start, and when a session has ended."""
        self._step, self._broken = step, broken
        self._event = threading.Event()
        self._wait: Wait | None = None
        self._stopping = False
        self._told_breaks = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Once.  RuntimeError after that, and after a stop."""
        if self._stopping or self._thread.ident is not None:
            raise RuntimeError(f"{self._thread.name} was started, or stopped, before: make another")
        self.client.add_listener(self._on_connection)
        self._thread.start()

    def stop(self, timeout: float | None = None) -> bool:
        """Comes back when the thread has ended, unless it is the caller, or after so many seconds;
        whether it has ended, or will without another's doing."""
        self._stopping = True
        self.client.remove_listener(self._on_connection)
        wait = self._wait
        if wait is not None:
            wait.cancel()
        self._event.set()
        if self._thread is threading.current_thread() or not self._thread.is_alive():
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def wait(
        self, news: threading.Condition, holds: Callable[[], bool], timeout: float | None
    ) -> None:
        """Until it holds; whoever stops this tells `news`.  Raises TimeUp, and CancelledError once
        this is stopped."""
        # What held when it was asked may not hold when it is asked again.
        found = news.wait_for(lambda: "held" if holds() else self._stopping and "stopped", timeout)
        if not found:
            raise TimeUp
        if found == "stopped":
            raise CancelledError

    @property
    def stopping(self) -> bool:
        return self._stopping

    def wake(self, *ignored: object) -> None:
        """Step again: also as a watch, of which kazoo keeps one, however often it is set."""
        self._event.set()

    def _on_connection(self, state: str) -> None:
        if state != KazooState.CONNECTED:
            self.breaks += 1
        if state == KazooState.LOST:
            self.needs_sync = True
        self._event.set()

    def _run(self) -> None:
        while not self._stopping:
            pause = self._turn()
            self._event.wait(pause)
            # What comes from here on is seen by the next turn, or wakes us from its wait.
            self._event.clear()

    def _turn(self) -> float | None:
        try:
            self._tell_breaks()
            return self._call_step() if self.client.connected else None
        except (CancelledError, ConnectionClosedError):
            return None
        except UNKNOWN_OUTCOME as why:
            log.debug("stepped again after %r", why)
            return 0 if self.client.connected else None
        except Exception:
            log.exception("%s: tried again in %s s", self._thread.name, RETRY_S)
            return RETRY_S

    def _tell_breaks(self) -> None:
        breaks = self.breaks
        if breaks != self._told_breaks:
            self._told_breaks = breaks
            self._broken()

    def _call_step(self) -> float | None:
        with Wait(self.client) as wait:
            self._wait = wait
            if self._stopping:
                return None
            return self._step(wait)

    def sync(self, wait: Wait, path: str) -> None:
        """If this client needs it.  Called by a step before it reads."""
        if self.needs_sync:
            # Before it is asked for: a session that ends meanwhile needs another.
            self.needs_sync = False
            try:
                wait.result(self.client.sync_async(path))
            except BaseException:
                self.needs_sync = True
                raise
