"""A registration on a server: whose znode it is, lost answers, sessions that end, other owners."""

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import attrs
import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import CancelledError, ConnectionLoss

from recipes.base import TimeUp, session_of
from recipes.registry import ServiceInstance, ServiceRegistration, ServiceType, SomebodyElseError
from recipes.registry.instance import decode, encode
from tests.recipes.conftest import Connect, Spawn
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
ORDERS = ServiceInstance("orders", "h", 80, "a")


def shown(client: KazooClient, base: str) -> ServiceInstance:
    return decode(client.retry(client.get, f"{base}/orders/a")[0], "a")


def owner(client: KazooClient, base: str) -> int | None:
    stat = client.exists(f"{base}/orders/a")
    return None if stat is None else int(stat.ephemeralOwner)


def test_register_update_deregister(connect: Connect, root: str) -> None:
    client, other = connect(), connect()
    registration = ServiceRegistration(client, root, ORDERS)
    registration.register(LIMIT_S)
    assert registration.present
    assert shown(other, root) == registration.instance
    assert registration.instance.registered_at > 0
    born = other.exists(f"{root}/orders/a").czxid
    registration.update(ORDERS.with_metadata(zone="x"))
    registration.wait(LIMIT_S)
    assert shown(other, root).metadata == {"zone": "x"}
    registration.put_in_service(False)
    registration.wait(LIMIT_S)
    assert not shown(other, root).is_in_service
    registration.put_in_service(True)
    registration.wait(LIMIT_S)
    assert shown(other, root).is_in_service
    # In place: it was never away.
    assert other.exists(f"{root}/orders/a").czxid == born
    assert registration.deregister(LIMIT_S)
    assert other.get_children(f"{root}/orders") == []
    assert registration.deregister(0)
    with pytest.raises(CancelledError):
        registration.wait(LIMIT_S)


def test_nothing_is_left_of_it(connect: Connect, root: str) -> None:
    client = connect()
    before = threading.enumerate()
    for _ in range(3):
        with ServiceRegistration(client, root, ORDERS):
            assert len(begun_since(before)) == 1
    assert begun_since(before) == []
    assert not client._data_watchers.get(f"{root}/orders/a")


def test_an_instance_that_is_not_healthy_is_out_of_service(connect: Connect, root: str) -> None:
    answers: list[object] = [True]

    def check() -> object:
        if answers[0] is None:
            raise OSError("no answer")
        return answers[0]

    client = connect()
    with ServiceRegistration(client, root, ORDERS, health=check, every=0.01) as registration:
        assert shown(client, root).is_in_service
        for bad in (False, None):
            answers[0] = bad
            until(lambda: not shown(client, root).is_in_service)
            assert not registration.instance.is_in_service
            answers[0] = True
            until(lambda: shown(client, root).is_in_service)
        registration.put_in_service(False)
        until(lambda: not shown(client, root).is_in_service)


def test_what_is_done_by_hand_is_undone(connect: Connect, root: str) -> None:
    client, other = connect(), connect()
    with ServiceRegistration(client, root, ORDERS) as registration:
        other.set(f"{root}/orders/a", b"gibberish")
        until(lambda: other.get(f"{root}/orders/a")[0] == encode(registration.instance))
        other.delete(f"{root}/orders/a")
        until(lambda: owner(other, root) == session_of(client))


@pytest.mark.parametrize("ephemeral", [True, False])
def test_somebody_elses_is_left_alone(connect: Connect, root: str, ephemeral: bool) -> None:
    client, other = connect(), connect()
    other.ensure_path(f"{root}/orders")
    other.create(f"{root}/orders/a", b"theirs", ephemeral=ephemeral)
    registration = ServiceRegistration(client, root, ORDERS)
    with pytest.raises(SomebodyElseError) as refused:
        registration.register(LIMIT_S)
    assert refused.value.session == (session_of(other) if ephemeral else 0)
    assert registration.deregister(LIMIT_S)
    assert other.get(f"{root}/orders/a")[0] == b"theirs"


