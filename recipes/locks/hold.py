"""One time of holding: its fencing token, and what the holder may believe at each moment.

It is begun with the node, while its owner still waits for the turn, so that with the turn nothing
is left to ask.  It begins unconfirmed, which is the same as suspended: the node is there, but
whether it is the present session's has not been read.  kazoo's states and what is read of the node
move it, by the table `NEXT`; LOST and RELEASED are final.

    suspended --confirmed--> held --the connection breaks--> suspended
    either --the session or the node is gone--> lost,  --release--> released

Each break is counted.  An answer that was read before a break may be looked at after it:
it confirms nothing then.
"""

import enum
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import attrs
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError, SessionExpiredError
from kazoo.protocol.states import EventType, KazooState, WatchedEvent

from recipes.base import session_of

log = logging.getLogger(__name__)


class HoldState(enum.Enum):
    HELD = "held"
    """The node is there, in a session with a connection."""
    SUSPENDED = "suspended"
    """Nobody knows: do nothing that only the holder may do."""
    LOST = "lost"
    """Somebody else may hold it by now."""
    RELEASED = "released"


class News(enum.Enum):
    """What can happen to a hold."""

    CONFIRMED = "confirmed"
    BROKEN = "broken"
    GONE = "gone"
    RELEASE = "release"


NEXT: Final = {
    (HoldState.SUSPENDED, News.CONFIRMED): HoldState.HELD,
    (HoldState.HELD, News.BROKEN): HoldState.SUSPENDED,
    (HoldState.HELD, News.GONE): HoldState.LOST,
    (HoldState.SUSPENDED, News.GONE): HoldState.LOST,
    (HoldState.HELD, News.RELEASE): HoldState.RELEASED,
    (HoldState.SUSPENDED, News.RELEASE): HoldState.RELEASED,
}
"""Everything else changes nothing."""

OnChange = Callable[[HoldState], object]


@attrs.define(eq=False)
class Hold:
    """Of the node at `path`.

    `on_change` gets each new state, in its order and in kazoo's threads: it must not block."""

    client: KazooClient
    path: str
    on_change: OnChange
    state: HoldState = HoldState.SUSPENDED
    token: int = 0
    """The node's czxid, once it was read: the zxid of the transaction that created it.  Under one
    parent numbers grow with zxids, so whoever holds later has a larger one."""
    _breaks: int = 0
    _mutex: threading.RLock = attrs.field(factory=threading.RLock)

    def begin(self) -> None:
        """Listen, then confirm: a break in between is seen."""
        self.client.add_listener(self._on_connection)
        self._confirm()

    def announce(self, told: OnChange) -> bool:
        """The turn has come: tell that, and all that becomes of it.  False if it is not held."""
        with self._mutex:
            if self.state is not HoldState.HELD:
                return False
            self.on_change = told
            self._tell(self.state)
            return True

    def release(self) -> None:
        self.take(News.RELEASE)

    def is_final(self) -> bool:
        return self.state in (HoldState.LOST, HoldState.RELEASED)

    def take(self, news: News) -> None:
        with self._mutex:
            state = NEXT.get((self.state, news))
            if state is None:
                return
            self.state = state
            if self.is_final():
                self.client.remove_listener(self._on_connection)
            # Inside, so that states are told in their order.
            self._tell(state)

    def _tell(self, state: HoldState) -> None:
        try:
            self.on_change(state)
        except Exception:
            log.exception("a listener of %s failed", self.path)

    def _on_connection(self, state: str) -> None:
        if state == KazooState.CONNECTED:
            self._confirm()
        elif state == KazooState.SUSPENDED:
            with self._mutex:
                self._breaks += 1
            self.take(News.BROKEN)
        else:
            self.take(News.GONE)

    def _confirm(self) -> None:
        breaks = self._breaks
        # get leaves no watch behind where there is no node; exists would.
        asked = self.client.get_async(self.path, watch=self._on_own_node)
        asked.rawlink(lambda answer: self._on_read(answer, breaks))

    def _on_read(self, answer: Any, breaks: int) -> None:
        why = answer.exception
        if isinstance(why, NoNodeError | SessionExpiredError):
            self.take(News.GONE)
        elif why is None:
            self._on_stat(answer.value[1], breaks)
        # Otherwise the connection broke again: the next one confirms.

    def _on_stat(self, stat: Any, breaks: int) -> None:
        with self._mutex:
            if breaks != self._breaks:
                return
            session = session_of(self.client)
            if session is None:
                return
            self.token = stat.czxid
            # A member may still show the node of a session that has ended.
            self.take(News.CONFIRMED if stat.ephemeralOwner == session else News.GONE)

    def _on_own_node(self, event: WatchedEvent) -> None:
        if event.type == EventType.DELETED:
            self.take(News.GONE)
        elif event.type == EventType.CHANGED:
            # Somebody wrote into it (Curator's revocation does); the watch is used up.
            self._confirm()
