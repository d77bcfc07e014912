"""Apache ZooKeeper and zkpy, one process each, on loopback, with fresh directories."""

import contextlib
import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import attrs

from zkpy.testing.realserver import free_ports

HOST: Final = "127.0.0.1"
DEBIAN_JAR: Final = Path("/usr/share/java/zookeeper.jar")
"""Its manifest names the jars that it needs."""
MAIN_CLASS: Final = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
START_S: Final = 60
SUPER: Final = b"super:secret"
SUPER_DIGEST: Final = "super:lK75jTNcA+U9vtVEw5vB51mj/w4="
_CHECK_INTERVAL: Final = "znode.container.checkIntervalMs"
"""To ZooKeeper a property without its prefix.  No container is to end by itself."""
PROPERTIES: Final = {
    "extendedTypesEnabled": "true",
    "enforceQuota": "true",
    "DigestAuthenticationProvider.superDigest": SUPER_DIGEST,
    _CHECK_INTERVAL: "86400000",
}
"""What both servers are told, as system properties of ZooKeeper."""
_JAVA_ONLY: Final = {"forceSync": "no"}
_CONFIG: Final = """\
tickTime=2000
initLimit=10
syncLimit=5
dataDir={data}
clientPort={port}
clientPortAddress=127.0.0.1
maxClientCnxns=0
4lw.commands.whitelist=*
admin.enableServer=false
"""


@attrs.define
class Server:
    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def version(self) -> str:
        """The first line of what `srvr` says."""
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 2) as s:
            s.sendall(b"srvr")
            return s.makefile("rb").readline().decode(errors="replace").strip()
        return "not serving"

    def serves(self) -> bool:
        """Whether it opens a session, which is closed again."""
        request = struct.pack(">iiqiqi16s?", 45, 0, 0, 10000, 0, 16, b"", False)
        with contextlib.suppress(OSError, struct.error):  # noqa: SIM117
            with socket.create_connection((HOST, self.port), 1) as s, s.makefile("rb") as answers:
                s.sendall(request)
                answer = answers.read(struct.unpack(">i", answers.read(4))[0])
                s.sendall(struct.pack(">iii", 8, 1, -11))
                return bool(struct.unpack_from(">i", answer, 4)[0] > 0 and answers.read(4))
        return False

    def wait(self) -> None:
        deadline = time.monotonic() + START_S
        while not self.serves():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"{self.name} does not serve:\n{self.log_tail()}")
            time.sleep(0.05)

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def classpath(jars: Path | None) -> str | None:
    """Of a directory of jars, else of Debian's package; None if there is neither."""
    if jars is not None:
        return str(jars / "*")
    return str(DEBIAN_JAR) if DEBIAN_JAR.exists() else None


def start_zookeeper(directory: Path, classes: str, data: Path | None = None) -> Server:
    """`data`: of a server that was there before; else a fresh directory."""
    options = [f"-Dzookeeper.{key}={value}" for key, value in (PROPERTIES | _JAVA_ONLY).items()]
    options.append(f"-D{_CHECK_INTERVAL}={PROPERTIES[_CHECK_INTERVAL]}")
    command = ["java", "-Xmx800m", *options, "-cp", classes, MAIN_CLASS]
    return _start("zookeeper", directory, command, data)


def start_zkpy(directory: Path, data: Path | None = None) -> Server:
    options = [word for key, value in PROPERTIES.items() for word in ("-D", f"{key}={value}")]
    return _start("zkpy", directory, [sys.executable, "-m", "zkpy", "serve", *options], data)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def _start(name: str, directory: Path, command: list[str], data: Path | None) -> Server:
    if data is None:
        data = directory / name
        data.mkdir()
    port = free_ports(1)[0]
    config = directory / f"{name}.cfg"
    config.write_text(_CONFIG.format(data=data, port=port))
    log = directory / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, str(config)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
    return Server(name, port, process, log)
