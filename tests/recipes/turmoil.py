"""One small workload per recipe, to be run while servers die, and what must be true of it.

A `Scenario` has clients and workers: threads that take one turn after the other until `stop`.
Turns that go on behind a fault are the proof that the recipe lives; `check` is the proof that
it did no harm.  Both are the same for one server and for three, zkpy's and Apache's.

Holders of locks write into a log in the server, each write guarded; from the log it is read
who held at the same time (`Entry`, `most_held`).
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import attrs
from kazoo.client import KazooClient
from kazoo.exceptions import CancelledError, ConnectionLoss, NoNodeError
from kazoo.protocol.states import KazooState

from recipes.barriers import Barrier, DoubleBarrier
from recipes.config import ConfigPublisher, ConfigSubscriber, Freshness, Published
from recipes.config.errors import OutcomeUnknownError
from recipes.counter import Counter, UnknownOutcomeError
from recipes.election import Election, Leader, Leadership, LeaderWatch
from recipes.kafka import (
    Broker,
    BrokerRegistration,
    Consumer,
    Controller,
    NotController,
    NotOwner,
    Subscription,
    TopicPartition,
    Znodes,
    create_topic,
    list_brokers,
    paths,
    prepare,
)
from recipes.kafka.formats import encode_broker
from recipes.kafka.group import Ownership
from recipes.kafka.office import ControllerMoved, Office
from recipes.locks import HoldState, Lock, ReadLock, Semaphore, WriteLock
from recipes.locks.claim import Claim
from recipes.locks.guard import Guard, LockLostError, LockSuspendedError
from recipes.membership import ClusterMember, ClusterObserver, Event, Kind
from recipes.membership.view import Status
from recipes.queue import Queue
from recipes.registry import (
    RULES,
    RoundRobin,
    ServiceConsumer,
    ServiceInstance,
    ServiceRegistration,
    ServiceRules,
)
from recipes.registry import Event as Happened
from recipes.registry import Kind as Happens
from recipes.tasks import Job, TaskBoard, TaskWorker
from tests.recipes.config.settings import Settings, increment
from tests.recipes.faults import LIMIT_S, until
from tests.recipes.kafka.recording import ownership_of
from tests.recipes.locks.contest import surely

LOG: Final = "/log"
LONG_S: Final = 600.0


@attrs.frozen
class Arena:
    """Where a scenario plays."""

    client: Callable[[], KazooClient]
    """A new one, started, with a root of this scenario's own."""
    root: str
    data: Sequence[Path]
    """Directories of servers whose logs can be read."""


