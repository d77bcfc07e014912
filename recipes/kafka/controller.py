"""The controller: one broker is elected, and decides for all who leads what.

    controller = Controller(client, broker_id=1)
    controller.start()                       # stands for election, for as long as it runs
    controller.epoch                         # None unless it is the controller

A thin loop: it stands for election, and what it does in office is `recipes.kafka.office`'s.

**Election** as Kafka's since 2.x: one transaction makes the ephemeral /controller and raises
/controller_epoch, on condition of its version.  **Fencing**: every write of a controller is a
transaction that checks that version; a deposed controller's fails, however late it comes.  Here
it also checks that /controller is there, so that nothing is written between the end of a
controller's session and the next election.

SUSPENDED: what was read may be old, and what is decided by it is refused by versions if it is.
LOST, or a refused check: it is the controller no longer, forgets all it knew, and stands for
election again.

What brokers are told (who leads, what to stop and to delete) is Kafka's protocol between brokers,
not ZooKeeper's: `tell` gets these orders, `report_deleted` their answers.  Without it, each
replica counts as deleted as soon as it is told.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, Final

import attrs
from kazoo.client import KazooClient
from kazoo.exceptions import BadVersionError, NodeExistsError

from recipes.base import first_error
from recipes.kafka import paths
from recipes.kafka.formats import (
    ControllerNode,
    decode_controller,
    decode_epoch,
    encode_controller,
    encode_epoch,
)
from recipes.kafka.office import Asked, ControllerMoved, NotController, Office, Tell, Term
from recipes.kafka.paths import TopicPartition
from recipes.kafka.topics import prepare
from recipes.kafka.znodes import LEAVE_S, Worker, Znode, Znodes

log = logging.getLogger(__name__)

FIRST_EPOCH: Final = 0


class Controller(Worker):
    """Stands for election, and does a controller's work while it is one."""

    def __init__(
        self,
        client: KazooClient,
        broker_id: int,
        *,
        tell: Tell | None = None,
        unclean: bool = False,
    ) -> None:
        """`tell` is called in the worker's thread; `unclean` holds for topics that do not say."""
        super().__init__(client, f"controller {broker_id}")
        self.broker_id = broker_id
        self.office: Office | None = None
        self._tell, self._unclean = tell, unclean
        self._prepared = False
        self._tried: Term | None = None
        """Whose answer may have been lost."""
        self._lock = threading.Lock()
        self._noted: dict[str, None] = {}
        """Paths to read again, in the order in which that was learned."""
        self._asked: list[tuple[Callable[[Office], Any], Future[Any]]] = []

    @property
    def epoch(self) -> int | None:
        office = self.office
        return None if office is None else office.term.epoch

    # What others ask of a controller.  Each gives a Future, which fails with NotController; without
    # a connection it waits for one, as nobody knows who the controller is.

    def shut_down(
        self, broker: int, broker_epoch: int | None = None
    ) -> Future[list[TopicPartition]]:
        """A broker wants to leave: what does it still lead?  StaleBroker."""
        return self._ask(lambda office: office.shut_down(broker, broker_epoch))

    def elect_unclean(self, partitions: Iterable[TopicPartition]) -> Future[None]:
        """An operator accepts that records are lost, for these partitions, once."""
        wanted = list(partitions)
        return self._ask(lambda office: office.elect_unclean(wanted))

    def report_deleted(
        self, where: TopicPartition, broker: int, *, failed: bool = False
    ) -> Future[None]:
        """A broker's answer to a StopReplica that deletes, one to each."""
        return self._ask(lambda office: office.replica_deleted(where, broker, failed))

    def resign(self) -> Future[None]:
        """Give the office up; this broker may win it again."""
        return self._ask(lambda office: office.give_up())

    def _ask(self, what: Callable[[Office], Any]) -> Future[Any]:
        answer: Future[Any] = Future()
        with self._lock:
            self._asked.append((what, answer))
        self.wake()
        if self.is_stopping():
            self._refuse(self._take_news()[1])
        return answer

    def on_stop(self) -> None:
        """Nobody answers what is asked from here on, nor what is being asked now."""
        self._refuse(self._take_news()[1])

    # The loop.

    def note(self, path: str) -> None:
        """A watch: this is to be read again."""
        with self._lock:
            self._noted[path] = None
        self.wake()

    def step(self) -> None:
        session = self.zk.session
        if session is None:
            return
        if self.office is not None and self.office.term.session != session:
            self._leave("its session has ended")
        try:
            if self.office is None:
                self._stand(session)
            if self.office is not None:
                self._work(self.office)
        except ControllerMoved as why:
            self._leave(str(why))
            self.wake()
        except Exception:
            self._leave("what it knows may be incomplete")
            raise
        finally:
            if self.office is None:
                self._refuse(self._take_news()[1])

    def stop(self, timeout_s: float | None = LEAVE_S) -> None:
        """Stand no more, and give the office up; if that is not done so soon, the session's end
        does it."""
        self.leave(self._vacate, timeout_s)
        self.office = None

    def _vacate(self, zk: Znodes) -> None:
        """Also an office that was won without an answer, which a sync lets us see."""
        self.office = None
        if self._tried is None:
            return
        zk.sync(paths.CONTROLLER)
        found = zk.read(paths.CONTROLLER)
        if found is not None and decode_controller(found.data).broker_id == self.broker_id:
            zk.remove_own(paths.CONTROLLER)

    def _work(self, office: Office) -> None:
        noted, asked = self._take_news()
        try:
            office.work(noted, asked)
        finally:
            self._refuse(asked)

    def _refuse(self, asked: Asked) -> None:
        """Whatever has no answer yet."""
        for _, answer in asked:
            if not answer.done():
                answer.set_exception(NotController(f"{self.broker_id} is not the controller"))

    def _take_news(self) -> tuple[list[str], Asked]:
        with self._lock:
            noted, self._noted = list(self._noted), {}
            asked, self._asked = self._asked, []
        return noted, asked

    def _leave(self, why: str) -> None:
        log.info("%s: no longer the controller: %s", self.name, why)
        self.office = None

    def _stand(self, session: int) -> None:
        """Be elected, or be told by a watch when the one who is has gone."""
        if not self._prepared:
            prepare(self.zk)
            self._prepared = True
        found = self.zk.read(paths.CONTROLLER, self.wake)
        term = self._find_term(found) if found else self._try(session)
        if term is not None:
            log.info("%s: elected, epoch %d", self.name, term.epoch)
            with self._lock:
                self._noted.clear()
            self.office = Office(self.zk, term, self.note, self._tell, self._unclean)
            self.office.take()

    def _find_term(self, found: Znode) -> Term | None:
        """/controller is there: ours, if we tried for this epoch, and our session has it.

        Which session that is, only the znode says: the next one may have begun between two of
        our requests, without a word to us."""
        tried = self._tried
        ours = decode_controller(found.data).broker_id == self.broker_id
        if tried is None or not ours or found.owner != self.zk.session:
            return None
        epoch = self.zk.read(paths.CONTROLLER_EPOCH)
        same = epoch is not None and decode_epoch(epoch.data) == tried.epoch
        return attrs.evolve(tried, session=found.owner) if same else None

    def _try(self, session: int) -> Term | None:
        epoch = self._read_epoch()
        term = Term(self.broker_id, decode_epoch(epoch.data) + 1, epoch.version + 1, session)
        self._tried = term
        node = encode_controller(ControllerNode(self.broker_id, int(time.time() * 1000)))
        transaction = self.zk.transaction()
        transaction.create(paths.CONTROLLER, node, ephemeral=True)
        transaction.set_data(paths.CONTROLLER_EPOCH, encode_epoch(term.epoch), epoch.version)
        why = first_error(self.zk.commit(transaction))
        if why is not None and not isinstance(why, NodeExistsError | BadVersionError):
            raise why
        found = self.zk.read(paths.CONTROLLER)
        won = self._find_term(found) if found is not None and why is None else None
        if won is None:
            raise ControllerMoved("another broker was elected")
        return won

    def _read_epoch(self) -> Znode:
        while (found := self.zk.read(paths.CONTROLLER_EPOCH)) is None:
            transaction = self.zk.transaction()
            transaction.create(paths.CONTROLLER_EPOCH, encode_epoch(FIRST_EPOCH))
            self.zk.commit(transaction)
        return found
