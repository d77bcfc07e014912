"""Lock, ReadLock, WriteLock on a server: order, tokens, what the holder is told, other formats."""

import threading
from collections.abc import Callable
from functools import partial

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import (
    BadVersionError,
    CancelledError,
    ConnectionClosedError,
    NodeExistsError,
    NoNodeError,
)

from recipes.locks import (
    Guard,
    HoldState,
    Lock,
    LockLostError,
    LockSuspendedError,
    MixedContendersError,
    NotHeldError,
    ReadLock,
    Semaphore,
    WriteLock,
)
from recipes.locks.claim import Format
from tests.recipes.conftest import Connect, MakeProxy, Spawn
from tests.recipes.faults import (
    LIMIT_S,
    Fault,
    FaultProxy,
    Link,
    end_session,
    until,
    until_children,
)
from zkpy.testing.realserver import RealServer

UUID = "0f8b3c5e-1a2b-4c3d-8e4f-5a6b7c8d9e0f"


@pytest.fixture
def other(connect: Connect) -> KazooClient:
    return connect()


class Told:
    """The states that a lock's listener got."""

    def __init__(self, lock: Lock | Semaphore) -> None:
        self.all: list[HoldState] = []
        self._news = threading.Condition()
        lock.add_listener(self._note)

    def _note(self, state: HoldState) -> None:
        with self._news:
            self.all.append(state)
            self._news.notify_all()

    def wait(self, *states: HoldState) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.all == list(states), LIMIT_S), self.all


# --- acquire and release ---------------------------------------------------------------------


def test_one_after_the_other_with_growing_tokens(
    connect: Connect, client: KazooClient, root: str, spawn: Spawn
) -> None:
    order: list[tuple[int, int]] = []

    def contend(number: int) -> None:
        with Lock(connect(), root) as guard:
            order.append((number, guard.token))

    first = Lock(client, root)
    first.acquire()
    token = first.token
    contenders = []
    for number in range(5):
        contenders.append(spawn(contend, number))
        until_children(client, root, number + 2)
    first.release()
    for each in contenders:
        each.result(LIMIT_S)
    assert [number for number, _ in order] == [0, 1, 2, 3, 4]
    tokens = [token, *(its for _, its in order)]
    assert tokens == sorted(set(tokens))
    assert client.get_children(root) == []


def test_token_is_the_czxid_of_its_node(client: KazooClient, root: str) -> None:
    with Lock(client, root, "me") as guard:
        (node,) = client.get_children(root)
        data, stat = client.get(f"{root}/{node}")
        assert (data, stat.czxid) == (b"me", guard.token)


@pytest.mark.parametrize("format", ["kazoo", "curator"])
def test_time_is_up(client: KazooClient, other: KazooClient, root: str, format: Format) -> None:
    mine, theirs = Lock(client, root, format=format), Lock(other, root, format=format)
    assert mine.acquire()
    assert not theirs.acquire(timeout=0.05)
    assert not theirs.acquire(blocking=False)
    until_children(client, root, 1)
    mine.release()
    assert theirs.acquire(blocking=False)
    assert not mine.acquire(timeout=0)
    theirs.release()
    assert mine.acquire(timeout=0)
    mine.release()


def test_cancel(client: KazooClient, other: KazooClient, root: str, spawn: Spawn) -> None:
    with Lock(client, root):
        waiting = Lock(other, root)
        acquired = spawn(waiting.acquire)
        until_children(client, root, 2)
        with pytest.raises(NotHeldError):
            waiting.release()
        waiting.cancel()
        with pytest.raises(CancelledError):
            acquired.result(LIMIT_S)
        until_children(client, root, 1)
    assert waiting.acquire(timeout=LIMIT_S)
    waiting.release()


