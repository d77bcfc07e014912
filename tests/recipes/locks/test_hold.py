"""What a holder may believe: the table, and answers that come out of order."""

from collections.abc import Callable
from itertools import product

import attrs
import pytest
from kazoo.exceptions import ConnectionLoss, NoNodeError, SessionExpiredError
from kazoo.protocol.states import (
    EventType,
    KazooState,
    KeeperState,
    WatchedEvent,
    ZnodeStat,
)

from recipes.locks.hold import NEXT, Hold, HoldState, News

SESSION, OTHER, CZXID = 7, 8, 41
FINAL = (HoldState.LOST, HoldState.RELEASED)


@attrs.define(eq=False)
class Answer:
    exception: Exception | None = None
    value: object = None
    links: list[Callable[["Answer"], None]] = attrs.field(factory=list)

    def rawlink(self, told: Callable[["Answer"], None]) -> None:
        self.links.append(told)

    def come(self, owner: int = SESSION, failure: Exception | None = None) -> None:
        self.exception = failure
        self.value = (b"", ZnodeStat(CZXID, 0, 0, 0, 0, 0, 0, owner, 0, 0, 0))
        for told in self.links:
            told(self)


@attrs.define(eq=False)
class FakeClient:
    """Answers when the test says so."""

    client_id: tuple[int, bytes] | None = (SESSION, b"")
    listeners: list[Callable[[str], None]] = attrs.field(factory=list)
    asked: list[Answer] = attrs.field(factory=list)
    watch: Callable[[WatchedEvent], None] | None = None

    def add_listener(self, told: Callable[[str], None]) -> None:
        self.listeners.append(told)

    def remove_listener(self, told: Callable[[str], None]) -> None:
        self.listeners.remove(told)

    def get_async(self, path: str, watch: Callable[[WatchedEvent], None]) -> Answer:
        assert path == "/lock/node"
        self.watch = watch
        self.asked.append(Answer())
        return self.asked[-1]

    def become(self, state: str, session: int | None = SESSION) -> None:
        self.client_id = None if session is None else (session, b"")
        for told in list(self.listeners):
            told(state)

    def fire(self, kind: str) -> None:
        assert self.watch is not None
        self.watch(WatchedEvent(kind, KeeperState.CONNECTED, "/lock/node"))


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def told() -> list[HoldState]:
    return []


@pytest.fixture
def hold(client: FakeClient, told: list[HoldState]) -> Hold:
    found = Hold(client, "/lock/node", told.append)
    found.begin()
    return found


def state_of(hold: Hold) -> HoldState:
    return hold.state


def test_the_table() -> None:
    for state, news in product(HoldState, News):
        after = NEXT.get((state, news))
        assert after is not state
        assert after is None or state not in FINAL
        if news in (News.GONE, News.RELEASE) and state not in FINAL:
            assert after in FINAL


def test_held_once_it_is_read(client: FakeClient, hold: Hold, told: list[HoldState]) -> None:
    assert state_of(hold) is HoldState.SUSPENDED
    client.asked[0].come()
    assert (hold.state, hold.token, told) == (HoldState.HELD, CZXID, [HoldState.HELD])


def test_node_of_a_session_that_has_ended(client: FakeClient, hold: Hold) -> None:
    client.asked[0].come(owner=OTHER)
    assert state_of(hold) is HoldState.LOST


@pytest.mark.parametrize("failure", [NoNodeError(), SessionExpiredError()], ids=repr)
def test_node_has_gone(client: FakeClient, hold: Hold, failure: Exception) -> None:
    client.asked[0].come(failure=failure)
    assert state_of(hold) is HoldState.LOST
    assert client.listeners == []


def test_suspended_until_it_is_read_again(
    client: FakeClient, hold: Hold, told: list[HoldState]
) -> None:
    client.asked[0].come()
    client.become(KazooState.SUSPENDED, None)
    assert state_of(hold) is HoldState.SUSPENDED
    client.become(KazooState.CONNECTED)
    assert state_of(hold) is HoldState.SUSPENDED
    client.asked[1].come()
    assert told == [HoldState.HELD, HoldState.SUSPENDED, HoldState.HELD]


def test_an_answer_from_before_a_break_confirms_nothing(client: FakeClient, hold: Hold) -> None:
    """It was read, the connection broke and is back, and only then it is looked at."""
    client.become(KazooState.SUSPENDED, None)
    client.become(KazooState.CONNECTED)
    client.asked[0].come()
    assert state_of(hold) is HoldState.SUSPENDED
    client.asked[1].come()
    assert state_of(hold) is HoldState.HELD


def test_an_answer_without_a_connection_confirms_nothing(client: FakeClient, hold: Hold) -> None:
    """kazoo knows of the break, its listeners not yet."""
    client.client_id = None
    client.asked[0].come()
    assert state_of(hold) is HoldState.SUSPENDED


def test_a_lost_answer_is_asked_for_again(client: FakeClient, hold: Hold) -> None:
    client.asked[0].come(failure=ConnectionLoss())
    assert state_of(hold) is HoldState.SUSPENDED
    client.become(KazooState.CONNECTED)
    client.asked[1].come()
    assert state_of(hold) is HoldState.HELD


def test_lost_is_final(client: FakeClient, hold: Hold, told: list[HoldState]) -> None:
    client.asked[0].come()
    client.become(KazooState.SUSPENDED, None)
    client.become(KazooState.LOST, None)
    client.become(KazooState.CONNECTED, OTHER)
    assert len(client.asked) == 1
    hold.release()
    assert told == [HoldState.HELD, HoldState.SUSPENDED, HoldState.LOST]


def test_own_node_is_watched(client: FakeClient, hold: Hold) -> None:
    client.asked[0].come()
    client.fire(EventType.NONE)
    assert state_of(hold) is HoldState.HELD
    client.fire(EventType.CHANGED)
    assert (hold.state, len(client.asked)) == (HoldState.HELD, 2)
    client.fire(EventType.DELETED)
    assert state_of(hold) is HoldState.LOST


def test_a_listener_that_fails_disturbs_nothing(client: FakeClient) -> None:
    def fail(state: HoldState) -> None:
        raise ValueError(state)

    hold = Hold(client, "/lock/node", fail)
    hold.begin()
    client.asked[0].come()
    assert state_of(hold) is HoldState.HELD
