"""The table of commands: one row per command, its answer a mapping of plain values.

A row knows nothing of how its answer is sent: `fourletter` makes text of it.
The names are those of ZooKeeper's AdminServer, the words its four-letter words.
"""

import getpass
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from zkpy import __version__
from zkpy.admin.metrics import Metrics, Summary
from zkpy.replica.status import Status

ZOOKEEPER_VERSION: Final = "3.9.5"
"""The release whose protocol is served: clients decide by it what they may ask for."""
RELEASED: Final = "2026-11-24 00:00 UTC"
"""ZooKeeper has the time of the build here; this is the day of this version."""

Answer = Mapping[str, object]


def version_text() -> str:
    """In ZooKeeper's form, which kazoo takes apart: digits and dots up to the first dash."""
    return f"{ZOOKEEPER_VERSION}-zkpy-{__version__}, built on {RELEASED}"


@attrs.define(frozen=True)
class ConnectionView:
    """One client connection."""

    address: str
    """`host:port`"""
    reading: bool
    """False while the server takes no more requests from it."""
    queued: int
    received: int
    sent: int


@attrs.define(frozen=True)
class ServerView:
    """All that commands may read, gathered for one answer."""

    status: Status
    metrics: Metrics
    uptime_ms: int
    connections: Sequence[ConnectionView] = ()

    @property
    def mode(self) -> str:
        """standalone, leader, follower, observer or read-only; empty while not serving."""
        return self.status.mode


@attrs.define(frozen=True)
class Command:
    name: str
    word: str
    run: Callable[[ServerView], Answer]
    needs_service: bool = True
    """Refused with one line while the server serves nobody."""


def are_you_ok(view: ServerView) -> Answer:
    return {}


def is_read_only(view: ServerView) -> Answer:
    return {"read_only": view.mode == "read-only" if view.mode else None}


def describe_environment(view: ServerView) -> Answer:
    uname = os.uname()
    return {
        "zookeeper.version": version_text(),
        "host.name": socket.gethostname(),
        "python.version": sys.version.partition(" ")[0],
        "python.implementation": sys.implementation.name,
        "python.home": sys.prefix,
        "os.name": uname.sysname,
        "os.arch": uname.machine,
        "os.version": uname.release,
        "user.name": _find_user(),
        "user.home": os.path.expanduser("~"),
        "user.dir": os.getcwd(),
    }


def _find_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return "<NA>"


def describe_server(view: ServerView) -> Answer:
    latency = view.metrics.latency
    return {
        "version": version_text(),
        "read_only": view.mode == "read-only",
        "min_latency": latency.min_ms,
        "avg_latency": latency.average_ms,
        "max_latency": latency.max_ms,
        "packets_received": view.status.packets_received,
        "packets_sent": view.status.packets_sent,
        "num_alive_client_connections": len(view.connections),
        "outstanding_requests": view.status.outstanding,
        "last_processed_zxid": view.status.zxid,
        "server_state": view.mode,
        "node_count": view.status.znodes,
    }


def describe_clients(view: ServerView) -> Answer:
    return {**describe_server(view), "connections": view.connections}


def monitor(view: ServerView) -> Answer:
    latency = view.metrics.latency
    return {
        "version": version_text(),
        "server_state": view.mode,
        "avg_latency": latency.average_ms,
        "min_latency": latency.min_ms,
        "max_latency": latency.max_ms,
        "packets_received": view.status.packets_received,
        "packets_sent": view.status.packets_sent,
        "num_alive_connections": len(view.connections),
        "outstanding_requests": view.status.outstanding,
        "uptime": view.uptime_ms,
        "znode_count": view.status.znodes,
        "watch_count": view.status.watches,
        "ephemerals_count": view.status.ephemerals,
        "approximate_data_size": view.status.data_bytes,
        "global_sessions": view.status.sessions,
        "local_sessions": 0,
        "open_file_descriptor_count": _count_descriptors(),
        "max_file_descriptor_count": _limit_descriptors(),
        "connection_rejected": view.metrics.connections_rejected,
        "connection_dropped": view.metrics.connections_dropped,
        "bytes_received_count": view.metrics.bytes_received,
        "bytes_sent_count": view.metrics.bytes_sent,
        **_spread("fsynctime", view.metrics.sync),
    }


def _spread(name: str, summary: Summary) -> Answer:
    """A summary under the names that ZooKeeper gives its parts; milliseconds."""
    return {
        f"avg_{name}": summary.average_ms,
        f"min_{name}": summary.min_ms,
        f"max_{name}": summary.max_ms,
        f"cnt_{name}": summary.count,
        f"sum_{name}": summary.total_ns // 1_000_000,
    }


def _count_descriptors() -> int:
    """-1 where the system does not tell."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # one of them lists the others
    except OSError:
        return -1


def _limit_descriptors() -> int:
    import resource  # POSIX only, and nothing else needs it

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


COMMANDS: Final = (
    Command("ruok", "ruok", are_you_ok, needs_service=False),
    Command("server_stats", "srvr", describe_server),
    Command("stats", "stat", describe_clients),
    Command("environment", "envi", describe_environment, needs_service=False),
    Command("is_read_only", "isro", is_read_only, needs_service=False),
    Command("monitor", "mntr", monitor),
)