class Scenario:
    """`start`, `await_turns` after each fault, `stop`, `check`."""

    workers: ClassVar[int] = 3
    helpers: ClassVar[int] = 0
    """Clients besides those of the workers."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.witness = arena.client()
        self.clients = [arena.client() for _ in range(self.workers + self.helpers)]
        self.turns = [0] * self.workers
        self.failures: list[BaseException] = []
        self.losses = 0
        """Sessions that ended."""
        self._stopping = threading.Event()
        self._mutex = threading.RLock()
        for client in self.clients:
            client.add_listener(self._on_state)
        self.set_up()
        self._threads = [
            threading.Thread(target=self._work, args=(number,), daemon=True)
            for number in range(self.workers)
        ]

    def _on_state(self, state: str) -> None:
        self.losses += state == KazooState.LOST

    # --- what differs -----------------------------------------------------------------------

    def set_up(self) -> None: ...

    def turn(self, number: int) -> None:
        """Of one worker."""
        raise NotImplementedError

    def wind_up(self) -> None:
        """No worker begins another turn: help them to end theirs, and bring all to rest."""

    def check(self) -> None:
        raise NotImplementedError

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def ends(self, number: int) -> bool:
        return self._stopping.is_set()

    def _work(self, number: int) -> None:
        try:
            while not self.ends(number):
                self.turn(number)
                self.turns[number] += 1
        except BaseException as failure:
            self.failures.append(failure)

    def mark(self) -> None:
        """Something has happened."""
        self.before = list(self.turns)

    def await_turns(self, after: str, more: int = 2) -> None:
        """Every worker takes some more since then; nothing, if something has failed before."""

        def all_took() -> bool:
            took = zip(self.before, self.turns, strict=True)
            return bool(self.failures) or all(now >= then + more for then, now in took)

        try:
            until(all_took)
        except AssertionError:
            text = f"after {after}, turns of workers: {self.before} -> {self.turns}"
            self.failures.append(AssertionError(text))

    def ask_to_stop(self) -> None:
        """No further turn; `stop` waits for those that are under way."""
        self._stopping.set()

    def stop(self) -> None:
        try:
            self.ask_to_stop()
            self.wind_up()
            for thread in self._threads:
                thread.join(LIMIT_S)
                assert not thread.is_alive(), "a turn that never ends"
        except Exception as failure:
            self.failures.append(failure)

    # --- what is looked at --------------------------------------------------------------------

    def children(self, path: str) -> list[str]:
        surely(self.witness.sync, path)
        try:
            found: list[str] = surely(self.witness.get_children, path)
        except NoNodeError:
            return []
        return found

    def await_none(self, *parents: str) -> None:
        """Nothing is left behind there, with all sessions still alive."""
        for path in parents:
            until(lambda: not self.children(path))  # noqa: B023


# --- locks, semaphore, election ----------------------------------------------------------------


@attrs.frozen(order=True)
class Entry:
    """One guarded write: by a holder with that token, of whom `share` can be held at once."""

    number: int
    token: int
    share: int


def entry_of(name: str) -> Entry:
    share, token, number = name.split("-")
    return Entry(int(number), int(token), int(share))


def most_held(entries: Iterable[Entry]) -> int:
    """Sum of the shares that were held at the same time: a holder held from its first entry to its
    last."""
    ordered = sorted(entries)
    last = {each.token: each.number for each in ordered}
    held: dict[int, int] = {}
    most = 0
    for each in ordered:
        held = {token: share for token, share in held.items() if last[token] >= each.number}
        held[each.token] = each.share
        most = max(most, sum(held.values()))
    return most


class Holding(Scenario):
    """Each worker holds, writes twice, and releases."""

    capacity = 1
    directories: ClassVar[Sequence[str]] = ("/it",)

    def set_up(self) -> None:
        self.witness.create(LOG)
        self.held: list[int] = []
        """Tokens of all that wrote what they wanted."""
        self.locks = [self.make(number, client) for number, client in enumerate(self.clients)]

    def make(self, number: int, client: KazooClient) -> Claim:
        return Lock(client, "/it", str(number))

    def share(self, number: int) -> int:
        return 1

    def turn(self, number: int) -> None:
        lock = self.locks[number]
        lock.acquire()
        try:
            with contextlib.suppress(LockLostError):
                self.write_twice(lock.guard(), self.share(number))
        finally:
            lock.release()

    def write_twice(self, guard: Guard, share: int = 1) -> None:
        for _ in range(2):
            write(guard, f"{LOG}/{share}-{guard.token}-")
        self.held.append(guard.token)

    def check(self) -> None:
        entries = [entry_of(each) for each in self.children(LOG)]
        assert most_held(entries) <= self.capacity
        tokens = [each.token for each in sorted(entries)]
        assert self.capacity > 1 or tokens == sorted(tokens)
        assert all(tokens.count(each) >= 2 for each in self.held), "a write that was lost"
        assert len(self.held) == len(set(self.held))
        self.await_none(*self.directories)


def write(guard: Guard, log: str) -> None:
    """Again, as long as it may be held."""
    while True:
        try:
            guard.create(log, sequence=True)
        except (ConnectionLoss, LockSuspendedError):
            until(lambda: guard.state is not HoldState.SUSPENDED)
        else:
            return


class ReadWrite(Holding):
    """Two readers and two writers."""

    workers = 4
    capacity = 2

    def make(self, number: int, client: KazooClient) -> Claim:
        kind = WriteLock if self.share(number) > 1 else ReadLock
        return kind(client, "/it", str(number))

    def share(self, number: int) -> int:
        return 2 if number < 2 else 1


class Leases(Holding):
    """Two leases, four that want one."""

    workers = 4
    capacity = 2
    directories = ("/it/leases", "/it/locks")

    def make(self, number: int, client: KazooClient) -> Claim:
        return Semaphore(client, "/it", str(number), leases=2)


class Elections(Holding):
    """One after the other leads; somebody watches who."""

    helpers = 1

    def set_up(self) -> None:
        super().set_up()
        self.elections = [
            Election(client, "/it", str(number))
            for number, client in enumerate(self.clients[: self.workers])
        ]
        self.leaders: list[Leader] = []
        self.ledger: dict[int, int] = {}
        """Who led in which epoch."""
        self.watch = LeaderWatch(self.clients[-1], "/it", self._on_leader)

    def _on_leader(self, leader: Leader | None) -> None:
        if leader is not None:
            self.leaders.append(leader)

    def turn(self, number: int) -> None:
        def lead(leadership: Leadership) -> None:
            assert self.ledger.setdefault(leadership.epoch, number) == number
            self.write_twice(leadership.guard)

        with contextlib.suppress(LockLostError):
            self.elections[number].run(lead)

    def check(self) -> None:
        super().check()
        until(lambda: self.watch.certain and self.watch.leader is None)
        epochs = [each.epoch for each in self.leaders]
        assert epochs == sorted(set(epochs))
        assert len(epochs) > 1
        # One who was about to lead, and lost its node before, is in no ledger.
        named = {each.epoch: int(each.identifier) for each in self.leaders}
        assert all(named[each] == self.ledger[each] for each in named if each in self.ledger)


# --- barriers, counter ---------------------------------------------------------------------------


class Gates(Scenario):
    """A keeper lifts one gate after the other, with the next one closed before."""

    def set_up(self) -> None:
        self.lifted = 0
        self.asked = [0] * self.workers
        Barrier(self.witness, "/gate-0").put()
        for client in self.clients:
            client.sync("/")

    def turn(self, number: int) -> None:
        at = self.turns[number]
        if number:
            self._pass(number, at)
        else:
            until(lambda: self.ends(0) or min(self.asked[1:]) >= at)
            Barrier(self.clients[0], f"/gate-{at + 1}").put()
            self._lift(self.clients[0], at)

    def _lift(self, client: KazooClient, at: int) -> None:
        self.lifted = at + 1
        Barrier(client, f"/gate-{at}").lift()

    def _pass(self, number: int, at: int) -> None:
        self.asked[number] = at
        assert Barrier(self.clients[number], f"/gate-{at}").wait(LIMIT_S)
        assert self.lifted > at, "through a gate that is closed"

    def wind_up(self) -> None:
        self._threads[0].join(LIMIT_S)
        self._lift(self.witness, self.turns[0])

    def check(self) -> None:
        assert [name for name in self.children("/") if name.startswith("gate-")] == []


class Rounds(Scenario):
    """All enter, all leave, again and again."""

    def set_up(self) -> None:
        self.begun, self.leaving = [0] * self.workers, [0] * self.workers
        self.last = 0
        """Round, once it is known."""
        self.barriers = [DoubleBarrier(each, "/it", self.workers) for each in self.clients]

    def ends(self, number: int) -> bool:
        """Only after a round that all take part in."""
        with self._mutex:
            if self.last and self.begun[number] >= self.last:
                return True
            self.begun[number] += 1
            return False

    def turn(self, number: int) -> None:
        at = self.begun[number]
        assert self.barriers[number].enter(LIMIT_S)
        assert min(self.begun) >= at, "in before all were there"
        self.leaving[number] = at
        assert self.barriers[number].leave(LIMIT_S)
        assert min(self.leaving) >= at, "away before all were"

    def wind_up(self) -> None:
        with self._mutex:
            self.last = max(self.begun)

    def check(self) -> None:
        assert len(set(self.turns)) == 1
        self.await_none("/it")


class Counting(Scenario):
    def set_up(self) -> None:
        self.counters = [Counter(client, "/it") for client in self.clients]
        self.values: list[int] = []
        self.unknown = 0

    def turn(self, number: int) -> None:
        try:
            self.values.append(self.counters[number].add(1))
        except UnknownOutcomeError:
            with self._mutex:
                self.unknown += 1

    def check(self) -> None:
        surely(self.witness.sync, "/it")
        value = Counter(self.witness, "/it").value()
        assert len(self.values) == len(set(self.values))
        assert len(self.values) <= value <= len(self.values) + self.unknown
        assert len(self.children("/it")) <= self.workers + self.losses


# --- Kafka ----------------------------------------------------------------------------------------


class Brokers(Scenario):
    """Two come and go, the third one stays."""

    def set_up(self) -> None:
        self.epochs = [0] * self.workers
        self.stays = self._registration(2)
        self.stays.start()

    def _registration(self, number: int) -> BrokerRegistration:
        return BrokerRegistration(self.clients[number], Broker.at(number, f"h{number}", 9092))

    def turn(self, number: int) -> None:
        if number == 2:
            self._look()
            return
        registration = self._registration(number)
        registration.start()
        assert registration.wait(LIMIT_S, after=self.epochs[number])
        self.epochs[number] = registration.epoch or 0
        registration.stop()

    def _look(self) -> None:
        """It is registered all the time, under one epoch."""
        found = Znodes(self.clients[2]).read(self.stays.path)
        assert found is not None
        assert found.czxid == self.stays.epoch
        assert self.epochs[2] in (0, found.czxid)
        self.epochs[2] = found.czxid

    def wind_up(self) -> None:
        self._threads[2].join(LIMIT_S)
        self.stays.stop()

    def check(self) -> None:
        surely(self.witness.sync, "/")
        assert list_brokers(Znodes(self.witness)) == {}


class Controllers(Scenario):
    """One worker makes the controller resign, one writes as the controller, and one as one that is
    the controller no longer."""

    def set_up(self) -> None:
        prepare(Znodes(self.witness))
        self.witness.create(LOG)
        self.deposed: list[Office] = []
        self.written = 0
        self.controllers = [
            Controller(client, number) for number, client in enumerate(self.clients)
        ]
        for each in self.controllers:
            each.start()

    def turn(self, number: int) -> None:
        (self._resign, self._write, self._write_late)[number]()

    def _in_office(self) -> tuple[Controller, Office] | None:
        for each in self.controllers:
            office = each.office
            if office is not None:
                return each, office
        return None

    def _await_office(self, after: int = 0) -> tuple[Controller, Office]:
        def is_later() -> bool:
            found = self._in_office()
            return found is not None and found[1].term.epoch > after

        while True:
            until(is_later)
            found = self._in_office()
            if found is not None and found[1].term.epoch > after:
                return found

    def _resign(self) -> None:
        controller, office = self._await_office()
        with contextlib.suppress(NotController):
            controller.resign().result(LIMIT_S)
        self._await_office(after=office.term.epoch)
        self.deposed.append(office)

    def _write(self) -> None:
        with contextlib.suppress(ControllerMoved):
            write_fenced(self._await_office()[1])
            self.written += 1

    def _write_late(self) -> None:
        until(lambda: self.deposed or self.ends(2))
        for office in self.deposed[-1:]:
            try:
                write_fenced(office)
            except ControllerMoved:
                continue
            raise AssertionError(f"epoch {office.term.epoch} wrote after its end")

    def wind_up(self) -> None:
        for thread in self._threads:
            thread.join(LIMIT_S)
        for each in self.controllers:
            each.stop()

    def check(self) -> None:
        names = sorted(self.children(LOG), key=lambda name: int(name[-10:]))
        epochs = [int(name[:-11]) for name in names]
        assert epochs == sorted(epochs)
        assert len(epochs) >= self.written > 0
        terms = [each.term.epoch for each in self.deposed]
        assert terms == sorted(set(terms))
        until(lambda: surely(self.witness.exists, paths.CONTROLLER) is None)


def write_fenced(office: Office) -> None:
    """Again, while it is unknown whether it was written.  Raises ControllerMoved."""
    written = False
    while not written:
        until(lambda: office.zk.client.connected)
        transaction = office._fenced()
        transaction.create(f"{LOG}/{office.term.epoch}-", b"", sequence=True)
        written = office._commit(transaction)


class Consumers(Scenario):
    """Six partitions; two members stay and commit, a third one comes and goes."""

    partitions: ClassVar[int] = 6

    def set_up(self) -> None:
        zk = Znodes(self.witness)
        self.witness.create(paths.broker(1), encode_broker(Broker.at(1, "h", 1)), makepath=True)
        create_topic(zk, "t", assignment={number: [1] for number in range(self.partitions)})
        zk.ensure(paths.owners("g", "t"))
        self.record = Ownership()
        """As the members are told."""
        self.stay = [self._member(client, f"g_{n}") for n, client in enumerate(self.clients[:2])]
        for each in self.stay:
            each.start()

    def _member(self, client: KazooClient, name: str) -> Consumer:
        return Consumer(
            client,
            "g",
            Subscription({"t": 1}),
            consumer_id=name,
            on_assigned=partial(self._note, name),
            on_revoked=partial(self._note, ""),
            on_lost=partial(self._note, ""),
        )

    def _note(self, owner: str, partitions: Sequence[TopicPartition]) -> None:
        """Of none, if `owner` is empty."""
        with self._mutex:
            for each in partitions:
                try:
                    if owner:
                        self.record.claimed(each, owner, 0)
                    else:
                        self.record.released(each, 0)
                except AssertionError as failure:
                    self.failures.append(failure)

    def turn(self, number: int) -> None:
        if number < 2:
            self._commit(self.stay[number])
            return
        member = self._member(self.clients[2], f"g_x{self.turns[2]}")
        member.start()
        until(lambda: len(member.owned) == 2)
        self._note("", list(member.owned))
        member.stop()

    def _commit(self, member: Consumer) -> None:
        until(lambda: member.owned)
        for each in member.owned:
            with contextlib.suppress(NotOwner):
                member.commit(each, time.monotonic_ns())

    def wind_up(self) -> None:
        for thread in self._threads:
            thread.join(LIMIT_S)
        until(lambda: sum(len(each.owned) for each in self.stay) == self.partitions)
        for each in self.stay:
            self._note("", list(each.owned))
            each.stop()

    def check(self) -> None:
        assert self.children(paths.owners("g", "t")) == self.children(paths.group_ids("g")) == []
        assert [each.failure for each in self.stay] == [None, None]
        for each in self.arena.data:
            assert ownership_of(each, self.arena.root, "g").claims > 0


# --- configuration, membership, tasks ------------------------------------------------------------


class Configurations(Scenario):
    """Two change, one after the other or both at once; one reads."""

    def set_up(self) -> None:
        self.publishers = [
            ConfigPublisher(client, "/it", Settings, keep=100) for client in self.clients[:2]
        ]
        self.revisions = [self.publishers[0].publish(Settings.pair(1))]
        self.unknown = 0
        self.views: list[Published[Settings]] = []
        self.subscriber = ConfigSubscriber(self.clients[2], "/it", Settings)
        self.subscriber.add_listener(self.views.append)
        self.subscriber.start()

    def turn(self, number: int) -> None:
        if number == 2:
            seen = self.subscriber.revision
            until(lambda: self.ends(2) or self.subscriber.revision > seen)
            return
        try:
            self.revisions.append(self.publishers[number].change(increment))
        except OutcomeUnknownError:
            with self._mutex:
                self.unknown += 1

    def check(self) -> None:
        now = ConfigPublisher(self.witness, "/it", Settings).current()
        assert now is not None
        self.subscriber.wait(revision=now.revision, freshness=Freshness.CURRENT, timeout=LIMIT_S)
        self.subscriber.stop()
        assert len(self.revisions) == len(set(self.revisions))
        assert len(self.revisions) <= now.revision <= len(self.revisions) + self.unknown
        seen = [each.revision for each in self.views]
        assert seen == sorted(set(seen))
        assert all(each.value == Settings.pair(each.revision) for each in [*self.views, now])
        assert self.children("/it") == ["history"]


class Members(Scenario):
    """Two come and go, the third one stays; somebody sees them all."""

    def set_up(self) -> None:
        self.events: list[Event] = []
        self.observer = ClusterObserver(self.witness, "/it", grace=LONG_S)
        self.observer.add_listener(self.events.append)
        self.observer.start()
        self.stays = ClusterMember(self.clients[2], "/it", "2")
        self.stays.join(LIMIT_S)

    def _sees(self, member: ClusterMember, metadata: Mapping[str, int] = {}) -> bool:
        seat = self.observer.members.get(member.name)
        if seat is None or seat.status is not Status.ALIVE:
            return False
        seen = seat.member
        return seen.incarnation == member.incarnation and seen.metadata == metadata

    def _update(self, turn: int) -> None:
        self.stays.update({"turn": turn})
        self.stays.wait(LIMIT_S)
        until(lambda: self._sees(self.stays, {"turn": turn}))

    def turn(self, number: int) -> None:
        if number == 2:
            self._update(self.turns[2])
            return
        member = ClusterMember(self.clients[number], "/it", str(number))
        member.join(LIMIT_S)
        until(lambda: self._sees(member))
        member.leave(LIMIT_S)
        until(lambda: member.name not in self.observer.members)

    def wind_up(self) -> None:
        self._threads[2].join(LIMIT_S)
        self.stays.leave(LIMIT_S)

    def check(self) -> None:
        until(lambda: not self.observer.members)
        self.observer.stop()
        for number in range(self.workers):
            kinds = [e.kind for e in self.events if e.member and e.member.name == str(number)]
            expected = [Kind.JOINED, Kind.LEFT] * self.turns[number]
            if number == 2:
                expected = [Kind.JOINED, *[Kind.CHANGED] * self.turns[2], Kind.LEFT]
            assert kinds == expected, number
        self.await_none("/it/members")


class Services(Scenario):
    """Two instances come and go, the third one stays, and gets calls; rules change meanwhile."""

    def set_up(self) -> None:
        self.events: list[Happened] = []
        self.consumer = ServiceConsumer(
            self.witness, "/it", "orders", balancer=RoundRobin(), share=1.0
        )
        self.consumer.view.add_listener(self.events.append)
        self.consumer.start()
        self.publisher = ConfigPublisher(self.clients[2], f"{RULES}/orders", ServiceRules)
        self.stays = self._registration(2)
        self.stays.register(LIMIT_S)

    def _registration(self, number: int) -> ServiceRegistration:
        instance = ServiceInstance("orders", "h", number, str(number))
        return ServiceRegistration(self.clients[number], "/it", instance)

    def _sees(self, registration: ServiceRegistration) -> bool:
        seen = self.consumer.view.instances.get(registration.instance.id)
        return seen == registration.instance

    def _govern(self, turn: int) -> None:
        self.stays.update(self.stays.instance.with_metadata(turn=turn))
        self.stays.wait(LIMIT_S)
        until(lambda: self._sees(self.stays))
        with contextlib.suppress(OutcomeUnknownError):
            self.publisher.publish(ServiceRules(disabled=["0", "1"], weights={"2": turn + 1}))
        until(lambda: self.consumer.rules.weights == {"2": turn + 1})
        assert self.consumer.call(lambda instance: instance.id) == "2"

    def turn(self, number: int) -> None:
        if number == 2:
            self._govern(self.turns[2])
            return
        registration = self._registration(number)
        registration.register(LIMIT_S)
        until(lambda: self._sees(registration))
        assert registration.deregister(LIMIT_S)
        until(lambda: str(number) not in self.consumer.view.instances)

    def wind_up(self) -> None:
        self._threads[2].join(LIMIT_S)
        assert self.stays.deregister(LIMIT_S)

    def check(self) -> None:
        until(lambda: not self.consumer.view.instances)
        self.consumer.stop()
        for number in range(self.workers):
            its = [e.kind for e in self.events if e.instance and e.instance.id == str(number)]
            expected = [Happens.ADDED, Happens.REMOVED] * self.turns[number]
            if number == 2:
                changed = [Happens.CHANGED] * self.turns[2]
                expected = [Happens.ADDED, *changed, Happens.REMOVED]
            assert its == expected, number
        self.await_none("/it/orders")


class Tasks(Scenario):
    """Two have tasks done, by two others."""

    workers = 2
    helpers = 2

    def set_up(self) -> None:
        self.boards = [TaskBoard(client, "/it") for client in self.clients[:2]]
        self.doers = [
            TaskWorker(client, "/it", str(n), double, attempts=1000)
            for n, client in enumerate(self.clients[2:])
        ]
        for each in self.doers:
            each.start()

    def turn(self, number: int) -> None:
        board, payload = self.boards[number], self.turns[number]
        outcome = board.take(board.submit(payload, timeout=LIMIT_S), timeout=LIMIT_S)
        assert outcome.ok
        assert outcome.result == 2 * payload

    def wind_up(self) -> None:
        for thread in self._threads:
            thread.join(LIMIT_S)
        for each in self.doers:
            each.stop()

    def check(self) -> None:
        self.await_none("/it/tasks", "/it/claims", "/it/results")


class Queueing(Scenario):
    """One puts, two take; each item leaves one entry in the log, in the multi that ends it."""

    def set_up(self) -> None:
        self.witness.create(LOG)
        self.queues = [Queue(client, "/it") for client in self.clients]
        self.put = 0
        self._all_done = threading.Event()

    def ends(self, number: int) -> bool:
        """Of those that take: when nothing is left."""
        return self._all_done.is_set() if number else super().ends(number)

    def turn(self, number: int) -> None:
        if number:
            self._take(self.queues[number])
        else:
            # Never much ahead of those that take, so that all is done soon in the end.
            until(lambda: self.queues[0].size() < 10)
            self.queues[0].put_all([b"%d" % each for each in range(self.put, self.put + 4)])
            self.put += 4

    def _take(self, queue: Queue) -> None:
        try:
            item = queue.take(LIMIT_S)
        except CancelledError:
            return
        item.done(lambda writes: writes.create(f"{LOG}/{item.value.decode()}-", sequence=True))

    def wind_up(self) -> None:
        self._threads[0].join(LIMIT_S)
        until(lambda: self.failures or not self.children("/it/entries"))
        self._all_done.set()

        def have_ended() -> bool:
            for each in self.queues:
                each.cancel()
            return not any(thread.is_alive() for thread in self._threads)

        until(have_ended)

    def check(self) -> None:
        done = sorted(int(name.split("-")[0]) for name in self.children(LOG))
        assert done == list(range(self.put))
        for each in self.queues:
            each.close()
        self.await_none("/it/entries", "/it/taken", "/it/takers", "/it/notes")


def double(job: Job) -> Any:
    return job.payload * 2


SCENARIOS: Final[Mapping[str, type[Scenario]]] = {
    "lock": Holding,
    "read and write locks": ReadWrite,
    "semaphore": Leases,
    "election": Elections,
    "barrier": Gates,
    "double barrier": Rounds,
    "counter": Counting,
    "broker registration": Brokers,
    "controller": Controllers,
    "consumer group": Consumers,
    "configuration": Configurations,
    "membership": Members,
    "services": Services,
    "tasks": Tasks,
    "queue": Queueing,
}
