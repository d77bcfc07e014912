"""The state machines of one partition and of one replica, as Kafka's controller has them.

Pure.  A `Partition` is what a controller knows of one; `next_step` says what to write next, or None
where it is at rest; one write after the other leads to rest in a few steps, from every state.
There is no state kept beside the znodes: `state_of` and `replica_state_of` read it off them, so a
controller that takes over in the middle goes on where the last one stopped.

    partition   NON_EXISTENT -> NEW -> ONLINE <-> OFFLINE -> NON_EXISTENT
    replica     NON_EXISTENT -> NEW -> ONLINE <-> OFFLINE -> DELETION_STARTED
                -> DELETION_SUCCESSFUL -> NON_EXISTENT, or DELETION_INELIGIBLE -> OFFLINE

What a step keeps true: a leader is alive and in the ISR, or there is none (-1); the ISR is part of
the replicas; it shrinks here, never to nothing, and never grows, which is for the leader to do; the
leader epoch grows with each write.

One decision differs from Kafka's.  Where all of the ISR is dead, Kafka takes the dead out of it,
down to one; here they all stay in it, for all have what was committed, and the first one that
returns can lead.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from recipes.kafka.formats import NO_LEADER, Leadership, Replicas


class PartitionState(enum.Enum):
    NON_EXISTENT = enum.auto()
    """Never created, or deleted, or about to be."""
    NEW = enum.auto()
    """It has replicas, but never had a leader."""
    ONLINE = enum.auto()
    OFFLINE = enum.auto()
    """Its leader is dead."""


class ReplicaState(enum.Enum):
    NON_EXISTENT = enum.auto()
    NEW = enum.auto()
    """To be added by a move, and not in sync yet."""
    ONLINE = enum.auto()
    OFFLINE = enum.auto()
    """Its broker is dead, or leaves."""
    DELETION_STARTED = enum.auto()
    DELETION_SUCCESSFUL = enum.auto()
    DELETION_INELIGIBLE = enum.auto()
    """Its broker died before it deleted the replica: wait for it."""


PARTITION_MOVES: Final[Mapping[PartitionState, frozenset[PartitionState]]] = {
    PartitionState.NON_EXISTENT: frozenset([PartitionState.NEW]),
    PartitionState.NEW: frozenset([PartitionState.ONLINE, PartitionState.OFFLINE]),
    PartitionState.ONLINE: frozenset([PartitionState.ONLINE, PartitionState.OFFLINE]),
    PartitionState.OFFLINE: frozenset(
        [PartitionState.ONLINE, PartitionState.OFFLINE, PartitionState.NON_EXISTENT]
    ),
}
"""What may follow a state (Kafka's `PartitionState.validPreviousStates`, turned round)."""

REPLICA_MOVES: Final[Mapping[ReplicaState, frozenset[ReplicaState]]] = {
    ReplicaState.NON_EXISTENT: frozenset([ReplicaState.NEW]),
    ReplicaState.NEW: frozenset([ReplicaState.ONLINE, ReplicaState.OFFLINE]),
    ReplicaState.ONLINE: frozenset([ReplicaState.ONLINE, ReplicaState.OFFLINE]),
    ReplicaState.OFFLINE: frozenset(
        [
            ReplicaState.ONLINE,
            ReplicaState.OFFLINE,
            ReplicaState.DELETION_STARTED,
            ReplicaState.DELETION_INELIGIBLE,
        ]
    ),
    ReplicaState.DELETION_STARTED: frozenset(
        [ReplicaState.DELETION_SUCCESSFUL, ReplicaState.DELETION_INELIGIBLE]
    ),
    ReplicaState.DELETION_SUCCESSFUL: frozenset([ReplicaState.NON_EXISTENT]),
    ReplicaState.DELETION_INELIGIBLE: frozenset([ReplicaState.ONLINE, ReplicaState.OFFLINE]),
}


@attrs.frozen
class Partition:
    """All that decides about one partition."""

    replicas: Replicas
    leadership: Leadership | None
    """None before the first election."""
    online: frozenset[int]
    """Brokers that are alive and stay."""
    leaving: frozenset[int] = frozenset()
    """Brokers in a controlled shutdown: alive, but not to lead what another can lead."""
    unclean: bool = False
    """Whether a replica that is not in sync may lead, where no other can: records are lost."""
    prefer: bool = False
    """Whether the first replica is to lead, now that it can."""
    deleting: bool = False


@attrs.frozen
class Step:
    """What to write, at once: the leadership, the replicas, or both."""

    leadership: Leadership | None = None
    replicas: Replicas | None = None


def state_of(partition: Partition) -> PartitionState:
    if partition.deleting:
        return PartitionState.NON_EXISTENT
    if partition.leadership is None:
        return PartitionState.NEW
    led = partition.leadership.leader in partition.online | partition.leaving
    return PartitionState.ONLINE if led else PartitionState.OFFLINE


def replica_state_of(partition: Partition, broker: int) -> ReplicaState:
    """Of a replica that is not being deleted."""
    if broker not in partition.replicas.brokers:
        return ReplicaState.NON_EXISTENT
    if broker not in partition.online:
        return ReplicaState.OFFLINE
    isr = partition.leadership.isr if partition.leadership else ()
    fresh = broker in partition.replicas.adding and broker not in isr
    return ReplicaState.NEW if fresh else ReplicaState.ONLINE


# --- what to write next ---------------------------------------------------------------


def next_step(partition: Partition, controller_epoch: int) -> Step | None:
    """None: at rest, until brokers, replicas, the ISR or what is asked for change."""
    state = state_of(partition)
    if state is PartitionState.NON_EXISTENT:
        return None
    if state is PartitionState.NEW:
        return _start(partition, controller_epoch)
    assert partition.leadership is not None
    if state is PartitionState.OFFLINE:
        decided = _elect_offline(partition, partition.leadership)
        return _led(partition.leadership, decided, controller_epoch)
    for decide in (_hand_over, _shrink_isr):
        decided = decide(partition, partition.leadership)
        if decided is not None:
            return _led(partition.leadership, decided, controller_epoch)
    if partition.replicas.moving:
        return _finish_move(partition, partition.leadership, controller_epoch)
    decided = _elect_preferred(partition, partition.leadership)
    return _led(partition.leadership, decided, controller_epoch)


def _led(before: Leadership, decided: Leadership | None, controller_epoch: int) -> Step | None:
    return None if decided is None else Step(_next_epoch(before, decided, controller_epoch))


def _next_epoch(before: Leadership, decided: Leadership, controller_epoch: int) -> Leadership:
    leader_epoch = before.leader_epoch + 1
    return attrs.evolve(decided, leader_epoch=leader_epoch, controller_epoch=controller_epoch)


def _start(partition: Partition, controller_epoch: int) -> Step | None:
    """The first leader: the first replica that is alive; all that are alive are in sync."""
    alive = tuple(each for each in partition.replicas.brokers if each in partition.online)
    return Step(Leadership(alive[0], alive, 0, controller_epoch)) if alive else None


def _elect_offline(partition: Partition, before: Leadership) -> Leadership | None:
    isr = tuple(each for each in before.isr if each in partition.online)
    leader = first(partition.replicas.brokers, isr)
    if leader is not None:
        return attrs.evolve(before, leader=leader, isr=isr)
    leader = first(partition.replicas.brokers, partition.online) if partition.unclean else None
    if leader is not None:
        return attrs.evolve(before, leader=leader, isr=(leader,), recovering=True)
    return attrs.evolve(before, leader=NO_LEADER) if before.leader != NO_LEADER else None


def _hand_over(partition: Partition, before: Leadership) -> Leadership | None:
    """The leader is about to leave: another one in sync leads, if there is one."""
    if before.leader not in partition.leaving:
        return None
    isr = tuple(each for each in before.isr if each in partition.online)
    leader = first(partition.replicas.brokers, isr)
    return None if leader is None else attrs.evolve(before, leader=leader, isr=isr)


def _shrink_isr(partition: Partition, before: Leadership) -> Leadership | None:
    """Who is dead or leaves is out of sync soon; to say so at once saves producers the wait."""
    stays = partition.online | {before.leader}
    isr = tuple(each for each in before.isr if each in stays)
    return attrs.evolve(before, isr=isr) if isr and isr != before.isr else None


def _elect_preferred(partition: Partition, before: Leadership) -> Leadership | None:
    able = partition.online & frozenset(before.isr)
    preferred = first(partition.replicas.brokers[:1], able) if partition.prefer else None
    return None if preferred in (None, before.leader) else attrs.evolve(before, leader=preferred)


# --- moves ---------------------------------------------------------------------------------


def start_move(partition: Partition, target: Sequence[int], controller_epoch: int) -> Step | None:
    """Replicas of origin and target together, and a new leader epoch, so that brokers take note.

    A move that replaces another one drops brokers that only the other one wanted.  None, for now,
    where that would drop the last replica in sync, or all that could lead.
    """
    replicas = partition.replicas.moved_to(target)
    before = partition.leadership
    if before is None:
        return Step(replicas=replicas)
    isr = tuple(each for each in before.isr if each in replicas.brokers)
    leader = before.leader if before.leader in isr else first(isr, partition.online)
    if before.leader == NO_LEADER and isr == before.isr:
        leader = NO_LEADER
    if leader is None:
        return None
    decided = attrs.evolve(before, leader=leader, isr=isr)
    return Step(_next_epoch(before, decided, controller_epoch), replicas)


def _finish_move(partition: Partition, before: Leadership, controller_epoch: int) -> Step | None:
    """Once all of the target is in sync: leader, ISR and replicas are the target's, in one write.

    Kafka writes these one after the other, and goes on after a crash from where it was; in one
    transaction there is nothing in between.
    """
    target = partition.replicas.target
    if not set(target) <= set(before.isr):
        return None
    isr = tuple(each for each in before.isr if each in target)
    able = [each for each in target if each in partition.online]
    leader = before.leader if before.leader in isr else first(able, isr)
    if leader is None:
        return None
    decided = attrs.evolve(before, leader=leader, isr=isr)
    return Step(_next_epoch(before, decided, controller_epoch), Replicas(target))


def first(ordered: Iterable[int], among: Iterable[int]) -> int | None:
    """The first of `ordered` that is among the others."""
    wanted = frozenset(among)
    return next((each for each in ordered if each in wanted), None)
