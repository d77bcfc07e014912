"""A controller's view of the cluster, and what follows from it: state in, writes out.

Pure.  `Cluster` holds what a controller has read; the loop (`recipes.kafka.office`) tells it
what changed, asks `plan` for steps, writes each in one fenced transaction, and hands it back to
`apply` once it is committed.  A step that was refused, or whose answer was lost, is not
applied: the loop reads those znodes again, and `plan` decides anew.  So nothing here depends on
which writes went through.

A step is a tuple of writes.  Versions are known before the answer: a write that is conditional
on version v leaves v + 1.
"""

from collections.abc import Iterable, Mapping

import attrs

from recipes.kafka import paths
from recipes.kafka.formats import Leadership, Moves, Replicas, Topic
from recipes.kafka.machine import Partition, ReplicaState, Step, next_step, start_move
from recipes.kafka.paths import TopicPartition

# --- writes ---------------------------------------------------------------------------


@attrs.frozen
class PutState:
    """A partition's leadership; created where `version` is None."""

    where: TopicPartition
    leadership: Leadership
    version: int | None


@attrs.frozen
class PutTopic:
    """A topic's replicas."""

    name: str
    topic: Topic
    version: int


@attrs.frozen
class DropTopic:
    """All of a topic that no broker holds any more, and the request to delete it."""

    name: str
    version: int
    czxid: int


@attrs.frozen
class DropDeletion:
    """The request to delete a topic that does not exist."""

    name: str


@attrs.frozen
class PutMoves:
    """Requests for moves that are still open; none deletes the znode."""

    moves: Moves
    version: int


@attrs.frozen
class DropPreferred:
    """Requests for preferred leaders: all are done, or cannot be."""


Write = PutState | PutTopic | DropTopic | DropDeletion | PutMoves | DropPreferred
Writes = tuple[Write, ...]


# --- what brokers are told -----------------------------------------------------------------


@attrs.frozen
class LeaderAndIsr:
    """To `brokers`: who leads this partition now, and under which epochs."""

    where: TopicPartition
    brokers: tuple[int, ...]
    leadership: Leadership
    replicas: Replicas


@attrs.frozen
class StopReplica:
    """To `broker`: follow no more, and delete the replica if so told."""

    where: TopicPartition
    broker: int
    delete: bool


Order = LeaderAndIsr | StopReplica


@attrs.frozen(order=True)
class Replica:
    where: TopicPartition
    broker: int


@attrs.frozen
class Known:
    """A leadership, and the version of its znode."""

    leadership: Leadership
    version: int


@attrs.frozen
class KnownTopic:
    topic: Topic
    version: int
    czxid: int
    """Of its znode: tells it from a later topic of its name."""


class StaleBroker(ValueError):
    """A broker that is not alive, or another registration of it, asks for a controlled shutdown."""


