"""A consumer on a server: what it is told, what it keeps without a connection, what it leaves."""

import threading
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from kazoo.client import KazooClient
from kazoo.security import READ_ACL_UNSAFE

from recipes.registry import (
    Event,
    Kind,
    ServiceInstance,
    ServiceRegistration,
    ServiceView,
    find,
    list_services,
)
from recipes.registry.instance import encode
from tests.recipes.conftest import Connect
from tests.recipes.faults import (
    LIMIT_S,
    Fault,
    FaultProxy,
    Link,
    When,
    begun_since,
    meet_all,
    until,
)
from zkpy.testing.realserver import RealServer

LIMIT = 40
LONG_S = 600.0


def instance(name: str) -> ServiceInstance:
    return ServiceInstance("orders", name, 80, name)


class Watched:
    """A view, and all that it told."""

    def __init__(self, client: KazooClient, base: str, window: float = LONG_S) -> None:
        self.view = ServiceView(client, base, "orders", window=window)
        self.events: list[Event] = []
        self.view.add_listener(self.events.append)
        self.view.start()

    def shows(self, names: str) -> None:
        """Also until it has been told: the view comes first."""
        self.view.wait(lambda found: sorted(found) == list(names), LIMIT_S)
        until(lambda: self.view._listeners.up_to_date)

    def told(self, kind: Kind) -> list[str]:
        return [each.instance.id for each in self.events if each.kind is kind and each.instance]


@pytest.fixture
def watched(connect: Connect, root: str) -> Iterator[Watched]:
    watched = Watched(connect(), root)
    yield watched
    watched.view.stop()


def test_added_changed_removed(watched: Watched, connect: Connect, root: str) -> None:
    client = connect()
    assert client.exists(root) is None
    with ServiceRegistration(client, root, instance("a")) as registration:
        watched.shows("a")
        assert watched.view.available == [registration.instance]
        registration.put_in_service(False)
        watched.view.wait(lambda found: not found["a"].is_in_service, LIMIT_S)
        assert watched.view.available == []
    watched.shows("")
    kinds = [each.kind for each in watched.events if each.instance]
    assert kinds == [Kind.ADDED, Kind.CHANGED, Kind.REMOVED]
    assert not watched.view.stale


def test_an_instance_of_curator_is_seen(watched: Watched, connect: Connect, root: str) -> None:
    client = connect()
    client.create(f"{root}/orders/a", encode(instance("a")), ephemeral=True, makepath=True)
    watched.shows("a")


