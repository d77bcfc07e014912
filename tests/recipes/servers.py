"""The server that the recipes' tests run against: zkpy, or Apache ZooKeeper (Debian's package)."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.differential.servers import MAIN_CLASS, classpath
from zkpy.testing.realserver import ZKPY, RealServer

NAMES: Final = ("zkpy", "zookeeper")
TICK_MS: Final = 1000
_JAVA: Final = (
    "java",
    "-Xmx400m",
    "-Dzookeeper.extendedTypesEnabled=true",
    "-Dzookeeper.admin.enableServer=false",
    "-Dzookeeper.forceSync=no",
)


def command_of(name: str) -> Sequence[str] | None:
    """To start it with, before the path of a zoo.cfg; None if it is not on this machine."""
    if name == "zkpy":
        return ZKPY
    classes = classpath(None)
    if classes is None or shutil.which("java") is None:
        return None
    return [*_JAVA, "-cp", classes, MAIN_CLASS]


def make_server(name: str, directory: Path) -> RealServer:
    command = command_of(name)
    assert command is not None
    return RealServer(directory, command, tick_ms=TICK_MS)