def test_cancel_while_the_server_says_nothing(
    connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    lock = Lock(connect(proxy.hosts), root)
    fault = proxy.arm(Fault(1, do=Link.stall, cut=False))
    acquired = spawn(lock.acquire)
    fault.wait()
    lock.cancel()
    with pytest.raises(CancelledError):
        acquired.result(LIMIT_S)
    proxy.flow()


def test_a_create_that_was_given_up_leaves_no_node(
    client: KazooClient, connect: Connect, proxy: FaultProxy, root: str
) -> None:
    client.ensure_path(root)
    lock = Lock(connect(proxy.hosts), root)
    fault = proxy.arm(Fault(1, do=Link.stall, cut=False))
    assert not lock.acquire(timeout=0.05)
    # It is sent by another thread, perhaps only now; what stalls then must not do so for ever.
    fault.wait()
    proxy.flow()
    proxy.wait_until(lambda seen: any(each.operation == "delete" for each in seen))
    until_children(client, root, 0)


def test_not_held(client: KazooClient, root: str) -> None:
    lock = Lock(client, root)
    for call in (lock.release, lock.guard, lambda: lock.token):
        with pytest.raises(NotHeldError):
            call()


def test_a_client_that_is_stopped(client: KazooClient, root: str) -> None:
    client.stop()
    with pytest.raises(ConnectionClosedError):
        Lock(client, root).acquire()


def test_stopping_does_not_hang_on_a_node_to_be_removed(
    connect: Connect, proxy: FaultProxy, root: str
) -> None:
    client = connect(proxy.hosts)
    lock = Lock(client, root)
    lock.acquire()
    proxy.refuse()
    proxy.cut()
    proxy.wait_refused()
    lock.release()
    client.stop()
    client.close()


# --- reentrance --------------------------------------------------------------------------------


def test_reentrant(client: KazooClient, root: str) -> None:
    lock = Lock(client, root, reentrant=True)
    with lock as outer, lock as inner:
        assert inner.token == outer.token
        lock.acquire()
        lock.release()
        assert lock.held
        assert len(client.get_children(root)) == 1
    assert client.get_children(root) == []


def test_reentrant_for_its_thread_only(client: KazooClient, root: str, spawn: Spawn) -> None:
    lock = Lock(client, root, reentrant=True)
    with lock:
        assert not spawn(lock.acquire, True, 0.05).result(LIMIT_S)
    assert spawn(lock.acquire).result(LIMIT_S)


def test_not_reentrant_unless_asked_for(client: KazooClient, root: str) -> None:
    lock = Lock(client, root)
    with lock:
        assert not lock.acquire(timeout=0.05)
        assert not lock.acquire(blocking=False)


def test_reentrance_into_a_lost_lock(client: KazooClient, other: KazooClient, root: str) -> None:
    lock = Lock(client, root, reentrant=True)
    lock.acquire()
    told = Told(lock)
    other.delete(f"{root}/{other.get_children(root)[0]}")
    told.wait(HoldState.LOST)
    with pytest.raises(LockLostError):
        lock.acquire()
    lock.release()
    with lock:
        pass


# --- no herd -------------------------------------------------------------------------------------


def test_a_release_wakes_one(
    client: KazooClient, connect: Connect, make_proxy: MakeProxy, root: str, spawn: Spawn
) -> None:
    first = Lock(client, root)
    first.acquire()
    proxies, locks, acquired = [], [], []
    for number in range(4):
        proxy = make_proxy()
        lock = Lock(connect(proxy.hosts), root)
        acquired.append(spawn(lock.acquire))
        proxy.wait_until(lambda seen: sum(each.operation == "get" for each in seen) == 2)
        until_children(client, root, number + 2)
        proxies.append(proxy)
        locks.append(lock)
    before = [len(proxy.seen) for proxy in proxies]
    first.release()
    assert acquired[0].result(LIMIT_S)
    assert [len(p.seen) - n for p, n in zip(proxies, before, strict=True)] == [1, 0, 0, 0]
    for each, lock in zip(acquired, locks, strict=True):
        assert each.result(LIMIT_S)
        lock.release()


def test_requests_without_contention(connect: Connect, proxy: FaultProxy, root: str) -> None:
    client = connect(proxy.hosts)
    with Lock(client, root):
        pass
    del proxy.seen[:]
    with Lock(client, root):
        pass
    assert [each.operation for each in proxy.seen] == ["create", "get", "get_children", "delete"]


# --- what the holder is told -------------------------------------------------------------------


def test_suspended_and_back(connect: Connect, proxy: FaultProxy, root: str) -> None:
    client = connect(proxy.hosts)
    client.create(root)
    lock = Lock(client, f"{root}/lock")
    told = Told(lock)
    with lock as guard:
        proxy.refuse()
        proxy.cut()
        told.wait(HoldState.HELD, HoldState.SUSPENDED)
        assert not lock.held
        with pytest.raises(LockSuspendedError):
            guard.set(root, b"x")
        proxy.admit()
        told.wait(HoldState.HELD, HoldState.SUSPENDED, HoldState.HELD)
        guard.set(root, b"y")
    assert client.get(root)[0] == b"y"


def lose(guard: Guard, proxy: FaultProxy, told: Told) -> None:
    proxy.expire()
    told.wait(HoldState.HELD, HoldState.SUSPENDED, HoldState.LOST)
    with pytest.raises(LockLostError):
        guard.check()


def test_lost_with_its_session(connect: Connect, proxy: FaultProxy, root: str) -> None:
    lock = Lock(connect(proxy.hosts), root)
    told = Told(lock)
    with pytest.raises(LockLostError, match="was lost before"), lock as guard:
        lose(guard, proxy, told)
    with lock:
        assert lock.held


@pytest.mark.parametrize(
    ("make", "directory", "at"),
    [(Lock, "", 3), (partial(Semaphore, leases=1), "/leases", 6)],
    ids=["lock", "semaphore"],
)
def test_gone_before_its_turn_was_read(
    make: Callable[..., Lock | Semaphore],
    directory: str,
    at: int,
    client: KazooClient,
    connect: Connect,
    proxy: FaultProxy,
    root: str,
) -> None:
    """Its node is deleted before it lists the others, and what its watch says of that is late."""
    for each in ("", "/locks", "/leases"):
        client.create(root + each)
    victim, path = connect(proxy.hosts), root + directory
    lock, watches = make(victim, root), threading.Event()
    told = Told(lock)

    def delete(link: Link) -> None:
        (node,) = (each for each in client.get_children(path) if each not in ("locks", "leases"))
        client.delete(f"{path}/{node}")

    victim.handler.callback_queue.put(partial(watches.wait, LIMIT_S))
    fault = proxy.arm(Fault(at, do=delete, cut=False))
    assert lock.acquire()
    watches.set()
    assert fault.seen is not None and fault.seen.operation == "get_children"
    lock.guard().set(root, b"x")
    assert told.all == [HoldState.HELD]
    lock.release()


def take_away(client: KazooClient, path: str, told: Told, failure: Exception | None = None) -> None:
    """Delete the only node of a path; once its holder was told, fail."""
    client.delete(f"{path}/{client.get_children(path)[0]}")
    until(lambda: told.all[-1:] == [HoldState.LOST])
    if failure is not None:
        raise failure


def test_a_guarded_block_says_in_the_end_that_it_was_lost(
    client: KazooClient, other: KazooClient, root: str
) -> None:
    lock = Lock(client, root)
    lock.acquire()
    told = Told(lock)
    with pytest.raises(LockLostError), lock.guard():
        take_away(other, root, told)
    lock.release()


def test_an_exception_of_the_block_is_not_hidden(
    client: KazooClient, other: KazooClient, root: str
) -> None:
    lock = Lock(client, root)
    told = Told(lock)
    with pytest.raises(ZeroDivisionError), lock, lock.guard():
        take_away(other, root, told, ZeroDivisionError())


def test_no_listener_any_more(client: KazooClient, root: str) -> None:
    lock = Lock(client, root)
    states: list[HoldState] = []
    lock.add_listener(states.append)
    lock.remove_listener(states.append)
    with lock:
        assert states == []


# --- guarded writes ------------------------------------------------------------------------------


def test_guarded_writes(client: KazooClient, root: str) -> None:
    client.create(root)
    with Lock(client, f"{root}/lock") as guard:
        assert guard.create(f"{root}/n-", b"1", sequence=True) == f"{root}/n-0000000001"
        assert guard.set(root, b"2").version == 1
        with guard.transaction() as writes:
            writes.check(root, 1)
            writes.create(f"{root}/a")
            writes.set_data(root, b"3", version=1)
            writes.delete(f"{root}/n-0000000001")
        assert [writes.results[1], writes.results[2].version] == [f"{root}/a", 2]
        guard.delete(f"{root}/a")
    assert client.get(root)[0] == b"3"


def test_all_writes_or_none(client: KazooClient, root: str) -> None:
    client.create(root)
    with Lock(client, f"{root}/lock") as guard:
        for failure, path, version in ((BadVersionError, root, 7), (NoNodeError, f"{root}/x", 0)):
            writes = guard.transaction()
            writes.create(f"{root}/a")
            writes.set_data(path, b"x", version)
            with pytest.raises(failure):
                writes.commit()
        assert client.exists(f"{root}/a") is None
        with pytest.raises(NodeExistsError):
            guard.create(root)
        assert guard.state is HoldState.HELD
        with pytest.raises(ZeroDivisionError), guard.transaction() as writes:
            writes.create(f"{root}/{1 // 0}")
        with pytest.raises(ValueError, match="a name is needed"):
            guard.create(f"{root}/", sequence=True)
    assert client.exists(f"{root}/a") is None


def test_a_holder_that_does_not_know_yet_cannot_write(
    client: KazooClient, connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    """Its node has gone, but what it will hear of it is still on the way."""
    client.create(root)
    lock = Lock(connect(proxy.hosts), f"{root}/lock")
    lock.acquire()
    proxy.stall()
    writing = spawn(lock.guard().set, root, b"stale")
    client.delete(f"{root}/lock", recursive=True)
    assert lock.held
    proxy.flow()
    with pytest.raises(LockLostError):
        writing.result(LIMIT_S)
    assert client.get(root)[0] == b""
    assert not lock.held


def test_a_guard_ends_with_its_hold(client: KazooClient, root: str) -> None:
    lock = Lock(client, root)
    with lock as guard:
        pass
    with pytest.raises(NotHeldError):
        guard.set("/", b"")
    with lock, pytest.raises(NotHeldError):
        guard.check()


# --- beside kazoo and Curator ----------------------------------------------------------------


def test_behind_kazoo_and_before_it(
    client: KazooClient, other: KazooClient, root: str, spawn: Spawn
) -> None:
    ours, kazoos = Lock(client, root), other.Lock(root)
    with kazoos:
        assert not ours.acquire(timeout=0.05)
        acquired = spawn(ours.acquire)
        until_children(client, root, 2)
    assert acquired.result(LIMIT_S)
    assert not kazoos.acquire(blocking=False)
    ours.release()
    assert kazoos.acquire(blocking=False)


def test_readers_and_writers_of_kazoo(client: KazooClient, other: KazooClient, root: str) -> None:
    with other.ReadLock(root):
        assert not WriteLock(client, root).acquire(timeout=0.05)
        with ReadLock(client, root):
            assert not other.WriteLock(root).acquire(blocking=False)
    with WriteLock(client, root):
        assert not other.ReadLock(root).acquire(blocking=False)


@pytest.mark.parametrize(
    ("make", "node"),
    [(Lock, "lock-"), (WriteLock, "__WRIT__"), (WriteLock, "__READ__"), (ReadLock, "__WRIT__")],
)
def test_behind_curator(
    make: type[Lock], node: str, client: KazooClient, other: KazooClient, root: str, spawn: Spawn
) -> None:
    path = other.create(f"{root}/_c_{UUID}-{node}", ephemeral=True, sequence=True, makepath=True)
    lock = make(client, root, format="curator")
    acquired = spawn(lock.acquire)
    until_children(client, root, 2)
    mine = next(name for name in client.get_children(root) if not path.endswith(name))
    assert mine.startswith("_c_")
    other.delete(path)
    assert acquired.result(LIMIT_S)


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("kazoo", f"_c_{UUID}-lock-"),
        ("curator", "0f8b3c5e1a2b4c3d8e4f5a6b7c8d9e0f__lock__"),
        ("curator", f"_c_{UUID}-__WRIT__"),
    ],
)
def test_mixed_path_is_refused(client: KazooClient, root: str, format: Format, name: str) -> None:
    path = client.create(f"{root}/{name}", ephemeral=True, sequence=True, makepath=True)
    lock = Lock(client, root, format=format)
    with pytest.raises(MixedContendersError):
        lock.acquire()
    until_children(client, root, 1)
    client.delete(path)
    with lock:
        pass


