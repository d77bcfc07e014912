"""A consumer on a server: rules that change under it, instances that fail, what it leaves."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from kazoo.client import KazooClient

from recipes.config import ConfigPublisher
from recipes.registry import (
    Access,
    Call,
    Candidate,
    ConsistentHash,
    Ejection,
    LeastActive,
    NoInstanceError,
    NotAdmittedError,
    RoundRobin,
    Route,
    ServiceConsumer,
    ServiceInstance,
    ServiceRegistration,
    ServiceRules,
)
from tests.recipes.conftest import Connect, Spawn
from tests.recipes.faults import LIMIT_S, FaultProxy, begun_since, until

ZONES = {"a": "x", "b": "y", "c": "x"}


def instance(name: str) -> ServiceInstance:
    found = ServiceInstance("orders", f"h-{name}", 80, name, registered_at=1)
    return found.with_metadata(zone=ZONES[name])


@pytest.fixture
def providers(connect: Connect, root: str) -> Iterator[dict[str, ServiceRegistration]]:
    """Three, named a, b, c."""
    client = connect()
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(ServiceRegistration(client, root, instance(name)))
            for name in ZONES
        }


@pytest.fixture
def publisher(connect: Connect, root: str) -> ConfigPublisher[ServiceRules]:
    return ConfigPublisher(connect(), f"{root}/rules/orders", ServiceRules)


@contextlib.contextmanager
def consuming(client: KazooClient, root: str, **settings: Any) -> Iterator[ServiceConsumer]:
    settings = {"balancer": RoundRobin(), "rules": f"{root}/rules", **settings}
    with ServiceConsumer(client, root, "orders", **settings) as consumer:
        consumer.wait(LIMIT_S)
        consumer.view.wait(lambda found: len(found) == 3, LIMIT_S)
        yield consumer


def called(consumer: ServiceConsumer, count: int = 6, **attributes: Any) -> str:
    return "".join(consumer.call(lambda each: each.id, **attributes) for _ in range(count))


Providers = dict[str, ServiceRegistration]
Publisher = ConfigPublisher[ServiceRules]


def test_rules_take_effect_while_calls_go_on(
    providers: Providers, publisher: Publisher, connect: Connect, root: str
) -> None:
    with consuming(connect(), root, me={"zone": "y"}) as consumer:
        assert called(consumer) == "abcabc"
        revision = publisher.publish(ServiceRules(disabled=["b"], weights={"c": 300}))
        consumer.config.wait(revision=revision, timeout=LIMIT_S)
        assert sorted(called(consumer, 4)) == list("accc")
        revision = publisher.publish(ServiceRules(routes=[Route("=> zone=$zone")]))
        consumer.config.wait(revision=revision, timeout=LIMIT_S)
        assert called(consumer, 2) == "bb"
        assert sorted(called(consumer, 2, zone="x")) == ["a", "c"]
        assert [each.id for each in consumer.candidates()] == ["b"]
        providers["b"].put_in_service(False)
        consumer.view.wait(lambda found: not found["b"].is_in_service, LIMIT_S)
        assert sorted(called(consumer, 2)) == ["a", "c"]


def test_who_is_not_admitted(
    providers: Providers, publisher: Publisher, connect: Connect, root: str
) -> None:
    publisher.publish(
        ServiceRules(consumers=Access(allow=["shop"]), providers=Access(deny=["h-a"]))
    )
    with (
        consuming(connect(), root, me={"application": "test"}) as consumer,
        pytest.raises(NotAdmittedError, match="orders"),
    ):
        called(consumer, application="shop")
    with consuming(connect(), root, me={"application": "shop"}) as consumer:
        assert sorted(called(consumer, 2)) == ["b", "c"]


def test_malformed_rules_leave_the_last_good_ones_in_force(
    providers: Providers, publisher: Publisher, connect: Connect, root: str
) -> None:
    client = connect()
    publisher.publish(ServiceRules(disabled=["a", "b"]))
    with consuming(client, root) as consumer:
        assert called(consumer, 2) == "cc"
        client.set(f"{root}/rules/orders", b"gibberish")
        until(lambda: consumer.config.refused)
        assert called(consumer, 2) == "cc"


def test_nobody_can_be_called(
    providers: Providers, publisher: Publisher, connect: Connect, root: str
) -> None:
    publisher.publish(ServiceRules(disabled=["a"], routes=[Route("=> zone=z", force=True)]))
    client = connect()
    consumer = ServiceConsumer(client, root, "orders", rules=f"{root}/rules")
    with pytest.raises(NoInstanceError, match="have not been read"):
        called(consumer)
    with consuming(client, root) as consumer:
        providers["c"].put_in_service(False)
        consumer.view.wait(lambda found: not found["c"].is_in_service, LIMIT_S)
        with pytest.raises(NoInstanceError, match="3 registered, 2 in service, 1 admitted, 0 left"):
            called(consumer)


def test_instances_that_fail_are_left_out(
    providers: Providers, connect: Connect, root: str
) -> None:
    asked = []

    def work(instance: ServiceInstance) -> str:
        asked.append(instance.id)
        if instance.id == "b":
            raise ConnectionRefusedError
        return instance.id

    ejection = Ejection(errors=2, out_ms=3_600_000)
    with consuming(connect(), root, ejection=ejection) as consumer:
        assert all(consumer.call(work, retries=1) in "ac" for _ in range(9))
        assert asked.count("b") == 2
        assert consumer.is_out("b")
        assert not consumer.is_out("a")
        assert sorted(called(consumer, 4)) == list("aacc")


def test_retries_are_bounded_and_go_to_others(
    providers: Providers, connect: Connect, root: str
) -> None:
    asked: list[str] = []

    def fail(instance: ServiceInstance) -> None:
        asked.append(instance.id)
        raise TimeoutError(instance.id)

    with consuming(connect(), root) as consumer:
        for retries, tried in ((0, 1), (1, 2), (9, 3)):
            asked.clear()
            with pytest.raises(TimeoutError):
                consumer.call(fail, retries=retries)
            assert len(set(asked)) == len(asked) == tried
        # All of them have failed twice by now: one is tried rather than none.
        assert all(consumer.is_out(name) for name in "abc")
        assert called(consumer, 1) in "abc"


def test_an_answer_that_is_an_exception_is_no_failure(
    providers: Providers, connect: Connect, root: str
) -> None:
    def refuse(instance: ServiceInstance) -> None:
        raise ValueError("no such order")

    with consuming(connect(), root, ejection=Ejection(errors=1)) as consumer:
        for _ in range(3):
            with pytest.raises(ValueError, match="no such order"):
                consumer.call(refuse, retries=5)
        assert not any(consumer.is_out(name) for name in "abc")


def test_calls_under_way_count(providers: Providers, connect: Connect, root: str) -> None:
    with consuming(connect(), root, balancer=LeastActive()) as consumer:
        with consumer.use() as first, consumer.use() as second, consumer.use() as third:
            assert sorted([first.id, second.id, third.id]) == ["a", "b", "c"]
        assert consumer._active == {}


def test_a_key_goes_to_one_instance(providers: Providers, connect: Connect, root: str) -> None:
    with consuming(connect(), root, balancer=ConsistentHash()) as consumer:
        for key in ("1", "2", "3"):
            assert len({consumer.call(lambda each: each.id, key=key) for _ in range(5)}) == 1


def test_calls_go_on_without_a_connection(
    providers: Providers, publisher: Publisher, connect: Connect, proxy: FaultProxy, root: str
) -> None:
    publisher.publish(ServiceRules(disabled=["a"]))
    with consuming(connect(proxy.hosts), root) as consumer:
        proxy.refuse()
        proxy.cut()
        until(lambda: consumer.view.stale)
        assert called(consumer, 4) == "bcbc"
        proxy.admit()
        until(lambda: not consumer.view.stale)


def test_nothing_is_left_of_it(providers: Providers, connect: Connect, root: str) -> None:
    client = connect()
    before = threading.enumerate()
    for _ in range(3):
        with consuming(client, root):
            assert len(begun_since(before)) == 2
    assert begun_since(before) == []
    for watchers in (client._child_watchers, client._data_watchers):
        assert [
            each for bells in watchers.values() for bell in bells for each in bell._alarms
        ] == []


def test_a_balancer_may_ask_who_is_out(
    providers: Providers, connect: Connect, root: str, spawn: Spawn
) -> None:
    class First:
        def choose(self, candidates: Sequence[Candidate], call: Call) -> Candidate:
            return next(each for each in candidates if not consumer.is_out(each.id))

    with consuming(connect(), root, balancer=First()) as consumer:
        assert spawn(called, consumer).result(LIMIT_S) == "aaaaaa"
