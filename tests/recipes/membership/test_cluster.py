"""Members and an observer on a server: joins, departures, sessions lost, faults at requests."""

import threading
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import CancelledError

from recipes.base import TimeUp
from recipes.membership import ClusterMember, ClusterObserver, Event, Kind
from recipes.membership.view import Seat, Status
from tests.recipes.conftest import Connect, Spawn
from tests.recipes.faults import (
    LIMIT_S,
    Fault,
    FaultProxy,
    Link,
    When,
    behind_shut_doors,
    meet_all,
    until,
)
from zkpy.testing.realserver import RealServer

LONG_S = 600.0
LIMIT = 40


class Watched:
    """An observer, and all that it told."""

    def __init__(self, client: KazooClient, path: str, grace: float = LONG_S) -> None:
        self.observer = ClusterObserver(client, path, grace=grace)
        self.events: list[Event] = []
        self.observer.add_listener(self.events.append)
        self.observer.start()

    def wait(self, condition: Callable[[dict[str, Seat]], object]) -> None:
        """Also until it has been told: the view comes first."""
        self.observer.wait(condition, LIMIT_S)
        until(lambda: self.observer._listeners.up_to_date)

    def alive(self, *names: str) -> None:
        self.wait(lambda seats: sorted(alive(seats)) == sorted(names))

    def told(self, kind: Kind) -> list[str]:
        return [each.member.name for each in self.events if each.kind is kind and each.member]


def alive(seats: dict[str, Seat]) -> list[str]:
    return [name for name, seat in seats.items() if seat.status is Status.ALIVE]


@pytest.fixture
def watched(connect: Connect, root: str) -> Iterator[Watched]:
    watched = Watched(connect(), root)
    yield watched
    watched.observer.stop()


def test_join_update_leave(watched: Watched, connect: Connect, root: str) -> None:
    client = connect()
    with ClusterMember(client, root, "a", {"zone": "x"}) as member:
        assert member.present
        watched.alive("a")
        assert watched.observer.members["a"].member.metadata == {"zone": "x"}
        member.update({"zone": "y"})
        member.wait(LIMIT_S)
        watched.wait(lambda seats: seats["a"].member.metadata == {"zone": "y"})
    watched.wait(lambda seats: not seats)
    assert [each.kind for each in watched.events if each.member] == [
        Kind.JOINED,
        Kind.CHANGED,
        Kind.LEFT,
    ]
    assert client.get_children(f"{root}/members") == []