def test_what_cannot_be_read_is_told_and_passed_over(
    watched: Watched, connect: Connect, root: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect()
    client.create(f"{root}/orders/x", b"gibberish", makepath=True)
    with ServiceRegistration(client, root, instance("a")):
        watched.shows("a")
        until(lambda: "x" in watched.view.unreadable)
        assert "orders/x: not an instance" in caplog.text
        client.delete(f"{root}/orders/x")
        until(lambda: not watched.view.unreadable)


def test_a_consumer_that_is_cut_off_keeps_its_view(
    connect: Connect, proxy: FaultProxy, root: str
) -> None:
    watched = Watched(connect(proxy.hosts), root)
    registrations = [ServiceRegistration(connect(), root, instance(name)) for name in "ab"]
    for each in registrations:
        each.register(LIMIT_S)
    watched.shows("ab")
    assert not watched.view.stale
    proxy.refuse()
    proxy.cut()
    until(lambda: watched.view.stale)
    registrations[0].deregister(LIMIT_S)
    assert sorted(watched.view.instances) == ["a", "b"]
    proxy.admit()
    watched.shows("b")
    until(lambda: not watched.view.stale)
    assert watched.told(Kind.REMOVED) == ["a"]
    watched.view.stop()
    registrations[1].deregister(LIMIT_S)


def test_all_gone_at_once_are_kept(connect: Connect, proxy: FaultProxy, root: str) -> None:
    watched = Watched(connect(), root)
    registrations = [ServiceRegistration(connect(proxy.hosts), root, instance(n)) for n in "abc"]
    for each in registrations:
        each.register(LIMIT_S)
    watched.shows("abc")
    proxy.refuse()
    proxy.expire()
    until(lambda: watched.view.client.get_children(f"{root}/orders") == [])
    until(lambda: watched.view.stale)
    assert sorted(watched.view.instances) == ["a", "b", "c"]
    assert len(watched.view.available) == 3
    proxy.admit()
    until(lambda: not watched.view.stale)
    watched.shows("abc")
    proxy.refuse()
    proxy.expire()
    until(lambda: watched.view.client.get_children(f"{root}/orders") == [])
    until(lambda: watched.view.stale)
    watched.view.accept()
    watched.shows("")
    assert not watched.view.stale
    watched.view.stop()
    for each in registrations:
        each.deregister(0)


def test_all_that_are_deregistered_have_gone(watched: Watched, connect: Connect, root: str) -> None:
    client = connect()
    registrations = [ServiceRegistration(client, root, instance(name)) for name in "abc"]
    for each in registrations:
        each.register(LIMIT_S)
    watched.shows("abc")
    for each in registrations:
        assert each.deregister(LIMIT_S)
    watched.shows("")
    until(lambda: not watched.view.stale)


def test_who_may_not_say_so_leaves_all_the_same(
    watched: Watched, connect: Connect, root: str
) -> None:
    client = connect()
    path = f"/zkpy/departed{root}/orders"
    client.ensure_path(f"/zkpy/departed{root}")
    client.create(path, acl=READ_ACL_UNSAFE)
    with ServiceRegistration(client, root, instance("a")):
        watched.shows("a")
    watched.shows("")
    assert client.get(path)[0] == b""


def test_a_znode_without_data_is_passed_over(watched: Watched, connect: Connect, root: str) -> None:
    client = connect()
    client.ensure_path(f"{root}/orders")
    client.create(f"{root}/orders/b", None)
    assert client.get(f"{root}/orders/b")[0] is None
    client.create(f"{root}/orders/a", encode(instance("a")))
    watched.shows("a")
    assert list(watched.view.unreadable) == ["b"]


def test_stale_until_read_again(connect: Connect, proxy: FaultProxy, root: str) -> None:
    """Also while a listener holds up the reading."""
    client, other = connect(proxy.hosts), connect()
    watched = Watched(client, root)
    called, go_on = threading.Event(), threading.Event()

    def told(event: Event) -> None:
        called.set()
        go_on.wait(LIMIT_S)

    other.ensure_path(f"{root}/orders")
    until(lambda: not watched.view.stale)
    watched.view.add_listener(told)
    other.create(f"{root}/orders/a", encode(instance("a")))
    assert called.wait(LIMIT_S)
    proxy.cut()
    until(lambda: watched.view._loop.breaks and client.connected)
    assert watched.view.stale
    go_on.set()
    until(lambda: not watched.view.stale)
    watched.view.stop()
    watched.view.accept()
    assert watched.view.stale


def test_who_accepts_does_not_call_listeners(connect: Connect, root: str) -> None:
    """They are called in the view's own thread, which they may stop: who accepts would hold what
    that thread waits for, and wait for its end."""
    client, other = connect(), connect()
    watched = Watched(client, root)
    other.ensure_path(f"{root}/orders")
    for name in "abc":
        other.create(f"{root}/orders/{name}", encode(instance(name)))
    watched.shows("abc")
    for name in "abc":
        other.delete(f"{root}/orders/{name}")
    until(lambda: len(watched.view._view._view._suspects()) == 3)
    callers: list[threading.Thread] = []

    def told(event: Event) -> None:
        callers.append(threading.current_thread())
        watched.view.stop()

    watched.view.add_listener(told)
    watched.view.accept()
    watched.view._loop._thread.join(LIMIT_S)
    assert set(callers) == {watched.view._loop._thread}
    assert not watched.view._loop._thread.is_alive()


def test_nothing_is_left_of_it(connect: Connect, root: str) -> None:
    client, other = connect(), connect()
    before = threading.enumerate()
    with ServiceRegistration(other, root, instance("a")):
        for _ in range(3):
            with ServiceView(client, root, "orders") as view:
                view.wait(bool, LIMIT_S)
        assert len(begun_since(before)) == 1
        # One bell for each path, on which nothing hangs any more.
        for watchers in (client._child_watchers, client._data_watchers):
            assert [len(bell._alarms) for each in watchers.values() for bell in each] == [0]


def test_asked_for_once(connect: Connect, root: str) -> None:
    client = connect()
    assert list_services(client, root) == []
    assert find(client, root, "orders").instances == {}
    with (
        ServiceRegistration(client, root, instance("a")) as a,
        ServiceRegistration(client, root, instance("b")) as b,
    ):
        client.create(f"{root}/orders/x", b"gibberish")
        assert list_services(client, root) == ["orders"]
        first = find(client, root, "orders", timeout=LIMIT_S)
        assert first.instances == {"a": a.instance, "b": b.instance}
        assert first.changed == ("a", "b")
        assert find(client, root, "orders", since=first.zxid).changed == ()
        b.put_in_service(False)
        b.wait(LIMIT_S)
        second = find(client, root, "orders", since=first.zxid)
        assert (list(second.instances), second.changed) == (["a", "b"], ("b",))


# --- faults ------------------------------------------------------------------------------------


@pytest.mark.parametrize("do", [None, Link.expire], ids=["cut", "expired"])
@pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))
def test_a_fault_at_every_request(
    when: When,
    do: Callable[[Link], None] | None,
    server: RealServer,
    connect: Connect,
    root: str,
) -> None:
    """In the end the view shows what is there, and has told of all of it."""
    calm, places = connect(), count()

    def play(fault: Fault) -> None:
        base = f"{root}/{next(places)}"
        with FaultProxy(server.port) as front:
            victim = connect(front.hosts)
            front.arm(fault)
            watched = Watched(victim, base)
            registrations = [ServiceRegistration(calm, base, instance(name)) for name in "ab"]
            for each in registrations:
                each.register(LIMIT_S)
            watched.shows("ab")
            registrations[0].put_in_service(False)
            watched.view.wait(lambda found: not found["a"].is_in_service, LIMIT_S)
            registrations[0].deregister(LIMIT_S)
            watched.shows("b")
            registrations[1].deregister(LIMIT_S)
            watched.shows("")
            assert watched.told(Kind.ADDED) == watched.told(Kind.REMOVED) == ["a", "b"]
            watched.view.stop()
            victim.stop()
            victim.close()

    assert 4 <= meet_all(play, lambda at: Fault(at, when, do=do), LIMIT) < LIMIT
