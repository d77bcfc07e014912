"""Real servers on loopback, each a process of its own, for tests of what talks to them.

A `RealServer` is a directory and a port that stay, and processes that come and go: it can be
killed and started again under its clients.  By default it runs `zkpy serve`; any command
that takes a zoo.cfg as its last argument will do, so Apache ZooKeeper stands behind the
same interface (`tests/recipes/servers.py`).

`RealEnsemble` is several of them with `server.N` lines.
"""

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import attrs

HOST: Final = "127.0.0.1"
START_S: Final = 60.0
POLL_S: Final = 0.02
FIRST_PORT: Final = 10_000
LAST_PORT: Final = 20_999
"""tests/conformance has those from 21000 on."""
PORTS_PER_BLOCK: Final = 50
ZKPY: Final = (sys.executable, "-m", "zkpy", "serve")
_ROOT: Final = Path(__file__).resolve().parents[2]
_CONFIG: Final = """\
tickTime={tick_ms}
initLimit=10
syncLimit=5
dataDir={data}
clientPort={port}
clientPortAddress=127.0.0.1
maxClientCnxns=0
4lw.commands.whitelist=*
admin.enableServer=false
"""
_CONNECT: Final = struct.pack(">iiqiqi16s?", 45, 0, 0, 10000, 0, 16, b"", False)
_CLOSE: Final = struct.pack(">iii", 8, 1, -11)


class ServerNotServing(Exception):
    """A process ended, or does not open sessions in time; the text holds the end of its log."""


@attrs.define
class RealServer:
    """One server; `start` it, and `stop` it in the end.  Also a context manager."""

    directory: Path
    """Exists; data, zoo.cfg and log go there."""
    command: Sequence[str] = ZKPY
    """Gets the path of zoo.cfg as its last argument."""
    number: int = 0
    """As `server.N`; 0 if alone."""
    tick_ms: int = 2000
    """A session's timeout is at least twice that."""
    more: str = ""
    """Further lines of zoo.cfg."""
    port: int = attrs.field(factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[bytes] | None = None

    @property
    def hosts(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        return self.directory / f"server-{self.number}.log"

    def start(self, wait: bool = True) -> None:
        """Start a process on the data that is there; and wait until it opens sessions."""
        assert self.process is None
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*self.command, str(self._write_config())],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONSAFEPATH": "1"},
            )
        if wait:
            self.wait()

    def _write_config(self) -> Path:
        data = self.directory / f"data-{self.number}"
        data.mkdir(exist_ok=True)
        if self.number:
            (data / "myid").write_text(f"{self.number}\n")
        config = self.directory / f"zoo-{self.number}.cfg"
        text = _CONFIG.format(data=data, port=self.port, tick_ms=self.tick_ms)
        config.write_text(text + self.more)
        return config

    def wait(self) -> None:
        deadline = time.monotonic() + START_S
        while not self.serves():
            ended = self.process is None or self.process.poll() is not None
            if ended or time.monotonic() > deadline:
                raise ServerNotServing(self.log.read_text(errors="replace")[-3000:])
            time.sleep(POLL_S)

    def serves(self) -> bool:
        """Whether it opens a session, which is closed again."""
        with contextlib.suppress(OSError, struct.error):  # noqa: SIM117
            with socket.create_connection((HOST, self.port), 1) as s, s.makefile("rb") as answers:
                s.sendall(_CONNECT)
                answer = answers.read(struct.unpack(">i", answers.read(4))[0])
                s.sendall(_CLOSE)
                return bool(struct.unpack_from(">i", answer, 4)[0] > 0 and answers.read(4))
        return False

    def ask(self, word: str) -> str:
        """A four-letter word."""
        with socket.create_connection((HOST, self.port), START_S) as s:
            s.sendall(word.encode())
            return b"".join(iter(lambda: s.recv(65536), b"")).decode()

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End the process, if there is one; its data stays."""
        if self.process is None:
            return
        process, self.process = self.process, None
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def restart(self) -> None:
        """As a crash: killed, and started on what was on disk."""
        self.kill()
        self.start()

    def __enter__(self) -> "RealServer":
        self.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self.stop()


class RealEnsemble:
    """Voters 1 to `size` on loopback; a context manager that starts and stops all."""

    def __init__(
        self,
        directory: Path,
        size: int = 3,
        command: Sequence[str] = ZKPY,
        tick_ms: int = 2000,
    ) -> None:
        ports = free_ports(3 * size)
        lines = [
            f"server.{i + 1}={HOST}:{ports[size + i]}:{ports[2 * size + i]}" for i in range(size)
        ]
        more = "\n".join([*lines, ""])
        self.servers = [
            RealServer(directory, command, i + 1, tick_ms, more=more, port=ports[i])
            for i in range(size)
        ]

    @property
    def hosts(self) -> str:
        return ",".join(server.hosts for server in self.servers)

    def find_leader(self) -> RealServer | None:
        """Of those that answer; None while there is none."""
        return leader_of(self.servers)

    def __enter__(self) -> "RealEnsemble":
        try:
            for server in self.servers:
                server.start(wait=False)
            for server in self.servers:
                server.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        for server in self.servers:
            server.stop()


def leader_of(servers: Iterable[RealServer]) -> RealServer | None:
    """Of those that answer; None while there is none."""
    for server in servers:
        with contextlib.suppress(OSError):
            if server.process is not None and "Mode: leader\n" in server.ask("srvr"):
                return server
    return None


class _Ports:
    """What this process has of the ports for tests, by the block; see `free_ports`.

    A block belongs to the process that has bound its first port, which is given to nobody."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._claims: list[socket.socket] = []
        """Held until the process ends."""
        self._left = range(0)

    def take(self, count: int) -> list[int]:
        with self._mutex:
            while True:
                row = self._left[:count]
                if len(row) < count:
                    self._left = self._claim()
                elif _are_free(row):
                    self._left = self._left[count:]
                    return list(row)
                else:
                    self._left = self._left[1:]

    def _claim(self) -> range:
        """All but the first port of a block that nobody has."""
        starts = range(FIRST_PORT, LAST_PORT, PORTS_PER_BLOCK)
        at = random.randrange(len(starts))
        for start in (*starts[at:], *starts[:at]):
            claim = socket.socket()
            try:
                claim.bind((HOST, start))
            except OSError:
                claim.close()
                continue
            self._claims.append(claim)
            return range(start + 1, start + PORTS_PER_BLOCK)
        raise OSError(f"no block of ports is free between {FIRST_PORT} and {LAST_PORT}")


_PORTS: Final = _Ports()


def free_ports(count: int) -> list[int]:
    """So many in a row, each free for TCP and UDP, which no other caller of this gets, in this
    process or in another one, as long as this process lives.  OSError if there are none.

    They are for servers that are started later, and started again.  So they lie below those that
    the kernel gives to outgoing connections and to whoever asks for any port: the tests do so
    hundreds of times, and one of these could be the port of a server that is down for a moment."""
    if count >= PORTS_PER_BLOCK:
        raise OSError(f"there are {PORTS_PER_BLOCK - 1} ports in a row, not {count}")
    return _PORTS.take(count)


def _are_free(ports: Iterable[int]) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            for port in ports:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    probe = stack.enter_context(socket.socket(socket.AF_INET, kind))
                    if kind is socket.SOCK_STREAM:
                        # As servers do: connections in TIME_WAIT are in nobody's way.
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((HOST, port))
        except OSError:
            return False
    return True