def test_who_waits_is_told_of_a_stop(
    watched: Watched, connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    client = connect(proxy.hosts)
    proxy.refuse()
    proxy.cut()
    until(lambda: not client.connected)
    member = ClusterMember(client, root, "a")
    waits = [spawn(member.join), spawn(watched.observer.wait, bool, None)]
    until(member._loop._thread.is_alive)
    member.leave(0)
    watched.observer.stop()
    assert all(isinstance(each.exception(LIMIT_S), CancelledError) for each in waits)


def test_master_is_the_oldest(watched: Watched, connect: Connect, root: str) -> None:
    first, second = (ClusterMember(connect(), root, name) for name in ("b", "a"))
    first.join(LIMIT_S)
    second.join(LIMIT_S)
    watched.alive("a", "b")
    assert watched.observer.master is not None
    assert watched.observer.master.name == "b"
    first.leave()
    watched.alive("a")
    assert watched.observer.master.name == "a"
    second.leave()


def test_a_member_that_dies_is_suspect_first(connect: Connect, root: str) -> None:
    watched = Watched(connect(), root, grace=0.05)
    client = connect()
    ClusterMember(client, root, "a").join(LIMIT_S)
    watched.alive("a")
    client.stop()
    watched.wait(lambda seats: not seats)
    assert watched.told(Kind.SUSPECT) == watched.told(Kind.LEFT) == ["a"]
    watched.observer.stop()


def test_an_expired_member_comes_back(
    watched: Watched, connect: Connect, proxy: FaultProxy, root: str
) -> None:
    member = ClusterMember(connect(proxy.hosts), root, "a")
    member.join(LIMIT_S)
    watched.alive("a")
    proxy.refuse()
    proxy.expire()
    watched.wait(lambda seats: seats["a"].status is Status.SUSPECT)
    assert not member.present
    proxy.admit()
    watched.alive("a")
    member.wait(LIMIT_S)
    assert watched.told(Kind.RETURNED) == ["a"]
    assert watched.told(Kind.LEFT) == []
    member.leave()


def test_a_node_that_was_deleted_by_hand_is_made_again(
    watched: Watched, connect: Connect, root: str
) -> None:
    client = connect()
    with ClusterMember(client, root, "a"):
        watched.alive("a")
        (node,) = client.get_children(f"{root}/members")
        client.delete(f"{root}/members/{node}")
        until(lambda: client.get_children(f"{root}/members") not in ([], [node]))
        # Whether the observer sees it absent for a moment is chance; gone it is not.
        watched.alive("a")
        assert watched.told(Kind.LEFT) == []


def test_everybody_vanishes_at_once(connect: Connect, proxy: FaultProxy, root: str) -> None:
    watched = Watched(connect(), root)
    members = [ClusterMember(connect(proxy.hosts), root, name) for name in "abc"]
    for member in members:
        member.join(LIMIT_S)
    watched.alive("a", "b", "c")
    proxy.refuse()
    proxy.expire()
    until(lambda: sorted(watched.told(Kind.SUSPECT)) == ["a", "b", "c"])
    until(lambda: watched.observer.stale)
    assert sorted(watched.observer.members) == ["a", "b", "c"]
    proxy.admit()
    watched.alive("a", "b", "c")
    until(lambda: not watched.observer.stale)
    assert watched.told(Kind.LEFT) == []
    proxy.refuse()
    proxy.expire()
    watched.alive()
    until(lambda: watched.observer.stale)
    watched.observer.accept()
    assert watched.observer.members == {}
    until(lambda: not watched.observer.stale)
    watched.observer.stop()
    for member in members:
        member.leave(timeout=0)


def test_who_accepts_does_not_call_listeners(
    connect: Connect, proxy: FaultProxy, root: str
) -> None:
    """They are called in the observer's own thread, which they may stop: who accepts would hold
    what that thread waits for, and wait for its end."""
    watched = Watched(connect(), root)
    members = [ClusterMember(connect(proxy.hosts), root, name) for name in "abc"]
    for member in members:
        member.join(LIMIT_S)
    watched.alive("a", "b", "c")
    proxy.refuse()
    proxy.expire()
    watched.alive()
    callers: list[threading.Thread] = []

    def told(event: Event) -> None:
        callers.append(threading.current_thread())
        watched.observer.stop()

    watched.observer.add_listener(told)
    watched.observer.accept()
    watched.observer._loop._thread.join(LIMIT_S)
    assert not watched.observer._loop._thread.is_alive()
    assert set(callers) == {watched.observer._loop._thread}
    assert watched.observer.stale
    for member in members:
        member.leave(timeout=0)


def test_an_observer_that_is_cut_off_keeps_its_view(
    connect: Connect, proxy: FaultProxy, root: str
) -> None:
    watched = Watched(connect(proxy.hosts), root)
    members = [ClusterMember(connect(), root, name) for name in "ab"]
    for member in members:
        member.join(LIMIT_S)
    watched.alive("a", "b")
    proxy.refuse()
    proxy.cut()
    until(lambda: watched.observer.stale)
    members[0].leave()
    assert sorted(watched.observer.members) == ["a", "b"]
    proxy.admit()
    watched.alive("b")
    assert not watched.observer.stale
    assert watched.told(Kind.LEFT) == ["a"]
    watched.observer.stop()
    members[1].leave()


def test_leaves_without_a_word_when_it_cannot(
    connect: Connect, proxy: FaultProxy, root: str
) -> None:
    client, witness = connect(proxy.hosts), connect()
    member = ClusterMember(client, root, "a")
    member.join(LIMIT_S)
    proxy.refuse()
    proxy.cut()
    until(lambda: not client.connected)
    member.leave(timeout=0.01)
    proxy.admit()
    until(lambda: witness.get_children(f"{root}/members") == [])


def test_join_is_bounded_in_time(connect: Connect, proxy: FaultProxy, root: str) -> None:
    member = ClusterMember(connect(proxy.hosts), root, "a")
    proxy.refuse()
    proxy.cut()
    with pytest.raises(TimeUp):
        member.join(timeout=0.01)
    proxy.admit()
    member.wait(LIMIT_S)
    member.leave()


@pytest.mark.parametrize("name", ["", "a/b", "a~b"])
def test_names(name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        ClusterMember(KazooClient(), "/x", name)


# --- faults ------------------------------------------------------------------------------------

Play = Callable[[Fault], None]


@pytest.fixture
def play(
    request: pytest.FixtureRequest,
    server: RealServer,
    connect: Connect,
    proxy: FaultProxy,
    root: str,
) -> Play:
    """Two members, of which one (or the observer) is behind the faults: in the end all see all."""
    places = count()
    calm = connect(proxy.hosts)

    def perform(fault: Fault) -> None:
        place = f"{root}/{next(places)}"
        with FaultProxy(server.port) as front:
            victim = connect(front.hosts)
            front.arm(fault)
            if request.param == "member":
                scene(calm, calm, victim, place)
            else:
                scene(victim, calm, calm, place)
            victim.stop()
            victim.close()

    return perform


def scene(eye: KazooClient, first: KazooClient, second: KazooClient, path: str) -> None:
    watched = Watched(eye, path)
    members = [ClusterMember(first, path, "a"), ClusterMember(second, path, "b", {"load": 0})]
    for member in members:
        member.join(LIMIT_S)
    watched.alive("a", "b")
    members[1].update({"load": 1})
    watched.wait(lambda seats: seats["b"].member.metadata == {"load": 1})
    members[1].leave(LIMIT_S)
    # Without a word if its session ended: then it is suspect, for as long as grace is.
    watched.alive("a")
    members[0].leave(LIMIT_S)
    watched.alive()
    watched.observer.stop()
    until(lambda: first.retry(first.get_children, f"{path}/members") == [])


@pytest.mark.parametrize("do", [None, Link.expire], ids=["cut", "expired"])
@pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))
@pytest.mark.parametrize("play", ["member", "observer"], indirect=True)
def test_a_fault_at_every_request(
    when: When, do: Callable[[Link], None] | None, play: Play
) -> None:
    assert 5 <= meet_all(play, lambda at: Fault(at, when, do=do), LIMIT) < LIMIT
    assert threading.active_count() < 200


@pytest.mark.slow
@pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))
@pytest.mark.parametrize("play", ["member", "observer"], indirect=True)
def test_the_server_restarts_at_every_request(
    when: When, play: Play, server: RealServer, proxy: FaultProxy
) -> None:
    restart = behind_shut_doors(proxy, server.restart)
    assert 5 <= meet_all(play, lambda at: Fault(at, when, do=restart), LIMIT) < LIMIT
