"""Whose turn it is, in every queue of up to four contenders and at every overflow of the number."""

import itertools
from collections.abc import Iterator

import attrs
import pytest

from recipes.locks.names import CURATOR_LEASE, KAZOO, Role, contenders_of
from recipes.locks.turn import Behind, Gone, Mine, Turn, distance, has_lease, in_order, whose_turn

ALIVE_MAX = 4
JOINS_MAX = 6
LAST = 2**31 - 1
STARTS = [0, LAST - 2, -2, -(2**31)]


@attrs.frozen
class Queue:
    """What a path can look like: who stands there, in order of arrival."""

    numbers: tuple[int, ...]
    roles: tuple[Role, ...]
    next: int

    def names(self) -> list[str]:
        return [name_of(n, r) for n, r in zip(self.numbers, self.roles, strict=True)]

    def join(self, role: Role) -> "Queue":
        following = self.next + 1 if self.next < LAST else -(2**31)
        return Queue((*self.numbers, self.next), (*self.roles, role), following)

    def leave(self, at: int) -> "Queue":
        return attrs.evolve(
            self,
            numbers=self.numbers[:at] + self.numbers[at + 1 :],
            roles=self.roles[:at] + self.roles[at + 1 :],
        )


def name_of(number: int, role: Role) -> str:
    """The prefix is such that names in order of text are in no order of arrival."""
    prefix = f"{number * 2654435761 % 2**32:032x}"
    return f"{prefix}{KAZOO.marker_of(role)}{number:010d}"


def reachable(start: int) -> Iterator[Queue]:
    """Every queue that joins and leaves can lead to, each once."""
    seen: dict[Queue, None] = {}
    edge = [(Queue((), (), start), JOINS_MAX)]
    while edge:
        queue, joins = edge.pop()
        if queue in seen:
            continue
        seen[queue] = None
        edge += [(queue.leave(i), joins) for i in range(len(queue.numbers))]
        if joins and len(queue.numbers) < ALIVE_MAX:
            edge += [(queue.join(role), joins - 1) for role in Role]
    return iter(seen)


def turns_of(queue: Queue) -> list[Turn]:
    listed = sorted(queue.names())
    return [whose_turn(listed, name, KAZOO) for name in queue.names()]


@pytest.fixture(params=STARTS, ids=str)
def queues(request: pytest.FixtureRequest) -> list[Queue]:
    found = list(reachable(request.param))
    assert len(found) > 500
    return found


def test_a_writer_is_alone(queues: list[Queue]) -> None:
    for queue in queues:
        holders = [r for r, t in zip(queue.roles, turns_of(queue), strict=True) if t == Mine()]
        assert Role.WRITE not in holders or len(holders) == 1, queue


def test_those_who_hold_came_first_and_somebody_does(queues: list[Queue]) -> None:
    for queue in queues:
        holds = [turn == Mine() for turn in turns_of(queue)]
        assert holds == sorted(holds, reverse=True), queue
        assert any(holds) or not queue.numbers, queue


def test_whoever_can_hold_after_a_node_has_gone_watched_it(queues: list[Queue]) -> None:
    """And not more wake than that node was in the way of."""
    for queue in queues:
        before, names = turns_of(queue), queue.names()
        for i, name in enumerate(names):
            watchers = [j for j, turn in enumerate(before) if turn == Behind(name)]
            after = turns_of(queue.leave(i))
            after.insert(i, Gone())
            freed = [j for j, turn in enumerate(after) if turn == Mine() != before[j]]
            assert set(freed) <= set(watchers), queue
            readers = [j for j in watchers if queue.roles[j] is Role.READ]
            assert len(watchers) - len(readers) <= 1, queue


def test_nobody_waits_for_one_behind(queues: list[Queue]) -> None:
    for queue in queues:
        names = queue.names()
        for i, turn in enumerate(turns_of(queue)):
            assert not isinstance(turn, Behind) or names.index(turn.name) < i


def test_own_node_has_gone() -> None:
    assert whose_turn([name_of(1, Role.WRITE)], name_of(2, Role.WRITE), KAZOO) == Gone()


@pytest.mark.parametrize("start", STARTS)
def test_in_order_over_an_overflow(start: int) -> None:
    queue = Queue((), (), start)
    for _ in range(ALIVE_MAX):
        queue = queue.join(Role.WRITE)
    for listed in itertools.permutations(queue.names()):
        assert [each.name for each in in_order(contenders_of(listed, KAZOO))] == queue.names()
    assert in_order([]) == []


@pytest.mark.parametrize("leases", [1, 2, 3])
@pytest.mark.parametrize("start", STARTS)
def test_leases_go_to_the_first(start: int, leases: int) -> None:
    numbers = [(start + i + 2**31) % 2**32 - 2**31 for i in range(4)]
    names = [f"_c_x-lease-{number:010d}" for number in numbers]
    found = [has_lease(sorted(names), name, leases, CURATOR_LEASE) for name in names]
    assert found == [True] * leases + [False] * (4 - leases)
    assert has_lease(names[1:], names[0], leases, CURATOR_LEASE) is None


def test_distance() -> None:
    assert distance(1, 3) == 2
    assert distance(3, 1) == -2
    assert distance(LAST, -(2**31)) == 1
    assert distance(-(2**31), LAST) == -1
