"""Semaphore: so many at a time, in order, in Curator's layout."""

import pytest

from recipes.locks import Semaphore
from tests.recipes.conftest import Connect, MakeProxy, Spawn
from tests.recipes.faults import LIMIT_S, until_children


def test_so_many_at_a_time_in_order(connect: Connect, root: str, spawn: Spawn) -> None:
    client = connect()
    leases = [Semaphore(connect(), root, str(i), leases=2) for i in range(5)]
    assert leases[0].acquire()
    assert leases[1].acquire()
    assert not leases[2].acquire(timeout=0.05)
    assert not leases[2].acquire(blocking=False)
    until_children(client, f"{root}/locks", 0)
    waiting = []
    for i in (2, 3, 4):
        waiting.append(spawn(leases[i].acquire))
        until_children(client, f"{root}/locks", i - 1)
    leases[0].release()
    assert waiting[0].result(LIMIT_S)
    assert [each.done() for each in waiting[1:]] == [False, False]
    leases[2].release()
    assert waiting[1].result(LIMIT_S)
    leases[1].release()
    assert waiting[2].result(LIMIT_S)
    tokens = [leases[3].token, leases[4].token]
    assert tokens == sorted(tokens)
    assert [each.identifier for each in leases[0].contenders()] == ["3", "4"]
    for i in (3, 4):
        leases[i].release()
    until_children(client, f"{root}/locks", 0)
    assert client.get_children(f"{root}/leases") == []


def test_only_the_next_one_watches_the_leases(
    connect: Connect, make_proxy: MakeProxy, root: str, spawn: Spawn
) -> None:
    client = connect()
    first = Semaphore(client, root, leases=1)
    first.acquire()
    until_children(client, f"{root}/locks", 0)
    proxies, waiting = [make_proxy() for _ in range(3)], []
    for number, proxy in enumerate(proxies):
        semaphore = Semaphore(connect(proxy.hosts), root, leases=1)
        waiting.append(spawn(semaphore.acquire))
        until_children(client, f"{root}/locks", number + 1)
    proxies[0].wait_until(lambda seen: any(each.path == f"{root}/leases" for each in seen))
    for proxy in proxies[1:]:
        proxy.wait_until(lambda seen: sum(each.operation == "get" for each in seen) == 2)
        assert not any(each.path.startswith(f"{root}/leases") for each in proxy.seen)
    before = len(proxies[2].seen)
    first.release()
    assert waiting[0].result(LIMIT_S)
    assert len(proxies[2].seen) == before
    assert [each.done() for each in waiting] == [True, False, False]
    proxies[0].expire()
    assert waiting[1].result(LIMIT_S)
    proxies[1].expire()
    assert waiting[2].result(LIMIT_S)


def test_guarded_by_its_lease(connect: Connect, root: str) -> None:
    client = connect()
    client.create(root)
    with Semaphore(client, f"{root}/s", leases=3) as guard:
        guard.set(root, b"x")
    assert client.get(root)[0] == b"x"


def test_at_least_one(connect: Connect, root: str) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Semaphore(connect(), root, leases=0)
