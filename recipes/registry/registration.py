"""`ServiceRegistration`: one instance, kept registered through broken connections and sessions.

    registration = ServiceRegistration(client, "/services", ServiceInstance("orders", "h1", 8080))
    registration.register(timeout=10)
    registration.put_in_service(False)      # stays registered; nobody chooses it
    registration.deregister()

The znode has a name that others could take, too.  Whose it is its owner says, which is a session:
the present one; an earlier one of this object, whose leftover is replaced; or somebody
else's, whose znode is left alone.
"""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

import attrs
from kazoo.client import KazooClient, TransactionRequest
from kazoo.exceptions import (
    BadVersionError,
    CancelledError,
    ConnectionLoss,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
)

from recipes.base import TimeUp, Wait, is_closed, raise_first, session_of
from recipes.children import Ear
from recipes.loop import Loop
from recipes.membership.departures import Departures
from recipes.registry.instance import ServiceInstance, ServiceType, departures_of, encode

log = logging.getLogger(__name__)

Found = tuple[bytes, Any]
"""Data and Stat."""
EVERY_S: Final = 5.0
MOVED: Final = (NoNodeError, NodeExistsError, BadVersionError)
"""Somebody else was faster: to be looked at again."""


class SomebodyElseError(Exception):
    """The id is registered by a session that is not ours; 0 for a znode that outlives sessions."""

    def __init__(self, path: str, session: int) -> None:
        self.path, self.session = path, session
        super().__init__(f"{path} belongs to session 0x{session & (1 << 64) - 1:x}")


