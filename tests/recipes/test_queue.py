"""Queue: each item done once, whatever breaks; late ends refused; nothing left behind."""

import contextlib
import threading
from collections.abc import Callable
from itertools import count
from random import Random
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
from recipes.once import LARGEST, Once
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
from tests.recipes.conftest import Connect, MakeProxy, Spawn
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
    with pytest.raises(ValueError, match="one request"):
        Queue(queue.client, f"{root}/{'long' * 50}").put_all([b""] * 3000)
    with pytest.raises(ValueError, match="once"):
        Queue(queue.client, root, attempts=0)


def test_the_largest_value(connect: Connect, root: str) -> None:
    """What can be put can be claimed, which takes a larger request."""
    queue = Queue(connect(), root)
    queue.put(b"x" * (MOST_BYTES - OVERHEAD - len(root)))
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
    assert states == [HoldState.HELD, HoldState.RELEASED]


def test_too_much_in_the_same_multi(connect: Connect, root: str) -> None:
    """A server would close the connection on it, again and again."""
    queue = Queue(connect(), root)
    queue.put(b"x")
    item = queue.take(LIMIT_S)
    for size in (LARGEST, 10 * LARGEST):
        with pytest.raises(ValueError, match="one request"):
            item.done(lambda writes: writes.create(f"{root}/sent", b"x" * size))  # noqa: B023
    assert item.state is HoldState.HELD
    item.done(lambda writes: writes.create(f"{root}/sent", b"x" * (LARGEST - 500)))


def test_a_put_within_done(connect: Connect, root: str) -> None:
    """Of the same object it would wait for itself."""
    queue, other = Queue(connect(), root), Queue(connect(), root)
    queue.put(b"x")
    item = queue.take(LIMIT_S)
    with pytest.raises(RuntimeError, match="another multi"):
        item.done(lambda writes: queue.put(b"y"))
    assert item.state is HoldState.HELD
    item.done(lambda writes: other.put(b"z"))
    queue.put(b"y")
    assert [queue.take(LIMIT_S).value for _ in range(2)] == [b"z", b"y"]


