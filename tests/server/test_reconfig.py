"""Changes of membership with real processes: one grows to three, one of them is replaced.

Clients are at work all the while, and see nothing but that servers come and go.
"""

import re
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss, NewConfigNoQuorumError

from tests.server.members import LIMIT_S, Member, Servers, is_told
from zkpy.cli.main import zkpy

NOT_NAMED = "this server is not in the configuration"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path, 4)
    try:
        yield servers
    finally:
        servers.end()


class Traffic:
    """Appends numbers under /log, one after the other, until it is told to stop."""

    def __init__(self, client: KazooClient) -> None:
        self._client = client
        self.acknowledged: list[int] = []
        self.failures: list[BaseException] = []
        self._news = threading.Condition()
        self._stop = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._stop:
            number += 1
            try:
                self._client.create(f"/log/{number}")
            except ConnectionLoss:
                continue  # it may have happened or not
            except Exception as failure:
                self.failures.append(failure)
                return
            with self._news:
                self.acknowledged.append(number)
                self._news.notify_all()

    def goes_on(self) -> None:
        """Wait for writes that were asked for from now on."""
        with self._news:
            count = len(self.acknowledged)
            assert self._news.wait_for(lambda: len(self.acknowledged) > count + 2, LIMIT_S), (
                self.failures
            )

    def end(self) -> list[int]:
        self._stop = True
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive() and not self.failures
        return self.acknowledged


def join_when_ready(client: KazooClient, joining: str, leaving: str | None = None) -> str:
    """Ask until the new ones are synchronised: then it is not refused any more."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        try:
            data: bytes = client.reconfig(joining, leaving, None)[0]
            return data.decode()
        except NewConfigNoQuorumError:
            client.sync("/")
    raise AssertionError("never synchronised")


def test_one_grows_to_three_and_one_is_replaced(servers: Servers) -> None:
    first = servers.configure(1)
    first.start()
    first.until_serving()
    admin = servers.connect(1)
    admin.create("/log")
    assert admin.get("/zookeeper/config")[0].decode().startswith(servers.line(1) + "\nversion=")
    traffic = Traffic(servers.connect(1, 2, 3))
    try:
        grow(servers, admin, traffic)
        replace(servers, admin, traffic)
    finally:
        acknowledged = traffic.end()
    reader = servers.connect(4)
    reader.sync("/log")
    assert {*map(str, acknowledged)} <= {*reader.get_children("/log")}


def grow(servers: Servers, admin: KazooClient, traffic: Traffic) -> None:
    for number in (2, 3):
        each = servers.configure(number, 1)
        each.start()
        each.until(partial(is_told, NOT_NAMED))
        assert "not currently serving" in each.ask("srvr")
    told = threading.Event()
    admin.get("/zookeeper/config", watch=lambda event: told.set())
    shown = join_when_ready(admin, f"{servers.line(2)},{servers.line(3)}")
    assert told.wait(LIMIT_S)
    assert shown.split("\n")[:3] == [servers.line(number) for number in (1, 2, 3)]
    for number in (2, 3):
        servers.all[number].until_serving()
        assert servers.all[number].ask("conf").endswith(f"\nmembership: \n{shown}")
    version = re.search(r"version=([0-9a-f]+)$", shown)
    assert version is not None
    for number in (1, 2, 3):  # in a file for each, beside what the operator wrote
        config = servers.all[number].config
        said = f"{config}.dynamic.{version[1]}: the membership of version {version[1]} is written"
        servers.all[number].until(partial(is_told, said))
        assert Path(f"{config}.dynamic.{version[1]}").read_text() == shown + "\n"
        assert f"server.{number}=" in config.read_text()
        named = f"voters 1 and observers {number}" if number > 1 else "voters 1"
        servers.all[number].until(
            partial(
                is_told, f"{config} names {named}, the ensemble's are voters 1 2 3: these count"
            )
        )
    traffic.goes_on()


def replace(servers: Servers, admin: KazooClient, traffic: Traffic) -> None:
    """Server 1 - which all were told of at their start - is lost; 4 takes its place."""
    admin.set_hosts(servers.hosts(2, 3))
    servers.all[1].end(signal.SIGKILL)
    traffic.goes_on()
    fourth = servers.configure(4, 2, 3)
    fourth.start()
    fourth.until(partial(is_told, NOT_NAMED))
    shown = admin.retry(join_when_ready, admin, servers.line(4), "1")
    assert shown.split("\n")[:3] == [servers.line(number) for number in (2, 3, 4)]
    fourth.until_serving()
    # Any one of the three may go now.  The others find each other by what the log says.
    servers.all[2].end(signal.SIGKILL)
    traffic.goes_on()
    servers.all[2].start()
    servers.all[2].until_serving()
    # The one that was replaced comes back, and is told who is there now, since the leader may be
    # one that it has never heard of: it says why it does not serve.
    servers.configure(1, 2, 3, 4).start()
    servers.all[1].until(partial(is_told, NOT_NAMED))
    says_why_it_waits(servers.all[1], admin)


def says_why_it_waits(member: Member, client: KazooClient) -> None:
    """Behind the usual line, once it is synchronised: `zkpy reconfig` goes by that."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        said = member.ask("srvr").splitlines()
        assert said[0] == "This ZooKeeper instance is not currently serving requests"
        if said[1:]:
            assert said[1].startswith("learning from server ") and NOT_NAMED in said[1]
            return
        client.sync("/")
    raise AssertionError("never synchronised")


def test_a_server_without_a_line_grows_to_three(servers: Servers) -> None:
    """As docs/operations.md tells: it began with clientPort alone, and has data."""
    first = servers.all[1]
    first.write_files("")
    (first.data / "myid").unlink()
    first.start()
    first.until(partial(is_told, " serving on "))
    servers.connect(1).create("/before", b"v")
    assert first.end(signal.SIGTERM) == 0

    servers.configure(1).start()
    first.until(partial(is_told, "the configuration is now"))
    for number in (2, 3):
        each = servers.configure(number, 1)
        each.start()
        each.until(partial(is_told, NOT_NAMED))
    add_when_ready(servers, 2, 3)
    for number in (2, 3):
        servers.all[number].until_serving()
    first.end(signal.SIGKILL)
    assert servers.connect(2, 3).get("/before")[0] == b"v"


def add_when_ready(servers: Servers, *numbers: int) -> None:
    """One `zkpy reconfig`, again as long as the new ones are not synchronised yet."""
    lines = [word for number in numbers for word in ("--add", servers.line(number))]
    command = ["reconfig", "-s", servers.hosts(1), "--auth", "digest:super:test", *lines]
    deadline = time.monotonic() + LIMIT_S
    done = CliRunner().invoke(zkpy, command)
    while "no quorum of the new voters" in done.output and time.monotonic() < deadline:
        done = CliRunner().invoke(zkpy, command)
    assert done.exit_code == 0, done.output
