"""Barrier and DoubleBarrier: together, and with a fault at every request of one member."""

import threading
from collections.abc import Callable

import pytest
from kazoo.client import KazooClient

from recipes.barriers import Barrier, DoubleBarrier
from recipes.base import Wait
from tests.recipes.conftest import Connect, MakeProxy, Spawn
from tests.recipes.faults import LIMIT_S, Fault, FaultProxy, Link, When, until

FAULTS = pytest.mark.parametrize("do", [None, Link.expire], ids=["cut", "expired"])
WHEN = pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))
Do = Callable[[Link], None] | None


def test_barrier(connect: Connect, root: str, spawn: Spawn) -> None:
    barrier, other = Barrier(connect(), root), Barrier(connect(), root)
    assert other.wait(LIMIT_S)
    barrier.put()
    barrier.put()
    assert not other.wait(0.05)
    waited = spawn(other.wait)
    barrier.lift()
    assert waited.result(LIMIT_S)
    barrier.lift()


@FAULTS
@WHEN
def test_barrier_with_a_fault_at_every_request(
    when: When, do: Do, connect: Connect, make_proxy: MakeProxy, root: str, spawn: Spawn
) -> None:
    client = connect()
    for at in (1, 2, 3):
        proxy, path = make_proxy(), f"{root}-{at}"
        Barrier(client, path).put()
        fault = proxy.arm(Fault(at, when, do=do))
        waited = spawn(Barrier(connect(proxy.hosts), path).wait)
        if at == 3:
            proxy.wait_until(lambda seen: len(seen) == 2)
            proxy.cut()
        fault.wait()
        Barrier(client, path).lift()
        assert waited.result(LIMIT_S)


def test_a_server_that_is_behind_is_asked_to_catch_up_first(
    make_proxy: MakeProxy, connect: Connect, root: str
) -> None:
    proxy = make_proxy()
    assert Barrier(connect(proxy.hosts), root).wait(LIMIT_S)
    assert [seen.operation for seen in proxy.seen] == ["sync", "get"]


def test_rounds(connect: Connect, root: str, spawn: Spawn) -> None:
    client, inside = connect(), []

    def take_part(barrier: DoubleBarrier) -> None:
        for number in range(3):
            assert barrier.enter()
            inside.append(number)
            assert barrier.leave()

    members = [DoubleBarrier(connect(), root, 4, str(i)) for i in range(4)]
    for each in [spawn(take_part, member) for member in members]:
        each.result(LIMIT_S)
    assert inside == sorted(inside)
    assert client.get_children(root) == []


def test_not_all_come(connect: Connect, root: str) -> None:
    client = connect()
    barrier = DoubleBarrier(client, root, 2)
    # Whether it comes to make it in that time is chance.
    client.ensure_path(root)
    assert not barrier.enter(0.05)
    assert client.get_children(root) == []
    with pytest.raises(ValueError, match="at least one"):
        DoubleBarrier(client, root, 0)


def test_not_all_leave(connect: Connect, root: str, spawn: Spawn) -> None:
    one, two = DoubleBarrier(connect(), root, 2), DoubleBarrier(connect(), root, 2)
    entered = spawn(one.enter)
    assert two.enter(LIMIT_S)
    assert entered.result(LIMIT_S)
    assert not one.leave(0.05)
    assert two.leave(LIMIT_S)


@FAULTS
@WHEN
def test_double_barrier_with_a_fault_at_every_request_of_entering(
    when: When, do: Do, connect: Connect, make_proxy: MakeProxy, root: str, spawn: Spawn
) -> None:
    """The victim waits for the other; sooner or later both are in, and both come out again."""
    other = connect()
    for at in range(1, 7):
        proxy, path = make_proxy(), f"{root}-{at}"
        other.ensure_path(path)
        fault = proxy.arm(Fault(at, when, do=do))
        victim = spawn(enter_and_leave, connect(proxy.hosts), path)
        fault.wait()
        until(lambda: len(other.get_children(path)) == 1)  # noqa: B023
        assert enter_and_leave(other, path)
        assert victim.result(LIMIT_S)
        assert other.get_children(path) == []


def enter_and_leave(client: KazooClient, path: str) -> bool:
    barrier = DoubleBarrier(client, path, 2)
    return barrier.enter(LIMIT_S) and barrier.leave(LIMIT_S)