def test_a_put_waits_for_another_within_its_time(
    connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    queue = Queue(connect(proxy.hosts), root)
    fault = proxy.arm(Fault(1, do=Link.refuse))
    first = spawn(queue.put, b"first")
    fault.wait()
    with pytest.raises(TimeUp):
        spawn(lambda: queue.put(b"second", timeout=0.05)).result(LIMIT_S)
    assert not first.done()
    proxy.admit()
    first.result(LIMIT_S)
    assert queue.size() == 1


def test_a_block_that_cannot_end_releases(
    connect: Connect, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, other = Queue(connect(), root), Queue(connect(), root)
    queue.put(b"x")

    def commit(*ignored: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(queue._once, "commit", commit)
    with pytest.raises(KeyboardInterrupt), queue.take(LIMIT_S):
        pass
    assert other.take(0).token == 2


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


def test_what_is_worked_on_is_not_buried(connect: Connect, root: str) -> None:
    """Also by one who saw that it was free."""
    queue, late = (Queue(connect(), root, attempts=2) for _ in range(2))
    queue.put(b"x")
    queue.take(LIMIT_S).release()
    items: list[Item] = []
    look = late._free

    def look_then_another_takes(wait: Wait, watch: bool) -> list[str]:
        found = look(wait, watch)
        items.append(queue.take(LIMIT_S))
        return found

    late._free = look_then_another_takes  # type: ignore[method-assign]
    with pytest.raises(TimeUp):
        late.take(0)
    assert nodes(queue.client, root, "dead") == []
    items[0].done()


def test_a_name_that_is_among_the_dead_already(connect: Connect, root: str) -> None:
    """Numbers begin anew with the directory; the item must not stay at the head for ever."""
    queue = Queue(connect(), root, attempts=1)
    queue.put_all([b"again", b"next"])
    item = queue.take(LIMIT_S)
    queue.client.create(f"{root}/dead/{item.name}", b"old", makepath=True)
    item.release()
    assert queue.take(0).value == b"next"
    buried = sorted(nodes(queue.client, root, "dead"))
    assert [queue.client.get(f"{root}/dead/{each}")[0] for each in buried] == [b"old", b"again"]
    assert buried[1].startswith(f"{item.name}-")


def test_several_takers_with_one_attempt(connect: Connect, root: str, spawn: Spawn) -> None:
    """Nobody's is buried while it is worked on."""
    queues = [Queue(connect(), root, attempts=1) for _ in range(3)]

    def work(queue: Queue) -> int:
        done = 0
        with contextlib.suppress(TimeUp):
            while True:
                with queue.take(0):
                    queue.size()
                done += 1
        return done

    queues[0].put_all([b"x"] * 60)
    working = [spawn(work, queue) for queue in queues]
    assert sum(each.result(LIMIT_S) for each in working) == 60
    assert queues[0]._children(Wait(queues[0].client), "dead") == []


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


def wait_for_the_first(proxy: FaultProxy, root: str, since: int = 0) -> None:
    """Until it has found its turn in line, and has the watches on the queue."""
    paths = [f"{root}/{each}" for each in ("takers", "entries", "taken")]
    proxy.wait_until(
        lambda seen: [each.path for each in seen[since:] if each.path in paths][-3:] == paths
    )


def test_only_the_first_in_line_looks(
    connect: Connect, make_proxy: MakeProxy, root: str, spawn: Spawn
) -> None:
    putter = Queue(connect(), root)
    putter._prepare(Wait(putter.client))
    front, back = make_proxy(), make_proxy()
    first, second = (Queue(connect(each.hosts), root) for each in (front, back))
    waiting = spawn(first.take)
    wait_for_the_first(front, root)
    behind = spawn(second.take)
    back.wait_until(lambda seen: [each.operation for each in seen[-2:]] == ["get_children", "get"])
    # The watches are there once the answers are.
    until(lambda: all(each.answered == len(each.seen) for each in (front, back)))
    looks, waits_at = len(front.seen), len(back.seen)
    # Nothing that could be taken, but a change.
    putter.client.create(f"{root}/taken/foreign")
    front.wait_until(lambda seen: len(seen) == looks + 2)
    second.client.sync("/")
    assert [each.operation for each in back.seen[waits_at:]] == ["sync"]
    putter.put(b"1")
    # It comes first, and lists once its turn has come.
    item = waiting.result(LIMIT_S)
    back.wait_until(lambda seen: len(seen) == waits_at + 4)
    item.release()
    assert behind.result(LIMIT_S).token == 2


@pytest.mark.parametrize("by", ["its session's end", "an operator"])
def test_the_first_in_line_takes_a_new_place(
    by: str, connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    """Else there would be two who think that they are the first."""
    putter, queue = Queue(connect(), root), Queue(connect(proxy.hosts), root)
    putter._prepare(Wait(putter.client))
    waiting = spawn(queue.take)
    wait_for_the_first(proxy, root)
    (place,) = nodes(putter.client, root, "takers")
    seen = len(proxy.seen)
    if by == "an operator":
        putter.client.delete(f"{root}/takers/{place}")
    else:
        proxy.expire()
    until(lambda: nodes(putter.client, root, "takers") not in ([], [place]))
    wait_for_the_first(proxy, root, seen)
    putter.put(b"x")
    assert waiting.result(LIMIT_S).token == 1


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


def test_kazoos_too_large_value(
    connect: Connect, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot be written once more; those behind it are taken."""
    ours, theirs = Queue(connect(), root), LockingQueue(connect(), root)
    theirs.put(b"x" * LARGEST)
    with pytest.raises(TimeUp):
        ours.take(0)
    theirs.put(b"small")
    ours.take(LIMIT_S).done()
    assert caplog.text.count("too large to be taken") == 1
    assert theirs.get(LIMIT_S) == b"x" * LARGEST


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


def test_the_owner_is_told_while_done_waits(
    connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    states: list[HoldState] = []
    queue = Queue(connect(proxy.hosts), root)
    queue.put(b"x")
    item = queue.take(LIMIT_S, on_change=states.append)
    proxy.arm(Fault(1, do=Link.refuse))
    ending = spawn(item.done)
    until(lambda: states == [HoldState.HELD, HoldState.SUSPENDED])
    assert not ending.done()
    proxy.admit()
    ending.result(LIMIT_S)
    # Its own end is not a loss.
    assert HoldState.LOST not in states
    assert states[-1] is HoldState.RELEASED


def test_the_owner_is_told_of_the_end_while_done_waits(
    connect: Connect, proxy: FaultProxy, root: str
) -> None:
    """In kazoo's thread, without regard to what becomes of `done`."""
    told_here: dict[HoldState, bool] = {}

    def on_change(state: HoldState) -> None:
        told_here[state] = threading.current_thread() is threading.main_thread()

    queue = Queue(connect(proxy.hosts), root)
    queue.put(b"x")
    item = queue.take(LIMIT_S, on_change=on_change)
    proxy.arm(Fault(1, do=Link.expire))
    lose(item)
    assert told_here == {
        HoldState.HELD: True,
        HoldState.SUSPENDED: False,
        HoldState.LOST: False,
    }


def lose(item: Item) -> None:
    with pytest.raises(ItemLostError):
        item.done()


@pytest.mark.parametrize("end", [lose, Item.release], ids=["done", "release"])
@pytest.mark.parametrize("edit", [True, False], ids=["set", "deleted"])
def test_an_entry_that_an_operator_changes(
    edit: bool, end: Callable[[Item], object], connect: Connect, root: str
) -> None:
    """The claim does not outlive it in a session that goes on."""
    queue, operator = Queue(connect(), root), connect()
    queue.put(b"x")
    item = queue.take(LIMIT_S)
    if edit:
        operator.set(f"{root}/entries/{item.name}", b"edited")
    else:
        operator.delete(f"{root}/entries/{item.name}")
    end(item)
    assert nodes(operator, root, "taken") == []
    if edit:
        assert queue.take(0).value == b"edited"


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


def test_what_is_given_up_may_be_anothers(connect: Connect, proxy: FaultProxy, root: str) -> None:
    """The claim never arrived; another's has the same token, and stays."""
    queue, other = Queue(connect(proxy.hosts), root), Queue(connect(), root)
    other.put(b"x")
    fault = proxy.arm(Fault(4, When.BEFORE, do=Link.refuse))
    with pytest.raises(TimeUp):
        queue.take(0.3)
    assert fault.seen is not None
    assert fault.seen.operation == "multi"
    item = other.take(LIMIT_S)
    proxy.admit()
    gone_back(queue)
    assert nodes(other.client, root, "taken") == [item.name]
    item.done()


def test_given_up_before_the_refusal_came(
    connect: Connect, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a short timeout, without any fault."""
    slow, quick = Queue(connect(), root), Queue(connect(), root)
    quick.put(b"x")
    claim, items = Item._claim, []

    def claim_too_late(self: Item, wait: Wait) -> bool:
        if self._queue is slow:
            items.append(quick.take(LIMIT_S))
            wait.cancel()
        return claim(self, wait)

    monkeypatch.setattr(Item, "_claim", claim_too_late)
    with pytest.raises(CancelledError):
        slow.take()
    gone_back(slow)
    assert nodes(quick.client, root, "taken") == [items[0].name]
    items[0].done()


@pytest.mark.parametrize("at", range(1, 5))
def test_another_claims_it_while_it_is_given_back(
    at: int, connect: Connect, proxy: FaultProxy, root: str
) -> None:
    """Between any two steps; an operator had taken the claim away."""
    queue, other, operator = Queue(connect(proxy.hosts), root), Queue(connect(), root), connect()
    queue.put(b"x")
    item = queue.take(LIMIT_S)
    others: list[Item] = []

    def another_claims(link: Link) -> None:
        operator.delete(f"{root}/taken/{item.name}")
        others.append(other.take(LIMIT_S))

    proxy.arm(Fault(at, do=another_claims, cut=False))
    item.release()
    assert nodes(operator, root, "taken") == [item.name]
    others[0].done()


def gone_back(queue: Queue) -> None:
    """What is given back in the background asks four times at most, one after the other."""
    for _ in range(4):
        surely(queue.client.sync, "/")


def test_takers_with_little_patience(connect: Connect, root: str, spawn: Spawn) -> None:
    """Their time is up at any moment; nobody loses an item by that.  (Slow machines: it grows.)"""
    queues = [Queue(connect(), root) for _ in range(4)]
    queues[0].put_all([b"x"] * 60)

    def work(queue: Queue, patience: Random) -> int:
        done, most_s = 0, 0.03
        while queue.size():
            most_s *= 1.02
            with contextlib.suppress(TimeUp), queue.take(patience.uniform(0.001, most_s)):
                queue.size()
                queue.size()
                done += 1
        return done

    working = [spawn(work, queue, Random(seed)) for seed, queue in enumerate(queues * 2)]
    assert sum(each.result(LIMIT_S) for each in working) == 60


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


def test_a_note_that_somebody_writes(connect: Connect, root: str) -> None:
    """Another takes its place; it does not stay until the session ends."""
    queue, other = Queue(connect(), root), connect()
    queue.put(b"x")
    (name,) = nodes(other, root, "notes")
    other.set(f"{root}/notes/{name}", b"")
    queue.put(b"y")
    assert queue.size() == 2
    until(lambda: len(nodes(other, root, "notes")) == 1)


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
