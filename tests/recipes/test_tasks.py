"""Tasks: one result each, whatever breaks; late reports refused; nothing left behind."""

import threading
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kazoo.client import KazooClient

from recipes.tasks import Job, Outcome, TaskBoard, TaskWorker, TimeUp, choose
from tests.recipes.conftest import Connect
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

LIMIT = 40
NAMES = st.lists(st.integers(0, 20).map(lambda n: f"a~{n:010d}"), unique=True)


def double(job: Job) -> Any:
    return job.payload * 2


def left_behind(client: KazooClient, path: str) -> list[str]:
    found = []
    for place in ("tasks", "claims", "results"):
        found += [f"{place}/{n}" for n in client.retry(client.get_children, f"{path}/{place}")]
    return found


@given(NAMES, NAMES, st.text(max_size=3))
def test_choose(tasks: list[str], claims: list[str], worker: str) -> None:
    chosen = choose([*tasks, "foreign"], claims, worker)
    free = set(tasks) - set(claims)
    assert chosen in free if free else chosen is None


def test_done_and_taken(connect: Connect, root: str) -> None:
    board, worker = TaskBoard(connect(), root), TaskWorker(connect(), root, "w", double)
    tasks = [board.submit(each) for each in range(5)]
    worker.start()
    outcomes = [board.take(each, timeout=LIMIT_S) for each in tasks]
    assert outcomes == [Outcome(True, each * 2, "w", 1) for each in range(5)]
    worker.stop()
    assert left_behind(board.client, root) == []


def test_take_is_bounded_in_time(connect: Connect, root: str) -> None:
    board = TaskBoard(connect(), root)
    with pytest.raises(TimeUp):
        board.take(board.submit(1), timeout=0.01)


def test_failures_are_handed_out_again_and_given_up(connect: Connect, root: str) -> None:
    tokens = []

    def fail(job: Job) -> None:
        tokens.append(job.token)
        raise ValueError("no")

    board, worker = TaskBoard(connect(), root), TaskWorker(connect(), root, "w", fail, attempts=3)
    worker.start()
    outcome = board.take(board.submit(1), timeout=LIMIT_S)
    worker.stop()
    assert outcome == Outcome(False, "ValueError('no')", "w", 3)
    assert tokens == [1, 2, 3]
    assert left_behind(board.client, root) == []


@pytest.mark.parametrize("payload", [b"no JSON", b"", b"[" * 100_000])
def test_what_cannot_be_read_holds_up_nothing(connect: Connect, root: str, payload: bytes) -> None:
    board, worker = TaskBoard(connect(), root), TaskWorker(connect(), root, "w", double)
    task = board.submit(1)
    path = board.client.create(f"{root}/tasks/foreign~", payload, sequence=True)
    worker.start()
    outcome = board.take(path.rpartition("/")[2], timeout=LIMIT_S)
    assert not outcome.ok
    assert "cannot be read" in outcome.result
    assert board.take(task, timeout=LIMIT_S).result == 2
    worker.stop()


def test_what_is_too_large(connect: Connect, proxy: FaultProxy, root: str) -> None:
    """A server closes the connection on it, again and again."""
    client = connect(proxy.hosts)
    board = TaskBoard(connect(), root)
    with pytest.raises(ValueError, match="1100002 bytes"):
        board.submit("x" * 1_100_000)

    def repeat(job: Job) -> str:
        if job.token == 2:
            raise ValueError("y" * 1_100_000)
        return "x" * int(job.payload)

    foreign = b'"' + b"z" * 1_047_900 + b'"'
    board.client.create(f"{root}/tasks/0~", foreign, sequence=True, makepath=True)
    worker = TaskWorker(client, root, "w", repeat, attempts=2)
    worker.start()
    outcome = board.take(board.submit(1_100_000), timeout=LIMIT_S)
    assert not outcome.ok
    assert outcome.result.startswith("ValueError('yyy")
    assert board.take(board.submit(3), timeout=LIMIT_S).result == "xxx"
    worker.stop()
    assert {each.link for each in proxy.seen} == {1}


