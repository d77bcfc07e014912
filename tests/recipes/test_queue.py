"""Queue: each item done once, whatever breaks; late ends refused; nothing left behind."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kazoo.client import KazooClient
from kazoo.exceptions import CancelledError, NodeExistsError
from kazoo.recipe.queue import LockingQueue
from kazoo.recipe.queue import Queue as KazoosQueue

from recipes.base import Wait
from recipes.locks.hold import Hold
from recipes.once import Once
from recipes.queue import (
    MOST_BYTES,
    OVERHEAD,
    HoldState,
    Item,
    ItemLostError,
    Queue,
    TimeUp,
    UnknownOutcomeError,
    free_entries,
)
from tests.recipes.conftest import Connect, Spawn
from tests.recipes.faults import (
    LIMIT_S,
    Fault,
    FaultProxy,
    Link,
    When,
    behind_shut_doors,
    meet_all,
    until,
)
from tests.recipes.locks.contest import surely
from tests.recipes.queuing import SCENARIOS, Ours, Shift
from zkpy.testing.realserver import RealServer

FAULTS = pytest.mark.parametrize("do", [None, Link.expire], ids=["cut", "expired"])
WHEN = pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))
SCENARIO = pytest.mark.parametrize("scenario", list(SCENARIOS))
LEAST = {"put": 8, "take": 34}
"""Requests that a play makes at least: up to the end of the last item."""


def nodes(client: KazooClient, path: str, *places: str) -> list[str]:
    return [each for place in places for each in client.get_children(f"{path}/{place}")]


def names(priority: int, numbers: range) -> list[str]:
    """As a server counts: in 32 bits, with a sign."""
    signed = [(number + (1 << 31)) % (1 << 32) - (1 << 31) for number in numbers]
    return [f"entry-{priority:03d}-{number:010d}" for number in signed]


# --- the decision ------------------------------------------------------------------------------


@given(st.data(), st.sampled_from([0, (1 << 31) - 2, (1 << 31) - 5, (1 << 32) - 2]))
def test_free_entries(data: st.DataObject, first: int) -> None:
    """By priority, then as they came, also when their number overflows."""
    in_order = [*names(5, range(first + 3, first + 6)), *names(100, range(first, first + 3))]
    taken = data.draw(st.sets(st.sampled_from(in_order)))
    entries = data.draw(st.permutations([*in_order, "entry-100-", "entry-7-0000000001", "foreign"]))
    assert free_entries(entries, taken) == [each for each in in_order if each not in taken]


# --- on a server ---------------------------------------------------------------------------------


def test_put_and_done(connect: Connect, root: str) -> None:
    queue, other = Queue(connect(), root), Queue(connect(), root)
    queue.put(b"a")
    queue.put_all([b"b", b"c"])
    queue.put(b"first", priority=5)
    assert other.size() == 4
    found = []
    for _ in range(4):
        with other.take(LIMIT_S) as item:
            found.append((item.value, item.priority, item.token))
    assert found == [(b"first", 5, 1), (b"a", 100, 1), (b"b", 100, 1), (b"c", 100, 1)]
    assert nodes(queue.client, root, "entries", "taken") == []
    for each in (queue, other):
        each.close()
    until(lambda: nodes(queue.client, root, "notes") == [])


def test_what_cannot_be_put(connect: Connect, root: str) -> None:
    queue = Queue(connect(), root)
    with pytest.raises(TypeError):
        queue.put("text")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="priority"):
        queue.put(b"", priority=1000)
    with pytest.raises(ValueError, match="one request"):
        queue.put_all([b"x" * 500_000] * 2)
    with pytest.raises(ValueError, match="once"):
        Queue(queue.client, root, attempts=0)


def test_the_largest_value(connect: Connect, root: str) -> None:
    """What can be put can be claimed, which takes a larger request."""
    queue = Queue(connect(), root)
    queue.put(b"x" * (MOST_BYTES - OVERHEAD))
    queue.take(LIMIT_S).done()
    assert queue.size() == 0


def test_one_owner_at_a_time(connect: Connect, root: str) -> None:
    queue = Queue(connect(), root)
    queue.put(b"x")
    item = queue.take(LIMIT_S)
    for limit_s in (0, 0.01):
        with pytest.raises(TimeUp):
            Queue(connect(), root).take(limit_s)
    item.release()
    assert item.state is HoldState.RELEASED
    with pytest.raises(ItemLostError):
        item.done()
    again = queue.take(0)
    assert (again.value, again.token) == (b"x", 2)
    again.done()
    with pytest.raises(ItemLostError):
        again.done()


def test_a_block_that_raises_releases(connect: Connect, root: str) -> None:
    queue = Queue(connect(), root)
    queue.put(b"x")
    with pytest.raises(KeyError), queue.take(LIMIT_S):
        raise KeyError
    assert queue.take(0).token == 2


def test_more_in_the_same_multi(connect: Connect, root: str) -> None:
    queue = Queue(connect(), root)
    queue.put_all([b"x", b"y"])
    with queue.take(LIMIT_S) as item:
        item.done(lambda writes: writes.create(f"{root}/sent"))
    assert queue.client.exists(f"{root}/sent")
    states: list[HoldState] = []
    item = queue.take(LIMIT_S, on_change=states.append)
    with pytest.raises(NodeExistsError):
        item.done(lambda writes: writes.create(f"{root}/sent"))
    assert item.state is HoldState.HELD
    item.done()
    assert states == [HoldState.HELD, HoldState.HELD, HoldState.RELEASED]


def test_a_taker_waits_and_is_cancelled(connect: Connect, root: str, spawn: Spawn) -> None:
    queue, other = Queue(connect(), root), Queue(connect(), root)
    waiting = spawn(queue.take)
    until(lambda: other.client.exists(f"{root}/takers"))
    other.put(b"x")
    waiting.result(LIMIT_S).done()
    waiting = spawn(queue.take)
    until(lambda: nodes(other.client, root, "takers"))
    queue.cancel()
    with pytest.raises(CancelledError):
        waiting.result(LIMIT_S)
    until(lambda: nodes(other.client, root, "takers") == [])


def test_takers_who_give_up_leave_no_watches(connect: Connect, root: str, spawn: Spawn) -> None:
    """As kazoo's do (its issue 175)."""
    queue, looks = Queue(connect(), root), count()
    look = queue._take_free

    def looked(*arguments: Any, **options: Any) -> Item | None:
        item = look(*arguments, **options)
        next(looks)
        return item

    queue._take_free = looked  # type: ignore[method-assign]
    for times in range(1, 4):
        waiting = spawn(queue.take)
        until(lambda: repr(looks) == f"count({2 * times})")  # noqa: B023
        queue.cancel()
        with pytest.raises(CancelledError):
            waiting.result(LIMIT_S)
    watches = queue.client._child_watchers
    assert [len(those) for those in watches.values()] == [1, 1]


