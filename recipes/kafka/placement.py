"""Which brokers get the replicas of a new topic: Kafka's round robin, aware of racks.

Pure; brokers in, replicas by partition out.  The first replica of partition p is on broker
(start + p) mod n; the others follow at a distance, which grows by one each time the
first ones have gone round, so that not the same brokers always share their partitions.  With racks,
brokers are first listed in turn by rack, and a replica passes over racks that have one
already, as long as another has none (Kafka's `AdminUtils`).
"""

import random
from collections.abc import Iterable, Mapping, Sequence

Assignment = dict[int, tuple[int, ...]]


class PlacementError(ValueError):
    """These replicas cannot be placed on these brokers."""


def place_replicas(
    racks: Mapping[int, str | None],
    partitions: int,
    copies: int,
    *,
    start: int,
    shift: int | None = None,
    first_partition: int = 0,
) -> Assignment:
    """Replicas of `partitions` new partitions, the preferred leader first.

    `racks` are the brokers and the rack of each: of all or of none.  `start` is the broker, by
    its place in the list, that leads partition 0, `shift` the distance to the second replica; Kafka
    draws both (see `draw_start`).  `first_partition` is where a topic that grows goes on.
    """
    _check(racks, partitions, copies)
    brokers = alternate(racks) if None not in racks.values() else sorted(racks)
    step = start if shift is None else shift
    placed: Assignment = {}
    for number in range(first_partition, first_partition + partitions):
        if number and number % len(brokers) == 0:
            step += 1
        placed[number] = _place(brokers, racks, (number + start) % len(brokers), step, copies)
    return placed


def draw_start(racks: Mapping[int, str | None], dice: random.Random) -> tuple[int, int]:
    """`start` and `shift` for a new topic."""
    return dice.randrange(len(racks)), dice.randrange(len(racks))


def _check(racks: Mapping[int, str | None], partitions: int, copies: int) -> None:
    if partitions < 1 or copies < 1:
        raise PlacementError(f"{partitions} partitions of {copies} replicas: at least 1 of each")
    if copies > len(racks):
        raise PlacementError(f"{copies} replicas, but {len(racks)} brokers")
    missing = sorted(broker for broker, rack in racks.items() if rack is None)
    if missing and len(missing) < len(racks):
        raise PlacementError(f"no rack is known of {missing}, but of others it is")


def _place(
    brokers: Sequence[int], racks: Mapping[int, str | None], first: int, shift: int, copies: int
) -> tuple[int, ...]:
    count = len({rack for rack in racks.values() if rack is not None})
    chosen = [brokers[first]]
    for number in range(len(brokers) * copies):
        if len(chosen) == copies:
            break
        broker = brokers[_follow(first, shift * max(count, 1), number, len(brokers))]
        if not count or _fits(broker, chosen, racks, count):
            chosen.append(broker)
    assert len(chosen) == copies == len(set(chosen)), (brokers, chosen)
    return tuple(chosen)


def _follow(first: int, shift: int, number: int, brokers: int) -> int:
    """Never `first` itself: it goes round among the others."""
    return (first + 1 + (shift + number) % (brokers - 1)) % brokers if brokers > 1 else first


def _fits(broker: int, chosen: Sequence[int], racks: Mapping[int, str | None], count: int) -> bool:
    used = {racks[each] for each in chosen}
    return broker not in chosen and (racks[broker] not in used or len(used) == count)


def alternate(racks: Mapping[int, str | None]) -> list[int]:
    """Brokers of the racks in turn: 0, 3, 6, 1, 4, 7 where racks hold 0 to 2, 3 to 5, 6 to 8."""
    rows = [_brokers_of(racks, rack) for rack in sorted(set(racks.values()), key=str)]
    longest = max(map(len, rows))
    return [row[i] for i in range(longest) for row in rows if i < len(row)]


def _brokers_of(racks: Mapping[int, str | None], rack: str | None) -> list[int]:
    return sorted(broker for broker, where in racks.items() if where == rack)


def check_manual(assignment: Mapping[int, Sequence[int]], known: Iterable[int] = ()) -> None:
    """Kafka's rules for replicas that were named by hand; PlacementError says which is broken."""
    if sorted(assignment) != list(range(len(assignment))) or not assignment:
        raise PlacementError("partitions are to be numbered from 0, without a gap")
    if len({len(brokers) for brokers in assignment.values()}) > 1:
        raise PlacementError("all partitions are to have as many replicas")
    for number, brokers in assignment.items():
        if not brokers or len(set(brokers)) < len(brokers) or min(brokers) < 0:
            raise PlacementError(f"partition {number}: replicas {list(brokers)}")
    unknown = sorted({each for brokers in assignment.values() for each in brokers} - set(known))
    if unknown and known:
        raise PlacementError(f"no such brokers: {unknown}")
