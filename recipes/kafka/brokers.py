"""A broker's registration: the ephemeral /brokers/ids/ID, and its epoch.

    registration = BrokerRegistration(client, Broker.at(1, "h1", 9092))
    registration.start()         # SomebodyElse if another broker that is alive has this id
    registration.epoch           # the czxid; None while it is not registered

The broker epoch grows with each registration of an id, so that what was meant for an earlier one
can be told from what is meant for this (KIP-380).  After an expired session, the broker is
registered anew, under a new epoch.  SUSPENDED: it may be registered or not; `epoch` stays, for no
controller can know either.  LOST: `epoch` is None at once.
"""

import logging
import threading
import time
from collections.abc import Callable

import attrs
from kazoo.client import KazooClient
from kazoo.protocol.states import KazooState

from recipes.kafka import paths
from recipes.kafka.fields import FormatError, is_number
from recipes.kafka.formats import Broker, decode_broker, encode_broker
from recipes.kafka.znodes import LEAVE_S, SomebodyElse, Worker, Znode, Znodes

log = logging.getLogger(__name__)


class BrokerRegistration(Worker):
    """Keeps one broker registered, from `start` to `stop`."""

    def __init__(
        self,
        client: KazooClient,
        broker: Broker,
        on_epoch: Callable[[int | None], None] | None = None,
        on_rival: Callable[[int | None], None] | None = None,
    ) -> None:
        """`on_epoch` is called with each new epoch, and None when it is over; `on_rival` with the
        session of another broker of our id, and None when it has left.  They must not wait."""
        super().__init__(client, f"broker {broker.broker_id}")
        now_ms = int(time.time() * 1000)
        self.broker = attrs.evolve(broker, timestamp_ms=broker.timestamp_ms or now_ms)
        self.epoch: int | None = None
        self.rival: int | None = None
        """Session of another broker of this id that is in the way."""
        self._on_epoch, self._on_rival = on_epoch, on_rival
        self._sessions: dict[int, None] = {}
        """Ours, the present one last."""
        self._news = threading.Condition()

    @property
    def path(self) -> str:
        return paths.broker(self.broker.broker_id)

    def start(self) -> None:
        """Register, and keep it so.  SomebodyElse if the id is taken: nothing is started then."""
        self._set_rival(None)
        super().start()
        with self._news:
            self._news.wait_for(lambda: self.epoch or self.rival is not None or self.is_stopping())
            rival = self.rival
        if rival is not None:
            super().stop()
            raise SomebodyElse(self.path, rival)

    def stop(self, timeout_s: float | None = LEAVE_S) -> None:
        """And take the registration away; if that is not done so soon, the session's end does it.
        A `start` that still waits, in another thread, comes back too."""
        self.leave(self._deregister, timeout_s)
        self._set_epoch(None, self.losses)

    def _deregister(self, zk: Znodes) -> None:
        """Behind a sync: a create whose answer was lost is seen."""
        self._set_epoch(None, self.losses)
        zk.sync(self.path)
        zk.remove_own(self.path)

    def on_stop(self) -> None:
        with self._news:
            self._news.notify_all()

    def wait(self, timeout_s: float | None = None, after: int = -1) -> bool:
        """Until it is registered, later than under the epoch `after`; whether it is in time, and
        before a stop."""

        def holds() -> bool:
            return (self.epoch or -1) > after

        with self._news:
            self._news.wait_for(lambda: holds() or self.is_stopping(), timeout_s)
            return holds()

    def note_session(self, session: int) -> None:
        """A session that was this broker's and is over, of an earlier process for example: its
        registration, should it still be there, is replaced."""
        self._sessions.pop(session, None)
        self._sessions[session] = None

    def step(self) -> None:
        session, losses = self.zk.session, self.losses
        if session is None:
            return
        self.note_session(session)
        earlier = [each for each in self._sessions if each != session]
        self.zk.ensure(paths.BROKER_IDS)
        try:
            found = self.zk.create_ephemeral(self.path, encode_broker(self.broker), earlier)
            self._take(found, losses)
        except SomebodyElse as why:
            self._set_rival(why.session)
            if self.zk.read(self.path, self.wake) is None:
                self.wake()

    def _take(self, found: Znode, losses: int) -> None:
        """A watch tells when somebody removes the znode under us: it is put back."""
        self._set_rival(None)
        if self.zk.read(self.path, self.wake) is None:
            self.wake()
        else:
            self._set_epoch(found.czxid, losses)

    def on_state(self, state: str) -> None:
        if state == KazooState.LOST:
            self._set_epoch(None, self.losses)

    def _set_rival(self, session: int | None) -> None:
        with self._news:
            if session == self.rival:
                return
            self.rival = session
            self._news.notify_all()
            if self._on_rival is not None:
                self._on_rival(session)

    def _set_epoch(self, epoch: int | None, losses: int) -> None:
        """Unless the session in which it was found has ended meanwhile, or it is to stop."""
        with self._news:
            late = losses != self.losses or (epoch is not None and self.is_stopping())
            if late or epoch == self.epoch:
                return
            self.epoch = epoch
            self._news.notify_all()
            if self._on_epoch is not None:
                self._on_epoch(epoch)


def list_brokers(zk: Znodes, watch: Callable[..., None] | None = None) -> dict[int, Broker]:
    """All that are alive and can be read, by id."""
    brokers: dict[int, Broker] = {}
    for broker_id, node in _read_brokers(zk, watch).items():
        try:
            brokers[broker_id] = decode_broker(broker_id, node.data)
        except FormatError as why:
            log.error("%s", why)
    return brokers


def list_epochs(zk: Znodes, watch: Callable[..., None] | None = None) -> dict[int, int]:
    """Broker epochs of all that are alive, by id."""
    return {broker_id: node.czxid for broker_id, node in _read_brokers(zk, watch).items()}


def _read_brokers(zk: Znodes, watch: Callable[..., None] | None) -> dict[int, Znode]:
    ids = sorted(int(name) for name in zk.children(paths.BROKER_IDS, watch) if is_number(name))
    found = zk.read_all(map(paths.broker, ids))
    read = {each: found[paths.broker(each)] for each in ids}
    return {broker_id: node for broker_id, node in read.items() if node is not None}