def test_a_late_report_is_refused(connect: Connect, proxy: FaultProxy, root: str) -> None:
    board = TaskBoard(connect(), root)
    inside, go_on = threading.Event(), threading.Event()

    def wait(job: Job) -> str:
        inside.set()
        assert go_on.wait(LIMIT_S)
        return "late"

    slow = TaskWorker(connect(proxy.hosts), root, "slow", wait)
    slow.start()
    task = board.submit("x")
    assert inside.wait(LIMIT_S)
    proxy.expire()
    quick = TaskWorker(connect(), root, "quick", double)
    quick.start()
    until(lambda: board.client.exists(f"{root}/results/{task}"))
    go_on.set()
    until(lambda: slow.refused == 1)
    assert board.take(task, timeout=LIMIT_S) == Outcome(True, "xx", "quick", 2)
    slow.stop()
    quick.stop()
    assert left_behind(board.client, root) == []


def test_stop_is_bounded_in_time(connect: Connect, proxy: FaultProxy, root: str) -> None:
    """Without a connection the report waits."""
    client, board = connect(proxy.hosts), TaskBoard(connect(), root)
    inside, go_on = threading.Event(), threading.Event()

    def wait(job: Job) -> int:
        inside.set()
        assert go_on.wait(LIMIT_S)
        return 1

    worker = TaskWorker(client, root, "w", wait)
    worker.start()
    task = board.submit("x")
    assert inside.wait(LIMIT_S)
    proxy.refuse()
    proxy.cut()
    until(lambda: not client.connected)
    go_on.set()
    assert not worker.stop(0.01)
    proxy.admit()
    assert board.take(task, timeout=LIMIT_S).result == 1
    assert worker.stop()


def test_two_workers_share(connect: Connect, root: str) -> None:
    board = TaskBoard(connect(), root)
    workers = [TaskWorker(connect(), root, name, double) for name in "ab"]
    tasks = [board.submit(each) for each in range(20)]
    for each in workers:
        each.start()
    results = [board.take(each, timeout=LIMIT_S) for each in tasks]
    assert [each.result for each in results] == [each * 2 for each in range(20)]
    for each in workers:
        each.stop()
    assert left_behind(board.client, root) == []


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
    """The board, or the only worker, behind the faults: two tasks, two results."""
    places = count()
    calm = connect(proxy.hosts)

    def perform(fault: Fault) -> None:
        path = f"{root}/{next(places)}"
        with FaultProxy(server.port) as front:
            victim = connect(front.hosts)
            front.arm(fault)
            clients = (victim, calm) if request.param == "board" else (calm, victim)
            board = TaskBoard(clients[0], path)
            worker = TaskWorker(clients[1], path, "w", double, attempts=100)
            worker.start()
            for number in range(2):
                task = board.submit(number)
                assert board.take(task, timeout=LIMIT_S).result == number * 2
            worker.stop()
            until(lambda: left_behind(calm, path) == [])
            victim.stop()
            victim.close()

    return perform


@pytest.mark.parametrize("do", [None, Link.expire], ids=["cut", "expired"])
@pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))
@pytest.mark.parametrize("play", ["board", "worker"], indirect=True)
def test_a_fault_at_every_request(
    when: When, do: Callable[[Link], None] | None, play: Play
) -> None:
    assert meet_all(play, lambda at: Fault(at, when, do=do), LIMIT) >= 10


@pytest.mark.slow
@pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))
@pytest.mark.parametrize("play", ["board", "worker"], indirect=True)
def test_the_server_restarts_at_every_request(
    when: When, play: Play, server: RealServer, proxy: FaultProxy
) -> None:
    restart = behind_shut_doors(proxy, server.restart)
    assert meet_all(play, lambda at: Fault(at, when, do=restart), LIMIT) >= 10
