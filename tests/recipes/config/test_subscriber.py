"""Subscribers: what they show, keep, refuse, and say of it, through outages and restarts."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import CancelledError

from recipes.base import TimeUp
from recipes.config import (
    ConfigPublisher,
    ConfigSubscriber,
    Freshness,
    InvalidConfigError,
    NotPublishedError,
    Published,
)
from tests.recipes.config.settings import Mode, Settings
from tests.recipes.conftest import Connect, Spawn
from tests.recipes.faults import LIMIT_S, Fault, FaultProxy, Link, until
from zkpy.testing.realserver import RealServer


@pytest.fixture
def publisher(client: KazooClient, root: str) -> ConfigPublisher[Settings]:
    return ConfigPublisher(client, root, Settings)


@contextlib.contextmanager
def subscribed(
    client: KazooClient, root: str, **options: Any
) -> Iterator[ConfigSubscriber[Settings]]:
    with ConfigSubscriber(client, root, Settings, **options) as subscriber:
        yield subscriber


def current(subscriber: ConfigSubscriber[Settings], revision: int) -> Settings:
    return subscriber.wait(revision=revision, freshness=Freshness.CURRENT, timeout=LIMIT_S).value


def test_follows(client: KazooClient, root: str, publisher: ConfigPublisher[Settings]) -> None:
    with subscribed(client, root) as subscriber:
        publisher.publish(Settings.pair(1))
        assert current(subscriber, 1) == Settings.pair(1)
        publisher.publish(Settings.pair(2))
        assert current(subscriber, 2) == Settings.pair(2)
    assert subscriber.freshness is Freshness.STALE
    assert subscriber.value == Settings.pair(2)


def test_empty(client: KazooClient, root: str) -> None:
    with subscribed(client, root) as subscriber:
        assert subscriber.freshness is Freshness.EMPTY
        assert subscriber.revision == 0
        with pytest.raises(NotPublishedError):
            _ = subscriber.value
        with pytest.raises(TimeUp):
            subscriber.wait(timeout=0.01)


def test_nothing_published_is_an_answer_too(client: KazooClient, root: str) -> None:
    subscriber = ConfigSubscriber(client, root, Settings)
    with subscriber:
        subscriber.wait_read(LIMIT_S)
        assert subscriber.was_read
        assert subscriber.freshness is Freshness.EMPTY
        assert client._data_watchers.keys() == {root}
    # Of the watch nothing is left that could call.
    assert [bell._alarms for bell in client._data_watchers[root]] == [{}]


def test_listeners(client: KazooClient, root: str, publisher: ConfigPublisher[Settings]) -> None:
    seen: list[int] = []
    publisher.publish(Settings.pair(1))

    def fail(new: Published[Settings]) -> None:
        raise ValueError("a listener's own trouble")

    with subscribed(client, root) as subscriber:
        current(subscriber, 1)
        subscriber.add_listener(fail)
        subscriber.add_listener(lambda new: seen.append(new.revision))
        assert seen == [1]
        publisher.publish(Settings.pair(2))
        current(subscriber, 2)
        until(lambda: seen == [1, 2])


def test_a_listener_may_use_the_client(
    client: KazooClient, root: str, publisher: ConfigPublisher[Settings]
) -> None:
    done = threading.Event()

    def answer(new: Published[Settings]) -> None:
        client.create(f"{root}-applied", str(new.revision).encode())
        done.set()

    with subscribed(client, root) as subscriber:
        subscriber.add_listener(answer)
        publisher.publish(Settings.pair(1))
        assert done.wait(LIMIT_S)
    assert client.get(f"{root}-applied")[0] == b"1"


# --- refused ----------------------------------------------------------------------------------


def refuse_odd(new: Settings) -> None:
    if new.left % 2:
        raise ValueError("odd")


def test_a_listener_that_blocks_holds_up_no_wait(
    client: KazooClient, root: str, publisher: ConfigPublisher[Settings]
) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def block(new: Published[Settings]) -> None:
        inside.set()
        assert go_on.wait(LIMIT_S)

    with subscribed(client, root) as subscriber:
        subscriber.add_listener(block)
        publisher.publish(Settings.pair(1))
        assert inside.wait(LIMIT_S)
        assert subscriber.wait(timeout=LIMIT_S).value == Settings.pair(1)
        with pytest.raises(TimeUp):
            subscriber.wait(revision=2, timeout=0.01)
        subscriber.reconsider()
        subscriber.remove_listener(block)
        go_on.set()


def test_started_once(client: KazooClient, root: str) -> None:
    with subscribed(client, root) as subscriber, pytest.raises(RuntimeError, match="make another"):
        subscriber.start()
    with pytest.raises(RuntimeError, match="make another"):
        subscriber.start()
    assert not client.state_listeners


def test_who_waits_is_told_of_a_stop(client: KazooClient, root: str, spawn: Spawn) -> None:
    subscriber = ConfigSubscriber(client, root, Settings)
    waited = spawn(subscriber.wait)
    subscriber.start()
    subscriber.stop()
    assert isinstance(waited.exception(LIMIT_S), CancelledError)
    with pytest.raises(CancelledError):
        subscriber.wait()


def test_what_is_not_accepted_changes_nothing(
    client: KazooClient, root: str, publisher: ConfigPublisher[Settings]
) -> None:
    publisher.publish(Settings.pair(2))
    with subscribed(client, root, accept=refuse_odd) as subscriber:
        current(subscriber, 1)
        publisher.publish(Settings.pair(3))
        until(lambda: subscriber.refused)
        assert subscriber.refused is not None
        assert subscriber.refused.problem == "odd"
        until(lambda: subscriber.freshness is Freshness.STALE)
        assert subscriber.value == Settings.pair(2)
        publisher.rollback(1)
        assert current(subscriber, 3) == Settings.pair(2)
        assert subscriber.refused is None


@pytest.mark.parametrize("data", [None, b"", b"by hand", b'{"format":1}'])
def test_what_no_publisher_wrote_changes_nothing(
    client: KazooClient, root: str, publisher: ConfigPublisher[Settings], data: bytes | None
) -> None:
    publisher.publish(Settings.pair(1))
    with subscribed(client, root) as subscriber:
        current(subscriber, 1)
        client.set(root, data)
        until(lambda: subscriber.refused)
        assert subscriber.value == Settings.pair(1)
        publisher.publish(Settings.pair(2))
        assert current(subscriber, 3) == Settings.pair(2)


def test_reconsider(client: KazooClient, root: str, publisher: ConfigPublisher[Settings]) -> None:
    doors = threading.Event()

    def accept(new: Settings) -> None:
        if not doors.is_set():
            raise ConnectionError("the database is away")

    publisher.publish(Settings.pair(1))
    with subscribed(client, root, accept=accept) as subscriber:
        until(lambda: subscriber.refused)
        doors.set()
        subscriber.reconsider()
        assert current(subscriber, 1) == Settings.pair(1)


def test_deleted_and_published_anew(
    client: KazooClient, root: str, publisher: ConfigPublisher[Settings]
) -> None:
    publisher.publish(Settings.pair(1))
    publisher.publish(Settings.pair(2))
    with subscribed(client, root) as subscriber:
        current(subscriber, 2)
        client.delete(root, recursive=True)
        until(lambda: subscriber.freshness is Freshness.STALE)
        assert subscriber.value == Settings.pair(2)
        publisher.publish(Settings.pair(5))
        until(lambda: subscriber.revision == 1)
        assert current(subscriber, 1) == Settings.pair(5)


# --- outages and restarts ------------------------------------------------------------------------


def test_through_an_outage(
    connect: Connect, proxy: FaultProxy, root: str, publisher: ConfigPublisher[Settings]
) -> None:
    publisher.publish(Settings.pair(1))
    with subscribed(connect(proxy.hosts), root) as subscriber:
        current(subscriber, 1)
        proxy.refuse()
        proxy.cut()
        subscriber.wait(freshness=Freshness.STALE, timeout=LIMIT_S)
        publisher.publish(Settings.pair(2))
        assert subscriber.value == Settings.pair(1)
        proxy.admit()
        assert current(subscriber, 2) == Settings.pair(2)


def test_through_an_expired_session(
    connect: Connect, proxy: FaultProxy, root: str, publisher: ConfigPublisher[Settings]
) -> None:
    publisher.publish(Settings.pair(1))
    with subscribed(connect(proxy.hosts), root) as subscriber:
        current(subscriber, 1)
        proxy.expire()
        publisher.publish(Settings.pair(2))
        assert current(subscriber, 2) == Settings.pair(2)


def test_the_copy_survives_a_restart_without_a_server(
    connect: Connect,
    proxy: FaultProxy,
    root: str,
    publisher: ConfigPublisher[Settings],
    tmp_path: Path,
) -> None:
    file = tmp_path / "copy.json"
    client = connect(proxy.hosts)
    publisher.publish(Settings.pair(1))
    with subscribed(client, root, file=file) as first:
        current(first, 1)
    proxy.refuse()
    proxy.cut()
    until(lambda: not client.connected)
    publisher.publish(Settings.pair(2))
    with subscribed(client, root, file=file) as second:
        assert second.freshness is Freshness.STALE
        assert second.value == Settings.pair(1)
        proxy.admit()
        assert current(second, 2) == Settings.pair(2)
    with subscribed(client, root, file=file) as third:
        assert third.revision == 2


def test_a_copy_that_is_not_accepted_any_more(
    client: KazooClient, root: str, publisher: ConfigPublisher[Settings], tmp_path: Path
) -> None:
    file = tmp_path / "copy.json"
    publisher.publish(Settings.pair(1))
    with subscribed(client, root, file=file) as first:
        current(first, 1)
    with subscribed(client, root, file=file, accept=refuse_odd) as second:
        until(lambda: second.refused)
        assert second.freshness is Freshness.EMPTY


def test_a_disk_that_takes_no_copy(
    client: KazooClient, root: str, publisher: ConfigPublisher[Settings], tmp_path: Path
) -> None:
    missing = tmp_path / "not there" / "copy.json"
    with subscribed(client, root, file=missing) as subscriber:
        publisher.publish(Settings.pair(1))
        assert current(subscriber, 1) == Settings.pair(1)
        assert str(missing) in str(subscriber.store_problem)
        missing.parent.mkdir()
        publisher.publish(Settings.pair(2))
        current(subscriber, 2)
        assert subscriber.store_problem is None
    assert missing.exists()


def test_through_a_restart_of_the_server(
    server: RealServer,
    connect: Connect,
    proxy: FaultProxy,
    root: str,
) -> None:
    client = connect(proxy.hosts)
    publisher = ConfigPublisher(client, root, Settings)
    publisher.publish(Settings.pair(1))
    with subscribed(client, root) as subscriber:
        current(subscriber, 1)
        with proxy.doors_shut():
            server.restart()
        publisher.publish(Settings.pair(2))
        assert current(subscriber, 2) == Settings.pair(2)


def test_stop_while_an_answer_is_awaited(
    connect: Connect, proxy: FaultProxy, root: str, publisher: ConfigPublisher[Settings]
) -> None:
    publisher.publish(Settings(mode=Mode.FAST))
    client = connect(proxy.hosts)
    fault = proxy.arm(Fault(at=2, do=Link.stall, cut=False))
    with subscribed(client, root) as subscriber:
        fault.wait()
    assert subscriber.freshness is Freshness.EMPTY
    proxy.flow()


def test_a_bad_publisher_is_refused_by_its_own_check(root: str, client: KazooClient) -> None:
    publisher = ConfigPublisher(client, root, Settings, check=refuse_odd)
    with subscribed(client, root) as subscriber:
        with pytest.raises(InvalidConfigError, match="odd"):
            publisher.publish(Settings.pair(1))
        publisher.publish(Settings.pair(2))
        assert current(subscriber, 1) == Settings.pair(2)
