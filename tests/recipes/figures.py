"""What many contenders for one lock, or takers of one queue, cost: zkpy's beside kazoo's.

    python tests/recipes/figures.py [--contenders 200] [--server zookeeper] [--rounds 3]
    python tests/recipes/figures.py --takers 50 [--items 2000] [--work 0.05] ...

Each contender is a client of its own, in this one process.  One holds the lock until all others
wait; then it lets go, and each holds it once and lets go at once.  Time is taken from there to the
end of the last; requests are counted as the clients send them (pings are not), from the first
`acquire` on.

Of a queue (kazoo's LockingQueue): *full* has all items there before the takers begin; *put one by
one* has the takers wait before the first item is put, and one more client that puts. Each item
costs its taker `--work` seconds. Requests of taking and putting, from the first `take` on.
"""

import argparse
import logging
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import attrs
from kazoo.client import KazooClient
from kazoo.recipe.queue import LockingQueue

from recipes.locks import Lock
from recipes.queue import Queue, TimeUp
from tests.recipes.servers import NAMES, make_server

PLACES = count(1)
PATIENCE_S = 2.0
"""Of a taker, before it looks whether it is to end."""


class AnyLock(Protocol):
    def acquire(self) -> bool: ...
    def release(self) -> Any: ...


class CountingClient(KazooClient):  # type: ignore[misc]
    """Counts what it asks for, by kind of request."""

    def __init__(self, hosts: str, asked: Counter[str]) -> None:
        super().__init__(hosts, timeout=60)
        self._asked = asked

    def _call(self, request: Any, result: Any) -> Any:
        self._asked[type(request).__name__] += 1
        return super()._call(request, result)


@attrs.frozen
class Figures:
    seconds: float
    requests: int


@contextmanager
def clients(hosts: str, number: int, asked: Counter[str]) -> Iterator[list[KazooClient]]:
    with ExitStack() as stack:
        made = []
        for _ in range(number):
            client = CountingClient(hosts, asked)
            client.start(60)
            stack.callback(client.close)
            stack.callback(client.stop)
            made.append(client)
        yield made


def make(kind: str, client: KazooClient, path: str) -> AnyLock:
    made: AnyLock = Lock(client, path) if kind == "zkpy" else client.Lock(path)
    return made


def measure(kind: str, all_clients: list[KazooClient], asked: Counter[str]) -> Figures:
    path = f"/figures/{next(PLACES)}"
    first, *others = (make(kind, client, path) for client in all_clients)
    asked.clear()
    first.acquire()
    threads = [threading.Thread(target=hold_once, args=(lock,)) for lock in others]
    for thread in threads:
        thread.start()
    await_all(all_clients[0], path, len(all_clients))
    started = time.monotonic()
    first.release()
    for thread in threads:
        thread.join()
    return Figures(time.monotonic() - started, sum(asked.values()))


def hold_once(lock: AnyLock) -> None:
    lock.acquire()
    lock.release()


def await_all(client: KazooClient, path: str, number: int) -> None:
    """Until all stand in line, and have had a moment to watch."""
    pause = threading.Event()
    while client.exists(path) is None or len(client.get_children(path)) < number:
        pause.wait(0.2)
    pause.wait(1)


# --- queue -----------------------------------------------------------------------------------


class AnyQueue(Protocol):
    """`take_one` ends with False when there is nothing more to come."""

    def put(self, value: bytes) -> Any: ...
    def put_all(self, values: list[bytes]) -> Any: ...
    def take_one(self, work: Callable[[], object], over: threading.Event) -> bool: ...


class Ours(Queue):
    def take_one(self, work: Callable[[], object], over: threading.Event) -> bool:
        while not over.is_set():
            try:
                with self.take(timeout=PATIENCE_S):
                    work()
            except TimeUp:
                continue
            return True
        return False


