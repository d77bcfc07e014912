"""How long nobody is served: after the leader is killed, and before the first session.

Servers are real processes, zkpy's and, beside them in the same run, those of Apache
ZooKeeper (Debian's package; where there is none, a line says so).  The clients are those of
the simulator, and the same for both: each on one connection, one write in flight, and back
on another member some 30 ms after a connection has ended.
"""

import argparse
import shutil
import time
from pathlib import Path
from typing import Any, Final

from tests.differential import servers
from tests.faults.cluster import Cluster, TooLate, until
from tests.faults.live import LiveNetwork, LiveWorld
from tests.faults.proxy import HOST
from tests.server.members import Member
from wire import records
from wire.codes import CreateMode, OpCode
from wire.records import OPEN_ACL
from zkpy.testing.histories import Connection
from zkpy.testing.workload import REGISTER, Client, Mix
from zkpy.testing.world import MS

SETTINGS: Final = "initLimit=10\nsyncLimit=5\nmaxClientCnxns=0\n4lw.commands.whitelist=*"
SESSION_TICKS: Final = 10
WRITERS: Final = 4
FIRST_S: Final = 60.0
FAILOVER_S: Final = 60.0
RETRY_S: Final = 0.01


class ZooKeeper(Member):
    """A server of Apache ZooKeeper in place of one of ours; same files, same waits."""

    classes = ""

    def command(self) -> list[str]:
        options = [f"-Dzookeeper.{k}={v}" for k, v in {"admin.enableServer": "false"}.items()]
        return [
            *("java", "-Xmx400m", *options, "-cp", self.classes),
            *(servers.MAIN_CLASS, str(self.config)),
        ]


class Direct(Cluster):
    """Members that meet without a proxy in between: nothing of it is in the figures."""

    async def start(self) -> None:
        self.prepare()
        self.restart()
        await self.until_all_serve()

    def prepare(self) -> None:
        lines = [
            f"server.{sid}={HOST}:{member.quorum_port}:{member.election_port}"
            for sid, member in self.members.items()
        ]
        for member in self.members.values():
            member.write_files("\n".join([self._settings, *lines, ""]))


def make(directory: Path, server: type[Member], tick_ms: int) -> Direct:
    directory.mkdir()
    cluster = Direct(directory, 3, f"tickTime={tick_ms}\n{SETTINGS}")
    cluster.members = {
        sid: server(sid, directory, (each.client_port, each.quorum_port, each.election_port))
        for sid, each in cluster.members.items()
    }
    return cluster


# --- failover


async def run_failover(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Kill the leader, again and again: until the next write that is acknowledged."""
    times: dict[str, list[float]] = {}
    skipped: list[str] = []
    for name, server in contenders(options, skipped):
        cluster = make(directory / name, server, options.tick)
        try:
            await cluster.start()
            times[name] = await measure_failovers(cluster, options.kills, options.tick)
        finally:
            await cluster.stop()
    return {"tick_ms": options.tick, "times": times, "skipped": skipped}


async def measure_failovers(cluster: Direct, kills: int, tick_ms: int) -> list[float]:
    world, seen = LiveWorld(1), list[Connection]()
    network = LiveNetwork(world, cluster.client_ports)
    mix = Mix({"register": 1}, think=2 * MS, window=1, timeout_ms=SESSION_TICKS * tick_ms)
    writers = [
        Client(i, world, network, list(cluster.members), mix, seen.append)
        for i in range(1, WRITERS + 1)
    ]
    for writer in writers:
        writer.asks = False
        world.enter(writer.start)
    await until("sessions", lambda: all(w.server is not None for w in writers), FIRST_S)
    body = records.CreateRequest(REGISTER, b"", list(OPEN_ACL), CreateMode.PERSISTENT)
    world.enter(writers[0].request, OpCode.CREATE, body)
    await until("a znode", lambda: writers[0].acknowledged, FIRST_S)
    for writer in writers:
        writer.asks = True
        world.enter(writer._think)
    found = []
    for _ in range(kills):
        found.append(await _kill_leader(cluster, world, seen))
        cluster.restart()
        await cluster.until_all_serve()
    for writer in writers:
        world.enter(writer.stop)
    return found


async def _kill_leader(cluster: Direct, world: LiveWorld, seen: list[Connection]) -> float:
    leader = await cluster.leader()
    if leader is None:
        raise TooLate("no leader")
    recent = len(seen) - 40 if len(seen) > 40 else 0
    killed = world.look()
    cluster.kill(leader)

    def answered() -> int | None:
        """When the first write that began after the kill was acknowledged."""
        times = [
            op.returned
            for connection in seen[recent:]
            for op in reversed(connection.ops)
            if op.is_known and not op.error and op.invoked >= killed and op.xid > 0
        ]
        return min(times, default=None)

    await until("a write is acknowledged", answered, FAILOVER_S)
    first = answered()
    assert first is not None
    return (first - killed) / 1e6


# --- the first session


async def run_first_session(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Three members without data, started together: until a client has its session."""
    times: dict[str, list[float]] = {}
    skipped: list[str] = []
    for name, server in contenders(options, skipped):
        for number in range(options.times):
            cluster = make(directory / f"{name}-{number}", server, options.tick)
            try:
                times.setdefault(name, []).append(await _measure_first(cluster))
            finally:
                await cluster.stop()
    return {"tick_ms": options.tick, "times": times, "skipped": skipped}


async def _measure_first(cluster: Direct) -> float:
    cluster.prepare()
    began = time.monotonic()
    cluster.restart()
    world = LiveWorld(1)
    network = LiveNetwork(world, cluster.client_ports)
    sids = list(cluster.members)
    clients = [
        Client(sid, world, network, [sid], Mix({"set": 1}, timeout_ms=10_000), _forget)
        for sid in sids
    ]
    for client in clients:
        client.asks = False
        world.enter(client.start)
    await until("a session", lambda: any(c.server is not None for c in clients), FIRST_S)
    took = time.monotonic() - began
    for client in clients:
        world.enter(client.stop)
    return took


def _forget(connection: Connection) -> None:
    """Nothing of it is checked."""


# --- whom to measure


def contenders(options: argparse.Namespace, skipped: list[str]) -> list[tuple[str, type[Member]]]:
    found: list[tuple[str, type[Member]]] = [("zkpy", Member)]
    if options.beside_zookeeper:
        classes = servers.classpath(None)
        if classes is None or shutil.which("java") is None:
            skipped.append("SKIPPED beside ZooKeeper: it needs Debian's package zookeeper")
        else:
            found.append(("zookeeper", type("Theirs", (ZooKeeper,), {"classes": classes})))
    return found