def test_handed_out_in_vain_too_often(connect: Connect, root: str) -> None:
    queue = Queue(connect(), root, attempts=2)
    queue.put_all([b"bad", b"good"])
    for token in (1, 2):
        item = queue.take(LIMIT_S)
        assert (item.value, item.token) == (b"bad", token)
        item.release()
    assert queue.take(LIMIT_S).value == b"good"
    (dead,) = nodes(queue.client, root, "dead")
    assert queue.client.get(f"{root}/dead/{dead}")[0] == b"bad"
    assert queue.size() == 1


def test_many_takers(connect: Connect, root: str, spawn: Spawn) -> None:
    """In threads of few objects: each item once, and no herd."""
    queues = [Queue(connect(), root) for _ in range(3)]
    found: list[bytes] = []

    def work(queue: Queue) -> None:
        while True:
            with queue.take(LIMIT_S) as item:
                found.append(item.value)

    values = [b"%d" % number for number in range(60)]
    working = [spawn(work, queue) for queue in queues for _ in range(3)]
    putting = [spawn(queues[0].put_all, values[:20])]
    putting += [spawn(queues[1].put, value) for value in values[20:]]
    for each in putting:
        each.result(LIMIT_S)
    until(lambda: queues[0].size() == 0)

    def have_ended() -> bool:
        for queue in queues:
            queue.cancel()
        return all(each.done() for each in working)

    until(have_ended)
    assert all(isinstance(each.exception(), CancelledError) for each in working)
    assert sorted(found) == sorted(values)
    client = queues[0].client
    until(lambda: nodes(client, root, "taken", "takers") == [])


