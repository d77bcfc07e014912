"""What a controller does from its election to its end: it reads, decides by a `Cluster`, writes.

Watches say what to read again, what is read goes into the `Cluster`, what that plans is written,
and what was refused is read again.  Every write is fenced with the controller's epoch:
ControllerMoved, once there is another one.  `recipes.kafka.controller` stands for election.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any, Final

import attrs
from kazoo.client import TransactionRequest
from kazoo.exceptions import (
    BadVersionError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
)

from recipes.base import first_error
from recipes.kafka import paths
from recipes.kafka.brokers import list_epochs
from recipes.kafka.cluster import (
    Cluster,
    DropDeletion,
    DropPreferred,
    DropTopic,
    Known,
    Order,
    PutMoves,
    PutState,
    PutTopic,
    StopReplica,
    Write,
    Writes,
    touched,
)
from recipes.kafka.fields import FormatError
from recipes.kafka.formats import (
    Topic,
    decode_config,
    decode_leadership,
    decode_partitions,
    decode_reassignment,
    decode_topic,
    encode_leadership,
    encode_reassignment,
    encode_topic,
)
from recipes.kafka.paths import TopicPartition
from recipes.kafka.znodes import (
    MOST_IN_FLIGHT,
    MOST_OPERATIONS,
    UNKNOWN_OUTCOME,
    Znode,
    Znodes,
    chunks,
)

log = logging.getLogger(__name__)

Tell = Callable[[Sequence[Order]], None]
CHECKS: Final = 2
"""Operations at the head of each transaction that only check."""
UNCLEAN: Final = "unclean.leader.election.enable"
ANY_VERSION: Final = -1
REFUSALS: Final = (BadVersionError, NoNodeError, NodeExistsError, NotEmptyError)
"""Somebody else was quicker: read again, and decide anew."""
Asked = Sequence[tuple["Callable[[Office], Any]", Future[Any]]]


class ControllerMoved(Exception):
    """Another one is the controller, or will be."""


class NotController(Exception):
    """Asked of a broker that is not the controller."""


@attrs.frozen
class Term:
    """One time in office."""

    broker_id: int
    epoch: int
    epoch_version: int
    """Of the znode /controller_epoch: what every write is fenced with."""
    session: int


class Office:
    """What a controller has and does while it is one."""

    def __init__(
        self,
        zk: Znodes,
        term: Term,
        note: Callable[[str], None],
        tell: Tell | None,
        unclean: bool,
    ) -> None:
        self.zk, self.term = zk, term
        self.cluster = Cluster(term.epoch, unclean=unclean)
        self._tell = tell
        self._note = note
        self._watches: dict[str, Callable[..., None]] = {}
        self._readers: dict[str, Callable[[], None]] = {
            paths.CONTROLLER: self._read_controller,
            paths.BROKER_IDS: self._read_brokers,
            paths.TOPICS: self._read_topics,
            paths.DELETE_TOPICS: self._read_deletions,
            paths.REASSIGN_PARTITIONS: self._read_moves,
            paths.PREFERRED_ELECTION: self._read_preferred,
            paths.ISR_CHANGES: self._read_isr_changes,
        }

    # What the loop calls.

    def take(self) -> None:
        """Read all there is; brokers last, so that all is known when something is decided."""
        for path in self._readers:
            if path != paths.BROKER_IDS:
                self._read(path)
        self._read(paths.BROKER_IDS)

    def work(self, noted: Iterable[str], asked: "Asked") -> None:
        for path in noted:
            self._read(path)
        self._settle()
        for what, answer in asked:
            self._answer(what, answer)

    def _answer(self, what: "Callable[[Office], Any]", answer: Future[Any]) -> None:
        try:
            answer.set_result(what(self))
        except ControllerMoved as why:
            answer.set_exception(NotController(str(why)))
            raise
        except ValueError as why:
            answer.set_exception(why)

    def shut_down(self, broker: int, broker_epoch: int | None) -> list[TopicPartition]:
        self.cluster.start_shutdown(broker, broker_epoch)
        self._settle()
        return self.cluster.led_by(broker)

    def elect_unclean(self, partitions: Iterable[TopicPartition]) -> None:
        self.cluster.unclean_once |= dict.fromkeys(partitions)
        self._settle()

    def replica_deleted(self, where: TopicPartition, broker: int, failed: bool) -> None:
        self.cluster.replica_deleted(where, broker, failed=failed)
        self._settle()

    def give_up(self) -> None:
        """Again, if that was lost on its way: /controller, still there, would be taken for ours.
        If only the answer was, the next try is fenced off."""
        resigned = False
        while not resigned:
            transaction = self._fenced()
            transaction.delete(paths.CONTROLLER)
            resigned = self._commit(transaction)
        raise ControllerMoved("it resigned")

    # Reading.

    def _read(self, path: str) -> None:
        asked = len(self.cluster.deletions)
        self._read_one(path)
        if len(self.cluster.deletions) < asked and path != paths.DELETE_TOPICS:
            # Forgotten with its topic, the request may still be there, or one for the next topic
            # of that name, whose watch has spoken already.
            self._read_deletions()

    def _read_one(self, path: str) -> None:
        reader = self._readers.get(path)
        if reader is not None:
            reader()
        elif path.endswith("/state"):
            self._read_states([where_of(path)])
        else:
            self._load_topics([path.rpartition("/")[2]])

    def _watch(self, path: str) -> Callable[..., None]:
        """The same for the same path, of which kazoo then keeps one."""
        return self._watches.setdefault(path, lambda *_: self._note(path))

    def _read_controller(self) -> None:
        found = self.zk.read(paths.CONTROLLER, self._watch(paths.CONTROLLER))
        if found is None or found.owner != self.term.session:
            raise ControllerMoved("/controller is not ours")

    def _read_brokers(self) -> None:
        alive = list_epochs(self.zk, self._watch(paths.BROKER_IDS))
        for brokers in self.cluster.changed_brokers(alive):
            self._send(self.cluster.set_brokers(brokers))
            self._settle()

    def _read_topics(self) -> None:
        names = self.zk.children(paths.TOPICS, self._watch(paths.TOPICS))
        self._load_topics(self.cluster.set_topics(names))

    def _load_topics(self, names: Sequence[str]) -> None:
        found = {n: self.zk.read(paths.topic(n), self._watch(paths.topic(n))) for n in names}
        configs = self.zk.read_all(paths.config("topics", name) for name in names)
        wanted: list[TopicPartition] = []
        for name, node in found.items():
            if node is not None:
                wanted += self._load_topic(name, node, configs[paths.config("topics", name)])
        self._read_states([each for each in wanted if each not in self.cluster.states])

    def _load_topic(self, name: str, node: Znode, config: Znode | None) -> list[TopicPartition]:
        """A topic that cannot be read has no partitions, as for Kafka."""
        topic = read_request(node, lambda data: decode_topic(name, data), Topic({}))
        values = read_request(config, decode_config, {})
        self.cluster.set_topic(name, topic, node.version, node.czxid)
        self.cluster.set_unclean(name, values[UNCLEAN] == "true" if UNCLEAN in values else None)
        return [TopicPartition(name, number) for number in topic.partitions]

    def _read_states(self, wanted: Sequence[TopicPartition]) -> None:
        moving = [each for each in wanted if self._is_moving(each)]
        still = [each for each in wanted if each not in moving]
        found = self.zk.read_all(map(paths.state, still))
        for each in moving:
            # Its ISR is what a move waits for, and brokers before 0.9 send no notification.
            found[paths.state(each)] = self.zk.read(
                paths.state(each), self._watch(paths.state(each))
            )
        for where in wanted:
            self._load_state(where, found[paths.state(where)])

    def _is_moving(self, where: TopicPartition) -> bool:
        replicas = self.cluster.replicas_of(where)
        return replicas is not None and replicas.moving

    def _load_state(self, where: TopicPartition, node: Znode | None) -> None:
        """One that cannot be read, or is of a later controller, is not written over."""
        leadership = read_request(node, decode_leadership, None)
        late = leadership is not None and leadership.controller_epoch > self.term.epoch
        if node is None:
            self.cluster.set_state(where, None)
        elif leadership is None or late:
            log.error("partition %s is left alone: %r", where, node.data)
            self.cluster.set_broken(where)
        else:
            self.cluster.set_state(where, Known(leadership, node.version))

    def _read_deletions(self) -> None:
        names = self.zk.children(paths.DELETE_TOPICS, self._watch(paths.DELETE_TOPICS))
        called_off = self.cluster.set_deletions(names)
        self._read_states(list(called_off))
        self._send(self.cluster.restore(called_off))

    def _read_moves(self) -> None:
        node = self._read_request(paths.REASSIGN_PARTITIONS)
        moves = read_request(node, decode_reassignment, {})
        self.cluster.set_moves(moves, -1 if node is None else node.version)

    def _read_preferred(self) -> None:
        node = self._read_request(paths.PREFERRED_ELECTION)
        wanted = read_request(node, decode_partitions, ())
        self.cluster.set_preferred(wanted, asked=node is not None)

    def _read_request(self, path: str) -> Znode | None:
        return self.zk.read(path, self._watch(path))

    def _read_isr_changes(self) -> None:
        """The states first, then the notifications go: who dies between leaves them to others."""
        names = self.zk.children(paths.ISR_CHANGES, self._watch(paths.ISR_CHANGES))
        found = self.zk.read_all(f"{paths.ISR_CHANGES}/{name}" for name in names)
        changed: dict[TopicPartition, None] = {}
        for node in found.values():
            changed |= dict.fromkeys(read_request(node, decode_partitions, ()))
        known = [each for each in changed if self.cluster.replicas_of(each) is not None]
        self._read_states(known)
        for part in chunks(list(found), MOST_OPERATIONS):
            if not self._delete_all(part):
                self._note(paths.ISR_CHANGES)

    # Writing.

    def _settle(self) -> None:
        """Write what is planned, until nothing is."""
        while steps := self.cluster.plan():
            for part in chunks(steps, MOST_IN_FLIGHT):
                self._write_all(part)
        self._send(self.cluster.orders())
        if self.cluster.plan():
            self._settle()

    def _send(self, orders: Sequence[Order]) -> None:
        if self._tell is not None and orders:
            self._tell(orders)
        elif self._tell is None:
            for each in orders:
                if isinstance(each, StopReplica) and each.delete:
                    self.cluster.replica_deleted(each.where, each.broker)

    def _write_all(self, steps: Sequence[Writes]) -> None:
        """Side by side; each that is not surely written is read again."""
        self._make_room(steps)
        asked = [self._write(step) for step in steps]
        orders: list[Order] = []
        doubtful: dict[str, None] = {}
        for step, answer in zip(steps, asked, strict=True):
            if answer is not None and self._is_written(answer):
                orders += self.cluster.apply(step)
                self._follow_moves(step)
            else:
                doubtful |= touched(step)
        self._send(orders)
        for path in doubtful:
            self._read_doubtful(path)

    def _follow_moves(self, step: Writes) -> None:
        """Their ISR is to be watched from now on."""
        for write in step:
            if isinstance(write, PutState) and self._is_moving(write.where):
                self._note(paths.state(write.where))

    def _read_doubtful(self, path: str) -> None:
        """Behind all that was sent before, and of topics also whether they are there."""
        self.zk.sync(path)
        if path.startswith(f"{paths.TOPICS}/") and not path.endswith("/state"):
            self._read(paths.TOPICS)
        self._read(path)

    def _make_room(self, steps: Sequence[Writes]) -> None:
        """The znodes above new partition states."""
        new = [w.where for step in steps for w in step if isinstance(w, PutState) and is_new(w)]
        for topic in dict.fromkeys(each.topic for each in new):
            self._create_if_missing([paths.partitions(topic)])
        self._create_if_missing([paths.partition(each) for each in new])

    def _create_if_missing(self, names: Sequence[str]) -> None:
        asked = []
        for name in names:
            transaction = self._fenced()
            transaction.create(name, b"")
            asked.append(transaction.commit_async())
        for answer in asked:
            try:
                self._is_written(answer)
            except UNKNOWN_OUTCOME:  # If it is not there, the state is refused, and planned again.
                continue

    def _write(self, step: Writes) -> Any:
        """Sent; None if that did not come to its last transaction, of several."""
        drop = next((each for each in step if isinstance(each, DropTopic)), None)
        if drop is not None:
            return self._drop_topic(drop)
        transaction = self._fenced()
        for write in step:
            add_write(transaction, write)
        return transaction.commit_async()

    def _fenced(self) -> TransactionRequest:
        transaction = self.zk.transaction()
        transaction.check(paths.CONTROLLER_EPOCH, self.term.epoch_version)
        transaction.check(paths.CONTROLLER, 0)
        return transaction

    def _commit(self, transaction: TransactionRequest) -> bool:
        return self._is_written(transaction.commit_async())

    def _is_written(self, answer: Any) -> bool:
        """ControllerMoved if it was fenced off."""
        try:
            results = list(answer.get())
        except UNKNOWN_OUTCOME:
            return False
        if any(isinstance(each, BadVersionError | NoNodeError) for each in results[:CHECKS]):
            raise ControllerMoved("a write was fenced off")
        why = first_error(results)
        if why is not None and not isinstance(why, REFUSALS):
            raise why
        return why is None

    def _drop_topic(self, drop: DropTopic) -> Any:
        """From below; at last the topic itself, its configuration and the request, at once.

        So a controller that dies on the way leaves the request for the next one.  And where the
        answer to the last transaction is lost, a client may have made the topic anew before that
        is found out: so each of them checks that the request is there.
        """
        found = self.zk.read(paths.topic(drop.name))
        if found is None or found.czxid != drop.czxid:
            return None
        for part in chunks(self._below(paths.topic(drop.name)), MOST_OPERATIONS):
            transaction = self._fenced()
            transaction.check(paths.topic(drop.name), drop.version)
            transaction.check(paths.delete_topic(drop.name), ANY_VERSION)
            for path in part:
                transaction.delete(path)
            if not self._commit(transaction):
                return None
        return self._end_topic(drop)

    def _end_topic(self, drop: DropTopic) -> Any:
        transaction = self._fenced()
        transaction.delete(paths.topic(drop.name), drop.version)
        if self.zk.read(paths.config("topics", drop.name)) is not None:
            transaction.delete(paths.config("topics", drop.name))
        transaction.delete(paths.delete_topic(drop.name))
        return transaction.commit_async()

    def _below(self, path: str) -> list[str]:
        """All descendants, children before their parents."""
        children = [f"{path}/{name}" for name in self.zk.children(path)]
        return [each for child in children for each in (*self._below(child), child)]

    def _delete_all(self, names: Sequence[str]) -> bool:
        if not names:
            return True
        transaction = self._fenced()
        for name in names:
            transaction.delete(name)
        return self._commit(transaction)


def add_write(transaction: TransactionRequest, write: Write) -> None:
    match write:
        case PutState(where, leadership, None):
            transaction.create(paths.state(where), encode_leadership(leadership))
        case PutState(where, leadership, int(version)):
            transaction.set_data(paths.state(where), encode_leadership(leadership), version)
        case PutTopic(name, topic, version):
            transaction.set_data(paths.topic(name), encode_topic(topic), version)
        case DropDeletion(name):
            transaction.delete(paths.delete_topic(name))
        case PutMoves(moves, version) if moves:
            transaction.set_data(paths.REASSIGN_PARTITIONS, encode_reassignment(moves), version)
        case PutMoves(_, version):
            transaction.delete(paths.REASSIGN_PARTITIONS, version)
        case DropPreferred():
            transaction.delete(paths.PREFERRED_ELECTION)


def is_new(write: PutState) -> bool:
    return write.version is None


def where_of(path: str) -> TopicPartition:
    """Of a state's path."""
    *_, topic, _, number, _ = path.split("/")
    return TopicPartition(topic, int(number))


def read_request(node: Znode | None, decode: Callable[[bytes], Any], empty: Any) -> Any:
    """What cannot be read counts as empty; a request like that is deleted, as one that is done."""
    if node is None:
        return empty
    try:
        return decode(node.data)
    except FormatError as why:
        log.error("not understood: %s", why)
        return empty
