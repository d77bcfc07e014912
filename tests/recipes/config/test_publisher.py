"""Publishing on a server that works."""

import json

import attrs
import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoAuthError
from kazoo.security import make_digest_acl

from recipes.base import TimeUp
from recipes.config import (
    ConfigPublisher,
    ConflictError,
    FormatError,
    InvalidConfigError,
    NotPublishedError,
    TooLargeError,
)
from tests.recipes.config.settings import Settings
from tests.recipes.conftest import Connect
from tests.recipes.faults import FaultProxy


@pytest.fixture
def publisher(client: KazooClient, root: str) -> ConfigPublisher[Settings]:
    return ConfigPublisher(client, root, Settings, by="ops", keep=3)


def test_revisions_count_from_one(publisher: ConfigPublisher[Settings]) -> None:
    assert publisher.current() is None
    assert publisher.publish(Settings.pair(1)) == 1
    assert publisher.publish(Settings.pair(2), note="more") == 2
    now = publisher.current()
    assert now is not None
    assert (now.value, now.revision, now.by, now.note) == (Settings.pair(2), 2, "ops", "more")


def test_on_condition(publisher: ConfigPublisher[Settings]) -> None:
    assert publisher.publish(Settings.pair(1), expected=0) == 1
    assert publisher.publish(Settings.pair(2), expected=1) == 2
    with pytest.raises(ConflictError) as caught:
        publisher.publish(Settings.pair(3), expected=1)
    assert (caught.value.expected, caught.value.found) == (1, 2)
    with pytest.raises(ConflictError):
        publisher.publish(Settings.pair(3), expected=0)
    assert publisher.history() == [1, 2]


def test_history_is_bounded_and_whole(
    publisher: ConfigPublisher[Settings], client: KazooClient, root: str
) -> None:
    for number in range(1, 6):
        publisher.publish(Settings.pair(number))
    assert publisher.history() == [3, 4, 5]
    assert publisher.at(4).value == Settings.pair(4)
    with pytest.raises(NotPublishedError):
        publisher.at(2)
    assert client.get_children(root) == ["history"]
    assert client.get(f"{root}/history/0000000005")[0] == client.get(root)[0]


def test_rollback_is_a_new_revision(publisher: ConfigPublisher[Settings]) -> None:
    publisher.publish(Settings.pair(1))
    publisher.publish(Settings.pair(2))
    assert publisher.rollback(1) == 3
    now = publisher.current()
    assert now is not None
    assert (now.value, now.note) == (Settings.pair(1), "rollback to 1")


def test_change_edits_what_is_in_force(
    publisher: ConfigPublisher[Settings], client: KazooClient, root: str
) -> None:
    other = ConfigPublisher(client, root, Settings)
    seen = []

    def edit(now: Settings) -> Settings:
        seen.append(now.left)
        if len(seen) == 1:
            other.publish(Settings.pair(10))
        return Settings.pair(now.left + 1)

    publisher.publish(Settings.pair(1))
    assert publisher.change(edit) == 3
    assert seen == [1, 10]
    assert publisher.at(3).value == Settings.pair(11)


def test_nothing_to_change(publisher: ConfigPublisher[Settings]) -> None:
    with pytest.raises(NotPublishedError):
        publisher.change(lambda now: now)


def test_what_is_refused_leaves_no_trace(client: KazooClient, root: str) -> None:
    def check(new: Settings) -> None:
        if new.rate > 100:
            raise ValueError("rate above 100")

    publisher = ConfigPublisher(client, root, Settings, check=check)
    with pytest.raises(InvalidConfigError, match="rate above 100"):
        publisher.publish(Settings(rate=101))
    with pytest.raises(InvalidConfigError, match="left: not an int"):
        publisher.publish(Settings(left="x"))  # type: ignore[arg-type]
    with pytest.raises(TooLargeError):
        publisher.publish(Settings(labels={"a": "x" * 600_000}))
    assert publisher.current() is None
    assert publisher.history() == []


def test_the_largest_fits_into_one_request(publisher: ConfigPublisher[Settings]) -> None:
    assert publisher.publish(Settings(labels={"a": "x" * 499_000})) == 1
    assert publisher.at(1).value.labels == {"a": "x" * 499_000}


def test_an_older_revision_that_is_refused_today(
    publisher: ConfigPublisher[Settings], client: KazooClient, root: str
) -> None:
    publisher.publish(Settings(rate=5))
    strict = attrs.make_class(
        "Strict", {"rate": attrs.field(type=float, validator=attrs.validators.lt(5))}, frozen=True
    )
    with pytest.raises(InvalidConfigError, match="rate"):
        ConfigPublisher(client, root, strict).rollback(1)


def test_a_node_that_somebody_else_wrote(
    publisher: ConfigPublisher[Settings], client: KazooClient, root: str
) -> None:
    publisher.publish(Settings.pair(1))
    client.set(root, b"by hand")
    with pytest.raises(FormatError):
        publisher.current()
    assert publisher.publish(Settings.pair(2)) == 3
    assert json.loads(client.get(root)[0])["revision"] == 3


def test_no_right_to_write(client: KazooClient, root: str, connect: Connect) -> None:
    client.create(root, acl=[make_digest_acl("u", "p", all=True)])
    with pytest.raises(NoAuthError):
        ConfigPublisher(connect(), root, Settings).publish(Settings())


def test_a_call_is_bounded_in_time(connect: Connect, proxy: FaultProxy, root: str) -> None:
    publisher = ConfigPublisher(connect(proxy.hosts), root, Settings, timeout=0.05)
    proxy.refuse()
    proxy.cut()
    with pytest.raises(TimeUp):
        publisher.publish(Settings())
    proxy.admit()
