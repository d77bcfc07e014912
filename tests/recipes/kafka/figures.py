"""Figures: a group of many consumers over many partitions; time to settle, requests, gaps.

    python -m tests.recipes.kafka.figures [--consumers 200] [--partitions 2000] [--processes 4]
                                          [--shared] [--calm 0.2]

Starts a zkpy server and `--processes` children that hold the consumers: each with a client and a
session of its own, or all of a child on one client with `--shared`.  Three stories, each until
every partition has the owner that it is to have: all come at once; one leaves; one comes.  For
each, the time, the requests that the server counted, and from the server's log how long partitions
had no owner.  The partitions have no leaders: ownership does not ask for them.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from kazoo.client import KazooClient

from recipes.kafka import paths
from recipes.kafka.assign import assign_range
from recipes.kafka.consumer import Consumer
from recipes.kafka.formats import Broker, Subscription, encode_broker
from recipes.kafka.group import Ownership
from recipes.kafka.topics import create_topic
from recipes.kafka.znodes import Znodes
from tests.recipes.kafka.recording import ownership_of
from zkpy.testing.realserver import RealServer

GROUP, TOPIC = "g", "t"
LIMIT_S = 300.0
POLL_S = 0.05


def name_of(number: int) -> str:
    return f"g_h-1700000000000-{number:08x}"


# --- a child: holds consumers, takes `start N` and `stop N` on its input -------------------


def hold(hosts: str, shared: bool, calm_s: float) -> None:
    consumers: dict[int, Consumer] = {}
    common = connect(hosts) if shared else None
    for line in sys.stdin:
        verb, *numbers = line.split()
        chosen = [int(each) for each in numbers]
        if verb == "start":
            for number in chosen:
                consumers[number] = make(number, common or connect(hosts), calm_s)
        else:
            for number in chosen:
                end(consumers.pop(number), common)


def make(number: int, client: KazooClient, calm_s: float) -> Consumer:
    subscription = Subscription({TOPIC: 1})
    consumer = Consumer(client, GROUP, subscription, consumer_id=name_of(number), calm_s=calm_s)
    consumer.start()
    return consumer


def end(consumer: Consumer, common: KazooClient | None) -> None:
    consumer.stop()
    if common is None:
        consumer.client.stop()


def connect(hosts: str) -> KazooClient:
    client = KazooClient(hosts, timeout=30.0)
    client.start(60)
    return client


# --- the parent -----------------------------------------------------------------------------


class Children:
    def __init__(self, hosts: str, args: argparse.Namespace) -> None:
        command = [
            sys.executable,
            "-m",
            "tests.recipes.kafka.figures",
            "--hold",
            hosts,
            "--calm",
            str(args.calm),
        ]
        command += ["--shared"] if args.shared else []
        self.all = [
            subprocess.Popen(command, stdin=subprocess.PIPE, text=True, bufsize=1)
            for _ in range(args.processes)
        ]

    def tell(self, verb: str, numbers: range) -> None:
        for place, child in enumerate(self.all):
            mine = [str(each) for each in numbers if each % len(self.all) == place]
            assert child.stdin is not None
            if mine:
                child.stdin.write(" ".join([verb, *mine]) + "\n")

    def end(self) -> None:
        for child in self.all:
            child.kill()
            child.wait()


class Observer:
    """Reads owners while a story runs, and counts its own requests out."""

    def __init__(self, server: RealServer, partitions: int) -> None:
        self.server, self.partitions = server, partitions
        self.client = connect(server.hosts)
        self.zk = Znodes(self.client)
        self.own = 0

    def received(self) -> int:
        stats = dict(
            line.split("\t", 1) for line in self.server.ask("mntr").splitlines() if "\t" in line
        )
        return int(stats["zk_packets_received"])

    def owners(self) -> dict[int, str]:
        names = self.zk.children(paths.owners(GROUP, TOPIC))
        found = self.zk.read_all(f"{paths.owners(GROUP, TOPIC)}/{each}" for each in names)
        self.own += 1 + len(names)
        return {
            int(path.rpartition("/")[2]): node.data.decode()
            for path, node in found.items()
            if node is not None
        }

    def until(self, consumers: range) -> float:
        """Seconds until all is as it is to be."""
        members = {name_of(each): {TOPIC: 1} for each in consumers}
        assigned = assign_range(members, {TOPIC: range(self.partitions)})
        expected = {where.partition: str(thread) for where, thread in assigned.items()}
        path = paths.owners(GROUP, TOPIC)
        start = time.monotonic()
        pause = threading.Event()
        while time.monotonic() < start + LIMIT_S:
            stat = self.client.exists(path)
            self.own += 1
            if stat is not None and stat.children_count == self.partitions:
                seen_at = time.monotonic()
                if self.owners() == expected:
                    return seen_at - start
            pause.wait(POLL_S)
        raise SystemExit("it never settled")


def main() -> None:
    args = parse()
    if args.hold:
        hold(args.hold, args.shared, args.calm)
        return
    with tempfile.TemporaryDirectory() as directory, RealServer(Path(directory)) as server:
        observe(server, args)


def observe(server: RealServer, args: argparse.Namespace) -> None:
    observer = Observer(server, args.partitions)
    data = encode_broker(Broker.at(1, "h1", 9092))
    observer.client.create(paths.broker(1), data, makepath=True)
    assignment = {number: [1] for number in range(args.partitions)}
    create_topic(observer.zk, TOPIC, assignment=assignment)
    children = Children(server.hosts, args)
    everyone = range(args.consumers)
    sessions = args.processes if args.shared else args.consumers
    say(f"{args.consumers} consumers, {args.partitions} partitions, {sessions} sessions")
    try:
        run("all come", observer, children, ("start", everyone), everyone)
        run("the first leaves", observer, children, ("stop", everyone[:1]), everyone[1:])
        run("it comes back", observer, children, ("start", everyone[:1]), everyone)
    finally:
        children.end()


def run(
    name: str,
    observer: Observer,
    children: Children,
    order: tuple[str, range],
    expected: range,
) -> None:
    before = observer.received() - observer.own
    gaps_before = len(record(observer.server).gaps)
    children.tell(*order)
    seconds = observer.until(expected)
    requests = observer.received() - observer.own - before
    ownership = record(observer.server)
    lengths = sorted(gap.length_ms for gap in ownership.gaps[gaps_before:])
    say(f"{name}: {seconds:.2f} s, {requests} requests, {shown(lengths)}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def record(server: RealServer) -> Ownership:
    return ownership_of(server.directory / "data-0", "", GROUP)


def shown(lengths: list[Any]) -> str:
    if not lengths:
        return "no partition was without an owner in between"
    median, most = lengths[len(lengths) // 2], lengths[-1]
    return f"{len(lengths)} times without an owner: median {median} ms, longest {most} ms"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--consumers", type=int, default=200)
    parser.add_argument("--partitions", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--shared", action="store_true", help="one client per process")
    parser.add_argument("--calm", type=float, default=0.2, help="seconds; see Consumer")
    parser.add_argument("--hold", metavar="HOSTS", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
