"""What many contenders for one lock cost: zkpy's `Lock` beside kazoo's.

    python tests/recipes/figures.py [--contenders 200] [--server zookeeper] [--rounds 3]

Each contender is a client of its own, in this one process.  One holds the lock until all others
wait; then it lets go, and each holds it once and lets go at once.  Time is taken from there to the
end of the last; requests are counted as the clients send them (pings are not), from the first
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
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import attrs
from kazoo.client import KazooClient

from recipes.locks import Lock
from tests.recipes.servers import NAMES, make_server

PLACES = count(1)


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


def main() -> None:
    parser = argparse.ArgumentParser(description="Many contenders for one lock")
    parser.add_argument("--contenders", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--server", choices=NAMES, default="zkpy")
    options = parser.parse_args()
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    scratch = Path(tempfile.mkdtemp(prefix="zkpy-figures-"))
    asked: Counter[str] = Counter()
    with (
        make_server(options.server, scratch) as server,
        clients(server.hosts, options.contenders, asked) as all_clients,
    ):
        print(f"{options.contenders} contenders on {options.server}, median of {options.rounds}")
        for kind in ("zkpy", "kazoo"):
            found = [measure(kind, all_clients, asked) for _ in range(options.rounds)]
            seconds = statistics.median(each.seconds for each in found)
            requests = statistics.median(each.requests for each in found)
            each = requests / options.contenders
            print(f"{kind:6} {seconds:6.2f} s  {requests:6.0f} requests, {each:.1f} each")
    shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