@WHEN
def test_double_barrier_with_a_fault_at_every_request_of_leaving(
    when: When, connect: Connect, make_proxy: MakeProxy, root: str, spawn: Spawn
) -> None:
    other = connect()
    for at in range(1, 4):
        proxy, path = make_proxy(), f"{root}-{at}"
        one = DoubleBarrier(connect(proxy.hosts), path, 2)
        two = DoubleBarrier(other, path, 2)
        entered = spawn(one.enter)
        assert two.enter(LIMIT_S)
        assert entered.result(LIMIT_S)
        proxy.arm(Fault(at, when))
        left = spawn(one.leave)
        assert two.leave(LIMIT_S)
        assert left.result(LIMIT_S)
        until(lambda: other.get_children(path) == [])  # noqa: B023


def test_a_waiting_member_without_a_connection(
    connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    """kazoo's waits for ever: the watch went with the connection, the number was completed then."""
    victim = spawn(DoubleBarrier(connect(proxy.hosts), root, 2).enter)
    other = connect()
    until(lambda: other.exists(root) and len(other.get_children(root)) == 1)
    proxy.wait_until(lambda seen: sum(each.operation == "get_children" for each in seen))
    proxy.refuse()
    proxy.cut()
    assert DoubleBarrier(other, root, 2).enter(LIMIT_S)
    proxy.admit()
    assert victim.result(LIMIT_S)


def test_what_a_crash_has_left_lets_nobody_in(connect: Connect, root: str, spawn: Spawn) -> None:
    client, other = connect(), connect()
    assert DoubleBarrier(client, root, 1).enter(LIMIT_S)
    client.stop()
    assert other.get_children(root) == ["ready"]
    assert not DoubleBarrier(other, root, 2).enter(0.05)
    entered = spawn(DoubleBarrier(other, root, 2).enter)
    assert DoubleBarrier(connect(), root, 2).enter(LIMIT_S)
    assert entered.result(LIMIT_S)


def test_who_comes_while_others_are_in_waits_for_them(
    connect: Connect, root: str, spawn: Spawn
) -> None:
    """One of two has crashed, and comes anew."""
    crashed, other = connect(), connect()
    entered = spawn(DoubleBarrier(crashed, root, 2).enter)
    stays = DoubleBarrier(other, root, 2)
    assert stays.enter(LIMIT_S)
    assert entered.result(LIMIT_S)
    crashed.stop()
    again = DoubleBarrier(connect(), root, 2)
    assert not again.enter(0.05)
    entered = spawn(again.enter)
    assert stays.leave(LIMIT_S)
    assert stays.enter(LIMIT_S)
    assert entered.result(LIMIT_S)


def test_times_hold_without_a_connection(connect: Connect, proxy: FaultProxy, root: str) -> None:
    client, other = connect(proxy.hosts), connect()
    inside, waits = DoubleBarrier(client, f"{root}/1", 1), DoubleBarrier(client, f"{root}/2", 2)
    assert inside.enter(LIMIT_S)
    proxy.refuse()
    proxy.cut()
    until(lambda: not client.connected)
    assert not waits.enter(0.01)
    assert not inside.leave(0.01)
    proxy.admit()
    until(lambda: other.get_children(f"{root}/1") in ([], ["ready"]))


def test_who_has_not_entered_leaves(connect: Connect, root: str) -> None:
    client = connect()
    client.ensure_path(root)
    assert DoubleBarrier(client, root, 2).leave(LIMIT_S)
    assert client.exists(root)


def test_who_was_cut_off_before_it_stood_stands_as_soon_as_it_can(
    connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    """It has seen that the last round is over.  What it asks for without a connection is kept by
    kazoo, and answered with the next one: it would wait for a number that it does not count in."""
    client, other = connect(proxy.hosts), connect()
    barrier = DoubleBarrier(client, root, 2)
    stand, stood = barrier._stand, threading.Event()

    def stand_cut_off(wait: Wait) -> None:
        barrier._stand = stand  # type: ignore[method-assign]
        proxy.refuse()
        proxy.cut()
        until(lambda: not client.connected)
        try:
            stand(wait)
        finally:
            proxy.admit()
            stood.set()

    barrier._stand = stand_cut_off  # type: ignore[method-assign]
    entered = spawn(barrier.enter)
    assert stood.wait(LIMIT_S)
    assert DoubleBarrier(other, root, 2).enter(LIMIT_S)
    assert entered.result(LIMIT_S)
