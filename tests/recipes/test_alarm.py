"""Who waits in vain, again and again, leaves one watch behind, and nothing that hangs on it."""

from recipes.alarm import bell_at
from recipes.barriers import Barrier
from recipes.locks import Lock
from tests.recipes.conftest import Connect, Spawn
from tests.recipes.faults import LIMIT_S, FaultProxy, until


def test_a_lock_that_is_waited_for_in_vain(
    connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    client, holder = connect(proxy.hosts), Lock(connect(), root)
    lock = Lock(client, root)
    with holder:
        path = f"{root}/{holder.contenders()[0].node}"
        for count in range(1, 4):
            waited = spawn(lock.acquire)
            proxy.wait_until(lambda seen: [each.path for each in seen].count(path) == count)  # noqa: B023
            lock.cancel()
            assert waited.exception(LIMIT_S)
            # Behind the answer to the last request.
            client.exists("/")
            assert client._data_watchers[path] == {bell_at(client, path)}
            assert not bell_at(client, path)._alarms
    assert lock.acquire(timeout=LIMIT_S)


def test_several_wait_at_one_bell(
    connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    client = connect(proxy.hosts)
    barriers = [Barrier(client, root) for _ in range(3)]
    barriers[0].put()
    waited = [spawn(each.wait) for each in barriers]
    until(lambda: len(bell_at(client, root)._alarms) == 3)
    assert not barriers[0].wait(0.05)
    barriers[0].lift()
    assert [each.result(LIMIT_S) for each in waited] == [True, True, True]
    until(lambda: root not in client._data_watchers)