class Kazoos(LockingQueue):  # type: ignore[misc]
    def take_one(self, work: Callable[[], object], over: threading.Event) -> bool:
        while not over.is_set():
            if self.get(PATIENCE_S) is not None:
                work()
                return bool(self.consume())
        return False


QUEUES: dict[str, Callable[[KazooClient, str], AnyQueue]] = {"zkpy": Ours, "kazoo": Kazoos}


def measure_queue(
    kind: str, full: bool, all_clients: list[KazooClient], asked: Counter[str], args: Any
) -> Figures:
    path = f"/figures/{next(PLACES)}"
    putter, *takers = (QUEUES[kind](client, path) for client in all_clients)
    values = [b"%d" % number for number in range(args.items)]
    putter.put(b"first")
    if full:
        for at in range(0, len(values), 100):
            putter.put_all(values[at : at + 100])
    left, over = Countdown(args.items + 1), threading.Event()
    asked.clear()
    started = time.monotonic()
    threads = [
        threading.Thread(target=take_all, args=(taker, left, over, args.work)) for taker in takers
    ]
    for thread in threads:
        thread.start()
    if not full:
        left.await_left(args.items)
        threading.Event().wait(1)
        asked.clear()
        started = time.monotonic()
        for value in values:
            putter.put(value)
    left.await_left(0)
    figures = Figures(time.monotonic() - started, sum(asked.values()))
    over.set()
    for thread in threads:
        thread.join()
    return figures


class Countdown:
    def __init__(self, number: int) -> None:
        self._left, self._news = number, threading.Condition()

    def count(self) -> None:
        with self._news:
            self._left -= 1
            self._news.notify_all()

    def await_left(self, number: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self._left <= number, 600), self._left


def take_all(queue: AnyQueue, left: Countdown, over: threading.Event, work_s: float) -> None:
    pause = threading.Event()
    while queue.take_one(lambda: pause.wait(work_s), over):
        left.count()


def compare_queues(all_clients: list[KazooClient], asked: Counter[str], options: Any) -> None:
    print(f"{options.takers} takers, {options.items} items, {options.work} s of work each")
    for full in (True, False):
        for kind in QUEUES:
            found = [
                measure_queue(kind, full, all_clients, asked, options)
                for _ in range(options.rounds)
            ]
            seconds = statistics.median(each.seconds for each in found)
            each = statistics.median(each.requests for each in found) / options.items
            story = "full" if full else "put one by one"
            print(
                f"{story:15} {kind:6} {seconds:6.2f} s  {each:6.1f} requests per item", flush=True
            )


# --- all -------------------------------------------------------------------------------------


def compare_locks(all_clients: list[KazooClient], asked: Counter[str], options: Any) -> None:
    print(f"{options.contenders} contenders on {options.server}, median of {options.rounds}")
    for kind in ("zkpy", "kazoo"):
        found = [measure(kind, all_clients, asked) for _ in range(options.rounds)]
        seconds = statistics.median(each.seconds for each in found)
        requests = statistics.median(each.requests for each in found)
        each = requests / options.contenders
        print(f"{kind:6} {seconds:6.2f} s  {requests:6.0f} requests, {each:.1f} each")


def main() -> None:
    parser = argparse.ArgumentParser(description="Many contenders for one lock, or one queue")
    parser.add_argument("--contenders", type=int, default=200)
    parser.add_argument("--takers", type=int, default=0, help="of a queue, instead of a lock")
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--work", type=float, default=0.05, help="seconds per item")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", choices=NAMES, default="zkpy")
    options = parser.parse_args()
    queue = options.takers > 0
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    scratch = Path(tempfile.mkdtemp(prefix="zkpy-figures-"))
    asked: Counter[str] = Counter()
    with (
        make_server(options.server, scratch) as server,
        clients(server.hosts, options.takers + 1 if queue else options.contenders, asked) as made,
    ):
        (compare_queues if queue else compare_locks)(made, asked, options)
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