def test_who_gives_up_leaves_nothing(
    connect: Connect, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the other one goes, and ours comes, in the moment in which we give up."""
    client, other = connect(), connect()
    other.ensure_path(f"{root}/orders")
    other.create(f"{root}/orders/a", b"theirs", ephemeral=True)
    registration = ServiceRegistration(client, root, ORDERS)

    def wait(news: threading.Condition, *ignored: object) -> None:
        monkeypatch.undo()
        news.wait_for(lambda: registration.rival is not None, LIMIT_S)
        # What `register` has seen.
        seen, registration.rival = registration.rival, None
        other.delete(f"{root}/orders/a")
        news.wait_for(lambda: registration.present, LIMIT_S)
        registration.rival = seen

    monkeypatch.setattr(registration._loop, "wait", wait)
    with pytest.raises(SomebodyElseError):
        registration.register(LIMIT_S)
    assert client.get_children(f"{root}/orders") == []


def test_deregistered_in_the_session_that_began_while_it_was_asked_for(
    connect: Connect, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process was held up; then the answer was lost, and it is to leave."""
    client = connect()
    registration = ServiceRegistration(client, root, ORDERS)
    create_async = client.create_async

    def create(path: str, *args: Any, **how: Any) -> Any:
        if path != registration.path:
            return create_async(path, *args, **how)
        client.stop()
        client.start(LIMIT_S)
        create_async(path, *args, **how).get(timeout=LIMIT_S)
        registration._leaving = True
        raise ConnectionLoss

    monkeypatch.setattr(client, "create_async", create)
    with pytest.raises(CancelledError):
        registration.register(LIMIT_S)
    assert client.get_children(f"{root}/orders") == []


def test_another_registration_of_the_same_session_is_somebody_else(
    connect: Connect, root: str
) -> None:
    client = connect()
    with ServiceRegistration(client, root, ORDERS) as first:
        second = ServiceRegistration(client, root, ORDERS.with_metadata(zone="x"))
        with pytest.raises(SomebodyElseError):
            second.register(LIMIT_S)
        assert second.deregister(LIMIT_S)
        assert first.present
        assert shown(client, root) == first.instance


def test_the_patient_wait_for_the_end_of_their_last_run(
    connect: Connect, root: str, spawn: Spawn
) -> None:
    last, client = connect(), connect()
    ServiceRegistration(last, root, ORDERS).register(LIMIT_S)
    registration = ServiceRegistration(client, root, ORDERS)
    registering = spawn(lambda: registration.register(LIMIT_S, patient=True))
    until(lambda: registration.rival == session_of(last))
    last.stop()
    registering.result(LIMIT_S)
    assert owner(client, root) == session_of(client)
    assert registration.rival is None
    registration.deregister(LIMIT_S)


def test_registered_again_after_its_session_has_expired(
    connect: Connect, proxy: FaultProxy, root: str
) -> None:
    client, other = connect(proxy.hosts), connect()
    registration = ServiceRegistration(client, root, ORDERS)
    registration.register(LIMIT_S)
    first, at = session_of(client), registration.instance.registered_at
    proxy.refuse()
    proxy.expire()
    until(lambda: owner(other, root) is None)
    assert not registration.present
    proxy.admit()
    until(lambda: owner(other, root) not in (None, first))
    registration.wait(LIMIT_S)
    assert shown(other, root).registered_at == at
    registration.deregister(LIMIT_S)


def test_an_id_that_was_taken_meanwhile_is_not_taken_back(
    connect: Connect, proxy: FaultProxy, root: str
) -> None:
    client, other = connect(proxy.hosts), connect()
    registration = ServiceRegistration(client, root, ORDERS)
    registration.register(LIMIT_S)
    proxy.refuse()
    proxy.expire()
    until(lambda: owner(other, root) is None)
    other.create(f"{root}/orders/a", b"theirs", ephemeral=True)
    proxy.admit()
    until(lambda: registration.rival == session_of(other))
    assert not registration.present
    other.delete(f"{root}/orders/a")
    registration.wait(LIMIT_S)
    assert registration.deregister(LIMIT_S)


def test_a_leftover_of_an_own_earlier_session_is_replaced(
    connect: Connect, proxy: FaultProxy, root: str
) -> None:
    """A client that is stopped without a connection cannot end its session, and gets another."""
    client, other = connect(proxy.hosts, timeout=60.0), connect()
    registration = ServiceRegistration(client, root, ORDERS)
    registration.register(LIMIT_S)
    first = session_of(client)
    proxy.refuse()
    proxy.cut()
    until(lambda: not client.connected)
    client.stop()
    assert owner(other, root) == first
    proxy.admit()
    client.start(LIMIT_S)
    registration.wait(LIMIT_S)
    assert owner(other, root) == session_of(client) != first
    assert registration.deregister(LIMIT_S)


def test_deregistered_as_soon_as_it_can(connect: Connect, proxy: FaultProxy, root: str) -> None:
    client, other = connect(proxy.hosts), connect()
    registration = ServiceRegistration(client, root, ORDERS)
    registration.register(LIMIT_S)
    proxy.refuse()
    proxy.cut()
    until(lambda: not client.connected)
    assert not registration.deregister(0.01)
    proxy.admit()
    until(lambda: owner(other, root) is None)
    assert registration.deregister(LIMIT_S)
    assert not registration._loop._thread.is_alive()


def test_a_client_that_is_stopped_ends_a_deregistration(
    connect: Connect, proxy: FaultProxy, root: str
) -> None:
    client = connect(proxy.hosts)
    registration = ServiceRegistration(client, root, ORDERS)
    registration.register(LIMIT_S)
    proxy.refuse()
    proxy.cut()
    until(lambda: not client.connected)
    assert not registration.deregister(0.01)
    client.stop()
    until(lambda: not registration._loop._thread.is_alive())


def test_deregister_is_bounded_in_time(connect: Connect, root: str, spawn: Spawn) -> None:
    """Also of a client that is stopped, while the check of health does not come back."""
    called, go_on = threading.Event(), threading.Event()

    def check() -> bool:
        if registration.present:
            called.set()
            go_on.wait(LIMIT_S)
        return True

    client = connect()
    registration = ServiceRegistration(client, root, ORDERS, health=check, every=0.01)
    registration.register(LIMIT_S)
    assert called.wait(LIMIT_S)
    client.stop()
    leaving = spawn(lambda: registration.deregister(0.01))
    try:
        assert leaving.result(LIMIT_S / 2)
    finally:
        go_on.set()
    until(lambda: not registration._loop._thread.is_alive())


def test_register_is_bounded_in_time(connect: Connect, proxy: FaultProxy, root: str) -> None:
    registration = ServiceRegistration(connect(proxy.hosts), root, ORDERS)
    proxy.refuse()
    proxy.cut()
    with pytest.raises(TimeUp):
        registration.register(0.01)
    proxy.admit()
    registration.wait(LIMIT_S)
    registration.deregister(LIMIT_S)


def test_what_is_not_registered() -> None:
    with pytest.raises(ValueError, match="only DYNAMIC"):
        ServiceRegistration(KazooClient(), "/x", ServiceInstance("a", kind=ServiceType.STATIC))
    registration = ServiceRegistration(KazooClient(), "/x", ORDERS)
    with pytest.raises(ValueError, match="another instance"):
        registration.update(ServiceInstance("orders", id="b"))
    with pytest.raises(ValueError, match="only DYNAMIC"):
        registration.update(attrs.evolve(ORDERS, kind=ServiceType.STATIC))
    assert registration.deregister(0)


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
    """Registered once, changed, and gone in the end, whichever answer is lost."""
    witness, places = connect(), count()

    def play(fault: Fault) -> None:
        base = f"{root}/{next(places)}"
        with FaultProxy(server.port) as front:
            victim = connect(front.hosts)
            front.arm(fault)
            registration = ServiceRegistration(victim, base, ORDERS)
            registration.register(LIMIT_S)
            assert witness.get_children(f"{base}/orders") == ["a"]
            registration.update(ORDERS.with_metadata(zone="x"))
            registration.wait(LIMIT_S)
            assert shown(witness, base).metadata == {"zone": "x"}
            assert registration.deregister(LIMIT_S)
            until(lambda: witness.get_children(f"{base}/orders") == [])
            assert registration.rival is None
            victim.stop()
            victim.close()

    assert 5 <= meet_all(play, lambda at: Fault(at, when, do=do), LIMIT) < LIMIT
