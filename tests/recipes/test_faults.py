"""The harness itself: what the server saw, what the client was told, and when."""

import threading

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import ConnectionLoss, NoNodeError, SessionExpiredError
from kazoo.protocol.states import KazooState

from tests.recipes.conftest import Connect, MakeProxy
from tests.recipes.faults import LIMIT_S, Fault, FaultProxy, Link, When
from zkpy.testing.realserver import RealServer


class States:
    """A client's states, to wait for."""

    def __init__(self, client: KazooClient) -> None:
        self.all = [client.state]
        self._news = threading.Condition()
        client.add_listener(self._note)

    def _note(self, state: str) -> None:
        with self._news:
            self.all.append(state)
            self._news.notify_all()

    def wait(self, state: str) -> None:
        """Until it has come to that; where it was at first does not count."""
        with self._news:
            assert self._news.wait_for(lambda: self.all[1:][-1:] == [state], LIMIT_S), self.all


def test_requests_are_seen_in_order(connect: Connect, proxy: FaultProxy, root: str) -> None:
    client = connect(proxy.hosts)
    client.create(root, b"x")
    client.get(root)
    client.delete(root)
    seen = [(each.number, each.operation, each.path) for each in proxy.seen]
    assert seen == [(1, "create", root), (2, "get", root), (3, "delete", root)]


@pytest.mark.parametrize("when", list(When), ids=lambda when: str(when.value))
def test_cut(when: When, connect: Connect, proxy: FaultProxy, root: str) -> None:
    client, witness = connect(proxy.hosts), connect()
    states = States(client)
    session = client.client_id[0]
    fault = proxy.arm(Fault(2, when))
    client.exists(root)
    with pytest.raises(ConnectionLoss):
        client.create(root)
    fault.wait()
    assert fault.seen is not None
    assert fault.seen.operation == "create"
    assert bool(witness.exists(root)) is (when is When.AFTER)
    states.wait(KazooState.CONNECTED)
    client.sync("/")
    assert client.client_id[0] == session
    assert states.all == [KazooState.CONNECTED, KazooState.SUSPENDED, KazooState.CONNECTED]


def test_expiry_ends_ephemerals_and_is_told(connect: Connect, proxy: FaultProxy, root: str) -> None:
    client, witness = connect(proxy.hosts), connect()
    states = States(client)
    client.create(root, ephemeral=True)
    fault = proxy.arm(Fault(1, When.BEFORE, do=Link.expire))
    with pytest.raises((ConnectionLoss, SessionExpiredError)):
        client.get(root)
    fault.wait()
    assert witness.exists(root) is None
    states.wait(KazooState.CONNECTED)
    assert KazooState.LOST in states.all


def test_expiry_at_any_time(connect: Connect, proxy: FaultProxy, root: str) -> None:
    client = connect(proxy.hosts)
    states = States(client)
    client.create(root, ephemeral=True)
    proxy.expire()
    states.wait(KazooState.CONNECTED)
    with pytest.raises(NoNodeError):
        client.get(root)


def test_no_way_back_until_admitted(connect: Connect, proxy: FaultProxy, root: str) -> None:
    client = connect(proxy.hosts)
    states = States(client)
    fault = proxy.arm(Fault(1, do=Link.refuse))
    with pytest.raises(ConnectionLoss):
        client.create(root)
    fault.wait()
    proxy.wait_refused(3)
    assert states.all[-1] == KazooState.SUSPENDED
    proxy.admit()
    states.wait(KazooState.CONNECTED)
    client.create(root)


def test_stall(connect: Connect, proxy: FaultProxy, root: str) -> None:
    client, witness = connect(proxy.hosts), connect()
    fault = proxy.arm(Fault(1, do=Link.stall, cut=False))
    answer = client.create_async(root)
    fault.wait()
    assert witness.exists(root) is None
    assert not answer.ready()
    proxy.flow()
    assert answer.get(LIMIT_S) == root


def test_counts_from_the_time_of_arming(make_proxy: MakeProxy, connect: Connect, root: str) -> None:
    proxy = make_proxy()
    client = connect(proxy.hosts)
    client.exists(root)
    proxy.arm(Fault(2, When.AFTER))
    client.create(root)
    with pytest.raises(ConnectionLoss):
        client.delete(root)
    client.retry(client.exists, root)


def test_a_restart_keeps_the_session(
    server: RealServer, connect: Connect, proxy: FaultProxy, root: str
) -> None:
    client = connect(proxy.hosts)
    states = States(client)
    client.create(root, ephemeral=True)
    session = client.client_id[0]
    with proxy.doors_shut():
        server.restart()
    states.wait(KazooState.CONNECTED)
    assert client.retry(client.exists, root).ephemeralOwner == session
