"""`Children`: what the znodes under a path hold, kept up with by a Loop.

A child is read once, and again when its watch has rung.  Watches are Bells: a client keeps one for
each path, however often they are set, and `close` leaves nothing that could call.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs
from kazoo.exceptions import NoNodeError

from recipes.alarm import Bell, bell_at
from recipes.base import Wait
from recipes.loop import Loop

T = TypeVar("T")


@attrs.define(eq=False)
class Ear:
    """Hangs on bells for as long as it is open."""

    _loop: Loop
    _told: Callable[[], object] = attrs.field(default=lambda: None)
    """Called before the loop is woken, in kazoo's thread."""
    _bells: dict[str, Bell] = attrs.field(factory=dict)

    def at(self, path: str) -> Bell:
        """The watch to leave there."""
        bell = self._bells[path] = bell_at(self._loop.client, path)
        bell.hang(self)
        return bell

    def ring(self) -> None:
        self._told()
        self._loop.wake()

    def close(self) -> None:
        for bell in self._bells.values():
            bell.take_down(self)
        self._bells.clear()


class Children(Generic[T]):
    """Read by the steps of one loop."""

    def __init__(self, loop: Loop, path: str, decode: Callable[[str, bytes, Any], T]) -> None:
        """`decode` is given name, data and Stat."""
        self._loop, self._path, self._decode = loop, path, decode
        self._known: dict[str, T] = {}
        """As last read; a watch stands on each."""
        self._ears: dict[str, Ear] = {}
        self._changed: dict[str, None] = {}
        """Children whose watch has rung."""
        self._ear = Ear(loop)

    def forget(self) -> None:
        """Read all of them again: with a connection went the watches."""
        for name in list(self._ears):
            self._drop(name)

    def close(self) -> None:
        """Once the loop has ended."""
        self.forget()
        self._ear.close()

    def read(self, wait: Wait) -> dict[str, T]:
        """By name; none if there is no such path."""
        names = self._read_names(wait)
        for name in [each for each in self._ears if each not in names]:
            self._drop(name)
        wanted = [each for each in names if each not in self._known or each in self._changed]
        # All are asked for before the first answer.
        asked = [(name, self._ask(name)) for name in wanted]
        for name, answer in asked:
            self._on_answer(name, wait, answer)
        return dict(self._known)

    def _read_names(self, wait: Wait) -> list[str]:
        client = self._loop.client
        while True:
            bell = self._ear.at(self._path)
            try:
                found: list[str] = wait.result(client.get_children_async(self._path, watch=bell))
            except NoNodeError:
                if wait.result(client.exists_async(self._path, watch=bell)) is None:
                    return []
            else:
                return found

    def _drop(self, name: str) -> None:
        self._known.pop(name, None)
        self._changed.pop(name, None)
        ear = self._ears.pop(name, None)
        if ear is not None:
            ear.close()

    def _ask(self, name: str) -> Any:
        # Before it is asked for: what rings from here on is for the next step.
        self._drop(name)
        ear = self._ears[name] = Ear(self._loop, lambda: self._changed.setdefault(name))
        path = f"{self._path}/{name}"
        return self._loop.client.get_async(path, watch=ear.at(path))

    def _on_answer(self, name: str, wait: Wait, answer: Any) -> None:
        try:
            data, stat = wait.result(answer)
        except NoNodeError:
            self._drop(name)
            return
        self._known[name] = self._decode(name, data, stat)