# --- readers and writers ---------------------------------------------------------------------


def test_readers_share_and_writers_do_not(
    connect: Connect, client: KazooClient, root: str, spawn: Spawn
) -> None:
    readers = [ReadLock(connect(), root, f"r{i}") for i in range(3)]
    writer = WriteLock(client, root, "w")
    for reader in readers[:2]:
        assert reader.acquire(blocking=False)
    written = spawn(writer.acquire)
    until_children(client, root, 3)
    late = spawn(readers[2].acquire)
    until_children(client, root, 4)
    assert [each.identifier for each in writer.contenders()] == ["r0", "r1", "w", "r2"]
    readers[1].release()
    assert not written.done()
    readers[0].release()
    assert written.result(LIMIT_S)
    assert not late.done()
    writer.release()
    assert late.result(LIMIT_S)
    readers[2].release()
    assert writer.contenders() == []


def test_contenders_of_a_path_that_is_not_there(client: KazooClient, root: str) -> None:
    assert Lock(client, root).contenders() == []


# --- a store outside ---------------------------------------------------------------------------


class FencedStore:
    """What a store must do with tokens: refuse those smaller than the largest that it has seen."""

    def __init__(self) -> None:
        self.largest, self.kept = 0, ""

    def write(self, value: str, token: int) -> bool:
        if token < self.largest:
            return False
        self.largest, self.kept = token, value
        return True


def test_a_paused_holder_cannot_harm_a_fenced_store(
    connect: Connect, proxy: FaultProxy, server: RealServer, root: str
) -> None:
    """It hears nothing, its session ends, another one holds: it believes in its lock still."""
    store = FencedStore()
    client, other = connect(proxy.hosts), connect()
    paused, running = Lock(client, root), Lock(other, root)
    told = Told(paused)
    paused.acquire()
    proxy.stall()
    assert client.client_id is not None
    end_session(server.port, *client.client_id)
    with running as theirs:
        assert store.write("new", theirs.token)
        assert paused.held
        assert not store.write("stale", paused.token)
        assert store.write("newer", theirs.token)
    assert store.kept == "newer"
    proxy.flow()
    told.wait(HoldState.HELD, HoldState.SUSPENDED, HoldState.LOST)
    paused.release()