class ServiceRegistration:
    """`register`, `update`, `deregister`; also a context manager.  An object registers once."""

    def __init__(
        self,
        client: KazooClient,
        base: str,
        instance: ServiceInstance,
        *,
        health: Callable[[], object] | None = None,
        every: float = EVERY_S,
    ) -> None:
        """`health` is called each `every` seconds, in this registration's thread, which it must
        not hold up: while it raises, or returns what is false, the instance is out of service."""
        if instance.kind is not ServiceType.DYNAMIC:
            raise ValueError(f"{instance.kind.value}: only DYNAMIC instances are registered")
        self.client = client
        self.path = f"{base.rstrip('/')}/{instance.name}/{instance.id}"
        self._health, self._every, self._is_healthy = health, every, True
        self._instance = stamp(instance)
        self._wanted = encode(self._instance)
        self._there: bytes | None = None
        """What our znode had when it was looked at."""
        self._rung = True
        """Whether it has to be looked at again."""
        self._breaks = -1
        self._sessions: dict[int, None] = {}
        """In which it was asked for."""
        self._unsure = False
        """Whether it may have been asked for in a session that is not among them."""
        self._started, self._leaving = False, False
        self.rival: int | None = None
        """Session of somebody else whose znode is in the way, if there is one."""
        self._news = threading.Condition()
        self._loop = Loop(client, f"instance {self.path}", self._step, self._on_broken)
        self._ear = Ear(self._loop, self._on_rung)
        self._departures = Departures(client, departures_of(self.path.rpartition("/")[0]))

    # --- what is known ----------------------------------------------------------------------

    @property
    def instance(self) -> ServiceInstance:
        """As others are to see it."""
        shown = self._instance
        return shown if self._is_healthy else shown.put_in_service(False)

    @property
    def present(self) -> bool:
        """Whether others see it, as it is to be seen, for all that is known here."""
        is_known = self._there == self._wanted and not self._rung
        is_now = self.client.connected and self._breaks == self._loop.breaks
        return is_known and is_now and not self._leaving

    def wait(self, timeout: float | None = None) -> None:
        """Until it is present.  Raises TimeUp, and CancelledError once it is deregistered."""
        with self._news:
            self._loop.wait(self._news, lambda: self.present, timeout)

    # --- what it is to be ---------------------------------------------------------------------

    def register(self, timeout: float | None = None, *, patient: bool = False) -> None:
        """Comes back when it is present.  Raises SomebodyElseError, and gives up then.

        `patient`: waits for the other one to go instead.  For a program with an id of its own,
        which was started again before the session of its last run has expired.  Raises
        TimeUp: it goes on trying, until `deregister`."""
        self._started = True
        self._loop.start()
        with self._news:
            held = self._news
            self._loop.wait(held, lambda: self.present or self._gives_up(patient), timeout)
            rival = self.rival
        if rival is not None and not patient:
            # It may have gone meanwhile, and ours be there.
            self.deregister()
            raise SomebodyElseError(self.path, rival)

    def update(self, instance: ServiceInstance) -> None:
        """Show it so from now on; `wait` until others see it.  In place: it is never away."""
        with self._news:
            if (instance.name, instance.id) != (self._instance.name, self._instance.id):
                raise ValueError("another name or id is another instance: register that")
            if instance.kind is not ServiceType.DYNAMIC:
                raise ValueError(f"{instance.kind.value}: only DYNAMIC instances are registered")
            self._show(attrs.evolve(instance, registered_at=self._instance.registered_at))
        self._loop.wake()

    def put_in_service(self, flag: bool) -> None:
        """Whether consumers are to choose it; it stays registered."""
        with self._news:
            self.update(self._instance.put_in_service(flag))

    def deregister(self, timeout: float | None = 5.0) -> bool:
        """Whether its znode is known to have gone within so many seconds.  If not, it goes as soon
        as there is a connection, or with its session.  Not to be called by `health`."""
        if not self._started:
            return True
        self._leaving = True
        self._loop.wake()
        if is_closed(self.client):
            self._end(timeout)
        try:
            with self._news:
                self._loop.wait(self._news, lambda: False, timeout)
        except TimeUp:
            log.info("%s: not known to have gone yet", self.path)
            return False
        except CancelledError:
            self._end(timeout)
        return True

    def __enter__(self) -> "ServiceRegistration":
        self.register()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.deregister()

    def _gives_up(self, patient: bool) -> bool:
        return self.rival is not None and not patient

    def _show(self, instance: ServiceInstance) -> None:
        shown = instance if self._is_healthy else instance.put_in_service(False)
        self._wanted, self._instance = encode(shown), instance

    def _end(self, timeout: float | None = None) -> None:
        """Waits for so long for a check that holds up the thread."""
        # First: a step that is under way would hang on a bell again.
        self._loop.stop(timeout)
        self._ear.close()
        with self._news:
            self._there = None
            self._news.notify_all()

    # --- the loop -----------------------------------------------------------------------------

    def _on_broken(self) -> None:
        """The znode may go with the session: it has to be looked at again."""
        self._rung = True
        if self._leaving and is_closed(self.client):
            self._end()

    def _on_rung(self) -> None:
        self._rung = True

    def _step(self, wait: Wait) -> float | None:
        self._loop.sync(wait, self.path)
        if self._leaving:
            self._withdraw(wait)
            return None
        self._check_health()
        wanted, breaks = self._wanted, self._loop.breaks
        try:
            is_ours = self._hold(wait, wanted)
        except MOVED as why:
            log.debug("%s: looked at again, %r", self.path, why)
            # The server that we are connected to may lag behind who was faster.
            wait.result(self.client.sync_async(self.path))
            is_ours, self._rung = False, True
            self._loop.wake()
        with self._news:
            self._breaks = breaks if is_ours else -1
            self._news.notify_all()
        if wanted is not self._wanted:
            self._loop.wake()
        return None if self._health is None else self._every

    def _check_health(self) -> None:
        if self._health is None:
            return
        is_healthy = self._ask_health(self._health)
        if is_healthy != self._is_healthy:
            log.warning("%s is %s", self.path, "healthy again" if is_healthy else "not healthy")
        with self._news:
            self._is_healthy = is_healthy
            self._show(self._instance)

    def _ask_health(self, health: Callable[[], object]) -> bool:
        try:
            return bool(health())
        except Exception as why:
            log.info("%s: its check failed: %r", self.path, why)
            return False

    def _hold(self, wait: Wait, wanted: bytes) -> bool:
        """Whether there is a znode of ours with these data.  Raises what has MOVED."""
        if self._there == wanted and not self._rung:
            return True
        # Before it is read: what rings from here on is for the next step.
        self._rung, self._there = False, None
        session = self._session()
        found = self._look(wait)
        owner = None if found is None else int(found[1].ephemeralOwner)
        self._set_rival(None if owner is None or self._is_mine(owner) else owner)
        if self.rival is not None:
            return False
        if found is not None and owner == session and found[0] == wanted:
            self._there = wanted
            return True
        self._put(wait, session, wanted, found)
        # What came of it is seen by looking.
        self._rung = True
        self._loop.wake()
        return False

    def _put(
        self, wait: Wait, session: int, wanted: bytes, found: tuple[bytes, Any] | None
    ) -> None:
        if found is None:
            self._create(wait, session, wanted)
        elif found[1].ephemeralOwner == session:
            wait.result(self.client.set_async(self.path, wanted, found[1].version))
        else:
            self._replace(wait, session, wanted, found[1].version)

    def _session(self) -> int:
        session = session_of(self.client)
        if session is None:
            raise ConnectionLoss
        if self._unsure:
            self._sessions[session] = None
            self._unsure = False
        return session

    def _is_mine(self, session: int) -> bool:
        """A znode of the present session for which it was not asked is of another registration."""
        return session in self._sessions

    def _look(self, wait: Wait) -> Found | None:
        asked = self.client.get_async(self.path, watch=self._ear.at(self.path))
        try:
            found: Found = wait.result(asked)
        except NoNodeError:
            return None
        return found

    def _create(self, wait: Wait, session: int, wanted: bytes) -> None:
        parent = self.path.rpartition("/")[0]
        wait.result(self.client.ensure_path_async(parent))
        is_new = session not in self._sessions
        self._sessions[session] = None
        # It may be sent in a session that begins just now.
        self._unsure = True
        try:
            wait.result(self.client.create_async(self.path, wanted, ephemeral=True))
        except NodeExistsError:
            if is_new:
                # An answer, and to the first time that it was asked for: somebody was faster.
                del self._sessions[session]
                self._unsure = False
            raise
        self._unsure = session_of(self.client) != session

    def _replace(self, wait: Wait, session: int, wanted: bytes, version: int) -> None:
        """In one, so that nobody sees it absent; at the version that was read to be a leftover."""
        self._sessions[session] = None
        request = TransactionRequest(self.client)
        request.delete(self.path, version)
        request.create(self.path, wanted, ephemeral=True)
        raise_first(wait.result(request.commit_async()))

    def _withdraw(self, wait: Wait) -> None:
        """Behind a sync: a create whose answer was lost is seen."""
        wait.result(self.client.sync_async(self.path))
        # So that the session counts in which it may have been asked for.
        self._session()
        found = self._look(wait)
        if found is not None and self._is_mine(int(found[1].ephemeralOwner)):
            try:
                self._leave(wait, found[1])
            except MOVED as why:
                log.debug("%s: looked at again, %r", self.path, why)
                self._loop.wake()
                return
        self._end()

    def _leave(self, wait: Wait, stat: Any) -> None:
        """Saying so, if we may."""
        try:
            self._departures.leave(wait, self.path, str(stat.czxid), stat.version)
        except NoAuthError as why:
            log.info("%s: goes without a word: %r", self.path, why)
            wait.result(self.client.delete_async(self.path, stat.version))

    def _set_rival(self, session: int | None) -> None:
        if session is not None and session != self.rival:
            log.error("%s", SomebodyElseError(self.path, session))
        with self._news:
            self.rival = session
            self._news.notify_all()


def stamp(instance: ServiceInstance) -> ServiceInstance:
    now = time.time_ns() // 1_000_000
    return attrs.evolve(instance, registered_at=instance.registered_at or now)


__all__ = ["ServiceRegistration", "SomebodyElseError"]
