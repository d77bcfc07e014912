"""`zkpy ensemble`: several servers of one ensemble in one terminal, to try things out.

Each is a `zkpy serve` process of its own, with a directory and a zoo.cfg as on a machine of
its own; what they log comes out under their numbers.  Ctrl-C stops all.

The data stays: the same command finds it again, with other peer ports if need be (a
member's address is configuration, and no part of what it keeps).  Who votes is part of it:
another number of voters is refused, since the new ones would never count.
"""

import contextlib
import itertools
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Collection
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Final

import attrs
import click

from zkpy import config as configs
from zkpy.errors import ConfigError
from zkpy.storage.identity import IDENTITY_NAME

DIRECTORY: Final = "zkpy-ensemble"
STOP_TIMEOUT_S: Final = 15.0
LOOPBACK: Final = configs.LOOPBACK


@attrs.define
class Server:
    number: int
    directory: Path
    client_port: int
    quorum_port: int
    election_port: int
    admin_port: int
    observer: bool

    @property
    def line(self) -> str:
        role = "observer" if self.observer else "participant"
        return (
            f"server.{self.number}={LOOPBACK}:{self.quorum_port}:{self.election_port}:{role};"
            f"{LOOPBACK}:{self.client_port}"
        )

    @property
    def config(self) -> Path:
        return self.directory / "zoo.cfg"

    @property
    def data(self) -> Path:
        return self.directory / "data"


@click.command(short_help="Run an ensemble on this machine, to try it.")
@click.option("--size", type=click.IntRange(1, 9), default=3, help="Voters; 3 if not given.")
@click.option(
    "--observers",
    type=click.IntRange(0, 9),
    default=0,
    help="Members without a vote; 0 if not given.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65000),
    default=configs.CLIENT_PORT,
    help=f"Client port of the first server, the others follow; {configs.CLIENT_PORT} if not given.",
)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    default=DIRECTORY,
    help=f"Where each server has a directory; ./{DIRECTORY} if not given.",
)
def ensemble(size: int, observers: int, port: int, directory: str) -> None:
    """Run an ensemble on this machine until Ctrl-C, for trying things out."""
    servers = plan_servers(Path(directory).absolute(), size, observers, port)
    refusal = find_refusal(servers)
    if refusal is not None:
        click.echo(f"zkpy: {refusal}", err=True)
        sys.exit(1)
    for server in servers:
        write_files(server, servers)
        click.echo(describe(server))
    click.echo(f"connect with kazoo: KazooClient({hosts_of(servers)!r})")
    with Running(servers) as running:
        told = running.wait()
    sys.exit(0 if told else 1)


def find_refusal(servers: list[Server]) -> str | None:
    """Why this cannot go on with the data that is there, in words."""
    first = servers[0]
    if not (first.config.is_file() and (first.data / IDENTITY_NAME).exists()):
        return None
    try:
        voters = configs.load(str(first.config)).membership.voters
    except ConfigError:  # it is written anew, and says nothing of the data
        return None
    if voters == [server.number for server in servers if not server.observer]:
        return None
    return (
        f"{first.directory.parent} holds an ensemble of {len(voters)} voters, and who votes is "
        f"part of its data: --size {len(voters)} goes on with it, --dir begins another"
    )


def plan_servers(directory: Path, size: int, observers: int, port: int) -> list[Server]:
    """Client ports count up from `port`; peer ports are whatever is free just now."""
    count = size + observers
    peers = free_peer_ports(count)
    admin = free_admin_ports(count, {*range(port, port + count), *itertools.chain(*peers)})
    return [
        Server(
            i + 1, directory / f"server-{i + 1}", port + i, *peers[i], admin[i], observer=i >= size
        )
        for i in range(count)
    ]


def free_peer_ports(count: int) -> list[tuple[int, int]]:
    """(TCP, UDP) per server, all held at once so that none is given twice."""
    with contextlib.ExitStack() as stack:

        def hold(kind: int) -> int:
            opened = stack.enter_context(socket.socket(socket.AF_INET, kind))
            opened.bind((LOOPBACK, 0))
            return int(opened.getsockname()[1])

        pairs = ((hold(socket.SOCK_STREAM), hold(socket.SOCK_DGRAM)) for _ in range(2 * count))
        return [pair for pair in pairs if pair[0] != pair[1]][:count]


def free_admin_ports(count: int, others: Collection[int]) -> list[int]:
    """From the usual one on, those that are free and not among `others`."""
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for number in range(configs.ADMIN_PORT, 65536):
            if len(found) == count:
                break
            if number in others:
                continue
            held = stack.enter_context(socket.socket())
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):  # it is another program's
                held.bind((LOOPBACK, number))
                held.listen()
                found.append(number)
    return found


def write_files(server: Server, servers: list[Server]) -> None:
    data = server.data
    data.mkdir(parents=True, exist_ok=True)
    (data / "myid").write_text(f"{server.number}\n")
    lines = [
        "# Written by `zkpy ensemble` at each start.",
        "tickTime=2000",
        "initLimit=10",
        "syncLimit=5",
        f"dataDir={data}",
        "4lw.commands.whitelist=*",
        f"admin.serverPort={server.admin_port}",
        *(each.line for each in servers),
    ]
    server.config.write_text("\n".join([*lines, ""]))


def describe(server: Server) -> str:
    part = "observer" if server.observer else "voter"
    return (
        f"server {server.number} ({part}): clients {LOOPBACK}:{server.client_port}, "
        f"quorum {server.quorum_port}, election {server.election_port}/udp, "
        f"http://{LOOPBACK}:{server.admin_port}/commands, {server.config}"
    )


def hosts_of(servers: list[Server]) -> str:
    return ",".join(f"{LOOPBACK}:{server.client_port}" for server in servers)


class Running:
    """The processes; leaving the block stops those that are left."""

    def __init__(self, servers: list[Server]) -> None:
        self._servers = servers
        self._children: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []
        # Unlike an Event it may be filled from within a signal handler.
        self._ends: SimpleQueue[bool] = SimpleQueue()
        self._alive = len(servers)
        self._lock = threading.Lock()

    def __enter__(self) -> "Running":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        for server in self._servers:
            self._start(server)
        return self

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._ends.put(True)

    def _start(self, server: Server) -> None:
        command = [sys.executable, "-m", "zkpy", "serve", str(server.config)]
        # A group of their own: Ctrl-C in the terminal reaches them once, through us.
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0)
        reader = threading.Thread(target=self._follow, args=(server.number, child), daemon=True)
        reader.start()
        self._children.append(child)
        self._readers.append(reader)

    def _follow(self, number: int, child: subprocess.Popen[str]) -> None:
        assert child.stderr is not None
        for line in child.stderr:
            click.echo(f"{number} | {line.rstrip()}", err=True)
        click.echo(f"{number} | ended with code {child.wait()}", err=True)
        with self._lock:
            self._alive -= 1
            if not self._alive:
                self._ends.put(False)

    def wait(self) -> bool:
        """Until a signal, or until no server is left; whether it was a signal."""
        return self._ends.get()

    def __exit__(self, *failure: object) -> None:
        for child in self._children:
            child.terminate()
        for child in self._children:
            try:
                child.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
        for reader in self._readers:
            reader.join(STOP_TIMEOUT_S)
