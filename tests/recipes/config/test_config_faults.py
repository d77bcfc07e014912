"""A fault at every request of a publisher and of a subscriber: nothing half, twice, back or lost.

Each play has a publisher (or a subscriber) behind the proxy, a rival publisher and a
subscriber that see no fault, and a place of its own. Afterwards history is the proof: who was
told that a revision is theirs finds it there, once, and whatever any subscriber has shown is a
revision of history as a whole.
"""

from collections.abc import Callable
from itertools import count

import pytest
from kazoo.client import KazooClient

from recipes.config import ConfigPublisher, ConfigSubscriber, Freshness, Published
from tests.recipes.config.settings import Settings, increment
from tests.recipes.conftest import Connect
from tests.recipes.faults import (
    LIMIT_S,
    Fault,
    FaultProxy,
    Link,
    When,
    behind_shut_doors,
    meet_all,
)
from zkpy.testing.realserver import RealServer

Play = Callable[[Fault | None], int]
"""Plays, judges, and returns how many requests the one behind the proxy made."""
Views = list[Published[Settings]]
KEEP = 100
LIMIT = 60


class Place:
    """One path, with a rival that publishes and a subscriber that watches all of it."""

    def __init__(self, witness: KazooClient, path: str) -> None:
        self.client, self.path = witness, path
        self.rival = self.publisher(witness)

    def publisher(self, client: KazooClient) -> ConfigPublisher[Settings]:
        return ConfigPublisher(client, self.path, Settings, keep=KEEP, timeout=LIMIT_S)

    def judge_history(self, publishes: int) -> None:
        """Each publish once, and each was made on what was in force before."""
        revisions = self.rival.history()
        assert revisions == list(range(1, publishes + 1))
        assert [self.rival.at(each).value.left for each in revisions] == revisions
        assert self.client.get_children(self.path) == ["history"]

    def judge_views(self, views: Views) -> None:
        revisions = [each.revision for each in views]
        assert revisions == sorted(set(revisions))
        assert views == [self.rival.at(each) for each in revisions]


def play_publisher(place: Place, victim: KazooClient) -> None:
    """The first publish, one on condition, and a change that is raced by a rival's: each revision
    has its own number for a value."""
    views: Views = []
    with ConfigSubscriber(place.client, place.path, Settings) as subscriber:
        subscriber.add_listener(views.append)
        publisher = place.publisher(victim)
        assert publisher.publish(Settings.pair(1), expected=0) == 1
        assert publisher.publish(Settings.pair(2), expected=1) == 2
        rivals = iter([place.rival])

        def edit(now: Settings) -> Settings:
            for rival in rivals:
                rival.change(increment)
            return increment(now)

        assert publisher.change(edit) == 4
        subscriber.wait(revision=4, freshness=Freshness.CURRENT, timeout=LIMIT_S)
    place.judge_history(4)
    place.judge_views(views)


def play_subscriber(place: Place, victim: KazooClient) -> None:
    """Starts before the node is there, then follows three publishes."""
    views: Views = []
    with ConfigSubscriber(victim, place.path, Settings) as subscriber:
        subscriber.add_listener(views.append)
        for number in range(1, 4):
            place.rival.publish(Settings.pair(number))
            subscriber.wait(revision=number, freshness=Freshness.CURRENT, timeout=LIMIT_S)
    place.judge_history(3)
    place.judge_views(views)
    assert len(views) == 3


PLAYS = {"publisher": play_publisher, "subscriber": play_subscriber}


@pytest.fixture
def stage(
    request: pytest.FixtureRequest,
    server: RealServer,
    connect: Connect,
    proxy: FaultProxy,
    root: str,
) -> Play:
    """The witness comes through `proxy`, so that a restart can keep it waiting."""
    places = count()
    witness = connect(proxy.hosts)

    def perform(fault: Fault | None) -> int:
        with FaultProxy(server.port) as front:
            victim = connect(front.hosts)
            if fault is not None:
                front.arm(fault)
            PLAYS[request.param](Place(witness, f"{root}/{next(places)}"), victim)
            victim.stop()
            victim.close()
            return len(front.seen)

    return perform


@pytest.mark.parametrize("do", [None, Link.expire], ids=["cut", "expired"])
@pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))
@pytest.mark.parametrize("stage", list(PLAYS), indirect=True)
def test_a_fault_at_every_request(
    when: When, do: Callable[[Link], None] | None, stage: Play
) -> None:
    # Four requests are made in any case; watches that come together may save the others.
    assert stage(None) >= 4
    assert 4 <= meet_all(stage, lambda at: Fault(at, when, do=do), LIMIT) < LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))
@pytest.mark.parametrize("stage", list(PLAYS), indirect=True)
def test_the_server_restarts_at_every_request(
    when: When, stage: Play, server: RealServer, proxy: FaultProxy
) -> None:
    restart = behind_shut_doors(proxy, server.restart)
    assert 4 <= meet_all(stage, lambda at: Fault(at, when, do=restart), LIMIT) < LIMIT
