"""zkpy and Apache ZooKeeper as they are measured: one server or an ensemble, on loopback.

Both get the same zoo.cfg, fresh directories on the same disk, and sync their logs.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import attrs

import wire
from tests.bench.figures import ZKPY, ZOOKEEPER
from tests.differential.servers import HOST, MAIN_CLASS, Server
from tests.server.members import member_ports

TICK_MS: Final = 2000
START_S: Final = 300
STOP_S: Final = 60
_POLL_S: Final = 0.01
_CORE: Final = Path(wire.__file__).resolve().parents[1]
"""Where zkpy is imported from: the checkout, or its compiled copy (scripts/compile)."""
_CONFIG: Final = """\
tickTime=%d
initLimit=30
syncLimit=15
maxClientCnxns=0
clientPortAddress=127.0.0.1
4lw.commands.whitelist=*
"""


@attrs.frozen
class Kind:
    """How a server is started: `command` and the path of a zoo.cfg."""

    name: str
    command: tuple[str, ...]


def zkpy() -> Kind:
    return Kind(ZKPY, (sys.executable, "-m", "zkpy", "serve"))


def zookeeper(classes: str, heap: str) -> Kind:
    """The admin server would want a port of its own; all else is as it comes."""
    java = ("java", f"-Xmx{heap}", "-Dzookeeper.admin.enableServer=false")
    return Kind(ZOOKEEPER, (*java, "-cp", classes, MAIN_CLASS))


class DoesNotServe(Exception):
    """With the end of the server's log."""


class Peer:
    """Servers of one kind, from 1 on: voters, then observers."""

    def __init__(self, kind: Kind, directory: Path, voters: int = 1, observers: int = 0) -> None:
        self.kind = kind
        self.directory = directory
        self.servers: list[Server] = []
        self._ports = member_ports(voters + observers)
        self._voters = voters
        directory.mkdir(parents=True)

    @property
    def name(self) -> str:
        return self.kind.name

    @property
    def hosts(self) -> list[str]:
        return [f"{HOST}:{ports[0]}" for ports in self._ports]

    @property
    def data_directories(self) -> list[Path]:
        return [self.directory / f"data-{number + 1}" for number in range(len(self._ports))]

    def start(self, settings: Mapping[str, str] | None = None) -> float:
        """Seconds until every server opened a session; DoesNotServe if one does not."""
        started = time.monotonic()
        for number in range(len(self._ports)):
            self.servers.append(self._launch(number, settings or {}))
        for server in self.servers:
            _await_session(server, started + START_S)
        return time.monotonic() - started

    def _launch(self, number: int, settings: Mapping[str, str]) -> Server:
        config = self.directory / f"zoo-{number + 1}.cfg"
        data = self.data_directories[number]
        data.mkdir(exist_ok=True)
        (data / "myid").write_text(f"{number + 1}\n")
        config.write_text(self._config(number, settings))
        log = self.directory / f"log-{number + 1}.txt"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [*self.kind.command, str(config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(_CORE), "PYTHONSAFEPATH": "1"},
            )
        return Server(self.name, self._ports[number][0], process, log)

    def _config(self, number: int, settings: Mapping[str, str]) -> str:
        lines = [
            _CONFIG % TICK_MS + f"dataDir={self.data_directories[number]}",
            f"clientPort={self._ports[number][0]}",
            *(f"{key}={value}" for key, value in settings.items()),
        ]
        if len(self._ports) > 1:
            lines += map(self._member_line, range(len(self._ports)))
        return "\n".join([*lines, ""])

    def _member_line(self, number: int) -> str:
        _, quorum, election = self._ports[number]
        observes = ":observer" if number >= self._voters else ""
        return f"server.{number + 1}={HOST}:{quorum}:{election}{observes}"

    def stop(self) -> None:
        """All at once: a follower that waits for its leader stops late."""
        for server in self.servers:
            with contextlib.suppress(ProcessLookupError):
                server.process.send_signal(signal.SIGTERM)
        for server in self.servers:
            try:
                server.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()
        self.servers = []

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def ended_by_themselves(self) -> list[str]:
        return [
            f"{server.log_tail()}\n{self.name} ended by itself, status {server.process.returncode}"
            for server in self.servers
            if server.process.poll() is not None
        ]

    def resident_mib(self) -> float:
        """Of all its servers together."""
        return sum(resident_mib(server.process.pid) for server in self.servers)

    def version(self) -> str:
        return self.servers[0].version()


@contextlib.contextmanager
def removed_after(peer: Peer) -> Iterator[Peer]:
    """Whatever happens, its servers end and its data goes; who ended before that is told."""
    try:
        yield peer
    finally:
        for ended in peer.ended_by_themselves():
            print(f"bench: {ended}", file=sys.stderr)
        peer.remove()


def _await_session(server: Server, deadline: float) -> None:
    while not server.serves():
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise DoesNotServe(server.log_tail())
        time.sleep(_POLL_S)


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0