@attrs.define
class Cluster:
    """Everything a controller knows; all of it can be read anew at any time."""

    epoch: int
    """The controller's own."""
    brokers: dict[int, int] = attrs.field(factory=dict)
    """Broker epochs of those that are alive."""
    leaving: set[int] = attrs.field(factory=set)
    topics: dict[str, KnownTopic] = attrs.field(factory=dict)
    states: dict[TopicPartition, Known] = attrs.field(factory=dict)
    deletions: dict[str, None] = attrs.field(factory=dict)
    """Topics that are to be deleted, in the order in which that was seen."""
    deleted: dict[Replica, ReplicaState] = attrs.field(factory=dict)
    """How far each replica of these topics is."""
    owed: dict[Replica, int] = attrs.field(factory=dict)
    """Answers that are still to come to orders of a deletion that was called off."""
    last_epochs: dict[TopicPartition, int] = attrs.field(factory=dict)
    """Leader epochs of states that such a deletion may have taken away."""
    moves: dict[TopicPartition, tuple[int, ...]] = attrs.field(factory=dict)
    moves_version: int = -1
    """Of the znode with the requests; -1 where there is none."""
    preferred: dict[TopicPartition, None] = attrs.field(factory=dict)
    preferred_asked: bool = False
    """Whether there is a znode with such requests."""
    broken: dict[TopicPartition, None] = attrs.field(factory=dict)
    """Partitions whose state cannot be read: left alone, until it can."""
    unclean: bool = False
    """Whether unclean elections are allowed where a topic does not say."""
    unclean_topics: dict[str, bool] = attrs.field(factory=dict)
    unclean_once: dict[TopicPartition, None] = attrs.field(factory=dict)
    """Partitions for which an operator accepts the loss."""

    # Reading it.

    def partitions(self) -> Iterable[TopicPartition]:
        for name, known in self.topics.items():
            for number in known.topic.partitions:
                if TopicPartition(name, number) not in self.broken:
                    yield TopicPartition(name, number)

    def replicas_of(self, where: TopicPartition) -> Replicas | None:
        known = self.topics.get(where.topic)
        return known.topic.partitions.get(where.partition) if known else None

    def partition(self, where: TopicPartition) -> Partition:
        """KeyError if there is no such partition."""
        known = self.states.get(where)
        return Partition(
            self.topics[where.topic].topic.partitions[where.partition],
            known.leadership if known else None,
            online=frozenset(self.brokers) - self.leaving,
            leaving=frozenset(self.leaving),
            unclean=self._may_be_unclean(where),
            prefer=where in self.preferred,
            deleting=where.topic in self.deletions and not self._is_moving(where.topic),
        )

    def _may_be_unclean(self, where: TopicPartition) -> bool:
        by_topic = self.unclean_topics.get(where.topic, self.unclean)
        return by_topic or where in self.unclean_once

    def _is_moving(self, name: str) -> bool:
        known = self.topics.get(name)
        return known is not None and any(each.moving for each in known.topic.partitions.values())

    def replicas_in(self, name: str) -> list[Replica]:
        known = self.topics[name]
        return [
            Replica(TopicPartition(name, number), broker)
            for number, replicas in known.topic.partitions.items()
            for broker in replicas.brokers
        ]

    def led_by(self, broker: int) -> list[TopicPartition]:
        """What a broker still leads: what a controlled shutdown is answered with."""
        return [w for w, known in self.states.items() if known.leadership.leader == broker]

    # What changed, as the loop has read it.

    def changed_brokers(self, alive: Mapping[int, int]) -> list[dict[int, int]]:
        """The sets of brokers to plan for, one after the other, until `alive` is reached.

        A broker that died and came back between two looks has another epoch.  What it led is to
        be led by others first, as if its death had been seen: it may have lost its last records.
        """
        same = {each: epoch for each, epoch in alive.items() if self.brokers.get(each) == epoch}
        bounced = any(each in self.brokers for each in alive if each not in same)
        fresh = {each: epoch for each, epoch in alive.items() if each not in self.brokers}
        return [same | fresh, dict(alive)] if bounced else [dict(alive)]

    def set_brokers(self, alive: Mapping[int, int]) -> list[Order]:
        """What those that came are told: all they have replicas of."""
        came = [each for each in alive if each not in self.brokers]
        gone = [each for each in self.brokers if each not in alive]
        self.brokers = dict(sorted(alive.items()))
        self.leaving &= set(alive)
        self._fail_deletions(gone)
        self._retry_deletions(came)
        return self._greet(came)

    def _fail_deletions(self, gone: Iterable[int]) -> None:
        lost = set(gone)
        for replica, state in self.deleted.items():
            if replica.broker in lost and state is ReplicaState.DELETION_STARTED:
                self.deleted[replica] = ReplicaState.DELETION_INELIGIBLE
        self.owed = {each: count for each, count in self.owed.items() if each.broker not in lost}

    def _retry_deletions(self, came: Iterable[int]) -> None:
        back = set(came)
        for replica, state in self.deleted.items():
            if replica.broker in back and state is ReplicaState.DELETION_INELIGIBLE:
                self.deleted[replica] = ReplicaState.OFFLINE

    def _greet(self, came: Iterable[int]) -> list[Order]:
        new = set(came)
        return [
            LeaderAndIsr(
                where, tuple(sorted(new & set(replicas.brokers))), known.leadership, replicas
            )
            for where, known in self.states.items()
            if (replicas := self.replicas_of(where)) and new & set(replicas.brokers)
        ]

    def set_topics(self, names: Iterable[str]) -> list[str]:
        """Forgets topics that are gone; which ones are new and to be read?"""
        present = dict.fromkeys(names)
        for name in [each for each in self.topics if each not in present]:
            self._forget(name)
        return [each for each in present if each not in self.topics]

    def set_topic(self, name: str, topic: Topic, version: int, czxid: int) -> None:
        """If it has taken the place of another, deleted since that was read, then nothing that was
        known of that one holds for it, nor the request to delete that."""
        known = self.topics.get(name)
        if known is not None and known.czxid != czxid:
            self._forget(name)
        self.topics[name] = KnownTopic(topic, version, czxid)

    def set_unclean(self, name: str, allowed: bool | None) -> None:
        """None: the topic does not say, or does so no longer."""
        if allowed is None:
            self.unclean_topics.pop(name, None)
        else:
            self.unclean_topics[name] = allowed

    def set_state(self, where: TopicPartition, known: Known | None) -> None:
        self.broken.pop(where, None)
        if known is None:
            self.states.pop(where, None)
        else:
            self.states[where] = known

    def set_broken(self, where: TopicPartition) -> None:
        self.states.pop(where, None)
        self.broken[where] = None

    def set_deletions(self, names: Iterable[str]) -> dict[TopicPartition, list[int]]:
        """Partitions of topics of which the deletion had begun and is called off, and the brokers
        that were told to delete them: their states are to be read again, and then see `restore`."""
        present = dict.fromkeys(names)
        gone = [each for each in self.deletions if each not in present]
        self.deletions = {n: None for n in self.deletions if n in present} | present
        told: dict[TopicPartition, list[int]] = {}
        for replica in [each for each in self.deleted if each.where.topic in gone]:
            told.setdefault(replica.where, []).append(replica.broker)
        for name in gone:
            self._call_off(name)
        self.last_epochs |= {
            where: self.states[where].leadership.leader_epoch
            for where in told
            if where in self.states
        }
        return told

    def _call_off(self, name: str) -> None:
        """Who is told to delete again is told anew, and a late answer to the first time is none to
        that."""
        for replica in [each for each in self.deleted if each.where.topic == name]:
            if self.deleted.pop(replica) is ReplicaState.DELETION_STARTED:
                self.owed[replica] = self.owed.get(replica, 0) + 1

    def restore(self, told: Mapping[TopicPartition, Iterable[int]]) -> list[Order]:
        """For brokers that may have deleted a replica which is to stay."""
        return [
            LeaderAndIsr(where, alive, known.leadership, replicas)
            for where, brokers in told.items()
            if (alive := tuple(each for each in brokers if each in self.brokers))
            and (known := self.states.get(where))
            and (replicas := self.replicas_of(where))
        ]

    def set_moves(self, moves: Moves, version: int) -> None:
        self.moves, self.moves_version = dict(moves), version

    def set_preferred(self, partitions: Iterable[TopicPartition], asked: bool) -> None:
        self.preferred, self.preferred_asked = dict.fromkeys(partitions), asked

    def start_shutdown(self, broker: int, broker_epoch: int | None = None) -> None:
        """A broker wants to leave.  StaleBroker if it is not alive under this epoch (KIP-380)."""
        known = self.brokers.get(broker)
        if known is None or (broker_epoch is not None and broker_epoch < known):
            raise StaleBroker(f"broker {broker}: epoch {broker_epoch}, known is {known}")
        self.leaving.add(broker)

    def replica_deleted(self, where: TopicPartition, broker: int, *, failed: bool = False) -> None:
        """A broker's answer to a StopReplica that deletes; of others nothing is noted."""
        replica = Replica(where, broker)
        owed = self.owed.pop(replica, 0)
        if owed:
            self.owed |= {replica: owed - 1} if owed > 1 else {}
        elif self.deleted.get(replica) is ReplicaState.DELETION_STARTED:
            done = ReplicaState.DELETION_SUCCESSFUL
            self.deleted[replica] = ReplicaState.DELETION_INELIGIBLE if failed else done

    def _forget(self, name: str) -> None:
        known = self.topics.pop(name)
        for number in known.topic.partitions:
            self.set_state(TopicPartition(name, number), None)
        self._call_off(name)
        self.deletions.pop(name, None)
        self.last_epochs = {w: e for w, e in self.last_epochs.items() if w.topic != name}
        # Neither the topic's leave to lose records nor an operator's is the next one's.
        self.unclean_topics.pop(name, None)
        self.unclean_once = {w: None for w in self.unclean_once if w.topic != name}

    # What follows.

    def plan(self) -> list[Writes]:
        """Steps that can be written side by side: no two of them touch the same znode."""
        moving, touched = self._plan_moves()
        return [
            *moving,
            *self._plan_partitions(touched),
            *self._plan_deletions(),
            *self._plan_done(),
        ]

    def _plan_moves(self) -> tuple[list[Writes], dict[str, None]]:
        """Moves that are to begin: one of each topic at a time, for they share its znode."""
        planned: dict[str, Writes] = {}
        for where, target in self.moves.items():
            if where.topic not in planned and self._is_open(where, target):
                step = start_move(self.partition(where), target, self.epoch)
                if step is not None:
                    planned[where.topic] = self._writes(where, step)
        return list(planned.values()), dict.fromkeys(planned)

    def _is_open(self, where: TopicPartition, target: tuple[int, ...]) -> bool:
        """Asked for, possible, and not begun."""
        replicas = self.replicas_of(where)
        return self._can_move(where, target) and replicas is not None and replicas.target != target

    def _can_move(self, where: TopicPartition, target: tuple[int, ...]) -> bool:
        sound = bool(target) and len(set(target)) == len(target) and min(target) >= 0
        return sound and self._is_known(where) and where.topic not in self.deletions

    def _is_known(self, where: TopicPartition) -> bool:
        return self.replicas_of(where) is not None and where not in self.broken

    def _plan_partitions(self, touched: dict[str, None]) -> list[Writes]:
        planned: list[Writes] = []
        busy = dict(touched)
        for where in self.partitions():
            if where.topic in touched:
                continue
            step = next_step(self.partition(where), self.epoch)
            if step is None or (step.replicas is not None and where.topic in busy):
                continue
            if step.replicas is not None:
                busy[where.topic] = None
            planned.append(self._writes(where, step))
        return planned

    def _writes(self, where: TopicPartition, step: Step) -> Writes:
        writes: list[Write] = []
        if step.leadership is not None:
            known = self.states.get(where)
            leadership = step.leadership
            if known is None and where in self.last_epochs:
                epoch = self.last_epochs[where] + 1
                leadership = attrs.evolve(leadership, leader_epoch=epoch)
            writes.append(PutState(where, leadership, known.version if known else None))
        if step.replicas is not None:
            known_topic = self.topics[where.topic]
            grown = {**known_topic.topic.partitions, where.partition: step.replicas}
            topic = attrs.evolve(known_topic.topic, partitions=grown)
            writes.append(PutTopic(where.topic, topic, known_topic.version))
        return tuple(writes)

    def _plan_deletions(self) -> list[Writes]:
        planned: list[Writes] = []
        for name in self.deletions:
            if name not in self.topics:
                planned.append((DropDeletion(name),))
            elif all(self._is_gone(replica) for replica in self.replicas_in(name)):
                known = self.topics[name]
                planned.append((DropTopic(name, known.version, known.czxid),))
        return planned

    def _is_gone(self, replica: Replica) -> bool:
        return self.deleted.get(replica) is ReplicaState.DELETION_SUCCESSFUL

    def _plan_done(self) -> list[Writes]:
        """Requests that are answered, or never can be, are taken away."""
        planned: list[Writes] = []
        waiting = {w: to for w, to in self.moves.items() if self._is_waiting(w, to)}
        if self.moves_version >= 0 and (len(waiting) < len(self.moves) or not waiting):
            planned.append((PutMoves(waiting, self.moves_version),))
        if self.preferred_asked and not any(self._prefers(where) for where in self.preferred):
            planned.append((DropPreferred(),))
        return planned

    def _is_waiting(self, where: TopicPartition, target: tuple[int, ...]) -> bool:
        replicas = self.replicas_of(where)
        if replicas is None or not self._can_move(where, target):
            return False
        return replicas.moving or replicas.target != target

    def _prefers(self, where: TopicPartition) -> bool:
        known = self._is_known(where)
        return known and next_step(self.partition(where), self.epoch) is not None

    def orders(self) -> list[Order]:
        """Deletions of replicas that can begin now, and have not."""
        begun: list[Order] = []
        for name in self.deletions:
            if name in self.topics and not self._is_moving(name):
                begun += [self._start_deletion(each) for each in self._deletable(name)]
        return begun

    def _deletable(self, name: str) -> list[Replica]:
        alive = [each for each in self.replicas_in(name) if each.broker in self.brokers]
        waiting = (None, ReplicaState.OFFLINE)
        return [each for each in alive if self.deleted.get(each) in waiting]

    def _start_deletion(self, replica: Replica) -> Order:
        self.deleted[replica] = ReplicaState.DELETION_STARTED
        return StopReplica(replica.where, replica.broker, delete=True)

    # What was written.

    def apply(self, writes: Writes) -> list[Order]:
        """A step is committed.  Out: what brokers are to be told."""
        before = {
            write.where: self.replicas_of(write.where)
            for write in writes
            if isinstance(write, PutState)
        }
        for write in writes:
            self._apply(write)
        return [order for where, was in before.items() for order in self._tell(where, was)]

    def _apply(self, write: Write) -> None:
        match write:
            case PutState(where, leadership, version):
                self.states[where] = Known(leadership, 0 if version is None else version + 1)
                self.unclean_once.pop(where, None)
                self.last_epochs.pop(where, None)
            case PutTopic(name, topic, version):
                self.topics[name] = KnownTopic(topic, version + 1, self.topics[name].czxid)
            case DropTopic(name):
                self._forget(name)
            case DropDeletion(name):
                self.deletions.pop(name, None)
            case PutMoves(moves, version):
                self.set_moves(moves, version + 1 if moves else -1)
            case DropPreferred():
                self.set_preferred((), asked=False)

    def _tell(self, where: TopicPartition, was: Replicas | None) -> list[Order]:
        replicas, known = self.replicas_of(where), self.states[where]
        assert replicas is not None
        dropped = [each for each in (was.brokers if was else ()) if each not in replicas.brokers]
        told = tuple(each for each in replicas.brokers if each in self.brokers)
        stops = [StopReplica(where, each, delete=True) for each in dropped if each in self.brokers]
        left = [
            StopReplica(where, each, delete=False)
            for each in replicas.brokers
            if each in self.leaving and each != known.leadership.leader
        ]
        return [LeaderAndIsr(where, told, known.leadership, replicas), *left, *stops]


def touched(writes: Writes) -> dict[str, None]:
    """Paths whose znodes are to be read again after a step that was not committed."""
    found: dict[str, None] = {}
    for write in writes:
        match write:
            case PutState(where):
                found[paths.state(where)] = None
            case PutTopic(name):
                found[paths.topic(name)] = None
            case DropTopic(name):
                found |= {paths.topic(name): None, paths.DELETE_TOPICS: None}
            case DropDeletion():
                found[paths.DELETE_TOPICS] = None
            case PutMoves():
                found[paths.REASSIGN_PARTITIONS] = None
            case DropPreferred():
                found[paths.PREFERRED_ELECTION] = None
    return found
