"""`Alarm`: a watch for one wait, which leaves nothing behind when its time is up.

A client keeps a watch until it rings, also when nobody waits for it any more; and what waits again
and again for something that does not happen would leave one each time.  So kazoo gets one
`Bell` per path of a client, of which it keeps one, however often it is set, and the bell rings the
alarms that wait now.
"""

import threading
import weakref
from typing import Final, Protocol

import attrs
from kazoo.client import KazooClient

from recipes.base import Wait


class Rings(Protocol):
    """What hangs on a bell; in kazoo's thread, so it must not wait."""

    def ring(self) -> None: ...


@attrs.define(eq=False)
class Bell:
    """Lives as long as kazoo has it, or an alarm."""

    _alarms: dict[Rings, None] = attrs.field(factory=dict)

    def hang(self, alarm: Rings) -> None:
        self._alarms[alarm] = None

    def take_down(self, alarm: Rings) -> None:
        self._alarms.pop(alarm, None)

    def __call__(self, event: object = None) -> None:
        for alarm in list(self._alarms):
            alarm.ring()


_BELLS: Final = weakref.WeakValueDictionary[tuple[KazooClient, str], Bell]()
_MUTEX: Final = threading.Lock()


def bell_at(client: KazooClient, path: str) -> Bell:
    with _MUTEX:
        return _BELLS.setdefault((client, path), Bell())


class Alarm:
    """For one watch.  It rings too when the connection breaks, as kazoo then calls all of them; and
    now and then for what others had watched there before, as it is one bell."""

    def __init__(self, wait: Wait) -> None:
        self._wait = wait
        self._bell: Bell | None = None
        self._rung = False

    def at(self, path: str) -> Bell:
        """The watch to leave on that path."""
        self._bell = bell_at(self._wait.client, path)
        self._wait.endings[self] = self._end
        self._bell.hang(self)
        return self._bell

    def ring(self) -> None:
        self._end()
        self._rung = True
        self._wait.wake()

    def rings(self) -> bool:
        return self._rung

    def _end(self) -> None:
        self._wait.endings.pop(self, None)
        if self._bell is not None:
            self._bell.take_down(self)


__all__ = ["Alarm"]
