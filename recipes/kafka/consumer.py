"""A consumer of a group, as Kafka's high-level consumer was until 0.9, and beside such ones.

    consumer = Consumer(client, "group", Subscription({"t": 1}), on_assigned=..., on_revoked=...)
    consumer.start()
    consumer.commit(where, offset)       # while it owns it
    consumer.stop()

It registers under /consumers/G/ids, and looks at members, topics and brokers; each change of these
makes every member compute the same assignment, give back what it is to own no more, and claim
what it is to own.  A claim is an ephemeral under owners/T/P, so a partition has one owner at most;
one that is still held is waited for with a watch.  Nothing is claimed before all else is given
back, so no two members wait for each other.

Kafka's consumer gives back everything at each rebalance, and waits two seconds before it tries a
claim again.  This one gives back only what goes to others, and a watch tells when they release.

Claims and commits are transactions that check the member's own ids znode: what is left of a session
that has ended claims and commits nothing.  SUSPENDED: `active` is false; stop consuming, the
session may be over on the server already.  LOST: nothing is owned, `on_lost` says what was;
the consumer registers anew.
"""

import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs
from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError, NoNodeError, SessionExpiredError
from kazoo.protocol.states import KazooState

from recipes.base import first_error, raise_first
from recipes.kafka import paths
from recipes.kafka.assign import STRATEGIES, Owners
from recipes.kafka.fields import FormatError
from recipes.kafka.formats import (
    Subscription,
    ThreadId,
    decode_offset,
    decode_subscription,
    decode_topic,
    encode_offset,
    encode_owner,
    encode_subscription,
)
from recipes.kafka.group import GroupView, plan_change, wanted_by
from recipes.kafka.paths import TopicPartition
from recipes.kafka.znodes import (
    LEAVE_S,
    MOST_OPERATIONS,
    UNKNOWN_OUTCOME,
    Worker,
    Znode,
    Znodes,
    chunks,
    log,
)

Told = Callable[[Sequence[TopicPartition]], None]
KEPT: Final = 100
"""Rebalances of which the measures are kept."""


class NotOwner(Exception):
    """This consumer does not own the partition, or not any more."""


@attrs.frozen
class Rebalance:
    """One that changed something, measured."""

    released: int
    claimed: int
    waiting: int
    """Partitions that others still held."""
    pause_ms: float
    """From before the first release to after the last claim: a partition that this consumer both
    gave and got was without an owner for less."""


def make_id(group: str) -> str:
    """As Kafka makes them: `G_HOST-MILLISECONDS-8 HEX DIGITS`."""
    return f"{group}_{socket.gethostname()}-{int(time.time() * 1000)}-{uuid.uuid4().hex[:8]}"