def test_only_the_first_in_line_looks(
    connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    first, second = Queue(connect(), root), Queue(connect(proxy.hosts), root)
    putter = Queue(connect(), root)
    waiting = spawn(first.take)
    until(lambda: putter.client.exists(f"{root}/takers") and nodes(putter.client, root, "takers"))
    behind = spawn(second.take)
    proxy.wait_until(lambda seen: [each.operation for each in seen[-2:]] == ["get_children", "get"])
    waits_at = len(proxy.seen)
    putter.put(b"1")
    # It comes first, and lists once its turn has come.
    item = waiting.result(LIMIT_S)
    proxy.wait_until(lambda seen: len(seen) == waits_at + 3)
    item.release()
    assert behind.result(LIMIT_S).token == 2


# --- beside kazoo --------------------------------------------------------------------------------


def test_shared_with_kazoos_locking_queue(connect: Connect, root: str) -> None:
    ours, theirs = Queue(connect(), root), LockingQueue(connect(), root)
    theirs.put(b"theirs", 7)
    ours.put(b"ours", 8)
    item = ours.take(LIMIT_S)
    assert item.value == b"theirs"
    assert theirs.get(LIMIT_S) == b"ours"
    with pytest.raises(TimeUp):
        ours.take(0)
    assert theirs.consume()
    item.done()
    assert nodes(ours.client, root, "entries", "taken") == []


def test_an_item_that_kazoos_has_is_not_ended_by_ours(connect: Connect, root: str) -> None:
    """kazoo's claims count nothing, and are told from ours by the version of the claim alone."""
    ours, theirs = Queue(connect(), root), LockingQueue(connect(), root)
    theirs.put(b"x")
    item = ours.take(LIMIT_S)
    make_deaf(item)
    theirs.client.delete(f"{root}/taken/{item.name}")
    assert theirs.get(LIMIT_S) == b"x"
    with pytest.raises(ItemLostError):
        item.done()
    assert theirs.consume()


def test_kazoos_too_large_value(connect: Connect, root: str) -> None:
    ours, theirs = Queue(connect(), root), LockingQueue(connect(), root)
    theirs.put(b"x" * (MOST_BYTES + 48_000))
    with pytest.raises(ValueError, match="one request"):
        ours.take(1)


def test_kazoos_queues_under_two_faults(connect: Connect, proxy: FaultProxy, root: str) -> None:
    """Why there is one of our own: an item lost, an item put twice (docs/recipes/queue.md has all
    that happens)."""
    client = connect(proxy.hosts)
    plain = KazoosQueue(client, f"{root}/plain")
    plain.put(b"x")
    proxy.arm(Fault(3, When.AFTER))
    assert plain.get() is None
    locking = LockingQueue(client, f"{root}/locking")
    assert len(locking) == 0
    proxy.arm(Fault(1, When.AFTER))
    surely(locking.put, b"x")
    assert surely(locking.__len__) == 2


# --- late ----------------------------------------------------------------------------------------


def make_deaf(item: Item) -> None:
    """It will not hear that it has lost the item; only the server can refuse it then."""
    item._hold.release()
    item._hold = Hold(item._client, item._taken, print)


def test_the_owner_is_told_at_once(connect: Connect, proxy: FaultProxy, root: str) -> None:
    states: list[HoldState] = []
    queue = Queue(connect(proxy.hosts), root)
    queue.put(b"x")
    item = queue.take(LIMIT_S, on_change=states.append)
    proxy.cut()
    until(lambda: states == [HoldState.HELD, HoldState.SUSPENDED, HoldState.HELD])
    proxy.expire()
    until(lambda: item.state is HoldState.LOST)
    assert states[3:] == [HoldState.SUSPENDED, HoldState.LOST]
    with pytest.raises(ItemLostError), item:
        pass
    assert queue.take(LIMIT_S).token == 2


@pytest.mark.parametrize("other_is_done", [False, True], ids=["held", "done"])
def test_a_late_end_is_refused(other_is_done: bool, connect: Connect, root: str) -> None:
    """Also by the server alone."""
    client = connect()
    slow, quick = Queue(connect(), root), Queue(client, root)
    quick.put(b"x")
    item = slow.take(LIMIT_S)
    make_deaf(item)
    client.delete(f"{root}/taken/{item.name}")
    again = quick.take(LIMIT_S)
    if other_is_done:
        again.done()
    with pytest.raises(ItemLostError):
        item.done(lambda writes: writes.create(f"{root}/late"))
    item._give_back()
    slow.client.sync("/")
    assert client.exists(f"{root}/late") is None
    assert len(nodes(client, root, "taken")) == (not other_is_done)
    if not other_is_done:
        again.done()


def test_a_session_that_ends_with_the_answer(
    connect: Connect, proxy: FaultProxy, root: str
) -> None:
    """Nobody can tell who did it; but that it is done."""
    queue = Queue(connect(proxy.hosts), root)
    queue.put_all([b"x", b"y"])
    for when, outcome in ((When.AFTER, UnknownOutcomeError), (When.BEFORE, ItemLostError)):
        queue.put(b"more")
        item = queue.take(LIMIT_S)
        proxy.arm(Fault(1, when, do=Link.expire))
        with pytest.raises(outcome):
            item.done()
    assert [queue.take(LIMIT_S).token for _ in range(3)] == [2, 1, 1]


def test_a_note_that_somebody_takes_away(connect: Connect, proxy: FaultProxy, root: str) -> None:
    """With the answer out nobody can tell; the item is not kept for that."""
    queue, other = Queue(connect(proxy.hosts), root), Queue(connect(), root)
    queue.put(b"x")
    item = queue.take(LIMIT_S)

    def take_away(link: Link) -> None:
        (name,) = nodes(other.client, root, "notes")
        other.client.delete(f"{root}/notes/{name}")

    proxy.arm(Fault(1, do=take_away))
    with pytest.raises(ItemLostError):
        item.done()
    assert item.state is HoldState.LOST
    other.take(LIMIT_S).done()
    queue.put(b"y")
    assert queue.take(LIMIT_S).value == b"y"


def test_given_up_while_the_claim_is_on_its_way(
    connect: Connect, proxy: FaultProxy, root: str
) -> None:
    """It is given back as soon as there is a connection, and the session goes on."""
    queue, other = Queue(connect(proxy.hosts), root), Queue(connect(), root)
    other.put(b"x")
    fault = proxy.arm(Fault(4, When.AFTER, do=Link.refuse))
    with pytest.raises(TimeUp):
        queue.take(0.3)
    assert fault.seen is not None
    assert fault.seen.operation == "multi"
    assert len(nodes(other.client, root, "taken")) == 1
    proxy.admit()
    assert other.take(LIMIT_S).token == 2


# --- once ----------------------------------------------------------------------------------------


def test_a_multi_that_was_given_up_does_not_come_late(
    connect: Connect, proxy: FaultProxy, root: str
) -> None:
    """The next one neither takes it for itself, nor lets it happen."""
    client = connect()
    once = Once(connect(proxy.hosts), f"{root}/notes")

    def make(name: str) -> Callable[..., object]:
        return lambda request: request.create(f"{root}/{name}")

    with Wait(once.client) as wait:
        once.commit(wait, make("a"))
    proxy.arm(Fault(1, When.AFTER, do=Link.refuse))
    with Wait(once.client, 0.3) as wait, pytest.raises(TimeUp):
        once.commit(wait, make("b"))
    proxy.admit()
    with Wait(once.client) as wait:
        assert once.commit(wait, make("c"))
    assert set(client.get_children(root)) == {"notes", "a", "b", "c"}
    until(lambda: len(nodes(client, root, "notes")) == 1)


# --- faults ------------------------------------------------------------------------------------

Play = Callable[[Fault], None]


@pytest.fixture
def play(scenario: str, server: RealServer, connect: Connect, proxy: FaultProxy, root: str) -> Play:
    """A shift with a victim and a place of its own; the rival comes through `proxy`, so that a
    restart can keep it waiting."""
    places = count()
    rival = connect(proxy.hosts)

    def perform(fault: Fault) -> None:
        with FaultProxy(server.port) as front:
            victim = connect(front.hosts)
            shift = Shift(Ours, rival, victim, front, f"{root}/{next(places)}", fault)
            outcome = shift.play(scenario)
            victim.stop()
            victim.close()
        assert outcome.harms == [], f"at request {fault.at}, {outcome.operation}"

    return perform


@FAULTS
@WHEN
@SCENARIO
def test_a_fault_at_every_request(
    scenario: str, when: When, do: Callable[[Link], None] | None, play: Play
) -> None:
    assert meet_all(play, lambda at: Fault(at, when, do=do), 60) >= LEAST[scenario]


@pytest.mark.slow
@WHEN
@SCENARIO
def test_the_server_restarts_at_every_request(
    scenario: str, when: When, play: Play, server: RealServer, proxy: FaultProxy
) -> None:
    restart = behind_shut_doors(proxy, server.restart)
    assert meet_all(play, lambda at: Fault(at, when, do=restart), 60) >= LEAST[scenario]
