"""`ClusterMember`: one process's membership, kept up through broken connections and sessions."""

import logging
import threading
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, ConnectionClosedError, NoNodeError

from recipes.base import Seat, TimeUp, Wait
from recipes.loop import Loop
from recipes.membership.departures import Departures
from recipes.membership.node import DEPARTED, MEMBERS, check_name, encode_member

log = logging.getLogger(__name__)


class ClusterMember:
    """`join`, `update`, `leave`; also a context manager.  An object joins once."""

    def __init__(
        self,
        client: KazooClient,
        path: str,
        name: str,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """`name` is unique in the cluster; a process that is started again takes its old name.
        `metadata` is what JSON can hold."""
        self.client, self.path, self.name = client, path.rstrip("/"), check_name(name)
        self.incarnation = uuid.uuid4().hex
        self._wanted = encode_member(name, self.incarnation, metadata or {})
        self._there: bytes | None = None
        """What the node of this session has; None while it is not known to be there."""
        self._breaks = 0
        self._news = threading.Condition()
        self._seat = self._new_seat()
        self._departures = Departures(client, f"{self.path}/{DEPARTED}")
        self._loop = Loop(client, f"member {name}", self._step, self._on_broken)

    @property
    def present(self) -> bool:
        """Whether others see it, with its latest metadata, for all that is known here."""
        is_known = self._there == self._wanted and self._breaks == self._loop.breaks
        return self.client.connected and is_known

    def join(self, timeout: float | None = None) -> None:
        """Comes back when it is present.  Raises TimeUp: it goes on trying, until `leave`."""
        self._loop.start()
        self.wait(timeout)

    def update(self, metadata: Mapping[str, Any]) -> None:
        """Replace the metadata; `wait` until others see it."""
        with self._news:
            self._wanted = encode_member(self.name, self.incarnation, metadata)
        self._loop.wake()

    def wait(self, timeout: float | None = None) -> None:
        """Until it is present.  Raises TimeUp, and CancelledError once it leaves."""
        with self._news:
            self._loop.wait(self._news, lambda: self.present, timeout)

    def leave(self, timeout: float | None = 5.0) -> None:
        """Say so, that nobody holds it for suspect.  After `timeout` seconds, or without a
        connection, it goes without a word, as soon as it can or with its session."""
        self._loop.stop()
        with self._news:
            self._news.notify_all()
        try:
            with Wait(self.client, timeout) as wait:
                wait.persist(lambda: self._say_goodbye(wait))
        except (TimeUp, ConnectionClosedError) as why:
            log.info("%s: %s leaves without a word: %r", self.path, self.name, why)
        finally:
            self._there = None
            self._seat.leave()

    def __enter__(self) -> "ClusterMember":
        self.join()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.leave()

    # --- the loop -----------------------------------------------------------------------------

    def _new_seat(self) -> Seat:
        def prefix(unique: uuid.UUID) -> str:
            return f"{self.name}~{unique.hex}~"

        return Seat(self.client, f"{self.path}/{MEMBERS}", prefix, self._wanted)

    def _on_broken(self) -> None:
        """The node may go with the session: it has to be looked at again."""
        self._there = None

    def _step(self, wait: Wait) -> None:
        wanted, breaks = self._wanted, self._loop.breaks
        if self._seat.outlived():
            self._move()
        while not self._seat.occupy(wait):
            self._move()
        if self._put(wait, wanted):
            with self._news:
                self._there, self._breaks = wanted, breaks
                self._news.notify_all()
        else:
            self._move()
            self._loop.wake()
        if wanted is not self._wanted:
            self._loop.wake()

    def _move(self) -> None:
        self._seat.leave()
        self._seat = self._new_seat()

    def _put(self, wait: Wait, wanted: bytes) -> bool:
        """Whether the node has these data; False if it has gone.  Its end rings too."""
        try:
            found, _ = wait.result(self.client.get_async(self._seat.path, watch=self._loop.wake))
            if found != wanted:
                wait.result(self.client.set_async(self._seat.path, wanted))
        except NoNodeError:
            return False
        return True

    def _say_goodbye(self, wait: Wait) -> None:
        while self._seat.is_asked_for and self._seat.occupy(wait):
            try:
                self._departures.leave(wait, self._seat.path, self.incarnation)
            except BadVersionError:
                continue
            except NoNodeError:
                return
            return
