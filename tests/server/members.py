"""An ensemble of real processes on loopback, for tests; they wait for lines of its logs."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from kazoo.client import KazooClient

from zkpy.testing.realserver import free_ports

LIMIT_S = 30


class Member:
    """One server: a directory and ports that stay, processes that come and go."""

    def __init__(self, number: int, directory: Path, ports: tuple[int, int, int]) -> None:
        self.number = number
        self.data = directory / f"data-{number}"
        self.config = directory / f"zoo-{number}.cfg"
        self.log = directory / f"log-{number}"
        """What all its processes said."""
        self.client_port, self.quorum_port, self.election_port = ports
        self.hosts = f"127.0.0.1:{self.client_port}"
        self.child: subprocess.Popen[str] | None = None
        self.lines: list[str] = []
        """Of the present process."""
        self._news = threading.Condition()

    def write_files(self, text: str) -> None:
        self.data.mkdir(exist_ok=True)
        (self.data / "myid").write_text(f"{self.number}\n")
        own = f"dataDir={self.data}\nclientPort={self.client_port}\nclientPortAddress=127.0.0.1\n"
        own += "admin.enableServer=false\n"
        self.config.write_text(own + text)

    def command(self) -> list[str]:
        return [sys.executable, "-m", "zkpy", str(self.config)]

    def start(self) -> None:
        self.lines = []
        self.child = subprocess.Popen(self.command(), stderr=subprocess.PIPE, text=True, bufsize=1)
        self._reader = threading.Thread(target=self._read, args=(self.child,))
        self._reader.start()

    def _read(self, child: subprocess.Popen[str]) -> None:
        assert child.stderr is not None
        with child.stderr as stderr, self.log.open("a") as log:
            for line in stderr:
                log.write(line)
                log.flush()
                self._note(line)
        self._note("")

    def _note(self, line: str) -> None:
        with self._news:
            self.lines.append(line)
            self._news.notify_all()

    def end(self, number: int = signal.SIGKILL) -> int:
        assert self.child is not None
        child, self.child = self.child, None
        child.send_signal(number)
        code = child.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        return code

    def until(self, condition: Callable[[list[str]], object]) -> None:
        """Wait until the log is such."""
        with self._news:
            assert self._news.wait_for(lambda: condition(self.lines), LIMIT_S), self.lines

    def until_serving(self) -> None:
        self.until(lambda lines: self._serves(lines))

    @staticmethod
    def _serves(lines: list[str]) -> bool:
        """Whether the last word about the role is that of a member that serves."""
        words = ("leading", "following", "observing", "looking")
        roles = [line for line in lines if any(f" {word}" in line for word in words)]
        return bool(roles) and roles[-1].rstrip().endswith(": serving")

    def ask(self, word: str) -> str:
        """A four-letter word."""
        with socket.create_connection(("127.0.0.1", self.client_port), LIMIT_S) as asking:
            asking.sendall(word.encode())
            return b"".join(iter(lambda: asking.recv(65536), b"")).decode()

    def monitor(self) -> dict[str, str]:
        return dict(line.split("\t") for line in self.ask("mntr").splitlines())


class Members:
    """Voters from 1 on, then observers."""

    def __init__(self, directory: Path, voters: int, observers: int = 0, more: str = "") -> None:
        count = voters + observers
        ports = member_ports(count)
        self.all = [Member(i + 1, directory, ports[i]) for i in range(count)]
        lines = [
            f"server.{each.number}=localhost:{each.quorum_port}:{each.election_port}"
            + (":observer" if each.number > voters else "")
            for each in self.all
        ]
        text = "\n".join([more, "4lw.commands.whitelist=*", *lines, ""])
        for each in self.all:
            each.write_files(text)
        self.hosts = ",".join(each.hosts for each in self.all)
        self._clients: list[KazooClient] = []

    def start(self) -> None:
        for each in self.all:
            each.start()
        for each in self.all:
            each.until_serving()

    def connect(self, hosts: str, timeout: float = 10.0) -> KazooClient:
        client = KazooClient(hosts, timeout=timeout)
        client.start(LIMIT_S)
        self._clients.append(client)
        return client

    def find_leader(self) -> Member:
        (leader,) = [each for each in self.all if "Mode: leader\n" in each.ask("srvr")]
        return leader

    def end(self) -> None:
        for client in self._clients:
            with contextlib.suppress(Exception):
                client.stop()
            client.close()
        for each in self.all:
            if each.child is not None:
                each.end()


SUPERUSER = ("digest", "super:test")
CHANGING = """
tickTime=500
reconfigEnabled=true
standaloneEnabled=false
4lw.commands.whitelist=*
DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=
"""


class Servers:
    """Each knows itself, as an observer unless it founds, and whom it is told of."""

    def __init__(self, directory: Path, count: int) -> None:
        ports = member_ports(count)
        self.all = {i + 1: Member(i + 1, directory, ports[i]) for i in range(count)}
        self.clients: list[KazooClient] = []

    def line(self, number: int, role: str = "participant") -> str:
        each = self.all[number]
        return (
            f"server.{number}=127.0.0.1:{each.quorum_port}:{each.election_port}:{role};"
            f"127.0.0.1:{each.client_port}"
        )

    def configure(self, number: int, *others: int) -> Member:
        own = self.line(number, "observer" if others else "participant")
        self.all[number].write_files("\n".join([CHANGING, own, *map(self.line, others), ""]))
        return self.all[number]

    def hosts(self, *numbers: int) -> str:
        return ",".join(self.all[number].hosts for number in numbers)

    def connect(self, *numbers: int) -> KazooClient:
        client = KazooClient(self.hosts(*numbers), timeout=10.0, auth_data=[SUPERUSER])
        client.start(LIMIT_S)
        self.clients.append(client)
        return client

    def end(self) -> None:
        for client in self.clients:
            client.stop()
            client.close()
        for each in self.all.values():
            if each.child is not None:
                each.end()


def is_told(text: str, lines: list[str]) -> bool:
    return any(text in line for line in lines)


def member_ports(count: int) -> list[tuple[int, int, int]]:
    """(client, quorum, election) of each."""
    ports = free_ports(3 * count)
    return [(ports[at], ports[at + 1], ports[at + 2]) for at in range(0, 3 * count, 3)]
