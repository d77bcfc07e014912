"""How long N subscribers take to settle after a publish, beside kazoo's DataWatch.  Not a test.

    python -m tests.recipes.config.figures --subscribers 1000 --processes 4 [--server zookeeper]

Each subscriber has a client of its own, as it would in a program of its own, but that many of them
share a process here, and the interpreter's lock: the figures are bounds from above. Time counts
from before the publish until the last subscriber in any process has called its listener with the
new value. Requests are those that the server received meanwhile (its `srvr` counts them).
"""

import argparse
import multiprocessing
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from kazoo.client import KazooClient

from recipes.config import ConfigPublisher, ConfigSubscriber
from recipes.config.document import decode
from tests.recipes.config.settings import Settings
from tests.recipes.servers import make_server
from zkpy.testing.realserver import RealServer

PATH: Final = "/config/figures"
TIMEOUT_S: Final = 120.0
Note = Callable[[int], None]


def follow_ours(client: KazooClient, note: Note) -> Any:
    subscriber = ConfigSubscriber(client, PATH, Settings)
    subscriber.add_listener(lambda new: note(new.revision))
    subscriber.start()
    return subscriber


def follow_kazoos(client: KazooClient, note: Note) -> Any:
    def told(data: bytes | None, stat: Any) -> None:
        if data:
            note(decode(data).revision)

    return client.DataWatch(PATH, told)


FOLLOW: Final = {"zkpy's ConfigSubscriber": follow_ours, "kazoo's DataWatch": follow_kazoos}


class Tally:
    """How many of a process's subscribers have seen each revision."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._news = threading.Condition()

    def note(self, revision: int) -> None:
        with self._news:
            self._seen[revision] = self._seen.get(revision, 0) + 1
            self._news.notify_all()

    def wait(self, revision: int, count: int) -> None:
        with self._news:
            done = self._news.wait_for(lambda: self._seen.get(revision, 0) >= count, TIMEOUT_S)
            assert done, self._seen


def run_process(hosts: str, who: str, count: int, pipe: Connection) -> None:
    """`count` subscribers; for each revision asked for, say when the last of them has it."""
    tally = Tally()
    clients = [KazooClient(hosts, timeout=60) for _ in range(count)]
    kept = []
    for client in clients:
        client.start(TIMEOUT_S)
        kept.append(FOLLOW[who](client, tally.note))
    while (revision := pipe.recv()) is not None:
        tally.wait(revision, count)
        pipe.send(time.monotonic())
    # Sessions end with the process; a thousand orderly farewells are of no interest.


def received(server: RealServer) -> int:
    found = re.search(r"Received: (\d+)", server.ask("srvr"))
    assert found is not None
    return int(found[1])


def measure(server: RealServer, who: str, count: int, processes: int, rounds: int) -> str:
    client = KazooClient(server.hosts)
    client.start()
    publisher = ConfigPublisher(client, PATH, Settings)
    revision = publisher.publish(Settings.pair(0))
    shares = [count // processes + (each < count % processes) for each in range(processes)]
    pipes, workers = [], []
    for share in shares:
        ours, theirs = multiprocessing.Pipe()
        worker = multiprocessing.Process(
            target=run_process, args=(server.hosts, who, share, theirs), daemon=True
        )
        worker.start()
        pipes.append(ours)
        workers.append(worker)
    settle(pipes, revision)
    times, requests = [], []
    for number in range(rounds):
        before, begun = received(server), time.monotonic()
        revision = publisher.publish(Settings.pair(number))
        times.append(settle(pipes, revision) - begun)
        requests.append(received(server) - before)
    for pipe, worker in zip(pipes, workers, strict=True):
        pipe.send(None)
        worker.join(TIMEOUT_S)
    client.delete(PATH, recursive=True)
    client.stop()
    return (
        f"{who}: {count} subscribers in {processes} processes, {rounds} publishes: settled after "
        f"{statistics.median(times) * 1000:.0f} ms (median; {min(times) * 1000:.0f} to "
        f"{max(times) * 1000:.0f}), {statistics.median(requests):.0f} requests each"
    )


def settle(pipes: "list[Connection]", revision: int) -> float:
    """When the last has it; the clock is one for all processes of a machine."""
    for pipe in pipes:
        pipe.send(revision)
    return float(max(pipe.recv() for pipe in pipes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--server", default="zkpy")
    options = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    with (
        tempfile.TemporaryDirectory() as directory,
        make_server(options.server, Path(directory)) as server,
    ):
        for who in FOLLOW:
            line = measure(server, who, options.subscribers, options.processes, options.rounds)
            sys.stdout.write(f"{line}, on {options.server}\n")


if __name__ == "__main__":
    main()
