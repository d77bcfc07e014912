"""Counter: each addition once, whatever is lost."""

import threading
from collections.abc import Callable

import pytest
from kazoo.exceptions import ConnectionLoss

from recipes.base import Wait
from recipes.counter import Counter, UnknownOutcomeError
from tests.recipes.conftest import Connect, MakeProxy, Spawn
from tests.recipes.faults import LIMIT_S, Fault, FaultProxy, Link, When, until

WHEN = pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))


def test_add(connect: Connect, root: str) -> None:
    client = connect()
    counter = Counter(client, root, start=5)
    assert counter.value() == 5
    assert [counter.add(2), counter.add(-10)] == [7, -3]
    assert counter.value() == -3


def test_shared_with_kazoo(connect: Connect, root: str) -> None:
    client = connect()
    theirs = client.Counter(root)
    theirs += 3
    assert Counter(client, root).add(1) == 4
    assert theirs.value == 4


def test_many_at_once(connect: Connect, root: str, spawn: Spawn) -> None:
    def add(counter: Counter) -> list[int]:
        return [counter.add(1) for _ in range(20)]

    adding = [spawn(add, Counter(connect(), root)) for _ in range(4)]
    found = [number for each in adding for number in each.result(LIMIT_S)]
    assert sorted(found) == list(range(1, 81))


@WHEN
def test_a_cut_at_every_request(
    when: When, connect: Connect, make_proxy: MakeProxy, root: str
) -> None:
    client = connect()
    for at in range(1, 9):
        proxy, path = make_proxy(), f"{root}-{at}"
        counter = Counter(connect(proxy.hosts), path)
        fault = proxy.arm(Fault(at, when))
        assert [counter.add(1) for _ in range(3)] == [1, 2, 3]
        fault.wait()
        assert Counter(client, path).value() == 3


@WHEN
def test_expiry_at_every_request(
    when: When, connect: Connect, make_proxy: MakeProxy, root: str
) -> None:
    """Once, or not at all; and when it cannot be known, it is said so."""
    client = connect()
    unknown = 0
    for at in range(1, 9):
        proxy, path = make_proxy(), f"{root}-{at}"
        counter, sure, unsure = Counter(connect(proxy.hosts), path), 0, 0
        fault = proxy.arm(Fault(at, when, do=Link.expire))
        for _ in range(3):
            try:
                counter.add(1)
                sure += 1
            except UnknownOutcomeError:
                unsure += 1
        fault.wait()
        assert sure <= Counter(client, path).value() <= sure + unsure
        unknown += unsure
    # Two of these requests are additions.
    assert unknown == 2


def test_what_was_not_sent_when_the_session_ended_is_added_again(
    connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    client = connect(proxy.hosts)
    counter = Counter(client, root)
    assert counter.add(1) == 1
    tried: list[int] = []
    try_once, is_cut_off = counter._try, threading.Event()

    def break_first(wait: Wait, value: int, version: int) -> bool:
        if not tried:
            proxy.refuse()
            proxy.expire()
            until(lambda: not client.connected)
            is_cut_off.set()
        tried.append(value)
        return try_once(wait, value, version)

    counter._try = break_first  # type: ignore[method-assign]
    added = spawn(counter.add, 1)
    assert is_cut_off.wait(LIMIT_S)
    until(lambda: client._queue)
    proxy.admit()
    assert added.result(LIMIT_S) == 2
    assert tried == [2, 2]


def test_only_whole_numbers(connect: Connect, root: str) -> None:
    """Another would be read by nobody any more."""
    counter = Counter(connect(), root)
    with pytest.raises(TypeError, match="whole"):
        counter.add(0.5)  # type: ignore[arg-type]
    assert counter.add(1) == 1


def test_close(connect: Connect, root: str) -> None:
    client = connect()
    counter = Counter(client, root)
    counter.close()
    assert counter.add(1) == 1
    counter.close()
    until(lambda: client.get_children(root) == [])
    assert counter.add(1) == 2


def test_kazoos_counts_twice(connect: Connect, proxy: FaultProxy, root: str) -> None:
    """Why there is one of our own."""
    counter = connect(proxy.hosts).Counter(root)
    counter += 1
    proxy.arm(Fault(2, When.AFTER))
    counter += 1
    assert retried(lambda: counter.value) == 3


def retried(call: Callable[[], int]) -> int:
    while True:
        try:
            return call()
        except ConnectionLoss:
            continue
