"""`Listeners`: who is told of what happens, in order, and in one thread."""

import collections
import logging
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

E = TypeVar("E")


class Listeners(Generic[E]):
    """`note` in any thread; `tell` in the one that listeners may hold up, and may stop.

    Whoever notes holds locks, so that the order is right, and calls nobody: a listener that
    waited for another thread, which wants such a lock, would wait for ever.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._listeners: list[Callable[[E], object]] = []
        self._untold: collections.deque[E] = collections.deque()

    @property
    def up_to_date(self) -> bool:
        """Whether they have been told all."""
        return not self._untold

    def add(self, told: Callable[[E], object]) -> None:
        self._listeners.append(told)

    def note(self, events: Iterable[E]) -> None:
        self._untold.extend(events)

    def tell(self) -> None:
        """What a listener raises is logged."""
        while self._untold:
            for told in list(self._listeners):
                self._call(told, self._untold[0])
            self._untold.popleft()

    def _call(self, told: Callable[[E], object], event: E) -> None:
        try:
            told(event)
        except Exception:
            log.exception("a listener of %s failed", self._name)
