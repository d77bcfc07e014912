"""Election and LeaderWatch: who leads, who knows it, and the same faults as for locks."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import CancelledError, ConnectionLoss, NoNodeError

from recipes.election import Election, Leader, Leadership, LeaderWatch
from recipes.locks import LockError, LockLostError, LockSuspendedError
from tests.recipes.conftest import Connect, MakeProxy, Spawn
from tests.recipes.faults import LIMIT_S, Fault, FaultProxy, Link, When, until
from tests.recipes.locks.contest import surely


class Words:
    """What a LeaderWatch told."""

    def __init__(self) -> None:
        self.all: list[Leader | None] = []
        self._news = threading.Condition()

    def __call__(self, leader: Leader | None) -> None:
        with self._news:
            self.all.append(leader)
            self._news.notify_all()

    def wait(self, *names: str | None) -> None:
        def told() -> list[str | None]:
            return [each.identifier if each else None for each in self.all]

        with self._news:
            assert self._news.wait_for(lambda: told() == list(names), LIMIT_S), self.all


def until_over(leadership: Leadership) -> int:
    leadership.wait()
    return leadership.epoch


def test_one_leads_after_the_other(connect: Connect, root: str, spawn: Spawn) -> None:
    clients = [connect() for _ in range(3)]
    elections = [Election(client, root, f"c{i}") for i, client in enumerate(clients)]
    running = []
    for count, election in enumerate(elections):
        running.append(spawn(election.run, until_over))
        until(lambda n=count: len(elections[0].candidates()) == n + 1)  # type: ignore[misc]
    epochs = []
    for i, election in enumerate(elections):
        until(lambda: election.leads)  # noqa: B023
        leader = elections[0].leader()
        assert leader is not None
        assert leader.identifier == f"c{i}"
        election.resign()
        epochs.append(running[i].result(LIMIT_S))
        assert leader.epoch == epochs[-1]
    assert epochs == sorted(set(epochs))
    assert elections[0].leader() is None


def test_cancel(connect: Connect, root: str, spawn: Spawn) -> None:
    leading, waiting = Election(connect(), root), Election(connect(), root)
    led = spawn(leading.run, until_over)
    until(lambda: leading.leads)
    waited = spawn(waiting.run, until_over)
    until(lambda: len(leading.candidates()) == 2)
    waiting.cancel()
    with pytest.raises(CancelledError):
        waited.result(LIMIT_S)
    leading.resign()
    led.result(LIMIT_S)


def test_a_leader_is_told_at_once(
    connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    client = connect(proxy.hosts)
    election = Election(client, root)
    checked: list[type[LockError]] = []

    def lead(leadership: Leadership) -> None:
        proxy.refuse()
        proxy.cut()
        until(lambda: not election.leads)
        try:
            leadership.check()
        except LockSuspendedError as why:
            checked.append(type(why))
        assert not leadership.wait(0)
        proxy.admit()
        until(lambda: election.leads)
        proxy.expire()
        assert leadership.wait(LIMIT_S)

    with pytest.raises(LockLostError):
        spawn(election.run, lead).result(LIMIT_S)
    assert checked == [LockSuspendedError]


def test_each_time_of_leading_ends_by_itself(
    connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    """Another thread stands for election meanwhile, with the same object."""
    client = connect(proxy.hosts)
    election = Election(client, root)
    second: list[Any] = []

    def lead(leadership: Leadership) -> bool:
        proxy.expire()
        leadership.wait(LIMIT_S)
        second.append(spawn(election.run, lambda its: its.wait(0)))
        until(lambda: len(election._runs) == 2)
        return leadership.wait(0)

    def resigned(leadership: Leadership) -> bool:
        election.resign()
        second.append(spawn(election.run, lambda its: its.wait(0)))
        until(lambda: len(election._runs) == 2)
        return leadership.wait(0)

    assert election.run(resigned)
    assert not second.pop().result(LIMIT_S)
    over: list[bool] = []
    with pytest.raises(LockLostError):
        election.run(lambda leadership: over.append(lead(leadership)))
    assert over == [True]
    assert not second.pop().result(LIMIT_S)
    assert not election._runs


def test_observers(connect: Connect, root: str, spawn: Spawn) -> None:
    words = Words()
    watch = LeaderWatch(connect(), root, words)
    words.wait(None)
    first, second = Election(connect(), root, "a"), Election(connect(), root, "b")
    led = [spawn(first.run, until_over)]
    until(lambda: first.leads)
    words.wait(None, "a")
    led.append(spawn(second.run, until_over))
    until(lambda: len(first.candidates()) == 2)
    first.resign()
    words.wait(None, "a", "b")
    assert watch.certain
    second.resign()
    words.wait(None, "a", "b", None)
    assert [each.result(LIMIT_S) for each in led] == [e.epoch for e in words.all if e is not None]
    watch.close()
    with first._lock:
        pass
    assert len(words.all) == 4


def test_observers_are_not_woken_by_candidates(
    connect: Connect, proxy: FaultProxy, root: str, spawn: Spawn
) -> None:
    election, words = Election(connect(), root, "a"), Words()
    led = spawn(election.run, until_over)
    until(lambda: election.leads)
    LeaderWatch(connect(proxy.hosts), root, words)
    words.wait("a")
    assert [each.operation for each in proxy.seen] == ["get_children", "get"]
    other = Election(connect(), root, "b")
    waited = spawn(other.run, until_over)
    until(lambda: len(election.candidates()) == 2)
    other.cancel()
    with pytest.raises(CancelledError):
        waited.result(LIMIT_S)
    # It goes in the background; if it was there still, it would be seen to lead.
    until(lambda: len(election.candidates()) == 1)
    election.resign()
    led.result(LIMIT_S)
    words.wait("a", None)
    # The leader's node is gone; nobody is there; and now who comes.
    assert [each.operation for each in proxy.seen[2:]] == ["get_children", "get_children"]


def test_observers_do_not_guess(connect: Connect, root: str, spawn: Spawn) -> None:
    """Beside a node of another format: whoever leads goes on, and nobody could say who is next."""
    client, words = connect(), Words()
    election = Election(client, root, "a")
    led = spawn(election.run, until_over)
    until(lambda: election.leads)
    watch = LeaderWatch(connect(), root, words)
    words.wait("a")
    stray = client.create(f"{root}/stray-", sequence=True)
    blind = LeaderWatch(connect(), root, words)
    watch._look()
    until(lambda: watch._doubts and blind._doubts)
    assert not watch.certain and not blind.certain
    assert len(words.all) == 1
    client.delete(stray)
    words.wait("a", "a")
    until(lambda: watch.certain and blind.certain)
    election.resign()
    led.result(LIMIT_S)
    words.wait("a", "a", None, None)


@pytest.mark.parametrize("do", [None, Link.expire], ids=["cut", "expired"])
@pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))
def test_an_observer_loses_its_connection_at_every_request(
    when: When,
    do: Callable[[Link], None] | None,
    connect: Connect,
    make_proxy: MakeProxy,
    root: str,
    spawn: Spawn,
) -> None:
    client = connect()
    for at in range(1, 7):
        proxy, words, path = make_proxy(), Words(), f"{root}-{at}"
        fault = proxy.arm(Fault(at, when, do=do))
        LeaderWatch(connect(proxy.hosts), path, words)
        until(lambda: words.all == [None] or fault.met.is_set())  # noqa: B023
        election = Election(client, path, "a")
        led = spawn(election.run, until_over)
        until(lambda: words.all and words.all[-1])  # noqa: B023
        assert words.all[-1] == election.leader()
        election.resign()
        led.result(LIMIT_S)
        until(lambda: words.all[-1] is None)  # noqa: B023
        assert len(words.all) <= 3


@pytest.mark.parametrize("do", [None, Link.expire], ids=["cut", "expired"])
@pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))
def test_a_candidate_loses_its_connection_at_every_request(
    when: When,
    do: Callable[[Link], None] | None,
    connect: Connect,
    make_proxy: MakeProxy,
    root: str,
    spawn: Spawn,
) -> None:
    """create, list, read, two writes, delete; another stands behind, and leads in the end."""
    witness = connect()
    for at in range(1, 7):
        proxy, path, log = make_proxy(), f"{root}/{at}", f"{root}/log-{at}"
        witness.ensure_path(path)
        witness.ensure_path(log)
        fault = proxy.arm(Fault(at, when, do=do))
        behind = Election(witness, path)
        led = spawn(candidate, Election(connect(proxy.hosts), path), log)
        until(lambda: fault.met.is_set() or witness.get_children(path))  # noqa: B023
        followed = spawn(behind.run, lambda leadership: write(leadership, log))  # noqa: B023
        led.result(LIMIT_S)
        followed.result(LIMIT_S)
        fault.wait()
        epochs = [int(witness.get(f"{log}/{each}")[0]) for each in sorted(children(witness, log))]
        assert epochs == sorted(epochs)
        assert len(set(epochs)) >= 2
        until(lambda: not witness.get_children(path))  # noqa: B023


def children(client: KazooClient, path: str) -> list[str]:
    try:
        found: list[str] = surely(client.get_children, path)
    except NoNodeError:
        return []
    return found


def candidate(election: Election, log: str) -> None:
    """Leads until it has written both lines in one time."""
    while True:
        try:
            election.run(lambda leadership: write(leadership, log, 2))
        except (LockError, ConnectionLoss):
            continue
        return


def write(leadership: Leadership, log: str, times: int = 1) -> None:
    for _ in range(times):
        leadership.guard.create(f"{log}/w-", str(leadership.epoch).encode(), sequence=True)
