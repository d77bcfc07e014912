"""A root of one test's own for Kafka's fixed paths, and a witness that waits for znodes."""

import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from kazoo.client import KazooClient
from kazoo.protocol.states import KazooState

from recipes.kafka.znodes import Znode, Znodes
from tests.recipes.conftest import Connect, MakeProxy
from tests.recipes.faults import LIMIT_S, Fault, FaultProxy, Link, When
from zkpy.testing.realserver import RealServer

MakeFault = Callable[[int], Fault]
FAULTS: list[MakeFault] = [
    lambda at: Fault(at, When.BEFORE),
    lambda at: Fault(at, When.AFTER),
    lambda at: Fault(at, When.BEFORE, do=Link.expire),
    lambda at: Fault(at, When.AFTER, do=Link.expire),
]
FAULT_NAMES = ["lost before", "lost after", "expired before", "expired after"]


@attrs.define
class Place:
    """One root on the server; all clients of a test have it as their chroot."""

    connect: Connect
    server: RealServer
    root: str

    def client(self, proxy: FaultProxy | None = None) -> KazooClient:
        hosts = self.server.hosts if proxy is None else proxy.hosts
        return self.connect(hosts + self.root)

    def witness(self) -> "Witness":
        return Witness(self.client())


class Witness:
    """A client that nothing happens to."""

    def __init__(self, client: KazooClient) -> None:
        self.client = client
        self.zk = Znodes(client)

    def read(self, path: str) -> Znode | None:
        return self.zk.read(path)

    def until(self, path: str, holds: Callable[[Znode | None], Any]) -> Znode | None:
        """Until a znode is such; what it is then."""
        while True:
            changed = threading.Event()
            found = self.zk.read(path, lambda *_, e=changed: e.set())
            if holds(found):
                return found
            assert changed.wait(LIMIT_S), (path, found)

    def until_children(self, path: str, holds: Callable[[list[str]], Any]) -> list[str]:
        while True:
            changed = threading.Event()
            found = self.zk.children(path, lambda *_, e=changed: e.set())
            if holds(found):
                return found
            assert changed.wait(LIMIT_S), (path, found)


def until_connected(client: KazooClient) -> None:
    connected = threading.Event()

    def listen(state: str) -> None:
        if state == KazooState.CONNECTED:
            connected.set()

    client.add_listener(listen)
    assert client.connected or connected.wait(LIMIT_S)
    client.remove_listener(listen)


def sweep(
    place: Place,
    make_proxy: MakeProxy,
    make_fault: MakeFault,
    scenario: Callable[[KazooClient], None],
) -> int:
    """The scenario with a fault at its first request, its second, and so on; how many it has."""
    number = 0
    while True:
        number += 1
        proxy = make_proxy()
        client = place.client(proxy)
        fault = proxy.arm(make_fault(number))
        scenario(client)
        client.stop()
        proxy.close()
        if not fault.met.is_set():
            return number - 1


@pytest.fixture
def place(connect: Connect, server: RealServer, root: str) -> Place:
    connect().create(root)
    return Place(connect, server, root)


@pytest.fixture
def witness(place: Place) -> Witness:
    return place.witness()