class Consumer(Worker):
    """One member of a group; several may share a client, and lose their sessions together."""

    def __init__(
        self,
        client: KazooClient,
        group: str,
        subscription: Subscription,
        *,
        consumer_id: str | None = None,
        strategy: str = "range",
        calm_s: float = 0.0,
        on_assigned: Told | None = None,
        on_revoked: Told | None = None,
        on_lost: Told | None = None,
    ) -> None:
        """`calm_s` is waited between a change and what follows, so that many at once are one.

        `on_revoked` is called before partitions are released, to commit what was done, for `stop`
        too, in a thread of this consumer, if there is a connection; what it raises is logged, and
        they are released.  `on_lost` in kazoo's thread, when there is nothing to be done any more.
        """
        if any(streams < 1 for streams in subscription.streams.values()):
            raise ValueError("a topic has one stream at least")
        self.group = group
        self.consumer_id = consumer_id or make_id(group)
        super().__init__(client, f"consumer {self.consumer_id}")
        now_ms = int(time.time() * 1000)
        stamp = subscription.timestamp_ms or now_ms
        self.subscription = attrs.evolve(subscription, timestamp_ms=stamp)
        self.rebalances: deque[Rebalance] = deque(maxlen=KEPT)
        self.calm_s = calm_s
        self._strategy = STRATEGIES[strategy]
        self._assigned, self._revoked, self._lost = on_assigned, on_revoked, on_lost
        self._lock = threading.Lock()
        self._owned: Owners = {}
        self._known: dict[str, Subscription] = {}
        """Of members: an ids znode is written once."""
        self._sent: dict[TopicPartition, None] = {}
        """Claimed, and not surely released: their znodes may be ours."""
        self._topics: dict[str, list[int]] = {}
        """Partitions, as long as the watch on the topic is silent: a topic's data may be long."""
        self._changes: dict[str, int] = {}
        """How often a topic's watch has spoken."""
        self._watches: dict[str, Callable[..., None]] = {}
        self._version: int = 0
        """Of our own ids znode."""

    @property
    def path(self) -> str:
        return paths.group_id(self.group, self.consumer_id)

    @property
    def _mark(self) -> bytes:
        """How the data of our owners' znodes begins: others may share our session."""
        return f"{self.consumer_id}-".encode()

    @property
    def owned(self) -> Owners:
        """Partitions, and the streams that have them."""
        with self._lock:
            return dict(self._owned)

    @property
    def active(self) -> bool:
        """Whether what is owned may be consumed: not while the connection is lost."""
        return bool(self.client.connected)

    def stop(self, timeout_s: float | None = LEAVE_S) -> None:
        """Give all back, and leave: in so many seconds at most, None for as long as it takes.

        What is not given back by then, since the connection broke for example, stays until the
        end of the session; another `stop` tries it again.  A request that had been asked for, such
        as that of a commit in `on_revoked`, may be carried out later; none follows it."""
        self.leave(self._resign, timeout_s)
        with self._lock:
            self._owned = {}

    def _resign(self, zk: Znodes) -> None:
        """Behind a sync: a claim whose answer was lost is seen.  The thread has ended, so it is we
        who use `self.zk`, and it is not to be broken off by the stop."""
        self.zk = zk
        zk.sync(paths.CONSUMERS)
        self._give_back(list(self.owned))
        self._clear_up({})
        zk.remove_own(self.path)

    # Offsets.

    def commit(self, where: TopicPartition, offset: int) -> None:
        """The next offset to read.  NotOwner: somebody else may be reading already."""
        while True:
            with self._lock:
                if where not in self._owned:
                    raise NotOwner(f"{where} is not owned by {self.consumer_id}")
            try:
                if self._try_commit(paths.offset(self.group, where), encode_offset(offset)):
                    return
            except SessionExpiredError as why:
                raise NotOwner(f"{where}: {why!r}") from why

    def _try_commit(self, path: str, data: bytes) -> bool:
        transaction = self.zk.transaction()
        transaction.check(self.path, self._version)
        transaction.set_data(path, data)
        try:
            results = self.zk.commit(transaction)
        except UNKNOWN_OUTCOME:
            self.zk.sync(path)
            return False
        why = first_error(results)
        if isinstance(why, NoNodeError) and results[0] is not why:
            self.zk.ensure(path)
            return False
        if isinstance(why, NoNodeError):
            raise NotOwner(f"{self.path} is gone")
        if why is not None:
            raise why
        return True

    def offset(self, where: TopicPartition) -> int | None:
        """What was committed last, by whomever."""
        found = Znodes(self.client).read(paths.offset(self.group, where))  # also after a stop
        return decode_offset(found.data) if found is not None and found.data else None

    # The loop.

    def on_state(self, state: str) -> None:
        if state != KazooState.LOST:
            return
        with self._lock:
            lost, self._owned = list(self._owned), {}
            self._sent = {}
        self._tell(self._lost, lost)

    def step(self) -> None:
        if self.zk.session is None:
            return
        self._register()
        view = self._read()
        self._rebalance(wanted_by(self.consumer_id, view, self._strategy))

    def _register(self) -> None:
        self.zk.ensure(paths.group_ids(self.group))
        found = self.zk.read(self.path)
        if found is None or found.owner != self.zk.session:
            data = encode_subscription(self.subscription)
            found = self.zk.create_ephemeral(self.path, data)
        self._version = found.version

    def _read(self) -> GroupView:
        """All of it watched, before it is read."""
        members = self._read_members(self.zk.children(paths.group_ids(self.group), self.wake))
        brokers = self.zk.children(paths.BROKER_IDS, self.wake)
        topics = self.zk.children(paths.TOPICS, self.wake)
        wanted = dict.fromkeys(topic for each in members.values() for topic in each.topics(topics))
        return GroupView(members, self._read_topics(wanted), len(brokers))

    def _read_members(self, names: Sequence[str]) -> dict[str, Subscription]:
        """One that cannot be read has no subscriptions, or it would stop the whole group."""
        self._known = {each: self._known[each] for each in names if each in self._known}
        new = [each for each in names if each not in self._known]
        found = self.zk.read_all(paths.group_id(self.group, each) for each in new)
        for each in new:
            node = found[paths.group_id(self.group, each)]
            subscription = None if node is None else _subscription(each, node)
            if subscription is not None:
                self._known[each] = subscription
        return dict(self._known)

    def _read_topics(self, names: Iterable[str]) -> dict[str, list[int]]:
        topics = {name: self._read_topic(name) for name in names}
        return {name: numbers for name, numbers in topics.items() if numbers is not None}

    def _read_topic(self, name: str) -> list[int] | None:
        with self._lock:
            known, before = self._topics.get(name), self._changes.get(name, 0)
        if known is not None:
            return known
        watch = self._watches.setdefault(name, lambda *_: self._on_topic(name))
        node = self.zk.read(paths.topic(name), watch)
        numbers = None if node is None else _partitions(name, node)
        with self._lock:
            if numbers is not None and before == self._changes.get(name, 0):
                self._topics[name] = numbers
        return numbers

    def _on_topic(self, name: str) -> None:
        """Changed, or the connection is broken, and kazoo's watches with it."""
        with self._lock:
            self._topics.pop(name, None)
            self._changes[name] = self._changes.get(name, 0) + 1
        self.wake()

    def _rebalance(self, wanted: Owners | None) -> None:
        self._clear_up(wanted or {})
        change = plan_change(self.owned, wanted)
        if not change.release and not change.claim:
            return
        start = time.monotonic()
        self._give_back(change.release)
        held = self._claim(change.claim)
        pause_ms = (time.monotonic() - start) * 1000
        claimed = len(change.claim) - len(held)
        if change.release or claimed:
            self.rebalances.append(Rebalance(len(change.release), claimed, len(held), pause_ms))

    def _clear_up(self, wanted: Owners) -> None:
        """What a step that was broken off may have left: claimed, or not released."""
        owned = self.owned
        stray = [where for where in self._sent if where not in owned and where not in wanted]
        for where in stray:
            # It may be another's by now, so never without a look at its owner.
            self.zk.remove_own(paths.owner(self.group, where), self._mark)
            self._sent.pop(where, None)

    # Releasing.

    def _give_back(self, release: Sequence[TopicPartition]) -> None:
        self._tell(self._revoked, release)
        self._release(release)

    def _tell(self, told: Told | None, partitions: Sequence[TopicPartition]) -> None:
        """A callback's own trouble is not the group's."""
        if partitions and told is not None:
            try:
                told(partitions)
            except Exception:
                log.exception("a callback of %s failed", self.name)

    def _release(self, release: Sequence[TopicPartition]) -> None:
        """Not ours any more before it is deleted: between the two, nobody consumes.

        Only what was owned in the session of our ids znode, which the transaction checks: what a
        session before had owned may have been claimed by others since.
        """
        with self._lock:
            for where in release:
                self._owned.pop(where, None)
        for part in chunks(release, MOST_OPERATIONS):
            self._delete([paths.owner(self.group, each) for each in part])
            for each in part:
                self._sent.pop(each, None)

    def _delete(self, names: Sequence[str]) -> None:
        """In one; where that fails, one by one, and only those that are still ours.

        A delete whose answer was lost must not be sent again blindly: it would take away what
        another member has claimed since.
        """
        transaction = self.zk.transaction()
        transaction.check(self.path, self._version)
        for name in names:
            transaction.delete(name)
        try:
            why = first_error(self.zk.commit(transaction))
        except UNKNOWN_OUTCOME as lost:
            self.zk.sync(paths.CONSUMERS)
            why = lost
        if why is not None:
            for name in names:
                self.zk.remove_own(name, self._mark)

    # Claiming.

    def _claim(self, claim: Mapping[TopicPartition, ThreadId]) -> list[TopicPartition]:
        """What others hold: their znodes are watched."""
        losses = self.losses
        free = self._free(claim)
        for part in chunks(free, MOST_OPERATIONS):
            self._claim_part({where: claim[where] for where in part}, losses)
        if not self._awake.is_set():  # The next step looks, at what is wanted then.
            owned = self.owned
            self._look_at({w: thread for w, thread in claim.items() if w not in owned}, losses)
        owned = self.owned
        self._tell(self._assigned, [where for where in claim if where in owned])
        return [where for where in claim if where not in owned]

    def _free(self, claim: Iterable[TopicPartition]) -> list[TopicPartition]:
        topics = dict.fromkeys(where.topic for where in claim)
        taken = {name: set(self.zk.children(paths.owners(self.group, name))) for name in topics}
        return [where for where in claim if str(where.partition) not in taken[where.topic]]

    def _claim_part(self, claim: dict[TopicPartition, ThreadId], losses: int) -> None:
        """All at once.  Where somebody was quicker, others see another group than we do: if we were
        woken, the next step knows better; else again, without all that is taken by now."""
        self._sent |= dict.fromkeys(claim)
        while claim:
            try:
                results = self._try_claim(claim)
            except UNKNOWN_OUTCOME:
                self.zk.sync(paths.CONSUMERS)
                return
            why = first_error(results)
            if why is None:
                self._note_owned(claim, losses)
                return
            place = [each is why for each in results].index(True)
            if place == 0:
                raise SessionExpiredError(f"{self.path} is gone")
            where = list(claim)[place - 1]
            if isinstance(why, NoNodeError):
                self.zk.ensure(paths.owners(self.group, where.topic))
                continue
            raise_first([why], but=(NodeExistsError,))
            if self._awake.is_set():
                return
            free = self._free(claim)
            claim = {where: claim[where] for where in free}

    def _try_claim(self, claim: Mapping[TopicPartition, ThreadId]) -> list[Any]:
        transaction = self.zk.transaction()
        transaction.check(self.path, self._version)
        for where, thread in claim.items():
            transaction.create(paths.owner(self.group, where), encode_owner(thread), ephemeral=True)
        return self.zk.commit(transaction)

    def _look_at(self, held: Mapping[TopicPartition, ThreadId], losses: int) -> None:
        """Watch what others hold.  What is gone by now is claimed in the next step, at once; what
        is ours was claimed by a transaction whose answer was lost."""
        names = {where: paths.owner(self.group, where) for where in held}
        found = self.zk.read_all(names.values(), self.wake) if held else {}
        session = self.zk.session
        for where, thread in held.items():
            node = found[names[where]]
            if node is None:
                self.wake()
            elif node.owner == session and node.data == encode_owner(thread):
                self._note_owned({where: thread}, losses)
                continue
            self._sent.pop(where, None)

    def _note_owned(self, claimed: Mapping[TopicPartition, ThreadId], losses: int) -> None:
        """Unless the session has ended since, and with it all that it had claimed."""
        with self._lock:
            if losses == self.losses:
                self._owned |= claimed
                return
        raise SessionExpiredError("while partitions were claimed")


def _subscription(consumer: str, node: Znode) -> Subscription | None:
    """None of one that is being written, or cannot be read: looked at again next time."""
    if not node.data:
        return None
    try:
        return decode_subscription(node.data, f"consumer {consumer}")
    except FormatError as why:
        log.error("a member has no subscriptions: %s", why)
        return None


def _partitions(name: str, node: Znode) -> list[int]:
    try:
        return sorted(decode_topic(name, node.data).partitions)
    except FormatError as why:
        log.error("topic %s has no partitions: %s", name, why)
        return []
