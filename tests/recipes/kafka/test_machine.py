"""The partition's machine, from every state that three brokers allow, to rest."""

from collections.abc import Iterator
from itertools import chain, combinations, permutations

import attrs
import pytest

from recipes.kafka.formats import NO_LEADER, Leadership, Replicas
from recipes.kafka.machine import (
    PARTITION_MOVES,
    REPLICA_MOVES,
    Partition,
    PartitionState,
    ReplicaState,
    Step,
    next_step,
    replica_state_of,
    start_move,
    state_of,
)

BROKERS = (1, 2, 3)
EPOCH = 9
MOST_STEPS = 6


def subsets(of: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(chain.from_iterable(combinations(of, size) for size in range(len(of) + 1)))


def every_replicas() -> Iterator[Replicas]:
    """At rest in two orders, and every move from some brokers to others."""
    for origin in [each for each in subsets(BROKERS) if each]:
        yield Replicas(origin)
        yield Replicas(origin[::-1])
        for target in chain.from_iterable(permutations(each) for each in subsets(BROKERS) if each):
            yield Replicas(origin).moved_to(target)


def every_leadership(replicas: Replicas) -> Iterator[Leadership | None]:
    yield None
    for isr in [each for each in subsets(replicas.brokers) if each]:
        for leader in (NO_LEADER, *isr):
            yield Leadership(leader, isr, leader_epoch=4, controller_epoch=3)


def every_partition() -> Iterator[Partition]:
    alive = [(on, off) for on in subsets(BROKERS) for off in subsets(BROKERS) if not {*on} & {*off}]
    for replicas in dict.fromkeys(every_replicas()):
        for leadership in every_leadership(replicas):
            for online, leaving in alive:
                yield Partition(replicas, leadership, frozenset(online), frozenset(leaving))


PARTITIONS = list(every_partition())
VARIANTS = ["plain", "unclean", "prefer"]


def varied(partition: Partition, variant: str) -> Partition:
    return attrs.evolve(partition, unclean=variant == "unclean", prefer=variant == "prefer")


def applied(partition: Partition, step: Step) -> Partition:
    return attrs.evolve(
        partition,
        leadership=step.leadership or partition.leadership,
        replicas=step.replicas or partition.replicas,
    )


def run(partition: Partition) -> Iterator[tuple[Partition, Partition]]:
    """Before and after each step, to rest."""
    for _ in range(MOST_STEPS):
        step = next_step(partition, EPOCH)
        if step is None:
            return
        after = applied(partition, step)
        yield partition, after
        partition = after
    pytest.fail(f"never at rest: {partition}")


def rest(partition: Partition) -> Partition:
    return ([partition] + [after for _, after in run(partition)])[-1]


def test_there_are_enough() -> None:
    assert len(PARTITIONS) > 10_000


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_step_is_sound(variant: str) -> None:
    for start in PARTITIONS:
        for before, after in run(varied(start, variant)):
            check_step(before, after)


def check_step(before: Partition, after: Partition) -> None:
    was, now = before.leadership, after.leadership
    assert now is not None and now.isr, (before, after)
    assert now.controller_epoch == EPOCH
    assert set(now.isr) <= set(after.replicas.brokers)
    if now.leader != NO_LEADER:
        assert now.leader in now.isr, (before, after)
        assert now.leader in after.online | after.leaving, (before, after)
    if was is not None:
        assert now.leader_epoch == was.leader_epoch + 1
        unclean = now.recovering and not was.recovering
        assert set(now.isr) <= set(was.isr) or (unclean and before.unclean)
        assert not unclean or not before.online & set(was.isr)
    else:
        assert now.leader_epoch == 0
    assert state_of(after) in PARTITION_MOVES[state_of(before)]
    for broker in BROKERS:
        moved = replica_state_of(before, broker), replica_state_of(after, broker)
        assert moved[0] is moved[1] or is_legal(*moved), (broker, before, after)


def is_legal(before: ReplicaState, after: ReplicaState) -> bool:
    """A replica that a move drops goes through its deletion, which is not seen from here."""
    dropped = after is ReplicaState.NON_EXISTENT and before is not ReplicaState.NON_EXISTENT
    return dropped or after in REPLICA_MOVES[before]


@pytest.mark.parametrize("variant", VARIANTS)
def test_at_rest(variant: str) -> None:
    for start in PARTITIONS:
        check_rest(rest(varied(start, variant)))


def check_rest(end: Partition) -> None:
    """Whoever can lead does; nobody who is dead or about to leave is in the way."""
    state, known = state_of(end), end.leadership
    if state is PartitionState.NEW:
        assert not end.online & set(end.replicas.brokers)
        return
    assert known is not None
    if state is PartitionState.OFFLINE:
        assert known.leader == NO_LEADER
        assert not end.online & set(known.isr)
        assert not (end.unclean and end.online & set(end.replicas.brokers))
        return
    assert set(known.isr) <= end.online | {known.leader}
    if known.leader in end.leaving:
        assert not end.online & set(known.isr)
    if end.replicas.moving:
        assert not set(end.replicas.target) <= set(known.isr)
    elif end.prefer and end.replicas.brokers[0] in end.online & set(known.isr):
        assert known.leader == end.replicas.brokers[0]


def test_a_clean_election_loses_nothing() -> None:
    """As long as one of the ISR may return, nobody outside of it leads."""
    for start in PARTITIONS:
        end = rest(start)
        if start.leadership is not None and end.leadership is not None:
            assert end.leadership.leader in {NO_LEADER, *start.leadership.isr}
            assert not end.leadership.recovering


def test_what_is_deleted_is_left_alone() -> None:
    for start in PARTITIONS[::7]:
        assert next_step(attrs.evolve(start, deleting=True), EPOCH) is None


# --- moves -------------------------------------------------------------------------------


def every_target() -> list[tuple[int, ...]]:
    return list(chain.from_iterable(permutations(each) for each in subsets(BROKERS) if each))


def test_moves_start_sound_and_can_be_replaced() -> None:
    for start in [each for each in PARTITIONS if each.leadership and not each.leaving][::3]:
        for target in every_target():
            step = start_move(start, target, EPOCH)
            if step is not None:
                check_start(start, applied(start, step), target)


def check_start(before: Partition, after: Partition, target: tuple[int, ...]) -> None:
    was, now = before.leadership, after.leadership
    assert was is not None and now is not None
    assert after.replicas.target == target
    assert set(after.replicas.origin) == set(before.replicas.origin)
    assert now.leader_epoch == was.leader_epoch + 1
    assert now.isr and set(now.isr) == set(was.isr) & set(after.replicas.brokers)
    assert now.leader in {NO_LEADER, *now.isr}
    assert now.leader != NO_LEADER or was.leader == NO_LEADER


def test_the_last_replica_in_sync_is_not_dropped() -> None:
    """1 -> 2, 2 has caught up and 1 is dead: going back to 1 would lose what 2 alone has."""
    moving = Partition(Replicas((1,)).moved_to((2,)), Leadership(2, (2,)), frozenset([2]))
    assert start_move(moving, (1,), EPOCH) is None
    assert start_move(attrs.evolve(moving, leadership=Leadership(2, (1, 2))), (1,), EPOCH) is None
    both = attrs.evolve(moving, leadership=Leadership(2, (1, 2)), online=frozenset([1, 2]))
    assert start_move(both, (1,), EPOCH) == Step(Leadership(1, (1,), 1, EPOCH), Replicas((1,)))


def test_move_as_in_kafkas_comment() -> None:
    online = frozenset(range(1, 7))
    partition = Partition(Replicas((1, 2, 3)), Leadership(1, (1, 2, 3)), online)
    step = start_move(partition, (4, 5, 6), EPOCH)
    assert step is not None
    partition = applied(partition, step)
    assert partition.leadership == Leadership(1, (1, 2, 3), 1, EPOCH)
    assert next_step(partition, EPOCH) is None, "nobody has caught up"
    assert replica_state_of(partition, 4) is ReplicaState.NEW
    caught_up = attrs.evolve(partition.leadership, isr=(1, 2, 3, 4, 5, 6))
    end = rest(attrs.evolve(partition, leadership=caught_up))
    assert end.replicas == Replicas((4, 5, 6))
    assert end.leadership == Leadership(4, (4, 5, 6), 2, EPOCH)


def test_both_tables_are_kafkas() -> None:
    """Every state can be left, and is reached by something."""
    for moves in (PARTITION_MOVES, REPLICA_MOVES):
        reached = {state for following in moves.values() for state in following}
        assert all(moves.values()) and reached == set(moves)
