"""Fixtures of the recipes' tests: a server for the whole run, clients, proxies, own paths.

`--server zookeeper` runs the same tests against Apache ZooKeeper; where Debian's package is
not installed they are skipped, which the report's one line says.  A test that needs a
server is marked `served`.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from kazoo.client import KazooClient

from tests.recipes.faults import LIMIT_S, FaultProxy
from tests.recipes.servers import command_of, make_server
from zkpy.testing.realserver import RealServer

Connect = Callable[..., KazooClient]
"""connect(hosts of the server if not given, timeout=seconds) -> a client that is started."""
MakeProxy = Callable[[], FaultProxy]
Spawn = Callable[..., "Future[Any]"]
TIMEOUT_S = 20.0
"""Of sessions; a client gives up a connection on which it hears nothing for two thirds of that,
and a server on a busy machine may stand still for seconds.  No test waits until one has run out."""
QUICK = {"max_tries": -1, "delay": 0.01, "backoff": 1, "max_jitter": 0.1}
_places = count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker("served")


@pytest.fixture(scope="session")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealServer]:
    """One for all tests, each of which leaves it serving."""
    name = request.config.getoption("server")
    if command_of(name) is None:
        pytest.skip("SKIPPED: recipes on Apache ZooKeeper need Debian's package zookeeper")
    with make_server(name, tmp_path_factory.mktemp(name)) as running:
        yield running


@pytest.fixture
def connect(server: RealServer) -> Iterator[Connect]:
    with contextlib.ExitStack() as stack:

        def start(hosts: str = "", timeout: float = TIMEOUT_S) -> KazooClient:
            client = KazooClient(hosts or server.hosts, timeout=timeout, connection_retry=QUICK)
            stack.callback(end, client)
            client.start(LIMIT_S)
            return client

        yield start


def end(client: KazooClient) -> None:
    with contextlib.suppress(Exception):
        client.stop()
    client.close()


@pytest.fixture
def make_proxy(server: RealServer) -> Iterator[MakeProxy]:
    """Proxies to the server."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(FaultProxy(server.port))


@pytest.fixture
def client(connect: Connect) -> KazooClient:
    return connect()


@pytest.fixture
def proxy(make_proxy: MakeProxy, connect: Connect) -> FaultProxy:
    """One, closed before the clients are."""
    return make_proxy()


@pytest.fixture
def spawn() -> Spawn:
    """spawn(function, *arguments) in a thread of its own -> Future.

    The end of the clients ends what still waits; a test that fails does not hang for it."""

    def start(call: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        Thread(target=run, args=(future, call, arguments), daemon=True).start()
        return future

    return start


def run(future: "Future[Any]", call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        future.set_result(call(*arguments))
    except BaseException as failure:
        future.set_exception(failure)


@pytest.fixture
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A path of one test's own, which is not there yet."""
    return f"/{request.node.originalname or request.node.name}-{next(_places)}"
